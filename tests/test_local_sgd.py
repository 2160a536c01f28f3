"""LocalSGDClassifier and LocalSGDRegressor: replicas that train apart and are averaged."""

import os
import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from distributed import Client, LocalCluster
from sklearn.linear_model import LogisticRegression

from dparallel import AsyncSGDClassifier, LocalSGDClassifier, LocalSGDRegressor
from dparallel.errors import DataError
from tests.clusters import kill, settle

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
N_THREADS = 4  # two workers of two


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0", host="127.0.0.1") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client
        settle(client, 2)


def line(n_rows=4000, n_features=8, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_features))
    return X, (X @ np.arange(1.0, n_features + 1) + 4 * random.normal(size=n_rows) > 0).astype(int)


def in_chunks(array, n_chunks):
    return da.from_array(array, chunks=(-(-len(array) // n_chunks), *array.shape[1:]))


def plain(**parameters):
    """SGD whose steps a few lines of numpy repeat."""
    settings = {"loss": "squared_error", "alpha": 0.0, "learning_rate": "constant", "shuffle": False, "tol": None}
    return LocalSGDRegressor(**{**settings, **parameters})


def descend(X, y, coef, rate, batch_size):
    """One epoch of minibatch SGD on squared error, in order."""
    for start in range(0, len(y), batch_size):
        rows = slice(start, start + batch_size)
        coef = coef - rate * (X[rows] @ coef - y[rows]) @ X[rows] / len(y[rows])
    return coef


def unequal_quadratics():
    """Four diagonal quadratics 0.5 (x - centre)' diag(bend) (x - centre) in five dimensions."""
    random = np.random.default_rng(0)
    random.random((4, 4000))
    bends = random.uniform(0.1, 2, (4, 5))
    return bends, np.array([random.normal(size=5) for _ in range(4)])


def test_averaging_after_every_minibatch_is_sgd_with_larger_minibatches(client):
    X, _ = line(400)
    y = X @ np.arange(8.0)
    parts = np.split(np.arange(400), N_THREADS)
    model = plain(eta0=0.05, batch_size=10, sync_every=1, max_iter=3, fit_intercept=False)
    model.fit(in_chunks(X, N_THREADS), in_chunks(y, N_THREADS))
    together = np.concatenate([np.concatenate([part[i : i + 10] for part in parts]) for i in range(0, 100, 10)])
    expected = np.zeros(8)
    for _ in range(3):
        expected = descend(X[together], y[together], expected, 0.05, 10 * N_THREADS)
    np.testing.assert_allclose(model.coef_, expected, rtol=0, atol=1e-12)
    assert [record.n_averages for record in model.history_] == [10, 10, 10]


def test_unequal_partitions_count_by_the_rows_that_they_visit(client):
    X, _ = line(100)
    y = X @ np.arange(8.0)
    sizes = (10, 20, 30, 40)
    model = plain(eta0=0.05, batch_size=1000, sync_every=1, max_iter=1, fit_intercept=False)
    model.fit(da.from_array(X, chunks=(sizes, 8)), da.from_array(y, chunks=(sizes,)))
    np.testing.assert_allclose(model.coef_, descend(X, y, np.zeros(8), 0.05, 1000), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("sync_every", "error"),
    [(8, 0.123)]
    + [
        pytest.param(*more, marks=pytest.mark.slow)
        for more in ((1, 0.0), (2, 0.020), (4, 0.057), (16, 0.222), (64, 0.414))
    ],
)
def test_the_longer_replicas_run_alone_the_further_they_settle_from_the_optimum(client, sync_every, error):
    bends, centres = unequal_quadratics()
    roots = np.sqrt(5 * bends)  # five rows of a partition: their mean loss is its quadratic
    X, y = np.concatenate([np.diag(root) for root in roots]), (roots * centres).ravel()
    model = plain(
        eta0=0.1, batch_size=5, sync_every=sync_every, max_iter=max(256, 40 * sync_every), fit_intercept=False
    )
    model.fit(in_chunks(X, N_THREADS), in_chunks(y, N_THREADS))
    optimum = (bends * centres).sum(axis=0) / bends.sum(axis=0)
    assert np.linalg.norm(model.coef_ - optimum) == pytest.approx(error, abs=1e-3)


def test_an_interval_beyond_an_epoch_stands_for_whole_epochs():
    X, y = line()
    with dask.config.set(scheduler="sync"):  # one partition, with 200 minibatches an epoch
        model = LocalSGDClassifier(sync_every=500, batch_size=20, max_iter=7, tol=None, random_state=0).fit(X, y)
    assert [record.round for record in model.history_] == [2, 4, 6, 7] and model.n_iter_ == 7


def test_without_an_interval_each_partition_trains_to_its_own_end_and_one_average_follows(client):
    X, y = line(1000)
    settings = {"loss": "log_loss", "max_iter": 4, "tol": None, "learning_rate": "constant", "eta0": 0.05}
    settings |= {"shuffle": False, "batch_size": 16}
    model = LocalSGDClassifier(sync_every=None, **settings).fit(in_chunks(X, N_THREADS), in_chunks(y, N_THREADS))
    alone = [
        AsyncSGDClassifier(staleness=0, **settings).fit(in_chunks(rows, 1), in_chunks(targets, 1)).coef_
        for rows, targets in zip(np.split(X, N_THREADS), np.split(y, N_THREADS), strict=True)
    ]
    np.testing.assert_allclose(model.coef_, np.mean(alone, axis=0), rtol=0, atol=1e-12)
    assert [record.n_averages for record in model.history_] == [1] and model.n_iter_ == 4


def test_without_an_interval_partitions_stop_by_tol():
    X, y = line()
    model = LocalSGDClassifier("log_loss", sync_every=None, random_state=0).fit(X, y)
    assert 5 < model.n_iter_ < 200 and model.stop_reason_ == "Every partition came to its own end."
    assert model.score(X, y) > LogisticRegression().fit(X, y).score(X, y) - 0.01


def test_the_interval_grows_while_replicas_agree():
    X, y = line(20_000)
    y = X @ np.arange(1.0, 9.0)  # no noise: all replicas go to the same place
    model = LocalSGDRegressor(max_iter=3, tol=None, random_state=0).fit(X, y)
    assert model.history_[0].interval > model.history_[0].n_averages
    assert model.history_[0].n_averages < 8 and model.history_[0].drift < 0.25


def test_the_interval_shrinks_where_partitions_pull_apart(client):
    X, y = line(40_000)
    fits = []
    for order in (np.arange(len(y)), np.argsort(y, kind="stable")):  # sorted, a partition sees one class
        model = LocalSGDClassifier("log_loss", max_iter=3, tol=None, random_state=0)
        model.fit(in_chunks(X[order], N_THREADS), in_chunks(y[order], N_THREADS))
        fits.append((model.sync_every_, model.history_[-1].drift))
    (mixed, noise), (sorted_, pull) = fits
    assert sorted_ <= mixed // 4 and noise < 0.8 and pull > 0.9


@pytest.mark.parametrize("sync_every", [20, "auto", None])
def test_it_learns_as_well_as_the_other_estimators(client, sync_every):
    X, y = line(6000)
    best = LogisticRegression().fit(X, y).score(X, y)
    for kind in (in_chunks, lambda array, n: array):
        model = LocalSGDClassifier("log_loss", sync_every=sync_every, random_state=0)
        model.fit(kind(X, 8), kind(y, 8))
        assert model.score(X, y) > best - 0.004


@pytest.mark.parametrize("sync_every", [pytest.param(3, marks=pytest.mark.slow), "auto", None])
def test_a_killed_worker_changes_no_bit(client, sync_every):
    X, y = line(3000)
    X, y = in_chunks(X, 8), in_chunks(y, 8)
    model = LocalSGDClassifier("log_loss", sync_every=sync_every, random_state=0, max_iter=4, tol=None, batch_size=16)
    expected = model.fit(X, y)
    killed = []

    def strike(record, state):
        if not killed:
            killed.append(min(client.run(os.getpid).values()))
            kill(killed[0])

    class Strike:
        on_start = on_stop = on_round_start = lambda self, *given: None
        on_round = staticmethod(strike)

    again = pickle.loads(pickle.dumps(model))
    if sync_every is None:  # one round only: kill before it
        strike(None, None)
        again.fit(X, y)
    else:
        fit_with_listener(again, Strike(), X, y)
    assert killed
    np.testing.assert_array_equal(again.coef_, expected.coef_)
    np.testing.assert_array_equal(again.intercept_, expected.intercept_)


def fit_with_listener(model, listener, X, y):
    train = model._train
    model._train = lambda rounds, algorithm, most, plain=None, listeners=(): train(
        rounds, algorithm, most, plain, [*listeners, listener]
    )
    model.fit(X, y)


def test_rows_stay_where_they_are_and_sparse_ones_too(client):
    X, y = line(2000)
    rows = scipy.sparse.csr_matrix(np.where(np.abs(X) > 0.7, X, 0.0))
    lazy = in_chunks(X, 4).map_blocks(lambda block: scipy.sparse.csr_matrix(np.where(np.abs(block) > 0.7, block, 0.0)))
    model = LocalSGDClassifier("log_loss", random_state=0)
    on_cluster = model.fit(lazy, in_chunks(y, 4)).score(rows, y)
    assert on_cluster > LogisticRegression().fit(rows, y).score(rows, y) - 0.01
    assert model.history_[0].bytes_moved < 8 * 2000


@pytest.mark.parametrize("more", [{"early_stopping": True}, {"average": True}, {"optimizer": "momentum"}])
def test_what_the_other_estimators_know_works_here(more):
    X, y = line()
    model = LocalSGDClassifier("log_loss", random_state=0, max_iter=20, **more).fit(X, y)
    assert model.score(X, y) > LogisticRegression().fit(X, y).score(X, y) - 0.02
    scores = model.to_sklearn().decision_function(X)
    np.testing.assert_allclose(model.decision_function(X), scores, rtol=1e-12)


def test_l1_makes_zeros():
    X, y = line()
    X = np.concatenate([X, np.random.default_rng(1).normal(size=(4000, 8))], axis=1)
    model = LocalSGDClassifier("log_loss", penalty="l1", alpha=0.02, random_state=0).fit(X, y)
    assert (model.coef_[0, 8:] == 0).sum() >= 6 and (model.coef_[0, 4:8] != 0).all()


def test_partial_fit_goes_on_from_what_was_learnt():
    X, y = line(20_000)
    model = LocalSGDClassifier("log_loss", random_state=0)
    for rows, targets in zip(np.split(X, 20), np.split(y, 20), strict=True):
        model.partial_fit(rows, targets, classes=[0, 1])
    assert model.score(X, y) > LogisticRegression().fit(X, y).score(X, y) - 0.005


@pytest.mark.parametrize(("sync_every", "error"), [(0, ValueError), (1.5, TypeError), ("never", ValueError)])
def test_an_interval_that_cannot_be_meant_is_refused(sync_every, error):
    X, y = line(40)
    with pytest.raises(error, match="sync_every was given"):
        LocalSGDClassifier(sync_every=sync_every).fit(X, y)


@pytest.mark.parametrize("sync_every", [1, None])
def test_parameters_that_leave_the_range_of_numbers_are_an_error(sync_every):
    X, y = line()
    model = LocalSGDRegressor(learning_rate="constant", eta0=1e300, sync_every=sync_every, max_iter=5)
    with pytest.raises(DataError, match=r"overflow occurred at epoch #1.*[Ss]caling"):
        model.fit(1e10 * X, y)


def test_the_same_seed_gives_the_same_bits(client):
    X, y = line(8000)
    model = LocalSGDClassifier("log_loss", random_state=3, max_iter=3, tol=None)
    first = model.fit(in_chunks(X, 8), in_chunks(y, 8)).coef_
    np.testing.assert_array_equal(model.fit(in_chunks(X, 8).persist(), in_chunks(y, 8).persist()).coef_, first)
