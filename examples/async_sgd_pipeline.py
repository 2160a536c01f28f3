"""
The penalty by GridSearchCV, on a Dask array
============================================

``Pipeline`` and ``GridSearchCV`` are scikit-learn's own; the steps are dparallel's, and X is a Dask array that never
becomes a NumPy array: scaling is lazy, training and scoring go to the rows where they are. Few of the 60 columns say
anything about the class, and there are as few rows, so a stronger penalty helps, up to a point.

``GridSearchCV`` itself needs y here, to choose the folds.
"""

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from dparallel import AsyncSGDClassifier, ParallelStandardScaler

N_BLOCKS, N_ROWS, N_FEATURES = 4, 150, 60
UNITS = np.geomspace(1e-3, 1e3, N_FEATURES)  # columns of very different size: hence the scaler


def draw_block(block_info=None):
    """One block of rows, always the same: columns, and the label as the last one."""
    rng = np.random.default_rng([1, block_info[None]["chunk-location"][0]])
    X = rng.normal(size=(N_ROWS, N_FEATURES))
    label = X[:, ::12].sum(axis=1) + rng.normal(scale=2, size=N_ROWS) > 0
    return np.column_stack([X * UNITS, label])


def main():
    rows = da.map_blocks(draw_block, chunks=((N_ROWS,) * N_BLOCKS, N_FEATURES + 1), dtype=float, meta=np.empty((0, 0)))
    X, y = rows[:, :-1], rows[:, -1].astype(int)
    steps = [("scale", ParallelStandardScaler()), ("classify", AsyncSGDClassifier("log_loss", random_state=0))]
    grid = {"classify__alpha": [1e-3, 1e-2, 1e-1, 1.0]}
    with LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster, Client(cluster):
        search = GridSearchCV(Pipeline(steps), grid, cv=3).fit(X, y)
        print("alpha   accuracy on rows left out  seconds per fit")
        results = search.cv_results_
        for alpha, score, seconds in zip(grid["classify__alpha"], results["mean_test_score"], results["mean_fit_time"]):
            print(f"{alpha:<7g} {score:25.3f}  {seconds:15.3f}")
        print("chosen:", search.best_params_["classify__alpha"])
        chances = search.predict_proba(X)
        print(f"predict_proba gives {chances}")
        print("mean chance of class 1:", chances[:, 1].mean().compute().round(3))


if __name__ == "__main__":
    main()
