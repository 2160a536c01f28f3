"""
A search over data that never leave the workers
===============================================

A table lies in blocks of lengths that nobody knows, as after a filter. ``GridSearchCV`` of
``dparallel.model_selection`` computes it once and keeps it on the workers, makes scikit-learn's stratified folds block
by block, and scores every fold there. What comes to this process are counts, scores and models.

Here two worker processes are started on this machine; with the address of a cluster the same lines run there.
"""

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.pipeline import Pipeline

from dparallel import AsyncSGDClassifier, ParallelStandardScaler
from dparallel.metrics import confusion_matrix
from dparallel.model_selection import GridSearchCV, train_test_split

N_BLOCKS = 8
N_ROWS = 5_000
UNITS = np.array([1.0, 100.0, 1e-3, 1.0, 10.0])  # columns of very different size: hence the scaler


def main():
    table = da.map_blocks(draw_block, chunks=((N_ROWS,) * N_BLOCKS, 6), dtype=float, meta=np.empty((0, 0)))
    table = table[table[:, 0] > -1]  # from here on no block knows its length
    X, y = table[:, :5], table[:, 5].astype(int)

    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    pipeline = Pipeline(
        [
            ("scale", ParallelStandardScaler()),
            ("model", AsyncSGDClassifier("log_loss", max_iter=10, random_state=0)),
        ]
    )
    grid = {"model__alpha": [1e-5, 1e-3, 1e-1]}
    search = GridSearchCV(pipeline, grid, scoring=["roc_auc", "neg_log_loss"], refit="neg_log_loss", cv=3)
    search.fit(X_train, y_train)

    print("  alpha  area under ROC  log loss  seconds per fit")
    results = search.cv_results_
    columns = ("mean_test_roc_auc", "mean_test_neg_log_loss", "mean_fit_time")
    for alpha, area, loss, seconds in zip(grid["model__alpha"], *(results[name] for name in columns)):
        print(f"{alpha:7.0e}  {area:14.4f}  {-loss:8.4f}  {seconds:15.2f}")
    print(f"chosen: {search.best_params_}")
    print("rows of each class and prediction, of those held out:")
    print(confusion_matrix(y_test, search.predict(X_test)))


def draw_block(block_info=None):
    """One block of five columns and a class, always the same: its number seeds the draws."""
    rng = np.random.default_rng([1, block_info[None]["chunk-location"][0]])
    rows = rng.normal(size=(N_ROWS, 5))
    chance = 1 / (1 + np.exp(-2 * rows @ [1, -1, 0.5, 0, 0]))
    return np.column_stack([rows * UNITS, rng.random(N_ROWS) < chance])


if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        main()
