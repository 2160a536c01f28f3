"""The parallel trees on Dask collections: the same tree whatever the chunks, lazy answers, rows that stay."""

import contextlib
import importlib
import pickle
import subprocess
import sys
import threading

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from dparallel import ParallelDecisionTree, ParallelDecisionTreeRegressor
from dparallel.errors import DataError, DataKindError
from tests import datasets, trees

X = trees.missing(trees.steps() + 1e-2 * np.random.default_rng(9).normal(size=(4000, 6)), 0.03)
FILLED = np.nan_to_num(X)
WEIGHTS = np.random.default_rng(3).random(len(X)) + 0.1
CASES = {
    "classes": (ParallelDecisionTree, trees.labels(FILLED)),
    "numbers": (ParallelDecisionTreeRegressor, trees.numbers(FILLED)),
}


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0", host="127.0.0.1") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


def in_chunks(values, n_chunks):
    return da.from_array(values, chunks=(-(-len(values) // n_chunks), *values.shape[1:]))


def fit(Tree, y, n_chunks=None, weights=None, rows=X, **parameters):
    """A tree of some depth, of numpy arrays or of Dask arrays."""
    model = Tree(**{"max_depth": 7, **parameters})
    if n_chunks is None:
        return model.fit(rows, y, weights)
    lazy_weights = None if weights is None else in_chunks(weights, n_chunks)
    return model.fit(in_chunks(rows, n_chunks), in_chunks(y, n_chunks), lazy_weights)


@pytest.mark.parametrize(
    "limits",
    [{}, {"max_depth": 4}, {"exact_rows": 600}, {"max_leaf_nodes": 30}, {"max_features": 2, "random_state": 5}],
    ids=str,
)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("case", CASES)
def test_chunks_and_workers_do_not_change_the_tree(client, case, weights, limits):
    here = fit(*CASES[case], None, weights, **limits)
    for n_chunks in (1, 7, 50):
        trees.assert_same_tree(fit(*CASES[case], n_chunks, weights, **limits), here)


@contextlib.contextmanager
def workers(n_workers):
    """A client of a cluster of its own."""
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.cluster
@pytest.mark.parametrize("n_workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_the_number_of_workers_does_not_change_the_tree(n_workers):
    with workers(n_workers):
        for case in CASES:
            for limits in ({}, {"exact_rows": 600}):
                expected = fit(*CASES[case], None, WEIGHTS, **limits)
                trees.assert_same_tree(fit(*CASES[case], 7, WEIGHTS, **limits), expected)


REAL = {
    "connect_4": ParallelDecisionTree,
    "fars": ParallelDecisionTree,
    "covtype": ParallelDecisionTree,
    "protein": ParallelDecisionTreeRegressor,
}


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning")
@pytest.mark.parametrize("n_workers", [1, 2, 4])
@pytest.mark.parametrize("name", REAL)
def test_real_data_give_the_same_tree_in_any_chunks_and_order_on_any_number_of_workers(n_workers, name):
    rows, y = datasets.table(name)
    random_weights = np.random.default_rng(3).random(len(rows)) + 0.1
    order = np.argsort(y, kind="stable")
    with workers(n_workers):
        for weights in (None, random_weights):
            sorted_weights = None if weights is None else weights[order]
            for exact_rows in (0, 20_000):
                expected = fit(REAL[name], y, None, weights, rows, exact_rows=exact_rows)
                for n_chunks in (1, 7, 50):
                    model = fit(REAL[name], y, n_chunks, weights, rows, exact_rows=exact_rows)
                    trees.assert_same_tree(model, expected)
                model = fit(REAL[name], y[order], 7, sorted_weights, rows[order], exact_rows=exact_rows)
                trees.assert_same_tree(model, expected)


@pytest.mark.parametrize("exact_rows", [0, 600])
@pytest.mark.parametrize("case", CASES)
def test_rows_sorted_by_their_target_give_the_same_tree(client, case, exact_rows):
    Tree, y = CASES[case]
    order = np.argsort(y, kind="stable")
    here = fit(Tree, y, exact_rows=exact_rows)
    trees.assert_same_tree(fit(Tree, y[order], 9, rows=X[order], exact_rows=exact_rows), here)


def test_threads_of_this_process_give_the_same_tree_where_there_is_no_client():
    for case in CASES:
        trees.assert_same_tree(fit(*CASES[case], 7, exact_rows=600), fit(*CASES[case], exact_rows=600))


def test_batches_and_streamed_blocks_do_not_change_the_tree(client):
    for case in CASES:
        here = fit(*CASES[case], exact_rows=300)
        with dask.config.set({"dparallel.tree.histogram-bytes": "200 kB"}):
            trees.assert_same_tree(fit(*CASES[case], 7, exact_rows=300), here)
        with dask.config.set({"dparallel.persist": False}), pytest.warns(UserWarning, match="read"):
            trees.assert_same_tree(fit(*CASES[case], 7, max_depth=3), fit(*CASES[case], max_depth=3))


def test_unknown_lengths_sparse_blocks_and_float32_are_read(client):
    Tree, y = CASES["classes"]
    here = fit(Tree, y, rows=FILLED)
    lazy, labels = in_chunks(FILLED, 5), in_chunks(y, 5)
    keep = da.ones(len(X), chunks=lazy.chunks[0], dtype=bool)
    trees.assert_same_tree(Tree(max_depth=7).fit(lazy[keep], labels[keep]), here)
    sparse = lazy.map_blocks(scipy.sparse.csr_matrix)
    model = Tree(max_depth=7).fit(sparse, labels)
    trees.assert_same_tree(model, here)
    np.testing.assert_array_equal(model.predict(sparse).compute(), here.predict(FILLED))
    trees.assert_same_tree(Tree(max_depth=7).fit(lazy.astype(np.float32), labels), here)


def test_a_class_may_be_absent_from_blocks_and_blocks_may_be_empty(client):
    Tree, y = CASES["classes"]
    order = np.argsort(y, kind="stable")
    rows, labels = X[order], np.array(["low", "mid", "high"], dtype=object)[y[order]]
    chunks = (0, 1000, 0, 2990, 10)
    model = Tree(max_depth=5).fit(da.from_array(rows, chunks=(chunks, 6)), da.from_array(labels, chunks=(chunks,)))
    here = Tree(max_depth=5).fit(rows, labels)
    trees.assert_same_tree(model, here)
    assert model.classes_.tolist() == ["high", "low", "mid"]
    np.testing.assert_array_equal(model.predict(in_chunks(rows, 3)).compute(), here.predict(rows))


# --- answers


def refuse_to_read(block):
    if block.shape[0] > 1:  # Dask tries functions on a tiny array to learn about their results
        raise AssertionError("a block was read")
    return block


@pytest.mark.parametrize("case", CASES)
def test_answers_are_lazy_and_those_of_numpy(client, case):
    model = fit(*CASES[case])
    lazy, untouched = in_chunks(X, 6), in_chunks(X, 6).map_blocks(refuse_to_read)
    methods = ["predict", "apply", "decision_path"]
    methods += ["predict_proba", "predict_log_proba"] if case == "classes" else []
    for name in methods:
        answer = getattr(model, name)(lazy)
        assert isinstance(getattr(model, name)(untouched), da.Array)
        assert answer.chunks[0] == lazy.chunks[0] and answer.shape == getattr(model, name)(X).shape
        found, expected = answer.compute(), getattr(model, name)(X)
        assert answer.dtype == expected.dtype
        if name == "decision_path":
            assert (found != expected).nnz == 0
        else:
            np.testing.assert_array_equal(found, expected)
    y = CASES[case][1]
    score = model.score(lazy, in_chunks(y, 4), in_chunks(WEIGHTS, 2))
    assert isinstance(score, float) and score == pytest.approx(model.score(X, y, WEIGHTS), rel=1e-12)


def test_dataframes_give_columns_and_categories(client):
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    client.run(importlib.import_module, "dask.dataframe")  # two threads that import it at once disturb each other
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=3000), "kind": pd.Categorical(rng.choice(list("pqrstuvw"), 3000))})
    frame["y"] = (frame["kind"].isin(["p", "s", "u"]) ^ (frame["a"] > 1)).astype(int)
    df = dd.from_pandas(frame, npartitions=5)
    model = ParallelDecisionTree(max_depth=4, categorical_features="from_dtype").fit(df[["a", "kind"]], df["y"])
    here = ParallelDecisionTree(max_depth=4, categorical_features="from_dtype").fit(frame[["a", "kind"]], frame["y"])
    trees.assert_same_tree(model, here)
    assert model.feature_names_in_.tolist() == ["a", "kind"] and model.score(df[["a", "kind"]], df["y"]) > 0.99
    shares = model.predict_proba(df[["a", "kind"]])
    assert list(shares.columns) == [0, 1] and shares.divisions == df.divisions
    df["found"] = model.predict(df[["a", "kind"]])
    np.testing.assert_array_equal(df["found"].compute(), here.predict(frame[["a", "kind"]]))
    with pytest.raises(DataKindError, match="sparse matrices, which a Dask dataframe cannot hold"):
        model.decision_path(df[["a", "kind"]])
    unknown = df.assign(kind=df["kind"].cat.as_unknown())
    with pytest.raises(DataKindError, match=r"does not know the categories of column 'kind' yet\. Call .*categorize"):
        ParallelDecisionTree(categorical_features="from_dtype").fit(unknown[["a", "kind"]], df["y"])


# --- where the rows are


class Spy:
    """Counts the bytes that the client receives, and refuses that a Dask array becomes a numpy array here."""

    def __init__(self, monkeypatch):
        from dask.sizeof import sizeof

        self.received = 0
        gather, compute = Client._gather, da.Array.compute

        async def spying_gather(client, *args, **kwargs):
            found = await gather(client, *args, **kwargs)
            self.received += sizeof(found)
            return found

        make = da.Array.__array__

        def no_array(array, *args, **kwargs):
            # scikit-learn's own splitters read y
            assert array.ndim < 2, f"a Dask array of shape {array.shape} was brought to the client"
            return make(array, *args, **kwargs)

        def spying_compute(array, *args, **kwargs):
            assert array.ndim < 2, f"a Dask array of shape {array.shape} was computed"
            return compute(array, *args, **kwargs)

        monkeypatch.setattr(Client, "_gather", spying_gather)
        monkeypatch.setattr(da.Array, "__array__", no_array)
        monkeypatch.setattr(da.Array, "compute", spying_compute)


@pytest.mark.parametrize("exact_rows", [0, 20_000])
def test_rows_stay_on_the_workers(client, monkeypatch, exact_rows):
    rows = da.random.default_rng(0).normal(size=(60_000, 40), chunks=(10_000, 40)).persist()
    y = (rows[:, 0] > rows[:, 1]).astype(int).persist()
    spy = Spy(monkeypatch)
    model = ParallelDecisionTree(max_depth=3, exact_rows=exact_rows, max_bins=31, max_features=20, random_state=0)
    model.fit(rows, y)
    assert spy.received < rows.nbytes / 4
    assert len(pickle.dumps(model)) < 64 * 1024


def test_grid_search_leaves_the_rows_on_the_workers(client, monkeypatch):
    Tree, y = CASES["classes"]
    rows = in_chunks(np.tile(X, (4, 1)), 8).persist()
    labels = in_chunks(np.tile(y, 4), 8).persist()
    Spy(monkeypatch)
    search = GridSearchCV(Tree(), {"max_depth": [1, 5]}, cv=2).fit(rows, labels)
    assert search.best_params_ == {"max_depth": 5} and np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_pickled_tree_predicts_without_a_client(client, tmp_path):
    Tree, y = CASES["classes"]
    model = fit(Tree, y, 7)
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "rows.npy", X[:100])
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
    assert done.stdout.strip() == str(model.predict(X[:100]).tolist())


