"""The first pass: is every value finite, how many rows are there, how long are they, and what is there to learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.moments import Moments, measure_block
from dparallel.rounds import Rounds

Summarise = Callable[[Any, np.ndarray | None], Any]


@dataclass(frozen=True)
class Survey:
    """What is known of the rows before any step.

    Parameters
    ----------
    rows : rows of each block, in row order
    stored : ndarray of shape (n_features,), int64, stored values of each column where X is CSR; else None
    moments : Moments of X, weighted
    target : LabelSummary or NumberSummary, None for no rows
    """

    rows: tuple[int, ...]
    stored: np.ndarray | None
    moments: Moments
    target: Any = None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return sum(self.rows)

    @property
    def n_features(self) -> int:
        """The number of columns."""
        return int(self.moments.mean.size)

    @property
    def entries(self) -> int:
        """Values of X that a pass reads."""
        return self.n_rows * self.moments.mean.size if self.stored is None else int(self.stored.sum())

    def merge(self, other: Survey) -> Survey:
        """What is known of both sets of rows."""
        targets = [survey.target for survey in (self, other) if survey.target is not None]
        return Survey(
            self.rows + other.rows,
            _sum(self.stored, other.stored),
            self.moments.merge(other.moments),
            targets[0].merge(targets[1]) if len(targets) == 2 else (targets or [None])[0],
        )


def survey(rounds: Rounds, summarise: Summarise) -> Survey:
    """Look at all rows, in one round.

    Parameters
    ----------
    summarise : summarise_labels or summarise_numbers

    Raises
    ------
    DataError
        If a value is NaN or infinite, or every weight is 0.
    """
    found: Survey = rounds.reduce(survey_shard, Survey.merge, (rounds.blocks.n_features, summarise))
    refuse_nothing(found.n_rows, found.moments.weight)
    return found


def refuse_nothing(n_rows: int, weight: float) -> None:
    """Raise where there is nothing to learn from."""
    if not n_rows:
        raise DataError("Found array with 0 sample(s), while a minimum of 1 is required. Give rows to learn from.")
    if not weight > 0:
        raise DataError("Sample weights must contain at least one non-zero number.")


def survey_shard(shard: Shard, state: tuple[int, Summarise]) -> Survey:
    """Partial: what is known of the shard's rows."""
    n_features, summarise = state
    total = Survey((), None, Moments(0, 0.0, np.zeros(n_features), np.zeros(n_features)))
    for block in shard.blocks:
        stored = np.bincount(block.X.indices, minlength=n_features) if hasattr(block.X, "indptr") else None
        target = summarise(block.y, block.sample_weight) if block.n_rows else None
        total = total.merge(Survey((block.n_rows,), stored, measure_block(block), target))
    return total


def _sum(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return a if b is None else b if a is None else a + b
