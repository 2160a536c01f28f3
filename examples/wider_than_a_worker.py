"""
A model wider than a worker
===========================

Logistic regression on tiles: X is cut into chunks of rows and chunks of columns, and each of two workers holds half of
the columns, with the slices of the coefficients and of all other vectors of the solver that belong to them. So a model
may be larger than the memory of any one process. Here it is small, so that the example takes no time. What comes to
this process in each iteration are inner products; the coefficients come once, when they are asked for.
"""

import dask
import dask.array as da
import numpy as np
import scipy.sparse
from distributed import Client, LocalCluster

from dparallel import ParallelLogisticRegression

TILE = (2_000, 25_000)  # rows and columns
GRID = (2, 8)
N_CLASSES = 16
VALUES_PER_ROW = 20  # of a tile; the others are zeros that nobody stores


def make_tile(i, j):
    """One tile of X as a CSR matrix, made by whoever needs it."""
    random = np.random.default_rng([i, j])
    columns = np.sort(random.integers(0, TILE[1], (TILE[0], VALUES_PER_ROW)), axis=1)
    pointers = np.arange(TILE[0] + 1) * VALUES_PER_ROW
    tile = scipy.sparse.csr_matrix((random.normal(size=columns.size), columns.ravel(), pointers), TILE)
    tile.sum_duplicates()
    return tile


def main():
    meta = scipy.sparse.csr_matrix((0, 0))
    lazy = dask.delayed(make_tile, pure=True)
    tiles = [[da.from_delayed(lazy(i, j), TILE, meta=meta) for j in range(GRID[1])] for i in range(GRID[0])]
    X = da.concatenate([da.concatenate(row, axis=1) for row in tiles])
    y = np.random.default_rng(0).integers(0, N_CLASSES, X.shape[0])
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster),
    ):
        model = ParallelLogisticRegression(C=1.0, tol=1e-5, max_iter=50).fit(X, y)
        print(
            f"{X.shape[1]} columns x {N_CLASSES} classes in {GRID[0]} x {GRID[1]} tiles, {model.n_iter_[0]} iterations"
        )
        print(model.stop_reason_)
        print(
            f"objective: {model.history_[0].objective:.4f} after the first, {model.history_[-1].objective:.4f} at last"
        )
        received = max(record.bytes_moved for record in model.history_)
        print(f"accuracy on the training rows, scored where the slices are: {model.score(X, y):.3f}")
        print(f"to the driver per iteration: {received / 1e3:.1f} kB; coefficients: {model.coef_.nbytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
