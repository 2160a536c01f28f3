"""Scorers under scikit-learn's names that leave Dask predictions where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from dparallel.blocks.dask_arrays import is_dask
from dparallel.compat.scoring import block_scorer
from dparallel.errors import DataError
from dparallel.metrics import classification, probabilities, ranking, regression

_AVERAGES = ("micro", "macro", "weighted")
_RANKS = ("decision_function", "predict_proba")
_CHANCES = "predict_proba"

# name: function, sign, its arguments, what it asks of the estimator
_SCORERS: dict[str, tuple[Any, int, dict[str, Any], Any]] = {
    "accuracy": (classification.accuracy_score, 1, {}, "predict"),
    "balanced_accuracy": (classification.balanced_accuracy_score, 1, {}, "predict"),
    "matthews_corrcoef": (classification.matthews_corrcoef, 1, {}, "predict"),
    "roc_auc": (ranking.roc_auc_score, 1, {}, _RANKS),
    "roc_auc_ovr": (ranking.roc_auc_score, 1, {"multi_class": "ovr"}, _CHANCES),
    "roc_auc_ovo": (ranking.roc_auc_score, 1, {"multi_class": "ovo"}, _CHANCES),
    "roc_auc_ovr_weighted": (ranking.roc_auc_score, 1, {"multi_class": "ovr", "average": "weighted"}, _CHANCES),
    "roc_auc_ovo_weighted": (ranking.roc_auc_score, 1, {"multi_class": "ovo", "average": "weighted"}, _CHANCES),
    "average_precision": (ranking.average_precision_score, 1, {}, _RANKS),
    "neg_log_loss": (probabilities.log_loss, -1, {}, _CHANCES),
    "neg_brier_score": (probabilities.brier_score_loss, -1, {}, _CHANCES),
    "r2": (regression.r2_score, 1, {}, "predict"),
    "explained_variance": (regression.explained_variance_score, 1, {}, "predict"),
    "neg_max_error": (regression.max_error, -1, {}, "predict"),
}
for _name in (
    "mean_squared_error",
    "root_mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_log_error",
    "root_mean_squared_log_error",
    "mean_poisson_deviance",
    "mean_gamma_deviance",
):
    _SCORERS[f"neg_{_name}"] = (getattr(regression, _name), -1, {}, "predict")
for _name in ("precision", "recall", "f1", "jaccard"):
    _function = getattr(classification, f"{_name}_score")
    _SCORERS[_name] = (_function, 1, {"average": "binary"}, "predict")
    _SCORERS |= {f"{_name}_{average}": (_function, 1, {"average": average}, "predict") for average in _AVERAGES}


def make_scorer(score_func, *, response_method="predict", greater_is_better=True, **kwargs):
    """Make a scorer of a metric; as sklearn.metrics.make_scorer, but for Dask predictions too.

    Parameters
    ----------
    score_func : callable (y_true, y_pred, ...) -> float that also takes kwargs, such as those of dparallel.metrics
    response_method : {"predict", "predict_proba", "decision_function"}, or a list or tuple of these, by preference
    greater_is_better : bool, default=True; False turns the sign, so that greater is better
    **kwargs : arguments of score_func

    Returns
    -------
    scorer : callable (estimator, X, y, sample_weight=None) -> float, one of scikit-learn's with set_score_request

    Examples
    --------
    >>> from dparallel.metrics import fbeta_score, make_scorer
    >>> make_scorer(fbeta_score, beta=2)
    make_scorer(fbeta_score, response_method='predict', beta=2)
    """
    return block_scorer(score_func, 1 if greater_is_better else -1, kwargs, response_method, respond)


def get_scorer(scoring):
    """Find a scorer by its name, one of scikit-learn's.

    Parameters
    ----------
    scoring : str, one of get_scorer_names(), or a callable, which is returned as it is

    Returns
    -------
    scorer : callable (estimator, X, y, sample_weight=None) -> float; a new one

    Raises
    ------
    DataError, a ValueError
        For a name that is not among them.

    Examples
    --------
    >>> from dparallel.metrics import get_scorer
    >>> get_scorer("neg_log_loss")
    make_scorer(log_loss, greater_is_better=False, response_method='predict_proba')
    """
    if callable(scoring):
        return scoring
    if scoring not in _SCORERS:
        raise DataError(
            f"{scoring!r} is not a scorer that dparallel computes block by block. Choose one of "
            f"{', '.join(get_scorer_names())}; or give a callable (estimator, X, y) -> float, as from make_scorer."
        )
    function, sign, kwargs, response_method = _SCORERS[scoring]
    return block_scorer(function, sign, kwargs, response_method, respond)


def get_scorer_names():
    """Names that get_scorer knows, sorted: list of str."""
    return sorted(_SCORERS)


def respond(estimator: Any, response_method: str, X: Any, pos_label: Any) -> Any:
    """What an estimator says of a Dask X, in the form that metrics read; None for any other X.

    Parameters
    ----------
    response_method : "predict", "predict_proba" or "decision_function"
    pos_label : label whose scores are wanted where there are two, or None for the greater one

    Returns
    -------
    response : Dask array, series or dataframe, lazy; of shape (n_rows,) for two classes
    """
    if not is_dask(X):
        return None
    response = getattr(estimator, response_method)(X)
    if response_method == "predict" or not is_classifier(estimator) or len(estimator.classes_) > 2:
        return response
    classes = estimator.classes_
    if pos_label is not None and pos_label not in classes.tolist():
        raise DataError(f"pos_label={pos_label} is not a valid label: It should be one of {classes}")
    pos_label = classes[-1] if pos_label is None else pos_label
    if response_method == "decision_function":
        return -1 * response if pos_label == classes[0] else response
    if len(classes) < 2:
        raise DataError("Got probabilities of a single class, but need classifier with two classes.")
    column = int(np.flatnonzero(classes == pos_label)[0])
    return response[response.columns[column]] if hasattr(response, "columns") else response[:, column]
