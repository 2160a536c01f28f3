"""Passive-aggressive learning of linear models: each row moves the parameters just so far that its own loss ends.

Crammer, Dekel, Keshet, Shalev-Shwartz and Singer, "Online passive-aggressive algorithms" (2006), PA-I and PA-II, with
the penalties of scikit-learn's SGD.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.layouts import flat, is_csr
from dparallel.kernels.losses import LOSSES

_HINGE = LOSSES["hinge"]
_STAGED_VALUES = 1 << 18  # rows are copied together in pieces of about so many values


@kernel(inner=True)
def _visit(x, target, weight, coef, intercept, k, settings, aggressiveness, is_second):
    """Move the parameters of one output by one row; returns the row's loss before."""
    loss, epsilon, l2, l1, fit_intercept = settings
    squared_norm, score = 0.0, intercept[k]
    for f in range(x.size):
        squared_norm += x[f] * x[f]
        score += x[f] * coef[k, f]
    if loss == _HINGE:
        missing, direction = max(0.0, 1.0 - target * score), target
    else:
        missing, direction = max(0.0, abs(target - score) - epsilon), (1.0 if target >= score else -1.0)
    if squared_norm == 0.0 and not is_second:
        return missing
    size = missing / (squared_norm + 0.5 / aggressiveness) if is_second else min(aggressiveness, missing / squared_norm)
    shrink, cut = max(0.0, 1.0 - aggressiveness * l2), aggressiveness * l1
    step = weight * size * direction
    for f in range(x.size):
        value = shrink * coef[k, f] + step * x[f]
        coef[k, f] = max(value - cut, 0.0) + min(value + cut, 0.0)
    if fit_intercept:
        intercept[k] += step
    return missing


@kernel
def _train(X, y, weights, coef, intercept, settings, aggressiveness, is_second, sums, coef_sum, intercept_sum):
    n_outputs = coef.shape[0]
    for i in range(X.shape[0]):
        if weights[i] == 0.0:
            continue
        for k in range(n_outputs):
            target = y[i] if n_outputs == 1 else (1.0 if y[i] == k else -1.0)
            missing = _visit(X[i], target, weights[i], coef, intercept, k, settings, aggressiveness, is_second)
            sums[0] += weights[i] * missing
        sums[1] += weights[i]
        for k in range(intercept_sum.size):
            intercept_sum[k] += intercept[k]
            for f in range(coef.shape[1]):
                coef_sum[k, f] += coef[k, f]


def train(X, rows, y, weights, coef, intercept, settings, aggressiveness, is_second, sums, averages=None):
    """Visit rows of a block in the given order, one by one, and change the parameters in place.

    Parameters
    ----------
    X, rows, y, weights, coef, intercept, sums, averages : see `gradient.train`
    settings : gradient.Settings, of the loss hinge or epsilon_insensitive; its batch_size does not count
    aggressiveness : float, the constant C, by which the penalties' rates go, too
    is_second : bool, PA-II, else PA-I
    """
    height = max(1, _STAGED_VALUES // max(1, X.shape[1]))
    plain = (int(settings.loss), *map(float, settings[1:4]), bool(settings.fit_intercept))
    sums_of_both = averages or (np.empty((0, 0)), np.empty(0))
    for start in range(0, rows.size, height):
        piece = rows[start : start + height]
        chosen = X[piece].toarray() if is_csr(X) else X[piece]
        chosen, targets = flat(chosen, np.float64), flat(y[piece], np.float64)
        piece_weights = flat(weights[piece], np.float64) if weights.size else np.ones(piece.size)
        data = (chosen, targets, piece_weights, coef, intercept)
        _train(*data, plain, float(aggressiveness), bool(is_second), sums, *sums_of_both)
