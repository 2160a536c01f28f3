"""The sparse tables of a shard: rows that are looked up by key, and change as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dparallel import kernels
from dparallel.checkpoint import as_whole
from dparallel.errors import StoreError
from dparallel.store.optimizers import Add, Optimizer, from_dict
from dparallel.store.rows import Rows, SparseTable, distinct, index_of, new_index, places_among, plain, stored_keys

LARGEST_TABLE = 2**31 - 1  # rows of one table on one shard; the index holds their numbers as int32


class Stored(NamedTuple):
    """The rows of one table: those before n_rows, in the order in which their keys came; behind them is room.

    Parameters
    ----------
    places : ndarray of shape (n_places,), int32, the index as of kernels.key_index
    keys : ndarray of shape (room,), int64
    values : ndarray of shape (room, n_columns), float64
    slots : dict of str to ndarray of the shape of values, float64
    counts : ndarray of shape (room,), int32, updates of each row, where the optimizer counts them; else of shape (0,)
    n_rows : int
    """

    places: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    slots: dict[str, np.ndarray]
    counts: np.ndarray
    n_rows: int

    @property
    def nbytes(self) -> int:
        """Bytes of the rows there are, and of the index."""
        arrays = (self.keys, self.values, self.counts, *self.slots.values())
        return self.places.nbytes + sum(array[: self.n_rows].nbytes for array in arrays)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the row of each key, -1 where it has none."""
        rows = np.empty(len(keys), np.int64)
        kernels.key_index.find(self.places, self.keys, self.n_rows, plain(keys), rows)
        return rows


class Numbers(NamedTuple):
    """Values, slots and counts of some rows, in the order of some keys."""

    values: np.ndarray
    slots: dict[str, np.ndarray]
    counts: np.ndarray


class Change(NamedTuple):
    """What updates do to one table.

    Parameters
    ----------
    keys : ndarray of shape (n,), int64, each once
    rows : ndarray of shape (n,), int64, where they are; -1 for new ones
    before, after : Numbers of these keys
    n_rows : int, rows of the table before
    """

    keys: np.ndarray
    rows: np.ndarray
    before: Numbers
    after: Numbers
    n_rows: int


class Previous(NamedTuple):
    """What a commit replaced in one table: values of shape (n, n_columns) under keys, and the number of rows before."""

    keys: np.ndarray
    values: np.ndarray
    n_rows: int


