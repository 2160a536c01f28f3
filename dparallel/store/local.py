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
from dparallel.store.layout import FullUpdate, Layout, Reply, initial_values, pack, unpack
from dparallel.store.optimizers import Optimizer
from dparallel.store.shard import ParameterShard, Update

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
        values = initial_values(parameters)
        layout = Layout.even({name: array.shape for name, array in values.items()}, n_shards)
        parts = layout.split(values)
        shards = [ParameterShard(part, optimizers, staleness, n_partitions) for part in parts]
        return cls(layout, shards, deadline_s)

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
    ) -> Reply:
        """Push updates in their order, then read what a step of this clock reads.

        Parameters
        ----------
        updates : list of FullUpdate; those that came before are left out
        names : names of arrays to read; None for all, () for none
        clock : int, clock of the step that will use what is read, which waits until it may start; None for now
        wait_s : float, seconds to wait for that at most; None for the deadline

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
        wanted = self._wanted(names)
        self._push(updates)
        if clock is not None:
            self._wait(clock, wait_s)
        return self._read(wanted, clock)

    def exchange_soon(
        self,
        updates: Sequence[FullUpdate] = (),
        names: Iterable[str] | None = None,
        clock: int | None = None,
        wait_s: float | None = None,
    ) -> Future[Reply]:
        """Do what exchange does, without waiting for the gate: pushes at once, and a thread waits only if it must."""
        future: Future[Reply] = Future()
        future.set_running_or_notify_cancel()
        try:
            wanted = self._wanted(names)
            self._push(updates)
            if clock is None or self._is_open(clock):
                future.set_result(self._read(wanted, clock))
            else:
                self._start_waiting(future, wanted, clock, wait_s)
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

    def _wanted(self, names: Iterable[str] | None) -> tuple[str, ...]:
        if names is None:
            return self.layout.names
        wanted = (names,) if isinstance(names, str) else tuple(names)
        self.layout.check_names(wanted)
        return wanted

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

    def _read(self, names: tuple[str, ...], clock: int | None) -> Reply:
        parameters, rooms = self.layout.rooms(names)
        turns = iter(rooms)

        def pull(station: _Station) -> tuple[int, dict[int, int]]:
            room = next(turns)
            snapshot = station.shard.pull(room, clock, into=room)
            if station is not self._last:
                return snapshot.version, {}
            self._n_pulls += bool(names)
            return snapshot.version, station.shard.progress()

        read = self._through(pull)
        return Reply(parameters, tuple(version for version, _ in read), read[-1][1])

    def _start_waiting(self, future: Future[Reply], names: tuple[str, ...], clock: int, wait_s: float | None) -> None:
        def fulfil() -> None:
            try:
                self._wait(clock, wait_s)
                future.set_result(self._read(names, clock))
            except Exception as error:
                future.set_exception(error)
            finally:
                with self._threads:
                    self._waiting.discard(thread)

        thread = Thread(target=fulfil, name="dparallel-store-gate", daemon=True)
        with self._threads:
            thread.start()
            self._waiting.add(thread)
