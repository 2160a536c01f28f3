"""The parameter store of one process: shards behind locks, for threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Condition, Lock, RLock, Thread, current_thread
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np

from dparallel.errors import NotYet, StoreUnavailable
from dparallel.store.compression import Residuals
from dparallel.store.layout import FullUpdate, Layout, Reply, initial_values
from dparallel.store.optimizers import Optimizer
from dparallel.store.rows import Asked, SparseTable
from dparallel.store.shard import ParameterShard
from dparallel.store.states import pack, unpack
from dparallel.store.updates import Snapshot, Update

Result = TypeVar("Result")


class _Station(NamedTuple):
    """A shard with the lock that guards it and a condition of that lock."""

    lock: Any
    condition: Condition
    shard: ParameterShard


class LocalTransport:
    """Exchanges with shards in this process; every method may be called by any thread.

    Parameters
    ----------
    layout : Layout
    shards : list of ParameterShard, one for each of the layout's, with the same staleness; used by nobody else
    deadline_s : float, seconds that an exchange waits for slower partitions unless it says otherwise

    Notes
    -----
    One lock per shard. Each call goes through all shards in their order and takes the lock of the next before it lets
    go of the last, so that no call overtakes another: all shards see the same order of updates, and what one call
    reads, a snapshot too, is a state that the whole store has had. Large updates of several threads still overlap.

    So the last shard is behind the others, and a step that may start there may start everywhere: the gate waits on its
    condition alone, which every push that lets the slowest partition advance notifies under the lock.
    """

    def __init__(self, layout: Layout, shards: Sequence[ParameterShard], deadline_s: float = 10.0):
        if len(shards) != layout.n_shards:
            raise ValueError(f"The layout has {layout.n_shards} shards, and {len(shards)} were given.")
        self.layout = layout
        self.deadline_s = deadline_s
        self.residuals = Residuals()
        # `with` an RLock, unlike a Condition's own, is whole under Ctrl-C; and only its owner can release it
        locks = [RLock() for _ in shards]
        self._stations = [_Station(lock, Condition(lock), shard) for lock, shard in zip(locks, shards)]
        self._last = self._stations[-1]
        self._is_closed = False
        self._waiting: set[Thread] = set()
        self._threads = Lock()  # a thread is in _waiting once it runs
        self._n_pushes = self._n_pulls = self._n_duplicates = 0

    @classmethod
    def create(
        cls,
        parameters: Mapping[str, Any],
        optimizers: Mapping[str, Optimizer],
        *,
        staleness: int | None = None,
        n_partitions: int | None = None,
        n_shards: int = 1,
        deadline_s: float = 10.0,
    ) -> LocalTransport:
        """Return a new store: parameters as of layout.initial_values, an optimizer for each, the rest as above."""
        return cls(*new_shards(parameters, optimizers, staleness, n_partitions, n_shards), deadline_s)

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, np.ndarray], document: Mapping[str, Any], deadline_s: float = 10.0
    ) -> LocalTransport:
        """Return a store that goes on from what `state` returned.

        Raises
        ------
        CheckpointError
            If that is no store's.
        """
        layout, states = unpack(arrays, document)
        return cls(layout, [ParameterShard.from_state(*state) for state in states], deadline_s)

    def exchange(
        self,
        updates: Sequence[FullUpdate] = (),
        names: Iterable[str] | None = None,
        clock: int | None = None,
        wait_s: float | None = None,
        keys: Mapping[str, Any] | None = None,
        known: Reply | None = None,
    ) -> Reply:
        """Push updates in their order, then read what a step of this clock reads.

        Parameters
        ----------
        updates : list of FullUpdate; those that came before are left out
        names : names of arrays to read; None for all, () for none
        clock : int, clock of the step that will use what is read, which waits until it may start; None for now
        wait_s : float, seconds to wait for that at most; None for the deadline
        keys : dict of str to array-like of shape (n,), whole numbers; which rows of sparse tables to read, None for all
        known : Reply to the same question; here nothing travels, so it is read again

        Returns
        -------
        reply : Reply

        Raises
        ------
        NotYet
            If the step may not start in time. The updates are applied.
        StoreError
            If a name, shape or kind does not fit; nothing is applied then.
        ConsistencyError
            If an update may not come now, or what the clock reads was superseded.
        StoreUnavailable
            If the store was closed, even while this waits.
        """
        wanted, asked = self.layout.reading(names, keys)
        self._push(updates)
        if clock is not None:
            self._wait(clock, wait_s)
        return self._read(wanted, clock, asked)

    def exchange_soon(
        self,
        updates: Sequence[FullUpdate] = (),
        names: Iterable[str] | None = None,
        clock: int | None = None,
        wait_s: float | None = None,
        keys: Mapping[str, Any] | None = None,
    ) -> Future[Reply]:
        """Do what exchange does, without waiting for the gate: pushes at once, and a thread waits only if it must."""
        future: Future[Reply] = Future()
        future.set_running_or_notify_cancel()
        try:
            wanted, asked = self.layout.reading(names, keys)
            self._push(updates)
            if clock is None or self._is_open(clock):
                future.set_result(self._read(wanted, clock, asked))
            else:
                self._start_waiting(future, wanted, clock, wait_s, asked)
        except Exception as error:
            future.set_exception(error)
        return future

    def progress(self) -> dict[int, int]:
        """Return the clock of each partition's next step."""
        return self._through(lambda station: station.shard.progress())[-1]

    def finish(self, partition: int) -> None:
        """Let nobody wait for this partition any more."""

        def finish(station: _Station) -> None:
            station.shard.finish(partition)
            station.condition.notify_all()

        self._through(finish)

    def statistics(self) -> dict[str, Any]:
        """Return counts of pushes, pulls and duplicates, and the histogram of staleness."""
        histogram = self._through(lambda station: station.shard.staleness.copy())[-1]
        return {
            "pushes": self._n_pushes,
            "pulls": self._n_pulls,
            "duplicates": self._n_duplicates,
            "staleness": histogram,
        }

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return a state that the whole store has had: arrays by key, copied, and a document for JSON."""
        return pack(self.layout, self._through(lambda station: station.shard.state()))

    def close(self) -> None:
        """Let every call raise StoreUnavailable from now on, those too that wait; again is the same as once."""
        self._is_closed = True
        for lock, condition, _ in self._stations:
            with lock:
                condition.notify_all()
        with self._threads:
            waiting = tuple(self._waiting)
        for thread in waiting:
            if thread is not current_thread():
                thread.join()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A parameter store of this process cannot travel to another. "
            "Open a dask.distributed.Client before the store, and it lives on the cluster."
        )

    def _through(self, action: Callable[[_Station], Result]) -> list[Result]:
        """Call action on each shard in turn, under its lock, and let no other call overtake; see the class."""
        results = []
        before: _Station | None = None
        try:
            for station in self._stations:
                station.lock.acquire()
                if before is not None:
                    before.lock.release()
                before = station
                if self._is_closed:
                    raise StoreUnavailable(
                        "The parameter store was closed. Open a new one, or use it inside its with block."
                    )
                results.append(action(station))
            self._last.lock.release()
        except BaseException:
            # an error, or Ctrl-C just before or after a lock was taken: give back whatever this thread owns
            for station in self._stations:
                with suppress(RuntimeError):
                    station.condition.notify_all()
                    station.lock.release()
            raise
        return results

    def _push(self, updates: Sequence[FullUpdate]) -> None:
        # all are cut, and thereby checked, before the first is applied
        for update, parts in [(update, self.layout.split(update.values)) for update in updates]:
            bases = update.versions or (None,) * len(parts)
            messages = iter([Update(update.step, part, base) for part, base in zip(parts, bases, strict=True)])

            def push(station: _Station, messages: Iterator[Update] = messages) -> None:
                clock = station.shard.clock
                is_new = station.shard.push(next(messages))
                if station is self._last:
                    self._n_pushes += is_new
                    self._n_duplicates += not is_new
                    if station.shard.clock != clock:
                        station.condition.notify_all()

            self._through(push)

    def _is_open(self, clock: int) -> bool:
        with self._last.lock:
            return self._last.shard.ready(clock)

    def _wait(self, clock: int, wait_s: float | None) -> None:
        lock, condition, shard = self._last
        with lock:
            if shard.ready(clock):
                return
            patience_s = self.deadline_s if wait_s is None else wait_s
            end = time.monotonic() + patience_s
            while not (shard.ready(clock) or self._is_closed):
                remaining = end - time.monotonic()
                if remaining <= 0:
                    raise NotYet(
                        f"A step of clock {clock} may not start after {patience_s:g} s of waiting: the slowest "
                        f"partition has completed {shard.clock} steps. Ask again, or finish() a partition that is done."
                    )
                condition.wait(remaining)

    def _read(self, names: tuple[str, ...], clock: int | None, asked: Asked | None) -> Reply:
        tables = self.layout.tables
        parameters, rooms = self.layout.rooms([name for name in names if name not in tables] if tables else names)
        turns = iter(rooms)
        parts = iter(asked.parts if asked is not None else [None] * len(rooms))

        def pull(station: _Station) -> tuple[Snapshot, dict[int, int]]:
            room = next(turns)
            snapshot = station.shard.pull(names if tables else room, clock, into=room, keys=next(parts))
            if station is not self._last:
                return snapshot, {}
            self._n_pulls += bool(names)
            return snapshot, station.shard.progress()

        read = self._through(pull)
        if tables:
            parameters |= self.layout.join([only(tables, snapshot.values or {}) for snapshot, _ in read], asked)
            parameters = only(names, parameters)
        return Reply(parameters, tuple(snapshot.version for snapshot, _ in read), read[-1][1])

    def _start_waiting(
        self, future: Future[Reply], names: tuple[str, ...], clock: int, wait_s: float | None, asked: Asked | None
    ) -> None:
        def fulfil() -> None:
            try:
                self._wait(clock, wait_s)
                future.set_result(self._read(names, clock, asked))
            except Exception as error:
                future.set_exception(error)
            finally:
                with self._threads:
                    self._waiting.discard(thread)

        thread = Thread(target=fulfil, name="dparallel-store-gate", daemon=True)
        with self._threads:
            thread.start()
            self._waiting.add(thread)


def new_shards(
    parameters: Mapping[str, Any],
    optimizers: Mapping[str, Optimizer],
    staleness: int | None,
    n_partitions: int | None,
    n_shards: int,
    first_rows: Mapping[str, Any] | None = None,
) -> tuple[Layout, list[ParameterShard]]:
    """Return the shards that a store begins with, and which has what.

    Parameters
    ----------
    parameters : as of layout.initial_values
    first_rows : dict of str to (keys, rows), which tables begin with
    """
    values = initial_values(parameters)
    tables = {name: given for name, given in parameters.items() if isinstance(given, SparseTable)}
    shapes = {name: tables[name].shape if name in tables else values[name].shape for name in parameters}
    layout = Layout.even(shapes, n_shards)
    parts: Sequence[Mapping[str, Any]] = layout.split(values)
    given = zip(parts, layout.split(first_rows or {}), strict=True)
    return layout, [ParameterShard(part, optimizers, staleness, n_partitions, tables, rows) for part, rows in given]


def only(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return some of the values, in the order of the names."""
    return {name: values[name] for name in names if name in values}
