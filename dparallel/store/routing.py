"""Who serves which shard, as the supervisor writes it on the board and everybody else reads it."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Sequence
from typing import Any

from dparallel import compat
from dparallel.store.compression import Residuals
from dparallel.store.messages import Route, Seat
from dparallel.store.signatures import KnownLists

LOOK_S = 1.0
CLOSED = "The parameter store was closed. Open a new one, or use it inside its with block."
LOST = (
    "The connection to the Dask scheduler was lost, and with it the parameter store. Start a cluster, open a new "
    "Client and a new store, and go on from a checkpoint if there is one."
)

_routing: weakref.WeakValueDictionary[str, Routing] = weakref.WeakValueDictionary()


class Routing:
    """Who serves the shards of one store, as far as this process knows; shared by its handles.

    Parameters
    ----------
    board : str, name of the store's board on the scheduler
    routes : list of Route, one for each shard
    """

    def __init__(self, board: str, routes: Sequence[Route]):
        self.board = board
        self.routes = list(routes)
        self.failure: str | None = None
        self.residuals = Residuals()
        self._known: dict[tuple[int, int], tuple[Seat, KnownLists]] = {}

    def known_lists(self, node: Any, number: int, seat: Seat) -> KnownLists:
        """Return what the host of a shard knows of the lists of keys that this client or worker has sent."""
        found = self._known.get((id(node), number))
        if found is None or found[0] != seat:
            found = self._known[id(node), number] = seat, KnownLists()
        return found[1]

    @classmethod
    def of(cls, board: str, routes: Sequence[Route]) -> Routing:
        """Return what this process knows already, or else what is given."""
        found = _routing.get(board)
        if found is None:
            found = _routing[board] = cls(board, routes)
        found.learn(routes)
        return found

    def learn(self, routes: Sequence[Route]) -> None:
        """Take over what is newer."""
        self.routes = [new if new.epoch >= old.epoch else old for old, new in zip(self.routes, routes)]

    async def look(self, node: Any) -> None:
        """Read the board; where the scheduler does not answer nothing changes."""
        try:
            value = await asyncio.wait_for(compat.read_board(node, self.board, LOOK_S), LOOK_S)
        except compat.BoardGone:
            self.failure = CLOSED
            return
        except OSError:
            return
        self.failure = value["failure"]
        self.learn([as_route(row) for row in value["routes"]])


def as_route(row: Sequence[Any]) -> Route:
    """Return a route from its lists on the board."""
    epoch, primary, backup = row
    return Route(epoch, None if primary is None else Seat(*primary), None if backup is None else Seat(*backup))


def as_row(route: Route) -> list[Any]:
    """Return what stands on the board for a route."""
    return [route.epoch, *(None if seat is None else list(seat) for seat in (route.primary, route.backup))]


def new_board() -> str:
    """Return a name for a store."""
    return f"dparallel-store-{uuid.uuid4().hex[:12]}"
