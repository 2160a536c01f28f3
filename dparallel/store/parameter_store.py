"""The public parameter store: named arrays on the workers of a cluster, or in this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

import dask
import numpy as np

from dparallel import checkpoint as files
from dparallel import compat, place
from dparallel.errors import StoreError, StoreUnavailable, StoreWarning, warn
from dparallel.store.handle import Handle
from dparallel.store.hosting import Hosting
from dparallel.store.layout import Layout, initial_values
from dparallel.store.local import LocalTransport, new_shards
from dparallel.store.messages import Route, State
from dparallel.store.optimizers import Optimizer, make_optimizer
from dparallel.store.remote import RemoteTransport
from dparallel.store.routing import LOST, Routing, new_board
from dparallel.store.shard import ParameterShard
from dparallel.store.snapshots import Snapshots, Writer, take
from dparallel.store.states import pack, unpack
from dparallel.store.stats import StoreStats, collect
from dparallel.store.supervisor import Supervisor

SHARD_BYTES = 4 * 2**20
CLOSE_S = 5.0
START_S = 90.0


class ParameterStore:
    """Named arrays of float64 that many tasks read and change at once.

    Parameters
    ----------
    parameters : dict of str to shape (int or tuple of int, zeros), or to ndarray with the first values, or to
        SparseTable
    optimizer : str, Optimizer, or dict of either by name of the array; what an update does to the values: "add", "sgd",
        "momentum", "nesterov", "adagrad", "adam", "ftrl"
    learning_rate : float, in place of the optimizer's own
    staleness : int or None. None: pushes and pulls go ahead freely. 0: all partitions go in step; the updates of a
        clock are applied together, in the order of the partitions. s > 0: a step of clock c starts once every
        partition has completed c - s steps.
    n_partitions : int, needed with a staleness
    n_shards : int or "auto": one for every 4 MiB of parameters, at most one per worker; with sparse tables, one per
        worker
    replicas : 0 or 1, second copies of each shard on another worker; "auto" is 1 on a cluster, 0 in one process
    checkpoint : path of a file that is written every ten seconds; read it with ParameterStore.restore
    rows : dict of str to (keys, rows), which sparse tables begin with, as of `push`; others begin without rows
    place : dparallel.place.Local or Cluster; None looks for the active Dask client

    Raises
    ------
    StoreError
        If an argument does not fit.
    StoreUnavailable
        If no worker has room.

    Notes
    -----
    *What a death costs.* With replicas=1 a push returns once two workers have it, so the death of any one worker loses
    nothing that was acknowledged; the lost copy is made again on another worker. With replicas=0, or if both
    copies die before that, the store goes back to its last snapshot. With staleness=None only the shards that died do:
    what was pushed to them since (dparallel.store.snapshot-every in Dask's config, one second) is lost. With a
    staleness all shards go back together and steps beyond raise RolledBack, whose `progress` says where each partition
    goes on: then nothing is lost, but is done again. With replicas=1, no checkpoint and staleness=None there are no
    snapshots, and the loss of both copies ends the store with StoreUnavailable.

    *Without a cluster* the shards live in this process, for threads.

    Examples
    --------
    >>> from dparallel import ParameterStore
    >>> with ParameterStore({"w": 3}, optimizer="add") as store:
    ...     handle = store.handle()
    ...     handle.push({"w": [1, 2, 3]}, step=(0, 0))
    ...     handle.push({"w": [1, 2, 3]}, step=(0, 0))  # the same step: counted once
    ...     handle.pull("w")
    array([1., 2., 3.])
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        optimizer: str | Optimizer | Mapping[str, str | Optimizer] = "sgd",
        learning_rate: float | None = None,
        staleness: int | None = None,
        n_partitions: int | None = None,
        n_shards: int | str = "auto",
        replicas: int | str = "auto",
        checkpoint: str | os.PathLike[str] | None = None,
        rows: Mapping[str, Any] | None = None,
        place: Any = None,
    ):
        values = initial_values(parameters)
        optimizers = _optimizers(parameters, optimizer, learning_rate)

        def begin(n_workers: int) -> tuple[Layout, list[State]]:
            n = _count_shards(n_shards, values, n_workers, len(values) < len(parameters))
            given = {**parameters, **values}
            layout, shards = new_shards(given, optimizers, staleness, n_partitions, n, rows)
            return layout, [shard.state() for shard in shards]

        self._open(begin, replicas, checkpoint, place)

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        *,
        replicas: int | str = "auto",
        checkpoint: str | os.PathLike[str] | None = None,
        place: Any = None,
    ) -> ParameterStore:
        """Return a store that goes on from a file that `snapshot` or checkpoint= wrote.

        Raises
        ------
        CheckpointError
            If the file is none of those, or damaged, or holds NaN or infinity. It names the file.
        """
        arrays, document = files.read(path)
        with files.parsing(path):
            files.require_finite(arrays)
            layout, states = _checked_states(arrays, document)
        return cls._of_states(layout, states, replicas, checkpoint, place)

    @classmethod
    def from_state(
        cls,
        arrays: Mapping[str, np.ndarray],
        document: Mapping[str, Any],
        *,
        replicas: int | str = "auto",
        checkpoint: str | os.PathLike[str] | None = None,
        place: Any = None,
    ) -> ParameterStore:
        """Return a store that goes on from what `state` returned; see `restore`."""
        return cls._of_states(*_checked_states(arrays, document), replicas, checkpoint, place)

    @classmethod
    def _of_states(
        cls, layout: Layout, states: list[State], replicas: int | str, path: Any, where: Any
    ) -> ParameterStore:
        store = cls.__new__(cls)
        store._open(lambda n_workers: (layout, states), replicas, path, where)
        return store

    def _open(self, begin: Any, replicas: int | str, path: Any, where: Any) -> None:
        if replicas not in ("auto", 0, 1):
            raise StoreError(f"replicas={replicas!r} must be 0, 1 or 'auto'.")
        self._stack = contextlib.ExitStack()
        self._close_cluster: Any = None
        self._supervisor: Supervisor | None = None
        self._transport: Any = None
        try:
            where = where or self._stack.enter_context(place.find(is_dask=True))
            if isinstance(where, place.Local):
                layout, states = begin(1)
                self._open_here(layout, states, replicas, path)
            else:
                self._open_cluster(where, begin, replicas, path)
        except BaseException:
            self.close()
            raise

    def _open_here(self, layout: Layout, states: list[State], replicas: int | str, path: Any) -> None:
        if replicas == 1:
            warn("replicas=1 needs a cluster of two workers; the store of one process has one copy.", StoreWarning)
        self._transport = LocalTransport.from_state(*pack(layout, states), deadline_s=_seconds("deadline", "8s"))
        self._stack.callback(self._transport.close)
        if path is not None:
            self._stack.callback(Writer(self._transport, path, _seconds("snapshot-every", "10s")).close)
        weakref.finalize(self, self._stack.close)

    def _open_cluster(self, where: place.Cluster, begin: Any, replicas: int | str, path: Any) -> None:
        client = where.client
        try:
            n_workers = len(compat.worker_threads(client, CLOSE_S))
        except OSError as error:
            raise StoreUnavailable(f"{LOST} ({error!r})") from error
        layout, states = begin(n_workers)
        n_replicas = 1 if replicas == "auto" else int(replicas)
        if n_replicas and n_workers < 2:
            warn(
                "The store's second copies need another worker than the only one there is, so there is none until one "
                "joins. Start more workers, or give replicas=0.",
                StoreWarning,
            )
        every_s = _seconds("snapshot-every", "1s" if path is None else "10s")
        staleness = states[0][1]["clocks"]["staleness"]
        snapshots = Snapshots(layout, every_s, path, keeps_old=staleness is not None)
        board, fleet = (where.take() if isinstance(where, Hosting) else None) or (new_board(), None)
        routing = Routing.of(board, [Route(0)] * layout.n_shards)
        supervisor = Supervisor(client, routing, n_replicas, staleness, snapshots, fleet)
        self._supervisor = supervisor
        self._loop = compat.event_loop(client)
        self._close_cluster = weakref.finalize(self, _close, supervisor, self._loop)
        self._on_loop(supervisor.start(states), START_S)
        self._transport = RemoteTransport(board, layout, routing.routes, _seconds("deadline", "8s"), client)

    def handle(self, compression: Any = None) -> Handle:
        """Return what tasks and threads pull and push with; see Handle for compression."""
        return Handle(self._transport, compression)

    def snapshot(self, path: str | os.PathLike[str]) -> None:
        """Write the state of all shards at one moment to a file, for `restore`."""
        files.write(path, *self.state())

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state of all shards at one moment: arrays by key, and a document for JSON."""
        if self._supervisor is None:
            return self._transport.state()
        for _ in range(100):
            states = self._on_loop(take(self._supervisor), START_S)
            if states is not None:
                return pack(self._transport.layout, [state for _, state in states])
            self.handle().progress()  # waits until all shards are served again, or raises
        raise self._transport.unavailable(None, "workers died again and again")

    def drain(self, worker: str) -> None:
        """Move all shards away from a worker (its address), so that it can be shut down without loss.

        Raises
        ------
        StoreError
            If there is no other worker.
        """
        if self._supervisor is not None:
            self._on_loop(self._supervisor.drain(worker), START_S)

    def spread(self) -> None:
        """Spread the shards evenly over the workers that there are now, those that have joined included.

        Shards move live, one after another: pushes to the one that moves wait some milliseconds, and with replicas=1
        two workers have whatever was acknowledged at every moment. Workers that run long tasks on all threads get none.
        There is nothing to spread in one process, nor where n_shards=1 and its worker stays.

        Examples
        --------
        >>> from dparallel import ParameterStore
        >>> with ParameterStore({"w": 3}) as store:
        ...     store.spread()  # for instance after cluster.scale
        """
        if self._supervisor is not None:
            self._on_loop(self._supervisor.spread(), START_S)

    def stats(self) -> StoreStats:
        """Return what the store has done so far."""
        if self._supervisor is None:
            return StoreStats(**self._transport.statistics())
        return self._on_loop(collect(self._supervisor), START_S)

    @property
    def n_failovers(self) -> int:
        """How often another copy, or a snapshot, has taken over a shard; known here, so that asking costs nothing."""
        supervisor = self._supervisor
        return 0 if supervisor is None else supervisor.failovers + supervisor.restores

    def progress(self) -> dict[int, int]:
        """Return the clock of each partition's next step."""
        return self.handle().progress()

    def pull(self, names: Any = None, clock: int | None = None, keys: Any = None) -> Any:
        """See Handle.pull."""
        return self.handle().pull(names, clock, keys)

    def push(self, values: Mapping[str, Any], step: tuple[int, int] | None = None) -> None:
        """See Handle.push."""
        self.handle().push(values, step)

    def close(self) -> None:
        """Free everything on the workers and the scheduler; again is the same as once."""
        if self._supervisor is not None and self._close_cluster is not None and self._close_cluster.detach():
            with contextlib.suppress(StoreUnavailable):  # then there is nothing left to free
                self._on_loop(self._supervisor.close(), CLOSE_S)
        self._stack.close()

    def __enter__(self) -> ParameterStore:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _on_loop(self, talk: Any, limit_s: float) -> Any:
        """Run a coroutine on the client's event loop."""
        if not self._loop.is_running():
            talk.close()
            raise StoreUnavailable(f"{LOST} (The client is closed.)")
        future = asyncio.run_coroutine_threadsafe(talk, self._loop)
        try:
            return future.result(limit_s)
        except (OSError, CancelledError) as error:
            raise StoreUnavailable(f"{LOST} ({error!r})") from error
        finally:
            future.cancel()


