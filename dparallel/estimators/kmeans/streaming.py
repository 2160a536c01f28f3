"""One step of mini-batch k-means, for data that keep coming."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dparallel.estimators.kmeans.lloyd import LloydState, Totals, assign_shard
from dparallel.estimators.kmeans.measure import Centres, inertia_shard
from dparallel.rounds import Rounds


@dataclass(frozen=True)
class Step:
    """Centres after a batch, in the data's coordinates, the weight each has seen, the batch's inertia under them."""

    centres: np.ndarray
    counts: np.ndarray
    inertia: float


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
    total: Totals = rounds.reduce(assign_shard, Totals.add, state)
    sums = total.sums + total.rest
    weights = np.where(total.members > 0, sums[:, -1], 0.0)
    seen = counts + weights
    share = np.divide(1.0, seen, out=np.zeros_like(seen), where=weights > 0)[:, None]
    moved = ruler.centres + (sums[:, :-1] - weights[:, None] * ruler.centres) * share
    if centres.unit:
        norms = np.sqrt(np.einsum("ij,ij->i", moved, moved))[:, None]
        moved = np.divide(moved, norms, out=ruler.centres.copy(), where=norms > 0)
    points = ruler.frame.leave(moved).astype(centres.points.dtype)
    points[weights == 0] = centres.points[weights == 0]  # the way through the frame rounds
    inertia = rounds.reduce(inertia_shard, float.__add__, Centres(points, centres.unit))
    return Step(points, seen, inertia)
