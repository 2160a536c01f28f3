"""Local minibatch SGD from pulled parameters, pushed as a displacement: what the asynchronous engine runs.

What crosses the network per step: the parameters to a worker, and back the displacement, of the same size, and two
sums. Rows stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.estimators.sgd.judge import EpochJudge
from dparallel.estimators.sgd.pace import Pace
from dparallel.estimators.sgd.parameters import PASSIVE
from dparallel.estimators.sgd.rows import (
    PartitionRows,
    Reading,
    ReadyBlock,
    Segment,
    Source,
    Stretch,
    count_batches,
)
from dparallel.estimators.sgd.schedule import Schedule
from dparallel.store.optimizers import Add
from dparallel.workers.base import AsyncAlgorithm, StepInfo

_LARGE = 1 << 62


@dataclass(frozen=True)
class Objective:
    """What is made small.

    Parameters
    ----------
    loss : str, of kernels.losses.LOSSES
    epsilon : float, of the losses that have one
    l2, l1 : float, penalties of the coefficients
    fit_intercept : bool
    """

    loss: str
    epsilon: float = 0.1
    l2: float = 0.0
    l1: float = 0.0
    fit_intercept: bool = True


@dataclass(frozen=True)
class Averaging:
    """When the parameters of every minibatch are added up.

    Parameters
    ----------
    start : int, number of the row, counted from 1 over all partitions, from which on they are
    n_rows : int, rows of all partitions
    rows_before : int, rows that earlier calls of partial_fit have seen
    """

    start: int
    n_rows: int
    rows_before: int = 0

    def skip(self, epoch: int, stretch: Stretch, partition: PartitionRows, pace: Pace) -> int:
        """How many of a stretch's minibatches come before the start."""
        done = epoch + stretch.rows_before / max(1, partition.n_rows)
        seen = self.rows_before + done * self.n_rows
        return max(0, int(np.ceil((self.start - 1 - seen) / pace.batch_size - 1e-9)))


