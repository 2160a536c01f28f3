"""Count, mean and squared deviations of the columns of a block, exact for data far from the origin."""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import pointer_like

_SPAN_ROWS = 128  # rows whose mean is taken before their deviations; they stay in cache for the second look


@kernel
def dense(address, single, row_stride, column_stride, n_rows, weights, mean, deviation):
    """Merge a block of dense rows into running moments.

    Parameters
    ----------
    address, single, row_stride, column_stride : where the block lies, whether it is float32 and not float64, and its
        strides in elements
    n_rows : int
    weights : ndarray of shape (n_rows,), float64, or of shape (0,) where all rows count 1
    mean, deviation : ndarray of shape (n_features,), float64, zeros at first: weighted mean, and weighted sum of
        squared deviations from it; changed in place

    Returns
    -------
    total : float, the sum of the weights

    Notes
    -----
    Spans of rows are merged pairwise as in Chan, Golub and LeVeque (1983). NaN and infinity in X show in the mean.
    """
    n_features = mean.size
    span_mean, span_deviation = np.empty(n_features), np.empty(n_features)
    total = 0.0
    for start in range(0, n_rows, _SPAN_ROWS):
        stop = min(start + _SPAN_ROWS, n_rows)
        if single:
            rows = pointer_like(address, np.float32(0))
            weight = _span(rows, row_stride, column_stride, start, stop, weights, span_mean, span_deviation)
        else:
            rows_64 = pointer_like(address, np.float64(0))
            weight = _span(rows_64, row_stride, column_stride, start, stop, weights, span_mean, span_deviation)
        if weight > 0.0:
            total += weight
            merge(mean, deviation, total, span_mean, span_deviation, weight)
        else:  # adds zeros, unless a value is not finite: it shows whatever its row weighs
            for f in range(n_features):
                mean[f] += span_mean[f]
    return total


@kernel(inner=True)
def merge(mean, deviation, total, other_mean, other_deviation, other_weight):
    """Merge other moments into running ones, in place; total is the weight of both together."""
    share = other_weight / total
    for f in range(mean.size):
        step = other_mean[f] - mean[f]
        mean[f] += step * share
        deviation[f] += other_deviation[f] + step * step * (total - other_weight) * share


@kernel(inner=True)
def _span(rows, row_stride, column_stride, start, stop, weights, span_mean, span_deviation):
    """Moments of a few rows in two looks; returns their weight."""
    n_features = span_mean.size
    weight = 0.0
    for f in range(n_features):
        span_mean[f] = 0.0
        span_deviation[f] = 0.0
    for row in range(start, stop):
        w = weights[row] if weights.size else 1.0
        weight += w
        at = row * row_stride
        if column_stride == 1:
            for f in range(n_features):
                span_mean[f] += w * np.float64(rows[at + f])
        else:
            for f in range(n_features):
                span_mean[f] += w * np.float64(rows[at + f * column_stride])
    if weight == 0.0:
        return weight
    for f in range(n_features):
        span_mean[f] /= weight
    for row in range(start, stop):
        w = weights[row] if weights.size else 1.0
        at = row * row_stride
        if column_stride == 1:
            for f in range(n_features):
                span_deviation[f] += w * (np.float64(rows[at + f]) - span_mean[f]) ** 2
        else:
            for f in range(n_features):
                span_deviation[f] += w * (np.float64(rows[at + f * column_stride]) - span_mean[f]) ** 2
    return weight


@kernel
def csr(data, indices, indptr, weights, mean, deviation):
    """Moments of a block of CSR rows, zeros counted; arguments and result as for `dense`, indptr giving the rows."""
    n_rows, n_features = indptr.size - 1, mean.size
    total = 0.0
    present = np.zeros(n_features)
    for row in range(n_rows):
        w = weights[row] if weights.size else 1.0
        total += w
        for i in range(indptr[row], indptr[row + 1]):
            mean[indices[i]] += w * np.float64(data[i])
            present[indices[i]] += w
    if total == 0.0:
        return total
    for f in range(n_features):
        mean[f] /= total
        deviation[f] = (total - present[f]) * mean[f] * mean[f]
    for row in range(n_rows):
        w = weights[row] if weights.size else 1.0
        for i in range(indptr[row], indptr[row + 1]):
            f = indices[i]
            deviation[f] += w * (np.float64(data[i]) - mean[f]) ** 2
    return total
