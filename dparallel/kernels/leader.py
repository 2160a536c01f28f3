"""FTRL-Proximal over CSR rows: each row moves the coefficients of its columns, each at a rate of its own.

McMahan et al., "Ad click prediction: a view from the trenches" (KDD 2013), algorithm 1, with penalties that grow with
the number of rows, as in McMahan, "Follow-the-regularized-leader and mirror descent" (AISTATS 2011). The state of a
coefficient are two sums over the rows: `z` of the linear terms, and `h` of the curvatures of the quadratic terms, which
is sqrt(n) / rate of the paper. The coefficient is the minimiser of what they add up to.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.layouts import csr_parts, flat
from dparallel.kernels.losses import evaluate


@kernel(inner=True)
def _leader(z, h, pull, ridge, cut):
    """The coefficient of a state."""
    size = abs(z) - cut
    if size <= 0.0:
        return 0.0
    value = size / (pull + h + ridge)
    return -value if z > 0.0 else value


@kernel(inner=True)
def _move(z, h, w, gradient, rate):
    """The state after a gradient at w."""
    step = gradient / rate
    square = step * step
    root = np.sqrt(h * h + square)
    return z + gradient - square / (root + h) * w, root


@kernel
def _train(data, indices, indptr, y, weights, table, intercept, settings, n_before, sums, rooms):
    """Train; settings : of `train`, as plain numbers; rooms : arrays to work in."""
    loss, epsilon, l2, l1, rate, beta, fit_intercept = settings
    targets, row_weights, signs, scores, slopes, coefs = rooms
    n_outputs = scores.size
    pull, n_rows = beta / rate, n_before
    for row in range(y.size):
        weight = weights[row] if weights.size else 1.0
        if weight == 0.0:
            continue
        ridge, cut = l2 * n_rows, l1 * n_rows
        start, stop = indptr[row], indptr[row + 1]
        for k in range(n_outputs):
            total = _leader(intercept[2 * k], intercept[2 * k + 1], pull, 0.0, 0.0) if fit_intercept else 0.0
            for i in range(start, stop):
                f = indices[i]
                w = _leader(table[f, 2 * k], table[f, 2 * k + 1], pull, ridge, cut)
                coefs[k, i - start] = w
                total += w * np.float64(data[i])
            scores[k] = total
        targets[0], row_weights[0] = y[row], weight
        sums[0] += evaluate(loss, epsilon, targets, row_weights, 1, n_outputs, scores, slopes, signs)
        sums[1] += weight
        n_rows += 1.0
        for k in range(n_outputs):
            slope = slopes[k]
            if slope == 0.0:
                continue
            for i in range(start, stop):
                f, gradient = indices[i], slope * np.float64(data[i])
                if gradient != 0.0:
                    z, h = _move(table[f, 2 * k], table[f, 2 * k + 1], coefs[k, i - start], gradient, rate)
                    table[f, 2 * k], table[f, 2 * k + 1] = z, h
            if fit_intercept:
                z, h = intercept[2 * k], intercept[2 * k + 1]
                z, h = _move(z, h, _leader(z, h, pull, 0.0, 0.0), slope, rate)
                intercept[2 * k], intercept[2 * k + 1] = z, h
    return n_rows


def train(X, y, weights, table, intercept, settings, rate, beta, n_before, sums):
    """Visit the rows of a block in their order and change the state in place.

    Parameters
    ----------
    X : CSR of shape (n_rows, n_columns), float32 or float64
    y : ndarray of shape (n_rows,), float64, see `gradient.train`
    weights : ndarray of shape (n_rows,), float64, or of shape (0,) where all count 1; a row of weight 0 is skipped
    table : ndarray of shape (n_columns, 2 * K), float64, C-contiguous: z and h of each output in turn
    intercept : ndarray of shape (2 * K,), float64, the same of the intercept, which bears no penalty
    settings : gradient.Settings; of its batch_size and intercept_rate there is no use: each row is a step
    rate, beta : float, alpha and beta of the paper
    n_before : float, rows that the state has seen; the penalties of a row are those of the settings times the rows
        before it
    sums : ndarray of shape (2,), float64; += weight * loss of each row before its step; += weights

    Returns
    -------
    n_rows : float, rows that the state has seen now
    """
    K = intercept.size // 2
    longest = int(np.diff(X.indptr).max(initial=0))
    rooms = (np.empty(1), np.empty(1), np.empty(K), np.empty(K), np.empty(K), np.empty((K, max(1, longest))))
    plain = (*settings.plain()[:4], float(rate), float(beta), bool(settings.fit_intercept))
    y, weights = flat(y, np.float64), flat(weights, np.float64)
    return _train(*csr_parts(X), y, weights, table, intercept, plain, float(n_before), sums, rooms)


def coefficients(table, rate, beta, l2=0.0, l1=0.0, n_rows=0.0):
    """Return the coefficients of states z and h, of shape (n_columns, K), from a table as of `train`."""
    z, h = table[:, 0::2], table[:, 1::2]
    size = np.maximum(np.abs(z) - l1 * n_rows, 0.0)
    return np.negative(np.sign(z)) * size / (beta / rate + h + l2 * n_rows)


def states(coef, rate, beta):
    """Return the states, of shape (n_columns, 2 * K), that coefficients of shape (n_columns, K) come from."""
    table = np.zeros((coef.shape[0], 2 * coef.shape[1]))
    table[:, 0::2] = -coef * (beta / rate)
    return table
