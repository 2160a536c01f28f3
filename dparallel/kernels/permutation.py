"""The order in which to visit rows: a permutation that belongs to a key, as the numbers of `draws` belong to rows."""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.draws import uniform


def permutation(key, n):
    """Permute 0 .. n - 1.

    Parameters
    ----------
    key : numpy.uint64, from `draws.key`
    n : int

    Returns
    -------
    order : ndarray of shape (n,), int64; depends on nothing but key and n

    Notes
    -----
    Fisher and Yates' shuffle in the form of Durstenfeld (1964), where place i takes the key's number i.
    """
    order = np.arange(n, dtype=np.int64)
    _shuffle(np.uint64(key), order)
    return order


@kernel
def _shuffle(key, order):
    for i in range(order.size - 1, 0, -1):
        j = min(np.int64(uniform(key, i) * (i + 1)), i)
        order[i], order[j] = order[j], order[i]
