"""Searches on Dask data of any kind: scikit-learn's results, each block read once, no rows at the client."""

import gc

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
import scipy.stats
import sklearn
import sklearn.model_selection as theirs
from distributed import Client, LocalCluster
from sklearn.pipeline import Pipeline

from dparallel import (
    AsyncSGDClassifier,
    AsyncSGDRegressor,
    ParallelDecisionTree,
    ParallelDecisionTreeRegressor,
    ParallelKMeans,
    ParallelStandardScaler,
    metrics,
)
from dparallel.errors import AlignmentError, DataError, StreamingWarning
from dparallel.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from tests.spying import Spy
from tests.test_metrics import unknown
from tests.versions import since


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def one_thread(request):
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    on_cluster = "client" in request.fixturenames or parameters.get("where") == "cluster"
    if on_cluster:  # before anything is set: a client that closes puts back what it found
        request.getfixturevalue("client")
    with dask.config.set(scheduler=None if on_cluster else "synchronous"):
        yield


def problem(n_rows=1200, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 4)) * [1, 10, 100, 1]
    y = (X[:, 0] + X[:, 1] / 10 + 0.3 * random.normal(size=n_rows) > 0).astype(int)
    return X, y


def blocks(values, cuts=(0, 500, 300, 400, 0)):
    return unknown(da.from_array(values, chunks=(cuts, *values.shape[1:])))


def tree(**options):
    return ParallelDecisionTree(random_state=0, **options)


DEPTHS = {"max_depth": [1, 2, 4]}


