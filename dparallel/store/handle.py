"""What users and tasks hold of a parameter store."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from dparallel.store.consistency import as_step
from dparallel.store.layout import FullUpdate, Reply
from dparallel.store.local import LocalTransport


class Handle:
    """Reads and changes the parameters of a store from any task or thread; travels if the store is on a cluster.

    Parameters
    ----------
    transport : LocalTransport or RemoteTransport

    Notes
    -----
    A push with a step=(partition, clock) is applied once, however often it is sent: a task that Dask runs again may
    repeat it. A push without a step is counted by the handle itself, so it survives every retry of this call, but a
    task that is run again pushes again.

    A push reports the version that this thread pulled last; the store counts how old those were.
    """

    def __init__(self, transport: Any):
        self._transport = transport
        self._thread = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return Handle, (self._transport,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the store's arrays."""
        return self._transport.layout.names

    @property
    def is_local(self) -> bool:
        """Whether the shards are in this process, where a call costs microseconds."""
        return isinstance(self._transport, LocalTransport)

    def pull(self, names: str | Sequence[str] | None = None, clock: int | None = None) -> Any:
        """Read parameters.

        Parameters
        ----------
        names : str, list of str, or None for all
        clock : int, clock of the step that will use them: waits until the store's staleness lets it start

        Returns
        -------
        values : ndarray of the array's shape for a str, else dict of str to ndarray; float64, the caller's own

        Raises
        ------
        NotYet
            If slower partitions hold the step up for longer than the deadline. Ask again.
        StoreError
            If there is no array of such a name.
        StoreUnavailable
            If a shard cannot be reached before the deadline.
        """
        return self._pull_after((), names, clock)

    def push(self, values: Mapping[str, Any], step: tuple[int, int] | None = None) -> None:
        """Give the store an update, which its optimizer applies; returns when that cannot be lost any more.

        Parameters
        ----------
        values : dict of str to array-like of the array's shape; some of the names
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
    ) -> Any:
        """Push, then pull, in one message to each shard and back; see push and pull."""
        return self._pull_after([self._update(values, step)], names, clock)

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
    ) -> Reply:
        """Push updates in their order, then read `names` for a step of that clock; see the transports."""
        pushed = getattr(self._thread, "partitions", ())
        more = {"partitions": pushed} if pushed and not self.is_local else {}
        reply = self._transport.exchange(updates, names, clock, wait_s, **more)
        if reply.parameters:
            self._thread.versions = reply.versions
        return reply

    def exchange_soon(
        self,
        updates: Sequence[FullUpdate] = (),
        names: Sequence[str] | None = None,
        clock: int | None = None,
        wait_s: float | None = None,
    ) -> Future[Reply]:
        """Do what exchange does in the background; the arrays given must not change until it is done."""
        return self._transport.exchange_soon(updates, names, clock, wait_s)

    def _pull_after(self, updates: Sequence[FullUpdate], names: str | Sequence[str] | None, clock: int | None) -> Any:
        if isinstance(names, str):
            return self.exchange(updates, (names,), clock).parameters[names]
        return self.exchange(updates, names, clock).parameters

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
