"""ParallelLogisticRegression and ParallelRidge beside their scikit-learn siblings, in this process."""

import pickle
import warnings

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.multiclass import check_classification_targets

from dparallel import ParallelLogisticRegression, ParallelRidge
from dparallel.errors import DataError
from tests import datasets

EXACT = {"tol": 1e-10, "max_iter": 1000}


def rows(n_rows=600, n_features=7, n_classes=2, seed=0):
    """Columns of very different sizes and places, and classes that overlap."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_features))
    scores = X @ random.normal(size=(n_features, n_classes)) + random.gumbel(size=(n_rows, n_classes))
    return X * 10.0 ** random.uniform(-2, 2, n_features) + random.normal(size=n_features) * 50, scores.argmax(axis=1)


def peer(X, y, sample_weight=None, **parameters):
    """scikit-learn's own optimum."""
    model = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y, sample_weight)


def assert_same(model, other, atol=1e-6):
    np.testing.assert_allclose(model.coef_, other.coef_, atol=atol, rtol=1e-5)
    np.testing.assert_allclose(model.intercept_, other.intercept_, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_coefficients_are_those_of_scikit_learn(n_classes, fit_intercept, class_weight):
    X, y = rows(n_classes=n_classes)
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    parameters = {"C": 0.3, "fit_intercept": fit_intercept, "class_weight": class_weight}
    model = ParallelLogisticRegression(**parameters, **EXACT).fit(X, y, weights)
    assert_same(model, peer(X, y, weights, **parameters))


@pytest.mark.parametrize("name", ["adult", "a9a"])
def test_real_data_of_two_classes_lead_to_the_same_optimum(name):
    X, y = datasets.table("adult") if name == "adult" else datasets.a9a()
    model = ParallelLogisticRegression(**EXACT).fit(X, y)
    assert_same(model, peer(X, y), atol=1e-5)


def test_mnist_leads_to_the_optimum_where_the_gradient_is_zero():
    X, y = datasets.mnist() / 255, datasets.mnist_labels()
    C = 0.01
    model = ParallelLogisticRegression(C=C, tol=1e-9, max_iter=1000).fit(X, y)
    scores = X @ model.coef_.T + model.intercept_
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    residuals = chances / chances.sum(axis=1, keepdims=True) - np.eye(10)[y]
    # the objective is strongly convex: the distance to the optimum is at most the gradient's norm times C
    assert C * np.linalg.norm(residuals.T @ X + model.coef_ / C) < 1e-5
    assert np.abs(residuals.sum(axis=0)).max() < 1e-5


def test_columns_of_a_large_offset_and_tiny_spread_converge():
    X, y = load_breast_cancer(return_X_y=True)
    shifted = X * 1e-3 + 1e4
    model = ParallelLogisticRegression(C=1e6, **EXACT).fit(shifted, y)
    other = ParallelLogisticRegression(C=1.0, **EXACT).fit(X, y)
    np.testing.assert_allclose(model.coef_ * 1e-3, other.coef_, rtol=1e-4, atol=1e-6)
    assert model.n_iter_[0] < 40


def test_more_columns_than_are_factorised_lead_to_the_same_optimum(monkeypatch):
    monkeypatch.setattr("dparallel.estimators.linear.rows.FEW_COLUMNS", 3)
    X, y = rows(n_classes=3)
    model = ParallelLogisticRegression(C=0.1, **EXACT).fit(X, y)
    assert_same(model, peer(X, y, C=0.1))
    ridge = ParallelRidge(tol=1e-12).fit(X, X[:, 0] + y)
    assert_same(ridge, Ridge().fit(X, X[:, 0] + y))


@pytest.mark.parametrize("make", [np.asarray, np.asfortranarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("chunks", [None, (100, 7), (130, 3)])
def test_containers_and_chunks_change_nothing(make, chunks):
    X, y = rows(n_classes=3)
    whole = ParallelLogisticRegression().fit(X, y)
    given = make(X) if chunks is None else blocks_of(make(X), chunks)
    model = ParallelLogisticRegression().fit(given, y)
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(np.asarray(model.predict(given)), whole.predict(X))
    np.testing.assert_allclose(np.asarray(model.predict_proba(given)), whole.predict_proba(X), rtol=1e-6)
    assert model.score(given, y) == whole.score(X, y)


def blocks_of(X, chunks):
    """A Dask array, its chunks of the same kind as X."""
    if not scipy.sparse.issparse(X):
        return da.from_array(X, chunks=chunks)
    return da.from_array(X.toarray(), chunks=chunks).map_blocks(
        scipy.sparse.csr_matrix, meta=scipy.sparse.csr_matrix((0, 0))
    )


def test_float32_stays_float32():
    X, y = rows()
    model = ParallelLogisticRegression(**EXACT).fit(X.astype(np.float32), y)
    assert model.coef_.dtype == model.intercept_.dtype == model.predict_proba(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(model.coef_, ParallelLogisticRegression(**EXACT).fit(X, y).coef_, rtol=1e-4, atol=1e-5)


def test_a_warm_start_at_the_optimum_stays_there():
    X, y = rows(n_classes=3)
    model = ParallelLogisticRegression(warm_start=True, **EXACT).fit(X, y)
    before = model.coef_
    model.set_params(tol=1e-8).fit(X, y)
    assert model.n_iter_[0] == 0
    np.testing.assert_allclose(model.coef_, before, rtol=1e-12)


def test_no_penalty_is_infinite_c():
    X, y = rows()
    assert_same(ParallelLogisticRegression(C=np.inf, **EXACT).fit(X, y), peer(X, y, C=np.inf))


@pytest.mark.parametrize("alpha", [1.0, [0.1, 10.0]])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_ridge_is_that_of_scikit_learn(alpha, fit_intercept):
    X, _ = rows()
    random = np.random.default_rng(2)
    Y = X @ random.normal(size=(7, 2)) + random.normal(size=(len(X), 2)) + 5
    weights = random.uniform(0, 2, len(X))
    model = ParallelRidge(alpha=alpha, fit_intercept=fit_intercept).fit(X, Y, weights)
    other = Ridge(alpha=np.asarray(alpha), fit_intercept=fit_intercept).fit(X, Y, weights)
    np.testing.assert_allclose(model.coef_, other.coef_, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(model.predict(X), other.predict(X), rtol=1e-7)
    assert model.score(X, Y, weights) == pytest.approx(other.score(X, Y, weights), rel=1e-9)
    lazy = da.from_array(X, chunks=(100, 7))
    again = ParallelRidge(alpha=alpha, fit_intercept=fit_intercept).fit(lazy, Y, weights)
    np.testing.assert_allclose(again.coef_, model.coef_, rtol=1e-7)  # columns differ by 1e4 in size
    np.testing.assert_allclose(again.predict(lazy).compute(), model.predict(X), rtol=1e-8)


def test_a_flat_y_gives_flat_coefficients():
    X, y = rows()
    model, other = ParallelRidge().fit(X, 1.0 * y), Ridge().fit(X, 1.0 * y)
    assert model.coef_.shape == (7,) and np.ndim(model.intercept_) == 0
    assert_same(model, other)
    assert model.predict(X).shape == (len(X),)
    assert model.score(X, y) == pytest.approx(other.score(X, y), rel=1e-9)
    one = ParallelRidge().fit(X, 1.0 * y[:, None])
    assert one.coef_.shape == (1, 7) and one.predict(X).shape == (len(X), 1)


@pytest.mark.parametrize("kind", ["iris", "cancer"])
def test_to_sklearn_predicts_the_same(kind):
    X, y = (load_iris if kind == "iris" else load_breast_cancer)(return_X_y=True)
    model = ParallelLogisticRegression(C=0.01).fit(X, y)
    other = model.to_sklearn()
    assert type(other) is LogisticRegression and other.C == 0.01
    np.testing.assert_allclose(other.predict_proba(X), model.predict_proba(X), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(other.decision_function(X), model.decision_function(X), rtol=1e-9)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), rtol=1e-9)
    ridge = ParallelRidge().fit(X, 1.0 * y)
    np.testing.assert_allclose(ridge.to_sklearn().predict(X), ridge.predict(X))


def test_a_fitted_model_pickles_without_its_rows():
    X, y = rows(n_rows=20_000)
    model = ParallelLogisticRegression().fit(da.from_array(X, chunks=(5000, 3)), y)
    pickled = pickle.dumps(model)
    assert len(pickled) < 20_000
    np.testing.assert_array_equal(pickle.loads(pickled).predict(X), model.predict(X))


def test_history_goes_downhill_to_a_reason():
    X, y = rows(n_classes=3)
    model = ParallelLogisticRegression().fit(X, y)
    values = [record.objective for record in model.history_]
    assert values == sorted(values, reverse=True) and len(values) == model.n_iter_[0]
    assert "tol" in model.stop_reason_
    with pytest.warns(ConvergenceWarning, match="Increase max_iter"):
        ParallelLogisticRegression(max_iter=1, tol=1e-12).fit(X, y)


@pytest.mark.parametrize(
    ("model", "y", "error", "match"),
    [
        (ParallelLogisticRegression(C=0), [0, 1], ValueError, "C was given 0"),
        (ParallelLogisticRegression(max_iter=1.5), [0, 1], TypeError, "max_iter"),
        (ParallelLogisticRegression(), [1, 1], DataError, "greater than one"),
        (ParallelRidge(alpha=-1.0), [0, 1], ValueError, "alpha was given -1.0"),
        (ParallelRidge(alpha=[1.0, 2.0]), [0, 1], DataError, "do not correspond"),
        (ParallelRidge(), [0, np.nan], DataError, "NaN"),
    ],
)
def test_bad_input_is_refused_in_words(model, y, error, match):
    with pytest.raises(error, match=match):
        model.fit(np.eye(2), y)


def test_classes_of_any_dtype_come_back():
    X, y = rows(n_classes=3)
    names = np.array(["one", "two", "three"])[y]
    check_classification_targets(names)
    model = ParallelLogisticRegression().fit(X, names)
    assert model.classes_.tolist() == ["one", "three", "two"]
    assert set(model.predict(X)) <= set(names)
