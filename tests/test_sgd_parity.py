"""The SGD estimators against scikit-learn: the same steps where they are asked for, and good models by default."""

import functools
import inspect

import dask
import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import Lasso, LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from dparallel import AsyncSGDClassifier, AsyncSGDRegressor
from tests import datasets
from tests.versions import since

BINARY_LOSSES = ("hinge", "squared_hinge", "log_loss", "modified_huber", "perceptron")
REGRESSION_LOSSES = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ONE_BY_ONE = {"batch_size": 1, "shuffle": False}


@pytest.fixture
def one_thread():
    with dask.config.set(num_workers=1):
        yield


@functools.cache
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), y


@functools.cache
def digits():
    X, y = load_digits(return_X_y=True)
    return scale(X), y


@functools.cache
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return scale(X), y


def pair(kind, other, data, **parameters):
    """Our fit, and scikit-learn's, which visits one row after another."""
    ours = kind(**ONE_BY_ONE, **parameters).fit(*data)
    return ours, other(shuffle=False, **parameters).fit(*data)


def assert_same(ours, other, rtol=1e-9):
    size = np.abs(other.coef_).max()
    assert ours.coef_.shape == other.coef_.shape and ours.intercept_.shape == other.intercept_.shape
    np.testing.assert_allclose(ours.coef_, other.coef_, rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(ours.intercept_, other.intercept_, rtol=rtol, atol=rtol * size)
    assert ours.n_iter_ == other.n_iter_ and ours.t_ == other.t_


@pytest.mark.parametrize("ours, theirs", [(AsyncSGDClassifier, SGDClassifier), (AsyncSGDRegressor, SGDRegressor)])
def test_every_parameter_of_scikit_learn_is_there_in_its_place_and_with_its_default(ours, theirs):
    own = {"optimizer", "batch_size", "push_every", "staleness", "checkpoint", "sparse_coef", "compression"}
    measured = {"learning_rate", "eta0"}  # "auto"
    found = inspect.signature(ours).parameters
    expected = inspect.signature(theirs).parameters
    assert list(found)[: len(expected)] == list(expected)
    assert set(found) - set(expected) == own
    for name, parameter in expected.items():
        assert found[name].kind == parameter.kind
        assert found[name].default == ("auto" if name in measured else parameter.default)
    for method in ("fit", "partial_fit", "score"):
        names = [list(inspect.signature(getattr(kind, method)).parameters) for kind in (ours, theirs)]
        assert names[0] == names[1]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("learning_rate", ["constant", "optimal", "invscaling", "adaptive"])
@pytest.mark.parametrize("penalty", ["l2", None])
@pytest.mark.parametrize("loss", BINARY_LOSSES)
def test_one_row_after_another_leads_where_scikit_learn_goes(loss, penalty, learning_rate):
    schedule = {"learning_rate": learning_rate, "eta0": 1e-3, "max_iter": 7, "alpha": 0.01}
    assert_same(*pair(AsyncSGDClassifier, SGDClassifier, cancer(), loss=loss, penalty=penalty, **schedule))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("loss", REGRESSION_LOSSES)
def test_regression_does_so_too(loss, learning_rate):
    schedule = {"learning_rate": learning_rate, "eta0": 1e-3, "max_iter": 5, "tol": None}
    assert_same(*pair(AsyncSGDRegressor, SGDRegressor, diabetes(), loss=loss, **schedule))


@since(1, 8, "the steps of pa1 and pa2")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("learning_rate", ["pa1", "pa2"])
@pytest.mark.parametrize("penalty", ["l2", None])
def test_passive_aggressive_steps_are_those_of_scikit_learn(learning_rate, penalty):
    schedule = {"learning_rate": learning_rate, "penalty": penalty, "eta0": 0.01, "max_iter": 3, "tol": None}
    assert_same(*pair(AsyncSGDClassifier, SGDClassifier, cancer(), average=True, **schedule))
    assert_same(*pair(AsyncSGDClassifier, SGDClassifier, digits(), **schedule))
    X, y = diabetes()
    assert_same(*pair(AsyncSGDRegressor, SGDRegressor, (X, y / 100), loss="epsilon_insensitive", **schedule))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_more_classes_are_learnt_one_against_the_rest(fit_intercept):
    schedule = {"learning_rate": "constant", "eta0": 1e-3, "max_iter": 3, "tol": None, "fit_intercept": fit_intercept}
    for loss in ("hinge", "modified_huber"):
        assert_same(*pair(AsyncSGDClassifier, SGDClassifier, digits(), loss=loss, **schedule))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("average", [True, 10, 600, 10**6])
def test_averages_are_those_of_scikit_learn(average):
    schedule = {"learning_rate": "constant", "eta0": 1e-3, "max_iter": 3, "tol": None, "average": average}
    assert_same(*pair(AsyncSGDClassifier, SGDClassifier, cancer(), **schedule))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("average", [False, True, 700])
def test_partial_fits_go_on_where_the_last_ended(average):
    X, y = digits()
    weights = 3 * np.random.default_rng(0).random(len(X))
    options = {"learning_rate": "optimal", "average": average, "shuffle": False, "fit_intercept": False}
    ours, other = AsyncSGDClassifier(batch_size=1, **options), SGDClassifier(**options)
    for part in (slice(0, 500), slice(500, 1000), slice(1000, 1500)):
        for model in (ours, other):
            model.partial_fit(X[part], y[part], classes=np.arange(10), sample_weight=weights[part])
        assert_same(ours, other)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 1: 0.5}])
