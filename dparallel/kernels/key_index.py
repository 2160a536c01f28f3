"""Rows that are found by their int64 keys: an open-addressing index, and the first values of rows nobody has changed.

The index is an int32 array whose length is a power of two and at least twice the number of rows: it holds numbers of
rows, -1 where it is empty, and collisions go to the next place (linear probing; Knuth, The Art of Computer Programming
3, section 6.4, algorithm L). Rows lie in the order in which their keys came.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.draws import _GOLDEN, mix, uniform

UNIFORM, NORMAL = 0, 1


@kernel(inner=True)
def _search(index, keys, n_rows, wanted):
    """Return the place of a key in the index: that which holds its row, or else the empty one that it would take."""
    mask = np.uint64(index.size - 1)
    place = mix(np.uint64(wanted)) & mask
    while index[place] >= 0:
        row = index[place]
        if row < n_rows and keys[row] == wanted:
            break
        place = (place + np.uint64(1)) & mask
    return place


@kernel
def find(index, keys, n_rows, wanted, rows):
    """Look up keys.

    Parameters
    ----------
    index : ndarray of shape (n_places,), int32
    keys : ndarray of shape (at least n_rows,), int64, key of each row
    n_rows : int; places of later rows count as taken by no key
    wanted : ndarray of shape (n_wanted,), int64
    rows : ndarray of shape (n_wanted,), int64; receives the row of each, or -1
    """
    for i in range(wanted.size):
        rows[i] = index[_search(index, keys, n_rows, wanted[i])]


@kernel
def insert(index, keys, n_rows, wanted, rows):
    """Look up keys, and give new rows to those that have none, in their order.

    Parameters
    ----------
    index, keys, wanted, rows : as of find; index and keys have room for all, and are changed
    n_rows : int, rows before

    Returns
    -------
    n_rows : int, rows after
    """
    for i in range(wanted.size):
        place = _search(index, keys, n_rows, wanted[i])
        if index[place] < 0:
            index[place] = n_rows
            keys[n_rows] = wanted[i]
            n_rows += 1
        rows[i] = index[place]
    return n_rows


@kernel
def add_rows(sums, rows, values):
    """Add values[i] to sums[rows[i]] for each i in turn; sums and values of shape (n, width), float64."""
    for i in range(rows.size):
        row = rows[i]
        for column in range(sums.shape[1]):
            sums[row, column] += values[i, column]


@kernel
def ranges(keys, n_bits, found):
    """Spread keys evenly over 2**n_bits ranges; found : ndarray of shape (n_keys,), int64, receives the numbers.

    The high bits of the hash: the index of a shard takes the low ones, which stay even within a range.
    """
    shift = np.uint64(64 - n_bits)
    for i in range(keys.size):
        found[i] = np.int64(mix(np.uint64(keys[i])) >> shift)


@kernel
def initial(seed_key, kind, scale, keys, values):
    """Draw the first values of rows.

    Parameters
    ----------
    seed_key : uint64 from draws.key
    kind : UNIFORM (between -scale and scale) or NORMAL (with standard deviation scale)
    scale : float
    keys : ndarray of shape (n_rows,), int64
    values : ndarray of shape (n_rows, width), float64; receives the values

    Notes
    -----
    A value is a function of (seed, key, column) alone. Normal numbers by Box and Muller (1958).
    """
    for i in range(keys.size):
        row_key = mix(seed_key + (np.uint64(keys[i]) + np.uint64(1)) * _GOLDEN)
        for column in range(values.shape[1]):
            first = uniform(row_key, 2 * column)
            if kind == UNIFORM:
                values[i, column] = scale * (2.0 * first - 1.0)
                continue
            angle = 2.0 * np.pi * uniform(row_key, 2 * column + 1)
            values[i, column] = scale * np.sqrt(-2.0 * np.log(first)) * np.cos(angle)