def assert_same_search(ours, other):
    assert ours.best_params_ == other.best_params_
    for name in other.cv_results_:
        if "test_" in name and "rank" not in name:
            np.testing.assert_allclose(ours.cv_results_[name], other.cv_results_[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "scoring",
    [None, "accuracy", "roc_auc", "neg_log_loss", ["f1", "balanced_accuracy"], {"a": "accuracy", "b": "f1_macro"}],
)
def test_a_search_finds_what_scikit_learns_finds_on_the_computed_data(scoring):
    X, y = problem()
    refit = True if scoring is None or isinstance(scoring, str) else next(iter(scoring))
    options = {"cv": 3, "scoring": scoring, "refit": refit, "return_train_score": True}
    other = theirs.GridSearchCV(tree(), DEPTHS, **options).fit(X, y)
    ours = GridSearchCV(tree(), DEPTHS, **options)
    lazy = blocks(X)
    assert ours.fit(lazy, blocks(y)) is ours
    assert_same_search(ours, other)
    assert ours.best_score_ == pytest.approx(other.best_score_) and ours.n_splits_ == 3
    assert ours.get_params()["refit"] == refit and ours.get_params()["cv"] == 3
    np.testing.assert_array_equal(ours.predict(lazy).compute(), other.predict(X))
    assert ours.score(lazy, blocks(y)) == pytest.approx(other.score(X, y))


def test_numpy_data_are_scikit_learns_affair():
    X, y = problem()
    assert_same_search(GridSearchCV(tree(), DEPTHS).fit(X, y), theirs.GridSearchCV(tree(), DEPTHS).fit(X, y))
    ours, other = (function(tree(), X, y, cv=3) for function in (cross_val_score, theirs.cross_val_score))
    np.testing.assert_array_equal(ours, other)


def test_a_random_search_draws_scikit_learns_candidates():
    X, y = problem()
    spread = {"max_depth": scipy.stats.randint(1, 6)}
    options = {"n_iter": 4, "cv": 3, "random_state": 0}
    other = theirs.RandomizedSearchCV(tree(), spread, **options).fit(X, y)
    assert_same_search(RandomizedSearchCV(tree(), spread, **options).fit(blocks(X), blocks(y)), other)


def test_dataframes_are_searched_by_their_columns():
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    X, y = problem()
    frame = pandas.DataFrame(X, columns=list("abcd")).assign(y=y)
    lazy = dd.from_pandas(frame, npartitions=5)
    lazy = lazy[lazy.a < 2]
    frame = frame[frame.a < 2]
    other = theirs.GridSearchCV(tree(), DEPTHS, cv=3, scoring="f1").fit(frame[list("abcd")], frame.y)
    ours = GridSearchCV(tree(), DEPTHS, cv=3, scoring="f1").fit(lazy[list("abcd")], lazy.y)
    assert_same_search(ours, other)
    assert list(ours.feature_names_in_) == list("abcd")
    assert isinstance(ours.predict(lazy[list("abcd")]), dd.Series)


@pytest.mark.parametrize(
    "cv",
    [
        theirs.KFold(3),
        theirs.StratifiedKFold(3, shuffle=True, random_state=0),
        theirs.ShuffleSplit(2, random_state=0),
        KFold(3, shuffle=True, random_state=0),
        StratifiedKFold(3),
        [(np.arange(600), np.arange(600, 1200)), (np.arange(1200) > 300, np.arange(1200) <= 300)],
    ],
    ids=str,
)
def test_any_splitter_will_do(cv):
    X, y = problem()
    other = theirs.cross_val_score(tree(max_depth=3), X, y, cv=cv, scoring="accuracy")
    ours = cross_val_score(tree(max_depth=3), blocks(X), blocks(y), cv=cv, scoring="accuracy")
    np.testing.assert_allclose(ours, other)


def test_our_splitters_do_for_scikit_learns_searches():
    X, y = problem()
    known = da.from_array(X, chunks=(400, 4)), da.from_array(y, chunks=400)
    ours = theirs.GridSearchCV(tree(), DEPTHS, cv=StratifiedKFold(3)).fit(*known)
    assert_same_search(ours, theirs.GridSearchCV(tree(), DEPTHS, cv=3).fit(X, y))


def test_regressors_and_clusterings_are_searched_too():
    X, _ = problem()
    y = X[:, 0] * 3 + X[:, 1]
    model = ParallelDecisionTreeRegressor(random_state=0)
    for scoring in ("r2", "neg_mean_absolute_error", "explained_variance"):
        other = theirs.GridSearchCV(model, DEPTHS, cv=3, scoring=scoring).fit(X, y)
        assert_same_search(GridSearchCV(model, DEPTHS, cv=3, scoring=scoring).fit(blocks(X), blocks(y)), other)
    model = ParallelKMeans(init=X[:4].copy(), n_clusters=4)
    other = theirs.cross_val_score(model, X, cv=3)
    np.testing.assert_allclose(cross_val_score(model, blocks(X), cv=3), other, rtol=1e-9)


@since(1, 9, "GroupKFold")
def test_groups_stay_together_and_are_given_to_fit_or_routed():
    X, y = problem()
    groups = np.random.default_rng(1).integers(12, size=1200)
    expected = theirs.cross_val_score(tree(max_depth=2), X, y, groups=groups, cv=theirs.GroupKFold(3))
    found = cross_val_score(tree(max_depth=2), blocks(X), blocks(y), groups=blocks(groups), cv=GroupKFold(3))
    np.testing.assert_allclose(found, expected)
    search = GridSearchCV(tree(), DEPTHS, cv=GroupKFold(3)).fit(blocks(X), blocks(y), groups=blocks(groups))
    expected = theirs.GridSearchCV(tree(), DEPTHS, cv=theirs.GroupKFold(3)).fit(X, y, groups=groups)
    assert_same_search(search, expected)
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(tree(), DEPTHS, cv=GroupKFold(3)).fit(blocks(X), blocks(y), groups=blocks(groups))
        assert_same_search(search, expected)


@pytest.mark.parametrize("lazy", [True, False])
def test_weights_are_routed_through_search_pipeline_and_scorer(lazy):
    X, y = problem()
    weights = np.random.default_rng(1).random(1200) ** 4

    def search(kind, scorer):
        with_weights = {"sample_weight": True}
        pipeline = Pipeline(
            [
                ("scale", ParallelStandardScaler().set_fit_request(**with_weights)),
                ("tree", tree().set_fit_request(**with_weights)),
            ]
        )
        return kind(pipeline, {"tree__max_depth": [1, 3]}, scoring=scorer.set_score_request(**with_weights), cv=3)

    with sklearn.config_context(enable_metadata_routing=True):
        given = {"sample_weight": blocks(weights) if lazy else weights}
        ours = search(GridSearchCV, metrics.get_scorer("accuracy")).fit(blocks(X), blocks(y), **given)
        other = search(theirs.GridSearchCV, sklearn.metrics.get_scorer("accuracy")).fit(X, y, sample_weight=weights)
    assert_same_search(ours, other)
    plain = GridSearchCV(tree(), {"max_depth": [1, 3]}, scoring="accuracy", cv=3).fit(blocks(X), blocks(y))
    assert not np.allclose(plain.cv_results_["mean_test_score"], ours.cv_results_["mean_test_score"])


def test_weights_reach_fit_without_routing():
    X, y = problem()
    weights = np.random.default_rng(1).random(1200) ** 4
    params = {"sample_weight": blocks(weights)}
    ours = cross_validate(tree(max_depth=2), blocks(X), blocks(y), cv=3, params=params, return_train_score=True)
    other = theirs.cross_validate(
        tree(max_depth=2), X, y, cv=3, params={"sample_weight": weights}, return_train_score=True
    )
    for name in ("test_score", "train_score"):
        np.testing.assert_allclose(ours[name], other[name])


class Reads:
    """Blocks made by a function that notes each call in a file, whatever process it runs in."""

    def __init__(self, folder, n_rows=1200, n_blocks=6):
        self.file = folder / "reads"
        self.X, self.y = problem(n_rows)
        self.height = n_rows // n_blocks

    def block(self, number):
        import pandas

        with open(self.file, "a") as file:
            file.write(f"{number}\n")
        rows = slice(number * self.height, (number + 1) * self.height)
        return pandas.DataFrame(self.X[rows], columns=list("abcd")).assign(y=self.y[rows])

    def frame(self):
        dd = pytest.importorskip("dask.dataframe")
        return dd.from_map(self.block, list(range(6)), meta=self.block(0).iloc[:0])

    def counts(self):
        return np.bincount([int(line) for line in self.file.read_text().split()], minlength=6)


@pytest.mark.parametrize(
    "kind, where",
    [
        ("array", "threads"),
        ("dataframe", "cluster"),
        pytest.param("array", "cluster", marks=pytest.mark.slow),
        pytest.param("dataframe", "threads", marks=pytest.mark.slow),
    ],
)
def test_a_search_reads_each_block_once(tmp_path, where, kind):
    if kind == "array" and where == "threads" and dask.__version__.startswith("2025.1."):
        pytest.skip("Dask 2025.1 fuses the read of a block into each of two tasks")
    scheduler = "threads" if where == "threads" else None
    reads = Reads(tmp_path)
    frame = reads.frame()
    reads.file.unlink()
    X, y = frame[list("abcd")], frame["y"]
    if kind == "array":
        X, y = X.to_dask_array(), y.to_dask_array()
    with dask.config.set(scheduler=scheduler):
        ours = GridSearchCV(tree(), {"max_depth": [1, 2]}, cv=3, scoring="accuracy").fit(X, y)
    assert list(reads.counts()) == [1 if kind == "dataframe" else 2] * 6  # arrays are two graphs: one pass for each
    other = theirs.GridSearchCV(tree(), {"max_depth": [1, 2]}, cv=3, scoring="accuracy").fit(reads.X, reads.y)
    assert_same_search(ours, other)


@pytest.mark.parametrize("persisted, kind", [("X", "array"), ("both", "array"), ("X", "dataframe"), ("y", "dataframe")])
def test_what_is_held_already_stays_where_it_is(tmp_path, client, persisted, kind):
    reads = Reads(tmp_path)
    X, y = reads.frame()[list("abcd")], reads.frame()["y"]
    if kind == "array":
        X, y = X.to_dask_array(), y.to_dask_array()
    X = X if persisted == "y" else X.persist()
    y = y if persisted == "X" else y.persist()
    expected = theirs.cross_val_score(tree(max_depth=2), reads.X, reads.y, cv=2)
    np.testing.assert_allclose(cross_val_score(tree(max_depth=2), X, y, cv=2), expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_of_ten_by_five_on_parquet_reads_each_block_of_each_column_once(tmp_path, client):
    pytest.importorskip("pyarrow")
    dd = pytest.importorskip("dask.dataframe")
    reads = Reads(tmp_path)
    reads.frame().to_parquet(tmp_path / "rows")

    def watch(dask_worker=None):
        from dask.dataframe.io.parquet.arrow import ArrowDatasetEngine

        read = ArrowDatasetEngine.read_partition

        def noting(fs, pieces, columns, *rest, **options):
            with open(reads.file, "a") as file:
                file.write(f"{columns}\n")
            return read(fs, pieces, columns, *rest, **options)

        ArrowDatasetEngine.read_partition = noting

    frame = dd.read_parquet(tmp_path / "rows")
    client.run(watch)
    reads.file.write_text("")
    search = GridSearchCV(tree(), {"max_depth": list(range(1, 11))}, cv=5).fit(frame[list("abcd")], frame["y"])
    assert search.best_score_ > 0.8
    noted = reads.file.read_text().splitlines()
    assert sorted(noted) == sorted([str(list("abcd"))] * 6 + [str(["y"])] * 6)


def test_what_does_not_fit_is_read_again_and_a_warning_says_so(tmp_path):
    reads = Reads(tmp_path)
    frame = reads.frame()
    expected = theirs.cross_val_score(tree(max_depth=2), reads.X, reads.y, cv=2)
    with dask.config.set({"dparallel.memory-share": 1e-9}), pytest.warns(StreamingWarning, match="read again"):
        found = cross_val_score(tree(max_depth=2), frame[list("abcd")], frame["y"], cv=2)
    np.testing.assert_allclose(found, expected)
    reads.file.unlink()
    with dask.config.set({"dparallel.persist": False}), pytest.warns(StreamingWarning, match="persist is off"):
        found = cross_val_score(tree(max_depth=2), frame[list("abcd")], frame["y"], cv=2)
    np.testing.assert_allclose(found, expected)
    assert (reads.counts() > 1).all()


MODELS = [
    (tree(), {"model__max_depth": [2, 3]}),
    pytest.param(ParallelDecisionTreeRegressor(random_state=0), {"model__max_depth": [2, 3]}, marks=pytest.mark.slow),
    (AsyncSGDClassifier("log_loss", max_iter=3, tol=None, random_state=0), {"model__alpha": [1e-4, 10.0]}),
    pytest.param(
        AsyncSGDRegressor(max_iter=3, tol=None, random_state=0),
        {"model__alpha": [1e-4, 10.0]},
        marks=pytest.mark.slow,
    ),
    pytest.param(ParallelKMeans(random_state=0), {"model__n_clusters": [2, 3]}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("model, grid", MODELS, ids=lambda part: type(part).__name__)
def test_nothing_of_the_rows_reaches_the_client(client, monkeypatch, model, grid):
    spy = Spy(monkeypatch)
    search = GridSearchCV(Pipeline([("scale", ParallelStandardScaler()), ("model", model)]), grid, cv=2)
    received = []
    for size in (1, 4):
        X, y = problem(size * 20_000)
        cuts = tuple(size * rows for rows in (5_000, 2_500, 10_000, 2_500))
        before = spy.received
        search.fit(blocks(X, cuts), blocks(y, cuts))
        received.append(spy.received - before)
    # y alone has 480 000 bytes more, as have the row numbers of the folds; sketches have a size of their own
    assert received[1] - received[0] < 100_000


@pytest.mark.parametrize("backend", ["threading", pytest.param("dask", marks=pytest.mark.slow)])
def test_fits_at_once_give_the_same(client, backend):
    X, y = problem()
    expected = theirs.GridSearchCV(tree(), DEPTHS, cv=3, scoring="accuracy").fit(X, y)
    with joblib.parallel_config(backend, n_jobs=2):
        ours = GridSearchCV(tree(), DEPTHS, cv=3, scoring="accuracy").fit(blocks(X), blocks(y))
    assert_same_search(ours, expected)


def test_nothing_is_left_on_the_workers(client):
    X, y = problem()
    gc.collect()
    before = set(client.futures)
    cross_val_score(tree(max_depth=2), blocks(X), blocks(y), cv=2)
    gc.collect()
    assert set(client.futures) <= before


@pytest.mark.parametrize(
    "error, words, change",
    [
        (DataError, "not a scorer", {"scoring": "adjusted_rand_score"}),
        (AlignmentError, "Block 1 of X has 500 rows", {"y": blocks(problem()[1], (0, 501, 299, 400, 0))}),
        (AlignmentError, "1200 rows, and sample_weight has 3", {"params": {"sample_weight": np.ones(3)}}),
        (DataError, "'groups' parameter", {"cv": GroupKFold(2)}),
    ],
)
def test_what_cannot_be_meant_is_refused_before_work(error, words, change):
    X, y = problem()
    with pytest.raises(error, match=words):
        cross_validate(tree(), blocks(X), **({"y": blocks(y)} | change))


def test_several_metrics_need_to_know_which_one_decides():
    X, y = problem()
    with pytest.raises(ValueError, match="refit"):
        GridSearchCV(tree(), DEPTHS, scoring=["f1", "accuracy"]).fit(blocks(X), blocks(y))
    search = GridSearchCV(tree(), DEPTHS, scoring=["f1", "accuracy"], refit=False, cv=2).fit(blocks(X), blocks(y))
    assert not hasattr(search, "best_index_") and "mean_test_f1" in search.cv_results_
