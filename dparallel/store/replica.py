"""One copy of a shard on a worker: a primary serves, a backup follows. Runs on the worker's event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from dparallel.errors import ConsistencyError
from dparallel.store.messages import (
    Answer,
    Entry,
    Finish,
    ReplicaReport,
    Request,
    Seat,
    State,
    bytes_of,
    decode,
    size_of_values,
)
from dparallel.store.mirror import Mirrors
from dparallel.store.shard import ParameterShard, Snapshot

SMALL_BYTES = 64 * 1024  # arrays up to this size are worked on at once, larger ones on a thread
WAIT_S = 1.0  # a wait for the gate answers after so long at the latest, so that callers notice deaths and moves
SETTLE_S = 9.0  # a push that the backup has not confirmed by then is not answered for, and the caller looks again
FREEZE_S = 5.0  # a driver that froze a shard and died holds up its pushes for no longer


def reached(point: str) -> None:
    """Do nothing; tests put a killer here. Points: before_apply, after_apply, after_replicate, in_snapshot."""


class Replica:
    """One copy of a shard.

    Parameters
    ----------
    number : int, of the shard
    host : ShardHost; offers `call`, `compute`, `newest_epoch` and `alarm`
    counts : Counter of pushes, pulls, duplicates, bytes_in and bytes_out, to count in

    Attributes
    ----------
    role : "empty", "backup", "primary" or "deposed"
    epoch : int, the reign that it knows of; whatever is older is refused
    sequence : int, number of the last entry that was applied

    Notes
    -----
    A primary applies an entry, sends it to the backup and answers once the backup has applied it. No answer shows what
    the backup lacks, so nothing that was seen is undone when the backup takes over.
    """

    def __init__(self, number: int, host: Any, counts: Counter[str]):
        self.number = number
        self.role = "empty"
        self.epoch = 0
        self.sequence = 0
        self._host = host
        self._counts = counts
        self._shard: ParameterShard | None = None
        self._was_restored = False
        self._mirrors = Mirrors(number, host.call, self._look_at_mirrors)
        self._lock = asyncio.Lock()  # first come, first served
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._frozen: str | None = None

    # What handles ask

    async def exchange(self, request: Request) -> Answer:
        """Serve a handle; see Request and Answer.

        Raises
        ------
        StoreError
            If a name, a length or a partition is none of the shard's.
        ConsistencyError
            If the step may not come now.
        """
        status, snapshot = "ok", None
        try:
            self._admit(request.epoch)
            self._counts["bytes_in"] += bytes_of(request)
            if request.entries:
                await self._enter(request)
            if request.names != ():
                snapshot = await self._read(request)
                status = "not_yet" if snapshot is None else "ok"
        except _Refused:
            return self._moved()
        except ConsistencyError:
            if not self._was_restored:
                raise
            status = "rolled_back"
        return await self._settle(status, snapshot)

    async def _enter(self, request: Request) -> None:
        async with self._lock:
            self._admit(request.epoch)
            reached("before_apply")
            applied, error = await self._compute(self._apply, request.entries)
            self.sequence += len(applied)
            self._mirrors.append(self.sequence, applied)
            reached("after_apply")
        self._counts["pushes"] += len(applied)
        self._counts["duplicates"] += len(request.entries) - len(applied) - (error is not None)
        self._tell()
        if error is not None:
            raise error

    def _apply(self, entries: Sequence[Entry]) -> tuple[list[Entry], Exception | None]:
        """Apply entries up to the first error; return it, and those that were new."""
        assert self._shard is not None
        applied: list[Entry] = []
        try:
            for entry in entries:
                if isinstance(entry, Finish):
                    self._shard.finish(entry.partition)
                    applied.append(entry)
                elif self._shard.push(entry, is_owned=True):
                    applied.append(entry)
        except Exception as error:
            return applied, error
        return applied, None

    async def _read(self, request: Request) -> Snapshot | None:
        """Wait for the gate and copy what is behind it; None if it stayed closed."""
        until = monotonic() + min(request.wait_s, WAIT_S)
        while True:
            self._admit(request.epoch)
            news = self._news
            snapshot = await self._compute(self._pull, request)
            if snapshot is not None:
                self._counts["pulls"] += 1
                self._counts["bytes_out"] += size_of_values(snapshot)
                return snapshot
            left_s = until - monotonic()
            if left_s <= 0:
                return None
            await asyncio.wait({news}, timeout=left_s)

    def _pull(self, request: Request) -> Snapshot | None:
        shard, clock = self._shard, request.clock
        assert shard is not None
        if self._was_restored and clock is not None and request.partitions:
            progress = shard.progress()
            if clock > max(progress.get(partition, 0) for partition in request.partitions):
                # it would wait for steps of its own that were undone
                raise ConsistencyError(f"No step of clock {clock} is the next of {request.partitions}.")
        if not shard.ready(clock):
            return None
        epoch, known = request.known or (-1, -1)
        return shard.pull(request.names, clock, keys=request.keys, known=known if epoch == self.epoch else None)

    async def _settle(self, status: str, snapshot: Snapshot | None) -> Answer:
        """Answer as soon as the backup has all that the answer shows, if this is the primary still."""
        assert self._shard is not None
        answer = Answer(status, self.epoch, self._shard.progress(), self._shard.version, snapshot)
        sequence, until = self.sequence, monotonic() + SETTLE_S
        while self._is_primary(answer.epoch) and not self._mirrors.have(sequence):
            left_s = until - monotonic()
            if left_s <= 0:
                return self._moved()
            await asyncio.wait({self._news}, timeout=left_s)
        newest = await self._host.newest_epoch(self.number, self.epoch)
        if newest > self.epoch:
            self.depose(newest)
        if not self._is_primary(answer.epoch) or newest < 0:
            return self._moved()
        reached("after_replicate")
        return answer

    # What the primary asks of its backup

    async def follow(self, epoch: int, first: int, packed: Any) -> tuple[bool, int]:
        """As a backup apply entries, the first of which has this number; return whether it did, and its epoch."""
        entries = decode(packed)
        async with self._lock:
            if epoch < self.epoch or self.role != "backup" or first != self.sequence + 1:
                return False, self.epoch
            applied, _ = await self._compute(self._apply, entries)
            self.sequence += len(applied)
            return len(applied) == len(entries), self.epoch

    async def install(self, epoch: int, role: str, sequence: int, state: State, was_restored: bool) -> tuple[bool, int]:
        """Become a primary or backup of this state; return whether it did, and its epoch."""
        async with self._lock:
            if epoch < self.epoch or (epoch == self.epoch and self.role in ("primary", "deposed")):
                return False, self.epoch
            self._shard = await self._host.compute(ParameterShard.from_state, *state)
            self._was_restored = was_restored
            self._begin(role, epoch, sequence)
            return True, epoch

    # What the supervisor asks

    async def promote(self, epoch: int, level: Seat | None = None) -> bool:
        """As a backup become the primary of a new reign; return whether it is.

        Parameters
        ----------
        level : Seat of a backup that has applied the same entries, and follows from now on; None for none
        """
        async with self._lock:
            if self.role == "backup" and epoch > self.epoch:
                self._begin("primary", epoch, self.sequence)
                if level is not None:
                    self._mirrors.add(epoch, level).follow(self.sequence)
            return self._is_primary(epoch)

    async def set_backup(self, epoch: int, seat: Seat | None, beside: bool = False) -> bool:
        """As a primary fill this backup and send it all from now on, or do without one; return whether that worked.

        Parameters
        ----------
        beside : bool, whether the one that there is follows, too, until keep_backup
        """
        async with self._lock:
            if not self._is_primary(epoch):
                return False
            if not beside:
                self._drop_mirrors()
            if seat is None:
                return True
            # the lock is held for the copy only: what comes while the backup is filled waits in the mirror's log
            sequence, state = self.sequence, await self._compute(self._copy)
            mirror = self._mirrors.add(epoch, seat)
        return await mirror.fill(sequence, state, self._was_restored)

    async def keep_backup(self, epoch: int, seat: Seat | None) -> bool:
        """As a primary go on with this backup alone, or with none; return whether it follows."""
        if self._is_primary(epoch):
            self._drop_mirrors(but=seat)
        return seat in self._mirrors

    async def level(self, epoch: int, token: str) -> bool:
        """Hold up pushes as freeze does until step_down or thaw, once all backups have all; return whether it does."""
        if not await self.freeze(epoch, token):
            return False
        while self._frozen == token and self._is_primary(epoch):
            if not self._mirrors.all_follow:
                break
            if self._mirrors.have(self.sequence):
                return True
            await asyncio.wait({self._news}, timeout=FREEZE_S)
        self.thaw(token)
        return False

    async def step_down(self, epoch: int, token: str) -> bool:
        """As a primary that is level become a backup of the next reign; return whether it is."""
        if self._frozen == token and epoch > self.epoch:
            self._begin("backup", epoch, self.sequence)
            self.thaw(token)
        return self.role == "backup" and epoch == self.epoch

    async def freeze(self, epoch: int, token: str) -> bool:
        """Hold up pushes until `take` or `thaw` of the same token; return whether it does."""
        await self._lock.acquire()
        if not self._is_primary(epoch):
            self._lock.release()
            return False
        self._frozen = token
        asyncio.get_running_loop().call_later(FREEZE_S, self.thaw, token)
        return True

    async def take(self, token: str) -> tuple[int, State] | None:
        """Return number of the last entry and state as they were frozen, and let pushes go on; None if too late."""
        if self._frozen != token:
            return None
        try:
            reached("in_snapshot")
            sequence, state = self.sequence, await self._compute(self._copy)
            return (sequence, state) if self._frozen == token else None
        finally:
            self.thaw(token)

    def thaw(self, token: str) -> None:
        """Let pushes go on."""
        if self._frozen == token:
            self._frozen = None
            self._lock.release()

    def depose(self, epoch: int) -> None:
        """Refuse everything from now on: there is a newer primary, or the store is closed."""
        self._begin("deposed", max(epoch, self.epoch), self.sequence)
        if self._frozen is not None:
            self.thaw(self._frozen)

    def report(self) -> ReplicaReport:
        """Return what the supervisor wants to know."""
        shard = self._shard
        version, staleness = (0, {}) if shard is None else (shard.version, shard.staleness)
        return ReplicaReport(self.role, self.epoch, version, bool(self._mirrors.broken), staleness)

    # Small things

    def _begin(self, role: str, epoch: int, sequence: int) -> None:
        self._drop_mirrors()
        self.role, self.epoch, self.sequence = role, epoch, sequence
        self._tell()

    def _drop_mirrors(self, but: Seat | None = None) -> None:
        self._mirrors.drop(but)
        self._tell()

    def _look_at_mirrors(self) -> None:
        broken = self._mirrors.broken
        if broken:
            newest = max(mirror.newer_epoch for mirror in broken)
            if newest > self.epoch:
                self.depose(newest)
            self._host.alarm()
        self._tell()

    def _is_primary(self, epoch: int) -> bool:
        return self.role == "primary" and epoch == self.epoch

    def _admit(self, epoch: int) -> None:
        if not self._is_primary(epoch):
            raise _Refused

    def _moved(self) -> Answer:
        return Answer("moved", self.epoch, {})

    def _copy(self) -> State:
        assert self._shard is not None
        return self._shard.state()

    async def _compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        assert self._shard is not None
        # from the first call on either there or here: two threads must not work on one shard
        if self._shard.size_bytes <= SMALL_BYTES and not self._shard.has_tables:
            return function(*arguments)
        return await self._host.compute(function, *arguments)

    def _tell(self) -> None:
        """Wake all who wait for something to change."""
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        news.set_result(None)


class _Refused(Exception):
    """This is not the primary of that reign."""
