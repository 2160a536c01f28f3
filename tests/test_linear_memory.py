"""A model that is wider than one worker's memory: who holds how much of which vector, and that it trains."""

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from dask.sizeof import sizeof
from distributed import Client, LocalCluster, WorkerPlugin

from dparallel import ParallelLogisticRegression
from dparallel.estimators.linear.crew import Crew
from dparallel.estimators.linear.split import SplitCoefficients
from tests.clusters import settle

VECTORS = ("coef", "slice", "ahead")  # a slice is coefficients, gradient and all pairs
STORED = 20  # values in a row of a tile


class Shares(WorkerPlugin):
    """Notes the largest share of the columns of which a worker holds each vector at one time."""

    name = "shares"

    def __init__(self, n_columns):
        self.n_columns = n_columns

    def setup(self, worker):
        self.worker = worker
        self.largest = dict.fromkeys(VECTORS, 0.0)

    def transition(self, key, start, finish, **more):
        if finish == "memory" and str(key).startswith("dparallel-"):
            held = [str(key).split("-") for key in list(self.worker.data)] + [str(key).split("-")]
            for vector in VECTORS:
                columns = {parts[2] for parts in held if parts[:2] == ["dparallel", vector]}
                self.largest[vector] = max(self.largest[vector], len(columns) / self.n_columns)


def make_tile(i, j, n_rows, n_columns):
    """A tile of whole numbers, CSR."""
    random = np.random.default_rng([i, j])
    columns = np.sort(random.integers(0, n_columns, (n_rows, STORED)), axis=1)
    values = random.normal(size=columns.size)
    X = scipy.sparse.csr_matrix((values, columns.ravel(), np.arange(n_rows + 1) * STORED), (n_rows, n_columns))
    X.sum_duplicates()
    return X


def wide(n_rows, n_columns, grid):
    """CSR tiles that workers make, and labels that depend on all columns of tiles."""
    height, width = n_rows // grid[0], n_columns // grid[1]
    meta = scipy.sparse.csr_matrix((0, 0))
    tile = dask.delayed(make_tile, pure=True)
    parts = [
        [da.from_delayed(tile(i, j, height, width), (height, width), meta=meta) for j in range(grid[1])]
        for i in range(grid[0])
    ]
    return da.concatenate([da.concatenate(row, axis=1) for row in parts])


def train_wide(n_rows, n_columns, n_classes, grid, memory_limit, monkeypatch, max_iter):
    """Fit on two workers; return the model, the shares that each worker held, and the bytes gathered."""
    y = np.arange(n_rows) % n_classes
    gathered = []
    original = Crew.gather

    def gather(self, futures):
        found = original(self, futures)
        gathered.append(sum(sizeof(part) for part in found))
        return found

    monkeypatch.setattr(Crew, "gather", gather)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=memory_limit, dashboard_address=":0", host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
    ):
        settle(client, 2)
        client.register_plugin(Shares(grid[1]))
        X = wide(n_rows, n_columns, grid)
        model = ParallelLogisticRegression(C=1.0, max_iter=max_iter, tol=1e-5).fit(X, y)
        shares = client.run(lambda dask_worker: dask_worker.plugins["shares"].largest)
        assert isinstance(model.__dict__["coef_"], SplitCoefficients)
        accuracy = model.score(X, y)
    return model, list(shares.values()), max(gathered), accuracy


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_million_columns_of_sixteen_classes_train_on_two_workers_of_1200_mb(monkeypatch):
    n_columns, n_classes = 1_000_000, 16
    model, shares, most_gathered, accuracy = train_wide(
        8000, n_columns, n_classes, (2, 8), "1.2GB", monkeypatch, max_iter=12
    )
    print(shares, most_gathered, accuracy, [record.objective for record in model.history_])
    assert len(shares) == 2
    for held in shares:
        assert all(0.0 < share <= 0.6 for share in held.values()), held
    assert most_gathered < 0.01 * 8 * n_columns * n_classes
    assert model.history_[-1].objective < 0.5 * model.history_[0].objective
    assert accuracy > 0.9
