"""AsyncSGDClassifier and AsyncSGDRegressor with coefficients in sparse tables of the store."""

import pickle
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier

from benchmarks.clicks_data import click_block
from dparallel import AsyncSGDClassifier, AsyncSGDRegressor, LocalSGDClassifier
from dparallel.errors import DataError, StoreError
from dparallel.store.optimizers import FTRL
from dparallel.workers.saving import Saving
from tests.clusters import MANY_KILLS, Killer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
LEADER = {"loss": "log_loss", "learning_rate": "ftrl", "tol": None, "random_state": 0}
WIDE = 10**9  # a dense vector of so many numbers would not fit


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


def rows(n_rows=600, n_features=80, seed=0, n_classes=2):
    random = np.random.default_rng(seed)
    X = scipy.sparse.random(n_rows, n_features, 0.1, format="csr", random_state=seed)
    X.data = 1.0 + 0.1 * random.random(X.nnz)
    return X, (X @ random.normal(size=(n_features, n_classes))).argmax(axis=1)


def clicks(n_rows=3000, n_features=WIDE, seed=0):
    return click_block(n_rows, n_features, seed)


def in_blocks(X, y, n_blocks, weights=None):
    cuts = np.linspace(0, X.shape[0], n_blocks + 1).astype(int)
    meta = scipy.sparse.csr_matrix((0, 0))
    pieces = [
        da.from_delayed(dask.delayed(X[low:high]), (high - low, X.shape[1]), X.dtype, meta=meta)
        for low, high in zip(cuts, cuts[1:])
    ]
    chunks = tuple(np.diff(cuts).tolist())
    return da.concatenate(pieces), da.from_array(y, chunks=(chunks,))


