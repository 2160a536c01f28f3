"""The hosts of a store: one on each of some workers, made, watched and given up. Runs on the client's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import count
from time import monotonic
from typing import Any

from dparallel import compat
from dparallel.errors import StoreWarning, WorkerVersionError, warn
from dparallel.store.host import ShardHost
from dparallel.store.messages import HostReport, Seat

logger = logging.getLogger(__name__)

TICK_S = 0.1
SILENT_S = 2.0  # a host that does not answer for so long is taken for dead
N_RETRIES = 4
N_FAILURES = 2  # a scheduler that did not answer so many times in a row is taken for lost
FIRST_CONTACT_S = REPORT_S = 1.0
LOOK_S = 0.5  # how often to look for new workers
CALL_S = 5.0
JOIN_S = 20.0
ORDER_S = 60.0
CLOSE_S = 1.0


class Fleet:
    """Keeps so many hosts alive, on as many workers.

    Parameters
    ----------
    client : distributed.Client
    board : str, name of the store's board, part of the names of its keys
    n_wanted : int, hosts beyond which no more are made
    changed : function without arguments, called when a host came, was lost, or reports trouble

    Attributes
    ----------
    hosts : dict of Seat to HostReport, its newest; those that live
    drained : set of addresses of workers that get no host
    scheduler_is_lost : bool
    has_tables : bool, whether hosts are to be ready for sparse tables

    Notes
    -----
    Time is counted in turns of the event loop, so that hosts are not given up because this process stood still.
    """

    def __init__(self, client: Any, board: str, n_wanted: int, changed: Callable[[], None]):
        self.hosts: dict[Seat, HostReport] = {}
        self.drained: set[str] = set()
        self.scheduler_is_lost = False
        self.n_wanted = n_wanted
        self.has_tables = False
        self.past_counts: list[dict[int, dict[str, int]]] = []
        self._client = client
        self._board = board
        self.changed = changed
        self._names = count()
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._refused: set[str] = set()
        self._warming: set[Seat] = set()
        self._looker: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()  # a host came or was lost

    async def start(self, patience_s: float) -> None:
        """Make hosts on the workers there are; return when all are there, or some and patience ends.

        May be called again where more are wanted, and while it runs.
        """
        workers = await compat.list_workers(self._client)
        if workers:
            await compat.look_for_workers(self._client, workers[0], FIRST_CONTACT_S)
        await self._look(workers)
        if self._looker is None:
            self._looker = asyncio.get_running_loop().create_task(self._keep_looking())
        until = monotonic() + patience_s
        enough = monotonic() + SILENT_S  # then those that are there must do, others may be busy with long tasks
        while self._warming or (monotonic() < until and not (self.hosts and monotonic() > enough)):
            if self.hosts and len(self.hosts) >= len(self._tending):
                return
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), TICK_S)

    async def look_around(self) -> None:
        """Make hosts on workers that have joined, and wait until they are there, or their workers prove busy."""
        await self._look()
        until, busy = monotonic() + JOIN_S, monotonic() + SILENT_S
        while monotonic() < until and self._tending.keys() - {seat.address for seat in self.hosts}:
            if not self._warming and monotonic() > busy:
                return
            await asyncio.sleep(TICK_S / 5)

    async def call(self, seat: Seat, method: str, *arguments: Any, limit_s: float = CALL_S) -> Any:
        """Call a method of a host.

        Raises
        ------
        OSError
            If it does not answer in time (TimeoutError is one), or is gone.
        """
        talk = compat.call_actor(self._client, seat.address, seat.key, method, arguments, 1.0)
        try:
            return await asyncio.wait_for(talk, limit_s)
        except compat.ActorGone as error:
            raise ConnectionError(f"worker {seat.address} has no host {seat.key} any more") from error

    async def order(self, seat: Seat, method: str, *arguments: Any, other: Seat | None = None) -> Any:
        """Call a method of a host that may be called twice, again and again while it lives.

        Parameters
        ----------
        other : Seat of another host that must live for this, or None

        Raises
        ------
        OSError
            If one of them was given up.
        """
        while self._are_alive(seat, other):
            call = asyncio.ensure_future(self.call(seat, method, *arguments, limit_s=ORDER_S))
            try:
                while self._are_alive(seat, other):
                    if (await asyncio.wait({call}, timeout=TICK_S))[0]:
                        return call.result()
            except OSError as error:
                logger.info("%s of %s is called again after %r", method, seat, error)
                await asyncio.sleep(TICK_S / 2)
            finally:
                call.cancel()
        raise ConnectionError(f"{seat} or {other} is lost")

    def _are_alive(self, seat: Seat, other: Seat | None) -> bool:
        return seat in self.hosts and (other is None or other in self.hosts)

    def candidates(self, without: Iterable[str] = ()) -> list[Seat]:
        """Return hosts that may be given a replica, but none on these workers."""
        unwanted = {*without, *self.drained}
        return [seat for seat in self.hosts if seat.address not in unwanted]

    async def refresh(self, seats: Iterable[Seat] | None = None) -> None:
        """Ask these hosts, or all, for a report; those that do not answer soon keep their last one."""

        async def ask(seat: Seat) -> None:
            report = await self.call(seat, "report", limit_s=REPORT_S)
            if seat in self.hosts:
                self.hosts[seat] = report

        await asyncio.gather(*map(ask, self.hosts if seats is None else seats), return_exceptions=True)

    async def close(self) -> None:
        """End all hosts."""
        if self._looker is not None:
            await end([self._looker])  # first, or it makes new hosts in place of the closed ones
        closing = (self.call(seat, "close", limit_s=CLOSE_S) for seat in self.hosts)
        await asyncio.gather(*closing, return_exceptions=True)
        await end(list(self._tending.values()))
        self.hosts.clear()

    async def _keep_looking(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
                failures = 0
            except Exception as error:
                if not isinstance(error, OSError):
                    logger.exception("The workers could not be listed")
                failures += 1
            is_lost = failures >= N_FAILURES
            if is_lost != self.scheduler_is_lost:
                self.scheduler_is_lost = is_lost
                self.changed()

    async def _look(self, workers: list[str] | None = None) -> None:
        """Make hosts on new workers as far as wanted, and give up those whose worker has left."""
        if self._client.status != "running":
            raise ConnectionError(f"the client is {self._client.status}")
        there = await asyncio.wait_for(compat.list_workers(self._client), SILENT_S) if workers is None else workers
        for address, task in list(self._tending.items()):
            if address not in there:
                task.cancel()
        self.drained &= set(there)
        free = [address for address in there if address not in self._tending.keys() | self._refused | self.drained]
        while free and len(self._tending.keys() - self.drained) < self.n_wanted:
            address = min(free, key=self._machine_load)
            free.remove(address)
            self._tending[address] = asyncio.get_running_loop().create_task(self._tend(address))

    def _machine_load(self, address: str) -> int:
        return sum(machine_of(other) == machine_of(address) for other in self._tending)

    async def _tend(self, address: str) -> None:
        """Make a host, take its reports, and give it up when it is dead."""
        seat = Seat(address, f"{self._board}-host-{next(self._names)}")
        arguments = self._board, seat.key, import_module("dparallel").__version__, self.has_tables
        future = compat.submit_actor(self._client, ShardHost, arguments, seat.key, address)
        try:
            await self._make(future, address)
            self.hosts[seat] = await self._warm_up(seat)
            self._moved.set()
            self.changed()
            while True:
                report = await self._watch(seat)
                trouble = report.is_leaving or any(replica.is_broken for replica in report.replicas.values())
                self.hosts[seat] = report
                if trouble:
                    self.changed()
                    await asyncio.sleep(TICK_S / 2)
        except OSError as error:
            logger.info("Host %s is lost: %r", seat, error)
        finally:
            future.release()
            if seat in self.hosts:
                self.past_counts.append(self.hosts.pop(seat).counts)
            if self._tending.get(address) is asyncio.current_task():
                del self._tending[address]
            self._moved.set()
            self.changed()

    async def _make(self, future: Any, address: str) -> None:
        try:
            await compat.actor_is_made(future)
        except (ImportError, WorkerVersionError, AttributeError) as error:
            self._refused.add(address)
            warn(f"Worker {address} gets no shards: {error}", StoreWarning)
            raise OSError from error
        except Exception as error:  # its worker died meanwhile, or somebody cancelled the future
            raise OSError from error

    async def _warm_up(self, seat: Seat) -> HostReport:
        """Wait for the report of a host that has loaded what it needs: no shard is to wait for that."""
        self._warming.add(seat)
        try:
            return await self.call(seat, "ready", limit_s=ORDER_S)
        finally:
            self._warming.discard(seat)

    async def _watch(self, seat: Seat) -> HostReport:
        """Wait for the next report.

        Raises
        ------
        OSError
            If the host is dead.
        """
        try:
            return await self._ask_patiently(seat, "watch")
        except TimeoutError:
            raise
        except OSError:
            for _ in range(N_RETRIES):
                if seat.address not in await self._list_patiently():
                    break
                with contextlib.suppress(OSError):
                    return await self.call(seat, "report", limit_s=TICK_S)
            raise

    async def _list_patiently(self) -> list[str]:
        while True:
            try:
                return await asyncio.wait_for(compat.list_workers(self._client), SILENT_S)
            except OSError:  # the scheduler is silent, so nothing is known about the host
                await asyncio.sleep(TICK_S)

    async def _ask_patiently(self, seat: Seat, method: str) -> Any:
        call = asyncio.ensure_future(self.call(seat, method, limit_s=60.0))
        try:
            for _ in _turns(SILENT_S + 1.0):
                if (await asyncio.wait({call}, timeout=TICK_S))[0]:
                    return call.result()
        finally:
            call.cancel()
        raise TimeoutError(f"{seat} did not answer for {SILENT_S} s")


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end, again and again: before Python 3.12 wait_for may swallow a cancellation."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        pending = (await asyncio.wait(pending, timeout=TICK_S))[1]


def machine_of(address: str) -> str:
    """Return the host part of a worker's address, "tcp://10.0.0.5:4321" -> "tcp://10.0.0.5"."""
    return address.rpartition(":")[0]


def _turns(seconds: float) -> range:
    return range(round(seconds / TICK_S))
