"""Every metric of Dask data is scikit-learn's of the same data: weights, unknown chunks, blocks without rows, ties."""

import itertools

import dask
import dask.array as da
import numpy as np
import pytest
import sklearn
import sklearn.metrics
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from dparallel import AsyncSGDClassifier, ParallelDecisionTreeRegressor, metrics
from dparallel.errors import AlignmentError, DataError
from dparallel.metrics.tallies import distinct
from tests.spying import Spy

CUTS = [(500,), (0, 200, 0, 250, 50, 0), tuple([28] * 17 + [24])]
AVERAGES = ["micro", "macro", "weighted", None]


@pytest.fixture(autouse=True)
def one_thread(request):
    with dask.config.set(scheduler=None if "client" in request.fixturenames else "synchronous"):
        yield


def unknown(array):
    """The same blocks, of lengths that nobody knows."""
    chunks = ((np.nan,) * array.numblocks[0], *array.chunks[1:])
    return da.Array(array.dask, array.name, chunks, meta=array._meta)


def cut(values, cuts, known=False):
    if values is None:
        return None
    array = da.from_array(values, chunks=(cuts, *values.shape[1:]))
    return array if known else unknown(array)


def same(name, truth, found, weights, cuts, tolerance=1e-12, **options):
    """Compare one metric of blocks with scikit-learn's of the whole."""
    weighted = {} if weights is None else {"sample_weight": weights}
    expected = getattr(sklearn.metrics, name)(truth, found, **weighted, **options)
    weighted = {} if weights is None else {"sample_weight": cut(weights, cuts)}
    result = getattr(metrics, name)(cut(truth, cuts), cut(found, cuts), **weighted, **options)
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def labels(n_classes, seed=0, dtype=int, n_rows=500):
    random = np.random.default_rng(seed)
    truth = random.integers(n_classes, size=n_rows)
    found = np.where(random.random(n_rows) < 0.6, truth, random.integers(n_classes, size=n_rows))
    names = np.array(["ant", "bee", "cat", "dog"])
    return (names[truth], names[found]) if dtype is str else (truth.astype(dtype), found.astype(dtype))


def weights_of(kind, seed=1, n_rows=500):
    random = np.random.default_rng(seed)
    return None if kind == "none" else random.integers(0, 4, n_rows) if kind == "whole" else random.random(n_rows)


@pytest.mark.parametrize("kind", ["none", "whole", "real"])
@pytest.mark.parametrize("cuts", CUTS)
def test_metrics_of_labels_are_scikit_learns(cuts, kind):
    weights = weights_of(kind)
    for n_classes, dtype in itertools.product((2, 4), (int, float, str)):
        truth, found = labels(n_classes, dtype=dtype)
        for name in ("accuracy_score", "zero_one_loss"):
            same(name, truth, found, weights, cuts)
            same(name, truth, found, weights, cuts, normalize=False)
        for name in ("balanced_accuracy_score", "matthews_corrcoef", "cohen_kappa_score", "confusion_matrix"):
            same(name, truth, found, weights, cuts)
        same("confusion_matrix", truth, found, weights, cuts, normalize="true")
        for name, average in itertools.product(("precision", "recall", "f1", "jaccard"), AVERAGES):
            same(f"{name}_score", truth, found, weights, cuts, average=average)
        if n_classes == 2:
            positive = np.unique(truth)[-1]
            for name in ("precision_score", "recall_score", "f1_score", "jaccard_score"):
                same(name, truth, found, weights, cuts, pos_label=positive)
            same("fbeta_score", truth, found, weights, cuts, beta=2, pos_label=positive)


