"""Numbers in fixed point, and sums of them by tree node that are exact in any order."""

import math

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.histogram import nodes_of
from dparallel.kernels.layouts import flat

_SUM_BITS = 61


def exponent(largest, n_rows):
    """Find the power of two that numbers are multiplied by, so that no sum of them leaves int64.

    Parameters
    ----------
    largest : float, the largest absolute value; n_rows : int, how many are summed at most

    Returns
    -------
    power : int; integers stay exact wherever it is not negative
    """
    bits = _SUM_BITS - max(int(n_rows), 1).bit_length()
    if not largest > 0.0:
        return 0
    # numbers of float64's lower end: beyond 1000 a scaled 1.0 would leave float64
    return min(bits - math.frexp(float(largest))[1], 1000)


def fixed(values, power):
    """Turn numbers into fixed point: the integers nearest to values * 2**power, ties to even, as int64."""
    return np.rint(np.ldexp(np.asarray(values, np.float64), power)).astype(np.int64)


@kernel
def _sums(values, order, first, last, result):
    for node in range(first.size):
        total = np.int64(0)
        for i in range(first[node], last[node]):
            total += values[order[i]]
        result[node] = total


def sums(values, order, first, last):
    """Add up a number of each row, by node.

    Parameters
    ----------
    values : ndarray of shape (n_rows,), int64; order, first, last : as for `build`

    Returns
    -------
    result : ndarray of shape (n_nodes,), int64
    """
    result = np.empty(len(first), np.int64)
    _sums(flat(values, np.int64), *nodes_of(order, first, last), result)
    return result


def limb(n_rows):
    """Find how many bits the lower part of a number has in `squares`, when n_rows products are summed at most."""
    return (_SUM_BITS + 1 - max(int(n_rows), 1).bit_length()) // 2


@kernel(inner=True)
def add_product(a, b, limb, result):
    """Add a * b to a sum held in three parts, see `squares`."""
    mask = (np.int64(1) << limb) - np.int64(1)
    a_high, a_low = a >> limb, a & mask
    b_high, b_low = b >> limb, b & mask
    result[0] += a_high * b_high
    result[1] += a_high * b_low + a_low * b_high
    result[2] += a_low * b_low


@kernel
def _squares(a, b, limb, order, first, last, result):
    for node in range(first.size):
        result[node] = 0
        for i in range(first[node], last[node]):
            add_product(a[order[i]], b[order[i]], limb, result[node])


def squares(a, b, limb, order, first, last):
    """Add up the product of two numbers of each row, by node, without rounding.

    Parameters
    ----------
    a, b : ndarray of shape (n_rows,), int64, as large as `exponent` allows for
    limb : int, see `limb`; the same for all shards
    order, first, last : as for `build`

    Returns
    -------
    parts : ndarray of shape (n_nodes, 3), int64, to be added up over shards; `whole` puts them together
    """
    parts = np.empty((len(first), 3), np.int64)
    _squares(flat(a, np.int64), flat(b, np.int64), np.int64(limb), *nodes_of(order, first, last), parts)
    return parts


def whole(parts, limb):
    """Put sums of products together.

    Parameters
    ----------
    parts : ndarray of shape (n_nodes, 3), int64, from `squares`; limb : int, the same as there

    Returns
    -------
    sums : list of n_nodes Python ints, exact
    """
    return [(high << 2 * limb) + (middle << limb) + low for high, middle, low in parts.tolist()]
