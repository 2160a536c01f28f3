"""Quantiles of columns by counting: no sample, no sorting, and the same answer whatever the chunks and their order.

A float32 is turned into a key, an integer in the same order. A first look counts the rows, and finds the lowest and
highest key, in each of a few thousand equal stretches of keys (buckets: some for each power of two). Each span is then
cut into cells, the more the more rows it has, and a second look adds up the weight of the rows in each cell. What is
merged are minima, maxima and integer sums.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.lanes import pointer_like

_NOTHING = np.uint32(0xFFFFFFFF)
_LARGEST = np.float32(3.4028235e38)
_BUCKET_BITS = 13
_FEWEST_BUCKET_BITS = 10  # sign, exponent, and one bit more
_BUCKETS_IN_ALL = 1 << 21
_CELLS_OF_A_BIN = 128
_CELLS_OF_A_ROW = 16
_CELLS_IN_ALL = 1 << 22
_FEWEST_CELLS_OF_A_BIN = 16
_TILE_ROWS = 2048
_HEAVIEST = 1 << 20
_NO_WEIGHTS = np.empty(0, np.int64)


@kernel(inner=True)
def _key_of(word):
    """The key of the bits of a float32 that is no NaN and not -0.0."""
    return ~word if word >> np.uint32(31) else word | np.uint32(0x80000000)


@kernel(inner=True)
def _key(value, bits):
    """The key of a float32 that is no NaN; bits: two views of the same four bytes, as float32 and as uint32."""
    as_float, as_bits = bits
    as_float[0] = value + np.float32(0.0)  # -0.0 counts as 0.0
    return _key_of(as_bits[0])


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
def _spread(address, single, row_stride, column_stride, n_rows, weights, shift, lowest, highest, counts):
    """Widen the spans of the buckets by the values of a block, and count its rows; NaN has no key."""
    word = np.empty(1, np.uint32)
    bits = (word.view(np.float32), word)
    rows_32, rows_64 = pointer_like(address, np.float32(0)), pointer_like(address, np.float64(0))
    for row in range(n_rows):
        weight = weights[row] if weights.size else np.int64(1)
        for f in range(lowest.shape[0]):
            at = row * row_stride + f * column_stride
            value = rows_32[at] if single else _single(rows_64[at])
            if value == value:
                key = _key(value, bits)
                bucket = key >> np.uint32(shift)
                counts[f, bucket] += weight
                if key < lowest[f, bucket]:
                    lowest[f, bucket] = key
                if key > highest[f, bucket]:
                    highest[f, bucket] = key


@kernel
def _count(address, single, row_stride, column_stride, n_rows, weights, columns, bucket_shift, tables, counts):
    """Add the weights of a block's rows to the cells of their values, which are found first, in the vector lanes."""
    starts, lowest, shift = tables
    values, cells = np.empty(_TILE_ROWS, np.float32), np.empty(_TILE_ROWS, np.int32)
    words = values.view(np.uint32)
    rows_32, rows_64 = pointer_like(address, np.float32(0)), pointer_like(address, np.float64(0))
    for top in range(0, n_rows, _TILE_ROWS):  # a column's cells stay in cache for a tile of rows
        n_tile = min(_TILE_ROWS, n_rows - top)
        for c in range(columns.size):
            first = top * row_stride + columns[c] * column_stride
            for i in range(n_tile):
                at = first + i * row_stride
                values[i] = (rows_32[at] if single else _single(rows_64[at])) + np.float32(0.0)  # -0.0 counts as 0.0
            own_starts, own_lowest, own_shift = starts[c], lowest[c], shift[c]
            for i in range(n_tile):
                key = _key_of(words[i])
                bucket = key >> np.uint32(bucket_shift)
                step = np.int64((key - own_lowest[bucket]) >> np.uint32(own_shift[bucket]))
                cells[i] = own_starts[bucket] + step if values[i] == values[i] else np.int64(-1)
            for i in range(n_tile):
                if cells[i] >= 0:
                    counts[cells[i]] += weights[top + i] if weights.size else np.int64(1)


