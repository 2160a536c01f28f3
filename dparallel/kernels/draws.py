"""Random numbers that belong to rows: a hash of (seed, purpose, round, row), so that chunking cannot change them.

The hash is SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)
over a key per (seed, purpose, round) and the row's global number.
"""

import numpy as np

from dparallel.compat import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@kernel
def mix(value):
    """Scatter the bits of a 64-bit number."""
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


@kernel(inner=True)
def uniform(key, row):
    """Draw row's number, in (0, 1)."""
    bits = mix(key + (np.uint64(row) + np.uint64(1)) * _GOLDEN)
    return (np.float64(bits >> np.uint64(12)) + 0.5) * 2.0**-52


def key(seed, purpose, round_number=0):
    """Make the key of one (seed, purpose, round).

    Parameters
    ----------
    seed : int in [0, 2**64); purpose : short str; round_number : int

    Returns
    -------
    key : numpy.uint64
    """
    words = [int(seed), int.from_bytes(purpose.encode()[:8], "little"), int(round_number)]
    with np.errstate(over="ignore"):
        state = np.uint64(0)
        for word in words:
            state = mix.py_func(state + np.uint64(word & 0xFFFFFFFFFFFFFFFF) + _GOLDEN)
    return state


@kernel
def oversample(key, first_row, cost, weights, rate, chosen, ratio):
    """List rows whose number lies under their share of the cost: each is chosen on its own with rate * cost.

    Parameters
    ----------
    key : uint64 from `key`; first_row : int, the block's first global row number
    cost : ndarray of shape (n_rows,), float64; weights : the same, or of shape (0,) where all rows count 1
    rate : float, expected number of rows chosen per unit of weighted cost
    chosen : int64 of shape (n_rows,), receives the rows' numbers in the block
    ratio : float64 of shape (n_rows,), receives number / (weight * cost): the row is chosen at any rate above it

    Returns
    -------
    count : int, how many rows are listed

    Notes
    -----
    k-means‖, step 4 of Algorithm 2 of Bahmani et al. (2012).
    """
    count = 0
    for row in range(cost.size):
        mass = cost[row] * (weights[row] if weights.size else 1.0)
        number = uniform(key, first_row + row)
        if number < rate * mass:
            chosen[count] = row
            ratio[count] = number / mass
            count += 1
    return count


@kernel
def race(key, first_row, mass, chosen, time):
    """Draw rows without replacement in proportion to their mass: the rows that arrive first win.

    Parameters
    ----------
    key, first_row : as in `oversample`; mass : ndarray of shape (n_rows,), float64; rows of mass 0 never arrive
    chosen : int64 of shape (n_winners,); time : float64 of shape (n_winners,), infinite at first, kept ascending:
        the earliest rows' global numbers and times so far; changed in place

    Notes
    -----
    A row arrives at -log(number) / mass (Efraimidis and Spirakis, 2006). 1 - number is at most -log(number), which
    spares most logarithms.
    """
    last = time.size - 1
    for row in range(mass.size):
        if not mass[row] > 0.0:
            continue
        number = uniform(key, first_row + row)
        if 1.0 - number >= time[last] * mass[row]:
            continue
        arrival = -np.log(number) / mass[row]
        if arrival >= time[last]:
            continue
        at = last
        while at > 0 and time[at - 1] > arrival:
            time[at] = time[at - 1]
            chosen[at] = chosen[at - 1]
            at -= 1
        time[at] = arrival
        chosen[at] = first_row + row


@kernel
def _fill(key, first_row, result):
    for row in range(result.size):
        result[row] = uniform(key, first_row + row)


def numbers(key, first_row, n_rows):
    """Draw the numbers of consecutive rows.

    Parameters
    ----------
    key : uint64 from `key`; first_row : int, global number of the first row

    Returns
    -------
    result : ndarray of shape (n_rows,), float64, in (0, 1)
    """
    result = np.empty(n_rows)
    _fill(key, first_row, result)
    return result
