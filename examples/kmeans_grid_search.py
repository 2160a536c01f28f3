"""
The number of clusters by scikit-learn's GridSearchCV
=====================================================

``GridSearchCV`` and ``Pipeline`` are scikit-learn's own; the steps are dparallel's, and X is a Dask array that is never
turned into a NumPy array. The score of a fold is minus the inertia of the rows left out, computed block by block.

More clusters always score better, so the best score says little. ``GridSearchCV`` lets a function choose instead: here
the last number of clusters that still took a tenth off the inertia.

There is no client here, so threads of this process compute. With a ``Client`` open the same lines run on its cluster.
"""

import dask.array as da
import numpy as np
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline

from dparallel import ParallelKMeans, ParallelStandardScaler

N_BLOCKS = 8
BLOCK_SHAPE = (5_000, 6)
N_MEANS = 5
UNITS = np.array([1.0, 10.0, 1e-3, 1.0, 1e4, 0.1])  # columns of very different size: hence the scaler


def main():
    # the chunks are known, so scikit-learn can pick the rows of a fold
    chunks = ((BLOCK_SHAPE[0],) * N_BLOCKS, BLOCK_SHAPE[1])
    X = da.map_blocks(draw_block, chunks=chunks, dtype=float, meta=np.empty((0, 0)))
    pipeline = Pipeline([("scale", ParallelStandardScaler()), ("cluster", ParallelKMeans(random_state=0))])
    grid = {"cluster__n_clusters": [2, 3, 4, 5, 6, 7, 8]}
    search = GridSearchCV(pipeline, grid, cv=KFold(3), refit=last_that_helps).fit(X)

    print("clusters  inertia of rows left out  seconds per fit")
    results = search.cv_results_
    for n, score, seconds in zip(grid["cluster__n_clusters"], results["mean_test_score"], results["mean_fit_time"]):
        print(f"{n:8}  {-score:24.1f}  {seconds:15.3f}")
    print(f"chosen: {search.best_params_['cluster__n_clusters']} clusters; the rows have {N_MEANS} means")
    labels = search.predict(X)
    print(f"predict gives {labels}")
    print("rows per cluster:", *da.bincount(labels, minlength=search.best_params_["cluster__n_clusters"]).compute())


def last_that_helps(results, gain=0.1):
    """Index of the last number of clusters that took at least a share of gain off the inertia."""
    inertia = -results["mean_test_score"]
    return int(np.flatnonzero(inertia[1:] <= (1 - gain) * inertia[:-1])[-1]) + 1


def draw_block(block_info=None):
    """One block of a Gaussian mixture, always the same: its number seeds the draws."""
    means = np.random.default_rng(7).normal(scale=4, size=(N_MEANS, BLOCK_SHAPE[1]))
    rng = np.random.default_rng([1, block_info[None]["chunk-location"][0]])
    rows = means[rng.integers(N_MEANS, size=BLOCK_SHAPE[0])] + rng.normal(size=BLOCK_SHAPE)
    return rows * UNITS


if __name__ == "__main__":
    main()