def log_loss(model, X, y):
    return float(np.logaddexp(0, (1 - 2 * y) * model.decision_function(X)).mean())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"penalty": None},
        {"loss": "hinge", "learning_rate": "optimal"},
        {"loss": "modified_huber", "learning_rate": "constant", "eta0": 0.1, "batch_size": 1},
        {"loss": "hinge", "learning_rate": "pa2", "eta0": 0.1},
        {"penalty": "elasticnet", "l1_ratio": 0.0, "alpha": 0.01, "early_stopping": True},
        {"penalty": None, "optimizer": FTRL(l1=0.01)},
    ],
    ids=str,
)
def test_one_partition_gives_the_coefficients_of_dense_ones(settings):
    X, y = rows(n_classes=3 if settings.get("penalty", "l2") is None else 2)
    weights = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    given = {"loss": "log_loss", "staleness": 0, "push_every": 7, "max_iter": 4, "tol": None, "random_state": 0}
    with dask.config.set(scheduler="threads", num_workers=1):
        dense, sparse = (
            AsyncSGDClassifier(sparse_coef=kept, **{**given, **settings}).fit(X, y, sample_weight=weights)
            for kept in (False, True)
        )
    assert scipy.sparse.issparse(sparse.coef_) and sparse.coef_.shape == dense.coef_.shape
    np.testing.assert_allclose(sparse.coef_.toarray(), dense.coef_, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(sparse.intercept_, dense.intercept_, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(sparse.history_[-1].objective, dense.history_[-1].objective, rtol=1e-10)
    np.testing.assert_array_equal(sparse.predict(X), dense.predict(X))


def test_partitions_of_one_length_behind_a_gate_give_the_coefficients_of_dense_ones(client):
    X, y = in_blocks(*rows(), 4)
    given = {"loss": "log_loss", "staleness": 0, "push_every": 2, "max_iter": 3, "tol": None, "random_state": 0}
    dense, sparse = (AsyncSGDClassifier(sparse_coef=kept, **given).fit(X, y) for kept in (False, True))
    np.testing.assert_allclose(sparse.coef_.toarray(), dense.coef_, rtol=1e-10, atol=1e-12)


def test_a_regressor_gives_the_coefficients_of_dense_ones():
    X, _ = rows()
    y = X @ np.arange(80.0) + 3.0
    given = {"staleness": 0, "max_iter": 5, "tol": None, "random_state": 0}
    with dask.config.set(scheduler="threads", num_workers=1):
        dense, sparse = (AsyncSGDRegressor(sparse_coef=kept, **given).fit(X, y) for kept in (False, True))
    np.testing.assert_allclose(sparse.coef_.toarray()[0], dense.coef_, rtol=1e-10)
    np.testing.assert_allclose(sparse.predict(X), dense.predict(X), rtol=1e-10)
    assert sparse.score(X, y) == pytest.approx(dense.score(X, y))


@pytest.mark.parametrize(
    "settings", [LEADER, {"loss": "log_loss", "max_iter": 2, "random_state": 0}], ids=["ftrl", "sgd"]
)
def test_nothing_as_long_as_a_row_is_built(settings):
    X, y = clicks()
    model = AsyncSGDClassifier(max_iter=2, **{k: v for k, v in settings.items() if k != "max_iter"})
    model.fit(X[:10], y[:10])  # compiles
    tracemalloc.start()
    model.fit(X, y)
    chances = model.predict_proba(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e8 and chances.shape == (3000, 2)
    assert scipy.sparse.issparse(model.coef_) and model.coef_.shape == (1, WIDE)
    assert len(pickle.dumps(model)) < 5e6


def test_wide_rows_are_learnt_and_predicted_on_a_cluster(client):
    X, y = clicks(n_rows=20_000)
    X_dask, y_dask = in_blocks(X, y, 6)
    model = AsyncSGDClassifier(**LEADER, max_iter=3).fit(X_dask, y_dask)
    in_step = AsyncSGDClassifier(**LEADER, max_iter=3, staleness=0).fit(X, y)
    with dask.config.set(num_workers=1):
        alone = AsyncSGDClassifier(**LEADER, max_iter=3).fit(X, y)
    # between the two, by how far one worker happens to begin before the other
    assert 0.97 * log_loss(alone, X, y) <= log_loss(model, X, y) <= 1.03 * log_loss(in_step, X, y)
    assert log_loss(model, X, y) < 0.45  # that of the share of clicks alone is 0.48
    lazy = model.decision_function(X_dask)
    assert lazy.dask and not isinstance(lazy, np.ndarray)
    np.testing.assert_allclose(lazy.compute(), model.decision_function(X))
    payload = 4 * 3 * 20_000 * 30 * 16  # what all values with their keys would be
    assert 0 < model.store_stats_.bytes_in < 0.5 * payload


def test_l1_gives_exact_zeros_that_grow_with_it():
    X, y = rows(2000)
    counts = [
        AsyncSGDClassifier(**LEADER, penalty="l1", alpha=alpha, max_iter=3, eta0=0.5).fit(X, y).coef_.nnz
        for alpha in (0.0, 1e-3, 1e-2, 0.1)
    ]
    assert counts[0] == 80 and counts == sorted(counts, reverse=True) and counts[3] < counts[1] < 80


def test_ftrl_leads_to_the_minimum_of_the_objective():
    X, y = rows(2000)
    least = AsyncSGDClassifier("log_loss", alpha=1e-3, max_iter=300, tol=1e-9, random_state=0, sparse_coef=False).fit(
        X, y
    )
    model = AsyncSGDClassifier(**LEADER, alpha=1e-3, max_iter=60, eta0=1.0).fit(X, y)
    objective = [log_loss(m, X, y) + 0.5e-3 * np.square(m.densify().coef_).sum() for m in (least, model)]
    assert objective[1] < 1.005 * objective[0]


@pytest.mark.parametrize("learning_rate", ["ftrl", "constant"])
def test_partial_fit_in_two_goes_is_an_epoch_of_both_one_after_the_other(learning_rate):
    X, y = rows()
    given = {**LEADER, "learning_rate": learning_rate, "shuffle": False, "sparse_coef": True, "eta0": 0.1}
    given |= {"batch_size": 10} if learning_rate == "constant" else {}
    with dask.config.set(scheduler="threads", num_workers=1):
        once = AsyncSGDClassifier(**given).partial_fit(X, y, classes=[0, 1])
        twice = AsyncSGDClassifier(**given).partial_fit(X[:300], y[:300], classes=[0, 1]).partial_fit(X[300:], y[300:])
    np.testing.assert_allclose(twice.coef_.toarray(), once.coef_.toarray(), rtol=1e-9, atol=1e-12)


def test_training_goes_on_from_coefficients_that_are_given():
    X, y = rows()
    first = AsyncSGDClassifier(**LEADER, max_iter=5).fit(X, y)
    again = AsyncSGDClassifier(**LEADER, max_iter=1, eta0=1e-6).fit(
        X, y, coef_init=first.coef_, intercept_init=first.intercept_
    )
    np.testing.assert_allclose(again.coef_.toarray(), first.coef_.toarray(), atol=1e-3)
    with pytest.raises(DataError, match="coef_init does not match"):
        AsyncSGDClassifier(**LEADER).fit(X, y, coef_init=np.zeros((1, 3)))


def test_densify_and_sparsify_are_scikit_learns():
    X, y = rows()
    model = AsyncSGDClassifier(**LEADER, max_iter=2).fit(X, y)
    before, theirs = model.decision_function(X), SGDClassifier().fit(X, y)
    assert isinstance(model.coef_, type(theirs.sparsify().coef_))
    assert isinstance(model.densify().coef_, np.ndarray) and model.coef_.shape == (1, 80)
    np.testing.assert_allclose(model.decision_function(X), before)
    np.testing.assert_allclose(model.sparsify().decision_function(X.toarray()), before)
    np.testing.assert_allclose(model.to_sklearn().decision_function(X), before)


def test_auto_keeps_few_columns_dense_and_many_sparse():
    X, y = rows()
    given = {"loss": "log_loss", "max_iter": 1, "tol": None, "random_state": 0}
    assert isinstance(AsyncSGDClassifier(**given).fit(X, y).coef_, np.ndarray)
    wide = scipy.sparse.csr_matrix((X.data, X.indices, X.indptr), (X.shape[0], 2**20 + 1))
    assert scipy.sparse.issparse(AsyncSGDClassifier(**given).fit(wide, y).coef_)
    assert isinstance(AsyncSGDClassifier(**given, sparse_coef=False).fit(wide, y).coef_, np.ndarray)


@pytest.mark.parametrize(
    "settings, error, words",
    [
        ({"penalty": "l1"}, ValueError, 'learning_rate="ftrl"'),
        ({"penalty": "elasticnet"}, ValueError, "L1 penalty"),
        ({"average": True}, ValueError, "average"),
        ({"optimizer": "adagrad"}, ValueError, "no exact L2 penalty"),
        ({"optimizer": "adagrad", "learning_rate": "ftrl"}, ValueError, "optimizer itself"),
        ({"sparse_coef": "yes"}, ValueError, "sparse_coef"),
        ({"sparse_coef": False, "learning_rate": "ftrl"}, ValueError, "Leave it out"),
        ({"compression": "zip"}, StoreError, "fp16"),
        ({"alpha": 30.0, "learning_rate": "constant", "eta0": 0.03}, DataError, "smaller alpha"),
    ],
    ids=str,
)
def test_what_is_not_exact_is_refused(settings, error, words):
    X, y = rows()
    with pytest.raises(error, match=words):
        AsyncSGDClassifier(**{"loss": "log_loss", "sparse_coef": True, "max_iter": 20, "tol": None, **settings}).fit(
            X, y
        )


def test_dense_rows_are_refused():
    X, y = rows()
    for settings in ({"sparse_coef": True}, {"learning_rate": "ftrl"}):
        with pytest.raises(ValueError, match="not CSR"):
            AsyncSGDClassifier(**settings).fit(X.toarray(), y)
    with pytest.raises(ValueError, match="learning_rate"):
        LocalSGDClassifier(learning_rate="ftrl").fit(X, y)


def test_values_that_are_not_finite_are_named():
    X, y = rows()
    X.data[7] = np.nan
    with pytest.raises(DataError, match="NaN"):
        AsyncSGDClassifier(**LEADER).fit(X, y)


@pytest.mark.parametrize("staleness", [None, 0, 1])
def test_every_staleness_learns(client, staleness):
    X, y = rows(2000)
    blocks = in_blocks(X, y, 5)
    for settings in ({"learning_rate": "ftrl"}, {"learning_rate": "auto", "sparse_coef": True}):
        given = {**LEADER, **settings, "staleness": staleness, "max_iter": 5, "push_every": 40}
        model = AsyncSGDClassifier(**given).fit(*blocks)
        assert model.score(X, y) > 0.85


@pytest.mark.parametrize("learning_rate", ["ftrl", "auto"])
def test_a_checkpointed_fit_goes_on_where_it_was_broken_off(tmp_path, monkeypatch, learning_rate):
    X, y = rows()
    given = {**LEADER, "learning_rate": learning_rate, "sparse_coef": True, "staleness": 0}
    whole = AsyncSGDClassifier(**given, max_iter=6).fit(X, y)

    class Enough(Exception):
        pass

    write, written = Saving.write, []

    def write_and_stop(self, state):
        write(self, state)
        written.append(state)
        if len(written) == 3:
            raise Enough

    broken = AsyncSGDClassifier(**given, max_iter=6, checkpoint=tmp_path / "fit")
    with dask.config.set({"dparallel.checkpoint-every": "0s"}), monkeypatch.context() as patch:
        patch.setattr(Saving, "write", write_and_stop)
        with pytest.raises(Enough):
            broken.fit(X, y)
    resumed = AsyncSGDClassifier(**given, max_iter=6, checkpoint=tmp_path / "fit").fit(X, y)
    assert resumed.n_iter_ == 6 and len(resumed.history_) == 6
    np.testing.assert_allclose(resumed.coef_.toarray(), whole.coef_.toarray(), rtol=1e-12)


@pytest.mark.parametrize("compression, most", [("fp16", 1.01), (("top_k", 0.01), 1.05)], ids=str)
@pytest.mark.parametrize("kept", [False, True])
def test_compressed_updates_lead_almost_as_far(compression, most, kept):
    X, y = rows(4000, 300)
    given = {"loss": "log_loss", "max_iter": 20, "tol": None, "random_state": 0, "sparse_coef": kept, "push_every": 4}
    plain = AsyncSGDClassifier(**given).fit(X, y)
    model = AsyncSGDClassifier(**given, compression=compression).fit(X, y)
    assert log_loss(model, X, y) < most * log_loss(plain, X, y)
    assert model.history_[-1].objective < most * plain.history_[-1].objective


def test_it_can_be_cloned():
    model = clone(AsyncSGDClassifier(sparse_coef=True, compression=("top_k", 0.1)))
    assert model.sparse_coef is True and model.compression == ("top_k", 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("compression", [None, "fp16"])
def test_a_killed_worker_costs_no_update(client, compression):
    X, y = rows(4000, 200)
    blocks = in_blocks(X, y, 8)
    given = {
        "loss": "log_loss",
        "max_iter": 30,
        "tol": None,
        "random_state": 0,
        "sparse_coef": True,
        "staleness": 0,
        "push_every": 5,
    }
    calm = AsyncSGDClassifier(**given, compression=compression).fit(*blocks)
    killer = Killer(client, rounds=(2, 9))
    model = AsyncSGDClassifier(**given, compression=compression).set_callbacks(killer).fit(*blocks)
    assert killer.killed
    if compression is None:
        np.testing.assert_allclose(model.coef_.toarray(), calm.coef_.toarray(), rtol=1e-8, atol=1e-10)
    assert log_loss(model, X, y) == pytest.approx(log_loss(calm, X, y), rel=0.01)