def bucket_bits(n_features):
    """Choose how many of a key's 32 bits number its bucket: fewer where there are many columns."""
    room = (_BUCKETS_IN_ALL // max(n_features, 1)).bit_length() - 1
    return int(np.clip(room, _FEWEST_BUCKET_BITS, _BUCKET_BITS))


class Spread:
    """Lowest and highest key and the rows of each bucket of each column; lowest > highest where a bucket is empty.

    Parameters
    ----------
    n_features : int
    """

    def __init__(self, n_features):
        self.bits = bucket_bits(n_features)
        shape = (n_features, 1 << self.bits)
        self._lowest, self._highest = np.full(shape, _NOTHING), np.zeros(shape, np.uint32)
        self._counts = np.zeros(shape, np.int64)

    def scan(self, layout, n_rows, weights=None):
        """Look at the rows of a block.

        Parameters
        ----------
        layout : address, whether float32, strides in elements, see layouts.layout
        n_rows : int
        weights : ndarray of shape (n_rows,), float64, or None where all are 1; they only decide where cells are narrow,
            and are rounded to integers, so that integer weights count as repeated rows
        """
        whole = _NO_WEIGHTS if weights is None else np.clip(np.rint(weights), 1, _HEAVIEST).astype(np.int64)
        _spread(*layout, n_rows, whole, 32 - self.bits, self._lowest, self._highest, self._counts)

    def spans(self):
        """The buckets that are not empty."""
        places = np.flatnonzero(self._counts)
        tables = (self._lowest, self._highest, self._counts)
        return Spans(self.bits, places, *(table.reshape(-1)[places] for table in tables))


@dataclass(frozen=True)
class Spans:
    """The buckets of all columns that hold values.

    Parameters
    ----------
    bits : int, of a key that number its bucket
    places : ndarray of shape (n_full,), int64, ascending: column * 2**bits + bucket
    lowest, highest : ndarray of shape (n_full,), uint32, keys
    counts : ndarray of shape (n_full,), int64, rows, or their weights
    """

    bits: int
    places: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    counts: np.ndarray

    @property
    def nbytes(self):
        """Size of the arrays in bytes."""
        return self.places.nbytes + self.lowest.nbytes + self.highest.nbytes + self.counts.nbytes

    def merge(self, other):
        """The spans of the values of both."""
        places, place = np.unique(np.concatenate([self.places, other.places]), return_inverse=True)
        lowest, highest = np.full(len(places), _NOTHING), np.zeros(len(places), np.uint32)
        counts = np.zeros(len(places), np.int64)
        np.minimum.at(lowest, place, np.concatenate([self.lowest, other.lowest]))
        np.maximum.at(highest, place, np.concatenate([self.highest, other.highest]))
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Spans(self.bits, places, lowest, highest, counts)

    def of(self, columns):
        """The spans of some columns."""
        keep = np.isin(self.places >> self.bits, columns)
        parts = (self.places, self.lowest, self.highest, self.counts)
        return Spans(self.bits, *(part[keep] for part in parts))


@dataclass(frozen=True)
class Ladder:
    """Cells of the columns whose quantiles are wanted; travels to the workers.

    Parameters
    ----------
    columns : ndarray of shape (n_columns,), int32, ascending
    bits : int, of a key that number its bucket
    column : ndarray of shape (n_full,), int64, which of the columns a bucket belongs to, ascending
    bucket : ndarray of shape (n_full,), int64
    starts : ndarray of shape (n_full + 1,), int64, the first cell of each bucket, and how many cells there are
    lowest, highest : ndarray of shape (n_full,), uint32, the keys that a bucket's cells cover
    shift : ndarray of shape (n_full,), uint8, log2 of how many keys a cell takes
    """

    columns: np.ndarray
    bits: int
    column: np.ndarray
    bucket: np.ndarray
    starts: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    shift: np.ndarray

    @classmethod
    def over(cls, spans, n_bins):
        """Cut spans into cells; spans : Spans of the wanted columns; n_bins : int, bins that are wanted of a column."""
        columns, column = np.unique(spans.places >> spans.bits, return_inverse=True)
        rows = np.bincount(column, spans.counts)
        room = np.clip(_CELLS_IN_ALL // len(columns), _FEWEST_CELLS_OF_A_BIN * n_bins, _CELLS_OF_A_BIN * n_bins)
        room = np.minimum(room, _CELLS_OF_A_ROW * rows)
        n_cells = np.maximum(spans.counts / rows[column] * room[column], 1.0)
        widths = (spans.highest - spans.lowest).astype(np.int64)  # less one
        shift = np.maximum(np.ceil(np.log2((widths + 1) / n_cells)), 0).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum((widths >> shift) + 1)])
        bucket = spans.places & ((1 << spans.bits) - 1)
        shift = shift.astype(np.uint8)
        return cls(columns.astype(np.int32), spans.bits, column, bucket, starts, spans.lowest, spans.highest, shift)

    @property
    def n_cells(self):
        """How many numbers a look at the rows adds to."""
        return int(self.starts[-1])

    @cached_property
    def _tables(self):
        """The buckets of all columns, those without values included."""
        shape = (len(self.columns), 1 << self.bits)
        starts, lowest, shift = np.zeros(shape, np.int64), np.zeros(shape, np.uint32), np.zeros(shape, np.uint8)
        for table, values in ((starts, self.starts[:-1]), (lowest, self.lowest), (shift, self.shift)):
            table[self.column, self.bucket] = values
        return starts, lowest, shift

    def count(self, layout, n_rows, weights, counts):
        """Add a block's rows to counts.

        Parameters
        ----------
        layout : see layouts.layout; n_rows : int
        weights : ndarray of shape (n_rows,), int64, or None where every row counts 1
        counts : ndarray of shape (n_cells,), int64, changed in place
        """
        weights = _NO_WEIGHTS if weights is None else weights
        _count(*layout, n_rows, weights, self.columns, 32 - self.bits, self._tables, counts)

    def edges(self, counts, n_bins, unit=1):
        """Choose bins: the quantiles k / n_bins, each that of the nearest row; those that fall together are one.

        Parameters
        ----------
        counts : ndarray of shape (n_cells,), int64
        n_bins : int, the most bins of a column
        unit : int, what a row of weight 1 counts

        Returns
        -------
        edges : dict of column to float32, ascending: the highest value that may be in each bin
        """
        full = np.flatnonzero(counts)
        span = np.searchsorted(self.starts, full, "right") - 1
        step, shift = full - self.starts[span], self.shift[span].astype(np.int64)
        last = np.minimum(self.lowest[span] + ((step + 1) << shift) - 1, self.highest[span])
        ends = np.searchsorted(self.column[span], np.arange(len(self.columns)), "right")
        found, begin = {}, 0
        for column, end in zip(self.columns.tolist(), ends.tolist()):
            chosen = _quantile_cells(np.cumsum(counts[full[begin:end]]), n_bins, unit)
            found[column] = values_of(last[begin:end][chosen])
            begin = end
        return found

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_tables"}

    def __setstate__(self, state):
        self.__dict__.update(state)


def _quantile_cells(weights, n_bins, unit):
    """Cells in which the quantiles lie, and the last cell; weights : int64, of all cells up to each."""
    if len(weights) <= n_bins:
        return np.arange(len(weights))
    total = int(weights[-1])
    # k * total / n_bins - unit / 2, rounded up: rows of weight 1 and rows repeated give the same
    goals = [-((unit * n_bins - 2 * k * total) // (2 * n_bins)) for k in range(1, n_bins)]
    cells = np.searchsorted(weights, np.array(goals, np.int64))
    return np.unique(np.append(cells, len(weights) - 1))
