"""AsyncSGDClassifier and AsyncSGDRegressor on Dask collections: without a client, and on the workers of a cluster."""

import functools
import pickle
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dparallel import AsyncSGDClassifier, AsyncSGDRegressor
from dparallel.errors import AlignmentError, DataError
from dparallel.kernels import draws, permutation
from tests import gradient_twin
from tests.clusters import until
from tests.spying import Spy

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
PLACES = ["threads", "cluster"]


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


@pytest.fixture(params=PLACES)
def place(request):
    """Threads of this process, or the workers of a cluster."""
    if request.param == "cluster":
        request.getfixturevalue("client")
    return request.param


@functools.cache
def digits():
    X, y = load_digits(return_X_y=True)
    return X, y


def line(n_rows=4000, n_features=8, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_features))
    return X, (X @ np.arange(1.0, n_features + 1) + random.normal(size=n_rows) > 0).astype(int)


def in_chunks(array, n_chunks):
    array = np.asarray(array)
    return da.from_array(array, chunks=(-(-len(array) // n_chunks), *array.shape[1:]))


@pytest.mark.parametrize("staleness", [0, 1, None])
def test_blocks_are_learnt_as_well_as_an_array(place, staleness):
    X, y = digits()
    here = AsyncSGDClassifier("log_loss", random_state=0).fit(X, y)
    there = AsyncSGDClassifier("log_loss", random_state=0, staleness=staleness).fit(in_chunks(X, 7), in_chunks(y, 7))
    assert there.score(X, y) > here.score(X, y) - 0.02
    assert there.coef_.shape == (10, 64) and there.history_[-1].objective < 0.2
    assert (there.history_[-1].bytes_moved > 0) == (place == "cluster")


def test_predictions_are_lazy_and_those_of_the_array(place):
    X, y = digits()
    model = AsyncSGDClassifier("log_loss", random_state=0, max_iter=5, tol=None).fit(X, y)
    blocks = in_chunks(X, 5)
    for name, columns in (("predict", ()), ("decision_function", (10,)), ("predict_proba", (10,))):
        lazy = getattr(model, name)(blocks)
        assert isinstance(lazy, da.Array) and lazy.chunks[0] == blocks.chunks[0] and lazy.shape[1:] == columns
        np.testing.assert_allclose(lazy.compute(), getattr(model, name)(X), rtol=1e-10)
    np.testing.assert_allclose(model.predict_log_proba(blocks).compute(), model.predict_log_proba(X), rtol=1e-8)
    score = model.score(blocks, in_chunks(y, 5))
    assert isinstance(score, float) and score == pytest.approx(model.score(X, y))
    weights = np.random.default_rng(0).random(len(y))
    weighed = model.score(blocks, y, sample_weight=weights)
    assert weighed == pytest.approx(model.score(X, y, sample_weight=weights))


def test_a_regression_is_fitted_scored_and_predicted_in_blocks(place):
    X, _ = line()
    y = X @ np.arange(1.0, 9.0) + 5.0
    model = AsyncSGDRegressor(random_state=0).fit(in_chunks(X, 4), in_chunks(y, 4))
    np.testing.assert_allclose(model.coef_, np.arange(1.0, 9.0), rtol=0.02)
    score = model.score(in_chunks(X, 3), in_chunks(y, 3))
    assert isinstance(score, float) and score == pytest.approx(model.score(X, y), abs=1e-12) and score > 0.999
    assert isinstance(model.predict(in_chunks(X, 3)), da.Array)


def test_classes_that_some_blocks_lack_are_found_and_learnt(place):
    X, y = digits()
    order = np.argsort(y, kind="stable")  # every block has one class or two
    names = np.array([f"digit {i}" for i in range(10)])
    labels = names[y[order]]
    model = AsyncSGDClassifier("log_loss", random_state=0).fit(in_chunks(X[order], 8), in_chunks(labels, 8))
    assert model.classes_.tolist() == names.tolist()
    assert model.score(X[order], labels) > 0.9
    assert model.predict(in_chunks(X, 3)).compute().dtype == labels.dtype


def test_unknown_chunk_sizes_are_counted_in_the_first_pass(place):
    X, y = line()
    rows = da.from_delayed(dask.delayed(lambda: X[:1500])(), (np.nan, 8), float)
    rest = da.from_delayed(dask.delayed(lambda: X[1500:])(), (np.nan, 8), float)
    labels = [da.from_delayed(dask.delayed(lambda y=y: y)(), (np.nan,), int) for y in (y[:1500], y[1500:])]
    unknown = da.concatenate([rows, rest], allow_unknown_chunksizes=True)
    known = da.concatenate([da.from_array(X[:1500]), da.from_array(X[1500:])])
    options = {"loss": "log_loss", "random_state": 0, "staleness": 0, "early_stopping": True}
    a = AsyncSGDClassifier(**options).fit(unknown, da.concatenate(labels, allow_unknown_chunksizes=True))
    b = AsyncSGDClassifier(**options).fit(known, da.concatenate([da.from_array(y[:1500]), da.from_array(y[1500:])]))
    np.testing.assert_array_equal(a.coef_, b.coef_)


def test_csr_blocks_give_the_model_of_dense_ones(place):
    X, y = digits()
    options = {"loss": "log_loss", "learning_rate": "constant", "eta0": 1e-3, "max_iter": 3, "push_every": 3}
    dense, labels = in_chunks(X, 4), in_chunks(y, 4)
    sparse = dense.map_blocks(scipy.sparse.csr_matrix)
    a, b = (AsyncSGDClassifier(random_state=0, staleness=0, **options).fit(rows, labels) for rows in (dense, sparse))
    np.testing.assert_allclose(b.coef_, a.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(b.predict(sparse).compute(), a.predict(X))


def test_dataframes_keep_their_index_and_name_their_chances_by_class(place):
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    X, y = line(1000, 3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"], index=np.arange(1000) + 7)
    frame["kind"] = np.where(y, "yes", "no")
    df = dd.from_pandas(frame, npartitions=4)
    model = AsyncSGDClassifier("log_loss", random_state=0).fit(df[["a", "b", "c"]], df["kind"])
    assert model.feature_names_in_.tolist() == ["a", "b", "c"] and model.classes_.tolist() == ["no", "yes"]
    chances = model.predict_proba(df[["a", "b", "c"]])
    assert list(chances.columns) == ["no", "yes"]
    labels = model.predict(df[["a", "b", "c"]]).compute()
    assert (labels.index == frame.index).all() and (labels == frame["kind"]).mean() > 0.9
    assert model.score(df[["a", "b", "c"]], df["kind"]) == pytest.approx((labels == frame["kind"]).mean())


def test_a_column_of_labels_is_a_vector_with_scikit_learns_warning():
    X, y = line(500)
    with pytest.warns(UserWarning, match="A column-vector y was passed"):
        model = AsyncSGDClassifier(random_state=0).fit(in_chunks(X, 2), in_chunks(y[:, None], 2))
    assert model.score(X, y) > 0.9
    with pytest.raises(DataError, match="y should be a 1d array"):
        AsyncSGDClassifier().fit(in_chunks(X, 2), in_chunks(np.stack([y, y], axis=1), 2))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda X, y, w: (np.where(np.arange(len(X))[:, None] == 450, np.nan, X), y, w), "NaN.*block 3"),
        (lambda X, y, w: (X, np.where(np.arange(len(X)) == 450, np.nan, y), w), "Input y contains NaN"),
        (lambda X, y, w: (X, y + 0.5, w), "Unknown label type: continuous"),
        (lambda X, y, w: (X, 0 * y, w), "got 1 class"),
        (lambda X, y, w: (X, y, 0 * w), "at least one non-zero"),
        (lambda X, y, w: (X, y, w - 2), "Negative values"),
    ],
)
def test_data_that_cannot_be_learnt_are_refused_in_the_first_pass(place, change, message):
    X, y = line(500)
    X, y, weights = change(X, y, np.ones(500))
    with pytest.raises(ValueError, match=message):
        AsyncSGDClassifier().fit(in_chunks(X, 4), in_chunks(y, 4), sample_weight=in_chunks(weights, 4))


def test_labels_without_their_rows_are_refused(place):
    X, y = line(500)
    with pytest.raises(AlignmentError):
        AsyncSGDClassifier().fit(in_chunks(X, 4), in_chunks(y[:-1], 4))
    with pytest.raises(AlignmentError):
        AsyncSGDClassifier().fit(X, in_chunks(y, 4))


def test_partial_fit_takes_blocks(place):
    X, y = line()
    model = AsyncSGDClassifier("log_loss", random_state=0, average=True)
    for low in range(0, 4000, 1000):
        part = slice(low, low + 1000)
        model.partial_fit(in_chunks(X[part], 2), in_chunks(y[part], 2), classes=[0, 1])
    assert model.score(X, y) > 0.9
    with pytest.raises(DataError, match=r"not among the classes: \[5\]"):
        model.partial_fit(in_chunks(X, 2), in_chunks(np.where(y, 5, 0), 2))


def serial_minibatches(parts, seed, *, loss, batch_size, eta0, alpha, n_epochs):
    """What staleness=0 and one minibatch per step have to come to: SGD on the union of the partitions' minibatches.

    parts : for each partition its blocks, as (number, X, y)
    """
    n_outputs = len(np.unique(np.concatenate([y for part in parts for _, _, y in part])))
    n_outputs = 1 if n_outputs == 2 else n_outputs
    coef, intercept = np.zeros((n_outputs, parts[0][0][1].shape[1])), np.zeros(n_outputs)
    n_rows = [sum(len(y) for _, _, y in part) for part in parts]
    for epoch in range(n_epochs):
        batches = [list(minibatches(part, seed, epoch, batch_size)) for part in parts]
        for clock in range(max(map(len, batches))):
            base = coef.copy(), intercept.copy()
            for own, count in zip(batches, n_rows):
                if clock >= len(own):
                    continue
                X, y = own[clock]
                _, slopes = gradient_twin.measure(loss, 0.1, y, X @ base[0].T + base[1])
                share = count / sum(n_rows)
                coef -= share * eta0 * (slopes.T @ X / len(y) + alpha * base[0])
                intercept -= share * eta0 * slopes.sum(axis=0) / len(y)
    return coef, intercept


def minibatches(part, seed, epoch, batch_size):
    """The minibatches of a partition in an epoch, block after block."""
    numbers = np.array([number for number, _, _ in part])
    first, last = numbers.min(), numbers.max()
    drawn = draws.numbers(draws.key(seed, "blocks", epoch), int(first), int(last - first + 1))[numbers - first]
    for i in np.argsort(drawn) if len(part) > 1 else [0]:
        number, X, y = part[i]
        key = draws.key(int(draws.key(seed, "rows", epoch)), "block", number)
        order = permutation.permutation(key, len(y))
        for start in range(0, len(y), batch_size):
            rows = order[start : start + batch_size]
            yield X[rows], y[rows]


def cut(X, y, heights, n_partitions):
    """Blocks as partitions take them: consecutive, as many each."""
    starts = np.concatenate([[0], np.cumsum(heights)])
    blocks = [(i, X[a:b], y[a:b]) for i, (a, b) in enumerate(zip(starts, starts[1:]))]
    size = len(blocks) // n_partitions
    return [blocks[i * size : (i + 1) * size] for i in range(n_partitions)]


@pytest.mark.parametrize("n_partitions", [1, 2, 4])
@pytest.mark.parametrize("loss", ["log_loss", "squared_hinge", "softmax"])
def test_in_step_it_is_serial_minibatch_sgd(monkeypatch, loss, n_partitions):
    monkeypatch.setattr("dparallel.place.count_threads", lambda: n_partitions)
    X, y = line(800, 6)
    y = (X[:, 0] > 0.5).astype(int) + (X[:, 1] > 0) if loss == "softmax" else y
    heights = [100] * 8
    model = AsyncSGDClassifier(
        "log_loss" if loss == "softmax" else loss, learning_rate="constant", eta0=0.05, alpha=0.01, batch_size=16,
        push_every=1, staleness=0, max_iter=3, tol=None, random_state=5,
    ).fit(da.from_array(X, chunks=(100, 6)), da.from_array(y, chunks=100))  # fmt: skip
    seed = int(np.random.RandomState(5).randint(0, 2**62, dtype=np.int64))
    targets = y.astype(float) if loss == "softmax" else 2.0 * y - 1.0
    expected = serial_minibatches(
        cut(X, targets, heights, n_partitions), seed, loss=loss, batch_size=16, eta0=0.05, alpha=0.01, n_epochs=3
    )
    np.testing.assert_allclose(model.coef_, expected[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(model.intercept_, expected[1], rtol=1e-12, atol=1e-14)
    assert model.store_stats_.pushes == 3 * n_partitions * (8 // n_partitions) * 7
    assert set(model.staleness_) == {0}


def test_in_step_the_cluster_gives_the_bits_of_threads_and_gives_them_again(client, monkeypatch):
    X, y = line(800, 6)
    blocks, labels = da.from_array(X, chunks=(100, 6)), da.from_array(y, chunks=100)
    options = {"loss": "log_loss", "staleness": 0, "random_state": 1, "push_every": 2, "batch_size": 16}
    fits = [AsyncSGDClassifier(**options).fit(blocks, labels) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)
    monkeypatch.setattr("dparallel.place.count_threads", lambda: 4)
    with dask.config.set(scheduler="threads"):
        here = AsyncSGDClassifier(**options).fit(blocks, labels)
    assert here.store_stats_.pushes == fits[0].store_stats_.pushes
    np.testing.assert_array_equal(here.coef_, fits[0].coef_)


def test_no_rows_reach_the_client_and_nothing_of_ours_is_left(client, monkeypatch):
    X, y = line(40_000, 20)
    blocks, labels = in_chunks(X, 8).persist(), in_chunks(y, 8).persist()
    spy = Spy(monkeypatch)
    model = AsyncSGDClassifier("log_loss", random_state=0, max_iter=3, tol=None).fit(blocks, labels)
    assert model.score(blocks, labels) > 0.9
    assert spy.received < blocks.nbytes / 20
    del spy

    def left(dask_scheduler):
        return [str(key) for key in dask_scheduler.tasks if "dparallel" in str(key)]

    until(lambda: client.run_on_scheduler(left) == [])


def test_no_task_talks_to_the_store_after_it_was_closed(client):
    """Where the judge ends a fit, asynchronous lanes have run ahead."""
    X, y = line(100_000, 40)
    blocks, labels = in_chunks(X, 8).persist(), in_chunks(y, 8).persist()

    def running(dask_worker):
        return [str(state.key) for state in dask_worker.state.executing if "dparallel" in str(state.key)]

    for seed in range(3):
        model = AsyncSGDClassifier("log_loss", random_state=seed, tol=1.0, n_iter_no_change=1).fit(blocks, labels)
        assert list(client.run(running).values()) == [[], []]
        assert model.n_iter_ < model.max_iter


def test_a_model_fitted_on_dask_data_is_small_and_predicts_without_a_client(client, tmp_path):
    X, y = line(40_000, 20)
    model = AsyncSGDClassifier("log_loss", random_state=0, max_iter=2, tol=None).fit(in_chunks(X, 8), in_chunks(y, 8))
    data = pickle.dumps(model)
    assert len(data) < 32 * 1024
    (tmp_path / "model").write_bytes(data)
    np.save(tmp_path / "rows.npy", X[:100])
    code = (
        "import pickle, sys, numpy as np\n"
        "model = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(model.predict(np.load(sys.argv[2])).tolist())\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "model", tmp_path / "rows.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(model.predict(X[:100]).tolist())


def test_rows_that_are_read_again_in_every_epoch_are_learnt_just_as_well(place):
    X, y = digits()
    X, y = in_chunks(X, 6), in_chunks(y, 6)
    model, kept = (AsyncSGDClassifier("log_loss", random_state=0, staleness=0, max_iter=8) for _ in range(2))
    kept.fit(X, y)
    with dask.config.set({"dparallel.persist": False}), pytest.warns(UserWarning, match="read again"):
        model.fit(X, y)
    np.testing.assert_array_equal(model.coef_, kept.coef_)


def test_early_stopping_works_on_blocks(place):
    X, y = line()
    for n_chunks in (2, 5):
        model = AsyncSGDClassifier("log_loss", early_stopping=True, random_state=0)
        model.fit(in_chunks(X, n_chunks), in_chunks(y, n_chunks))
        assert "held-out" in model.stop_reason_ and model.score(X, y) > 0.93


@pytest.mark.slow
def test_a_large_fit_in_blocks_comes_near_logistic_regression(place):
    X, y = line(200_000, 30)
    peer = LogisticRegression(max_iter=1000).fit(X, y)
    model = AsyncSGDClassifier("log_loss", random_state=0).fit(in_chunks(X, 20), in_chunks(y, 20))
    assert model.score(X, y) > peer.score(X, y) - 0.002
