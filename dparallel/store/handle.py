"""What users and tasks hold of a parameter store."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

from dparallel.errors import NotYet, StoreError
from dparallel.store.compression import Step, make_compression
from dparallel.store.consistency import as_step
from dparallel.store.layout import FullUpdate, Reply
from dparallel.store.local import LocalTransport


class Handle:
    """Reads and changes the parameters of a store from any task or thread; travels if the store is on a cluster.

    Parameters
    ----------
    transport : LocalTransport or RemoteTransport
    compression : how updates travel, None: as they are; "fp16": in half precision; ("top_k", share): that share of the
        numbers, or of the rows of a table, which are largest in magnitude, while the others are added to the next
        update of the same partition from this process; or a dict of these by name, others travelling as they are

    Notes
    -----
    A push with a step=(partition, clock) is applied once, however often it is sent: a task that Dask runs again may
    repeat it. A push without a step is counted by the handle itself, so it survives every retry of this call, but a
    task that is run again pushes again.

    A push reports the version that this thread pulled last; the store counts how old those were.
    """

    def __init__(self, transport: Any, compression: Any = None):
        self._transport = transport
        self._given = compression
        self._compression = make_compression(compression, transport.layout.names)
        self._thread = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return Handle, (self._transport, self._given)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the store's arrays."""
        return self._transport.layout.names

    @property
    def has_tables(self) -> bool:
        """Whether the store has sparse tables."""
        return bool(self._transport.layout.tables)

    @property
    def is_local(self) -> bool:
        """Whether the shards are in this process, where a call costs microseconds."""
        return isinstance(self._transport, LocalTransport)

    def pull(self, names: str | Sequence[str] | None = None, clock: int | None = None, keys: Any = None) -> Any:
        """Read parameters.

        Parameters
        ----------
        names : str, list of str, or None for all
        clock : int, clock of the step that will use them: waits until the store's staleness lets it start
        keys : array-like of shape (n,), int64, which rows of the sparse table that names is; or dict of such by name of
            the table, and then names=None are all arrays and these tables. None for all rows that were pushed to.

        Returns
        -------
        values : ndarray of the array's shape for a str, else dict of str to ndarray; float64, the caller's own. Of a
            table an ndarray of shape (n, width) in the order of the keys, (n,) where it has no width; without keys a
            pair (keys, rows) by ascending key.

        Raises
        ------
        NotYet
            If slower partitions hold the step up for longer than the deadline. Ask again.
        StoreError
            If there is no array of such a name, or the keys do not fit.
        StoreUnavailable
            If a shard cannot be reached before the deadline.
        """
        return self._pull_after((), names, clock, keys)

    def push(self, values: Mapping[str, Any], step: tuple[int, int] | None = None) -> None:
        """Give the store an update, which its optimizer applies; returns when that cannot be lost any more.

        Parameters
        ----------
        values : dict of str to array-like of the array's shape; some of the names. Of a sparse table a pair (keys,
            rows), array-likes of shape (n,), int64, and (n, width) or (n,); rows of the same key are added up first
        step : (partition, clock), which makes it count once however often it is sent; None where that does not matter

        Raises
        ------
        StoreError
            If a name, shape or kind does not fit; nothing is applied then.
        ConsistencyError
            If the step may not come now; RolledBack if the store went back to a snapshot before it.
        StoreUnavailable
            If a shard cannot be reached before the deadline. The update may be applied on some shards; the same step
            may be pushed again.
        """
        self.exchange([self._update(values, step)], ())

    def pushpull(
        self,
        values: Mapping[str, Any],
        names: str | Sequence[str] | None = None,
        step: tuple[int, int] | None = None,
        clock: int | None = None,
        keys: Any = None,
    ) -> Any:
        """Push, then pull, in one message to each shard and back; see push and pull."""
        return self._pull_after([self._update(values, step)], names, clock, keys)

    @property
    def version(self) -> int:
        """Updates applied to the store."""
        return min(self._transport.exchange((), ()).versions)

    def progress(self) -> dict[int, int]:
        """Return the clock of each partition's next step, the least over the shards."""
        return self._transport.progress()

    def finish(self, partition: int) -> None:
        """Let nobody wait for this partition any more."""
        self._transport.finish(partition)

    def exchange(
        self,
        updates: Sequence[FullUpdate] = (),
        names: Sequence[str] | None = None,
        clock: int | None = None,
        wait_s: float | None = None,
        keys: Mapping[str, Any] | None = None,
        known: Reply | None = None,
    ) -> Reply:
        """Push updates in their order, then read `names` for a step of that clock.

        Parameters
        ----------
        updates : list of FullUpdate; those that came before are left out
        names : names to read; None for all, () for none
        clock : int, clock of the step that will use what is read; None for now
        wait_s : float, seconds to wait for that at most; None for the deadline
        keys : dict of str to array-like of shape (n,), int64, which rows of sparse tables to read
        known : Reply of an earlier exchange that read the same, and whose arrays were not changed: shards that have not
            changed since send nothing, and the reply has these arrays again

        Returns
        -------
        reply : Reply
        """
        pushed = getattr(self._thread, "partitions", ())
        more = {"partitions": pushed} if pushed and not self.is_local else {}
        packed, steps = self._compressed(updates)
        try:
            reply = self._transport.exchange(packed, names, clock, wait_s, keys, known, **more)
        except BaseException as error:
            self._take_back(steps, error)
            raise
        if reply.parameters:
            self._thread.versions = reply.versions
        return reply

    def exchange_soon(
        self,
        updates: Sequence[FullUpdate] = (),
        names: Sequence[str] | None = None,
        clock: int | None = None,
        wait_s: float | None = None,
        keys: Mapping[str, Any] | None = None,
    ) -> Future[Reply]:
        """Do what exchange does in the background; the arrays given must not change until it is done."""
        packed, steps = self._compressed(updates)
        coming = self._transport.exchange_soon(packed, names, clock, wait_s, keys)
        if steps:
            coming.add_done_callback(lambda done: self._take_back(steps, _error_of(done)))
        return coming

    def _compressed(self, updates: Sequence[FullUpdate]) -> tuple[Sequence[FullUpdate], Sequence[Step]]:
        if not self._compression:
            return updates, ()
        return self._transport.residuals.compress(updates, self._transport.layout, self._compression)

    def _take_back(self, steps: Sequence[Step], error: BaseException | None) -> None:
        """Keep what a failed push was to bring: it is to be pushed again. At a closed gate it was applied."""
        if steps and error is not None and not isinstance(error, NotYet):
            self._transport.residuals.take_back(steps)

    def _pull_after(
        self, updates: Sequence[FullUpdate], names: str | Sequence[str] | None, clock: int | None, keys: Any
    ) -> Any:
        if isinstance(names, str):
            given = keys if keys is None or isinstance(keys, Mapping) else {names: keys}
            return self.exchange(updates, (names,), clock, keys=given).parameters[names]
        if keys is not None and not isinstance(keys, Mapping):
            raise StoreError("keys must be a dict by name of the table where names is not one name.")
        return self.exchange(updates, names, clock, keys=keys).parameters

    def _update(self, values: Mapping[str, Any], step: tuple[int, int] | None) -> FullUpdate:
        own = self._thread
        if step is not None:
            partition = as_step(step)[0]
            if isinstance(partition, int):  # a pull by this thread may be for its next step
                own.partitions = {*getattr(own, "partitions", ()), partition}
            return FullUpdate(step, values, getattr(own, "versions", None))
        if not hasattr(own, "name"):  # for each thread, so that its own pushes come in their order
            own.name, own.counter = uuid.uuid4().hex, itertools.count()
        return FullUpdate((own.name, next(own.counter)), values, getattr(own, "versions", None))


def _error_of(done: Future[Reply]) -> BaseException | None:
    try:
        return done.exception()
    except CancelledError as error:
        return error
