"""AsyncSGDClassifier and AsyncSGDRegressor in this process: what their parameters and attributes mean."""

import pickle
import warnings

import dask
import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import scale

from dparallel import AsyncSGDClassifier, AsyncSGDRegressor
from dparallel.errors import AlignmentError, CheckpointError, DataError, StoreError
from dparallel.store.optimizers import Adam, Momentum
from tests import twins

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_breast_cancer(return_X_y=True)
X = scale(X)
IRIS, SPECIES = load_iris(return_X_y=True)
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
FITTED = AsyncSGDClassifier("log_loss", random_state=0).fit(X, Y)
LAYOUTS = {
    "float32": lambda X: X.astype(np.float32),
    "CSR": scipy.sparse.csr_matrix,
    "list": lambda X: X.tolist(),
    "reversed": lambda X: twins.lay_out(X, "reversed"),
    "read-only": lambda X: twins.lay_out(X, "read-only"),
    "swapped bytes": lambda X: twins.lay_out(X, "swapped bytes"),
}


def many_rows(n_rows=20_000, n_features=20, seed=0):
    """Rows enough for two threads, sorted by label."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(n_rows, n_features))
    y = (rows @ random.normal(size=n_features) + random.logistic(size=n_rows) > 0).astype(int)
    order = np.argsort(y, kind="stable")
    return rows[order], y[order]


def two_threads():
    return dask.config.set(num_workers=2)


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("loss", "hing", ValueError), ("penalty", "none", ValueError), ("alpha", -1, ValueError),
        ("alpha", "a", TypeError), ("l1_ratio", 1.5, ValueError), ("l1_ratio", "a", TypeError),
        ("fit_intercept", 1, TypeError), ("max_iter", 0, ValueError), ("max_iter", 2.0, TypeError),
        ("tol", -1e-3, ValueError), ("shuffle", None, TypeError), ("epsilon", -0.1, ValueError),
        ("learning_rate", "fast", ValueError), ("eta0", 0, ValueError), ("eta0", "big", ValueError),
        ("power_t", -0.5, ValueError), ("early_stopping", "yes", TypeError), ("validation_fraction", 0, ValueError),
        ("validation_fraction", 1.0, ValueError), ("n_iter_no_change", 0, ValueError), ("warm_start", 0, TypeError),
        ("average", 0, ValueError), ("average", 1.5, TypeError), ("batch_size", 0, ValueError),
        ("batch_size", "all", ValueError), ("push_every", 0, ValueError), ("staleness", -1, ValueError),
        ("staleness", 1.5, TypeError), ("checkpoint", 3, TypeError),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_meant_is_refused_by_name(name, value, error):
    for kind, data in ((AsyncSGDClassifier, (X, Y)), (AsyncSGDRegressor, (DIABETES, PROGRESS))):
        for method in ("fit", "partial_fit"):
            with pytest.raises(error, match=f"{name} was given"):
                getattr(kind(**{name: value}), method)(*data)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"learning_rate": "optimal", "alpha": 0}, "alpha must be > 0 since learning_rate is 'optimal'"),
        ({"learning_rate": "pa1", "loss": "log_loss"}, "Learning rate 'pa1' only works with loss 'hinge'"),
        ({"penalty": "elasticnet", "l1_ratio": None}, "l1_ratio must be set when penalty is 'elasticnet'"),
        ({"class_weight": {5: 1.0}}, "not in class_weight|class_weight"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused_in_scikit_learns_words(parameters, message):
    with pytest.raises(ValueError, match=message):
        AsyncSGDClassifier(**parameters).fit(X, Y)


def test_a_loss_of_classes_is_none_of_a_regression_nor_its_passive_aggressive_rate():
    with pytest.raises(ValueError, match="loss was given 'hinge'"):
        AsyncSGDRegressor("hinge").fit(DIABETES, PROGRESS)
    with pytest.raises(ValueError, match="only works with loss 'epsilon_insensitive'"):
        AsyncSGDRegressor(learning_rate="pa1").fit(DIABETES, PROGRESS)


@pytest.mark.parametrize("optimizer", ["adamw", 3])
def test_an_optimizer_that_is_not_known_is_refused(optimizer):
    with pytest.raises(StoreError, match="is not known"):
        AsyncSGDClassifier(optimizer=optimizer).fit(X, Y)


@pytest.mark.parametrize(
    "names",
    [
        np.array(["setosa", "versicolor", "virginica"]), np.array(["a", "bb", "ccc"], dtype=object),
        np.array([-7, 0, 5]), np.array([1.0, 2.0, 3.0]), np.array([b"x", b"yy", b"z"]),
        np.array([250, 3, 77], dtype=np.uint8),
    ],
)  # fmt: skip
def test_labels_may_be_of_any_type(names):
    model = AsyncSGDClassifier("log_loss", random_state=0).fit(IRIS, names[SPECIES])
    assert model.classes_.tolist() == sorted(names.tolist()) and model.classes_.dtype == names.dtype
    predicted = model.predict(IRIS)
    assert predicted.dtype == names.dtype and (predicted == names[SPECIES]).mean() > 0.93
    assert model.coef_.shape == (3, 4) and model.intercept_.shape == (3,)


def test_true_and_false_are_two_classes_with_one_row_of_coefficients():
    model = AsyncSGDClassifier(random_state=0).fit(X, Y == 1)
    assert model.classes_.tolist() == [False, True] and model.predict(X).dtype == bool
    assert model.coef_.shape == (1, 30) and model.intercept_.shape == (1,)
    np.testing.assert_array_equal(model.predict(X), model.decision_function(X) > 0)


@pytest.mark.parametrize(
    "y, message",
    [
        (np.zeros(len(X)), r"The number of classes has to be greater than one; got 1 class"),
        (Y + 0.5, "Unknown label type: continuous"),
        (np.where(Y, 1.0, np.nan), "Input y contains NaN"),
        (np.where(Y, 1.0, np.inf), "Input y contains infinity"),
        (np.stack([Y, Y], axis=1), r"y should be a 1d array, got an array of shape \(569, 2\)"),
        (np.array(["a", 1] * 300, dtype=object)[: len(X)], "several types: int, str"),
        (Y[:-1], "inconsistent"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        AsyncSGDClassifier().fit(X, y)


@pytest.mark.parametrize(
    "y, message",
    [
        (np.where(PROGRESS > 100, PROGRESS, np.nan), "Input y contains NaN"),
        (np.where(PROGRESS > 100, PROGRESS, np.inf), "Input y contains infinity"),
        (np.stack([PROGRESS, PROGRESS], axis=1), "y should be a 1d array"),
        (np.array(["a"] * len(PROGRESS)), "not numbers"),
    ],
)
def test_targets_that_are_no_numbers_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        AsyncSGDRegressor().fit(DIABETES, y)


@pytest.mark.parametrize("method", ["fit", "predict", "decision_function", "predict_proba", "score", "partial_fit"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "CSR"])
def test_a_value_that_is_not_finite_is_named_by_every_method(method, value, sparse):
    rows = X.copy()
    rows[300, 7] = value
    rows = scipy.sparse.csr_matrix(rows) if sparse else rows
    arguments = (rows, Y) if method in ("fit", "score", "partial_fit") else (rows,)
    model = FITTED if method not in ("fit", "partial_fit") else pickle.loads(pickle.dumps(FITTED))
    with pytest.raises(ValueError, match=r"(NaN|infinity), for instance at row 300, column 7"):
        getattr(model, method)(*arguments)


def test_rows_without_a_weight_and_no_weight_at_all():
    weights = np.where(np.arange(len(X)) < 400, 1.0, 0.0)
    options = {"learning_rate": "constant", "eta0": 0.01, "max_iter": 3, "tol": None, "shuffle": False, "batch_size": 1}
    with dask.config.set(num_workers=1):
        dropped = AsyncSGDClassifier(**options).fit(X, Y, sample_weight=weights)
        without = AsyncSGDClassifier(**options).fit(X[:400], Y[:400])
    np.testing.assert_allclose(dropped.coef_, without.coef_, rtol=1e-12)
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
        AsyncSGDClassifier().fit(X, Y, sample_weight=np.zeros(len(X)))
    with pytest.raises(AlignmentError):
        AsyncSGDClassifier().fit(X, Y, sample_weight=weights[:-1])


@pytest.mark.parametrize("factor", [2.0**-10, 1.0, 2.0**10])
def test_the_unit_of_weights_does_not_matter_to_the_default_rates(factor):
    model = AsyncSGDClassifier("log_loss", alpha=1e-4 * factor, random_state=0, tol=None, max_iter=10)
    model.fit(X, Y, sample_weight=np.full(len(X), factor))
    plain = AsyncSGDClassifier("log_loss", random_state=0, tol=None, max_iter=10).fit(X, Y)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-6)


@pytest.mark.parametrize("class_weight", [{0: 100.0, 1: 1.0}, "balanced"])
def test_a_heavy_class_is_missed_less(class_weight):
    rows, y = many_rows(4000)
    few = np.r_[np.flatnonzero(y == 0)[:100], np.flatnonzero(y == 1)]
    plain = AsyncSGDClassifier("log_loss", random_state=0).fit(rows[few], y[few])
    heavy = AsyncSGDClassifier("log_loss", random_state=0, class_weight=class_weight).fit(rows[few], y[few])
    rare = rows[few][y[few] == 0]
    assert (heavy.predict(rare) == 0).mean() > (plain.predict(rare) == 0).mean() + 0.1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_changes_nothing(layout):
    options = {"loss": "log_loss", "random_state": 0, "learning_rate": "constant", "eta0": 0.1}
    plain = AsyncSGDClassifier(**options).fit(X, Y)
    rows = LAYOUTS[layout](X)
    before = rows.copy() if hasattr(rows, "dtype") else None
    model = AsyncSGDClassifier(**options).fit(rows, Y)
    single = layout == "float32"
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-4 if single else 1e-9, atol=1e-4 if single else 1e-12)
    for values in (model.coef_, model.intercept_, model.decision_function(rows), model.predict_proba(rows)):
        assert values.dtype == (np.float32 if single else np.float64)
    if before is not None:
        assert abs(rows - before).max() == 0


@pytest.mark.parametrize("staleness", [0, None])
def test_one_partition_or_going_in_step_gives_the_same_bits_again(staleness):
    rows, y = many_rows(4000 if staleness is None else 20_000)
    threads = 1 if staleness is None else 2
    with dask.config.set(num_workers=threads):
        fits = [AsyncSGDClassifier(random_state=s, staleness=staleness).fit(rows, y) for s in (3, 3, 4)]
    assert (fits[0].coef_ == fits[1].coef_).all() and fits[0].n_iter_ == fits[1].n_iter_
    assert (fits[0].coef_ != fits[2].coef_).any()


@pytest.mark.parametrize("staleness", [0, 2, None])
def test_rows_that_are_sorted_by_label_are_learnt_by_two_threads_as_well_as_by_one(staleness):
    rows, y = many_rows()
    with two_threads():
        model = AsyncSGDClassifier("log_loss", random_state=0, staleness=staleness).fit(rows, y)
    with dask.config.set(num_workers=1):
        alone = AsyncSGDClassifier("log_loss", random_state=0).fit(rows, y)
    assert model.store_stats_.pushes > model.n_iter_  # two partitions have pushed
    assert model.score(rows, y) > alone.score(rows, y) - 0.003


@pytest.mark.parametrize("scaled", [False, True])
def test_rows_far_from_zero_and_of_very_different_units_do_no_harm(scaled):
    rows, y = many_rows(5000)
    plain = AsyncSGDClassifier("log_loss", random_state=0).fit(rows, y)
    moved = rows * 10.0 ** np.linspace(-3, 3, 20) + (1000.0 if scaled else 0.0)
    model = AsyncSGDClassifier("log_loss", alpha=0, random_state=0).fit(moved, y)
    assert model.score(moved, y) > plain.score(rows, y) - 0.005


def test_csr_rows_of_very_different_units_do_no_harm():
    rows, y = many_rows(5000)
    rows[np.random.default_rng(1).random(rows.shape) < 0.7] = 0
    plain = AsyncSGDClassifier("log_loss", random_state=0).fit(scipy.sparse.csr_matrix(rows), y)
    moved = scipy.sparse.csr_matrix(rows * 10.0 ** np.linspace(-3, 3, 20))
    model = AsyncSGDClassifier("log_loss", alpha=0, random_state=0).fit(moved, y)
    assert model.score(moved, y) > plain.score(rows, y) - 0.01


@pytest.mark.parametrize("loss", ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"])
def test_targets_of_any_unit_and_rows_with_long_tails_do_not_diverge(loss):
    random = np.random.default_rng(0)
    rows = random.standard_t(2.5, size=(3000, 10))
    line = rows @ np.arange(10.0)
    for unit in (1e-3, 1.0, 1e4):
        y = unit * (line + random.normal(size=3000))
        epsilon = 0.1 * unit
        model = AsyncSGDRegressor(loss, alpha=0, epsilon=epsilon, tol=1e-6 * unit, random_state=0).fit(rows, y)
        assert model.score(rows, y) > 0.99


def test_a_rate_that_is_too_long_is_an_error_with_the_epoch_and_a_remedy():
    with pytest.raises(DataError, match=r"(?s)overflow occurred at epoch #\d+.*[Ss]caling"):
        AsyncSGDRegressor(learning_rate="constant", eta0=1e300, penalty=None).fit(scale(DIABETES), PROGRESS)


def test_history_tells_of_every_epoch_and_the_objective_falls():
    model = AsyncSGDClassifier("log_loss", random_state=0).fit(X, Y)
    assert len(model.history_) == model.n_iter_ and [r.round for r in model.history_] == list(
        range(1, model.n_iter_ + 1)
    )
    objectives = [record.objective for record in model.history_]
    assert objectives[-1] < 0.5 * objectives[0]
    assert "did not improve by more than tol=0.001 in 5 epochs" in model.stop_reason_
    assert sum(model.staleness_.values()) == model.store_stats_.pushes
    final = -np.log(model.predict_proba(X)[np.arange(len(Y)), Y]).mean() + 0.5e-4 * (model.coef_**2).sum()
    assert objectives[-1] == pytest.approx(final, abs=0.01)


def test_the_limit_of_epochs_warns_unless_no_tolerance_was_asked_for():
    with pytest.warns(ConvergenceWarning, match=r"Maximum number of iteration reached.*stopped after 3 epochs"):
        model = AsyncSGDClassifier(max_iter=3, random_state=0).fit(X, Y)
    assert model.n_iter_ == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert AsyncSGDClassifier(max_iter=30, tol=None, random_state=0).fit(X, Y).n_iter_ == 30


def test_partial_fits_over_batches_come_to_the_model_of_fit():
    rows, y = many_rows(6000)
    order = np.random.default_rng(0).permutation(6000)
    rows, y = rows[order], y[order]
    model = AsyncSGDClassifier("log_loss", random_state=0)
    for start in range(0, 6000, 100):
        model.partial_fit(rows[start : start + 100], y[start : start + 100], classes=[0, 1])
    whole = AsyncSGDClassifier("log_loss", random_state=0).fit(rows, y)
    assert model.score(rows, y) > whole.score(rows, y) - 0.02  # which has seen each row some ten times
    assert model.n_iter_ == 1 and model.t_ > 6000 / 32


@pytest.mark.parametrize("n_rows", [1, 3])
def test_a_first_batch_of_few_rows_does_not_spoil_the_rates(n_rows):
    rows, y = many_rows(3000)
    order = np.random.default_rng(0).permutation(3000)
    rows, y = rows[order] + 5.0, y[order]
    model = AsyncSGDClassifier("log_loss", random_state=0)
    model.partial_fit(rows[:n_rows], y[:n_rows], classes=[0, 1])
    for start in range(n_rows, 3000, 100):
        model.partial_fit(rows[start : start + 100], y[start : start + 100])
    assert model.score(rows, y) > 0.8


def test_partial_fit_wants_to_know_all_classes_first():
    model = AsyncSGDClassifier()
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        model.partial_fit(X, Y)
    model.partial_fit(X[:50], Y[:50], classes=[0, 1, 2])
    assert model.coef_.shape == (3, 30)
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        model.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(DataError, match=r"not among the classes: \[7\]"):
        model.partial_fit(X, np.where(Y, 7, 0))
    with pytest.raises(ValueError, match="early_stopping should be False with partial_fit"):
        AsyncSGDClassifier(early_stopping=True).partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
        AsyncSGDClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="X has 29 features, but AsyncSGDClassifier is expecting 30"):
        model.partial_fit(X[:, 1:], Y)


def test_warm_start_goes_on_from_the_model_that_is_there():
    model = AsyncSGDClassifier("log_loss", warm_start=True, random_state=0).fit(X, Y)
    first = model.history_[0].objective
    model.fit(X, Y)
    assert model.history_[0].objective < 0.8 * first
    cold = clone(model).set_params(warm_start=False)
    assert cold.fit(X, Y).fit(X, Y).history_[0].objective == first
    with pytest.raises(DataError, match="Provided coef_init does not match dataset"):
        model.fit(X[:, :-1], Y)


def test_given_coefficients_are_started_from_and_not_changed():
    coef, intercept = FITTED.coef_.copy(), FITTED.intercept_.copy()
    model = AsyncSGDClassifier("log_loss", max_iter=1, tol=None, random_state=0, learning_rate="constant", eta0=1e-9)
    model.fit(X, Y, coef_init=coef, intercept_init=intercept)
    np.testing.assert_allclose(model.coef_, FITTED.coef_, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, FITTED.intercept_, atol=1e-6)
    assert (coef == FITTED.coef_).all()
    with pytest.raises(DataError, match=r"intercept_init does not match.*\(2,\), and \(1,\) is needed"):
        model.fit(X, Y, intercept_init=[1, 2])
    regressor = AsyncSGDRegressor(max_iter=1, tol=None, learning_rate="constant", eta0=1e-9)
    regressor.fit(DIABETES, PROGRESS, coef_init=np.arange(10.0), intercept_init=[3.0])
    np.testing.assert_allclose(regressor.coef_, np.arange(10.0), atol=1e-3)


def test_without_an_intercept_there_is_none():
    model = AsyncSGDClassifier(fit_intercept=False, random_state=0).fit(X, Y)
    assert model.intercept_.tolist() == [0.0] and model.score(X, Y) > 0.95
    regressor = AsyncSGDRegressor(fit_intercept=False, random_state=0).fit(DIABETES, PROGRESS)
    assert regressor.intercept_.tolist() == [0.0]


@pytest.mark.parametrize("optimizer", ["momentum", Momentum(0.1, 0.9), Adam(0.02), "adagrad", "nesterov"])
def test_other_optimizers_of_the_store_learn_too(optimizer):
    model = AsyncSGDClassifier("log_loss", optimizer=optimizer, max_iter=200, random_state=0, push_every=5).fit(X, Y)
    assert model.score(X, Y) > 0.9


def test_the_mean_of_all_parameters_is_published():
    rows, y = many_rows(20_000)
    options = {"loss": "log_loss", "learning_rate": "constant", "eta0": 2.0, "max_iter": 8, "tol": None}
    with two_threads():
        plain = AsyncSGDClassifier(random_state=0, **options).fit(rows, y)
        mean = AsyncSGDClassifier(random_state=0, average=True, **options).fit(rows, y)
    losses = [-np.log(m.predict_proba(rows)[np.arange(len(y)), y]).mean() for m in (plain, mean)]
    assert losses[1] < losses[0] - 0.005  # steps of constant length leave noise, and the mean takes it out


def test_a_mean_that_is_not_wanted_any_more_is_forgotten():
    model = AsyncSGDClassifier("log_loss", average=True, random_state=0).partial_fit(X, Y, classes=[0, 1])
    mean = model.coef_
    model.set_params(average=False).partial_fit(X, Y)
    assert np.abs(model.coef_).sum() > 1.2 * np.abs(mean).sum()


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_early_stopping_judges_by_rows_that_are_held_out(kind):
    if kind == "classifier":
        model, data = AsyncSGDClassifier(early_stopping=True, random_state=0), (X, Y)
    else:
        model, data = AsyncSGDRegressor(early_stopping=True, random_state=0), (scale(DIABETES), PROGRESS)
    model.fit(*data)
    assert "score of the held-out rows did not improve" in model.stop_reason_
    assert model.score(*data) > (0.95 if kind == "classifier" else 0.45)
    everything = clone(model).set_params(early_stopping=False).fit(*data)
    assert (model.coef_ != everything.coef_).any()


def test_rows_that_cannot_be_held_out_are_an_error_in_scikit_learns_words():
    with pytest.raises(DataError, match="Splitting 2 samples into a train set and a validation set"):
        AsyncSGDClassifier(early_stopping=True).fit(X[[0, 20]], np.array([0, 1]))


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_chances_sum_to_one_and_are_highest_for_what_is_predicted(loss, n_classes):
    rows, y = (IRIS, SPECIES) if n_classes == 3 else (X, Y)
    model = AsyncSGDClassifier(loss, random_state=0).fit(rows, y)
    far = np.concatenate([rows, 1e3 * rows[:5]])
    chances = model.predict_proba(far)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
    assert ((chances >= 0) & (chances <= 1)).all()
    if loss == "log_loss":
        np.testing.assert_array_equal(chances.argmax(axis=1), model.predict(far))
    np.testing.assert_array_equal(
        model.predict_log_proba(far), np.log(chances, where=chances > 0, out=chances * 0 - np.inf)
    )


def test_chances_are_not_offered_by_losses_that_have_none():
    model = AsyncSGDClassifier("hinge").fit(X, Y)
    for name in ("predict_proba", "predict_log_proba"):
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(model, name)


def test_scores_are_those_of_scikit_learn():
    weights = np.random.default_rng(0).random(len(X))
    assert FITTED.score(X, Y) == pytest.approx(accuracy_score(Y, FITTED.predict(X)), rel=1e-12)
    weighed = accuracy_score(Y, FITTED.predict(X), sample_weight=weights)
    assert FITTED.score(X, Y, sample_weight=weights) == pytest.approx(weighed, rel=1e-12)
    model = AsyncSGDRegressor(random_state=0).fit(DIABETES, PROGRESS)
    weights = np.random.default_rng(0).random(len(DIABETES))
    for part, weight in ((slice(None), None), (slice(0, 100), None), (slice(None), weights)):
        given = None if weight is None else weight[part]
        ours = model.score(DIABETES[part], PROGRESS[part], sample_weight=given)
        theirs = r2_score(PROGRESS[part], model.predict(DIABETES[part]), sample_weight=given)
        assert isinstance(ours, float) and ours == pytest.approx(theirs, rel=1e-10)
    assert model.score(DIABETES[:9], np.full(9, 0.1)) == 0.0 and np.isnan(model.score(DIABETES[:1], PROGRESS[:1]))
    with pytest.raises(ValueError, match="requires y to be passed"):
        FITTED.score(X, None)


def test_labels_of_another_kind_are_simply_wrong():
    assert FITTED.score(X, np.full(len(X), 9)) == 0.0


def test_a_fitted_model_is_pickled_with_what_it_needs_to_go_on():
    model = AsyncSGDClassifier("log_loss", average=True, random_state=0)
    model.partial_fit(X[:300], Y[:300], classes=[0, 1])
    other = pickle.loads(pickle.dumps(model))
    for each in (model, other):
        each.partial_fit(X[300:], Y[300:])
    np.testing.assert_array_equal(other.coef_, model.coef_)
    assert not hasattr(clone(model), "coef_")


def test_the_smaller_of_two_probabilities_has_all_its_digits():
    model = AsyncSGDClassifier("log_loss", random_state=0).fit(X, Y[0] == Y)
    model.coef_, model.intercept_ = np.ones((1, X.shape[1])), np.zeros(1)
    scores = np.linspace(-700, 700, 141)
    rows = np.zeros((141, X.shape[1]))
    rows[:, 0] = scores
    smaller = np.exp(-np.abs(scores)) / (1 + np.exp(-np.abs(scores)))
    chances = model.predict_proba(rows)
    np.testing.assert_allclose(np.where(scores > 0, chances[:, 0], chances[:, 1]), smaller, rtol=1e-15)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize("method", ["predict", "decision_function", "predict_proba", "score", "to_sklearn"])
def test_nothing_is_predicted_before_fit(method):
    arguments = {"score": (X, Y), "to_sklearn": ()}.get(method, (X,))
    with pytest.raises(NotFittedError):
        getattr(AsyncSGDClassifier("log_loss"), method)(*arguments)


def test_an_epoch_is_a_line_where_wanted(capsys):
    AsyncSGDClassifier("log_loss", verbose=1, max_iter=3, tol=None, random_state=0).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("AsyncSGDClassifier round 1: objective 0.")
    assert "limit of 3 epochs" in lines[3]


def test_callbacks_score_the_model_of_every_epoch():
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring=lambda model, X, y: {"score": model.score(X, y)})
    model = AsyncSGDClassifier("log_loss", max_iter=4, tol=None, random_state=0).set_callbacks(monitor).fit(X, Y)
    scores = [entry["score"] for entry in monitor.get_logs().data if entry["task_name"] == "round"]
    assert len(scores) == 4 and scores[-1] == pytest.approx(model.score(X, Y))


class Stop(Exception):
    pass


class StopInEpoch:
    """A callback that breaks a fit off after some epochs."""

    def __init__(self, epoch):
        self.epoch = epoch

    def setup(self, estimator, context):
        self.count = 0

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.count += 1
        if self.count == self.epoch:
            raise Stop

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("random_state", [0, None])
def test_a_fit_that_was_broken_off_goes_on_from_its_checkpoint(tmp_path, random_state):
    pytest.importorskip("sklearn.callback")
    path = tmp_path / "fit"
    options = {"loss": "log_loss", "random_state": random_state, "max_iter": 9, "tol": None, "checkpoint": path}
    with dask.config.set({"num_workers": 1, "dparallel.checkpoint-every": "0s"}):
        whole = AsyncSGDClassifier(**options).fit(X, Y)
        with pytest.raises(Stop):
            AsyncSGDClassifier(**options).set_callbacks(StopInEpoch(5)).fit(X, Y)
        assert path.exists()
        resumed = AsyncSGDClassifier(**options).fit(X, Y)
    assert not path.exists()
    np.testing.assert_array_equal(resumed.coef_, whole.coef_)
    assert resumed.n_iter_ == 9 and len(resumed.history_) == 9


def test_a_checkpoint_is_gone_on_from_with_another_number_of_threads(tmp_path):
    pytest.importorskip("sklearn.callback")
    rows, y = many_rows()
    options = {"loss": "log_loss", "random_state": 0, "staleness": 0, "max_iter": 6, "tol": None}
    with two_threads():
        whole = AsyncSGDClassifier(**options).fit(rows, y)
    options["checkpoint"] = tmp_path / "fit"
    with two_threads(), dask.config.set({"dparallel.checkpoint-every": "0s"}), pytest.raises(Stop):
        AsyncSGDClassifier(**options).set_callbacks(StopInEpoch(3)).fit(rows, y)
    with pytest.raises(CheckpointError, match="alpha was"):
        AsyncSGDClassifier(**options, alpha=0.1).fit(rows, y)
    with dask.config.set(num_workers=1):
        resumed = AsyncSGDClassifier(**options).fit(rows, y)
    np.testing.assert_array_equal(resumed.coef_, whole.coef_)
