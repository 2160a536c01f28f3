"""Quantiles of columns by counting: no sample, no sorting, and the same answer whatever the chunks and their order.

A float32 is turned into a key, an integer in the same order. A first look finds, for each of a few thousand equal
stretches of keys (buckets: some for each power of two), the lowest and highest key that occurs. These spans are cut
into cells, and a second look adds up the weight of the rows in each cell. Where a cell that is no single value is
heavier than a quantile may be off, a third look cuts the heavy cells once more. What is merged are minima, maxima and
integer sums.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import pointer_like

_NOTHING = np.uint32(0xFFFFFFFF)
_LARGEST = np.float32(3.4028235e38)
_BUCKET_BITS = 13
_FEWEST_BUCKET_BITS = 10  # sign, exponent, and one bit more
_BUCKETS_IN_ALL = 1 << 21
_CELLS_OF_A_BIN = 128
_CELLS_OF_A_ROW = 4
_CELLS_IN_ALL = 1 << 22
_FEWEST_CELLS_OF_A_BIN = 8
_FINER_CELLS = 1 << 20  # of all heavy cells, or as many as there were before
_PARTS_OF_A_BIN = 4  # a cell heavier than this part of a bin is cut once more
_TILE_ROWS = 2048
_NO_WEIGHTS = np.empty(0, np.int64)
_NO_CELLS = np.empty(0, np.int32)
_NO_STARTS, _NO_LOWEST, _NO_SHIFT = np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint8)


@kernel(inner=True)
def _key(value, bits):
    """The key of a float32 that is no NaN; bits: two views of the same four bytes, as float32 and as uint32."""
    as_float, as_bits = bits
    as_float[0] = value + np.float32(0.0)  # -0.0 counts as 0.0
    word = as_bits[0]
    return ~word if word >> np.uint32(31) else word | np.uint32(0x80000000)


@kernel(inner=True)
def _single(value):
    """float32 of a float64; what is finite stays finite."""
    single = np.float32(value)
    if single > _LARGEST:
        return _LARGEST
    if single < -_LARGEST:
        return -_LARGEST
    return single


def keys_of(values):
    """Turn float32 values, none of them NaN, into their keys: uint32 in the same order."""
    words = (np.asarray(values, np.float32) + np.float32(0.0)).view(np.uint32)
    return np.where(words >> 31, ~words, words | np.uint32(0x80000000))


def values_of(keys):
    """Undo keys_of."""
    keys = np.asarray(keys, np.uint32)
    return np.where(keys >> 31, keys & np.uint32(0x7FFFFFFF), ~keys).astype(np.uint32).view(np.float32)


@kernel
def _spread(address, single, row_stride, column_stride, n_rows, shift, lowest, highest):
    """Widen the spans of the buckets by the values of a block; NaN has no key."""
    word = np.empty(1, np.uint32)
    bits = (word.view(np.float32), word)
    rows_32, rows_64 = pointer_like(address, np.float32(0)), pointer_like(address, np.float64(0))
    for row in range(n_rows):
        for f in range(lowest.shape[0]):
            at = row * row_stride + f * column_stride
            value = rows_32[at] if single else _single(rows_64[at])
            if value == value:
                key = _key(value, bits)
                bucket = key >> np.uint32(shift)
                if key < lowest[f, bucket]:
                    lowest[f, bucket] = key
                if key > highest[f, bucket]:
                    highest[f, bucket] = key


@kernel
def _count(address, single, row_stride, column_stride, n_rows, weights, columns, bucket_shift, ladder, finer, counts):
    """Add the weights of a block's rows to the cells of their values, or to the finer cells of heavy ones."""
    starts, lowest, shift = ladder
    heavy, finer_starts, finer_lowest, finer_shift = finer
    word = np.empty(1, np.uint32)
    bits = (word.view(np.float32), word)
    rows_32, rows_64 = pointer_like(address, np.float32(0)), pointer_like(address, np.float64(0))
    for top in range(0, n_rows, _TILE_ROWS):  # a column's cells stay in cache for a tile of rows
        for c in range(columns.size):
            for row in range(top, min(top + _TILE_ROWS, n_rows)):
                at = row * row_stride + columns[c] * column_stride
                value = rows_32[at] if single else _single(rows_64[at])
                if value != value:
                    continue
                key = _key(value, bits)
                bucket = key >> np.uint32(bucket_shift)
                cell = starts[c, bucket] + np.int64((key - lowest[c, bucket]) >> np.uint32(shift[c, bucket]))
                if heavy.size:
                    part = heavy[cell]
                    if part < 0:
                        continue
                    cell = finer_starts[part] + np.int64((key - finer_lowest[part]) >> np.uint32(finer_shift[part]))
                counts[cell] += weights[row] if weights.size else np.int64(1)