def keys_left(client):
    """Keys of ours that the scheduler still knows."""
    return client.run_on_scheduler(lambda dask_scheduler: [k for k in dask_scheduler.tasks if "dparallel" in str(k)])


def test_nothing_of_ours_is_left_on_the_workers_after_fit_or_an_error(client):
    Tree, y = CASES["classes"]
    bad = X.copy()
    bad[3210, 2] = np.inf
    for rows in (X, bad):
        if rows is bad:
            with pytest.raises(DataError, match=r"infinity.*block 40"):
                fit(Tree, y, 50, rows=bad)
        else:
            fit(Tree, y, 50, exact_rows=500)
        for _ in range(100):
            left = keys_left(client)
            if not left:
                break
            threading.Event().wait(0.05)
        assert left == []


@pytest.mark.parametrize("case", CASES)
def test_what_a_level_moves_is_half_of_its_histograms(client, case):
    model = fit(*CASES[case], 8, max_depth=5, max_bins=63)
    n_workers, slots, n_statistics = 2, 6 * 64, 3 if case == "classes" else 2
    state = 30_000  # bins and splits
    for record in model.history_[1:]:
        nodes = 2 * model.history_[record.round - 2].n_splits
        whole = n_workers * 8 * nodes * slots * n_statistics
        assert nodes * slots * 4 <= record.bytes_moved <= 1.2 * whole / 2 + n_workers * state


