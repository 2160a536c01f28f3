"""Minibatch gradient descent of linear models over a block of rows, dense or CSR, and their decision values.

One minibatch takes `w <- w - rate * (mean of weight * dloss * x + l2 * w)`, where the mean is over the rows whose
weight is not 0, and then the proximal step of the L1 penalty, `soft(w, rate * l1)`. The intercept bears no penalty. As
in scikit-learn, dloss is cut at 1e12, and a rate above 1 / l2 takes w to zero first, not beyond.
"""

from typing import NamedTuple

import numpy as np

from dparallel.kernels import gradient_csr, gradient_dense
from dparallel.kernels.layouts import csr_parts, flat, is_csr, layout, readable
from dparallel.kernels.losses import LOSSES

_NO_AVERAGES = (np.empty((0, 0)), np.empty(0))
_X_ITSELF = (np.empty(0), np.empty(0))
_MEASURED_ROWS = 1 << 16


class Settings(NamedTuple):
    """What stays the same from minibatch to minibatch.

    loss : int, of losses.LOSSES
    epsilon : float, of the Huber and epsilon-insensitive losses
    l2, l1 : float, strengths of the penalties l2 / 2 * |w|^2 and l1 * |w|_1
    batch_size : int, rows in a minibatch
    fit_intercept : bool
    intercept_rate : float, by how much the intercept's rate differs from that of the coefficients
    """

    loss: int
    epsilon: float = 0.1
    l2: float = 0.0
    l1: float = 0.0
    batch_size: int = 32
    fit_intercept: bool = True
    intercept_rate: float = 1.0

    def plain(self):
        """The same in the types that the kernels were compiled for."""
        kinds = (int, float, float, float, int, bool, float)
        return tuple(kind(value) for kind, value in zip(kinds, self, strict=True))


def train(X, rows, y, weights, coef, intercept, settings, rates, sums, averages=None, metric=None, shift=None):
    """Visit rows of a block in the given order, minibatch by minibatch, and change the parameters in place.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64, any strides, may be read-only; or CSR
    rows : ndarray of shape (m,), int64; numbers of rows of X, in the order to visit them
    y : ndarray of shape (n_rows,), float64: numbers for regression, +1 or -1 for two classes (one row of coef), class
        numbers for more (one row of coef per class: one against the rest, or coupled by softmax)
    weights : ndarray of shape (n_rows,), float64, or of shape (0,) where all count 1; a row of weight 0 is skipped
    coef, intercept : ndarray of shape (K, n_features) and (K,), float64, C-contiguous, changed in place
    settings : Settings
    rates : ndarray of shape (ceil(m / batch_size),), float64, learning rate of each minibatch
    sums : ndarray of shape (2,), float64; += weight * loss of each row before its minibatch's step; += weights
    averages : None, or arrays like (coef, intercept); += the parameters after each minibatch
    metric : None, or ndarray of shape (n_features,), float64, by which each coefficient's steps are multiplied
    shift : None, or ndarray of shape (n_features,), float64, with a metric: what the rows are taken to be measured from

    Notes
    -----
    With metric = 1 / variance and shift = mean the steps are those of SGD on standardised rows, while coef and the
    penalties stay in X's coordinates: the path changes, and not where it leads. CSR rows are not shifted, and the
    penalties' share in a step is then right to the second order in rate * metric * l2.
    A minibatch without a row that counts leaves the parameters as they are. At rate 0 only the losses are measured.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or a row number lies outside of X.
    """
    settings = Settings(*settings)
    rows = flat(rows, np.int64)
    y, weights, rates = (flat(array, np.float64) for array in (y, weights, rates))
    _check(X, rows, y, weights, coef, intercept, settings, rates)
    coef_sum, intercept_sum = averages or _NO_AVERAGES
    rest = (rows, y, weights, coef, intercept, settings.plain(), rates, sums, coef_sum, intercept_sum)
    metric, shift = _coordinates(X, metric, shift)
    if is_csr(X):
        data, indices, indptr = csr_parts(X)
        gradient_csr.train(data, indices, indptr, *rest, metric)
    else:
        X = readable(X)
        gradient_dense.train(layout(X), *rest, metric, shift)


