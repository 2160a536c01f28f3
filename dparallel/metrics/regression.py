"""Metrics of predicted numbers: sums of losses, or moments of the targets and the errors, in one pass.

A few numbers per output come back from each block. Sums are in float64 whatever the targets are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.metrics
from sklearn.exceptions import UndefinedMetricWarning

from dparallel.blocks.dask_arrays import is_dask
from dparallel.blocks.reducing import reduce_rows
from dparallel.errors import DataError, warn
from dparallel.metrics import pointwise
from dparallel.moments import Moments


@dataclass(frozen=True)
class _Losses:
    """Sums of a loss over some rows.

    Parameters
    ----------
    weight : float, of the rows
    sums : ndarray of shape (n_outputs,), float64, weighted
    """

    weight: float
    sums: np.ndarray

    def merge(self, other: _Losses) -> _Losses:
        return _Losses(self.weight + other.weight, self.sums + other.sums)


@dataclass(frozen=True)
class _AddUp:
    """The losses of one block; loss : callable (y_true, y_pred) -> losses, all of shape (n_rows, n_outputs)."""

    loss: Any

    def __call__(self, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> _Losses:
        truth, found, weights = _numbers(y_true, y_pred, sample_weight)
        return _Losses(float(weights.sum()), weights @ self.loss(truth, found))


def _measure(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Moments:
    """Moments of the targets and of the errors of one block, side by side."""
    truth, found, weights = _numbers(y_true, y_pred, sample_weight)
    values = np.concatenate([truth, truth - found], axis=1)
    weight = float(weights.sum())
    mean = weights @ values / weight if weight > 0 else np.zeros(values.shape[1])
    return Moments(len(values), weight, mean, weights @ (values - mean) ** 2)


def _largest(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    truth, found, _ = _numbers(y_true, y_pred, None)
    if truth.shape[1] > 1:
        raise DataError("Multioutput not supported in max_error. Call it for each output.")
    return float(np.abs(truth - found).max())


def _numbers(y_true, y_pred, sample_weight):
    """Targets and predictions as float64 of shape (n_rows, n_outputs), and weights."""
    truth, found = (values.astype(np.float64, copy=False) for values in (y_true, y_pred))
    truth, found = (values[:, None] if values.ndim == 1 else values for values in (truth, found))
    if truth.shape[1] != found.shape[1]:
        raise DataError(
            f"y_true and y_pred have different number of output ({truth.shape[1]}!={found.shape[1]}). Give both alike."
        )
    for name, values in (("y_true", truth), ("y_pred", found)):
        if not np.isfinite(values).all():
            raise DataError(f"Input {name} contains NaN or infinity. Leave such rows out.")
    return truth, found, np.ones(len(truth)) if sample_weight is None else sample_weight


def _mean_loss(name, loss, y_true, y_pred, sample_weight, multioutput="uniform_average", after=None, **options):
    """Compute the mean of a loss; options are those of scikit-learn's function, which is asked about local data."""
    if not any(map(is_dask, (y_true, y_pred, sample_weight))):
        several = {"multioutput": multioutput} if multioutput is not None else {}
        return getattr(sklearn.metrics, name)(y_true, y_pred, sample_weight=sample_weight, **several, **options)
    columns = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight}
    total = reduce_rows(columns, _AddUp(loss), _Losses.merge)
    means = total.sums / total.weight
    if after is not None:
        means = after(means)
    if isinstance(multioutput, str) and multioutput == "raw_values":
        return means
    average = multioutput is None or isinstance(multioutput, str)
    return float(np.average(means, weights=None if average else multioutput))