@pytest.mark.parametrize("kind", ["none", "whole", "real"])
@pytest.mark.parametrize("cuts", CUTS)
def test_metrics_of_probabilities_are_scikit_learns(cuts, kind):
    random, weights = np.random.default_rng(2), weights_of(kind)
    for n_classes, dtype in itertools.product((2, 4), (int, str)):
        truth, _ = labels(n_classes, dtype=dtype)
        p = random.dirichlet(np.ones(n_classes), 500)
        p[:5] = np.eye(n_classes)[0]  # certain, and often wrong
        same("log_loss", truth, p, weights, cuts)
        same("log_loss", truth, p, weights, cuts, normalize=False)
        same("log_loss", truth, p, weights, cuts, labels=np.unique(truth))
        same("log_loss", truth, p.astype(np.float32), None, cuts, tolerance=1e-6)  # scikit-learn adds in float32
        same("brier_score_loss", truth, p, weights, cuts)
        if n_classes == 2:
            same("log_loss", truth, p[:, 1], weights, cuts)
            same("brier_score_loss", truth, p[:, 1], weights, cuts, pos_label=np.unique(truth)[-1])
    for values in ([0, 1], [-1, 1], [1, 2]):
        same("brier_score_loss", np.array(values)[labels(2)[0]], p[:, 1], weights, cuts)


@pytest.mark.parametrize("kind", ["none", "whole", "real"])
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("decimals", [1, 15])
def test_metrics_of_ranks_are_scikit_learns_ties_included(cuts, kind, decimals):
    random, weights = np.random.default_rng(3), weights_of(kind)
    truth, _ = labels(2)
    score = (truth + 2 * random.random(500)).round(decimals)
    same("roc_auc_score", truth, score, weights, cuts)
    same("roc_auc_score", truth, score, weights, cuts, max_fpr=0.3)
    same("roc_auc_score", np.array(["no", "yes"])[truth], score, weights, cuts)
    same("average_precision_score", truth, score, weights, cuts)
    truth, _ = labels(4)
    p = random.dirichlet(np.ones(4), 500)
    for average in ("micro", "macro", "weighted", None):
        same("roc_auc_score", truth, p, weights, cuts, multi_class="ovr", average=average)
    if weights is None:
        same("roc_auc_score", truth, p, None, cuts, multi_class="ovo")


@pytest.mark.parametrize("kind", ["none", "whole", "real"])
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("shape", [(500,), (500, 3)])
def test_metrics_of_numbers_are_scikit_learns(cuts, kind, shape):
    random, weights = np.random.default_rng(4), weights_of(kind)
    truth = 1000 + 5 * random.random(shape)
    found = truth + random.normal(size=shape)
    every = ["uniform_average", "raw_values"] + ([np.array([0.2, 0.3, 0.5])] if shape[1:] else [])
    losses = ["mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_log_error"]
    losses += ["root_mean_squared_error", "root_mean_squared_log_error"]
    for name, multioutput in itertools.product(losses, every):
        same(name, truth, found, weights, cuts, multioutput=multioutput)
    for name, multioutput in itertools.product(("r2_score", "explained_variance_score"), [*every, "variance_weighted"]):
        same(name, truth, found, weights, cuts, multioutput=multioutput)
    if not shape[1:]:
        same("max_error", truth, found, None, cuts)
        same("mean_poisson_deviance", truth, found, weights, cuts)
        same("mean_gamma_deviance", truth, found, weights, cuts)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_cuts_and_weights_give_scikit_learns(data):
    n_rows = data.draw(st.integers(2, 60))
    edges = data.draw(st.lists(st.integers(0, n_rows), max_size=6))
    edges = [0, *sorted(edges), n_rows]
    cuts = tuple(high - low for low, high in zip(edges, edges[1:]))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    truth, found = np.append(random.integers(0, 2, n_rows - 2), [0, 1]), random.integers(0, 2, n_rows)
    weights = data.draw(st.sampled_from([None, random.random(n_rows) + 0.01, random.integers(1, 3, n_rows)]))
    p = random.random(n_rows).round(1)
    for name in ("accuracy_score", "f1_score", "matthews_corrcoef", "confusion_matrix"):
        same(name, truth, found, weights, cuts)
    for name in ("roc_auc_score", "average_precision_score", "log_loss", "brier_score_loss"):
        same(name, truth, p, weights, cuts)
    for name in ("r2_score", "mean_squared_error", "explained_variance_score"):
        same(name, truth.astype(float), p, weights, cuts)


