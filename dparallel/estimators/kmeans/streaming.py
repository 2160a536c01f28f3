"""One step of mini-batch k-means, for data that keep coming."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.estimators.kmeans.lloyd import LloydState, Totals, assign_shard
from dparallel.estimators.kmeans.measure import Centres, inertia_shard
from dparallel.rounds import Rounds


@dataclass(frozen=True)
class Step:
    """Centres after a batch, in the data's coordinates, the weight that each has seen, and the batch's inertia before."""

    centres: np.ndarray
    counts: np.ndarray
    inertia: float


@dataclass(frozen=True)
class _Part:
    totals: Totals
    inertia: float

    def add(self, other: _Part) -> _Part:
        return _Part(self.totals.add(other.totals), self.inertia + other.inertia)


def _batch_shard(shard: Shard, state: tuple[Centres, LloydState]) -> _Part:
    centres, lloyd = state
    return _Part(assign_shard(shard, lloyd), inertia_shard(shard, centres))


def update_centres(rounds: Rounds, centres: Centres, counts: np.ndarray) -> Step:
    """Move centres towards the rows of a batch.

    Parameters
    ----------
    counts : ndarray of shape (n_clusters,), float64, weight that each centre has seen so far

    Returns
    -------
    step : Step
    """
    ruler = centres.ruler(rounds.blocks.is_sparse)
    state = LloydState("batch", 0, ruler.frame, ruler.centres)
    part: _Part = rounds.reduce(_batch_shard, _Part.add, (centres, state))
    sums = part.totals.sums + part.totals.rest
    weights = np.where(part.totals.members > 0, sums[:, -1], 0.0)
    seen = counts + weights
    share = np.divide(1.0, seen, out=np.zeros_like(seen), where=weights > 0)[:, None]
    moved = ruler.centres + (sums[:, :-1] - weights[:, None] * ruler.centres) * share
    if centres.unit:
        norms = np.sqrt(np.einsum("ij,ij->i", moved, moved))[:, None]
        moved = np.divide(moved, norms, out=ruler.centres.copy(), where=norms > 0)
    return Step(ruler.frame.leave(moved), seen, part.inertia)
