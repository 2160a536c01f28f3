import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from distributed import Client, LocalCluster
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from dparallel import ParallelKMeans, ParallelStandardScaler
from dparallel.errors import DataError
from tests import datasets
from tests.spying import Spy


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def mixture():
    return datasets.gauss_mixture(1)[:5000]


def in_chunks(X, n_chunks):
    return da.from_array(X, chunks=(-(-len(X) // n_chunks), X.shape[1]))


def keys_left(client):
    """Keys of ours that the scheduler still knows."""
    return client.run_on_scheduler(lambda dask_scheduler: [k for k in dask_scheduler.tasks if "dparallel" in str(k)])


def wait_until_gone(client):
    """Releases reach the scheduler by messages: ask until none is left, a hundred times at most."""
    for _ in range(100):
        left = keys_left(client)
        if not left:
            break
        threading.Event().wait(0.05)
    return left


@pytest.mark.parametrize("algorithm", ["lloyd", "bounded"])
@pytest.mark.parametrize("n_chunks", [1, 7, 100])
def test_processes_give_the_very_centres_of_threads_and_sklearns_to_1e_8(client, mixture, algorithm, n_chunks):
    first = mixture[:20]
    here = ParallelKMeans(20, init=first, tol=0, algorithm=algorithm).fit(mixture)
    there = ParallelKMeans(20, init=first, tol=0, algorithm=algorithm).fit(in_chunks(mixture, n_chunks))
    peer = KMeans(20, init=first, tol=0, n_init=1, algorithm="lloyd").fit(mixture)
    np.testing.assert_array_equal(there.cluster_centers_, here.cluster_centers_)
    np.testing.assert_array_equal(there.labels_.compute(), here.labels_)
    np.testing.assert_allclose(there.cluster_centers_, peer.cluster_centers_, rtol=1e-8, atol=1e-12)
    np.testing.assert_array_equal(there.labels_.compute(), peer.labels_)
    assert there.inertia_ == pytest.approx(peer.inertia_, rel=1e-10)
    assert abs(there.n_iter_ - peer.n_iter_) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("n_chunks", [1, 7, 100])
@pytest.mark.parametrize("algorithm", ["lloyd", "bounded"])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("name", ["spambase", "mnist", "gauss_mixture"])
def test_real_data_on_processes_give_sklearns_answer(client, name, kind, algorithm, n_chunks):
    X = getattr(datasets, name)(*([1] if name == "gauss_mixture" else []))
    first = X[:20] + 1e-3 * np.random.default_rng(0).normal(size=(20, X.shape[1]))  # no exact ties
    peer = KMeans(20, init=first, tol=0, n_init=1, algorithm="lloyd").fit(X)
    lazy = in_chunks(X, n_chunks)
    if kind == "csr":
        lazy = lazy.map_blocks(scipy.sparse.csr_matrix)
    model = ParallelKMeans(20, init=first, tol=0, algorithm=algorithm).fit(lazy)
    scale = np.abs(peer.cluster_centers_).max()
    np.testing.assert_allclose(model.cluster_centers_, peer.cluster_centers_, rtol=1e-8, atol=1e-10 * scale)
    np.testing.assert_array_equal(model.labels_.compute(), peer.labels_)
    assert model.inertia_ == pytest.approx(peer.inertia_, rel=1e-10)
    assert abs(model.n_iter_ - peer.n_iter_) <= 1


@pytest.mark.parametrize("n_chunks", [1, 7])
def test_csr_blocks_on_processes_give_the_centres_of_a_csr_matrix(client, n_chunks):
    X = datasets.sparse_counts()
    lazy = in_chunks(X.toarray(), n_chunks).map_blocks(scipy.sparse.csr_matrix)
    here = ParallelKMeans(5, init=X[:5].toarray(), tol=0).fit(X)
    there = ParallelKMeans(5, init=X[:5].toarray(), tol=0).fit(lazy)
    np.testing.assert_array_equal(there.cluster_centers_, here.cluster_centers_)
    np.testing.assert_array_equal(there.predict(lazy).compute(), here.labels_)


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
def test_seeding_does_not_depend_on_chunks_or_place(client, mixture, init):
    def centres(X):
        return ParallelKMeans(10, init=init, n_init=1, max_iter=1, random_state=3).fit(X).cluster_centers_

    here = centres(mixture)
    for n_chunks in (1, 13):
        np.testing.assert_array_equal(centres(in_chunks(mixture, n_chunks)), here)


def test_weights_travel_with_their_rows(client, mixture):
    weights = np.random.default_rng(0).integers(0, 4, len(mixture)).astype(float)
    here = ParallelKMeans(8, init=mixture[:8], tol=0).fit(mixture, sample_weight=weights)
    there = ParallelKMeans(8, init=mixture[:8], tol=0).fit(in_chunks(mixture, 9), sample_weight=da.from_array(weights))
    np.testing.assert_array_equal(there.cluster_centers_, here.cluster_centers_)
    assert there.score(in_chunks(mixture, 5), sample_weight=weights) == pytest.approx(-here.inertia_)


def count_reads(X, n_chunks, folder):
    """X in lazy blocks, of which each leaves a file in folder whenever it is read."""

    def read(rows, number):
        handle = folder / f"{number}-{np.random.default_rng().integers(2**62)}"
        handle.touch()
        return rows

    height = -(-len(X) // n_chunks)
    parts = [
        da.from_delayed(
            dask.delayed(read, pure=False)(X[start : start + height], number),
            (min(height, len(X) - start), X.shape[1]),
            X.dtype,
        )
        for number, start in enumerate(range(0, len(X), height))
    ]
    return da.concatenate(parts)


def test_blocks_that_fit_into_memory_are_read_once_and_predict_reads_none_before_compute(client, mixture, tmp_path):
    X = count_reads(mixture, 6, tmp_path)
    model = ParallelKMeans(5, random_state=0).fit(X)
    assert len(list(tmp_path.iterdir())) == 6
    labels, distances = model.predict(X), model.transform(X)
    assert isinstance(labels, da.Array) and isinstance(distances, da.Array)
    assert len(list(tmp_path.iterdir())) == 6
    labels.compute()
    assert len(list(tmp_path.iterdir())) == 12


def test_a_streamed_round_reads_each_block_once(client, mixture, tmp_path):
    X = count_reads(mixture, 6, tmp_path)
    with dask.config.set({"dparallel.persist": False}), pytest.warns(UserWarning, match="read"):
        model = ParallelKMeans(5, init=mixture[:5], max_iter=4, tol=0).fit(X)
    n_rounds = model.n_iter_ + 2  # the survey before, the inertia after
    assert len(list(tmp_path.iterdir())) in (6 * n_rounds, 6 * (n_rounds + 1))  # loading may count rows


def test_a_model_fitted_on_dask_data_is_small_and_predicts_without_a_client(client, mixture, tmp_path):
    big = in_chunks(np.tile(mixture, (20, 1)), 10)
    model = ParallelKMeans(5, random_state=0).fit(big)
    data = pickle.dumps(model)
    assert len(data) < 64 * 1024 + model.cluster_centers_.nbytes
    (tmp_path / "model").write_bytes(data)
    np.save(tmp_path / "rows.npy", mixture[:100])
    code = (
        "import pickle, sys, numpy as np\n"
        "model = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(model.predict(np.load(sys.argv[2])).tolist())\n"
        "assert 'distributed' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model", tmp_path / "rows.npy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(model.predict(mixture[:100]).tolist())


def test_dataframes_get_a_lazy_column_and_write_it_from_parquet_to_parquet(client, tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=3000), "b": rng.normal(size=3000), "name": "x"})
    dd.from_pandas(frame, npartitions=5).to_parquet(tmp_path / "in")
    df = dd.read_parquet(tmp_path / "in")
    model = ParallelKMeans(4, random_state=0).fit(df[["a", "b"]])
    df["cluster"] = model.predict(df[["a", "b"]])
    df.to_parquet(tmp_path / "out")
    written = pd.read_parquet(tmp_path / "out").sort_values("a")
    np.testing.assert_array_equal(written["cluster"], model.predict(written[["a", "b"]]))
    assert list(model.transform(df[["a", "b"]]).columns) == [f"parallelkmeans{i}" for i in range(4)]


@pytest.mark.parametrize("backend", ["n_jobs=1", "dask"])
def test_grid_search_of_a_pipeline_leaves_the_rows_on_the_workers(client, mixture, monkeypatch, backend):
    import joblib

    X = in_chunks(np.tile(mixture, (4, 1)), 8).persist()
    pipeline = Pipeline([("scale", ParallelStandardScaler()), ("cluster", ParallelKMeans(random_state=0, max_iter=5))])
    search = GridSearchCV(pipeline, {"cluster__n_clusters": [2, 8]}, cv=2)
    spy = Spy(monkeypatch)
    if backend == "dask":
        with joblib.parallel_config("dask"):
            search.fit(X)
    else:
        search.fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert all(isinstance(score, float) and np.isfinite(score) for score in scores)
    assert search.best_params_ == {"cluster__n_clusters": 8}
    assert spy.received < X.nbytes / 4


def test_two_fits_at_once_give_the_answers_of_each_alone(client, mixture):
    X = in_chunks(mixture, 6).persist()
    models = [ParallelKMeans(k, random_state=k) for k in (3, 9)]
    alone = [model.fit(X).cluster_centers_ for model in models]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda model: model.fit(X).cluster_centers_, models))
    for a, b in zip(alone, together):
        np.testing.assert_array_equal(a, b)


def test_nan_is_found_in_the_first_pass_and_its_block_named(client, mixture):
    X = mixture.copy()
    X[4321, 3] = np.nan
    with pytest.raises(DataError, match=r"NaN, for instance at row 21, column 3.*block 43"):
        ParallelKMeans(3).fit(in_chunks(X, 50))
    assert wait_until_gone(client) == []


class Interrupt:
    """A callback that presses Ctrl-C in the third round."""

    def setup(self, estimator, context):
        self.rounds = 0

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.rounds += 1
        if self.rounds == 3:
            raise KeyboardInterrupt

    def teardown(self, estimator, context):
        pass


def test_nothing_of_ours_is_left_on_the_workers_after_fit_or_ctrl_c(client, mixture):
    pytest.importorskip("sklearn.callback")
    X = in_chunks(mixture, 6)
    ParallelKMeans(5, random_state=0).fit(X)
    assert wait_until_gone(client) == []
    with pytest.raises(KeyboardInterrupt):
        ParallelKMeans(9, tol=0, random_state=0).set_callbacks(Interrupt()).fit(X)
    assert wait_until_gone(client) == []


def test_callbacks_hear_of_every_round_from_the_driver(client, mixture):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring=lambda model, X, y: {"score": model.score(X)})
    X = in_chunks(mixture, 4).persist()
    model = ParallelKMeans(5, random_state=0, max_iter=4, tol=0).set_callbacks(monitor)
    model.fit(X, y=da.zeros(len(mixture)))
    scores = [entry["score"] for entry in monitor.get_logs().data if entry["task_name"] == "round"]
    assert len(scores) == model.n_iter_
    assert scores[-1] == pytest.approx(-model.inertia_)
    assert sorted(scores) == scores


def test_partial_fit_takes_a_block_or_a_whole_dask_array(client, mixture):
    lazily = ParallelKMeans(5, init=mixture[:5])
    at_once = ParallelKMeans(5, init=mixture[:5])
    for part in (mixture[:2000], mixture[2000:]):
        lazily.partial_fit(in_chunks(part, 3))
        at_once.partial_fit(part)
    np.testing.assert_array_equal(lazily.cluster_centers_, at_once.cluster_centers_)