@given(
    st.sampled_from([np.int8, np.uint8, np.int64, np.uint64, bool]),
    st.sampled_from([0, 1, 100]),
    st.sampled_from([1, 7, 10_000]),
    st.booleans(),
)
def test_distinct_integers_are_those_of_a_sort(dtype, n_rows, width, at_the_top):
    numbers = np.random.default_rng(n_rows).integers(width, size=n_rows)
    if dtype is bool:
        values = numbers % 2 == 0
    else:
        limits = np.iinfo(dtype)
        values = (limits.max - numbers.astype(np.uint64) if at_the_top else limits.min + numbers).astype(dtype)
    found, at = distinct(values)
    expected, places = np.unique(values, return_inverse=True)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(at, places)


@pytest.mark.filterwarnings("ignore::RuntimeWarning:sklearn")
@pytest.mark.parametrize("finite", [True, False])
def test_constant_targets_score_as_scikit_learn_says(finite):
    constant, other = np.full(500, 2.0), np.arange(500.0)
    for truth, found in ((constant, constant), (constant, other), (other, other)):
        for name in ("r2_score", "explained_variance_score"):
            same(name, truth, found, None, CUTS[1], force_finite=finite)


def test_series_of_a_dataframe_are_read_as_they_are():
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    truth, found = labels(3, dtype=str)
    frame = dd.from_pandas(pandas.DataFrame({"y": truth, "p": found, "w": weights_of("real")}), npartitions=4)
    frame = frame[frame.w > 0.1]
    computed = frame.compute()
    expected = sklearn.metrics.f1_score(computed.y, computed.p, average="macro", sample_weight=computed.w)
    result = metrics.f1_score(frame.y, frame.p, average="macro", sample_weight=frame.w)
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    assert metrics.accuracy_score(frame.y, frame.y.values) == 1.0


def test_what_is_in_memory_is_cut_like_what_is_not_and_two_in_memory_are_scikit_learns():
    truth, found = labels(3)
    expected = sklearn.metrics.accuracy_score(truth, found)
    known = cut(truth, (200, 300), known=True)
    assert metrics.accuracy_score(known, found) == metrics.accuracy_score(found, known) == expected
    assert (
        metrics.accuracy_score(truth, found) == metrics.accuracy_score(known, cut(found, (123, 377), True)) == expected
    )


@pytest.mark.parametrize(
    "error, words, change",
    [
        (AlignmentError, "y_true has unknown row counts", {"y_pred": labels(2)[1]}),
        (AlignmentError, "2 blocks", {"y_pred": cut(labels(2)[1], (250, 250))}),
        (AlignmentError, "Block 1 of y_true has 499 rows", {"y_pred": cut(labels(2)[1][:-1], (1, 498))}),
        (AlignmentError, "block [01] of sample_weight has", {"sample_weight": cut(np.ones(500), (2, 498))}),
        (DataError, "continuous", {"y_pred": cut(np.linspace(0, 1, 500), (1, 499))}),
        (DataError, "string and number", {"y_pred": cut(labels(2, dtype=str)[1], (1, 499))}),
        (DataError, "1d array", {"y_pred": cut(np.ones((500, 2)), (1, 499))}),
        (DataError, "Negative", {"sample_weight": cut(-np.ones(500), (1, 499))}),
    ],
)
def test_what_cannot_be_meant_is_refused(error, words, change):
    given = {"y_true": cut(labels(2)[0], (1, 499)), "y_pred": cut(labels(2)[1], (1, 499))} | change
    if words == "2 blocks":
        given["y_true"] = cut(labels(2)[0], (100, 200, 200))
    with pytest.raises(error, match=words):
        metrics.f1_score(**given)


def test_no_rows_at_all_are_refused():
    nothing = cut(np.zeros(0, int), (0, 0))
    with pytest.raises(DataError, match=r"0 sample\(s\)"):
        metrics.accuracy_score(nothing, nothing)


