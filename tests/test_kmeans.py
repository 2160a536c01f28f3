"""ParallelKMeans in this process: what its parameters and attributes mean."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import euclidean_distances

from dparallel import ParallelKMeans
from dparallel.errors import AlignmentError, DataError
from tests import datasets, twins
from tests.test_kmeans_parity import ALGORITHMS, first_rows

INITS = ["k-means||", "k-means++", "random"]
MIX = datasets.gauss_mixture(10)[:1500]
FITTED = ParallelKMeans(6, random_state=0).fit(MIX)
LAYOUTS = {
    "ndarray": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "CSR": scipy.sparse.csr_matrix,
    "list": lambda X: X.tolist(),
    "int": lambda X: (10 * X).astype(int),
    "reversed": lambda X: twins.lay_out(X, "reversed"),
    "read-only": lambda X: twins.lay_out(X, "read-only"),
    "swapped bytes": lambda X: twins.lay_out(X, "swapped bytes"),
}


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "auto", "elkan"])
@pytest.mark.parametrize("factor", [1e-3, 1e-30, 1e30, 2.0**-10])
def test_the_unit_of_the_data_changes_neither_rounds_nor_labels(factor, algorithm):
    X = datasets.gauss_mixture(1)[:2000]
    init = first_rows(X, 8)
    a = ParallelKMeans(8, init=init, algorithm=algorithm).fit(X)
    b = ParallelKMeans(8, init=factor * init, algorithm=algorithm).fit(factor * X)
    assert a.n_iter_ == b.n_iter_ and (a.labels_ == b.labels_).all()
    np.testing.assert_allclose(b.cluster_centers_, factor * a.cluster_centers_, rtol=1e-10)
    np.testing.assert_allclose(b.inertia_, factor**2 * a.inertia_, rtol=1e-10)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "CSR"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("offset", [0.0, 7.0, 1e5])
def test_more_clusters_than_distinct_rows_warn_and_invent_no_centre(init, sparse, metric, offset):
    rows = offset + np.array([[3.0, 4.0], [6.0, -8.0], [-1.0, 2.0]])
    X = rows[np.arange(60) % 3]
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(3\) found smaller than n_clusters \(8\)"):
        model = ParallelKMeans(8, init=init, metric=metric, random_state=0, n_init=1).fit(
            scipy.sparse.csr_matrix(X) if sparse else X
        )
    known = rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows
    nearest = np.abs(model.cluster_centers_[:, None] - known).max(axis=2).min(axis=1)
    assert (nearest <= 1e-7 * (1 + offset)).all()
    assert model.inertia_ <= 1e-6 * (1 + offset)
    assert model.n_iter_ <= 5


def test_all_rows_equal_give_that_row_for_every_centre():
    with pytest.warns(ConvergenceWarning):
        model = ParallelKMeans(3, random_state=0).fit(np.full((20, 4), 0.1))
    assert (model.cluster_centers_ == 0.1).all() and model.inertia_ == 0 and (model.labels_ == 0).all()


def test_as_many_clusters_as_rows_make_every_row_a_centre():
    X = np.random.default_rng(0).normal(size=(12, 3))
    model = ParallelKMeans(12, random_state=0).fit(X)
    np.testing.assert_allclose(np.sort(model.cluster_centers_, axis=0), np.sort(X, axis=0), rtol=1e-12)
    assert model.inertia_ < 1e-25 and sorted(model.labels_) == list(range(12))


def test_one_cluster_has_the_mean():
    model = ParallelKMeans(1).fit(MIX)
    np.testing.assert_allclose(model.cluster_centers_[0], MIX.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.inertia_, MIX.var(axis=0).sum() * len(MIX), rtol=1e-12)


def test_fewer_rows_than_clusters_are_refused():
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=4"):
        ParallelKMeans(4).fit(MIX[:3])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_predict_transform_and_score_agree_with_the_centres(layout):
    X = LAYOUTS[layout](MIX)
    model = ParallelKMeans(6, random_state=0).fit(X)
    dense = X.toarray() if layout == "CSR" else np.asarray(X, np.float64)
    dtype = np.float32 if layout == "float32" else np.float64
    assert model.cluster_centers_.dtype == dtype
    distances = np.sqrt(twins.squared_distances(dense, model.cluster_centers_)).astype(float)
    transformed = model.transform(X)
    assert transformed.dtype == dtype
    np.testing.assert_allclose(transformed, distances, rtol=1e-6 if layout == "float32" else 1e-9)
    assert (model.predict(X) == distances.argmin(axis=1)).all()
    assert (model.labels_ == model.predict(X)).all() and model.labels_.dtype == np.int32
    np.testing.assert_allclose(model.score(X), -(distances.min(axis=1) ** 2).sum(), rtol=1e-10)
    np.testing.assert_allclose(model.inertia_, -model.score(X), rtol=1e-6 if layout == "float32" else 1e-10)
    np.testing.assert_allclose(model.counts_, np.bincount(model.labels_, minlength=6))
    assert (ParallelKMeans(6, random_state=0).fit_predict(X) == model.labels_).all()
    np.testing.assert_array_equal(ParallelKMeans(6, random_state=0).fit_transform(X), transformed)


def test_transform_is_exact_far_from_the_origin():
    X = MIX + 1e8
    distances = ParallelKMeans(6, random_state=0).fit(X).transform(X)
    model = ParallelKMeans(6, random_state=0).fit(X - 1e8)
    np.testing.assert_allclose(distances, model.transform(X - 1e8), rtol=1e-6)


def test_score_weighs_rows():
    weights = np.random.default_rng(0).integers(0, 3, len(MIX))
    repeated = FITTED.score(np.repeat(MIX, weights, axis=0))
    np.testing.assert_allclose(FITTED.score(MIX, sample_weight=weights), repeated, rtol=1e-12)


def test_weights_of_zero_drop_rows_and_equal_weights_change_nothing():
    init = first_rows(MIX, 6)
    weights = np.r_[np.ones(1000), np.zeros(500)]
    dropped = ParallelKMeans(6, init=init, tol=0).fit(MIX, sample_weight=weights)
    without = ParallelKMeans(6, init=init, tol=0).fit(MIX[:1000])
    np.testing.assert_allclose(dropped.cluster_centers_, without.cluster_centers_, rtol=1e-12)
    equal = ParallelKMeans(6, init=init, tol=0).fit(MIX, sample_weight=np.full(1500, 0.3))
    plain = ParallelKMeans(6, init=init, tol=0).fit(MIX)
    np.testing.assert_allclose(equal.cluster_centers_, plain.cluster_centers_, rtol=1e-12)
    np.testing.assert_allclose(equal.inertia_, 0.3 * plain.inertia_, rtol=1e-12)


@pytest.mark.parametrize("init", INITS)
def test_the_same_seed_gives_the_same_bits_and_leaves_the_data_alone(init):
    X = MIX.copy()
    a, b = (ParallelKMeans(9, init=init, random_state=4).fit(X) for _ in range(2))
    assert (a.cluster_centers_ == b.cluster_centers_).all() and a.inertia_ == b.inertia_
    other = ParallelKMeans(9, init=init, random_state=5).fit(X)
    assert (a.cluster_centers_ != other.cluster_centers_).any()
    assert (X == MIX).all()


def test_n_init_keeps_the_best_of_starts_that_differ():
    state = np.random.RandomState(0)
    once = [ParallelKMeans(9, init="random", n_init=1, random_state=state).fit(MIX).inertia_ for _ in range(5)]
    best = ParallelKMeans(9, init="random", n_init=5, random_state=np.random.RandomState(0)).fit(MIX)
    assert len(set(once)) > 1
    assert best.inertia_ == min(once)
    assert len(best.history_) == best.n_iter_


def counting(calls):
    def init(X, n_clusters, random_state):
        calls.append((X, n_clusters))
        return X[random_state.permutation(len(X))[:n_clusters]]

    return init


@pytest.mark.parametrize("n_init, expected", [("auto", 10), (3, 3)])
def test_a_callable_init_is_called_once_per_start_with_the_users_data(n_init, expected):
    calls = []
    ParallelKMeans(4, init=counting(calls), n_init=n_init, random_state=0).fit(MIX)
    assert len(calls) == expected and all(X is MIX and n_clusters == 4 for X, n_clusters in calls)


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist])
def test_given_centres_are_started_from_once(kind, capsys):
    init = kind(first_rows(MIX, 4))
    ParallelKMeans(4, init=init, n_init=5, verbose=1).fit(MIX)
    assert capsys.readouterr().out.count("round 1:") == 1


def test_given_centres_are_not_changed():
    init = first_rows(MIX, 4)
    before = init.copy()
    ParallelKMeans(4, init=init).fit(MIX)
    assert (init == before).all()


@pytest.mark.parametrize(
    "init, message",
    [
        (np.zeros((3, 15)), r"\(3, 15\) does not match the number of clusters 4"),
        (np.zeros((4, 14)), r"\(4, 14\) does not match"),
        (np.full((4, 15), np.nan), "NaN or infinity"),
        (np.full((4, 15), 1e200), "overflow"),
        ("kmeans", "must be one of"),
        (5, "does not match"),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_centres_that_cannot_be_meant_are_refused(init, message):
    with pytest.raises(ValueError, match=message):
        ParallelKMeans(4, init=init).fit(MIX)


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("n_clusters", 0, ValueError), ("n_clusters", 2.5, TypeError), ("n_clusters", True, TypeError),
        ("max_iter", 0, ValueError), ("tol", -1e-3, ValueError), ("tol", np.nan, ValueError), ("tol", "a", TypeError),
        ("n_init", 0, ValueError), ("n_init", "ten", ValueError), ("algorithm", "full", ValueError),
        ("metric", "manhattan", ValueError), ("oversampling_factor", 0, ValueError), ("init_rounds", 0, ValueError),
        ("oversampling_factor", np.inf, ValueError),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_meant_is_refused_by_name(name, value, error):
    with pytest.raises(error, match=f"{name} was given"):
        ParallelKMeans(**{name: value}).fit(MIX)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "CSR"])
def test_a_value_that_is_not_finite_is_named_by_every_method(value, sparse):
    X = MIX.copy()
    X[700, 3] = value
    X = scipy.sparse.csr_matrix(X) if sparse else X
    for method in (ParallelKMeans(3).fit, FITTED.predict, FITTED.transform, FITTED.score, clone(FITTED).partial_fit):
        with pytest.raises(ValueError, match=r"(NaN|infinity), for instance at row 700, column 3"):
            method(X)


def test_values_whose_squares_overflow_are_refused():
    with pytest.raises(DataError, match="overflow"):
        ParallelKMeans(2).fit(np.array([[1e200], [0.0], [-1e200]]))


@pytest.mark.parametrize(
    "weights, error",
    [
        (np.ones(3), AlignmentError),
        (-np.ones(1500), DataError),
        (np.full(1500, np.nan), DataError),
        (np.zeros(1500), DataError),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(weights, error):
    for method in (ParallelKMeans(3).fit, ParallelKMeans(3).partial_fit, FITTED.score):
        with pytest.raises(error):
            method(MIX, sample_weight=weights)


def test_history_holds_the_objective_of_every_round():
    init = first_rows(MIX, 7)
    model = ParallelKMeans(7, init=init, tol=0).fit(MIX)
    assert [record.round for record in model.history_] == list(range(1, model.n_iter_ + 1))
    for record in model.history_[:5]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            n_before = record.round - 1
            fit = ParallelKMeans(7, init=init, tol=0, max_iter=max(n_before, 1)).fit(MIX)
        cost = twins.squared_distances(MIX, fit.cluster_centers_ if n_before else init).min(axis=1).sum()
        np.testing.assert_allclose(record.objective, float(cost))
    objectives = [record.objective for record in model.history_]
    assert all(a >= b * (1 - 1e-12) for a, b in zip(objectives, objectives[1:]))
    assert model.stop_reason_ == "No row changed its centre." and model.history_[-1].change == 0


def test_verbose_prints_a_line_per_round_and_the_reason(capsys):
    model = ParallelKMeans(4, verbose=1, random_state=0).fit(MIX)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_ + 1 and lines[-1].endswith(model.stop_reason_)
    ParallelKMeans(4, random_state=0).fit(MIX)
    assert capsys.readouterr().out == ""


def test_to_sklearn_predicts_transforms_and_scores_the_same():
    other = FITTED.to_sklearn()
    assert type(other) is KMeans
    assert (other.predict(MIX) == FITTED.labels_).all()
    np.testing.assert_allclose(other.transform(MIX), FITTED.transform(MIX), rtol=1e-7)
    np.testing.assert_allclose(other.score(MIX), FITTED.score(MIX), rtol=1e-10)
    assert list(other.get_feature_names_out()) == [f"kmeans{i}" for i in range(6)]
    other.cluster_centers_[:] = 0
    assert FITTED.cluster_centers_.any()


def test_a_model_predicts_the_same_after_pickling_and_cloning_forgets_it():
    again = pickle.loads(pickle.dumps(FITTED))
    assert (again.predict(MIX) == FITTED.labels_).all()
    assert len(pickle.dumps(ParallelKMeans(3, random_state=0).fit(MIX[:300]))) < 64 * 1024
    with pytest.raises(NotFittedError):
        clone(FITTED).predict(MIX)
    assert "n_clusters=6" in repr(FITTED)


@pytest.mark.parametrize("name", ["predict", "transform", "score", "to_sklearn"])
def test_before_fit_every_method_says_so(name):
    with pytest.raises(NotFittedError):
        getattr(ParallelKMeans(), name)(*(() if name == "to_sklearn" else (MIX,)))


def test_transform_names_its_columns_and_set_output_makes_a_dataframe():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(MIX, columns=[f"x{i}" for i in range(15)], index=np.arange(1500) * 2)
    model = ParallelKMeans(6, random_state=0).fit(frame).set_output(transform="pandas")
    assert list(model.feature_names_in_) == list(frame.columns) and model.n_features_in_ == 15
    result = model.transform(frame)
    assert list(result.columns) == [f"parallelkmeans{i}" for i in range(6)] and (result.index == frame.index).all()
    np.testing.assert_allclose(result, euclidean_distances(MIX, model.cluster_centers_))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[frame.columns[::-1]])


def test_stopping_at_max_iter_is_a_convergence_warning_at_the_users_line():
    with pytest.warns(ConvergenceWarning, match="after 2 rounds without converging.*Raise max_iter or tol") as caught:
        ParallelKMeans(5, max_iter=2, tol=0, random_state=0).fit(datasets.digits())
    assert caught[0].filename == __file__
