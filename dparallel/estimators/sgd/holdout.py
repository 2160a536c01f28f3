"""The rows that are held out to judge a training that stops early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.rounds import Rounds


@dataclass(frozen=True)
class HeldOut:
    """Tells which rows are held out: those whose numbers, drawn from (seed, global row number), are small enough.

    Parameters
    ----------
    key : uint64, from kernels.draws.key
    limits : ndarray of shape (n_groups,), float64: the largest number held out of each group (class)
    """

    key: Any
    limits: np.ndarray

    def mask(self, first_row: int, groups: np.ndarray) -> np.ndarray:
        """Which rows of a block are held out, bool of shape (n_rows,); first_row : the block's first global row."""
        return kernels.draws.numbers(self.key, first_row, len(groups)) <= self.limits[groups]


@dataclass(frozen=True)
class _Extremes:
    """Smallest and largest number drawn in each group, rows of weight 0 aside."""

    low: np.ndarray
    high: np.ndarray

    def merge(self, other: _Extremes) -> _Extremes:
        return _Extremes(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def hold_out(rounds: Rounds, targets: Any, seed: int, fraction: float, n_rows: int) -> HeldOut:
    """Choose about a fraction of the rows; at least one of each group that has two or more, and never a whole group.

    Parameters
    ----------
    rounds : Rounds, open, whose row counts are known
    targets : Labels or Numbers
    seed : int; fraction : float
    n_rows : int, for the message

    Raises
    ------
    DataError
        If no group has two rows.
    """
    key = kernels.draws.key(seed, "held out")
    found: _Extremes = rounds.reduce(_extremes_of_shard, _Extremes.merge, (key, targets))
    limits = np.minimum(np.maximum(fraction, found.low), np.nextafter(found.high, 0.0))
    limits = np.where(found.low < found.high, limits, -1.0)
    if not (limits >= 0).any():
        raise DataError(
            f"Splitting {n_rows} samples into a train set and a validation set with validation_fraction={fraction!r} "
            f"led to an empty set ({n_rows} and 0 samples). Please either change validation_fraction, increase number "
            "of samples, or disable early_stopping."
        )
    return HeldOut(key, limits)


def _extremes_of_shard(shard: Shard, state: tuple[Any, Any]) -> _Extremes:
    key, targets = state
    _, n_groups = targets.groups(np.empty(0))
    total = _Extremes(np.full(n_groups, np.inf), np.full(n_groups, -np.inf))
    first = shard.offset or 0
    for block in shard.blocks:
        groups, _ = targets.groups(targets.targets(block.y))
        numbers = kernels.draws.numbers(key, first, block.n_rows)
        first += block.n_rows
        if block.sample_weight is not None:
            groups, numbers = groups[block.sample_weight > 0], numbers[block.sample_weight > 0]
        np.minimum.at(total.low, groups, numbers)
        np.maximum.at(total.high, groups, numbers)
    return total