class Tables:
    """Named tables, each with its optimizer.

    Parameters
    ----------
    given : dict of str to SparseTable
    optimizers : dict of str to Optimizer, for the same names
    rows : dict of str to Rows that tables begin with

    Attributes
    ----------
    current : dict of str to Stored; to be assigned by the owner

    Raises
    ------
    StoreError
        If an optimizer moves rows that no update names.

    Notes
    -----
    `after` computes beside the rows and changes nothing. `write` writes to the rows in place, since copying a table for
    each update would cost more than all else; until its result is assigned to `current`, `undo` takes it back. New
    rows lie behind n_rows, where nobody looks before that.
    """

    def __init__(
        self,
        given: Mapping[str, SparseTable],
        optimizers: Mapping[str, Optimizer],
        rows: Mapping[str, Rows] | None = None,
    ):
        for name in given:
            if not optimizers[name].is_lazy:
                raise StoreError(
                    f"The optimizer {optimizers[name].name!r} goes on moving rows that no push names, so it does not "
                    f"fit the sparse table {name!r}. Use add, sgd, adagrad, adam or ftrl."
                )
        self.specs = dict(given)
        self.optimizers = {name: optimizers[name] for name in given}
        self.current = {name: self._empty(name) for name in given}
        for name, first in (rows or {}).items():
            slots = optimizers[name].slots(first.values.reshape(-1))
            slots = {slot: array.reshape(first.values.shape) for slot, array in slots.items()}
            counts = np.zeros(len(first.keys) if optimizers[name].counts else 0, np.int32)
            self.current[name] = _filled(self.current[name], first.keys, Numbers(first.values, slots, counts))

    def __contains__(self, name: Any) -> bool:
        return name in self.specs

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, their slots and the indexes."""
        return sum(stored.nbytes for stored in self.current.values())

    def checked(self, name: str, given: Any) -> Rows:
        """Return an update of a table as it may be applied.

        Raises
        ------
        StoreError
            If the rows do not have the table's form.
        """
        n_columns = self.specs[name].n_columns
        if not isinstance(given, Rows) or given.values.shape != (len(given.keys), n_columns):
            raise StoreError(f"An update of the table {name!r} on a shard must be Rows of {n_columns} columns.")
        return given

    def read(self, name: str, keys: np.ndarray | None, previous: Mapping[str, Previous] | None) -> np.ndarray | Rows:
        """Return the rows of these keys, or all Rows that there are; where given, as they were before a commit."""
        stored, old = self.current[name], None if previous is None else previous.get(name)
        if keys is None:
            n = stored.n_rows if old is None else old.n_rows
            found, values = stored.keys[:n].copy(), stored.values[:n].copy()
        else:
            found, values = keys, self._values_of(name, keys, stored.find(keys))
        if old is not None and len(old.keys):
            where = places_among(old.keys, found)
            values[where >= 0] = old.values[where[where >= 0]]
        return values if keys is not None else Rows(found, values)

    def after(self, updates: Sequence[Mapping[str, Any]]) -> dict[str, Change]:
        """Return what these updates change, in this order; changes nothing itself."""
        names = dict.fromkeys(name for update in updates for name in update if name in self)
        return {name: self._change(name, [update[name] for update in updates if name in update]) for name in names}

    def write(self, changes: Mapping[str, Change]) -> dict[str, Stored]:
        """Write changes to the rows; return what `current` is after them."""
        return {**self.current, **{name: self._written(name, change) for name, change in changes.items()}}

    def undo(self, changes: Mapping[str, Change]) -> None:
        """Take back what `write` has done, however far it came; its result was not assigned."""
        for name, (_, rows, before, _, _) in changes.items():
            stored, old = self.current[name], rows >= 0
            _put(stored, rows[old], Numbers(*_where(before, old)))
            # places that the index gave to new rows would be in the way of others
            index = index_of(stored.keys[: stored.n_rows], len(stored.keys))
            self.current[name] = stored._replace(places=index)

    def state(self) -> tuple[dict[str, np.ndarray], list[Any]]:
        """Return copies of all arrays by key, and a document for JSON."""
        arrays: dict[str, np.ndarray] = {}
        for name, stored in self.current.items():
            n = stored.n_rows
            arrays |= {f"keys/{name}": stored.keys[:n].copy(), f"values/{name}": stored.values[:n].copy()}
            arrays |= {f"slots/{slot}/{name}": array[:n].copy() for slot, array in stored.slots.items()}
            if len(stored.counts):
                arrays[f"counts/{name}"] = stored.counts[:n].copy()
        described = [[name, spec.as_dict(), self.optimizers[name].as_dict()] for name, spec in self.specs.items()]
        return arrays, described

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], described: Sequence[Any]) -> Tables:
        """Return the tables that state described, with copies of the arrays."""
        specs = {name: SparseTable(**spec) for name, spec, _ in described}
        tables = cls(specs, {name: from_dict(optimizer) for name, _, optimizer in described})
        for name, empty in tables.current.items():
            keys = stored_keys(arrays[f"keys/{name}"])
            values, shape = arrays[f"values/{name}"], (len(keys), specs[name].n_columns)
            slots = {slot: arrays[f"slots/{slot}/{name}"] for slot in empty.slots}
            counts = arrays[f"counts/{name}"] if len(empty.counts) else empty.counts
            # before there is room for so many rows of a width that the document gives
            _check_numbers(name, values, *slots.values(), shape=shape)
            if len(empty.counts) and (counts.shape != shape[:1] or counts.dtype != np.int32):
                raise ValueError(f"{name!r} has counts of {counts.dtype} of shape {counts.shape}")
            tables.current[name] = _filled(empty, keys, Numbers(values, slots, counts))
        return tables

    def _empty(self, name: str) -> Stored:
        optimizer, width = self.optimizers[name], self.specs[name].n_columns
        slots = {slot: np.empty((0, width)) for slot in optimizer.slot_names}
        # one room at least, so that its length tells whether there are counts
        counts = np.empty(int(optimizer.counts), np.int32)
        return Stored(new_index(0), np.empty(0, np.int64), np.empty((0, width)), slots, counts, 0)

    def _values_of(self, name: str, keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
        stored, new = self.current[name], rows < 0
        if not stored.n_rows:
            return self.specs[name].first_rows(keys)
        values = stored.values.take(rows, axis=0, mode="clip")
        if new.any():
            values[new] = self.specs[name].first_rows(keys[new])
        return values

    def _change(self, name: str, updates: Sequence[Rows]) -> Change:
        keys, places = updates[0].keys, None
        if len(updates) > 1:
            keys, places = distinct(np.concatenate([update.keys for update in updates]))
        rows = self.current[name].find(keys)
        before = self._numbers(name, keys, rows)
        after = Numbers(before.values.copy(), {slot: a.copy() for slot, a in before.slots.items()}, before.counts + 1)
        if places is None:
            self._apply(name, after, np.concatenate([update.values for update in updates]))
        else:
            after.counts[...] = before.counts
            for update, where in zip(updates, np.split(places, np.cumsum([len(u.keys) for u in updates])[:-1])):
                some = Numbers(*_where(after, where))
                some.counts[...] += 1
                self._apply(name, some, update.values)
                _put(after, where, some)
        return Change(keys, rows, before, after, self.current[name].n_rows)

    def _apply(self, name: str, numbers: Numbers, update: np.ndarray) -> None:
        counts: int | np.ndarray = 1
        if self.optimizers[name].counts:
            counts = np.repeat(numbers.counts.astype(np.float64), update.shape[1])
        slots = {slot: array.reshape(-1) for slot, array in numbers.slots.items()}
        self.optimizers[name].apply(numbers.values.reshape(-1), slots, update.reshape(-1), counts)

    def _numbers(self, name: str, keys: np.ndarray, rows: np.ndarray) -> Numbers:
        """Return what there is of these keys, for new ones as before the first update."""
        stored, optimizer, new = self.current[name], self.optimizers[name], rows < 0
        values = self._values_of(name, keys, rows)
        first = optimizer.slots(values[new].reshape(-1))
        slots = {}
        for slot, array in stored.slots.items():
            slots[slot] = np.empty_like(values)
            slots[slot][~new] = array[rows[~new]]
            slots[slot][new] = first[slot].reshape(-1, values.shape[1])
        counts = np.zeros(len(keys) if optimizer.counts else 0, np.int32)
        if optimizer.counts:
            counts[~new] = stored.counts[rows[~new]]
        return Numbers(values, slots, counts)

    def _written(self, name: str, change: Change) -> Stored:
        stored, rows, new = self.current[name], change.rows.copy(), change.rows < 0
        n_rows = stored.n_rows + int(new.sum())
        if n_rows > LARGEST_TABLE:
            raise StoreError(f"A shard holds {LARGEST_TABLE} rows of {name!r} at most. Open a store of more shards.")
        stored = _with_room(stored, n_rows)
        fresh = np.empty(n_rows - stored.n_rows, np.int64)
        kernels.key_index.insert(stored.places, stored.keys, stored.n_rows, change.keys[new], fresh)
        rows[new] = fresh
        _put(stored, rows, change.after)
        return stored._replace(n_rows=n_rows)


def read_previous(arrays: Mapping[str, np.ndarray], name: str, n_rows: int, current: Stored) -> Previous:
    """Return what a state holds of the commit before; a ValueError if it does not fit the rows that there are."""
    keys, values = stored_keys(arrays[f"previous_keys/{name}"]), arrays[f"previous/{name}"]
    _check_numbers(name, values, shape=(len(keys), current.values.shape[1]))
    return Previous(keys.copy(), values.copy(), as_whole(n_rows, most=current.n_rows))


def _check_numbers(name: str, *given: np.ndarray, shape: tuple[int, int]) -> None:
    for array in given:
        if array.shape != shape or array.dtype != np.float64:
            raise ValueError(f"{name!r} has {array.dtype} of shape {array.shape}, not float64 of shape {shape}")


def previous_of(changes: Mapping[str, Change], tables: Tables) -> dict[str, Previous]:
    """Return what changes replaced, for those who still read the state before."""
    nothing = np.empty(0, np.int64)
    found = {}
    for name, stored in tables.current.items():
        change = changes.get(name)
        if change is None:
            found[name] = Previous(nothing, np.empty((0, stored.values.shape[1])), stored.n_rows)
        else:
            found[name] = Previous(change.keys, change.before.values, change.n_rows)
    return found


def warm_up() -> None:
    """Load what tables need, which takes a second or two in a new process."""
    tables = Tables({"t": SparseTable(initial="normal")}, {"t": Add()})
    keys = np.arange(4)
    tables.current = tables.write(tables.after([{"t": Rows(keys, np.ones((4, 1)))}]))
    tables.read("t", keys, None)
    distinct(keys)


def _with_room(stored: Stored, n_rows: int) -> Stored:
    """Return the same rows with room for so many, in new arrays where they have to grow."""
    room = len(stored.keys)
    if n_rows <= room:
        return stored
    room = max(n_rows, room + room // 2, 64)

    def grown(array: np.ndarray) -> np.ndarray:
        larger = np.empty((room, *array.shape[1:]), array.dtype)
        larger[: stored.n_rows] = array[: stored.n_rows]
        return larger

    keys = grown(stored.keys)
    index = index_of(keys[: stored.n_rows], room) if len(stored.places) < 2 * room else stored.places
    counts = grown(stored.counts) if len(stored.counts) else stored.counts
    slots = {slot: grown(array) for slot, array in stored.slots.items()}
    return Stored(index, keys, grown(stored.values), slots, counts, stored.n_rows)


def _filled(empty: Stored, keys: np.ndarray, numbers: Numbers) -> Stored:
    """Return a table with copies of these rows."""
    stored = _with_room(empty, len(keys))
    stored.keys[: len(keys)] = keys
    _put(stored, slice(len(keys)), numbers)
    return stored._replace(places=index_of(keys, len(stored.keys)), n_rows=len(keys))


def _where(numbers: Numbers, where: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    slots = {slot: array[where] for slot, array in numbers.slots.items()}
    return numbers.values[where], slots, numbers.counts[where] if len(numbers.counts) else numbers.counts


def _put(target: Stored | Numbers, rows: np.ndarray | slice, numbers: Numbers) -> None:
    target.values[rows] = numbers.values
    for slot, array in target.slots.items():
        array[rows] = numbers.slots[slot]
    if len(target.counts):
        target.counts[rows] = numbers.counts
