"""Lanes on the workers of a Dask cluster: short tasks, refilled as they end, moved when workers come and go."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any

from dparallel.blocks.shards import Shard
from dparallel.errors import ClusterLostError, StoreUnavailable
from dparallel.rounds import tasks
from dparallel.rounds.cluster import ClusterRounds
from dparallel.rounds.watching import TICK_S, Stuck
from dparallel.workers.lane import LanePlan, LaneReport, run_lane
from dparallel.workers.plans import Plans
from dparallel.workers.stragglers import PartitionMove, Patience, Stragglers

COME_IN_S = 1.0
MAX_FAILURES = 5  # in a row, without a step in between


@dataclass
class Task:
    """A plan that a worker runs or will run.

    Parameters
    ----------
    plan : LanePlan
    future : distributed.Future of its LaneReport
    clocks : clocks of its partitions when something was last heard of it
    heard : float, monotonic time of that, or when it became the first of its lane
    """

    plan: LanePlan
    future: Any
    clocks: tuple[int, ...] = ()
    heard: float = field(default_factory=monotonic)


@dataclass
class Lane:
    """A thread of a worker, as the driver sees it.

    Parameters
    ----------
    worker : str, its address
    partitions : list of int, what it is meant to run
    tasks : deque of Task; the first runs, the second waits for it at the worker so that no time is lost between them
    """

    worker: str
    partitions: list[int] = field(default_factory=list)
    tasks: deque[Task] = field(default_factory=deque)

    @property
    def silent_s(self) -> float:
        """Seconds since something was heard of the task that runs."""
        return monotonic() - self.tasks[0].heard


class WorkerLanes:
    """The lanes of one training on a cluster.

    Parameters
    ----------
    rounds : ClusterRounds, open, with shards that stay what they are: the partitions
    plans : Plans

    Attributes
    ----------
    next : list of int, the clock at which each partition goes on
    n_steps : int, steps computed so far
    seconds_by_worker : dict of str to float, how long each worker has computed steps so far, per thread
    tasks_by_worker : Counter of tasks that ended, by the address of the worker
    moves : list of PartitionMove, what stragglers gave to others
    """

    def __init__(self, rounds: ClusterRounds, plans: Plans):
        self._rounds = rounds
        self._plans = plans
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._names = count()
        self._depth = 2 if plans.staleness is None else 1
        self._looked = monotonic()
        self._failures = 0
        self.n_steps = 0
        self.seconds_by_worker: dict[str, float] = {}
        self.tasks_by_worker: Counter[str] = Counter()
        self.moves: list[PartitionMove] = []
        self._stragglers = Stragglers([*map(plans.step_seconds, range(len(plans.rows)))], Patience.configured())
        rounds.holding.assign = self._stragglers.assign
        self.next = plans.progress()
        self._planned = list(self.next)
        self._set_lanes()

    def advance(self, target: int, limit: int, floor: int, control: Any) -> None:
        """Run until every partition has reached a clock, or the store has fallen back behind another.

        Parameters
        ----------
        target : int, the clock to reach
        limit : int, at least target: how far partitions may run ahead meanwhile
        floor : int, the clock that the store must not fall behind
        control : see StepInfo

        Raises
        ------
        StoreUnavailable, ClusterLostError, DataLostError
        Exception
            Whatever a step raises.
        """
        while floor <= min(self.next) < target:
            try:
                self._rounds.persevere(lambda: self._turn(limit, control))
            except ClusterLostError as error:
                self._forgive(error)

    def _turn(self, limit: int, control: Any) -> None:
        """Keep the lanes full until a task ends."""
        try:
            self._follow()
            self._fill(limit, control)
            futures = [task.future for lane in self._lanes.values() for task in list(lane.tasks)[:1]]
            self._rounds.watch.wait(futures, first=True)
            self._collect()
        except Stuck:
            self._drop_all()
            raise

    def _follow(self) -> None:
        """Give partitions to workers that have joined, and take them from those that are gone or slow."""
        if self._lanes and monotonic() - self._looked < TICK_S:
            return
        self._looked = monotonic()
        holding, before = self._rounds.holding, self._rounds.holding.threads
        self._give_up_late()
        threads = self._rounds.watch.look()
        is_changed = self._stragglers.review(threads, monotonic())
        at = [shard.worker for shard in holding.shards]
        holding.follow(threads, is_changed)
        self._note_moves(at)
        if is_changed or holding.threads != before or not self._lanes:
            self._set_lanes()

    def _note_moves(self, before: list[str]) -> None:
        epoch = min(self.next) // self._plans.n_steps + 1
        slowness = self._stragglers.slowness
        for p, (source, shard) in enumerate(zip(before, self._rounds.holding.shards, strict=True)):
            if source in slowness and shard.worker != source:
                self.moves.append(PartitionMove(epoch, p, source, shard.worker, slowness[source]))

    def _give_up_late(self) -> None:
        """Let others run the partitions of tasks that stand still: their steps count once, whoever is first."""
        heads = [lane for lane in self._lanes.values() if lane.tasks]
        limit_s = self._stragglers.limit_s
        late = [lane for lane in heads if lane.silent_s > limit_s(lane.worker, lane.tasks[0].plan.partitions)]
        if not late:
            return
        asked = monotonic()
        progress = self._plans.progress()
        is_answered_at_once = monotonic() - asked < TICK_S  # else the store stood still
        for lane in late:
            task = lane.tasks[0]
            clocks = tuple(progress[p] for p in task.plan.partitions)
            # behind a gate all but the slowest may be waiting
            may_wait = self._plans.staleness is not None and min(clocks) > min(progress)
            if clocks != (task.clocks or task.plan.first_clocks) or may_wait or not is_answered_at_once:
                task.clocks, task.heard = clocks, monotonic()
            elif self._stragglers.slowness.keys() | {lane.worker} < self._rounds.holding.threads.keys():
                self._take_away(lane.worker, progress, lane.silent_s)

    def _take_away(self, worker: str, progress: list[int], silent_s: float) -> None:
        """Give up all tasks of a worker that seems to stand still; its shards are moved when it is looked for next."""
        usual_s = self._stragglers.expected_s(range(len(self.next))) or 1.0
        for lane in self._lanes.values():
            if lane.worker == worker:
                for task in lane.tasks:
                    self._release(task)
                    for p in task.plan.partitions:
                        self.next[p] = progress[p]
                lane.tasks.clear()
        self._stragglers.condemn(worker, silent_s * len(self.next) / usual_s, monotonic())
        self._rounds.holding.doubt(worker)
        self._plan_anew()

    def _set_lanes(self) -> None:
        """Deal each worker's partitions to its threads; tasks that wait for another of their lane are taken back."""
        holding = self._rounds.holding
        for lane in self._lanes.values():
            while len(lane.tasks) > 1:
                self._release(lane.tasks.pop())
            lane.partitions = []
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.tasks}
        dealt: Counter[str] = Counter()
        for p, shard in enumerate(holding.shards):
            slot = dealt[shard.worker] % holding.threads.get(shard.worker, 1)
            dealt[shard.worker] += 1
            self._lanes.setdefault((shard.worker, slot), Lane(shard.worker)).partitions.append(p)
        self._plan_anew()

    def _plan_anew(self) -> None:
        """Note what each partition will have done when the tasks at the workers have ended."""
        self._planned = list(self.next)
        for lane in self._lanes.values():
            for task in lane.tasks:
                for p in task.plan.partitions:
                    self._planned[p] = task.plan.stop_clock

    def _fill(self, limit: int, control: Any) -> None:
        n_lanes = sum(bool(lane.partitions) for lane in self._lanes.values())
        for lane in self._lanes.values():
            while len(lane.tasks) < self._depth:
                elsewhere = self._busy(lane)
                free = [p for p in lane.partitions if p not in elsewhere and self._planned[p] < limit]
                if not free:
                    break
                first = [self._planned[p] for p in free]
                stop = min(limit, min(first) + self._plans.chunk(free))
                plan = self._plans.make(free, first, max(stop, max(first)), n_lanes, control)
                lane.tasks.append(Task(plan, self._submit(plan, lane)))
                for p in free:
                    self._planned[p] = plan.stop_clock

    def _busy(self, lane: Lane) -> set[int]:
        """Partitions that tasks of other lanes still run."""
        others = (other for other in self._lanes.values() if other is not lane)
        return {p for other in others for task in other.tasks for p in task.plan.partitions}

    def _submit(self, plan: LanePlan, lane: Lane) -> Any:
        shards = [self._rounds.holding.shards[p].future for p in plan.partitions]
        before = lane.tasks[-1].future if lane.tasks else None
        return self._rounds.client.submit(
            run_plan,
            tasks.pack(plan),
            before,
            *shards,
            key=f"dparallel-lane-{self._rounds.token}-{next(self._names)}",
            workers=[lane.worker],
            allow_other_workers=True,
            pure=False,
        )

    def _collect(self) -> None:
        """Take in what the tasks that ended report."""
        held_up = False
        ended = [lane for lane in self._lanes.values() if lane.tasks and lane.tasks[0].future.status == "finished"]
        reports = self._rounds.watch.gather([lane.tasks[0].future for lane in ended])
        for lane, report in zip(ended, reports, strict=True):
            task = lane.tasks.popleft()
            self._release(task)
            self._take(task, report)
            if lane.tasks:
                lane.tasks[0].heard = monotonic()
            held_up = held_up or bool(report.held_up)
        if held_up:
            self._start_over()
        elif ended and any(not lane.partitions for lane in ended):
            self._set_lanes()  # the last task of a lane whose worker is gone: its partitions are free now

    def _take(self, task: Task, report: LaneReport) -> None:
        self.n_steps += report.n_steps
        self.tasks_by_worker[report.place] += 1
        seconds = report.compute_s / self._rounds.holding.threads.get(report.place, 1)
        self.seconds_by_worker[report.place] = self.seconds_by_worker.get(report.place, 0.0) + seconds
        self._failures = 0 if report.n_steps else self._failures
        self._stragglers.note(report.place, report.step_s, monotonic())
        for p, clock in zip(task.plan.partitions, report.next_clocks, strict=True):
            self.next[p] = clock

    def _start_over(self) -> None:
        """Go on from what the store has seen: a lane was held up by slower ones, or the store went back."""
        for lane in self._lanes.values():
            while len(lane.tasks) > 1:
                self._release(lane.tasks.pop())
        known = self._plans.progress()
        running = {p for lane in self._lanes.values() for task in lane.tasks for p in task.plan.partitions}
        self.next = [self.next[p] if p in running else clock for p, clock in enumerate(known)]
        self._plan_anew()

    def _forgive(self, error: ClusterLostError) -> None:
        """Go on after a failure that new tasks may be spared, or raise it.

        Tasks whose workers died several times fail for good though nothing is wrong with them, and a call of the
        store may have found no answer while its shards moved.
        """
        self._failures += 1
        from distributed import KilledWorker

        spared = isinstance(error.__cause__, KilledWorker) or isinstance(error, StoreUnavailable)
        if not spared or self._failures > MAX_FAILURES:
            raise error
        self._drop_all()
        self._rounds.holding.release()
        self.next = self._plans.progress()
        self._planned = list(self.next)

    def _drop_all(self) -> None:
        for lane in self._lanes.values():
            for task in lane.tasks:
                self._release(task)
        self._lanes = {}
        self._planned = list(self.next)

    def _release(self, task: Task) -> None:
        task.future.release()

    def go_back(self) -> None:
        """Go on from what the store has seen, which may be less than the lanes have done."""
        self._drop_all()
        self.next = self._plans.progress()
        self._planned = list(self.next)

    def come_in(self) -> None:
        """Let tasks that have run ahead end, since they still talk to the store, and give up those that wait."""
        for lane in self._lanes.values():
            while len(lane.tasks) > 1:
                self._release(lane.tasks.pop())
        running = [task.future for lane in self._lanes.values() for task in lane.tasks]
        if running:
            from distributed import wait

            with suppress(TimeoutError, CancelledError):
                wait(running, timeout=COME_IN_S)

    def close(self) -> None:
        """Give up whatever still runs."""
        self._drop_all()


def run_plan(payload: bytes, before: LaneReport | None, *shards: Shard) -> LaneReport:
    """Run a lane's plan in a Dask task, after the one before it."""
    plan: LanePlan = tasks.unpack(payload)
    return run_lane(plan, shards)
