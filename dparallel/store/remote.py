"""How a task or a client talks to shards on other workers: deadlines, retries, and who serves a shard now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

from dparallel import compat, place
from dparallel.errors import NotYet, PlaceError, RolledBack, StoreError, StoreUnavailable
from dparallel.store.compression import Residuals
from dparallel.store.consistency import as_step
from dparallel.store.layout import FullUpdate, Layout, Reply
from dparallel.store.messages import Answer, Entry, Finish, Request, Route, bytes_of, decode, encode
from dparallel.store.routing import Routing
from dparallel.store.rows import Asked
from dparallel.store.updates import Update

GATE_S = 1.0  # a host lets us wait at the gate for so long before it answers "not yet"
FIRST_LOOK_S = 0.1  # a call that takes longer looks whether somebody else serves the shard by now
LOOK_S = 0.5  # and again
PAUSE_S = 0.02  # between two looks at the board
GRACE_S = 0.3  # how long to look before calling a worker again that did not answer
CONNECT_S = 0.3  # at first: where nobody listens any more there is another primary soon
LAST_CONNECT_S = 1.0
MARGIN_S = 1.0


class RemoteTransport:
    """Exchanges with the shards of a store on a cluster; a plain descriptor that travels to tasks.

    Parameters
    ----------
    board : str, name of the store's board on the scheduler
    layout : Layout
    routes : list of Route, one for each shard, as known now
    deadline_s : float, how long a shard may be unreachable before StoreUnavailable is raised
    client : distributed.Client to use where the caller is no task; None for the active one
    """

    def __init__(self, board: str, layout: Layout, routes: Sequence[Route], deadline_s: float, client: Any = None):
        self.layout = layout
        self.deadline_s = deadline_s
        self.routing = Routing.of(board, routes)
        self._client = client
        self._turns: dict[tuple[int, int | str], asyncio.Future[None]] = {}

    @property
    def residuals(self) -> Residuals:
        """What compressed updates of this process have left out."""
        return self.routing.residuals

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteTransport, (self.routing.board, self.layout, self.routing.routes, self.deadline_s)

    def exchange(
        self,
        updates: Sequence[FullUpdate] = (),
        names: Iterable[str] | None = None,
        clock: int | None = None,
        wait_s: float | None = None,
        keys: Mapping[str, Any] | None = None,
        known: Reply | None = None,
        partitions: Iterable[int] = (),
    ) -> Reply:
        """Push updates in their order, then read what a step of this clock reads; see LocalTransport.exchange.

        Parameters
        ----------
        known : Reply to the same question, whose arrays were not changed: what has not moved since is taken from it
        partitions : of int, whose step it may be that reads, where nothing is pushed: if their last steps were undone,
            RolledBack is raised at once; where it is not said, the gate stays closed until NotYet is raised

        Raises
        ------
        NotYet, StoreError, ConsistencyError
        RolledBack
            If the store went back to a snapshot, before the steps that the partition has done.
        StoreUnavailable
            If a shard cannot be reached before the deadline.
        """
        node = self._node()
        patience_s = self.deadline_s if wait_s is None else wait_s
        requests, asked = self._requests(updates, names, clock, keys, partitions)
        question = requests[0].names, asked and asked.signature
        known = known if known is not None and known.question == question and known.parameters else None
        if known is not None:
            having = zip(requests, known.epochs, known.versions, strict=True)
            requests = [request._replace(known=(epoch, version)) for request, epoch, version in having]
        reply = self._wait(node, self._exchange(node, requests, patience_s, asked, known), patience_s)
        return replace(reply, question=question)

    def exchange_soon(
        self,
        updates: Sequence[FullUpdate] = (),
        names: Iterable[str] | None = None,
        clock: int | None = None,
        wait_s: float | None = None,
        keys: Mapping[str, Any] | None = None,
        partitions: Iterable[int] = (),
    ) -> Future[Reply]:
        """Do what exchange does in the background; the arrays given must not change until it is done."""
        node = self._node()
        patience_s = self.deadline_s if wait_s is None else wait_s
        try:
            requests, asked = self._requests(updates, names, clock, keys, partitions)
        except StoreError as error:
            failed: Future[Reply] = Future()
            failed.set_exception(error)
            return failed
        return self._start(node, self._exchange(node, requests, patience_s, asked))

    def progress(self) -> dict[int, int]:
        """Return the clock of each partition's next step, the least over the shards."""
        return self.exchange((), ()).progress

    def finish(self, partition: int) -> None:
        """Let nobody wait for this partition any more."""
        node = self._node()
        requests = [Request(0, (Finish(partition),)) for _ in range(self.layout.n_shards)]
        self._wait(node, self._exchange(node, requests, 0.0), 0.0)

    def _node(self) -> Any:
        node = compat.worker_of_this_task() or self._client or place.active_client() or compat.running_worker()
        if node is None:
            raise StoreUnavailable(
                "There is no Dask client and no worker here to reach the parameter store by. Use its handle in tasks "
                "of the same cluster, or while its client is open."
            )
        return node

    def _start(self, node: Any, talk: Coroutine[Any, Any, Any]) -> Future[Any]:
        try:
            return asyncio.run_coroutine_threadsafe(talk, compat.event_loop(node))
        except RuntimeError as error:
            talk.close()
            raise self.unavailable(None, f"the client or worker is closed ({error})") from error

    def _wait(self, node: Any, talk: Coroutine[Any, Any, Any], patience_s: float) -> Any:
        """Wait for a coroutine that raises before long itself, unless its event loop has died."""
        limit_s = max(self.deadline_s, patience_s + MARGIN_S) + MARGIN_S / 2
        if compat.is_on_loop(node):
            talk.close()
            raise PlaceError(
                "A handle waits for its answers, so it cannot be used on the event loop of the worker or client. "
                "Use it in a plain function."
            )
        future = self._start(node, talk)
        try:
            try:
                return future.result(LOOK_S)
            except TimeoutError:
                if future.done():
                    raise
            compat.step_aside()
            return future.result(limit_s - LOOK_S)
        except TimeoutError as error:
            raise self.unavailable(None, "no answer came in time") from error
        except CancelledError as error:
            raise self.unavailable(None, "the client or worker shut down") from error
        finally:
            future.cancel()

    async def _exchange(
        self,
        node: Any,
        requests: Sequence[Request],
        patience_s: float,
        asked: Asked | None = None,
        known: Reply | None = None,
    ) -> Reply:
        if self.routing.failure:
            raise StoreUnavailable(self.routing.failure)
        partitions = {entry[0] if isinstance(entry, Finish) else entry.step[0] for entry in requests[0].entries}
        async with self._turn(node, partitions):
            return self._reply(await self._gather(node, requests, patience_s), asked, known)

    @asynccontextmanager
    async def _turn(self, node: Any, partitions: set[int | str]) -> AsyncIterator[None]:
        """Wait for the earlier exchanges that push steps of these partitions, so that none is overtaken."""
        mine = asyncio.get_running_loop().create_future()
        keys = [(id(node), partition) for partition in partitions]
        before = {self._turns[key] for key in keys if key in self._turns}
        self._turns.update(dict.fromkeys(keys, mine))
        try:
            if before:
                await asyncio.wait(before)
            yield
        finally:
            mine.set_result(None)
            for key in keys:
                if self._turns.get(key) is mine:
                    del self._turns[key]

    def _requests(
        self,
        updates: Sequence[FullUpdate],
        names: Iterable[str] | None,
        clock: int | None,
        keys: Mapping[str, Any] | None,
        partitions: Iterable[int],
    ) -> tuple[list[Request], Asked | None]:
        """Cut what is asked into what each shard is asked, and check it."""
        names, asked = self.layout.reading(names, keys)
        entries: list[list[Entry]] = [[] for _ in range(self.layout.n_shards)]
        for update in updates:
            step = as_step(update.step)
            bases = update.versions or (None,) * len(entries)
            for entry, values, base in zip(entries, self.layout.split(update.values), bases, strict=True):
                entry.append(Update(step, values, base))
        readers = () if updates else tuple(partitions)
        parts = asked.parts if asked is not None else [None] * len(entries)
        asking = zip(entries, parts, strict=True)
        return [Request(0, tuple(entry), names, clock, readers, keys=mine) for entry, mine in asking], asked

    async def _gather(self, node: Any, requests: Sequence[Request], patience_s: float) -> list[Answer]:
        """Ask all shards at once."""
        if len(requests) == 1:
            return [await self._ask(node, 0, requests[0], patience_s)]
        tasks = [
            asyncio.ensure_future(self._ask(node, number, request, patience_s))
            for number, request in enumerate(requests)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    def _reply(self, answers: Sequence[Answer], asked: Asked | None, known: Reply | None) -> Reply:
        found = set().union(*(answer.progress for answer in answers))
        progress = {partition: min(answer.progress.get(partition, 0) for answer in answers) for partition in found}
        statuses = {answer.status for answer in answers}
        if "rolled_back" in statuses:
            raise RolledBack(
                "The parameter store went back to a snapshot, because a worker died with the only copy of a shard. "
                "Go on from the clocks in .progress, or keep second copies by replicas=1.",
                progress,
            )
        if "not_yet" in statuses:
            raise NotYet("Slower partitions still hold this step up. Ask again, or finish() a partition that is done.")
        parts = [answer.snapshot.values for answer in answers if answer.snapshot is not None]
        if known is not None and parts.count(None) == len(parts):
            parameters = known.parameters
        else:
            old = {} if known is None else known.parameters
            values = [self.layout.part_of(old, i, asked) if part is None else part for i, part in enumerate(parts)]
            parameters = self.layout.join(values, asked) if parts else {}
        versions = (answer.snapshot.version if answer.snapshot else answer.version for answer in answers)
        return Reply(parameters, tuple(versions), progress, tuple(answer.epoch for answer in answers))

    async def _ask(self, node: Any, number: int, request: Request, patience_s: float) -> Answer:
        """Ask one shard until it answers; at a closed gate until patience ends."""
        start = monotonic()
        end = start if request.names == () or request.clock is None else start + patience_s
        latest = max(start + self.deadline_s, end + MARGIN_S)
        while True:
            wait_s = min(GATE_S, max(0.0, end - monotonic()))
            deadline = min(monotonic() + self.deadline_s, latest)
            answer = await self._reach(node, number, request._replace(wait_s=wait_s), deadline)
            if answer.status != "not_yet" or monotonic() >= end:
                return answer
            request = request._replace(entries=())

    async def _reach(self, node: Any, number: int, request: Request, deadline: float) -> Answer:
        """Ask one shard, whoever serves it, until there is an answer other than "moved"."""
        connect_s, trouble = CONNECT_S, ""
        while True:
            route = self.routing.routes[number]
            grace_s = GRACE_S
            if route.primary is not None:
                try:
                    answer = await self._call(node, number, route, request, connect_s, deadline)
                    if answer.status == "unknown_keys":
                        self.routing.known_lists(node, number, route.primary).forget()
                        continue
                    if answer.status != "moved":
                        return answer
                    grace_s, trouble = PAUSE_S, "it does not serve this shard (any more)"
                except (OSError, compat.ActorGone) as error:
                    trouble = f"{type(error).__name__}: {error}"
                connect_s = LAST_CONNECT_S
            await self._look_for_another(node, number, route, grace_s, deadline, trouble)

    async def _call(
        self, node: Any, number: int, route: Route, request: Request, connect_s: float, deadline: float
    ) -> Answer:
        """Call the primary of a route, as long as it is that."""
        assert route.primary is not None
        address, key = route.primary
        request = request._replace(epoch=route.epoch)
        if compat.is_worker(node) and node.address == address:
            method, message = "exchange", request._replace(entries=tuple(map(_copied, request.entries)))
        else:
            if self.layout.tables:
                request = self.routing.known_lists(node, number, route.primary).packed(request)
            method, message = "exchange_packed", encode(request, bytes_of(request))
        call = asyncio.ensure_future(compat.call_actor(node, address, key, method, (number, message), connect_s))
        look_s = FIRST_LOOK_S
        try:
            while not (await asyncio.wait({call}, timeout=min(look_s, max(0.0, deadline - monotonic()))))[0]:
                if monotonic() >= deadline:
                    raise TimeoutError("no answer")
                await self.routing.look(node)
                look_s = LOOK_S
                if self.routing.routes[number].epoch != route.epoch:
                    raise TimeoutError("another worker serves this shard by now")
            return decode(call.result())
        finally:
            call.cancel()

    async def _look_for_another(
        self, node: Any, number: int, route: Route, grace_s: float, deadline: float, trouble: str
    ) -> None:
        """Look at the board until it names another primary, or it is time to try the old one again."""
        until = monotonic() + grace_s
        while True:
            await self.routing.look(node)
            if self.routing.failure:
                raise StoreUnavailable(self.routing.failure)
            if self.routing.routes[number] != route:
                return
            now = monotonic()
            if now >= deadline or getattr(node.status, "name", node.status) == "closed":
                raise self.unavailable(number, trouble)
            if now >= until:
                return
            await asyncio.sleep(PAUSE_S)

    def unavailable(self, number: int | None, trouble: str) -> StoreUnavailable:
        """Return the error that says that a shard, or None, did not answer."""
        what = "The parameter store" if number is None else f"Shard {number} of the parameter store"
        seat = None if number is None else self.routing.routes[number].primary
        where = "" if seat is None else f" on worker {seat.address}"
        return StoreUnavailable(
            f"{what}{where} did not answer for {self.deadline_s:g} s ({trouble or 'no worker serves it'}). Either the "
            "cluster lost its scheduler or all its workers, or the store was closed. Start workers, open a new store, "
            "and go on from a checkpoint if there is one; dparallel.store.deadline in Dask's config sets the patience."
        )


def _copied(entry: Entry) -> Entry:
    if isinstance(entry, Finish):
        return entry
    return Update(entry.step, {name: array.copy() for name, array in entry.values.items()}, entry.base)
