"""Candidates for centres, and how k-means‖ makes centres of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.pools import one_thread

_STARTS = 5  # clustering some hundred candidates costs little beside a round over the rows, and one start often errs


@dataclass(frozen=True)
class Candidates:
    """Rows drawn so far; the last n_fresh have not been measured against yet.

    rows : ndarray of shape (n_candidates, n_features), float64, in the data's coordinates
    """

    frame: Any
    rows: np.ndarray
    n_fresh: int = -1

    def __post_init__(self) -> None:
        if self.n_fresh < 0:
            object.__setattr__(self, "n_fresh", len(self.rows))

    @property
    def points(self) -> np.ndarray:
        """The candidates in the frame."""
        return self.frame.enter(self.rows)

    def add(self, rows: np.ndarray) -> Candidates:
        return Candidates(self.frame, np.concatenate([self.rows, rows]), len(rows))


def recluster(found: Candidates, weights: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Cluster weighted candidates by greedy k-means++ and Lloyd, both weighted.

    Parameters
    ----------
    weights : ndarray of shape (n_candidates,), weight of the rows nearest to each candidate

    Returns
    -------
    centres : ndarray of shape (at most n_clusters, n_features), float64, in the data's coordinates
    """
    from sklearn.cluster import KMeans

    points, first = np.unique(found.points, axis=0, return_index=True)
    if len(points) <= n_clusters:
        return found.rows[np.sort(first)]
    # a candidate of weight 0 lies nearest to no row: a later one took them all
    useful = weights > 0
    if useful.sum() > n_clusters:
        points, weights = found.points[useful], weights[useful]
    else:
        points = found.points
        weights = np.maximum(weights, np.finfo(float).tiny)
    model = KMeans(n_clusters, init="k-means++", n_init=_STARTS, random_state=seed % 2**32)
    with one_thread("openmp"):  # three threads and more add up in the order in which they finish
        model.fit(points, sample_weight=weights)
    return found.frame.leave(model.cluster_centers_)