def test_probabilities_must_be_some_and_have_a_column_for_each_label():
    truth, p = cut(labels(3)[0], (250, 250)), cut(np.full((500, 2), 0.5), (250, 250))
    with pytest.raises(DataError, match="3 vs 2"):
        metrics.log_loss(truth, p)
    with pytest.raises(DataError, match="no probabilities"):
        metrics.log_loss(truth, p + 1)
    with pytest.warns(UserWarning, match="sum to one"):
        metrics.log_loss(truth, cut(np.full((500, 3), 0.5), (250, 250)))


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


def task(n_rows=20_000, n_blocks=8):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 5))
    y = (X[:, 0] + 0.5 * random.normal(size=n_rows) > 0).astype(int)
    return da.from_array(X, chunks=(n_rows // n_blocks, 5)), da.from_array(y, chunks=n_rows // n_blocks)


@pytest.mark.parametrize("kind", ["array", "dataframe"])
def test_scorers_agree_with_scikit_learns_and_no_rows_come_to_the_client(client, monkeypatch, kind):
    X, y = held = dask.persist(*task())  # a dataframe made of futures does not hold them
    model = AsyncSGDClassifier(loss="log_loss", max_iter=3, tol=None, random_state=0).fit(X, y)
    names = ["accuracy", "f1_macro", "matthews_corrcoef", "roc_auc", "neg_log_loss", "neg_brier_score", "r2"]
    rows, targets = X.compute(), y.compute()
    if kind == "dataframe":
        X = X.to_dask_dataframe(columns=list("abcde"))
        y = y.to_dask_dataframe()
        model.fit(X, y)
        rows = X.compute()
    expected = {name: sklearn.metrics.get_scorer(name)(model, rows, targets) for name in names}
    spy = Spy(monkeypatch)
    found = {name: metrics.get_scorer(name)(model, X, y) for name in names}
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=name)
    assert spy.received < held[1].nbytes / 4


@pytest.mark.parametrize("name", metrics.get_scorer_names())
def test_every_scorer_agrees_with_scikit_learns_on_blocks_of_unknown_lengths(name):
    X, y = (part.compute() for part in task(600))
    if name.startswith(("neg_mean", "neg_root")):
        y = y + 1.0  # for the metrics of positive numbers
        model = ParallelDecisionTreeRegressor(max_depth=3, random_state=0).fit(X, y)
    else:
        model = AsyncSGDClassifier(loss="log_loss", max_iter=3, tol=None, random_state=0).fit(X, y)
    expected = sklearn.metrics.get_scorer(name)(model, X, y)
    found = metrics.get_scorer(name)(model, cut(X, (0, 250, 350)), cut(y, (0, 250, 350)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_scorers_know_what_scikit_learns_know_of_their_names():
    assert set(metrics.get_scorer_names()) <= set(sklearn.metrics.get_scorer_names())
    X, y = (part.compute() for part in task(200, 1))
    model = LogisticRegression().fit(X, y)
    assert metrics.get_scorer("roc_auc")(model, X, y) == sklearn.metrics.get_scorer("roc_auc")(model, X, y)
    assert metrics.get_scorer(max) is max
    with pytest.raises(ValueError, match=r"adjusted_rand_score.*roc_auc_ovr"):
        metrics.get_scorer("adjusted_rand_score")


def test_scorers_take_weights_by_metadata_routing():
    X, y = task(500, 5)
    weights = da.from_array(weights_of("real"), chunks=100)
    model = AsyncSGDClassifier(max_iter=2, tol=None, random_state=0).fit(X, y)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = metrics.get_scorer("accuracy").set_score_request(sample_weight=True)
        result = scorer(model, X, y, sample_weight=weights)
    expected = sklearn.metrics.accuracy_score(y, model.predict(X), sample_weight=weights.compute())
    np.testing.assert_allclose(result, expected, rtol=1e-12)
