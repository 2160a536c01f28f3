"""From values to bins: counting the distinct values of columns, numbering the bins, coding blocks of rows.

Values are float32, as scikit-learn's trees see them: float64 is rounded, and finite values beyond float32 become its
largest. -0.0 counts as 0.0. NaN has a bin of its own, behind the bins of values.
"""

from typing import NamedTuple

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import COUNTED, count_below, pointer_like
from dparallel.kernels.layouts import flat, layout, readable

MOST_BINS = 255  # of values: with that of NaN a code fits in a byte

_TILE_ROWS = 256  # a tile is read column by column; it stays in the first-level cache
_TILE_COLUMNS = 32
_LARGEST = float(np.finfo(np.float32).max)
_EMPTY = np.uint32(0xFFFFFFFF)  # the bits of a NaN, so of no value
_SIGN = np.uint32(0x80000000)
_HASH = np.uint32(2654435769)


class Bins(NamedTuple):
    """The bins of all features; a slot is a bin's place among the bins of all features.

    Parameters
    ----------
    starts : ndarray of shape (n_features + 1,), int32; code c of feature f has the slot starts[f] + c
    n_values : ndarray of shape (n_features,), int32; the codes below are bins of values, in ascending order. A feature
        with missing values has one slot more, for the code n_values[f].
    upper : ndarray of shape (n_slots,), float32, the highest value of each bin; of a feature's last bin any number
    exact : ndarray of shape (n_features,), bool, whether each bin of values holds one value only, which is upper
    """

    starts: np.ndarray
    n_values: np.ndarray
    upper: np.ndarray
    exact: np.ndarray


@kernel(inner=True, fastmath=False)
def _read_column(source, start, count, f, values):
    """Copy a piece of a column as float32; returns whether infinity is among it."""
    address, single, row_stride, column_stride = source
    at = start * row_stride + f * column_stride
    infinite = False
    if single:
        numbers = pointer_like(address, np.float32(0))
        for i in range(count):
            value = numbers[at + i * row_stride]
            infinite |= abs(value) == np.float32(np.inf)
            values[i] = value
    else:
        numbers_64 = pointer_like(address, np.float64(0))
        for i in range(count):
            value_64 = numbers_64[at + i * row_stride]
            infinite |= abs(value_64) == np.inf
            within = _LARGEST if value_64 > _LARGEST else (-_LARGEST if value_64 < -_LARGEST else value_64)
            values[i] = np.float32(within)
    return infinite


@kernel(inner=True)
def _insert(table, key, count):
    """Put a key into a hash table; returns how many keys it holds."""
    mask = np.uint32(table.size - 1)
    at = (key * _HASH >> np.uint32(16)) & mask
    while table[at] != key:
        if table[at] == _EMPTY:
            table[at] = key
            return count + 1
        at = (at + np.uint32(1)) & mask
    return count


@kernel
def _scan(address, single, row_stride, column_stride, n_rows, limit, tables, counts, missing, infinite):
    """Look at all values of a block; see `Distinct`."""
    source = (address, single, row_stride, column_stride)
    values = np.empty(_TILE_ROWS, np.float32)
    keys = values.view(np.uint32)
    for first in range(0, counts.size, _TILE_COLUMNS):
        for start in range(0, n_rows, _TILE_ROWS):
            count = min(_TILE_ROWS, n_rows - start)
            for f in range(first, min(first + _TILE_COLUMNS, counts.size)):
                infinite[f] |= _read_column(source, start, count, f, values)
                gap = False
                for i in range(count):
                    gap |= values[i] != values[i]
                missing[f] |= gap
                if counts[f] > limit:
                    continue
                last = _EMPTY
                for i in range(count):
                    key = np.uint32(0) if keys[i] == _SIGN else keys[i]
                    if key == last or values[i] != values[i]:
                        continue
                    last = key
                    counts[f] = _insert(tables[f], key, counts[f])
                    if counts[f] > limit:
                        break


@kernel
def _merge(limit, tables, counts, other_tables, other_counts):
    for f in range(counts.size):
        if other_counts[f] > limit:
            counts[f] = other_counts[f]
        for i in range(other_tables.shape[1]):
            if counts[f] > limit:
                break
            if other_tables[f, i] != _EMPTY:
                counts[f] = _insert(tables[f], other_tables[f, i], counts[f])
        counts[f] = min(counts[f], limit + 1)