@dataclass(frozen=True)
class LinearSGD(AsyncAlgorithm):
    """Minibatch SGD on a linear model.

    Parameters
    ----------
    coef : ndarray of shape (n_outputs, n_features), float64, to start from
    intercept : ndarray of shape (n_outputs,), float64
    objective : Objective
    schedule : Schedule
    pace : Pace
    reading : Reading
    optimizer : Optimizer of the store, which is given displacements
    verdicts : EpochJudge, as it is before the first epoch
    row_counts : ndarray of shape (n_blocks,), int64
    batches_before, epochs_before : what earlier calls of partial_fit have done, for the schedule and the draws
    averaging : Averaging or None
    sure_rate : float, rate at which a step over all rows never overshoots; 0 where nobody asked
    metric, shift : ndarray of shape (n_features,), float64, see Geometry; None for steps in X's own coordinates
    whole : Source of the only block of data in this process, of which every epoch gives each partition other rows;
        None for data in blocks, whose partitions keep theirs
    """

    coef: np.ndarray
    intercept: np.ndarray
    objective: Objective
    schedule: Schedule
    pace: Pace
    reading: Reading
    optimizer: Any
    verdicts: EpochJudge
    row_counts: np.ndarray
    batches_before: float = 0.0
    epochs_before: int = 0
    averaging: Averaging | None = None
    sure_rate: float = 0.0
    metric: np.ndarray | None = None
    shift: np.ndarray | None = None
    whole: Source | None = None

    n_sums = 2
    source_kind: ClassVar[Any] = Source
    rows_kind: ClassVar[Any] = PartitionRows

    @property
    def is_scored(self) -> bool:  # type: ignore[override]
        """Whether rows are held out."""
        return self.reading.held_out is not None

    def __getstate__(self) -> dict[str, Any]:
        # what only the driver needs stays there: the workers are sent the parameters by the store
        return {**self.__dict__, "coef": None, "intercept": None, "whole": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def initial(self) -> dict[str, np.ndarray]:
        parameters = {"coef": self.coef, "intercept": self.intercept}
        if self.averaging is not None:
            parameters |= {"coef_sum": np.zeros_like(self.coef), "intercept_sum": np.zeros_like(self.intercept)}
            parameters["n_summed"] = np.zeros(1)
        return parameters

    def optimizers(self) -> dict[str, Any]:
        kinds = {"coef": self.optimizer, "intercept": self.optimizer}
        if self.averaging is not None:
            kinds |= {"coef_sum": Add(), "intercept_sum": Add(), "n_summed": Add()}
        return kinds

    def count_steps(self, rows: Sequence[int]) -> int:
        return -(-count_batches(rows, self.pace.batch_size) // self.pace.push_every)

    def work_seconds(self, rows: Sequence[int]) -> float:
        return sum(rows) * self.pace.row_seconds

    def prepare(self, shard: Shard) -> PartitionRows:
        if self.whole is not None:
            low = shard.offset or 0
            return self.rows_kind(self.whole, [Segment(0, low, low + (shard.n_rows or 0))])
        numbers = range(shard.first_block, shard.first_block + len(shard.blocks))
        first_rows = np.concatenate([[0], np.cumsum(self.row_counts)])
        first = first_rows[numbers.start : numbers.stop].tolist()
        source = self.source_kind(shard.blocks.entries, numbers, first, self.reading)
        heights = self.row_counts[numbers.start : numbers.stop].tolist()
        return self.rows_kind(source, [Segment(i, 0, height) for i, height in enumerate(heights)])

    def step(
        self, shard: Shard, prepared: PartitionRows, parameters: Mapping[str, np.ndarray], info: StepInfo
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        sums = np.zeros(2)
        descent = Descent(self, parameters, 1.0 if info.control is None else info.control, sums)
        first = info.index * self.pace.push_every
        descent.visit(prepared, info.epoch, first, first + self.pace.push_every)
        return descent.update(info.share), sums

    def settings(self) -> Any:
        """What the kernel has to know."""
        objective = self.objective
        return kernels.gradient.Settings(
            loss=kernels.losses.LOSSES[objective.loss],
            epsilon=objective.epsilon,
            l2=objective.l2,
            l1=objective.l1,
            batch_size=self.pace.batch_size,
            fit_intercept=objective.fit_intercept,
            intercept_rate=1.0,
        )

    def score(self, shard: Shard, prepared: PartitionRows, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        coef, intercept = published(parameters)
        targets = self.reading.targets
        total: np.ndarray = np.zeros(1)
        for segment in prepared.segments:
            block = prepared.source.block(segment.entry)
            assert block.held is not None and block.held_weights is not None
            rows = segment.low + np.flatnonzero(block.held[segment.low : segment.high])
            scores = kernels.gradient.scores(block.X[rows], coef, intercept)
            total = total + targets.measure(block.y[rows], scores, block.held_weights[rows])
        return total

    def judge(self) -> EpochJudge:
        return replace(self.verdicts)

    def kept(self, parameters: Mapping[str, Any]) -> Any:
        """The parameters that the next call of partial_fit goes on from as a whole, or None."""
        return None


class Descent:
    """Local SGD from pulled parameters.

    Parameters
    ----------
    algorithm : LinearSGD
    parameters : as pulled, not to be changed
    factor : float, what the judge has left of the rate
    sums : ndarray of shape (2,), receives the weighted loss and the weight
    """

    def __init__(self, algorithm: LinearSGD, parameters: Mapping[str, np.ndarray], factor: float, sums: np.ndarray):
        self.algorithm = algorithm
        self.start = parameters["coef"], parameters["intercept"]
        self.coef, self.intercept = (values.copy() for values in self.start)
        self.factor = factor
        self.sums = sums
        self.totals = np.zeros_like(self.coef), np.zeros_like(self.intercept)
        self.n_moved = self.n_summed = self.n_rows = 0

    def visit(self, partition: PartitionRows, epoch: int, first: int, last: int) -> None:
        """Run some minibatches of a partition's epoch; see PartitionRows.between.

        Parameters
        ----------
        epoch : int, counted from 0 in this call of fit or partial_fit

        Raises
        ------
        DataError
            If the parameters left the range of numbers.
        """
        algorithm, size = self.algorithm, self.algorithm.pace.batch_size
        before = algorithm.batches_before + epoch * partition.count_batches(size)
        for stretch in partition.between(algorithm.epochs_before + epoch, first, last, size):
            averaging = algorithm.averaging
            n_alone = _LARGE if averaging is None else averaging.skip(epoch, stretch, partition, algorithm.pace)
            self._run(stretch, before + stretch.batches_before + 1, n_alone)
        if not self._is_finite:
            raise overflow(epoch)

    def _run(self, stretch: Stretch, first: float, n_alone: int) -> None:
        """Run the minibatches of a stretch.

        Parameters
        ----------
        first : float, number of the first one, see Schedule
        n_alone : int, how many of them are not added to the totals
        """
        size = self.algorithm.pace.batch_size
        count = count_batches([len(stretch.rows)], size)
        rates = self.algorithm.schedule.rates(first, count, self.factor)
        n_alone = min(n_alone, count)
        self._train(stretch.block, stretch.rows[: n_alone * size], rates[:n_alone], None)
        self._train(stretch.block, stretch.rows[n_alone * size :], rates[n_alone:], self.totals)
        self.n_moved += count
        self.n_rows += len(stretch.rows)
        self.n_summed += count - n_alone

    def _train(self, block: ReadyBlock, rows: np.ndarray, rates: np.ndarray, totals: Any) -> None:
        if not len(rows):
            return
        algorithm = self.algorithm
        given = (block.X, rows, block.y, block.weights, self.coef, self.intercept, algorithm.settings())
        if algorithm.schedule.kind in PASSIVE:
            kernels.passive.train(*given, rates[0], algorithm.schedule.kind == "pa2", self.sums, totals)
        else:
            kernels.gradient.train(*given, rates, self.sums, totals, algorithm.metric, algorithm.shift)

    @property
    def _is_finite(self) -> bool:
        return bool(np.isfinite(self.coef).all() and np.isfinite(self.intercept).all())

    def update(self, share: float) -> dict[str, np.ndarray]:
        """What to push: displacements, times share, and totals."""
        update = {}
        if self.n_moved:
            update["coef"] = share * (self.start[0] - self.coef)
            if self.algorithm.objective.fit_intercept:
                update["intercept"] = share * (self.start[1] - self.intercept)
        if self.n_summed:
            update |= {"coef_sum": self.totals[0], "intercept_sum": self.totals[1]}
            update["n_summed"] = np.array([float(self.n_summed)])
        return update


def overflow(epoch: int) -> DataError:
    """Return the error of parameters that left the range of numbers; epoch : from 0."""
    return DataError(
        f"Floating-point under-/overflow occurred at epoch #{epoch + 1}. Scaling the input data with "
        "ParallelStandardScaler, or a smaller eta0, might help."
    )


def published(parameters: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients and the intercept that a training has led to: the average where there is one."""
    count = parameters["n_summed"][0] if "n_summed" in parameters else 0
    if not count:
        return parameters["coef"], parameters["intercept"]
    return parameters["coef_sum"] / count, parameters["intercept_sum"] / count
