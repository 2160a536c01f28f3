"""Plans for lanes: what stays the same in all plans of a training, and how much a lane is given at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dparallel.store.optimizers import SGD, Add
from dparallel.workers.base import AsyncAlgorithm
from dparallel.workers.lane import SUMS, LanePlan

TASK_S = 0.25  # about how long a lane computes before its thread looks for another task


@dataclass(frozen=True)
class Plans:
    """Makes the plans of one training.

    Parameters
    ----------
    token : str, of the fit
    algorithm : AsyncAlgorithm
    handle : Handle of the store
    staleness : int or None
    n_steps : int, clocks of an epoch
    rows : the rows of each block of each partition
    """

    token: str
    algorithm: AsyncAlgorithm
    handle: Any
    staleness: int | None
    n_steps: int
    rows: Sequence[Sequence[int]]

    def progress(self) -> list[int]:
        """Ask the store for the clock at which each partition goes on."""
        known = self.handle.progress()
        return [known.get(p, 0) for p in range(len(self.rows))]

    def make(
        self, partitions: Sequence[int], first_clocks: Sequence[int], stop_clock: int, n_lanes: int, control: Any
    ) -> LanePlan:
        """Make a plan; n_lanes is how many lanes compute at the same time."""
        return LanePlan(
            token=self.token,
            algorithm=self.algorithm,
            handle=self.handle,
            staleness=self.staleness,
            partitions=tuple(partitions),
            first_clocks=tuple(first_clocks),
            stop_clock=stop_clock,
            n_steps=self.n_steps,
            shares=tuple(self._share(p, n_lanes) for p in partitions),
            control=control,
            own_writes=own_writes(self.algorithm.optimizers()),
        )

    def chunk(self, partitions: Sequence[int]) -> int:
        """Return how many clocks of these partitions make a task of decent length, by their shapes alone."""
        seconds = sum(map(self.step_seconds, partitions))
        return max(1, min(self.n_steps, round(TASK_S / max(seconds, 1e-9))))

    def step_seconds(self, partition: int) -> float:
        """Return about how long a step of a partition computes, by its shape alone."""
        return self.algorithm.work_seconds(self.rows[partition]) / self.n_steps

    def _share(self, partition: int, n_lanes: int) -> float:
        """How much a displacement counts.

        Steps that start from the same parameters are averaged, or they would overshoot: behind a gate that is all
        partitions, each by its rows; else about as many as compute at the same time.
        """
        if self.staleness is None:
            return 1.0 / min(n_lanes, len(self.rows))
        return sum(self.rows[partition]) / sum(map(sum, self.rows))


def own_writes(optimizers: Mapping[str, Any]) -> dict[str, float]:
    """Return what one unit of update adds to each array, or nothing if an optimiser does more than add."""
    factors = {}
    for name, optimizer in optimizers.items():
        if isinstance(optimizer, Add):
            factors[name] = 1.0
        elif isinstance(optimizer, SGD):
            factors[name] = -optimizer.learning_rate
        else:
            return {}
    return {name: factor for name, factor in factors.items() if name != SUMS}
