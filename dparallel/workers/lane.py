"""A lane: one thread that runs the steps of its partitions, wherever that thread is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.compat import is_given_up, worker_of_this_task
from dparallel.errors import ConsistencyError
from dparallel.store.layout import FullUpdate, Reply
from dparallel.workers.base import AsyncAlgorithm, StepInfo
from dparallel.workers.reading import Read

SUMS = "epoch sums"  # the store's array of shape (2, n_sums): epochs of even and of odd number add to a row each
GATE_S = 2.0  # a step that slower partitions hold up for so long gives its thread free: they may be waiting for it


@dataclass(frozen=True)
class LanePlan:
    """What a lane is to do: the steps of some partitions up to a clock.

    Parameters
    ----------
    token : str, of the fit
    algorithm : AsyncAlgorithm
    handle : Handle of the store
    staleness : int or None
    partitions : numbers of the partitions, ascending
    first_clocks : the clock at which each partition goes on
    stop_clock : int, the first clock that no partition runs
    n_steps : int, clocks of an epoch
    shares : share of each partition's displacement, see StepInfo
    control : see StepInfo
    own_writes : dict of name to factor, for arrays whose optimiser only adds factor * update to the values, so that a
        lane can count its own last update in before the store has answered; empty if there is one that does not
    """

    token: str
    algorithm: AsyncAlgorithm
    handle: Any
    staleness: int | None
    partitions: tuple[int, ...]
    first_clocks: tuple[int, ...]
    stop_clock: int
    n_steps: int
    shares: tuple[float, ...]
    control: Any = None
    own_writes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LaneReport:
    """What a lane did.

    Parameters
    ----------
    next_clocks : the clock at which each partition goes on
    n_steps : int, steps that were computed
    step_s : dict of partition to the mean seconds of a step, of those that ran
    compute_s, wait_s : float, seconds of computing steps, and of waiting for the store
    held_up : str, why it stopped before the stop clock; empty where it did not
    place : str, the address of the worker; empty in this process
    """

    next_clocks: tuple[int, ...]
    n_steps: int = 0
    step_s: Mapping[int, float] = field(default_factory=dict)
    compute_s: float = 0.0
    wait_s: float = 0.0
    held_up: str = ""
    place: str = ""


def run_lane(plan: LanePlan, shards: Sequence[Shard]) -> LaneReport:
    """Run the steps that a plan asks for, skipping those that the store has seen.

    Parameters
    ----------
    plan : LanePlan
    shards : the shard of each of the plan's partitions

    Returns
    -------
    report : LaneReport

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    Exception
        Whatever a step raises.
    """
    return _Lane(plan, shards).run()


def prepare_shard(algorithm: AsyncAlgorithm, token: str, shard: Shard) -> Any:
    """Return what the steps derive from the shard, made by the first who asks."""
    stamp = (token, "prepared")
    with shard.scratch.borrow(stamp) as found:
        prepared = algorithm.prepare(shard) if found is None else found
        shard.scratch.commit(stamp, prepared)
    return prepared


class _Lane:
    """One run of a plan."""

    def __init__(self, plan: LanePlan, shards: Sequence[Shard]):
        self.plan = plan
        self.shards = dict(zip(plan.partitions, shards, strict=True))
        self.shares = dict(zip(plan.partitions, plan.shares, strict=True))
        self.next = dict(zip(plan.partitions, plan.first_clocks, strict=True))
        self.names = [name for name in plan.handle.names if name != SUMS]
        # where the store is near, or every clock has a gate, an answer is awaited before the next step
        self.is_pipelined = plan.staleness != 0 and not plan.handle.is_local
        self.coming: Future[Reply] | None = None
        self.taken_s: dict[int, list[float]] = {}
        self.wait_s = 0.0

    def run(self) -> LaneReport:
        held_up = ""
        try:
            self._run_steps(self._begin())
        except ConsistencyError as error:
            held_up = str(error) or type(error).__name__
        clocks = tuple(self.next[p] for p in self.plan.partitions)
        worker = worker_of_this_task()
        place = "" if worker is None else worker.address
        n_steps = sum(map(len, self.taken_s.values()))
        step_s = {p: sum(taken) / len(taken) for p, taken in self.taken_s.items()}
        compute_s = sum(map(sum, self.taken_s.values()))
        return LaneReport(clocks, n_steps, step_s, compute_s, self.wait_s, held_up, place)

    def _begin(self) -> Reply | None:
        """Find out where the partitions go on; the answer brings the parameters, too, unless a gate or keys matter."""
        handle = self.plan.handle
        is_enough = self.plan.staleness is None and not handle.has_tables
        reply = self._exchange([], self.names if is_enough else [], 0, None)
        self.next = {p: max(clock, reply.progress.get(p, 0)) for p, clock in self.next.items()}
        return reply if is_enough else None

    def _run_steps(self, reply: Reply | None) -> None:
        prepared = {p: prepare_shard(self.plan.algorithm, self.plan.token, shard) for p, shard in self.shards.items()}
        batches = list(self._batches())
        if not batches:
            return
        reads = deque(self._read(batch, prepared) for batch in batches[: 1 + self.is_pipelined])
        clock = batches[0][0][1] + self.is_pipelined
        reply = self._exchange([], self.names, clock, reads[0]) if reply is None else reply
        if len(reads) > 1 and reads[1].keys is not None:
            # the second batch reads other rows; what the first will have done to them is counted in
            self.coming = self._exchange_soon([], self.names, clock, reads[1])
        for i, batch in enumerate(batches):
            if is_given_up():
                raise CancelledError("The fit that this lane belongs to has ended.")
            clock = batch[0][1]
            # the batch whose parameters are pulled now: the next one, or where answers come late the one after it
            ahead = batches[i + 1 + self.is_pipelined : i + 2 + self.is_pipelined]
            names = self.names if ahead else []
            read = reads.popleft()
            updates = [self._step(p, clock, reply, read, prepared[p]) for p, _ in batch]
            reads.extend(self._read(batch, prepared) for batch in ahead)
            send = self._send_ahead if self.is_pipelined else self._send
            reply = send(updates, names, clock, reply, reads)
            for p, _ in batch:
                self.next[p] = clock + 1
        if self.coming is not None:
            self._answer(self.coming)

    def _read(self, batch: list[tuple[int, int]], prepared: Mapping[int, Any]) -> Read:
        """Which rows of sparse tables the steps of a batch read."""
        keys, n_steps = self.plan.algorithm.keys, self.plan.n_steps
        return Read({p: keys(self.shards[p], prepared[p], *divmod(clock, n_steps)) for p, clock in batch})

    def _batches(self) -> Iterator[list[tuple[int, int]]]:
        """Steps that are computed from the same parameters and sent together, as (partition, clock) of one clock.

        A gate waits for all partitions, so where there is one the lane's own are sent together.
        """
        first = dict(self.next)
        for clock in range(min(first.values(), default=0), self.plan.stop_clock):
            ready = [(p, clock) for p in self.plan.partitions if first[p] <= clock]
            if self.plan.staleness is None:
                yield from ([step] for step in ready)
            else:
                yield ready

    def _step(self, partition: int, clock: int, reply: Reply, read: Read, prepared: Any) -> FullUpdate:
        epoch, index = divmod(clock, self.plan.n_steps)
        info = StepInfo(
            partition=partition,
            clock=clock,
            epoch=epoch,
            index=index,
            n_steps=self.plan.n_steps,
            share=self.shares[partition],
            control=self.plan.control,
        )
        parameters = read.of(partition, reply.parameters)
        started = perf_counter()
        values, sums = self.plan.algorithm.step(self.shards[partition], prepared, parameters, info)
        self.taken_s.setdefault(partition, []).append(perf_counter() - started)
        rows = np.zeros((2, self.plan.algorithm.n_sums))
        rows[epoch % 2] = sums
        return FullUpdate((partition, clock), {**values, SUMS: rows}, reply.versions)

    def _send(
        self, updates: list[FullUpdate], names: list[str], clock: int, reply: Reply, reads: Sequence[Read]
    ) -> Reply:
        """Send updates and return the parameters of the next batch."""
        return self._exchange(updates, names, clock + 1, reads[-1] if names else None)

    def _send_ahead(
        self, updates: list[FullUpdate], names: list[str], clock: int, reply: Reply, reads: Sequence[Read]
    ) -> Reply:
        """Send updates without waiting and return the parameters of the next batch.

        Those are the answer to the batch before, with what was sent just now counted in, so that the store answers
        while the next batch is computed. What is pulled here is for the batch after that one, hence clock + 2.
        """
        answered = reply if self.coming is None else self._answer(self.coming)
        self.coming = self._exchange_soon(updates, names, clock + 2, reads[-1] if names else None)
        if not reads:
            return answered  # that was the last batch
        parameters = dict(answered.parameters)
        for name, factor in self.plan.own_writes.items():
            for update in updates:
                if name in update.values and name in parameters:
                    parameters[name] = reads[0].counted_in(name, parameters[name], update.values[name], factor)
        return replace(answered, parameters=parameters)

    def _exchange(self, updates: list[FullUpdate], names: list[str], clock: int, read: Read | None) -> Reply:
        started = perf_counter()
        keys = None if read is None else read.keys
        reply = self.plan.handle.exchange(updates, names, self._gate(names, clock), GATE_S, keys)
        self.wait_s += perf_counter() - started
        return reply

    def _exchange_soon(
        self, updates: list[FullUpdate], names: list[str], clock: int, read: Read | None
    ) -> Future[Reply]:
        keys = None if read is None else read.keys
        return self.plan.handle.exchange_soon(updates, names, self._gate(names, clock), GATE_S, keys)

    def _answer(self, coming: Future[Reply]) -> Reply:
        started = perf_counter()
        reply = coming.result()
        self.wait_s += perf_counter() - started
        return reply

    def _gate(self, names: list[str], clock: int) -> int | None:
        """The clock whose gate a pull waits for; none where nothing is pulled."""
        return clock if names and self.plan.staleness is not None else None