# bins of more than 64 kB travel once to each worker, smaller ones with every task
WIDE = np.random.default_rng(0).normal(size=(20_000, 80)).astype(np.float32)
WIDE_TARGET = WIDE[:, 0] * WIDE[:, 1] + WIDE[:, 2] + np.random.default_rng(1).normal(size=len(WIDE))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("Tree", [ParallelDecisionTree, ParallelDecisionTreeRegressor])
def test_no_level_moves_more_than_the_histograms_of_the_smaller_children_and_a_fifth(client, Tree, weighted):
    y = (WIDE_TARGET > 0.5).astype(int) if Tree is ParallelDecisionTree else WIDE_TARGET
    weights = np.random.default_rng(2).random(len(y)) + 0.1 if weighted else None
    n_workers, slots, n_statistics = 2, 80 * 255, 2 + weighted
    for max_depth in (5, None):  # and with rows that change the worker
        model = fit(Tree, y, 8, weights, WIDE, max_depth=max_depth)
        assert model.tree_.max_depth > 4
        moved = allowed = 0
        for before, record in reversed(list(zip(model.history_, model.history_[1:]))):
            moved += record.bytes_moved
            allowed += 1.2 * n_workers * (8 * 2 * before.n_splits * slots * n_statistics) / 2
            if record.n_rounds:  # the levels below it that have none were finished in its round
                assert moved <= allowed
                moved = allowed = 0
