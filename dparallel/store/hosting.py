"""Hosts of a store that are made before it is known what it will hold, while other work goes on."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from dparallel import compat
from dparallel.place import Cluster
from dparallel.store.fleet import Fleet
from dparallel.store.routing import new_board

CLOSE_S = 3.0


@dataclass(frozen=True)
class Hosting(Cluster):
    """A cluster on which hosts for the next store are being made.

    A store that is opened with this as its place takes them over; `close` ends those that no store has taken.

    Parameters
    ----------
    client, in_task : see Cluster
    board : str, name of the next store's board
    fleet : Fleet
    """

    board: str = ""
    fleet: Any = None
    _starting: list[Future[None]] = field(default_factory=list)

    @classmethod
    def begin(cls, cluster: Cluster, *, n_wanted: int, has_tables: bool, patience_s: float) -> Hosting:
        """Let hosts be made, without waiting for them; the arguments are those of Fleet."""
        board = new_board()
        fleet = Fleet(cluster.client, board, n_wanted, lambda: None)
        fleet.has_tables = has_tables
        starting = asyncio.run_coroutine_threadsafe(fleet.start(patience_s), compat.event_loop(cluster.client))
        return cls(cluster.client, cluster.in_task, board, fleet, [starting])

    def take(self) -> tuple[str, Fleet] | None:
        """Board and hosts, for the first store that asks; it has to end them."""
        if not self._starting:
            return None
        self._starting.clear()  # if it fails, the store meets the same failure when it starts the fleet once more
        return self.board, self.fleet

    def close(self) -> None:
        """End the hosts, unless a store has taken them."""
        loop = compat.event_loop(self.client)
        if self._starting and loop.is_running():
            self._starting.pop().cancel()
            ending = asyncio.run_coroutine_threadsafe(self.fleet.close(), loop)
            with contextlib.suppress(OSError):  # of a scheduler or of workers that are gone there is nothing to end
                ending.result(CLOSE_S)
