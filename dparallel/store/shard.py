"""ParameterShard: ranges of named arrays, their slots, versions and applied steps, which change together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dparallel.checkpoint import as_whole
from dparallel.errors import CheckpointError, ConsistencyError
from dparallel.store.columns import Column, Columns, as_range
from dparallel.store.consistency import Clocks, Step, as_step
from dparallel.store.optimizers import Optimizer
from dparallel.store.packed import unpacked
from dparallel.store.rows import SparseTable
from dparallel.store.tables import Change, Previous, Tables, previous_of, read_previous
from dparallel.store.updates import Snapshot, Update, pack_update, unpack_update


class _Commit(NamedTuple):
    """The values as they were before the last clock was committed (staleness 0), and the rows that it replaced."""

    version: int
    values: dict[str, np.ndarray]
    rows: dict[str, Previous]


class ParameterShard:
    """One shard of a parameter store.

    Parameters
    ----------
    values : dict of str to ndarray of shape (n,), the shard's range of each array; copied as float64
    optimizers : dict of str to Optimizer, one for each array
    staleness, n_partitions : int or None, as of Clocks
    tables : dict of str to SparseTable, under other names, with optimizers too
    rows : dict of str to Rows that they begin with

    Attributes
    ----------
    version : int, updates applied
    has_tables : bool; then an update may be larger than the shard
    staleness : dict of int to int; how many updates found so many others applied since the version they were computed
        from. With a staleness of 0 the updates of a clock are one commit, and this is 0 for each of them.

    Notes
    -----
    Not safe for threads: the caller holds a lock, or is the only thread. Reading counts too, since the buffers of
    values that were replaced are written to again.

    With a staleness of 0 the updates of a clock wait until every unfinished partition has sent its own, and are then
    applied in the order of the partitions, whatever the order of arrival. The values before are kept for one more
    clock, so that a step that is run again reads what it read before. Two versions suffice: no partition goes on
    before all shards have committed, so one shard leads another by at most one clock.

    New values are computed beside the current ones and take their place by assignments alone: an error or Ctrl-C
    half-way leaves the old state. That costs twice the memory of values and slots, and three times that of the values
    with a staleness of 0. Rows of sparse tables are written in place: what they were before is kept until the change is
    whole, and the next call puts it back if it never was; with a staleness of 0 it is what the previous clock reads.
    """

    def __init__(
        self,
        values: Mapping[str, np.ndarray],
        optimizers: Mapping[str, Optimizer],
        staleness: int | None = None,
        n_partitions: int | None = None,
        tables: Mapping[str, SparseTable] | None = None,
        rows: Mapping[str, Any] | None = None,
    ):
        specs = tables or {}
        dense = {name: optimizer for name, optimizer in optimizers.items() if name not in specs}
        self._begin(Columns(values, dense), Tables(specs, optimizers, rows), Clocks(staleness, n_partitions))

    def _begin(self, columns: Columns, tables: Tables, clocks: Clocks) -> None:
        self._columns = columns
        self._tables = tables
        self.has_tables = bool(tables.specs)
        self._undo: dict[str, Change] | None = None
        self._clocks = clocks
        self._is_synchronous = clocks.staleness == 0
        self._previous: _Commit | None = None
        self._pending: dict[int, Update] = {}
        self.version = 0
        self.staleness: dict[int, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays and tables."""
        return (*self._columns.current, *self._tables.current)

    @property
    def size_bytes(self) -> int:
        """Bytes of the arrays' values alone, and of the tables with all that belongs to them."""
        return self._tables.nbytes + sum(column.values.nbytes for column in self._columns.current.values())

    @property
    def clock(self) -> int | None:
        """Steps that every unfinished partition has completed; None without a staleness."""
        return None if self._clocks.staleness is None else self._clocks.slowest

    def push(self, update: Update, *, is_owned: bool = False) -> bool:
        """Apply an update, once however often it comes.

        Parameters
        ----------
        update : Update
        is_owned : bool; nobody will change its arrays, so they need no copy where they have to wait

        Returns
        -------
        is_new : bool, False if the step came before; then nothing changes

        Raises
        ------
        StoreError
            If a name, a length or the partition is none of the shard's.
        ConsistencyError
            If the step may not come now.
        """
        step = as_step(update.step)
        if self._undo is not None:
            self._take_back()
        given = self._checked(unpacked(update.values))
        if not self._clocks.is_new(step):
            return False
        if not self._is_synchronous:
            self._apply([Update(step, given, update.base)], step)
            return True
        if not is_owned:
            given = {name: array.copy() for name, array in given.items()}
        pending = {**self._pending, int(step[0]): Update(step, given, update.base)}
        if self._clocks.unfinished <= pending.keys():
            self._apply([pending[partition] for partition in sorted(pending)], step)
        else:
            self._clocks.record(step)
            self._pending = pending
        return True

    def ready(self, clock: int | None = None) -> bool:
        """Tell whether a step of this clock may start, so that `pull` has what it reads."""
        return clock is None or self._clocks.may_start(clock)

    def pull(
        self,
        names: Iterable[str] | None = None,
        clock: int | None = None,
        into: Mapping[str, np.ndarray] | None = None,
        keys: Mapping[str, np.ndarray] | None = None,
        known: int | None = None,
    ) -> Snapshot:
        """Copy the values that a step of this clock reads.

        Parameters
        ----------
        names : names of arrays; None for all
        clock : int, clock of the step; None for the newest values
        into : dict of str to ndarray of shape (n,), float64, to copy arrays to; None for new ones
        keys : dict of str to ndarray of shape (n,), int64; which rows of the tables, all there are of those not named
        known : int, version whose values are not wanted again

        Returns
        -------
        snapshot : Snapshot

        Raises
        ------
        ConsistencyError
            If the clock is not ready, or its values were superseded.
        StoreError
            If there is no array of such a name.
        """
        if self._undo is not None:
            self._take_back()
        wanted = self.names if names is None else tuple(names)
        tables = self._tables.specs
        self._columns.check_names([name for name in wanted if name not in tables] if tables else wanted)
        version, values, rows, served = self._version_at(clock)
        if version == known:
            return Snapshot(version, served, None)
        found: dict[str, Any] = {}
        for name in wanted:
            if name in tables:
                found[name] = self._tables.read(name, (keys or {}).get(name), rows)
            else:
                found[name] = np.empty_like(values[name]) if into is None else into[name]
                np.copyto(found[name], values[name])
        return Snapshot(version, served, found)

    def finish(self, partition: int) -> None:
        """Let nobody wait for this partition any more; its steps that have come are kept.

        Raises
        ------
        StoreError
            If there is no such partition.
        """
        if self._undo is not None:
            self._take_back()
        self._clocks.check_partition(partition)
        if self._pending and self._clocks.unfinished - {partition} <= self._pending.keys():
            self._apply([self._pending[number] for number in sorted(self._pending)], finished=partition)
        else:
            self._clocks.finish(partition)

    def progress(self) -> dict[int, int]:
        """Return the clock of each partition's next step."""
        return self._clocks.progress()

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return all that the shard is: copies of its arrays by key, and a document for JSON. See from_state."""
        if self._undo is not None:
            self._take_back()
        arrays, document = self._columns.state()
        rows, described = self._tables.state()
        document |= {"tables": described, "previous_rows": []} if described else {}
        if self._previous is not None:
            arrays |= {f"previous/{name}": values.copy() for name, values in self._previous.values.items()}
            for name, (keys, values, n_rows) in self._previous.rows.items():
                arrays |= {f"previous_keys/{name}": keys.copy(), f"previous/{name}": values.copy()}
                document["previous_rows"].append([name, n_rows])
        pending = [pack_update(update) for update in self._pending.values()]
        for held in (rows, *(arrays_of for arrays_of, _ in pending)):
            arrays |= held
        document |= {
            "version": self.version,
            "previous": None if self._previous is None else self._previous.version,
            "pending": [rest for _, rest in pending],
            "staleness": [list(item) for item in self.staleness.items()],
            "clocks": self._clocks.state(),
        }
        return arrays, document

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> ParameterShard:
        """Return a shard that goes on, bit for bit, from what `state` returned; the arrays are copied.

        Raises
        ------
        CheckpointError
            If they describe no shard.
        """
        shard = cls.__new__(cls)
        try:
            tables = Tables.from_state(arrays, document.get("tables", ()))
            shard._begin(Columns.from_state(arrays, document), tables, Clocks.from_state(document["clocks"]))
            shard._restore(arrays, document)
        except Exception as error:  # a document may hold anything
            raise CheckpointError(
                f"The state holds no shard of a parameter store that this version of dparallel reads: {error!r}."
            ) from error
        return shard

    def _restore(self, arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> None:
        if document["previous"] is not None:
            lengths = {name: len(column.values) for name, column in self._columns.current.items()}
            before = {name: as_range(name, arrays[f"previous/{name}"], n).copy() for name, n in lengths.items()}
            rows = {}
            for name, n_rows in document.get("previous_rows", ()):
                rows[name] = read_previous(arrays, name, n_rows, self._tables.current[name])
            self._previous = _Commit(as_whole(document["previous"]), before, rows)
        for described in document["pending"]:
            update = unpack_update(arrays, described)
            self._pending[as_whole(update.step[0])] = replace(update, values=self._checked(update.values))
        self.version = as_whole(document["version"])
        self.staleness = {as_whole(lag): as_whole(count) for lag, count in document["staleness"]}

    def _checked(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.has_tables:
            return self._columns.checked(values)
        rows = {name: self._tables.checked(name, given) for name, given in values.items() if name in self._tables}
        return {**self._columns.checked({name: values[name] for name in values if name not in rows}), **rows}

    def _take_back(self) -> None:
        """Take back what a change that was never whole has written."""
        self._tables.undo(self._undo or {})
        self._undo = None

    def _version_at(
        self, clock: int | None
    ) -> tuple[int, Mapping[str, np.ndarray], Mapping[str, Previous] | None, int | None]:
        """Return version, values, replaced rows and clock of what a step of this clock reads."""
        current = self.clock
        if not self.ready(clock):
            raise ConsistencyError(
                f"A step of clock {clock} may not start yet: the slowest partition has completed {current} steps."
            )
        if not self._is_synchronous or clock is None or current is None or clock >= current:
            return self.version, {name: column.values for name, column in self._columns.current.items()}, None, current
        if clock == current - 1 and self._previous is not None:
            return self._previous.version, self._previous.values, self._previous.rows, clock
        raise ConsistencyError(
            f"What a step of clock {clock} reads was superseded: every partition has completed {current} steps. "
            "Go on from the clocks in progress()."
        )

    def _apply(self, updates: list[Update], step: Step | None = None, finished: int | None = None) -> None:
        """Apply updates one after another, and record a step or finish a partition with them: all or nothing."""
        given: list[Mapping[str, Any]] = [update.values for update in updates]
        changes = self._tables.after(given) if self.has_tables else {}
        if self.has_tables:
            given = [{name: values[name] for name in values if name not in self._tables} for values in given]
        fresh = self._columns.after(given)
        before, superseded = self._columns.current, self._previous
        current = {**before, **fresh}
        previous = None
        if self._is_synchronous:
            replaced = previous_of(changes, self._tables)
            previous = _Commit(self.version, {name: column.values for name, column in before.items()}, replaced)
        version = self.version + len(updates)
        staleness = self._counted(updates)
        rows = self._tables.current
        if changes:
            self._undo = changes
            rows = self._tables.write(changes)
        # Ctrl-C is handled at calls and jumps. The two methods make none once they have begun to change something, and
        # only assignments follow them: the change is whole or has not begun.
        if step is not None:
            self._clocks.record(step)
        if finished is not None:
            self._clocks.finish(finished)
        self._columns.current = current
        self._tables.current = rows
        self._undo = None
        self._previous = previous
        self._pending = {}
        self.version = version
        self.staleness = staleness
        self._recycle(fresh, before, superseded)

    def _counted(self, updates: list[Update]) -> dict[int, int]:
        """Return the histogram of staleness after these updates, which are one commit."""
        counted = self.staleness.copy()
        for update in updates:
            if update.base is not None:
                # a base above the version was read before the store went back to a snapshot
                lag = max(self.version - update.base, 0)
                counted[lag] = counted.get(lag, 0) + 1
        return counted

    def _recycle(self, fresh: Mapping[str, Column], before: Mapping[str, Column], superseded: _Commit | None) -> None:
        """Hand back the buffers that nothing reads any more."""
        slots = {name: before[name].slots for name in fresh}
        values: dict[str, np.ndarray] = {}
        if not self._is_synchronous:
            values = {name: before[name].values for name in fresh}
        elif superseded is not None:
            # an array that the commit before left alone is still read as the previous one
            values = {name: array for name, array in superseded.values.items() if array is not before[name].values}
        self._columns.reuse(values, slots)
