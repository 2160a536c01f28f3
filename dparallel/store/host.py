"""The Dask actor that holds the shards of one store on one worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Thread
from time import monotonic
from typing import Any

from dparallel.compat import (
    BoardGone,
    call_actor,
    do_not_wait_when_worker_closes,
    holds_actor,
    read_board,
    when_worker_closes,
    worker_of_this_task,
)
from dparallel.errors import WorkerVersionError
from dparallel.store.messages import Answer, HostReport, Request, Seat, decode, encode, size_of_values
from dparallel.store.replica import Replica
from dparallel.store.signatures import KeyLists
from dparallel.store.tables import warm_up

TICK_S = 0.1
STALL_S = 0.5  # an event loop that stood still for so long may have been taken for dead meanwhile
UNWATCHED_S = 1.5  # and so may a host that the supervisor did not speak to; it takes 2 s to believe so
WATCH_S = 1.0  # how often a host reports when nothing happens
CONNECT_S = 1.0
PATIENT_S = 5.0  # to another host, which the supervisor watches
LEAVE_S = 2.0  # a nanny gives a worker 4 s to shut down


class ShardHost:
    """All replicas of one store on one worker, as a Dask actor.

    Parameters
    ----------
    board : str, name of the store's board on the scheduler
    key : str, of this actor
    version : str, the driver's version of dparallel
    has_tables : bool; what sparse tables need is loaded at once, so that nobody waits for it when a shard moves here

    Raises
    ------
    WorkerVersionError

    Notes
    -----
    Methods run on the worker's event loop; work on arrays that are not small runs on one thread. A host whose loop
    stood still (a stopped process), or that its supervisor has not spoken to of late, may have been replaced without
    knowing it: it asks the board who reigns before it answers anything.
    """

    def __init__(self, board: str, key: str, version: str, has_tables: bool = False):
        found = import_module("dparallel").__version__
        if version != found:
            raise WorkerVersionError(f"The worker has dparallel {found}, and the store's driver has {version}.")
        self._board = board
        self._key = key
        self._is_leaving = False
        self._node = worker_of_this_task()
        self._replicas: dict[int, Replica] = {}
        self._lists = KeyLists()
        self.counts: dict[int, Counter[str]] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._alarm = asyncio.Event()
        self._ticked = self._watched = monotonic()
        self._n_stalls = self._n_confirmed = 0
        self._ticker: asyncio.Task[None] | None = None
        self._warming = Thread(target=warm_up if has_tables else int, name="dparallel-warm-up", daemon=True)
        self._warming.start()

    async def ready(self) -> HostReport:
        """Report once nobody would wait for something to be loaded."""
        await asyncio.to_thread(self._warming.join)
        return await self.report()

    async def exchange(self, number: int, request: Request) -> Answer:
        """Serve a handle; see Replica.exchange."""
        replica = self._replicas.get(number)
        return Answer("moved", 0, {}) if replica is None else await replica.exchange(request)

    async def exchange_packed(self, number: int, packed: Any) -> Any:
        """Serve a handle on another worker."""
        request = decode(packed)
        if request.saved_bytes is not None:
            request = self._lists.unpacked(request)
        answer = Answer("unknown_keys", 0, {}) if request is None else await self.exchange(number, request)
        return encode(answer, size_of_values(answer.snapshot))

    async def follow(self, number: int, *arguments: Any) -> tuple[bool, int]:
        """See Replica.follow."""
        return await self._replica(number).follow(*arguments)

    async def install(self, number: int, *arguments: Any) -> tuple[bool, int]:
        """See Replica.install."""
        return await self._replica(number).install(*arguments)

    async def promote(self, number: int, *arguments: Any) -> bool:
        """See Replica.promote."""
        return await self._replica(number).promote(*arguments)

    async def set_backup(self, number: int, *arguments: Any) -> bool:
        """See Replica.set_backup."""
        return await self._replica(number).set_backup(*arguments)

    async def keep_backup(self, number: int, epoch: int, seat: Seat | None) -> bool:
        """See Replica.keep_backup."""
        return await self._replica(number).keep_backup(epoch, seat)

    async def level(self, number: int, epoch: int, token: str) -> bool:
        """See Replica.level."""
        return await self._replica(number).level(epoch, token)

    async def step_down(self, number: int, epoch: int, token: str) -> bool:
        """See Replica.step_down."""
        return await self._replica(number).step_down(epoch, token)

    async def freeze(self, number: int, epoch: int, token: str) -> bool:
        """See Replica.freeze."""
        return await self._replica(number).freeze(epoch, token)

    async def take(self, number: int, token: str) -> Any:
        """See Replica.take."""
        return await self._replica(number).take(token)

    async def thaw(self, token: str) -> None:
        """Let pushes to all shards go on."""
        for replica in self._replicas.values():
            replica.thaw(token)

    async def drop(self, number: int, epoch: int) -> None:
        """Serve a shard no longer."""
        replica = self._replicas.pop(number, None)
        if replica is not None:
            replica.depose(epoch)

    async def watch(self) -> HostReport:
        """Report about all replicas: at once when one needs the supervisor, else after a while."""
        self._watched = monotonic()
        if self._ticker is None:
            self._ticked = monotonic()
            self._ticker = asyncio.get_running_loop().create_task(_tick(weakref.ref(self)))
            await when_worker_closes(self._node, self._key, weakref.WeakMethod(self.leave))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._alarm.wait(), WATCH_S)
        self._alarm.clear()
        return await self.report()

    async def report(self) -> HostReport:
        """Report about all replicas at once."""
        replicas = {number: replica.report() for number, replica in self._replicas.items()}
        counts = {number: dict(count) for number, count in self.counts.items()}
        return HostReport(os.getpid(), replicas, counts, self._is_leaving)

    async def leave(self) -> None:
        """Hold up the shutdown of the worker for a moment, until the supervisor has moved all replicas away."""
        self._is_leaving = True
        self.alarm()
        until = monotonic() + LEAVE_S
        while self._replicas and monotonic() < until:
            await asyncio.sleep(TICK_S / 5)

    async def close(self) -> None:
        """Drop all replicas and end whatever runs."""
        do_not_wait_when_worker_closes(self._node, self._key)
        for number in list(self._replicas):
            await self.drop(number, 0)
        if self._ticker is not None and self._ticker is not asyncio.current_task():
            self._ticker.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    # What replicas need

    async def call(self, seat: Seat, method: str, *arguments: Any) -> Any:
        """Call a method of another host."""
        return await call_actor(self._node, seat.address, seat.key, method, arguments, PATIENT_S)

    def compute(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Run a function on the one thread for arrays."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="dparallel-shards")
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def alarm(self) -> None:
        """Tell the supervisor that a replica needs it."""
        self._alarm.set()

    async def newest_epoch(self, number: int, epoch: int) -> int:
        """Return the epoch of a shard as far as it must be known before answering; -1 if it cannot be found out."""
        self.notice_stall()
        stalls = self._n_stalls
        if self._n_confirmed == stalls and monotonic() - self._watched < UNWATCHED_S:
            return epoch
        try:
            board = await asyncio.wait_for(read_board(self._node, self._board, CONNECT_S), CONNECT_S)
            newest = board["routes"][number][0]
        except (OSError, BoardGone):
            return -1
        self._n_confirmed = max(stalls, self._n_confirmed)
        return newest

    @property
    def is_forgotten(self) -> bool:
        """Whether the worker no longer holds this actor, as when the driver has died."""
        return not holds_actor(self._node, self._key, self)

    def notice_stall(self) -> None:
        """Look whether the event loop stood still."""
        now = monotonic()
        if now - self._ticked > STALL_S:
            self._n_stalls += 1
        self._ticked = now

    def _replica(self, number: int) -> Replica:
        if number not in self._replicas:
            counts = self.counts.setdefault(number, Counter())
            self._replicas[number] = Replica(number, self, counts)
        return self._replicas[number]


async def _tick(reference: weakref.ref[ShardHost]) -> None:
    """Let a host notice when its event loop stands still, and close it when Dask has let go of the actor."""
    while (host := reference()) is not None:
        host.notice_stall()
        if host.is_forgotten:
            await host.close()
            return
        del host
        await asyncio.sleep(TICK_S)
