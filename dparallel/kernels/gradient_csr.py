"""Minibatch gradient descent over CSR rows; the meaning of arguments is that of `gradient.train`.

A minibatch costs in proportion to its nonzeros: both penalties reach a feature when a row next has it. The parameters
are `scale * table`: the L2 penalty of a step only changes the scale. The L1 penalty of the steps since a feature was
last seen is the growth of one running sum, as in Tsuruoka, Tsujii and Ananiadou (2009), but of the proximal step, so
that the result is that of dense rows. Sums for averages come from running sums over the steps in the same way.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import prefetch
from dparallel.kernels.losses import evaluate

_SMALLEST = 1e-30  # of the scale, before it is multiplied into the table
_SMALLEST_AVERAGED = 1e-3  # the sums of averages are differences of sums of the scale, which lose as many digits
_AHEAD = 8  # rows are sent for so many rows before they are read
_PREFETCH_BYTES = 2048


@kernel(inner=True)
def _send_for(data, indices, indptr, rows, i, y):
    if i + 2 * _AHEAD < rows.size:
        prefetch(indptr.ctypes.data + rows[i + 2 * _AHEAD] * indptr.itemsize)
    if i + _AHEAD < rows.size:
        row = rows[i + _AHEAD]
        start, count = indptr[row], indptr[row + 1] - indptr[row]
        for offset in range(0, min(count * data.itemsize, _PREFETCH_BYTES), 64):
            prefetch(data.ctypes.data + start * data.itemsize + offset)
        for offset in range(0, min(count * indices.itemsize, _PREFETCH_BYTES), 64):
            prefetch(indices.ctypes.data + start * indices.itemsize + offset)
        prefetch(y.ctypes.data + row * 8)


@kernel(inner=True)
def _send_for_features(indices, start, stop, table, seen, totals):
    """Features of a wide table lie far apart, and bringing one up to date waits for all it needs."""
    row_bytes = table.shape[1] * 8
    for i in range(start, stop):
        f = np.int64(indices[i])
        prefetch(seen.ctypes.data + f * 8)
        prefetch(table.ctypes.data + f * row_bytes)
        if totals.size:
            prefetch(totals.ctypes.data + f * row_bytes)


@kernel(inner=True)
def _settle(f, now, table, seen, history, totals):
    """Bring a feature up to step now, which is not taken yet.

    It is cut by the L1 penalties of the steps since it was seen, and its values after each of them go to the totals.
    history : ndarray of shape (n_steps + 1, 3), sums over the steps before each: of the L1 cuts, in units of the table;
        of the scale after the step; and of that scale times the first sum after the step
    """
    before = seen[f]
    if before == now:
        return
    seen[f] = now
    owed = history[now, 0] - history[before, 0]
    for k in range(table.shape[1]):
        value = table[f, k]
        size = abs(value)
        if totals.size and size > 0.0:
            low, high = before, now
            while owed >= size and low < high:  # it became zero in between: find the step whose cut did it
                middle = (low + high) // 2
                if history[middle + 1, 0] - history[before, 0] >= size:
                    high = middle
                else:
                    low = middle + 1
            gain = (size + history[before, 0]) * (history[high, 1] - history[before, 1])
            gain -= history[high, 2] - history[before, 2]
            totals[f, k] += gain if value > 0.0 else -gain
        table[f, k] -= min(max(value, -owed), owed)  # NaN stays


@kernel(inner=True)
def _settle_in_metric(f, now, table, seen, history, totals, metric):
    """The same where a metric makes both penalties differ from feature to feature: the scale stays 1.

    history : sums over the steps before each: of the L1 cuts, and of the L2 shares, of a feature of metric 1
    """
    before = seen[f]
    if before == now:
        return
    seen[f] = now
    left = np.exp(-metric[f] * (history[now, 1] - history[before, 1]))
    owed = metric[f] * (history[now, 0] - history[before, 0])
    for k in range(table.shape[1]):
        value = table[f, k] * left
        value -= min(max(value, -owed), owed)  # NaN stays
        if totals.size:
            totals[f, k] += 0.5 * (now - before) * (table[f, k] + value)
        table[f, k] = value


@kernel(inner=True)
def _bring_up(f, now, table, seen, history, totals, metric):
    if metric.size:
        _settle_in_metric(f, now, table, seen, history, totals, metric)
    else:
        _settle(f, now, table, seen, history, totals)


@kernel(inner=True)
def _score(data, indices, start, stop, table, scale, offset, line):
    """Decision values of one row, to line of shape (K,)."""
    n_classes = table.shape[1]
    if n_classes == 1:
        total = 0.0
        for i in range(start, stop):
            total += np.float64(data[i]) * table[indices[i], 0]
        line[0] = total * scale + offset[0]
        return
    for k in range(n_classes):
        line[k] = 0.0
    for i in range(start, stop):
        x, f = np.float64(data[i]), indices[i]
        for k in range(n_classes):
            line[k] += x * table[f, k]
    for k in range(n_classes):
        line[k] = line[k] * scale + offset[k]


@kernel(inner=True)
def _add(data, indices, start, stop, table, line):
    """Take a row times line, of shape (K,), from the table."""
    n_classes = table.shape[1]
    if n_classes == 1:
        number = line[0]
        for i in range(start, stop):
            table[indices[i], 0] -= number * np.float64(data[i])
        return
    for i in range(start, stop):
        x, f = np.float64(data[i]), indices[i]
        for k in range(n_classes):
            table[f, k] -= x * line[k]


@kernel(inner=True)
def _add_in_metric(data, indices, start, stop, table, line, metric):
    for i in range(start, stop):
        f = indices[i]
        x = np.float64(data[i]) * metric[f]
        for k in range(table.shape[1]):
            table[f, k] -= x * line[k]


def train(
    data, indices, indptr, rows, y, weights, coef, intercept, settings, rates, sums, coef_sum, intercept_sum, metric
):
    """Train on CSR rows, see `gradient.train`.

    settings : tuple of Settings' values; coef_sum, intercept_sum : averages, or of shape (0, 0) and (0,)
    metric : of shape (0,) where steps are taken in X's coordinates
    """
    n_classes, n_features = coef.shape
    is_averaged = intercept_sum.size > 0
    is_lazy = is_averaged or settings[3] > 0.0 or metric.size > 0
    n_batch = min(settings[4], rows.size)
    table, totals = coef.T.copy(), np.zeros((n_features if is_averaged else 0, n_classes))
    seen = np.zeros(n_features if is_lazy else 0, np.int64)
    history = np.zeros((rates.size + 1 if is_lazy else 0, 3))
    of_rows, of_classes = np.empty((3, n_batch)), np.empty((2, n_classes * n_batch))
    rooms = (*of_rows, *of_classes, np.empty(n_classes))
    listed = np.empty(n_batch, np.int64)
    _train(
        data, indices, indptr, rows, y, weights, table, intercept, settings, rates, sums, totals, intercept_sum,
        metric, seen, history, listed, rooms,
    )  # fmt: skip
    coef[...] = table.T
    if is_averaged:
        coef_sum += totals.T


@kernel
def _train(
    data, indices, indptr, rows, y, weights, table, intercept, settings, rates, sums, totals, intercept_sum,
    metric, seen, history, listed, rooms,
):  # fmt: skip
    """Train; table is coef transposed, and totals its sums; what follows metric is room to work in."""
    loss, epsilon, l2, l1, batch_size, fit_intercept, intercept_rate = settings
    targets, row_weights, signs, values, slopes, line = rooms
    n_classes, n_steps, n_batch, scale = intercept.size, rates.size, targets.size, 1.0
    smallest = _SMALLEST_AVERAGED if totals.size else _SMALLEST
    for step in range(n_steps + 1):
        rate, shrink, count = (rates[step] if step < n_steps else 0.0), 1.0, np.int64(0)
        for i in range(step * batch_size, min((step + 1) * batch_size, rows.size)):
            _send_for(data, indices, indptr, rows, i, y)
            row = rows[i]
            if seen.size and i + 1 < rows.size:
                _send_for_features(indices, indptr[rows[i + 1]], indptr[rows[i + 1] + 1], table, seen, totals)
            weight = weights[row] if weights.size else 1.0
            if weight == 0.0:
                continue
            if seen.size:
                for j in range(indptr[row], indptr[row + 1]):
                    _bring_up(np.int64(indices[j]), step, table, seen, history, totals, metric)
            _score(data, indices, indptr[row], indptr[row + 1], table, scale, intercept, line)
            for k in range(n_classes):
                values[k * n_batch + count] = line[k]
            listed[count], targets[count], row_weights[count] = row, y[row], weight
            sums[1] += weight
            count += 1
        sums[0] += evaluate(loss, epsilon, targets, row_weights, count, n_classes, values, slopes, signs)
        is_taken = count > 0 and rate != 0.0
        if is_taken and not metric.size:
            shrink = max(0.0, 1.0 - rate * l2)
        scale *= shrink
        if step == n_steps or scale < smallest:  # multiply it into the table; the history begins anew
            for f in range(table.shape[0]):
                if seen.size:
                    _bring_up(f, step, table, seen, history, totals, metric)
                for k in range(n_classes):
                    table[f, k] *= scale
            if seen.size:
                history[step, 0], history[step, 1], history[step, 2] = 0.0, 0.0, 0.0
            scale = 1.0
        if step == n_steps:
            break
        if is_taken:
            for i in range(count):
                for k in range(n_classes):
                    slope = rate / count * slopes[k * n_batch + i]
                    line[k] = slope / scale
                    if fit_intercept:
                        intercept[k] -= intercept_rate * slope
                if metric.size:
                    _add_in_metric(data, indices, indptr[listed[i]], indptr[listed[i] + 1], table, line, metric)
                else:
                    _add(data, indices, indptr[listed[i]], indptr[listed[i] + 1], table, line)
        if seen.size:
            history[step + 1, 0] = history[step, 0] + (rate * l1 / scale if is_taken else 0.0)
            history[step + 1, 1] = history[step, 1] + ((rate * l2 if is_taken else 0.0) if metric.size else scale)
            history[step + 1, 2] = history[step, 2] + scale * history[step + 1, 0]
        for k in range(intercept_sum.size):
            intercept_sum[k] += intercept[k]


@kernel
def scores(data, indices, indptr, table, intercept, result):
    """Decision values of all rows: table is coef transposed; result of shape (n_rows, K), float64, overwritten."""
    for row in range(result.shape[0]):
        _score(data, indices, indptr[row], indptr[row + 1], table, 1.0, intercept, result[row])
