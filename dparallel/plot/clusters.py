"""What k-means has found: its centres, and how well rows fit into their clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.observe.colours import BLUE, RED
from dparallel.plot.drawing import attribute, axes
from dparallel.rounds import reduce_once

N_BINS = 200


def centres(model: Any, *, features: tuple[int, int] | None = None, ax: Any = None) -> Any:
    """Draw the centres of a k-means in two columns or, without a choice, in their own two principal components.

    Parameters
    ----------
    model : fitted ParallelKMeans
    features : (int, int) or None, numbers of two columns
    ax : matplotlib Axes or None for a new figure

    Returns
    -------
    ax : matplotlib Axes; the area of a point is the weight of its centre's rows

    Raises
    ------
    DataError
        If the estimator has no centres, or there is no such column.
    MissingExtraError
        If matplotlib is not installed.
    """
    points = np.asarray(attribute(model, "cluster_centers_", "a ParallelKMeans"), np.float64)
    n_features = points.shape[1]
    if features is not None and not (len(features) == 2 and all(-n_features <= f < n_features for f in features)):
        raise DataError(f"features={features!r} are not two columns of {n_features}. Give the numbers of two columns.")
    weights = np.asarray(model.counts_, np.float64)
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(points), 1 / len(points))
    flat, labels = _flatten(points, weights, features)
    ax = axes(ax)
    ax.scatter(*flat.T, s=60 + 1500 * weights, color=BLUE, alpha=0.5, linewidths=0)
    for number, place in enumerate(flat):
        ax.annotate(str(number), place, ha="center", va="center")
    ax.set(xlabel=labels[0], ylabel=labels[1], title=f"{type(model).__name__}: {len(points)} centres")
    ax.margins(0.15)
    return ax


def _flatten(points: np.ndarray, weights: np.ndarray, features: Any) -> tuple[np.ndarray, list[str]]:
    """Centres in two columns, with the columns' names."""
    if features is None and points.shape[1] == 2:
        features = (0, 1)
    if features is not None:
        return points[:, list(features)], [f"column {f}" for f in features]
    if points.shape[1] == 1:
        return np.column_stack([points[:, 0], np.zeros(len(points))]), ["column 0", ""]
    middle = points - weights @ points
    _, sizes, axes_of = np.linalg.svd(middle * np.sqrt(weights)[:, None], full_matrices=False)
    sizes, axes_of = np.append(sizes**2, 0.0), np.vstack([axes_of, np.zeros(points.shape[1])])
    shares = sizes / max(sizes.sum(), np.finfo(float).tiny)
    return middle @ axes_of[:2].T, [f"component {i + 1} ({shares[i]:.0%} of the variance)" for i in (0, 1)]


@dataclass(frozen=True)
class Silhouettes:
    """Partial of simplified silhouettes: how many rows of each cluster have which, and their sum.

    Parameters
    ----------
    measure : function of a block's X that returns distances of shape (n_rows, n_clusters)
    n_clusters : int
    """

    measure: Any
    n_clusters: int

    def __call__(self, shard: Shard, state: Any) -> tuple[np.ndarray, float]:
        counts, total = np.zeros((self.n_clusters, N_BINS)), 0.0
        for block in shard.blocks:
            labels, values = simplified(self.measure(block.X))
            weights = np.ones(len(values)) if block.sample_weight is None else block.sample_weight
            bins = np.minimum((values + 1) * (N_BINS / 2), N_BINS - 1).astype(int)
            np.add.at(counts, (labels, bins), weights)
            total += float(values @ weights)
        return counts, total


def simplified(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centre and simplified silhouette of each row.

    Parameters
    ----------
    distances : ndarray of shape (n_rows, n_clusters), n_clusters at least 2

    Returns
    -------
    labels : ndarray of shape (n_rows,), int; silhouettes : ndarray of shape (n_rows,), float64, from 0 to 1
    """
    labels = distances.argmin(axis=1)
    nearest, second = np.partition(distances, 1, axis=1)[:, :2].T
    return labels, np.divide(second - nearest, second, out=np.zeros(len(second)), where=second > 0)


def _add(a: tuple[np.ndarray, float], b: tuple[np.ndarray, float]) -> tuple[np.ndarray, float]:
    return a[0] + b[0], a[1] + b[1]


def silhouette(model: Any, X: Any, *, sample_weight: Any = None, ax: Any = None) -> Any:
    """Draw the simplified silhouettes of rows, cluster by cluster, each cluster's rows in falling order.

    One pass over the rows, where they are: counts of each cluster in 200 steps come back, and no rows.

    Parameters
    ----------
    model : fitted ParallelKMeans of at least 2 clusters
    X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
    sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None
    ax : matplotlib Axes or None for a new figure

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    DataError
        If the estimator has no centres, or one only.
    MissingExtraError
        If matplotlib is not installed.

    Notes
    -----
    With a and b the distances of a row to its nearest and its second nearest centre, its silhouette is (b - a) / b.
    Hruschka, de Castro and Campello, "Evolutionary algorithms for clustering gene-expression data" (ICDM 2004);
    scikit-learn's takes mean distances to the rows of a cluster instead, and time that grows with their square.
    """
    n_clusters = len(attribute(model, "cluster_centers_", "a ParallelKMeans"))
    if n_clusters < 2:
        raise DataError("A silhouette compares two clusters at least, and this model has one. Fit more clusters.")
    ax = axes(ax)
    blocks = model._gather(X, sample_weight=sample_weight, reset=False)
    counts, total = reduce_once(blocks, Silhouettes(model._measure(), n_clusters), _add)
    _draw(ax, counts, total / max(counts.sum(), np.finfo(float).tiny))
    ax.set_title(f"{type(model).__name__}: simplified silhouettes")
    return ax


def _draw(ax: Any, counts: np.ndarray, mean: float) -> None:
    from matplotlib import colormaps

    colours = colormaps["tab20"]
    gap = counts.sum() * 0.01
    edges = np.linspace(-1, 1, N_BINS + 1)[1:]
    low, places = 0.0, []
    for number, row in enumerate(counts):
        heights = np.append(0.0, np.cumsum(row[::-1]))
        values = edges[::-1]
        ax.fill_betweenx(low + heights, np.append(values[0], values), step="pre", color=colours(number % 20))
        places.append(low + row.sum() / 2)
        low += row.sum() + gap
    ax.axvline(mean, color=RED, linestyle="--", label=f"mean {mean:.3f}")
    ax.set_yticks(places, [str(number) for number in range(len(counts))])
    ax.set(xlabel="simplified silhouette", ylabel="cluster", xlim=(0, 1))
    ax.legend(loc="lower right")
