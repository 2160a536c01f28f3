"""What a primary sends to its backup: its state once, then every entry in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from dparallel.compat import ActorGone
from dparallel.store.messages import Entry, Seat, State, encode, size_of


class Mirror:
    """Keeps one backup equal to its primary. Runs on the worker's event loop.

    Parameters
    ----------
    number : int, of the shard
    epoch : int, reign of the primary
    seat : Seat, the backup's
    call : coroutine function (seat, method, *arguments), calls a host
    changed : function without arguments, called when an attribute changed

    Attributes
    ----------
    is_following : bool, whether the backup has the state, so that answers wait for it
    is_broken : bool, whether it does not answer or does not follow
    acknowledged : int, sequence number of the last entry that it has applied
    newer_epoch : int, where the backup knew of a newer primary; else 0

    Notes
    -----
    One message is under way at a time; the next one carries all that came meanwhile. While the backup is being filled
    answers do not wait for it: if the primary died then, waiting would not have saved what came before.
    """

    def __init__(self, number: int, epoch: int, seat: Seat, call: Callable[..., Any], changed: Callable[[], None]):
        self.seat = seat
        self.is_following = self.is_broken = False
        self.acknowledged = 0
        self.newer_epoch = 0
        self._reign = number, epoch
        self._call = call
        self._changed = changed
        self._log: deque[tuple[int, Entry]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._filler: asyncio.Task[None] | None = None

    async def fill(self, sequence: int, state: State, is_restored: bool) -> bool:
        """Give the backup the state after that entry; return whether it follows from now on."""
        self._filler = asyncio.get_running_loop().create_task(self._fill(sequence, state, is_restored))
        await asyncio.wait({self._filler})
        return self.is_following and not self.is_broken

    def follow(self, sequence: int) -> None:
        """Begin with a backup that has applied the entries up to this one."""
        self.is_following, self.acknowledged = True, sequence

    async def _fill(self, sequence: int, state: State, is_restored: bool) -> None:
        if await self._ask("install", "backup", sequence, state, is_restored):
            self.is_following, self.acknowledged = True, max(sequence, self.acknowledged)
            self._changed()
            self._send()

    def append(self, sequence: int, entries: Sequence[Entry]) -> None:
        """Take entries for the backup; `sequence` is the number of the last one."""
        self._log.extend(zip(range(sequence - len(entries) + 1, sequence + 1), entries))
        self._send()

    def stop(self) -> None:
        """Send nothing more."""
        for task in (self._sender, self._filler):
            if task is not None:
                task.cancel()
        self.is_following = False
        self._log.clear()

    def _send(self) -> None:
        if self._log and self.is_following and (self._sender is None or self._sender.done()):
            self._sender = asyncio.get_running_loop().create_task(self._send_log())

    async def _send_log(self) -> None:
        while self._log and not self.is_broken:
            batch = list(self._log)
            entries = [entry for _, entry in batch]
            if not await self._ask("follow", batch[0][0], encode(entries, size_of(entries))):
                return
            for _ in batch:
                self._log.popleft()
            self.acknowledged = batch[-1][0]
            self._changed()

    async def _ask(self, method: str, *arguments: Any) -> bool:
        try:
            followed, epoch = await self._call(self.seat, method, *self._reign, *arguments)
        except (OSError, ActorGone):
            followed, epoch = False, 0
        if not followed:
            self.is_broken = True
            self.newer_epoch = epoch
            self._changed()
        return followed


class Mirrors:
    """The mirrors of one primary: one, or two while a copy moves.

    Parameters
    ----------
    number, call, changed : see Mirror
    """

    def __init__(self, number: int, call: Callable[..., Any], changed: Callable[[], None]):
        self._number = number
        self._call = call
        self._changed = changed
        self._mirrors: dict[Seat, Mirror] = {}

    def __contains__(self, seat: Seat | None) -> bool:
        return seat in self._mirrors

    def add(self, epoch: int, seat: Seat) -> Mirror:
        """Begin with one more, in place of an earlier one of the same seat."""
        if seat in self._mirrors:
            self._mirrors[seat].stop()
        mirror = self._mirrors[seat] = Mirror(self._number, epoch, seat, self._call, self._changed)
        return mirror

    def drop(self, but: Seat | None = None) -> None:
        """Stop all, or all but one."""
        for seat in self._mirrors.keys() - {but}:
            self._mirrors.pop(seat).stop()

    def append(self, sequence: int, entries: Sequence[Entry]) -> None:
        """See Mirror.append."""
        for mirror in self._mirrors.values():
            mirror.append(sequence, entries)

    def have(self, sequence: int) -> bool:
        """Whether all that follow have applied the entries up to this one."""
        return all(not mirror.is_following or mirror.acknowledged >= sequence for mirror in self._mirrors.values())

    @property
    def all_follow(self) -> bool:
        """Whether none is being filled or broken."""
        return all(mirror.is_following and not mirror.is_broken for mirror in self._mirrors.values())

    @property
    def broken(self) -> list[Mirror]:
        """Those that do not answer or do not follow."""
        return [mirror for mirror in self._mirrors.values() if mirror.is_broken]
