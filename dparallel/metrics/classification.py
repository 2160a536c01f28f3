"""Metrics of predicted labels: one pass that counts pairs of labels, and scikit-learn's own function of the counts.

What crosses the network is one number for each pair of labels that occurs, from each block to the worker that adds them
up, and at the end to the client.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn.metrics

from dparallel.blocks.dask_arrays import is_dask
from dparallel.blocks.reducing import reduce_rows
from dparallel.metrics.tallies import Tally, tally_labels

_COPIES = 3  # of a pair, so that there are far more rows than classes, which scikit-learn warns of


def of_labels(name: str, y_true: Any, y_pred: Any, sample_weight: Any, **options: Any) -> Any:
    """Compute a metric of scikit-learn from counts.

    Parameters
    ----------
    name : str, of a function in sklearn.metrics of (y_true, y_pred, sample_weight)
    options : the function's other arguments
    """
    function = getattr(sklearn.metrics, name)
    if not any(map(is_dask, (y_true, y_pred, sample_weight))):
        return function(y_true, y_pred, sample_weight=sample_weight, **options)
    columns = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight}
    return of_pairs(function, reduce_rows(columns, tally_labels, Tally.merge), **options)


def of_pairs(function: Any, tally: Tally, **options: Any) -> Any:
    """A metric of scikit-learn of the rows that a tally stands for."""
    weights = np.concatenate([tally.weights, np.zeros((_COPIES - 1) * len(tally.weights), tally.weights.dtype)])
    truth, found = np.tile(tally.truth, _COPIES), np.tile(tally.found, _COPIES)
    return function(truth, found, sample_weight=weights, **options)


def accuracy_score(y_true, y_pred, *, normalize=True, sample_weight=None):
    """Share of the rows whose label is predicted; as sklearn.metrics.accuracy_score.

    Parameters
    ----------
    y_true, y_pred : Dask array or series, or array-like, of shape (n_rows,), labels of any dtype
    normalize : bool, default=True; False for the sum of weights instead of the share
    sample_weight : Dask array or series, or array-like, of shape (n_rows,), or None

    Returns
    -------
    score : float, computed at once, where the rows are

    Raises
    ------
    AlignmentError
        If the three cannot be paired row by row.
    DataError
        For numbers that are no labels, negative weights, or no rows at all.

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel.metrics import accuracy_score
    >>> y = da.from_array(["cat", "dog", "cat", "cat"], chunks=2)
    >>> accuracy_score(y, da.from_array(["cat", "dog", "dog", "cat"], chunks=2))
    0.75
    """
    return of_labels("accuracy_score", y_true, y_pred, sample_weight, normalize=normalize)


def zero_one_loss(y_true, y_pred, *, normalize=True, sample_weight=None):
    """Share of the rows whose label is not predicted; as sklearn.metrics.zero_one_loss, see accuracy_score."""
    return of_labels("zero_one_loss", y_true, y_pred, sample_weight, normalize=normalize)


def balanced_accuracy_score(y_true, y_pred, *, sample_weight=None, adjusted=False):
    """Mean over the classes of the share of their rows that is predicted; as sklearn.metrics.balanced_accuracy_score.

    Parameters
    ----------
    adjusted : bool, default=False; whether chance scores 0

    See Also
    --------
    accuracy_score : the other parameters, and the errors
    """
    return of_labels("balanced_accuracy_score", y_true, y_pred, sample_weight, adjusted=adjusted)


def confusion_matrix(y_true, y_pred, *, labels=None, sample_weight=None, normalize=None):
    """Weight of the rows of each class and prediction; as sklearn.metrics.confusion_matrix.

    Parameters
    ----------
    labels : array-like of shape (n_classes,), or None for those that occur, sorted
    normalize : {"true", "pred", "all"} or None

    Returns
    -------
    matrix : ndarray of shape (n_classes, n_classes); rows are classes, columns predictions

    See Also
    --------
    accuracy_score : the other parameters, and the errors
    """
    return of_labels("confusion_matrix", y_true, y_pred, sample_weight, labels=labels, normalize=normalize)


def matthews_corrcoef(y_true, y_pred, *, sample_weight=None):
    """Correlation of labels and predictions; as sklearn.metrics.matthews_corrcoef, see accuracy_score."""
    return of_labels("matthews_corrcoef", y_true, y_pred, sample_weight)


def cohen_kappa_score(y1, y2, *, labels=None, weights=None, sample_weight=None):
    """Agreement beyond chance; as sklearn.metrics.cohen_kappa_score, see accuracy_score.

    Parameters
    ----------
    labels : array-like of shape (n_classes,), or None for those that occur
    weights : {"linear", "quadratic"} or None, how near misses count
    """
    return of_labels("cohen_kappa_score", y1, y2, sample_weight, labels=labels, weights=weights)


def precision_recall_fscore_support(
    y_true,
    y_pred,
    *,
    beta=1.0,
    labels=None,
    pos_label=1,
    average=None,
    warn_for=("precision", "recall", "f-score"),
    sample_weight=None,
    zero_division="warn",
):
    """Precision, recall, F-score and weight of each class; as sklearn.metrics.precision_recall_fscore_support.

    Returns
    -------
    precision, recall, fbeta, support : float or ndarray of shape (n_classes,)

    See Also
    --------
    precision_score : the parameters
    """
    given = {"beta": beta, "labels": labels, "pos_label": pos_label, "average": average, "warn_for": warn_for}
    name = "precision_recall_fscore_support"
    return of_labels(name, y_true, y_pred, sample_weight, zero_division=zero_division, **given)


def precision_score(
    y_true, y_pred, *, labels=None, pos_label=1, average="binary", sample_weight=None, zero_division="warn"
):
    """Share of the rows of a predicted class that are of it; as sklearn.metrics.precision_score.

    Parameters
    ----------
    y_true, y_pred : Dask array or series, or array-like, of shape (n_rows,), labels of any dtype
    labels : array-like of the classes to take into account, or None for all that occur
    pos_label : label, default=1; the class that is scored where average is "binary"
    average : {"binary", "micro", "macro", "weighted"} or None, default="binary"; None for one score per class
    sample_weight : Dask array or series, or array-like, of shape (n_rows,), or None
    zero_division : {"warn", 0.0, 1.0, nan}, the score of a class without rows

    Returns
    -------
    score : float, or ndarray of shape (n_classes,)

    See Also
    --------
    accuracy_score : the errors
    """
    given = {"labels": labels, "pos_label": pos_label, "average": average, "zero_division": zero_division}
    return of_labels("precision_score", y_true, y_pred, sample_weight, **given)


def recall_score(
    y_true, y_pred, *, labels=None, pos_label=1, average="binary", sample_weight=None, zero_division="warn"
):
    """Share of a class's rows that are predicted so; as sklearn.metrics.recall_score, see precision_score."""
    given = {"labels": labels, "pos_label": pos_label, "average": average, "zero_division": zero_division}
    return of_labels("recall_score", y_true, y_pred, sample_weight, **given)


