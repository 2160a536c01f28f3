"""Minibatch gradient descent over dense rows; the meaning of arguments is that of `gradient.train`.

Rows are copied into a tile, in float64, which stays in cache for both looks at them: scores, then the gradient.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels import tiles
from dparallel.kernels.lanes import prefetch
from dparallel.kernels.losses import evaluate

_TILE_BYTES = 1 << 17  # leaves most of a second-level cache to rows on their way
_TILE_ROWS = 64
_AHEAD = 16  # rows are sent for so many rows before they are read
_PREFETCH_BYTES = 4096  # of longer rows the rest is foreseen by the processor

_LANES, _ROWS = tiles.LANES, tiles.ROWS


@kernel(inner=True)
def _fill(source, rows, first, stop, y, weights, n_features, width, tile, targets, row_weights):
    """Copy the rows listed from first to stop whose weight is not 0; returns their number."""
    address, single, row_stride, column_stride = source
    item = 4 if single else 8
    n_bytes = min(n_features * item, _PREFETCH_BYTES) if column_stride == 1 else 0
    count = 0
    for i in range(first, stop):
        if i + _AHEAD < rows.size:
            ahead = address + rows[i + _AHEAD] * row_stride * item
            for offset in range(0, n_bytes, 64):
                prefetch(ahead + offset)
            prefetch(ahead + n_bytes - 1)
            prefetch(y.ctypes.data + rows[i + _AHEAD] * 8)
        row = rows[i]
        weight = weights[row] if weights.size else 1.0
        if weight != 0.0:
            tiles.copy_row(address, single, row * row_stride, column_stride, n_features, tile, count * width)
            targets[count] = y[row]
            row_weights[count] = weight
            count += 1
    return count


@kernel(inner=True)
def _score(tile, count, width, coef, intercept, n_tile, values):
    """Decision values of a tile's rows, to values, flat, class by class, n_tile apart."""
    n_classes = intercept.size
    for row in range(0, count, _ROWS):
        for k in range(n_classes):
            tiles.dots(tile, row, width, coef, k * width, values, k * n_tile + row)
    for k in range(n_classes):
        for row in range(count):
            values[k * n_tile + row] += intercept[k]


@kernel(inner=True)
def _accumulate(tile, count, width, slopes, n_tile, n_classes, gradient, offset_slopes):
    """Add the tile's rows times their slopes to the gradient; slopes behind the last row are made zero."""
    for k in range(n_classes):
        for row in range(count):
            offset_slopes[k] += slopes[k * n_tile + row]
        for row in range(count, n_tile):
            slopes[k * n_tile + row] = 0.0
    for row in range(0, count, _ROWS):
        for k in range(n_classes):
            tiles.add(tile, row, width, slopes, k * n_tile + row, gradient, k * width)


