"""Snapshots of all shards at one moment, kept by the driver and on its disk. Runs on the client's event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Sequence
from time import monotonic
from typing import Any

from dparallel import checkpoint
from dparallel.errors import CheckpointError, StoreWarning, warn
from dparallel.store.layout import Layout
from dparallel.store.local import LocalTransport
from dparallel.store.messages import State
from dparallel.store.states import pack

FREEZE_S = 2.0
TAKE_S = 60.0
REST = 10  # at least so many times as long as a snapshot takes lies between two


class Snapshots:
    """The newest snapshot of a store, renewed from time to time.

    Parameters
    ----------
    layout : Layout
    every_s : float, seconds between two
    path : where to write each, or None
    keeps_old : bool, whether an old one is still of use after shards had second copies again

    Attributes
    ----------
    newest : list of (sequence, State), one for each shard; None where there is none
    """

    def __init__(self, layout: Layout, every_s: float, path: str | os.PathLike[str] | None, keeps_old: bool):
        self.newest: list[tuple[int, State]] | None = None
        self.path = path
        self._layout = layout
        self._every_s = every_s
        self._keeps_old = keeps_old
        self._taking: asyncio.Task[Any] | None = None

    def keep(self, states: Sequence[tuple[int, State]]) -> None:
        """Go back to these from now on, if need be."""
        self.newest = list(states)

    def interrupt(self) -> None:
        """Give up the snapshot that is being taken: shards are about to change hands."""
        if self._taking is not None:
            self._taking.cancel()

    async def run(self, supervisor: Any) -> None:
        """Take snapshots for ever, as long as they are of use."""
        rest_s = self._every_s
        while True:
            await asyncio.sleep(rest_s)
            is_safe = all(route.backup is not None for route in supervisor.routes)
            if is_safe and self.path is None:
                # it would take the store back too far, by steps that all were told are safe
                self.newest = self.newest if self._keeps_old else None
                continue
            start = monotonic()
            self._taking = asyncio.get_running_loop().create_task(self.take(supervisor))
            await asyncio.wait({self._taking})
            error = None if self._taking.cancelled() else self._taking.exception()
            if error is not None:
                warn(f"No snapshot was written to {self.path}: {error!r}.", StoreWarning)
            rest_s = max(self._every_s, REST * (monotonic() - start))

    async def take(self, supervisor: Any) -> bool:
        """Take a snapshot of all shards at one moment and keep it; return whether that worked."""
        states = await take(supervisor)
        if states is None:
            return False
        self.keep(states)
        if self.path is not None:
            await asyncio.to_thread(checkpoint.write, self.path, *pack(self._layout, [state for _, state in states]))
        return True


class Writer:
    """Writes the store of one process to a file from time to time, on a thread of its own.

    Parameters
    ----------
    transport : LocalTransport
    path : of the file
    every_s : float, seconds between two
    """

    def __init__(self, transport: LocalTransport, path: str | os.PathLike[str], every_s: float):
        self._transport = transport
        self._path = path
        self._every_s = every_s
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dparallel-store-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._is_closed.set()
        self._thread.join()

    def _run(self) -> None:
        rest_s = self._every_s
        while not self._is_closed.wait(rest_s):
            start = monotonic()
            try:
                checkpoint.write(self._path, *self._transport.state())
            except (OSError, CheckpointError) as error:
                warn(f"No snapshot was written to {self._path}: {error!r}.", StoreWarning)
            rest_s = max(self._every_s, REST * (monotonic() - start))


async def take(supervisor: Any) -> list[tuple[int, State]] | None:
    """Return (sequence, State) of all shards at one moment; None if a host died or changed meanwhile.

    Pushes are held up on all shards first, and go on wherever the copy is made.
    """
    routes, token = supervisor.routes.copy(), uuid.uuid4().hex
    seats = [route.primary for route in routes]
    if None in seats:
        return None
    call = supervisor.fleet.call
    states = None
    try:
        frozen = await asyncio.gather(
            *(
                call(seat, "freeze", number, route.epoch, token, limit_s=FREEZE_S)
                for number, (seat, route) in enumerate(zip(seats, routes))
            )
        )
        if all(frozen):
            states = await asyncio.gather(
                *(call(seat, "take", number, token, limit_s=TAKE_S) for number, seat in enumerate(seats))
            )
    except OSError:
        return None
    finally:
        if states is None or None in states:
            thawing = [call(seat, "thaw", token, limit_s=FREEZE_S) for seat in {*seats}]
            await asyncio.shield(asyncio.gather(*thawing, return_exceptions=True))
    is_same = all(new.epoch == old.epoch for new, old in zip(supervisor.routes, routes))
    return states if states is not None and None not in states and is_same else None