def f1_score(y_true, y_pred, *, labels=None, pos_label=1, average="binary", sample_weight=None, zero_division="warn"):
    """Harmonic mean of precision and recall; as sklearn.metrics.f1_score, see precision_score.

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel.metrics import f1_score
    >>> y = da.from_array([0, 1, 2, 0, 1, 2], chunks=4)
    >>> float(f1_score(y, da.from_array([0, 2, 1, 0, 0, 1], chunks=4), average="macro"))
    0.26666666666666666
    """
    given = {"labels": labels, "pos_label": pos_label, "average": average, "zero_division": zero_division}
    return of_labels("f1_score", y_true, y_pred, sample_weight, **given)


def fbeta_score(
    y_true, y_pred, *, beta, labels=None, pos_label=1, average="binary", sample_weight=None, zero_division="warn"
):
    """Mean of precision and recall, weighed by beta; as sklearn.metrics.fbeta_score, see precision_score.

    Parameters
    ----------
    beta : float; above 1 recall counts more
    """
    given = {"beta": beta, "labels": labels, "pos_label": pos_label, "average": average}
    return of_labels("fbeta_score", y_true, y_pred, sample_weight, zero_division=zero_division, **given)


def jaccard_score(
    y_true, y_pred, *, labels=None, pos_label=1, average="binary", sample_weight=None, zero_division="warn"
):
    """Rows of a class and predicted so, as a share of those of which either holds; as sklearn.metrics.jaccard_score.

    See Also
    --------
    precision_score : the parameters
    """
    given = {"labels": labels, "pos_label": pos_label, "average": average, "zero_division": zero_division}
    return of_labels("jaccard_score", y_true, y_pred, sample_weight, **given)