def test_weights_of_rows_and_classes_are_multiplied_as_in_scikit_learn(class_weight):
    X, y = cancer()
    weights = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    schedule = {"learning_rate": "constant", "eta0": 1e-3, "max_iter": 3, "tol": None, "shuffle": False}
    ours = AsyncSGDClassifier(batch_size=1, class_weight=class_weight, **schedule)
    other = SGDClassifier(class_weight=class_weight, **schedule)
    assert_same(ours.fit(X, y), other.fit(X, y))
    if isinstance(class_weight, dict):
        assert_same(ours.fit(X, y, sample_weight=weights), other.fit(X, y, sample_weight=weights))


@pytest.mark.usefixtures("one_thread")
def test_csr_rows_give_the_model_of_dense_ones():
    X, y = load_digits(return_X_y=True)
    options = {"learning_rate": "invscaling", "eta0": 1e-4, "max_iter": 4, "tol": None, "random_state": 0}
    for penalty in ("l2", "elasticnet"):
        dense = AsyncSGDClassifier("log_loss", penalty=penalty, **options).fit(X, y)
        sparse = AsyncSGDClassifier("log_loss", penalty=penalty, **options).fit(scipy.sparse.csr_matrix(X), y)
        np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-8, atol=1e-10)


def log_loss_objective(model, X, y, alpha):
    chances = model.predict_proba(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return -np.log(chances).mean() + 0.5 * alpha * (model.coef_**2).sum()


def l1_objective(model, X, y, alpha):
    return 0.5 * ((model.predict(X) - y) ** 2).mean() + alpha * np.abs(model.coef_).sum()


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
def test_an_l1_penalty_leads_where_the_lasso_is(make):
    X, y = diabetes()
    y = y / 50
    lasso = Lasso(alpha=0.1).fit(X, y)
    model = AsyncSGDRegressor(penalty="l1", alpha=0.1, random_state=0).fit(make(X), y)
    best = l1_objective(lasso, X, y, 0.1)
    assert l1_objective(model, X, y, 0.1) == pytest.approx(best, rel=2e-3)
    np.testing.assert_allclose(model.coef_, lasso.coef_, atol=0.03)


def test_an_l1_penalty_makes_coefficients_zero():
    random = np.random.default_rng(0)
    X = random.normal(size=(2000, 40))
    y = X[:, 0] - X[:, 1] + 0.1 * random.normal(size=2000) > 0
    for penalty, share in (("l2", 0.0), ("elasticnet", 0.7), ("l1", 0.7)):
        model = AsyncSGDClassifier("log_loss", penalty=penalty, alpha=0.05, l1_ratio=0.9, random_state=0).fit(X, y)
        assert (model.coef_ == 0).mean() >= share
        assert (model.coef_[0, :2] != 0).all() and (penalty == "l2") == (model.coef_ != 0).all()


@pytest.mark.parametrize("scaled", [False, True], ids=["raw", "scaled"])
@pytest.mark.parametrize("name", ["digits", "cancer", "spambase"])
def test_defaults_come_near_the_optimum_whatever_the_units(name, scaled):
    if name == "spambase":
        rows = datasets.spambase()
        X, y = rows[:, :-1], rows[:, -1]
    else:
        X, y = (load_digits if name == "digits" else load_breast_cancer)(return_X_y=True)
    X = scale(X) if scaled else X
    model = AsyncSGDClassifier("log_loss", random_state=0).fit(X, y)
    best = LogisticRegression(C=1e4 / len(X), solver="newton-cholesky", max_iter=1000).fit(X, y)
    other = SGDClassifier("log_loss", random_state=0).fit(X, y)
    assert model.score(X, y) >= other.score(X, y) - 0.005
    assert model.score(X, y) >= best.score(X, y) - 0.015
    assert log_loss_objective(model, X, y, 1e-4) < log_loss_objective(best, X, y, 1e-4) + 0.06


@pytest.mark.parametrize("loss", ["hinge", "log_loss", "modified_huber", "squared_hinge"])
@pytest.mark.parametrize("name", ["digits", "cancer"])
def test_held_out_accuracy_is_at_least_about_that_of_scikit_learn(name, loss):
    X, y = (load_digits if name == "digits" else load_breast_cancer)(return_X_y=True)
    X, X_test, y, y_test = train_test_split(scale(X), y, test_size=0.4, random_state=0, stratify=y)
    ours = [AsyncSGDClassifier(loss, random_state=seed).fit(X, y).score(X_test, y_test) for seed in range(3)]
    other = [SGDClassifier(loss, random_state=seed).fit(X, y).score(X_test, y_test) for seed in range(3)]
    assert np.mean(ours) >= np.mean(other) - 0.01


@pytest.mark.parametrize("scaled", [False, True], ids=["raw", "scaled"])
def test_diabetes_is_fitted_as_by_ridge_regression(scaled):
    X, y = load_diabetes(return_X_y=True)
    X = scale(X) if scaled else X
    model = AsyncSGDRegressor(random_state=0).fit(X, y)
    ridge = Ridge(alpha=1e-4 * len(X)).fit(X, y)
    assert model.score(X, y) == pytest.approx(ridge.score(X, y), abs=0.005)


@pytest.mark.slow
def test_a9a_is_held_out_as_well_as_by_logistic_regression():
    (X, y), (X_test, y_test) = datasets.a9a(), datasets.a9a("a9a.t")
    peer = LogisticRegression(max_iter=1000).fit(X, y).score(X_test, y_test)
    for seed in range(3):
        model = AsyncSGDClassifier("log_loss", random_state=seed).fit(X, y)
        assert model.score(X_test, y_test) >= peer - 0.003


@pytest.mark.parametrize("kind", ["digits", "cancer"])
def test_to_sklearn_predicts_the_same_chances(kind):
    X, y = digits() if kind == "digits" else cancer()
    for loss in ("log_loss", "modified_huber", "hinge"):
        model = AsyncSGDClassifier(loss, random_state=0, max_iter=5, tol=None).fit(X, y)
        other = model.to_sklearn()
        coupled = loss == "log_loss" and kind == "digits"
        assert type(other) is (LogisticRegression if coupled else SGDClassifier)
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        np.testing.assert_allclose(other.decision_function(X), model.decision_function(X), rtol=1e-12, atol=1e-12)
        if loss != "hinge":
            np.testing.assert_allclose(other.predict_proba(X), model.predict_proba(X), rtol=1e-12, atol=1e-12)
        if not coupled:
            other.partial_fit(X, y)  # it is fitted, and can be trained on


def test_to_sklearn_of_a_regressor_predicts_the_same():
    X, y = diabetes()
    model = AsyncSGDRegressor(random_state=0).fit(X, y)
    other = model.to_sklearn()
    assert type(other) is SGDRegressor
    np.testing.assert_allclose(other.predict(X), model.predict(X), rtol=1e-12)
    other.partial_fit(X, y)