def _shape(n_features, batch_size):
    """Length of a tile's row, and number of its rows."""
    width = -(-n_features // _LANES) * _LANES
    width += _LANES if width % 64 == 0 else 0  # rows a power of two apart would crowd the cache
    n_tile = min(_TILE_ROWS, _TILE_BYTES // (8 * width), batch_size + _ROWS - 1)
    return width, max(n_tile // _ROWS * _ROWS, _ROWS)


def _rooms(lengths):
    """Arrays of zeros of these lengths, always equally far apart.

    Compiled loops look whether arrays lie so close that they might overlap, and then add in another order: with arrays
    wherever there is room the last bits of a result would depend on it.
    """
    starts = np.cumsum([0, *(-(-length // _LANES) * _LANES for length in lengths)])
    room = np.zeros(starts[-1] + _LANES)
    skip = -room.ctypes.data % (8 * _LANES) // 8
    return [room[skip + start : skip + start + length] for start, length in zip(starts, lengths)]


def _widen(coef, width):
    """A copy of coef with rows of width numbers, flat."""
    local = np.zeros((coef.shape[0], width))
    local[:, : coef.shape[1]] = coef
    return local.reshape(-1)


@kernel(inner=True)
def _move(rate, count, settings, width, coef, gradient, offset_slopes, intercept, metric, shift):
    """Take a step that is as long in each direction as the metric says, on rows as seen from shift."""
    _, _, l2, l1, _, fit_intercept, _ = settings
    step, cut = rate / count, rate * l1
    for k in range(intercept.size):
        own, moved = offset_slopes[k], 0.0
        for f in range(width):
            at = k * width + f
            value = coef[at] * max(0.0, 1.0 - rate * l2 * metric[f])
            value -= step * metric[f] * (gradient[at] - shift[f] * own)
            value -= min(max(value, -cut * metric[f]), cut * metric[f])  # NaN stays
            moved += (value - coef[at]) * shift[f]
            coef[at] = value
            gradient[at] = 0.0
        if fit_intercept:
            intercept[k] -= moved  # what is learnt is the score at shift


def train(source, rows, y, weights, coef, intercept, settings, rates, sums, coef_sum, intercept_sum, metric, shift):
    """Train on dense rows, see `gradient.train`.

    source : (address, whether float32, row stride, column stride), strides in elements
    settings : tuple of Settings' values; coef_sum, intercept_sum : averages, or of shape (0, 0) and (0,)
    metric, shift : of shape (0,) where steps are taken in X's coordinates
    """
    n_classes, n_features = coef.shape
    width, n_tile = _shape(n_features, settings[4])
    n_metric = width if metric.size else 0
    lengths = n_tile * width, *[n_tile] * 3, *[n_classes * n_tile] * 2, n_classes * width, n_classes
    wide_metric, wide_shift, local, *rooms = _rooms((n_metric, n_metric, n_classes * width, *lengths))
    wide_metric[: metric.size], wide_shift[: shift.size] = metric, shift
    local.reshape(n_classes, width)[:, :n_features] = coef
    sizes = (n_features, width, n_tile)
    _train(source, rows, y, weights, sizes, local, intercept, settings, rates, sums,
           coef_sum.reshape(-1), intercept_sum, wide_metric, wide_shift, tuple(rooms))  # fmt: skip
    coef[...] = local.reshape(n_classes, width)[:, :n_features]


@kernel
def _train(
    source, rows, y, weights, sizes, coef, intercept, settings, rates, sums, coef_sum, intercept_sum, metric, shift,
    rooms,
):  # fmt: skip
    """Train; coef is flat, with rows of width numbers; coef_sum is flat, with rows of n_features."""
    loss, epsilon, l2, l1, batch_size, fit_intercept, intercept_rate = settings
    tile, targets, row_weights, signs, values, slopes, gradient, offset_slopes = rooms
    n_features, width, n_tile = sizes
    n_classes = intercept.size
    for batch in range(rates.size):
        rate, counted = rates[batch], 0
        last = min((batch + 1) * batch_size, rows.size)
        for first in range(batch * batch_size, last, n_tile):
            stop = min(first + n_tile, last)
            count = _fill(source, rows, first, stop, y, weights, n_features, width, tile, targets, row_weights)
            counted += count
            _score(tile, count, width, coef, intercept, n_tile, values)
            sums[0] += evaluate(loss, epsilon, targets, row_weights, count, n_classes, values, slopes, signs)
            for row in range(count):
                sums[1] += row_weights[row]
            if rate != 0.0:
                _accumulate(tile, count, width, slopes, n_tile, n_classes, gradient, offset_slopes)
        if counted and rate != 0.0:
            step, shrink, cut = rate / counted, max(0.0, 1.0 - rate * l2), rate * l1
            if metric.size:
                _move(rate, counted, settings, width, coef, gradient, offset_slopes, intercept, metric, shift)
            else:
                for at in range(coef.size):
                    coef[at] = coef[at] * shrink - step * gradient[at]
                    gradient[at] = 0.0
            if cut > 0.0 and not metric.size:
                for at in range(coef.size):
                    coef[at] -= min(max(coef[at], -cut), cut)  # NaN stays
            for k in range(n_classes):
                if fit_intercept:
                    intercept[k] -= step * intercept_rate * offset_slopes[k]
                offset_slopes[k] = 0.0
        for k in range(intercept_sum.size):
            intercept_sum[k] += intercept[k]
            for f in range(n_features):
                coef_sum[k * n_features + f] += coef[k * width + f]


def scores(source, coef, intercept, result):
    """Decision values of all rows: result of shape (n_rows, K), float64, overwritten."""
    n_classes, n_features = coef.shape
    width, n_tile = _shape(n_features, result.shape[0])
    rooms = np.zeros(n_tile * width), np.zeros(n_classes * n_tile)
    _scores(source, (n_features, width, n_tile), _widen(coef, width), intercept, rooms, result)


@kernel
def _scores(source, sizes, coef, intercept, rooms, result):
    address, single, row_stride, column_stride = source
    tile, values = rooms
    n_features, width, n_tile = sizes
    for first in range(0, result.shape[0], n_tile):
        count = min(n_tile, result.shape[0] - first)
        for row in range(count):
            start = (first + row) * row_stride
            tiles.copy_row(address, single, start, column_stride, n_features, tile, row * width)
        _score(tile, count, width, coef, intercept, n_tile, values)
        for row in range(count):
            for k in range(intercept.size):
                result[first + row, k] = values[k * n_tile + row]