class Distinct:
    """The distinct values of columns, as long as they are few.

    Parameters
    ----------
    n_features : int
    limit : int, how many distinct values of a column are told apart at most

    Attributes
    ----------
    over : ndarray of shape (n_features,), bool, columns with more distinct values
    missing : ndarray of shape (n_features,), bool, columns with NaN
    infinite : ndarray of shape (n_features,), bool, columns with an infinity
    """

    def __init__(self, n_features, limit):
        self.limit = int(limit)
        self._tables = _new_tables(n_features, self.limit)
        self._counts = np.zeros(n_features, np.int64)
        self.missing = np.zeros(n_features, np.bool_)
        self.infinite = np.zeros(n_features, np.bool_)

    @property
    def over(self):
        return self._counts > self.limit

    def scan(self, X):
        """Take in a dense block of shape (n_rows, n_features), float32 or float64, in any memory order."""
        X = readable(X)
        _scan(*layout(X), X.shape[0], self.limit, self._tables, self._counts, self.missing, self.infinite)

    def merge(self, other):
        """Return what both have seen together."""
        result = Distinct(self._counts.size, self.limit)
        for part in (self, other):
            _merge(self.limit, result._tables, result._counts, part._tables, part._counts)
            result.missing |= part.missing
            result.infinite |= part.infinite
        return result

    def values(self, f):
        """List the distinct values of a column that is not over: ndarray of float32, ascending, without NaN."""
        keys = self._tables[f]
        return np.sort(keys[keys != _EMPTY].view(np.float32))

    def __getstate__(self):
        few = ~self.over
        tables = self._tables[few]
        return self.limit, self._counts, self.missing, self.infinite, tables[tables != _EMPTY]

    def __setstate__(self, state):
        self.limit, counts, self.missing, self.infinite, keys = state
        self._tables, self._counts = _new_tables(counts.size, self.limit), np.zeros_like(counts)
        few = np.flatnonzero(counts <= self.limit)
        columns = np.full_like(self._tables, _EMPTY)
        columns[np.repeat(few, counts[few]), _ranks(counts[few])] = keys
        _merge(self.limit, self._tables, self._counts, columns, counts)


def _new_tables(n_features, limit):
    """Empty hash tables with room for twice as many values as are told apart."""
    return np.full((n_features, 2 << limit.bit_length()), _EMPTY, np.uint32)


def _ranks(counts):
    """Number the members of groups: 0 .. count - 1 for each count."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) - np.repeat(ends - counts, counts)


def make_bins(distinct, edges):
    """Put the bins of all features together.

    Parameters
    ----------
    distinct : Distinct, of all rows
    edges : mapping from each feature that is over to an ndarray of shape (n_bins,), float32, ascending: the highest
        value of each bin, at most 255 of them; values above the last belong to the last

    Returns
    -------
    bins : Bins
    """
    over = distinct.over
    upper = [edges[f] if over[f] else distinct.values(f) for f in range(over.size)]
    n_values = np.array([part.size for part in upper], np.int32)
    starts = np.concatenate([[0], np.cumsum(n_values + distinct.missing)]).astype(np.int32)
    slots = np.full(starts[-1], np.inf, np.float32)
    for start, part in zip(starts, upper):
        slots[start : start + part.size] = part
    return Bins(starts, n_values, slots, ~over)


@kernel
def _assign(address, single, row_stride, column_stride, fine, coarse, starts, n_values, exact, codes, low, high):
    """Code a block; see `Coder`."""
    source = (address, single, row_stride, column_stride)
    values = np.empty(_TILE_ROWS, np.float32)
    n_rows, n_features = codes.shape
    for first in range(0, n_features, _TILE_COLUMNS):
        for start in range(0, n_rows, _TILE_ROWS):
            count = min(_TILE_ROWS, n_rows - start)
            for f in range(first, min(first + _TILE_COLUMNS, n_features)):
                _read_column(source, start, count, f, values)
                bounds, groups, missing = fine[f], coarse[f], np.uint8(n_values[f])
                few = n_values[f] <= COUNTED
                for i in range(count):
                    value = values[i]
                    group = np.int64(0) if few else count_below(groups, 0, value) * COUNTED
                    code = group + count_below(bounds, group, value)
                    codes[start + i, f] = np.uint8(code) if value == value else missing
                if exact[f]:
                    continue
                lowest, highest = low[starts[f] :], high[starts[f] :]
                for i in range(count):
                    value, slot = values[i], codes[start + i, f]
                    if value < lowest[slot]:
                        lowest[slot] = value
                    if value > highest[slot]:
                        highest[slot] = value


class Coder:
    """Turns blocks of values into codes, and notes the extreme values of each bin.

    Parameters
    ----------
    bins : Bins

    Attributes
    ----------
    low, high : ndarray of shape (n_slots,), float32, the lowest and the highest value of each bin among the coded rows;
        infinite and minus infinite where there is none. Those of exact features are known from the start.
        Over shards they merge with numpy.minimum and numpy.maximum.
    """

    def __init__(self, bins):
        self.bins = Bins(*(flat(part, part.dtype) for part in bins))
        n_features = bins.n_values.size
        self._fine = np.full((n_features, COUNTED * COUNTED), np.inf, np.float32)
        self.low = np.full(bins.upper.size, np.inf, np.float32)
        self.high = np.full(bins.upper.size, -np.inf, np.float32)
        for f, (start, n_values) in enumerate(zip(bins.starts, bins.n_values)):
            values = slice(start, start + n_values)
            self._fine[f, : max(n_values - 1, 0)] = bins.upper[start : start + max(n_values - 1, 0)]
            if bins.exact[f]:
                self.low[values] = self.high[values] = bins.upper[values]
        self._coarse = np.ascontiguousarray(self._fine[:, COUNTED - 1 :: COUNTED])

    def code(self, X, codes):
        """Code a block.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32 or float64, in any memory order
        codes : ndarray of shape (n_rows, n_features), uint8, C order, overwritten

        Notes
        -----
        Of features whose bins are exact, a value that has no bin takes the code of the next higher one. NaN in a
        feature that has no bin for it takes the code n_values[f], which has no slot: it must not occur.
        """
        X, bins = readable(X), self.bins
        tables = (self._fine, self._coarse, bins.starts, bins.n_values, bins.exact)
        _assign(*layout(X), *tables, codes, self.low, self.high)