def mean_squared_error(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average"):
    """Mean of the squared errors; as sklearn.metrics.mean_squared_error.

    Parameters
    ----------
    y_true, y_pred : Dask array, series or dataframe, or array-like, of shape (n_rows,) or (n_rows, n_outputs)
    sample_weight : Dask array or series, or array-like, of shape (n_rows,), or None
    multioutput : {"uniform_average", "raw_values"} or array-like of shape (n_outputs,), weights of the outputs

    Returns
    -------
    loss : float, computed at once, where the rows are; or ndarray of shape (n_outputs,) for "raw_values"

    Raises
    ------
    AlignmentError
        If the three cannot be paired row by row.
    DataError
        For numbers that are not finite, negative weights, or no rows at all.

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel.metrics import mean_squared_error
    >>> mean_squared_error(da.from_array([3.0, -0.5, 2.0, 7.0], chunks=3), da.from_array([2.5, 0.0, 2, 8], chunks=3))
    0.375
    """
    return _mean_loss("mean_squared_error", pointwise.squared, y_true, y_pred, sample_weight, multioutput)


def root_mean_squared_error(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average"):
    """Root of mean_squared_error, of each output; as sklearn.metrics.root_mean_squared_error."""
    name = "root_mean_squared_error"
    return _mean_loss(name, pointwise.squared, y_true, y_pred, sample_weight, multioutput, after=np.sqrt)


def mean_absolute_error(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average"):
    """Mean of the errors' sizes; as sklearn.metrics.mean_absolute_error, see mean_squared_error."""
    return _mean_loss("mean_absolute_error", pointwise.absolute, y_true, y_pred, sample_weight, multioutput)


def mean_absolute_percentage_error(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average"):
    """Mean of the errors' sizes over the targets'; as sklearn.metrics.mean_absolute_percentage_error.

    See Also
    --------
    mean_squared_error : the parameters, and the errors
    """
    name = "mean_absolute_percentage_error"
    return _mean_loss(name, pointwise.relative, y_true, y_pred, sample_weight, multioutput)


def mean_squared_log_error(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average"):
    """Mean squared error of log(1 + y); as sklearn.metrics.mean_squared_log_error, see mean_squared_error."""
    return _mean_loss("mean_squared_log_error", pointwise.logarithmic, y_true, y_pred, sample_weight, multioutput)


def root_mean_squared_log_error(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average"):
    """Root of mean_squared_log_error, of each output; as sklearn.metrics.root_mean_squared_log_error."""
    name = "root_mean_squared_log_error"
    return _mean_loss(name, pointwise.logarithmic, y_true, y_pred, sample_weight, multioutput, after=np.sqrt)


def mean_poisson_deviance(y_true, y_pred, *, sample_weight=None):
    """Mean deviance of Poisson's distribution, for counts; as sklearn.metrics.mean_poisson_deviance.

    See Also
    --------
    mean_squared_error : the parameters, and the errors
    """
    return _mean_loss("mean_poisson_deviance", pointwise.poisson, y_true, y_pred, sample_weight, None)


def mean_gamma_deviance(y_true, y_pred, *, sample_weight=None):
    """Mean deviance of the gamma distribution; as sklearn.metrics.mean_gamma_deviance, see mean_squared_error."""
    return _mean_loss("mean_gamma_deviance", pointwise.gamma, y_true, y_pred, sample_weight, None)


def max_error(y_true, y_pred):
    """The largest error; as sklearn.metrics.max_error, see mean_squared_error."""
    if not any(map(is_dask, (y_true, y_pred))):
        return sklearn.metrics.max_error(y_true, y_pred)
    return reduce_rows({"y_true": y_true, "y_pred": y_pred}, _largest, max)


def r2_score(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average", force_finite=True):
    """Coefficient of determination: 1 for no errors, 0 for the mean as the prediction; as sklearn.metrics.r2_score.

    Parameters
    ----------
    multioutput : {"uniform_average", "raw_values", "variance_weighted"} or array-like of shape (n_outputs,), or None
    force_finite : bool, default=True; whether constant targets score 1 or 0 instead of NaN or minus infinity

    See Also
    --------
    mean_squared_error : the other parameters, and the errors
    """
    if not any(map(is_dask, (y_true, y_pred, sample_weight))):
        given = {"sample_weight": sample_weight, "multioutput": multioutput, "force_finite": force_finite}
        return sklearn.metrics.r2_score(y_true, y_pred, **given)
    columns = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight}
    found = reduce_rows(columns, _measure, Moments.merge)
    if found.n_rows < 2:
        warn("R^2 score is not well-defined with less than two samples.", UndefinedMetricWarning)
        return float("nan")
    targets, errors = np.split(found.deviation, 2)
    return _explained(errors + found.weight * np.split(found.mean, 2)[1] ** 2, targets, multioutput, force_finite)


def explained_variance_score(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average", force_finite=True):
    """Share of the targets' variance that the errors lack; as sklearn.metrics.explained_variance_score.

    See Also
    --------
    r2_score : the parameters; it also counts the errors' mean against the model
    """
    if not any(map(is_dask, (y_true, y_pred, sample_weight))):
        given = {"sample_weight": sample_weight, "multioutput": multioutput, "force_finite": force_finite}
        return sklearn.metrics.explained_variance_score(y_true, y_pred, **given)
    columns = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight}
    targets, errors = np.split(reduce_rows(columns, _measure, Moments.merge).deviation, 2)
    return _explained(errors, targets, multioutput, force_finite)


def _explained(errors, targets, multioutput, force_finite):
    """1 - errors / targets of each output, averaged as multioutput says; both of shape (n_outputs,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = 1 - errors / targets
    if force_finite:
        scores = np.where(errors == 0, 1.0, np.where(targets == 0, 0.0, scores))
    if isinstance(multioutput, str) and multioutput == "raw_values":
        return scores
    weights = multioutput
    if isinstance(multioutput, str):
        by_variance = multioutput == "variance_weighted" and targets.any()
        weights = targets if by_variance else None
    return float(np.average(scores, weights=weights))
