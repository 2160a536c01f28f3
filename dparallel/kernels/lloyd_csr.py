"""Lloyd's k-means over a block of CSR rows, which are never made dense: centres lie along the vector lanes.

Frame, bounds and the meaning of arguments are those of `lloyd`, except that rows are not shifted.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lloyd import CHUNK_ROWS, UNIT_64, add_exactly, bound, doubtful, new_found


@kernel(inner=True)
def row_factor(data, start, stop, scale, unit):
    """What a row is multiplied by in the frame, and its squared norm there."""
    square = 0.0
    for i in range(start, stop):
        square += np.float64(data[i]) * np.float64(data[i])
    if not unit:
        return scale, square * scale * scale
    if 1e-280 < square < 1e280:
        return 1.0 / np.sqrt(square), 1.0
    largest = 0.0  # squares have left the range of float64: measure in units of the largest value
    for i in range(start, stop):
        largest = max(largest, abs(np.float64(data[i])))
    if largest == 0.0:
        return 0.0 * square, 0.0 * square
    square = 0.0
    for i in range(start, stop):
        square += (np.float64(data[i]) / largest) ** 2
    return 1.0 / np.sqrt(square) / largest, 1.0


@kernel(inner=True)
def measure_row(data, indices, start, stop, factor, columns, half_norms, values):
    """Measure a row against all centres; returns the nearest, its value and the second smallest value.

    columns : ndarray of shape (n_features, n_clusters), the centres transposed.
    """
    n_clusters = half_norms.size
    for j in range(n_clusters):
        values[j] = half_norms[j]
    for i in range(start, stop):
        x = -factor * np.float64(data[i])
        column = columns[indices[i]]
        for j in range(n_clusters):
            values[j] += x * column[j]
    nearest, best, second = 0, np.inf, np.inf
    for j in range(n_clusters):
        value = values[j]
        if value < best:
            nearest, best, second = j, value, best
        elif value < second:
            second = value
    return nearest, best, second


@kernel
def assign(
    data, indices, indptr, weights, scale, unit, columns, half_norms, reach, motion, held, first, bounded, totals
):
    """Find each row's nearest centre and bring the sums and counts of all centres up to date, see `lloyd.assign`.

    data, indices, indptr : the CSR block; columns : ndarray of shape (n_features, n_clusters), float64.
    """
    labels, upper, lower = held
    moved, others, gap, margin = motion
    n_features = columns.shape[0]
    values = np.empty(half_norms.size)
    one = (np.empty(1), np.empty(1), np.empty(1))
    found = new_found(1)
    nearest = np.empty(1, np.int64)
    listed = np.empty(CHUNK_ROWS, np.int64)
    open_rows = np.empty(CHUNK_ROWS, np.uint8)
    n_changed, n_measured, bad_row = 0, 0, -1
    for begin in range(0, labels.size, CHUNK_ROWS):
        end = min(begin + CHUNK_ROWS, labels.size)
        if bounded and not first:
            count = doubtful(held, moved, others, gap, margin, begin, end, open_rows, listed)
        else:
            count = end - begin
            for i in range(count):
                listed[i] = begin + i
        n_measured += count
        for i in range(count):
            row = listed[i]
            start, stop = indptr[row], indptr[row + 1]
            factor, one[2][0] = row_factor(data, start, stop, scale, unit)
            label, one[0][0], one[1][0] = measure_row(data, indices, start, stop, factor, columns, half_norms, values)
            if not np.isfinite(one[0][0]) and bad_row < 0:
                bad_row = row
            if upper.size:
                bound(one, nearest, UNIT_64, n_features, reach, found)
                upper[row], lower[row] = found[1][0], found[2][0]
            before = labels[row]
            if label == before and not first:
                continue
            labels[row] = label
            n_changed += 1
            weight = weights[row] if weights.size else 1.0
            if weight != 0.0 and totals[2].size:
                _move(data, indices, start, stop, factor, weight, label, before, first, totals)
    return n_changed, n_measured, bad_row


@kernel(inner=True)
def _move(data, indices, start, stop, factor, weight, label, before, first, totals):
    sums, rest, members = totals
    last = sums.shape[1] - 1
    members[label] += 1
    add_exactly(weight, label, last, sums, rest)
    for i in range(start, stop):
        add_exactly(weight * (factor * np.float64(data[i])), label, indices[i], sums, rest)
    if not first:
        members[before] -= 1
        add_exactly(-weight, before, last, sums, rest)
        for i in range(start, stop):
            add_exactly(-weight * (factor * np.float64(data[i])), before, indices[i], sums, rest)


@kernel
def squared_distances(data, indices, indptr, scale, unit, centres, norms, labels, result):
    """Squared distance of each row to the centre of its label.

    centres : ndarray of shape (n_clusters, n_features), float64; norms : their squared norms; result : float64.
    The difference is taken where the row has values: |x - c|^2 = |c|^2 + sum of (x_f - c_f)^2 - c_f^2.
    """
    for row in range(labels.size):
        start, stop = indptr[row], indptr[row + 1]
        factor, _ = row_factor(data, start, stop, scale, unit)
        centre = centres[labels[row]]
        total = norms[labels[row]]
        for i in range(start, stop):
            c = centre[indices[i]]
            difference = factor * np.float64(data[i]) - c
            total += difference * difference - c * c
        result[row] = max(total, 0.0)
