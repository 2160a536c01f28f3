"""Tiles of rows and columns on a real cluster: the same optimum, split vectors, and workers that are killed."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from distributed import Client, LocalCluster
from sklearn.linear_model import LogisticRegression, Ridge

from dparallel import ParallelLogisticRegression, ParallelRidge
from dparallel.errors import AlignmentError, DataError
from dparallel.estimators.linear import base, split, tile_fitting
from tests import datasets
from tests.clusters import MANY_KILLS, Killer, settle, until
from tests.test_linear import EXACT, assert_same, peer, rows

GRIDS = [(1, 1), (4, 1), (1, 4), (3, 3)]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        settle(client, 2)
        yield client


def tiled(X, grid):
    """A Dask array of as many row and column chunks, CSR where X is."""
    chunks = tuple(-(-size // n) for size, n in zip(X.shape, grid, strict=True))
    if not scipy.sparse.issparse(X):
        return da.from_array(X, chunks=chunks)
    starts = [range(0, size, step) for size, step in zip(X.shape, chunks, strict=True)]
    tiles = [[X[i : i + chunks[0], j : j + chunks[1]] for j in starts[1]] for i in starts[0]]
    return of_tiles(tiles)


def of_tiles(tiles, known=True):
    """A Dask array of matrices in a grid."""
    name = f"tiles-{id(tiles)}"
    graph = {(name, i, j): tile for i, row in enumerate(tiles) for j, tile in enumerate(row)}
    heights = tuple(row[0].shape[0] if known else np.nan for row in tiles)
    meta = tiles[0][0][:0, :0]
    return da.Array(graph, name, (heights, tuple(tile.shape[1] for tile in tiles[0])), meta=meta)


@pytest.fixture
def uses_tiles(monkeypatch):
    """Whether the tile engine was taken."""
    seen = []
    original = base.fit_tiles
    monkeypatch.setattr(base, "fit_tiles", lambda *args: seen.append(args[0]) or original(*args))
    return seen


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_leads_to_the_optimum_of_scikit_learn(client, grid, uses_tiles):
    X, y = rows(n_classes=3)
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    parameters = {"C": 0.3, "class_weight": "balanced"}
    model = ParallelLogisticRegression(**parameters, **EXACT).fit(tiled(X, grid), y, weights)
    assert_same(model, peer(X, y, weights, **parameters))
    assert len(uses_tiles) == (grid[1] > 1)


@pytest.mark.parametrize("grid", [(1, 4), (3, 3)])
def test_adult_in_tiles_leads_to_the_optimum_of_scikit_learn(client, grid):
    X, y = datasets.table("adult")
    model = ParallelLogisticRegression(**EXACT).fit(tiled(X, grid), y)
    assert_same(model, peer(X, y), atol=1e-5)


@pytest.mark.parametrize("grid", [(1, 3), (3, 3)])
def test_ridge_in_tiles_is_that_of_scikit_learn(client, grid, uses_tiles):
    X, _ = rows()
    Y = X @ np.random.default_rng(2).normal(size=(7, 2)) + 5
    model = ParallelRidge(alpha=[0.1, 3.0]).fit(tiled(scipy.sparse.csr_matrix(X), grid), Y)
    assert len(uses_tiles) == 1
    np.testing.assert_allclose(model.coef_, Ridge(alpha=np.array([0.1, 3.0])).fit(X, Y).coef_, rtol=1e-5, atol=1e-7)


def test_sparse_tiles_of_unknown_heights_are_read_as_they_are(client, uses_tiles):
    X, y = rows()
    X[np.abs(X - X.mean(axis=0)) < X.std(axis=0) / 2] = 0
    tiles = [[scipy.sparse.csr_matrix(X[i : i + 200, j : j + 3]) for j in (0, 3, 6)] for i in (0, 200, 400)]
    lazy = of_tiles(tiles, known=False)
    labels = da.from_array(y, chunks=200)[da.from_array(np.ones(600, bool), chunks=200)]
    model = ParallelLogisticRegression(**EXACT).fit(lazy, labels)
    assert len(uses_tiles) == 1
    assert_same(model, peer(X, y))
    assert model.predict(lazy).compute().tolist() == model.predict(X).tolist()


def test_wide_slices_are_measured_by_the_diagonal(client, monkeypatch):
    monkeypatch.setattr("dparallel.estimators.linear.tile_vectors.FEW_COLUMNS", 1)
    X, y = rows()
    assert_same(ParallelLogisticRegression(**EXACT).fit(tiled(X, (2, 2)), y), peer(X, y))


def test_a_warm_start_in_tiles_at_the_optimum_stays_there(client):
    X, y = rows(n_classes=3)
    lazy = tiled(X, (2, 3))
    model = ParallelLogisticRegression(warm_start=True, **EXACT).fit(lazy, y)
    before = model.coef_
    model.set_params(tol=1e-8).fit(lazy, y)
    assert model.n_iter_[0] == 0
    np.testing.assert_allclose(model.coef_, before, rtol=1e-12)


@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (lambda X, y: (_with_nan(X), y), DataError, "block 2"),
        (lambda X, y: (X, y[:-1]), AlignmentError, "600 rows, and y has 599"),
        (lambda X, y: (X, np.zeros(len(y))), DataError, "greater than one"),
    ],
)
def test_bad_tiles_are_refused_in_words(client, spoil, error, match):
    X, y = spoil(*rows())
    with pytest.raises(error, match=match):
        ParallelLogisticRegression().fit(tiled(X, (3, 2)), y)


def _with_nan(X):
    X[500, 5] = np.nan
    return X


def test_nothing_of_a_fit_stays_on_the_workers(client):
    X, y = rows()
    ParallelLogisticRegression().fit(tiled(X, (2, 2)), y)
    until(lambda: not any(client.run(keys_of_ours).values()))


def keys_of_ours(dask_worker):
    return [str(key) for key in dask_worker.data if "dparallel" in str(key)]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_predictions_from_split_coefficients_join_no_slices(client, monkeypatch, n_classes):
    for module in (split, tile_fitting):
        monkeypatch.setattr(module, "GATHERED_BYTES", 0)
    X, y = rows(n_classes=n_classes)
    whole = ParallelLogisticRegression(**EXACT).fit(X, y)
    lazy = tiled(X, (3, 3))
    model = ParallelLogisticRegression(**EXACT).fit(lazy, y)
    monkeypatch.setattr(split.SplitCoefficients, "gather", _refuse)
    assert model.predict(lazy).compute().tolist() == whole.predict(X).tolist()
    for name in ("predict_proba", "predict_log_proba", "decision_function"):
        np.testing.assert_allclose(getattr(model, name)(lazy).compute(), getattr(whole, name)(X), rtol=1e-4, atol=1e-8)
    assert model.score(lazy, y) == whole.score(X, y)
    monkeypatch.undo()
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model)).coef_, whole.coef_, rtol=1e-5, atol=1e-7)


def _refuse(self):
    raise AssertionError("the slices were joined")


def make_tile(i, j, n_rows=3000, n_columns=40):
    """A tile that a worker makes again when it is lost."""
    return np.random.default_rng([i, j]).normal(size=(n_rows, n_columns))


def rebuildable(n_rows, n_columns):
    tile = dask.delayed(make_tile, pure=True)
    parts = [[da.from_delayed(tile(i, j), (3000, 40), float) for j in range(n_columns)] for i in range(n_rows)]
    return da.block(parts)


@pytest.mark.parametrize("grid", [pytest.param((4, 1), marks=pytest.mark.slow), (3, 2)], ids=["rows", "tiles"])
def test_a_killed_worker_does_not_change_a_bit(client, grid):
    pytest.importorskip("sklearn.callback")
    X = rebuildable(*grid)
    y = (X[:, :3].sum(axis=1) + X[:, 5] ** 2 > 1).astype(int)
    undisturbed = ParallelLogisticRegression(tol=1e-9, max_iter=400).fit(X, y)
    killer = Killer(client, (3,))
    model = ParallelLogisticRegression(tol=1e-9, max_iter=400).set_callbacks(killer).fit(X, y)
    assert len(killer.killed) == 1
    np.testing.assert_array_equal(model.coef_, undisturbed.coef_)
    np.testing.assert_array_equal(model.intercept_, undisturbed.intercept_)
    assert model.n_iter_ == undisturbed.n_iter_


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("grid", [(6, 1), (3, 4)], ids=["rows", "tiles"])
def test_many_kills_do_not_change_a_bit(client, grid):
    pytest.importorskip("sklearn.callback")
    X = rebuildable(*grid)
    y = (X[:, :3].sum(axis=1) + X[:, 5] ** 2 > 1).astype(int)
    undisturbed = ParallelLogisticRegression(tol=1e-9, max_iter=400).fit(X, y)
    for seed in range(3):
        settle(client, 2)  # shards are cut for the workers that are there first
        killer = Killer(client, (2, 5, 6), seed)
        model = ParallelLogisticRegression(tol=1e-9, max_iter=400).set_callbacks(killer).fit(X, y)
        assert len(killer.killed) >= 2
        np.testing.assert_array_equal(model.coef_, undisturbed.coef_)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ["adult", "a9a", "mnist"])
def test_real_data_in_tiles_lead_to_the_optimum_of_scikit_learn(client, name, grid):
    C = 1.0
    if name == "mnist":
        X, y, C = datasets.mnist() / 255, datasets.mnist_labels(), 0.01
        other = LogisticRegression(C=C, tol=1e-9, max_iter=20_000).fit(X, y)
        target = X[:, 300:303]
    else:
        X, y = datasets.table("adult") if name == "adult" else datasets.a9a()
        other = peer(X, y)
        target = np.column_stack([y, 1.0 - y])
    lazy = tiled(X, grid)
    model = ParallelLogisticRegression(C=C, tol=1e-11, max_iter=3000).fit(lazy, y)
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-5)
    ridge = ParallelRidge(tol=1e-10).fit(lazy, target)
    np.testing.assert_allclose(ridge.coef_, Ridge(solver="auto", tol=1e-12).fit(X, target).coef_, atol=1e-5)
