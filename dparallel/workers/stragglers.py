"""Workers whose steps take persistently longer than the others', and what they should give to others: pure logic."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import dask

from dparallel.rounds.placing import assign_workers

logger = logging.getLogger(__name__)

N_REPORTS = 3  # that all have to be slow: a chance delay is no straggler
COLD = 6.0  # a worker that has not reported yet may have to load or compile what its steps need: so much longer
GAIN = 0.9  # a partition moves if who takes it is then done in at most this share of the straggler's time


@dataclass(frozen=True, slots=True)
class PartitionMove:
    """A partition that a straggler gave to another worker.

    Parameters
    ----------
    epoch : int, the epoch that ran, from 1
    partition : int
    source, target : str, addresses of the workers
    slowness : float, how many times as long as the others' the source's steps took
    """

    epoch: int
    partition: int
    source: str
    target: str
    slowness: float


@dataclass(frozen=True)
class Patience:
    """When a worker is taken for a straggler.

    Parameters
    ----------
    factor : float above 1; a straggler's steps take more than so many times what the others' take; inf for never
    after_s : float, seconds for which it must have been so
    pardon_s : float, seconds until a straggler is given its share again; twice as long at every relapse
    late_s : float, seconds without any step after which a task is given up and run again elsewhere
    """

    factor: float = 2.0
    after_s: float = 2.0
    pardon_s: float = 30.0
    late_s: float = 5.0

    @classmethod
    def configured(cls) -> Patience:
        """Return what dparallel.workers in Dask's configuration says."""
        factor = dask.config.get("dparallel.workers.straggler-factor", cls.factor)
        return cls(
            float("inf") if factor is None else float(factor),
            *(
                dask.utils.parse_timedelta(dask.config.get(f"dparallel.workers.{name}", f"{default}s"))
                for name, default in (
                    ("straggler-after", cls.after_s),
                    ("straggler-pardon", cls.pardon_s),
                    ("late-after", cls.late_s),
                )
            ),
        )


class Stragglers:
    """Keeps the pace of every worker and deals partitions so that no straggler holds up the others.

    Parameters
    ----------
    costs : list of float, about how long a step of each partition computes, in any unit
    patience : Patience

    Attributes
    ----------
    slowness : dict of str to float; addresses of the stragglers, and how many times as long as the others' their steps
        take

    Notes
    -----
    A worker is as slow as its fastest partition, so that one whose rows take long makes no straggler of any worker
    that it is moved to. Two thresholds keep partitions from going to and fro: a straggler is not measured again before
    it is pardoned, which takes twice as long every time, and a partition moves only for a clear gain.
    """

    def __init__(self, costs: Sequence[float], patience: Patience):
        self._costs = [cost if cost > 0.01 * max(costs) else 0.0 for cost in costs]
        self._patience = patience
        self._seen: dict[str, dict[int, deque[tuple[float, float]]]] = defaultdict(dict)
        self._pardoned_at: dict[str, float] = {}
        self._terms_s: dict[str, float] = {}
        self.slowness: dict[str, float] = {}

    def note(self, worker: str, step_seconds: Mapping[int, float], now: float) -> None:
        """Take in a report.

        Parameters
        ----------
        worker : str, its address
        step_seconds : dict of partition to the mean time of its steps
        now : float, seconds on any clock
        """
        for partition, seconds in step_seconds.items():
            if not self._costs[partition]:
                continue  # next to no rows: its steps say nothing about the worker
            for other in self._seen.keys() - {worker}:
                self._seen[other].pop(partition, None)  # it was theirs before
            seen = self._seen[worker].setdefault(partition, deque())
            seen.append((now, seconds / self._costs[partition]))
            while len(seen) > N_REPORTS and seen[1][0] <= now - self._patience.after_s:
                seen.popleft()

    def review(self, workers: Collection[str], now: float) -> bool:
        """Find stragglers among the workers that are there, and pardon others; return whether anything changed."""
        for worker, seen in list(self._seen.items()):
            if worker not in workers or not seen:
                del self._seen[worker]
        pardoned = [worker for worker, at in self._pardoned_at.items() if now >= at or worker not in workers]
        for worker in pardoned:
            self._pardoned_at.pop(worker)
            self.slowness.pop(worker)
        paces = {worker: self._pace(worker) for worker in self._seen if worker not in self.slowness}
        found = {}
        for worker, pace in paces.items():
            others = [self._typical(other) for other in paces if other != worker]
            if others and pace > self._patience.factor * median(others):
                found[worker] = pace / median(others)
        for worker, slowness in found.items():
            self.condemn(worker, slowness, now)
        return bool(found or pardoned)

    def condemn(self, worker: str, slowness: float, now: float) -> None:
        """Take a worker for a straggler until its time is up."""
        logger.info("%s takes %.1f times as long as other workers: its partitions move away", worker, slowness)
        term_s = self._terms_s[worker] = 2 * self._terms_s.get(worker, self._patience.pardon_s / 2)
        self._pardoned_at[worker] = now + term_s
        self.slowness[worker] = slowness
        self._seen.pop(worker, None)

    def limit_s(self, worker: str, partitions: Sequence[int]) -> float:
        """Return how long nothing may be heard of a task that runs steps of these partitions, in seconds."""
        step_s = self.expected_s(partitions)
        if step_s is None:
            return float("inf")
        patience_s = self._patience.late_s * (1.0 if self._seen.get(worker) else COLD)
        return patience_s + self._patience.factor * step_s

    def expected_s(self, partitions: Sequence[int]) -> float | None:
        """Return how long a step of each of these takes together on most workers; None while nothing is known."""
        known = [self._typical(worker) for worker, seen in self._seen.items() if seen]
        return median(known) * sum(self._costs[p] for p in partitions) if known else None

    def assign(self, holders: Sequence[str | None], threads: Mapping[str, int]) -> list[str]:
        """Give each partition a worker as assign_workers does, stragglers less.

        Parameters
        ----------
        holders : the worker that holds each partition now, None where none does
        threads : threads of each worker, by address; at least one worker
        """
        homes = assign_workers(holders, threads)
        slow = [worker for worker in self.slowness if worker in threads]

        def load(worker: str, *more: int) -> float:
            costs = [self._costs[p] for p, home in enumerate(homes) if home == worker] + [self._costs[p] for p in more]
            lanes = (sum(costs[i :: threads[worker]]) for i in range(threads[worker]))
            return self.slowness.get(worker, 1.0) * max(lanes)

        while slow:
            busiest = max(slow, key=load)
            partition = max((p for p, home in enumerate(homes) if home == busiest), default=None)
            others = [worker for worker in threads if worker != busiest]
            if partition is None or not others:
                break
            after = {worker: (load(worker, partition), worker != holders[partition], worker) for worker in others}
            target = min(others, key=after.__getitem__)
            if after[target][0] > GAIN * load(busiest):
                break
            homes[partition] = target
        return homes

    def _pace(self, worker: str) -> float:
        """The least time of a step, by the partition's cost, that a worker has taken of late; 0 while that is open."""
        paces = []
        for seen in self._seen[worker].values():
            is_settled = len(seen) >= N_REPORTS and seen[-1][0] - seen[0][0] >= self._patience.after_s
            paces.append(min(ratio for _, ratio in seen) if is_settled else 0.0)
        return min(paces)

    def _typical(self, worker: str) -> float:
        return median(ratio for seen in self._seen[worker].values() for _, ratio in seen)
