"""The first pass over rows whose columns are not looked at one by one, and how such rows lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.estimators.sgd.geometry import Geometry, sparse_eigenvalues_of_shard, sparse_tail_of_shard
from dparallel.estimators.sgd.survey import Summarise, refuse_nothing
from dparallel.moments import naming
from dparallel.rounds import Rounds


@dataclass(frozen=True)
class KeyedSurvey:
    """What is known of CSR rows before any step, see survey.Survey; nothing of it is as long as a row.

    Parameters
    ----------
    rows : rows of each block, in row order
    entries : int, stored values
    weight : float, sum of the rows' weights
    squares : float, sum of weight * squared norm of the row
    n_features : int
    target : LabelSummary or NumberSummary, None for no rows
    """

    rows: tuple[int, ...]
    entries: int
    weight: float
    squares: float
    n_features: int
    target: Any = None
    moments = stored = None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return sum(self.rows)

    def merge(self, other: KeyedSurvey) -> KeyedSurvey:
        """What is known of both sets of rows."""
        targets = [found.target for found in (self, other) if found.target is not None]
        return KeyedSurvey(
            self.rows + other.rows,
            self.entries + other.entries,
            self.weight + other.weight,
            self.squares + other.squares,
            self.n_features,
            targets[0].merge(targets[1]) if len(targets) == 2 else (targets or [None])[0],
        )


def survey(rounds: Rounds, summarise: Summarise) -> KeyedSurvey:
    """Look at all rows, in one round; see survey.survey."""
    state = rounds.blocks.n_features, summarise
    found: KeyedSurvey = rounds.reduce(_survey_shard, KeyedSurvey.merge, state)
    refuse_nothing(found.n_rows, found.weight)
    return found


def _survey_shard(shard: Shard, state: tuple[int, Summarise]) -> KeyedSurvey:
    n_features, summarise = state
    total = KeyedSurvey((), 0, 0.0, 0.0, n_features)
    for block in shard.blocks:
        target = summarise(block.y, block.sample_weight) if block.n_rows else None
        weight = float(block.n_rows) if block.sample_weight is None else float(block.sample_weight.sum())
        found = KeyedSurvey((block.n_rows,), len(block.X.data), weight, _squares(block), n_features, target)
        total = total.merge(found)
    return total


def _squares(block: Block) -> float:
    data, weights = block.X.data, block.sample_weight
    if data.dtype != np.float64 or weights is not None:
        data = data.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = data if weights is None else data * np.repeat(weights, np.diff(block.X.indptr))
        squares = float(scaled @ data)
    if not np.isfinite(squares):
        with naming(block):
            raise DataError(kernels.ruler.blame(block.X))
    return squares


def lie(rounds: Rounds, found: KeyedSurvey, *, fit_intercept: bool, is_quadratic: bool) -> Geometry:
    """Find the geometry of rows in X's own coordinates; see geometry.lie."""
    n_rows = max(1, found.n_rows)
    squared_norm = (found.squares + (found.weight if fit_intercept else 0.0)) / n_rows
    top, middle, n_sampled = map(float, rounds.reduce(sparse_eigenvalues_of_shard, np.add, fit_intercept))
    squares, fourths = rounds.reduce(sparse_tail_of_shard, np.add, fit_intercept) if is_quadratic else (0.0, 0.0)
    tail = float(fourths / squares) if squares > 0 else 0.0
    return Geometry.of_samples(squared_norm, top, middle, n_sampled, tail)
