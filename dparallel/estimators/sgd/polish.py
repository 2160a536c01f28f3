"""One proximal step over all rows after a training with an L1 penalty: what is near zero becomes zero.

Minibatches leave coefficients that should be zero at the height of their noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.estimators.sgd.algorithm import LinearSGD
from dparallel.rounds import Rounds


@dataclass(frozen=True)
class _Gradient:
    """Sums over rows of the derivatives of their losses, and the number of rows that count."""

    coef: np.ndarray
    intercept: np.ndarray
    n_rows: float

    def merge(self, other: _Gradient) -> _Gradient:
        return _Gradient(self.coef + other.coef, self.intercept + other.intercept, self.n_rows + other.n_rows)


def polish(rounds: Rounds, algorithm: LinearSGD, found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Take the step, in one round.

    Parameters
    ----------
    algorithm : LinearSGD, whose sure_rate is set
    found : coef of shape (n_outputs, n_features) and intercept of shape (n_outputs,), float64

    Returns
    -------
    coef, intercept : of the same shapes; the objective is no higher

    Notes
    -----
    Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm" (2009), the plain step.
    """
    gradient: _Gradient = rounds.reduce(_gradient_of_shard, _Gradient.merge, (algorithm, found))
    if not gradient.n_rows:
        return found
    rate, objective = algorithm.sure_rate, algorithm.objective
    slopes, offset = gradient.coef / gradient.n_rows, gradient.intercept / gradient.n_rows
    metric: Any = 1.0 if algorithm.metric is None else algorithm.metric
    if algorithm.shift is not None:
        slopes = slopes - algorithm.shift * offset[:, None]
    coef = found[0] * np.maximum(0.0, 1.0 - rate * objective.l2 * metric) - rate * metric * slopes
    cut = rate * objective.l1 * metric
    coef = coef - np.clip(coef, -cut, cut)
    if not objective.fit_intercept:
        return coef, found[1]
    intercept = found[1] - rate * offset
    if algorithm.shift is not None:
        intercept = intercept - ((coef - found[0]) * algorithm.shift).sum(axis=1)
    return coef, intercept


def _gradient_of_shard(shard: Shard, state: tuple[LinearSGD, tuple[np.ndarray, np.ndarray]]) -> _Gradient:
    """Partial: the shard's gradient, read off one step of rate 1 from each of its blocks as a whole."""
    algorithm, (start, offset) = state
    settings = algorithm.settings()
    total = _Gradient(np.zeros_like(start), np.zeros_like(offset), 0.0)
    partition = algorithm.prepare(shard)
    for segment in partition.segments:
        block = partition.source.block(segment.entry)
        rows = np.arange(segment.low, segment.high)
        counted = float(np.count_nonzero(block.weights[rows]) if block.weights.size else rows.size)
        if not counted:
            continue
        coef, intercept = start.copy(), offset.copy()
        whole = settings._replace(l1=0.0, l2=0.0, batch_size=rows.size, fit_intercept=True)
        given = (block.X, rows, block.y, block.weights, coef, intercept, whole, np.ones(1), np.zeros(2))
        kernels.gradient.train(*given)
        total = total.merge(_Gradient((start - coef) * counted, (offset - intercept) * counted, counted))
    return total