_closing: set[Future[None]] = set()


def _close(supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
    """Close the store of somebody who forgot to, without waiting: this may run on the event loop itself."""
    if not loop.is_closed():
        closing = asyncio.run_coroutine_threadsafe(supervisor.close(), loop)
        _closing.add(closing)  # nobody else holds it, and a task that nobody holds may be collected before it ends
        closing.add_done_callback(_closing.discard)


def _optimizers(values: Mapping[str, Any], spec: Any, learning_rate: float | None) -> dict[str, Optimizer]:
    if not isinstance(spec, Mapping):
        return dict.fromkeys(values, make_optimizer(spec, learning_rate))
    if spec.keys() != values.keys():
        raise StoreError(f"optimizer names {sorted(spec)}, and the store's arrays are {sorted(values)}.")
    return {name: make_optimizer(spec[name], learning_rate) for name in values}


def _checked_states(arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> tuple[Layout, list[State]]:
    """Unpack a store, and find out here what does not fit, not on a worker."""
    layout, states = unpack(arrays, document)
    for state in states:
        ParameterShard.from_state(*state)
    return layout, states


def _count_shards(wanted: int | str, values: Mapping[str, np.ndarray], n_workers: int, has_tables: bool) -> int:
    if wanted == "auto" and has_tables:
        return max(1, n_workers)
    if wanted == "auto":
        return max(1, min(n_workers, sum(array.nbytes for array in values.values()) // SHARD_BYTES))
    if not isinstance(wanted, (int, np.integer)) or wanted < 1:
        raise StoreError(f"n_shards={wanted!r} must be a whole number of at least 1, or 'auto'.")
    return int(wanted)


def _seconds(name: str, default: str) -> float:
    return dask.utils.parse_timedelta(dask.config.get(f"dparallel.store.{name}", default))
