"""Rows in the order of each of their columns: a radix sort of the bits of float32, stable, NaN last."""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.layouts import flat

_DIGIT_BITS = 11


@kernel(inner=True)
def _sort_column(values, order, keys, other, other_keys):
    """List rows by value, NaN last, equal ones ascending: radix sort of the bits."""
    bits = values.view(np.uint32)
    sign = np.uint32(0x80000000)
    for row in range(values.size):
        key = np.uint32(0) if bits[row] == sign else bits[row]
        key = ~key if key & sign else key | sign
        keys[row] = key if values[row] == values[row] else np.uint32(0xFFFFFFFF)
        order[row] = row
    places = np.empty((1 << _DIGIT_BITS) + 1, np.int64)
    mask = np.uint32((1 << _DIGIT_BITS) - 1)
    for digit in range(3):
        shift = np.uint32(digit * _DIGIT_BITS)
        places[:] = 0
        for i in range(values.size):
            places[np.int64(keys[i] >> shift & mask) + 1] += 1
        for i in range(mask):
            places[i + 1] += places[i]
        for i in range(values.size):
            at = np.int64(keys[i] >> shift & mask)
            other[places[at]], other_keys[places[at]] = order[i], keys[i]
            places[at] += 1
        for i in range(values.size):
            order[i], keys[i] = other[i], other_keys[i]


@kernel
def _sort(X, orders):
    keys, other_keys = np.empty(X.shape[1], np.uint32), np.empty(X.shape[1], np.uint32)
    other = np.empty(X.shape[1], np.int32)
    for f in range(X.shape[0]):
        _sort_column(X[f], orders[f], keys, other, other_keys)


def sort_columns(columns):
    """Sort rows by every column.

    Parameters
    ----------
    columns : ndarray of shape (n_columns, n_rows), float32, may hold NaN; -0.0 counts as 0.0

    Returns
    -------
    orders : ndarray of shape (n_columns, n_rows), int32: row numbers by ascending value, NaN last, equal ones ascending
    """
    orders = np.empty(columns.shape, np.int32)
    _sort(flat(columns, np.float32), orders)
    return orders
