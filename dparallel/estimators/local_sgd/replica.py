"""A replica of the parameters: a shard trains it alone for a while, and what that led to is averaged.

What crosses the network per average: the parameters to each shard, and back a displacement of the same size.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.estimators.sgd.algorithm import Descent, LinearSGD
from dparallel.estimators.sgd.rows import PartitionRows
from dparallel.workers.base import EpochReport
from dparallel.workers.lane import prepare_shard

Parameters = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Leg:
    """What each shard runs before the next average.

    Parameters
    ----------
    epoch : int, from 0
    first, last : int, minibatches of the epoch, from 0; the last one does not belong to the leg
    n_epochs : int, above 1 for a leg of whole epochs
    factor : float, what the judge has left of the rate
    """

    epoch: int
    first: int
    last: int
    n_epochs: int = 1
    factor: float = 1.0


@dataclass(frozen=True)
class Totals:
    """Sums over replicas.

    Parameters
    ----------
    n_rows : int, rows visited
    squared_rows : int, sum of the squares of each replica's n_rows
    moved : dict of str to ndarray, displacement of each parameter, from the end back to the start, times n_rows
    squares : float, squared length of the displacements, see squared_length, times n_rows
    sums : ndarray of shape (2,), weighted loss and weight of the rows of the last epoch visited
    summed : dict of str to ndarray, see LinearSGD.averaging
    n_epochs : int, most epochs that a replica ran
    converged : bool, whether all replicas ended by themselves
    """

    n_rows: int
    squared_rows: int
    moved: dict[str, np.ndarray]
    squares: float
    sums: np.ndarray
    summed: dict[str, np.ndarray] = field(default_factory=dict)
    n_epochs: int = 1
    converged: bool = False

    def merge(self, other: Totals) -> Totals:
        """Add the sums over other replicas."""
        return Totals(
            self.n_rows + other.n_rows,
            self.squared_rows + other.squared_rows,
            _add(self.moved, other.moved),
            self.squares + other.squares,
            self.sums + other.sums,
            _add(self.summed, other.summed),
            max(self.n_epochs, other.n_epochs),
            self.converged and other.converged,
        )

    def mean_displacement(self) -> dict[str, np.ndarray]:
        """What the parameters move by when the replicas are averaged, weighted by the rows that each has visited."""
        return {name: values / self.n_rows for name, values in self.moved.items()}


def squared_length(displacement: Parameters, metric: np.ndarray | None) -> float:
    """Squared length of a displacement, in coordinates in which columns are about alike.

    Parameters
    ----------
    displacement : dict of str to ndarray: "coef" of shape (n_outputs, n_features) and "intercept", or none of them
    metric : ndarray of shape (n_features,), see Geometry, or None for X's own coordinates
    """
    with np.errstate(over="ignore"):
        squares = sum(float((values**2).sum()) for name, values in displacement.items() if name != "coef")
        if "coef" in displacement:
            columns = (displacement["coef"] ** 2).sum(axis=0)
            squares += float(columns.sum() if metric is None else columns[metric > 0] @ (1.0 / metric[metric > 0]))
    return squares


@dataclass(frozen=True)
class RunLeg:
    """Partial: run a leg on a shard, from the parameters given."""

    algorithm: LinearSGD
    token: str

    def __call__(self, shard: Shard, state: tuple[Parameters, Leg]) -> Totals:
        parameters, leg = state
        partition = prepare_shard(self.algorithm, self.token, shard)
        descent = Descent(self.algorithm, parameters, leg.factor, np.zeros(2))
        for epoch in range(leg.epoch, leg.epoch + leg.n_epochs):
            descent.sums[:] = 0.0
            descent.visit(partition, epoch, leg.first, leg.last)
        return totals(descent, leg.n_epochs)


@dataclass(frozen=True)
class RunAlone:
    """Partial: train a shard by itself to the end, which its own judge decides."""

    algorithm: LinearSGD
    token: str
    max_epochs: int

    def __call__(self, shard: Shard, parameters: Parameters) -> Totals:
        partition = prepare_shard(self.algorithm, self.token, shard)
        descent = Descent(self.algorithm, parameters, 1.0, np.zeros(2))
        judge = self.algorithm.judge()
        n_batches = partition.count_batches(self.algorithm.pace.batch_size)
        for epoch in range(self.max_epochs if n_batches else 0):
            descent.sums[:] = 0.0
            descent.visit(partition, epoch, 0, n_batches)
            verdict = judge.judge(self._report(shard, partition, epoch, descent))
            descent.factor = verdict.control
            if verdict.reason is not None:
                return totals(descent, epoch + 1, converged=verdict.converged)
        return totals(descent, self.max_epochs, converged=not n_batches)

    def _report(self, shard: Shard, partition: PartitionRows, epoch: int, descent: Descent) -> EpochReport:
        reached = {"coef": descent.coef, "intercept": descent.intercept}
        scores = self.algorithm.score(shard, partition, reached) if self.algorithm.is_scored else None
        return EpochReport(epoch, descent.sums, reached, scores)


def totals(descent: Descent, n_epochs: int, *, converged: bool = False) -> Totals:
    """Sum up what one replica did."""
    update = descent.update(1.0)
    moved = {name: values for name, values in update.items() if name in ("coef", "intercept")}
    n_rows = descent.n_rows
    return Totals(
        n_rows,
        n_rows**2,
        {name: n_rows * values for name, values in moved.items()},
        n_rows * squared_length(moved, descent.algorithm.metric),
        descent.sums,
        {name: values for name, values in update.items() if name not in moved},
        n_epochs,
        converged,
    )


def _add(a: Parameters, b: Parameters) -> dict[str, np.ndarray]:
    """Sum by name; a replica without rows has none."""
    names = [*a, *(name for name in b if name not in a)]
    return {name: functools.reduce(np.add, [part[name] for part in (a, b) if name in part]) for name in names}