def scores(X, coef, intercept):
    """Decision values X @ coef.T + intercept: float64 of shape (n_rows, K)."""
    result = np.empty((X.shape[0], coef.shape[0]))
    coef, intercept = flat(coef, np.float64), flat(intercept, np.float64)
    _check_parameters(X, coef, intercept)
    if is_csr(X):
        gradient_csr.scores(*csr_parts(X), flat(coef.T, np.float64), intercept, result)
    else:
        X = readable(X)
        gradient_dense.scores(layout(X), coef, intercept, result)
    return result


def losses(X, y, weights, coef, intercept, settings):
    """Sum of weight * loss, and sum of weights, of all rows; arguments as for `train`, nothing is changed."""
    still = Settings(*settings)._replace(l2=0.0, l1=0.0, batch_size=256)
    sums = np.zeros(2)
    coef, intercept = (np.array(array, np.float64, order="C") for array in (coef, intercept))
    for start in range(0, X.shape[0], _MEASURED_ROWS):
        rows = np.arange(start, min(start + _MEASURED_ROWS, X.shape[0]))
        rates = np.zeros(-(-rows.size // still.batch_size))  # of rate 0 only the loss is measured
        train(X, rows, y, weights, coef, intercept, still, rates, sums)
    return sums[0], sums[1]


def _coordinates(X, metric, shift):
    """Metric and shift as arrays, of shape (0,) where X's own coordinates are meant."""
    if metric is None:
        return _X_ITSELF
    metric = flat(metric, np.float64)
    shift = np.zeros(X.shape[1]) if shift is None else flat(shift, np.float64)
    if not metric.shape == shift.shape == (X.shape[1],):
        raise ValueError(
            f"metric has shape {metric.shape} and shift {shift.shape} for {X.shape[1]} features. Give one of each per "
            "feature."
        )
    if is_csr(X) and shift.any():
        raise ValueError("CSR rows cannot be shifted: they would become dense. Leave shift out.")
    return metric, shift


def _check_parameters(X, coef, intercept):
    if coef.shape != (intercept.size, X.shape[1]) or intercept.ndim != 1:
        raise ValueError(
            f"coef has shape {coef.shape} and intercept {intercept.shape} for X with {X.shape[1]} features. "
            "Give (K, n_features) and (K,)."
        )


def _check(X, rows, y, weights, coef, intercept, settings, rates):
    """Raise where the loops would leave an array."""
    _check_parameters(X, coef, intercept)
    n_rows = X.shape[0]
    if y.shape != (n_rows,) or weights.size not in (0, n_rows):
        raise ValueError(f"X has {n_rows} rows, y {y.size}, weights {weights.size}. Give one of each per row.")
    if settings.loss not in LOSSES.values():
        raise ValueError(f"Unknown loss {settings.loss!r}. Give one of {LOSSES}.")
    if settings.loss == LOSSES["softmax"] and intercept.size < 2:
        raise ValueError("softmax couples the scores of two classes or more, and coef has one row. Use log_loss.")
    if settings.batch_size < 1:
        raise ValueError(f"batch_size is {settings.batch_size}. Give one row or more.")
    n_batches = -(-rows.size // settings.batch_size)
    if rates.shape != (n_batches,):
        raise ValueError(
            f"{rows.size} rows make {n_batches} minibatches of {settings.batch_size}, and rates has "
            f"shape {rates.shape}. Give one rate per minibatch."
        )
    if rows.size and not 0 <= rows.min() <= rows.max() < n_rows:
        raise ValueError(f"rows goes from {rows.min()} to {rows.max()}; X has the rows 0 to {n_rows - 1}.")
    if settings.loss == LOSSES["softmax"] and rows.size:
        labels = y[rows]
        if not 0 <= labels.min() <= labels.max() < intercept.size:
            raise ValueError(f"y must hold class numbers from 0 to {intercept.size - 1} for softmax.")
