"""Who serves which shard: places copies, replaces those that die, restores what was lost. Runs on the client's loop."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dparallel import compat
from dparallel.errors import StoreError, StoreUnavailable
from dparallel.store.fleet import Fleet, end, machine_of
from dparallel.store.messages import Route, Seat, State
from dparallel.store.routing import CLOSED, LOST, Routing, as_row
from dparallel.store.snapshots import Snapshots
from dparallel.store.spreading import spread

logger = logging.getLogger(__name__)

START_S = 20.0
BOARD_S = 2.0
PAUSE_S = 0.05


class Supervisor:
    """Keeps every shard served.

    Parameters
    ----------
    client : distributed.Client
    routing : Routing of this process, kept up to date
    replicas : int, second copies wanted: 0 or 1
    staleness : int or None, of the shards
    snapshots : Snapshots
    fleet : Fleet that is being made for this board, or None

    Attributes
    ----------
    routes : list of Route, who serves each shard
    failovers, restores : int, times that a second copy took over; that shards went back to a snapshot

    Notes
    -----
    All changes of who serves a shard are made here, one after another, under one lock. The board is written before a
    new primary begins, so that an old one that wakes up and asks finds out.
    """

    def __init__(
        self,
        client: Any,
        routing: Routing,
        replicas: int,
        staleness: int | None,
        snapshots: Snapshots,
        fleet: Fleet | None = None,
    ):
        self.failovers = self.restores = 0
        self.routes = list(routing.routes)
        n_wanted = len(routing.routes) * (1 + replicas) + 1
        self.fleet = Fleet(client, routing.board, n_wanted, self.notice) if fleet is None else fleet
        self.fleet.n_wanted, self.fleet.changed = n_wanted, self.notice
        self._client = client
        self._routing = routing
        self._replicas = replicas
        self._staleness = staleness
        self._snapshots = snapshots
        self.lock = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._noticed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._filling: dict[int, tuple[asyncio.Task[None], Seat]] = {}
        self._has_begun = self._is_closed = self._is_on_board = False

    async def start(self, states: Sequence[State]) -> None:
        """Place all shards with these states.

        Raises
        ------
        StoreUnavailable
            If no worker can hold them.
        """
        self._snapshots.keep([(0, state) for state in states])
        self.fleet.has_tables = any(document.get("tables") for _, document in states)
        await self.fleet.start(START_S)
        if not self.fleet.hosts:
            raise StoreUnavailable(
                f"No worker of {self._client!r} made room for the parameter store in {START_S:g} s: there is none, or "
                "all are busy with long tasks. Start workers, or open the store before the tasks."
            )
        async with self.lock:
            await self._restore(range(len(states)))
            self._has_begun = True
            await self._fill_backups()
        # answers wait for no backup while it is filled, so the store is not ready before all are
        await asyncio.gather(*(task for task, _ in self._filling.values()))
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._repair_when_noticed()), loop.create_task(self._snapshots.run(self))]

    async def close(self) -> None:
        """End all hosts and take down the board; again is the same as once."""
        if self._is_closed:
            return
        self._is_closed = True
        self._routing.failure = CLOSED
        await end([*self._tasks, *(task for task, _ in self._filling.values())])
        await self.fleet.close()
        if self._client.status == "running":
            with suppress(OSError):  # a scheduler that is gone has no board left
                await compat.delete_board(self._client, self._routing.board)

    async def drain(self, address: str) -> None:
        """Move all copies away from a worker, and give it none any more, while the store goes on.

        Raises
        ------
        StoreError
            If there is no such worker, or no other.
        """
        workers = await compat.list_workers(self._client)
        if address not in workers:
            raise StoreError(f"There is no worker {address!r} to drain. Give an address, one of {', '.join(workers)}.")
        self.fleet.drained.add(address)
        while any(address in _addresses(route) for route in self.routes):
            async with self.lock:
                if not self.fleet.candidates():
                    self.fleet.drained.discard(address)
                    raise StoreError(f"There is no other worker to take the shards of {address}. Start one first.")
                with suppress(OSError):  # a death: repaired before the next attempt
                    await self._evacuate()
            self.notice()
            await asyncio.sleep(PAUSE_S)

    async def spread(self) -> None:
        """See spreading.spread."""
        await spread(self)

    @property
    def is_filling(self) -> bool:
        """Whether second copies are being made."""
        return bool(self._filling)

    # Repairs, under the lock

    def notice(self) -> None:
        """Let everything be looked after soon."""
        if self.fleet.scheduler_is_lost:  # said at once: a repair may be under way that waits for the scheduler
            self._routing.failure = LOST
        self._noticed.set()

    async def _repair_when_noticed(self) -> None:
        while True:
            await self._noticed.wait()
            self._noticed.clear()
            try:
                async with self.lock:
                    await self._repair()
            except Exception as error:
                # somebody died meanwhile, or the scheduler is silent; anything else must not end all repairs either
                if not isinstance(error, OSError):
                    logger.exception("A repair of the parameter store failed and is tried again")
                await asyncio.sleep(PAUSE_S)
                self.notice()

    async def _repair(self) -> None:
        if self.fleet.scheduler_is_lost:
            return
        if self._routing.failure == LOST:
            self._routing.failure = None
        alive = self.fleet.hosts
        orphans = [number for number, route in enumerate(self.routes) if route.primary not in alive]
        heirs = [number for number in orphans if self.routes[number].backup in alive]
        if orphans:
            self._snapshots.interrupt()
        if heirs:
            logger.info("Second copies of shards %s take over", heirs)
            await self._promote(heirs)
        lost = [number for number in orphans if number not in heirs]
        if lost:
            await self._restore(lost)
        await self._drop_dead_backups()
        self.fleet.drained |= {seat.address for seat, report in self.fleet.hosts.items() if report.is_leaving}
        if self.fleet.candidates():
            await self._evacuate()
        await self._fill_backups()
        await self._sweep()

    async def _sweep(self) -> None:
        """Let hosts forget the copies that serve nobody any more."""
        stale = [
            (seat, number)
            for seat, report in self.fleet.hosts.items()
            for number in report.replicas
            if seat not in self.routes[number][1:] and (number not in self._filling or self._filling[number][1] != seat)
        ]
        await self._all(self.fleet.call(seat, "drop", number, self.routes[number].epoch) for seat, number in stale)

    async def _promote(self, numbers: Sequence[int]) -> None:
        old = [self.routes[number] for number in numbers]
        await self.publish({number: Route(route.epoch + 1, route.backup) for number, route in zip(numbers, old)})
        results = await self._all(self.ask(number, "promote", self.routes[number].epoch) for number in numbers)
        self.failovers += len(numbers)
        refused = [number for number, result in zip(numbers, results) if result is False]
        if refused:
            await self._restore(refused)

    async def _restore(self, lost: Sequence[int]) -> None:
        """Begin a new reign from the newest snapshot: of the lost shards, or of all where their clocks must agree."""
        kept = self._snapshots.newest
        if kept is None:
            return await self._fail(lost)
        candidates = self.fleet.candidates() or list(self.fleet.hosts)
        if not candidates:
            return None  # a new worker will be noticed
        is_rollback = self._has_begun and self._staleness is not None
        numbers = range(len(self.routes)) if is_rollback else list(lost)
        routes = self.routes.copy()
        for number in numbers:
            primary = routes[number].primary
            if primary not in self.fleet.hosts:
                primary = self._least_loaded(candidates, routes)
            routes[number] = Route(routes[number].epoch + 1, primary)
        logger.info("Shards %s begin from a snapshot: %s", list(numbers), routes)
        for task, _ in self._filling.values():
            task.cancel()
        await self.publish({number: routes[number] for number in numbers})
        await self._all(
            self.ask(number, "install", routes[number].epoch, "primary", *kept[number], is_rollback)
            for number in numbers
        )
        self.restores += self._has_begun
        return None

    async def _drop_dead_backups(self) -> None:
        broken = {
            route.primary for number, route in enumerate(self.routes) if route.primary and self._is_broken(number)
        }
        await self.fleet.refresh(broken)  # the last report may be older than the backup
        dropped = {
            number: route._replace(backup=None)
            for number, route in enumerate(self.routes)
            if route.backup is not None and (route.backup not in self.fleet.hosts or self._is_broken(number))
        }
        if dropped:
            logger.info("Shards %s lose their second copies", list(dropped))
            await self.publish(dropped)
            await self._all(self.ask(number, "set_backup", route.epoch, None) for number, route in dropped.items())

    def _is_broken(self, number: int) -> bool:
        """Whether a primary has said that its backup does not follow."""
        route = self.routes[number]
        host = self.fleet.hosts.get(route.primary) if route.primary is not None else None
        report = None if host is None else host.replicas.get(number)
        return report is not None and report.is_broken and report.epoch == route.epoch

    async def _fill_backups(self) -> None:
        """Let second copies be made, in the background, where they are missing."""
        for task, seat in self._filling.values():
            if seat not in self.fleet.hosts:
                task.cancel()
        for number, route in enumerate(self.routes):
            is_wanted = self._replicas > 0 and route.backup is None and route.primary in self.fleet.hosts
            if is_wanted and number not in self._filling:
                found = self._seat_for_backup(route)
                if found is not None:
                    task = asyncio.get_running_loop().create_task(self._fill_backup(number, route, found))
                    self._filling[number] = task, found

    async def _fill_backup(self, number: int, route: Route, seat: Seat) -> None:
        try:
            is_filled = await self.ask(number, "set_backup", route.epoch, seat, other=seat)
            if is_filled and self.routes[number] == route:
                self.routes[number] = route._replace(backup=seat)  # at once: the primary waits for it from now on
                await self.publish({})
        except OSError:
            await asyncio.sleep(PAUSE_S)
        finally:
            del self._filling[number]
            self.notice()

    async def _evacuate(self) -> None:
        """Serve all shards from other workers than the drained ones."""
        for number, route in enumerate(self.routes):
            # a copy that is being made could push aside the one made here: then this is done again after it
            is_settled = route.primary in self.fleet.hosts and number not in self._filling
            if is_settled and self._is_drained(*route[1:]):
                await self._move_away(number)

    async def _move_away(self, number: int) -> None:
        route = self.routes[number]
        if route.backup is None or self._is_drained(route.backup):
            seat = self._seat_for_backup(route)
            if seat is not None and await self.ask(number, "set_backup", route.epoch, seat, other=seat):
                route = route._replace(backup=seat)
                await self.publish({number: route})
            elif route.backup is not None and not self._is_drained(route.primary):
                await self.ask(number, "set_backup", route.epoch, None)
                route = route._replace(backup=None)
                await self.publish({number: route})
        if self._is_drained(route.primary) and route.backup is not None and not self._is_drained(route.backup):
            await self._promote([number])
            with suppress(OSError):
                if route.primary is not None:
                    await self.fleet.call(route.primary, "drop", number, self.routes[number].epoch)

    def _is_drained(self, *seats: Seat | None) -> bool:
        return any(seat is not None and seat.address in self.fleet.drained for seat in seats)

    # Small things

    async def _fail(self, lost: Sequence[int]) -> None:
        number = lost[0]
        dead = " and ".join(_addresses(self.routes[number])) or "its workers"
        copies = "both copies" if self._replicas else "the only copy"
        self._routing.failure = (
            f"Shard {number} of the parameter store is lost: {dead} died with {copies} of it, and there is no snapshot."
            " Open a new store. Give checkpoint= to go on from the disk, and more workers to make this less likely."
        )
        await self.publish({})

    async def publish(self, changes: Mapping[int, Route]) -> None:
        """Write the board with these changes; then believe them."""
        async with self._writing:
            routes = [changes.get(number, route) for number, route in enumerate(self.routes)]
            value = {"failure": self._routing.failure, "routes": [as_row(route) for route in routes]}
            written = compat.write_board(self._client, self._routing.board, value, is_new=not self._is_on_board)
            await asyncio.wait_for(written, BOARD_S)
            self._is_on_board = True
            for number, route in changes.items():
                self.routes[number] = route
            self._routing.routes = self.routes.copy()

    def ask(self, number: int, method: str, *arguments: Any, other: Seat | None = None) -> Coroutine[Any, Any, Any]:
        seat = self.routes[number].primary
        assert seat is not None
        return self.fleet.order(seat, method, number, *arguments, other=other)

    async def _all(self, talks: Any) -> list[Any]:
        """Wait for all; None where a host was lost, which the next repair sees."""
        results = await asyncio.gather(*talks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, OSError):
                raise result
        return [None if isinstance(result, BaseException) else result for result in results]

    def _least_loaded(self, seats: Sequence[Seat], routes: Sequence[Route]) -> Seat:
        load = Counter(seat for route in routes for seat in route[1:])
        load.update(seat for _, seat in self._filling.values())
        return min(seats, key=lambda seat: load[seat])

    def _seat_for_backup(self, route: Route) -> Seat | None:
        assert route.primary is not None
        seats = self.fleet.candidates(without=[route.primary.address])
        elsewhere = [seat for seat in seats if machine_of(seat.address) != machine_of(route.primary.address)]
        return self._least_loaded(elsewhere or seats, self.routes) if seats else None


def _addresses(route: Route) -> list[str]:
    return [seat.address for seat in route[1:] if seat is not None]
