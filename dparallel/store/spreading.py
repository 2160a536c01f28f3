"""Spreading shards over the workers that there are by now, one live move after another."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from dparallel.store.fleet import machine_of
from dparallel.store.messages import Route, Seat

logger = logging.getLogger(__name__)

LEVEL_S = 5.0  # a shard is held up for no longer
PAUSE_S = 0.05


class Move(NamedTuple):
    """A copy of a shard that is to be served elsewhere.

    Parameters
    ----------
    number : int, of the shard
    is_primary : bool, whether it is its primary
    seat : Seat, where to
    """

    number: int
    is_primary: bool
    seat: Seat


def next_move(routes: Sequence[Route], seats: Sequence[Seat]) -> Move | None:
    """Return a move towards equally many primaries on all seats, then equally many copies; None once they are.

    Parameters
    ----------
    routes : who serves each shard now
    seats : hosts that may serve; moves by others are left to those who look after deaths and drains
    """
    primaries = Counter(route.primary for route in routes if route.primary in seats)
    copies = primaries + Counter(route.backup for route in routes if route.backup in seats)
    fullest, emptiest = _ends(primaries, copies, seats)
    if primaries[fullest] - primaries[emptiest] >= 2:
        mine = [number for number, route in enumerate(routes) if route.primary == fullest]
        # one whose second copy lies elsewhere, since that stays where it is
        return Move(min(mine, key=lambda number: routes[number].backup == emptiest), True, emptiest)
    for number, route in enumerate(routes):
        if route.primary is None or route.backup not in seats:
            continue
        target = min((seat for seat in seats if _may_back(route, seat)), key=copies.__getitem__, default=None)
        if target is not None and copies[route.backup] - copies[target] >= 2:
            return Move(number, False, target)
    return None


def _ends(primaries: Counter[Any], copies: Counter[Any], seats: Sequence[Seat]) -> tuple[Seat, Seat]:
    def load(seat: Seat) -> tuple[int, int]:
        return primaries[seat], copies[seat]

    return max(seats, key=load), min(seats, key=load)


def _may_back(route: Route, seat: Seat) -> bool:
    """Whether a second copy is as safe there as where it is."""
    assert route.primary is not None and route.backup is not None
    machine = machine_of(route.primary.address)
    is_as_far = machine_of(seat.address) != machine or machine_of(route.backup.address) == machine
    return is_as_far and seat not in route[1:] and seat.address != route.primary.address


async def spread(supervisor: Any) -> None:
    """Move copies until all hosts have equally many; runs on the client's loop, as the supervisor does."""
    await supervisor.fleet.look_around()
    while True:
        async with supervisor.lock:
            is_settled = not supervisor.is_filling and all(
                route.primary in supervisor.fleet.hosts for route in supervisor.routes
            )
            candidates = supervisor.fleet.candidates()
            move = next_move(supervisor.routes, candidates) if is_settled and candidates else None
            if is_settled and move is None:
                return
            if move is not None:
                with suppress(OSError):  # somebody died meanwhile: repaired before the next move
                    await (_move_primary if move.is_primary else _move_backup)(supervisor, move)
        supervisor.notice()
        await asyncio.sleep(PAUSE_S)


async def _move_backup(supervisor: Any, move: Move) -> None:
    """Fill the new second copy while the old one still follows, so that there are two at every moment."""
    number, route = move.number, supervisor.routes[move.number]
    if await _add_mirror(supervisor, number, move.seat):
        await supervisor.publish({number: route._replace(backup=move.seat)})
        await supervisor.ask(number, "keep_backup", route.epoch, move.seat)


async def _move_primary(supervisor: Any, move: Move) -> None:
    """Let a filled copy take over.

    Pushes are held up only while the copies become level, which takes a few messages and no copying. Then the old
    second copy follows the new primary from where it stands, so that there are two copies at every moment. Where the
    second copy itself takes over, the old primary follows it.
    """
    number, old = move.number, supervisor.routes[move.number]
    is_swap = move.seat == old.backup
    if not is_swap and not await _add_mirror(supervisor, number, move.seat):
        return
    token, call = uuid.uuid4().hex, supervisor.fleet.call
    new = Route(old.epoch + 1, move.seat, old.primary if is_swap else old.backup)
    if not await call(old.primary, "level", number, old.epoch, token, limit_s=2 * LEVEL_S):
        await supervisor.ask(number, "keep_backup", old.epoch, old.backup)
        return
    logger.info("Shard %d moves from %s to %s", number, old.primary, move.seat)
    await _publish(supervisor, number, new)
    is_level = False
    with suppress(OSError):
        is_level = await call(old.primary, "step_down", number, new.epoch, token)
    if not is_level:  # it died, or was held up too long: whatever was acknowledged the new primary has
        new = new._replace(backup=None)
        await _publish(supervisor, number, new)
    await supervisor.ask(number, "promote", new.epoch, new.backup)
    if not is_swap:
        with suppress(OSError):
            await call(old.primary, "drop", number, new.epoch)


async def _add_mirror(supervisor: Any, number: int, seat: Seat) -> bool:
    """Let one more copy follow a primary; where that fails nothing has changed."""
    route = supervisor.routes[number]
    is_filled = False
    with suppress(OSError):
        is_filled = await supervisor.ask(number, "set_backup", route.epoch, seat, True, other=seat)
    if not is_filled:
        await supervisor.ask(number, "keep_backup", route.epoch, route.backup)
    return is_filled


async def _publish(supervisor: Any, number: int, route: Route) -> None:
    """Write the board, again and again: whether it was written is not known where the scheduler is silent."""
    while True:
        try:
            return await supervisor.publish({number: route})
        except OSError:
            await asyncio.sleep(PAUSE_S)
