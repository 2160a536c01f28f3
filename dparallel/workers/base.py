"""What the asynchronous engine asks of an algorithm, and what it tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.records import RoundRecord
from dparallel.workers.stragglers import PartitionMove


@dataclass(frozen=True, slots=True)
class StepInfo:
    """Which step it is. The same step is always given the same, whoever runs it and however often.

    Parameters
    ----------
    partition : int, number of the partition
    clock : int, number of the partition's step in the whole fit, from 0
    epoch : int, from 0
    index : int, number of the step in its epoch, from 0
    n_steps : int, steps of each partition per epoch
    share : float in (0, 1], by how much the step's displacement of the parameters counts
    control : what the judge decided before this epoch, small and picklable, or None
    """

    partition: int
    clock: int
    epoch: int
    index: int
    n_steps: int
    share: float
    control: Any = None


@dataclass(frozen=True, slots=True)
class Work:
    """What an epoch took, for its record; see EpochRecord."""

    seconds: float
    bytes_moved: int
    n_updates: int = 0
    n_failovers: int = 0
    seconds_by_worker: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpochRecord(RoundRecord):
    """What was done in an epoch of asynchronous training.

    Parameters
    ----------
    round : int, number of the epoch, counted from 1
    objective, change : float or None, as the judge has them
    seconds : float; bytes_moved : int, parameters and updates that steps pulled and pushed
    n_updates : int, steps that were computed meanwhile, those that run ahead of the epoch included
    n_failovers : int, times that another copy, or a snapshot, took over a shard of the store
    seconds_by_worker : dict of str to float, how long each worker computed steps, per thread
    """

    unit: ClassVar[str] = "epoch"

    n_updates: int = field(default=0, kw_only=True)
    n_failovers: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class EpochReport:
    """What is known after all partitions have finished an epoch.

    Parameters
    ----------
    epoch : int, from 0
    sums : ndarray of shape (n_sums,), float64, what the steps of this epoch added up
    parameters : dict of str to ndarray, as on the store then; of sparse tables all (keys, rows)
    scores : ndarray of shape (n_scores,), float64, sum of `score` over the partitions, or None
    """

    epoch: int
    sums: np.ndarray
    parameters: dict[str, np.ndarray]
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Verdict:
    """What follows from an epoch.

    Parameters
    ----------
    reason : str, why to stop, as a sentence; None to go on
    converged : bool, whether that reason is a good end
    control : None or a number, given to the steps of the epochs that follow
    objective, change : float or None, for the record of the epoch
    """

    reason: str | None = None
    converged: bool = True
    control: Any = None
    objective: float | None = None
    change: float | None = None


class Judge(Protocol):
    """Decides at the driver after every epoch; keeps what it needs to remember."""

    def judge(self, report: EpochReport) -> Verdict:
        """Look at an epoch."""

    def state(self) -> dict[str, Any]:
        """Return what it remembers, as plain numbers, strings and lists, for a checkpoint."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what state returned; any exception where the given state, from a file, cannot be that."""


class AsyncAlgorithm:
    """What train runs: subclass it as a frozen dataclass, since it travels to the workers.

    Attributes
    ----------
    n_sums : int, length of the vector that the steps add up
    is_scored : bool, whether `score` is wanted after every epoch
    """

    n_sums = 2
    is_scored = False

    def initial(self) -> dict[str, np.ndarray]:
        """Return the parameters to start from, by name; a SparseTable for what is kept by keys."""
        raise NotImplementedError

    def optimizers(self) -> dict[str, Any]:
        """Return the store's optimizer of each parameter."""
        raise NotImplementedError

    def first_rows(self) -> dict[str, Any]:
        """Return the rows (keys, values) that sparse tables begin with, by name; those left out begin empty."""
        return {}

    def keys(self, shard: Shard, prepared: Any, epoch: int, index: int) -> dict[str, np.ndarray]:
        """Return the keys of each sparse table that a step reads, int64; the step is given these rows, in this order.

        Parameters
        ----------
        epoch, index : int, see StepInfo
        """
        return {}

    def count_steps(self, rows: Sequence[int]) -> int:
        """Return how many steps an epoch of a partition takes whose blocks have so many rows."""
        raise NotImplementedError

    def work_seconds(self, rows: Sequence[int]) -> float:
        """Return about how long one epoch of such a partition computes, from shapes alone."""
        raise NotImplementedError

    def prepare(self, shard: Shard) -> Any:
        """Return what the steps derive from the shard once (codes of labels, weights); kept in its scratch."""
        return None

    def step(
        self, shard: Shard, prepared: Any, parameters: Mapping[str, np.ndarray], info: StepInfo
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return one step's update by name, and what it adds to the sums, of shape (n_sums,), float64.

        It depends on nothing but the shard's rows, the parameters and info, and changes none of them. An index beyond
        the shard's own number of steps returns ({}, zeros): other partitions are longer.
        """
        raise NotImplementedError

    def score(self, shard: Shard, prepared: Any, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return what the shard adds to the scores of an epoch."""
        raise NotImplementedError

    def judge(self) -> Judge:
        """Return a new judge of this fit's epochs."""
        raise NotImplementedError


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Parameters
    ----------
    parameters : dict of str to ndarray, float64; of sparse tables all (keys, rows)
    history : list of RoundRecord, such as EpochRecord, one per epoch
    n_epochs : int, epochs run in all, those before a checkpoint included
    n_steps : int, steps that were applied, over all partitions
    stop_reason : str, a sentence
    converged : bool
    stats : StoreStats, which counts among others how old the parameters were that updates were based on
    moves : list of PartitionMove, partitions that slow workers gave to others
    """

    parameters: dict[str, np.ndarray]
    history: list[RoundRecord]
    n_epochs: int
    n_steps: int
    stop_reason: str
    converged: bool
    stats: Any
    moves: list[PartitionMove] = field(default_factory=list)
