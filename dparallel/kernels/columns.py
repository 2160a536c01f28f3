"""CSR rows whose columns are numbered anew: only the columns that occur have a number, in the order of their coming.

A column and its number lie side by side, so that looking one up touches one line of memory, which is sent for in time;
the index of a store's table (see key_index) keeps them apart and is half as large.
"""

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.draws import mix
from dparallel.kernels.lanes import prefetch
from dparallel.kernels.layouts import csr_parts, writable

_PREFETCH_BYTES = 2048
_PIECE = 1 << 16  # indices that are looked up before the room is looked at again
_VALUES_AHEAD, _ROWS_AHEAD = 16, 8  # places and rows are sent for so many before they are read


@kernel(inlined=True)
def _place_of(slots, column):
    """The place of a column: that which holds its number, or else the empty one that it would take."""
    mask = np.uint64(slots.shape[0] - 1)
    place = mix(np.uint64(column)) & mask
    while slots[place, 1] >= 0 and slots[place, 0] != column:
        place = (place + np.uint64(1)) & mask
    return place


@kernel(inlined=True)
def _send_for(slots, wanted, i):
    """Send for the place at which a column that is looked up soon will be sought first."""
    if i < wanted.size:
        mask = np.uint64(slots.shape[0] - 1)
        prefetch(slots.ctypes.data + (mix(np.uint64(wanted[i])) & mask) * np.uint64(16))


@kernel
def _number(slots, keys, wanted, numbers, n):
    """Look up columns, and number those that are new; returns how many have a number.

    slots : ndarray of shape (a power of two, 2), int64: a column and its number, which is -1 where the slot is empty
    keys : ndarray of shape (room,), int64, receives the columns that are new
    """
    for i in range(wanted.size):
        _send_for(slots, wanted, i + _VALUES_AHEAD)
        column = np.int64(wanted[i])
        place = _place_of(slots, column)
        if slots[place, 1] < 0:
            slots[place, 0], slots[place, 1], keys[n] = column, n, column
            n += 1
        numbers[i] = slots[place, 1]
    return n


@kernel
def _look_up(slots, wanted, numbers, unknown):
    """Look up columns as _number does; those that have no number get that of the unknown."""
    for i in range(wanted.size):
        _send_for(slots, wanted, i + _VALUES_AHEAD)
        place = _place_of(slots, np.int64(wanted[i]))
        numbers[i] = slots[place, 1] if slots[place, 1] >= 0 else unknown


class ColumnNumbers:
    """The numbers of columns, which grow as columns are seen.

    Attributes
    ----------
    n : int, columns seen so far
    """

    def __init__(self):
        self.n = 0
        self._slots, self._keys = np.full((16, 2), -1, np.int64), np.empty(8, np.int64)

    @property
    def keys(self):
        """The column of each number, int64 of shape (n,)."""
        return self._keys[: self.n]

    def number(self, indices):
        """Return the number of each column, int32 of the same shape; new ones get the next numbers.

        Parameters
        ----------
        indices : ndarray of shape (n_values,), int32 or int64, C-contiguous
        """
        numbers = np.empty(indices.size, np.int32)
        indices = writable(indices)
        for start in range(0, indices.size, _PIECE):
            piece = slice(start, min(start + _PIECE, indices.size))
            self._make_room(self.n + piece.stop - piece.start)
            self.n = _number(self._slots, self._keys, indices[piece], numbers[piece], self.n)
        return numbers

    def look_up(self, indices):
        """Return the number of each column, int32 of the same shape, and n for those that have none."""
        numbers = np.empty(indices.size, np.int32)
        _look_up(self._slots, writable(indices), numbers, self.n)
        return numbers

    def _make_room(self, n):
        if 2 * n <= len(self._slots):
            return
        keys, n_slots = self.keys, 1 << (4 * n - 1).bit_length()
        self._slots, self._keys = np.full((n_slots, 2), -1, np.int64), np.empty(n_slots // 2, np.int64)
        _number(self._slots, self._keys, keys, np.empty(self.n, np.int32), 0)


@kernel
def _gather(data, indices, indptr, rows, places, seen, n_seen, out_data, out_indices, out_indptr):
    at = out_indptr[0]
    for i in range(rows.size):
        if i + _ROWS_AHEAD < rows.size:
            row = rows[i + _ROWS_AHEAD]
            start, n_bytes = indptr[row], indptr[row + 1] - indptr[row]
            for offset in range(0, min(n_bytes * 8, _PREFETCH_BYTES), 64):
                prefetch(data.ctypes.data + start * data.itemsize + offset)
            for offset in range(0, min(n_bytes * 4, _PREFETCH_BYTES), 64):
                prefetch(indices.ctypes.data + start * 4 + offset)
        row = rows[i]
        for j in range(indptr[row], indptr[row + 1]):
            f = indices[j]
            if places[f] < 0:
                places[f] = n_seen
                seen[n_seen] = f
                n_seen += 1
            out_data[at], out_indices[at] = data[j], places[f]
            at += 1
        out_indptr[i + 1] = at
    return n_seen


class Gathered:
    """Some rows of one or several CSR blocks, one after another, over the columns that these rows have.

    Parameters
    ----------
    n_columns : int, of all blocks
    n_rows, n_values : int, of all rows that will be added
    dtype : of the values

    Attributes
    ----------
    data, indices, indptr : the rows; a column has the number under which it stands in `columns`
    """

    def __init__(self, n_columns, n_rows, n_values, dtype):
        self._places = np.full(n_columns, -1, np.int32)
        self._seen = np.empty(n_columns, np.int32)
        self._n_seen = self._n_rows = 0
        self.data, self.indices = np.empty(n_values, dtype), np.empty(n_values, np.int32)
        self.indptr = np.zeros(n_rows + 1, np.int64)

    def add(self, X, rows):
        """Add rows of X, CSR with int32 indices, in the order of rows, int64 of shape (n,)."""
        room = self.indptr[self._n_rows : self._n_rows + rows.size + 1]
        parts = (*csr_parts(X), rows, self._places, self._seen, self._n_seen, self.data, self.indices, room)
        self._n_seen = _gather(*parts)
        self._n_rows += rows.size

    @property
    def columns(self):
        """The columns that these rows have, int32, as the blocks number them."""
        return self._seen[: self._n_seen]