def bucket_bits(n_features):
    """Choose how many of a key's 32 bits number its bucket: fewer where there are many columns."""
    room = (_BUCKETS_IN_ALL // max(n_features, 1)).bit_length() - 1
    return int(np.clip(room, _FEWEST_BUCKET_BITS, _BUCKET_BITS))


class Spread:
    """Lowest and highest key of each bucket of each column; lowest > highest where a bucket is empty.

    Parameters
    ----------
    n_features : int

    Attributes
    ----------
    lowest, highest : ndarray of shape (n_features, n_buckets), uint32
    """

    def __init__(self, n_features):
        self.bits = bucket_bits(n_features)
        shape = (n_features, 1 << self.bits)
        self.lowest, self.highest = np.full(shape, _NOTHING), np.zeros(shape, np.uint32)

    def scan(self, layout, n_rows):
        """Look at the rows of a block; layout : address, whether float32, strides in elements, see layouts.layout."""
        _spread(*layout, n_rows, 32 - self.bits, self.lowest, self.highest)

    def column(self, f):
        """The spans of one column's buckets that are not empty, for merging."""
        full = np.flatnonzero(self.lowest[f] <= self.highest[f])
        return Spans(self.bits, full.astype(np.int32), self.lowest[f][full], self.highest[f][full])


@dataclass(frozen=True)
class Spans:
    """The buckets of one column that hold values.

    Parameters
    ----------
    bits : int, of a key that number its bucket
    buckets : ndarray of shape (n_full,), int32, ascending
    lowest, highest : ndarray of shape (n_full,), uint32, keys
    """

    bits: int
    buckets: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    @classmethod
    def of_values(cls, values, bits):
        """The spans of ascending values."""
        keys = keys_of(values)
        buckets, first = np.unique(keys >> np.uint32(32 - bits), return_index=True)
        last = np.append(first, len(keys))[1:] - 1
        return cls(bits, buckets.astype(np.int32), keys[first], keys[last])

    def merge(self, other):
        """The spans of the values of both."""
        both = np.concatenate([self.buckets, other.buckets])
        buckets, place = np.unique(both, return_inverse=True)
        lowest, highest = np.full(len(buckets), _NOTHING), np.zeros(len(buckets), np.uint32)
        np.minimum.at(lowest, place, np.concatenate([self.lowest, other.lowest]))
        np.maximum.at(highest, place, np.concatenate([self.highest, other.highest]))
        return Spans(self.bits, buckets, lowest, highest)


@dataclass(frozen=True)
class Cells:
    """Cells of some columns as a look at the rows needs them; travels to the workers.

    Parameters
    ----------
    columns : ndarray of shape (n_columns,), int32, ascending
    bits : int, of a key that number its bucket
    n_cells : int, of all columns
    places : ndarray of shape (n_full,), int64, which of the columns and which bucket, of the buckets that hold values
    starts : ndarray of shape (n_full,), int64, the first cell of a bucket
    lowest : ndarray of shape (n_full,), uint32, where a bucket's first cell begins
    shift : ndarray of shape (n_full,), uint8, log2 of how many keys a cell takes
    heavy : ndarray of shape (n_heavy,), int64, cells that are cut once more, or None: then only their
        finer cells are counted
    finer : Cells of the heavy cells, each as if it were a bucket, or None
    """

    columns: np.ndarray
    bits: int
    n_cells: int
    places: np.ndarray
    starts: np.ndarray
    lowest: np.ndarray
    shift: np.ndarray
    heavy: Any = None
    finer: Any = None

    @property
    def n_counts(self):
        """How many numbers a look at the rows adds to."""
        return self.n_cells if self.finer is None else self.finer.n_cells

    @cached_property
    def _tables(self):
        """The buckets of all columns, those without values included; and the heavy cells."""
        shape = (len(self.columns), 1 << self.bits)
        starts, lowest, shift = np.zeros(shape, np.int64), np.zeros(shape, np.uint32), np.zeros(shape, np.uint8)
        for table, values in ((starts, self.starts), (lowest, self.lowest), (shift, self.shift)):
            table.reshape(-1)[self.places] = values
        if self.finer is None:
            return (starts, lowest, shift), (_NO_CELLS, _NO_STARTS, _NO_LOWEST, _NO_SHIFT)
        heavy = np.full(self.n_cells, -1, np.int32)
        heavy[self.heavy] = np.arange(len(self.heavy))
        return (starts, lowest, shift), (heavy, self.finer.starts, self.finer.lowest, self.finer.shift)

    def count(self, layout, n_rows, weights, counts):
        """Add a block's rows to counts.

        Parameters
        ----------
        layout : see layouts.layout; n_rows : int
        weights : ndarray of shape (n_rows,), int64, or None where every row counts 1
        counts : ndarray of shape (n_counts,), int64, changed in place
        """
        weights = _NO_WEIGHTS if weights is None else weights
        _count(*layout, n_rows, weights, self.columns, 32 - self.bits, *self._tables, counts)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_tables"}

    def __setstate__(self, state):
        self.__dict__.update(state)


@dataclass(frozen=True)
class Ladder:
    """Cells of the columns whose quantiles are wanted, as the driver knows them.

    Parameters
    ----------
    cells : Cells
    first, last : ndarray of shape (n_cells,), uint32, keys of each cell
    ends : ndarray of shape (n_columns,), int64, cell behind the last of each column
    finer_last : ndarray of uint32, last keys of the finer cells, or None
    """

    cells: Cells
    first: np.ndarray
    last: np.ndarray
    ends: np.ndarray
    finer_last: Any = None

    @classmethod
    def over(cls, spans, n_bins, n_rows):
        """Cut the spans of some columns into cells.

        Parameters
        ----------
        spans : dict of column to Spans; n_bins : int, bins that are wanted of a column
        n_rows : int; more cells than some per row are of no use
        """
        columns = sorted(spans)
        bits = spans[columns[0]].bits
        n_cells = min(_room(len(columns), n_bins), _CELLS_OF_A_ROW * n_rows)
        places, starts, shifts, firsts, lasts, ends, n_before = [], [], [], [], [], [], 0
        for c, column in enumerate(columns):
            span = spans[column]
            begins, shift, (first, last) = _cut(span.lowest, span.highest, max(n_cells // len(span.buckets), 1))
            places.append((c << bits) + span.buckets.astype(np.int64))
            starts.append(begins + n_before)
            shifts.append(shift)
            firsts.append(first)
            lasts.append(last)
            n_before += len(first)
            ends.append(n_before)
        lowest = np.concatenate([spans[column].lowest for column in columns])
        numbers = (np.concatenate(places), np.concatenate(starts), lowest, np.concatenate(shifts))
        cells = Cells(np.array(columns, np.int32), bits, n_before, *numbers)
        return cls(cells, np.concatenate(firsts), np.concatenate(lasts), np.array(ends))

    def refine(self, counts, n_bins, unit=1):
        """A ladder that cuts the heavy cells once more, or None where no cell is heavy and more than one value.

        Parameters
        ----------
        counts : ndarray of shape (n_cells,), int64, from all rows; n_bins : int, bins that are wanted of a column
        unit : int, what a row of weight 1 counts
        """
        parts = _sums(counts, self.ends) / (n_bins * _PARTS_OF_A_BIN)
        limits = np.repeat(np.maximum(parts, unit), np.diff(self.ends, prepend=0))
        heavy = np.flatnonzero((counts > limits) & (self.first < self.last))
        if not heavy.size:
            return None
        lowest = self.first[heavy]
        n_cells = max(2, min(_room(len(heavy), n_bins), max(len(counts), _FINER_CELLS) // len(heavy)))
        starts, shift, (_, last) = _cut(lowest, self.last[heavy], n_cells)
        finer = Cells(_NO_CELLS, 0, len(last), _NO_STARTS, starts, lowest, shift)
        return replace(self, cells=replace(self.cells, heavy=heavy, finer=finer), finer_last=last)

    def edges(self, counts, finer_counts, n_bins, unit=1):
        """Choose bins: the quantiles k / n_bins, each that of the nearest row; those that fall together are one.

        Parameters
        ----------
        counts : ndarray of shape (n_cells,), int64; finer_counts : the same of the finer cells, or None
        n_bins : int, the most bins of a column
        unit : int, what a row of weight 1 counts

        Returns
        -------
        edges : dict of column to float32, ascending: the highest value that may be in each bin
        """
        found, begin = {}, 0
        for column, end in zip(self.cells.columns, self.ends):
            last, weights = self.last[begin:end], counts[begin:end]
            if finer_counts is not None:
                last, weights = self._finest(begin, end, counts, finer_counts)
            last, weights = last[weights > 0], weights[weights > 0]
            if len(last) > n_bins:
                last = last[_quantile_cells(np.cumsum(weights), n_bins, unit)]
            found[int(column)] = values_of(last)
            begin = end
        return found

    def _finest(self, begin, end, counts, finer_counts):
        """Last keys and weights of one column's cells, the heavy ones replaced by their finer ones."""
        heavy, starts = self.cells.heavy, self.cells.finer.starts
        low, high = np.searchsorted(heavy, [begin, end])
        cuts = [starts[i] if i < len(starts) else self.cells.finer.n_cells for i in (low, high)]
        finer = slice(*cuts)
        plain = np.delete(np.arange(begin, end), heavy[low:high] - begin)
        last = np.concatenate([self.last[plain], self.finer_last[finer]])
        weights = np.concatenate([counts[plain], finer_counts[finer]])
        order = np.argsort(last, kind="stable")
        return last[order], weights[order]


def _room(n_columns, n_bins):
    """How many cells a column, or a heavy cell, is cut into at most."""
    return int(np.clip(_CELLS_IN_ALL // n_columns, _FEWEST_CELLS_OF_A_BIN * n_bins, _CELLS_OF_A_BIN * n_bins))


def _quantile_cells(weights, n_bins, unit):
    """Cells in which the quantiles lie, and the last cell; weights : int64, of all cells up to each."""
    total = int(weights[-1])
    # k * total / n_bins - unit / 2, rounded up: rows of weight 1 and rows repeated give the same
    goals = [-((unit * n_bins - 2 * k * total) // (2 * n_bins)) for k in range(1, n_bins)]
    cells = np.searchsorted(weights, np.array(goals, np.int64))
    return np.unique(np.append(cells, len(weights) - 1))


def _sums(counts, ends):
    """Sums of the counts of each column."""
    return np.add.reduceat(counts, np.concatenate([[0], ends[:-1]])).astype(np.float64)


def _cut(lowest, highest, n_cells):
    """Cut spans of keys into at most n_cells cells each.

    Returns
    -------
    starts : int64, the first cell of each span; shift : uint8, log2 of the keys in a cell
    cells : tuple of first and last key of each cell
    """
    widths = (highest - lowest).astype(np.int64)  # less one
    shift = np.maximum(np.floor(np.log2((widths + 1) / n_cells)), 0).astype(np.int64)
    while (too_many := (widths >> shift) >= n_cells).any():
        shift[too_many] += 1
    sizes = (widths >> shift) + 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    span = np.repeat(np.arange(len(sizes)), sizes)
    step = np.arange(sizes.sum()) - starts[span]
    first = lowest[span].astype(np.int64) + (step << shift[span])
    last = np.minimum(first + (1 << shift[span]) - 1, highest[span])
    return starts, shift.astype(np.uint8), (first.astype(np.uint32), last.astype(np.uint32))
