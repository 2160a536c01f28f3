"""Lanes in this process: a thread per partition, and a store that they call directly."""

from __future__ import annotations

import functools
from typing import Any

from dparallel.place import run_threads
from dparallel.rounds.local import LocalRounds
from dparallel.workers.lane import LanePlan, LaneReport, run_lane
from dparallel.workers.plans import Plans
from dparallel.workers.stragglers import PartitionMove


class ThreadLanes:
    """The lanes of one training in this process.

    Parameters
    ----------
    rounds : LocalRounds, open
    plans : Plans

    Attributes
    ----------
    next : list of int, the clock at which each partition goes on
    n_steps : int, steps computed so far
    seconds_by_worker : dict of str to float, how long each thread has computed steps so far
    moves : an empty list: there is nobody to move partitions to
    """

    def __init__(self, rounds: LocalRounds, plans: Plans):
        self._rounds = rounds
        self._plans = plans
        self.n_steps = 0
        self.seconds_by_worker: dict[str, float] = {}
        self.moves: list[PartitionMove] = []
        self.next = plans.progress()

    def advance(self, target: int, limit: int, floor: int, control: Any) -> None:
        """Run all partitions up to the clock `target`, each on a thread of its own; see WorkerLanes."""
        while floor <= min(self.next) < target:
            waiting = [p for p, clock in enumerate(self.next) if clock < target]
            plans = [self._plans.make((p,), (self.next[p],), target, len(self.next), control) for p in waiting]
            reports = run_threads([functools.partial(self._run, plan) for plan in plans], self._rounds.pool)
            self.n_steps += sum(report.n_steps for report in reports)
            for p, report in zip(waiting, reports, strict=True):
                self.next[p] = report.next_clocks[0]
                name = f"thread {p}"
                self.seconds_by_worker[name] = self.seconds_by_worker.get(name, 0.0) + report.compute_s
            if any(report.held_up for report in reports):
                self.next = self._plans.progress()

    def _run(self, plan: LanePlan) -> LaneReport:
        return run_lane(plan, [self._rounds.shards[p] for p in plan.partitions])

    def go_back(self) -> None:
        """Go on from what the store has seen."""
        self.next = self._plans.progress()

    def come_in(self) -> None:
        """Nobody has run ahead."""

    def close(self) -> None:
        """Nothing is left to end: advance returns when all threads have."""
