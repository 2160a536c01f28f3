"""Scores of a fitted tree, block by block, where the data are."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.blocks.block import Block, Blocks
from dparallel.blocks.shards import Shard
from dparallel.estimators.decision_tree.paths import Values
from dparallel.estimators.sgd.classes import flat
from dparallel.estimators.sgd.numbers import to_numbers
from dparallel.moments import naming
from dparallel.rounds import reduce_once


@dataclass(frozen=True)
class _Right:
    """Partial: weight of the rows that are predicted rightly, and of all."""

    predict: Values

    def __call__(self, shard: Shard, state: None) -> np.ndarray:
        total = np.zeros(2)
        for block in shard.blocks:
            with naming(block):
                right = np.asarray(self.predict(block.X) == flat(block.y))
            total += np.array([_weights(block)[right].sum(), _weights(block).sum()])
        return total


@dataclass(frozen=True)
class _Errors:
    """Partial: weight, weighted targets, their squares, squares of errors, and the number of rows.

    center : float, subtracted from the targets
    """

    predict: Values
    center: float

    def __call__(self, shard: Shard, state: None) -> np.ndarray:
        total = np.zeros(5)
        for block in shard.blocks:
            with naming(block):
                y, found = to_numbers(block.y), self.predict(block.X)
            weights = _weights(block)
            away, error = y - self.center, y - found
            total += np.array([weights.sum(), weights @ away, weights @ away**2, weights @ error**2, len(y)])
        return total


def _weights(block: Block) -> np.ndarray:
    return np.ones(block.n_rows) if block.sample_weight is None else block.sample_weight


def accuracy(blocks: Blocks, predict: Values) -> float:
    """Share of the rows' weight that is predicted rightly; one round."""
    right, total = reduce_once(blocks, _Right(predict), operator.add)
    return float(right / total)


def r2(blocks: Blocks, predict: Values, center: float) -> float:
    """Share of the targets' variance that is predicted; NaN for fewer than two rows; one round.

    Parameters
    ----------
    center : float, a number near the targets, from which their spread is measured
    """
    sums: Any = reduce_once(blocks, _Errors(predict, center), operator.add)
    weight, first, second, errors, n_rows = sums.tolist()
    if n_rows < 2:
        return float("nan")
    spread = second - first * first / weight
    if not spread > 1e-14 * second:  # all targets are equal
        return 1.0 if errors == 0.0 else 0.0
    return 1.0 - errors / spread
