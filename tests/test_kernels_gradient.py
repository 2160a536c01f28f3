"""Minibatch gradient descent over dense rows against plain numpy, with scikit-learn's losses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.kernels import gradient
from dparallel.kernels.losses import LOSSES
from tests import gradient_twin, twins

DTYPES = [np.float32, np.float64]
NOT_WEIGHTED = np.empty(0)
ALL = [(name, 1) for name in (*gradient_twin.BINARY, *gradient_twin.REGRESSION)]
ALL += [(name, 3) for name in gradient_twin.BINARY] + [("softmax", 2), ("softmax", 5)]


def problem(random, n_rows, n_features, name, n_classes, weighted=False):
    """Random X, y, weights, parameters."""
    X = random.normal(size=(n_rows, n_features))
    if n_classes > 1:
        y = random.integers(n_classes, size=n_rows).astype(float)
    elif name in gradient_twin.BINARY:
        y = random.choice([-1.0, 1.0], n_rows)
    else:
        y = random.normal(size=n_rows)
    weights = random.choice([0.0, 0.5, 1.0, 3.0], n_rows) if weighted else NOT_WEIGHTED
    return X, y, weights, random.normal(size=(n_classes, n_features)) * 0.3, random.normal(size=n_classes) * 0.1


def assert_trains_as_numpy(X, rows, y, weights, coef, intercept, name, settings, rates, averaged, rtol=1e-12):
    results = []
    for run, matrix in ((gradient.train, X), (gradient_twin.train, X.toarray() if hasattr(X, "indptr") else X)):
        w, b, sums = coef.copy(), intercept.copy(), np.full(2, 0.25)
        averages = (np.full(coef.shape, 0.5), np.full(intercept.shape, 0.5)) if averaged else None
        named = (name,) if run is gradient_twin.train else ()
        run(matrix, rows, y, weights, w, b, *named, settings, rates, sums, averages)
        results.append((w, b, sums, *(averages or ())))
    for ours, expected in zip(*results):
        size = np.abs(expected).max(initial=1e-300)
        np.testing.assert_allclose(ours, expected, rtol=rtol, atol=rtol * size)
    return results[0]


@pytest.mark.parametrize("name, n_classes", ALL)
@given(
    n_rows=st.integers(1, 90),
    n_features=st.integers(1, 40),
    batch_size=st.sampled_from([1, 2, 7, 8, 9, 32, 70, 1000]),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(twins.LAYOUTS),
    weighted=st.booleans(),
    averaged=st.booleans(),
    fit_intercept=st.booleans(),
    l2=st.sampled_from([0.0, 1e-3, 0.5]),
    l1=st.sampled_from([0.0, 1e-3, 0.2]),
    seed=st.integers(0, 10**6),
)
def test_training_is_that_of_numpy(
    name, n_classes, n_rows, n_features, batch_size, dtype, layout, weighted, averaged, fit_intercept, l2, l1, seed
):
    random = np.random.default_rng(seed)
    X, y, weights, coef, intercept = problem(random, n_rows, n_features, name, n_classes, weighted)
    X = twins.lay_out(X.astype(dtype), layout)
    rows = random.integers(n_rows, size=random.integers(0, 2 * n_rows))
    rates = random.choice([0.0, 0.03, 0.3], -(-rows.size // batch_size), p=[0.1, 0.45, 0.45])
    settings = gradient.Settings(LOSSES[name], 0.4, l2, l1, batch_size, fit_intercept, 0.7)
    assert_trains_as_numpy(X, rows, y, weights, coef, intercept, name, settings, rates, averaged, 1e-11)


@pytest.mark.parametrize("n_features", [64, 100, 128, 784, 5000])
def test_long_rows_and_many_minibatches_agree_to_the_last_digits(n_features):
    random = np.random.default_rng(0)
    X, y, weights, coef, intercept = problem(random, 1500, n_features, "log_loss", 1)
    X, coef = X / np.sqrt(n_features), coef / np.sqrt(n_features)
    settings = gradient.Settings(LOSSES["log_loss"], l2=1e-4, batch_size=24)
    rates = np.full(63, 0.5)
    rows = random.permutation(1500)
    assert_trains_as_numpy(X, rows, y, weights, coef, intercept, "log_loss", settings, rates, True, 1e-12)


@pytest.mark.parametrize("name", [*gradient_twin.BINARY, *gradient_twin.REGRESSION])
@pytest.mark.parametrize("score", [-1e15, -800.0, -40.0, -2.0, -1.0, -0.4, 0.0, 1e-9, 0.4, 1.0, 36.0, 710.0, 1e15])
def test_losses_and_slopes_at_the_edges_are_those_of_scikit_learn(name, score):
    # one row of zeros: its score is the intercept, and its slope is what the intercept loses at rate 1
    for y in (-1.0, 1.0):
        coef, intercept, sums = np.zeros((1, 1)), np.array([score]), np.zeros(2)
        settings = gradient.Settings(LOSSES[name], 0.4, batch_size=1)
        gradient.train(np.zeros((1, 1)), np.zeros(1, int), y + np.zeros(1), NOT_WEIGHTED, coef, intercept, settings,
                       np.ones(1), sums)  # fmt: skip
        value, slope = gradient_twin.measure(name, 0.4, np.array([y]), np.array([[score]]))
        np.testing.assert_allclose(sums, [value[0], 1.0], rtol=1e-14, atol=1e-300)
        np.testing.assert_allclose(intercept, score - slope[0], rtol=1e-14)


def test_log_loss_keeps_its_digits_where_it_is_tiny():
    scores = np.linspace(0, 700, 3001)
    ones = np.ones((len(scores), 1))
    for score in (30.0, 300.0, 690.0):
        total, _ = gradient.losses(ones, ones[:, 0], NOT_WEIGHTED, np.zeros((1, 1)), [score], gradient.Settings(2))
        np.testing.assert_allclose(total / len(scores), np.log1p(np.exp(-score)), rtol=1e-13)


def test_slopes_are_cut_at_1e12():
    coef, intercept = np.zeros((1, 1)), np.array([1e20])
    settings = gradient.Settings(LOSSES["squared_error"], batch_size=1)
    gradient.train(np.ones((1, 1)), np.zeros(1, int), np.zeros(1), NOT_WEIGHTED, coef, intercept, settings, np.ones(1),
                   np.zeros(2))  # fmt: skip
    assert coef[0, 0] == -1e12


@pytest.mark.parametrize("name, n_classes", [*ALL[:9], ("log_loss", 3), ("softmax", 3)])
def test_a_score_that_is_not_finite_shows(name, n_classes):
    X, y, weights, coef, intercept = problem(np.random.default_rng(0), 20, 3, name, n_classes)
    for l1 in (0.0, 1e-3):
        w, sums = coef.copy(), np.zeros(2)
        w[0, 1] = np.nan
        settings = gradient.Settings(LOSSES[name], l1=l1)
        gradient.train(X, np.arange(20), y, weights, w, intercept.copy(), settings, np.ones(1), sums)
        assert np.isnan(sums[0]) and np.isnan(w[0]).any()


def test_rows_of_weight_zero_are_never_read():
    X, y, _, coef, intercept = problem(np.random.default_rng(0), 60, 9, "log_loss", 1)
    weights = np.ones(60)
    X[::3], y[::3], weights[::3] = np.nan, np.nan, 0.0
    settings = gradient.Settings(LOSSES["log_loss"], l2=0.1, batch_size=6)
    w, b, sums = coef.copy(), intercept.copy(), np.zeros(2)
    gradient.train(X, np.arange(60), y, weights, w, b, settings, np.full(10, 0.1), sums)
    kept = np.flatnonzero(weights)
    expected, c, totals = coef.copy(), intercept.copy(), np.zeros(2)
    smaller = settings._replace(batch_size=4)
    gradient.train(X[kept], np.arange(40), y[kept], NOT_WEIGHTED, expected, c, smaller, np.full(10, 0.1), totals)
    assert (w == expected).all() and (b == c).all() and (sums == totals).all()


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", twins.LAYOUTS)
@pytest.mark.parametrize("n_rows, n_features", [(0, 4), (1, 1), (77, 20), (300, 130)])
def test_scores_are_those_of_numpy(n_classes, dtype, layout, n_rows, n_features):
    random = np.random.default_rng(1)
    X = twins.lay_out(random.normal(size=(n_rows, n_features)).astype(dtype), layout)
    coef, intercept = random.normal(size=(n_classes, n_features)), random.normal(size=n_classes)
    intercept.flags.writeable = False
    scores = gradient.scores(X, coef, intercept)
    expected = X.astype(np.float64) @ coef.T + intercept
    assert scores.shape == (n_rows, n_classes) and scores.dtype == np.float64 and scores.flags.c_contiguous
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name, n_classes", [("log_loss", 1), ("huber", 1), ("softmax", 4), ("hinge", 4)])
def test_losses_are_summed_over_all_rows_and_nothing_is_changed(name, n_classes):
    X, y, weights, coef, intercept = problem(np.random.default_rng(0), 70_000, 3, name, n_classes, True)
    settings = gradient.Settings(LOSSES[name], 0.4, l2=1.0, l1=1.0)
    before = coef.copy(), intercept.copy()
    total, weight = gradient.losses(X, y, weights, coef, intercept, settings)
    some = slice(0, 70_000, 7)
    expected = gradient_twin.measure(name, 0.4, y[some], X[some] @ coef.T + intercept)[0] @ weights[some]
    part, _ = gradient.losses(X[some], y[some], weights[some], coef, intercept, settings)
    np.testing.assert_allclose(part, expected, rtol=1e-12)
    assert weight == weights.sum() and (coef == before[0]).all() and (intercept == before[1]).all()
    parts = sum(gradient.losses(X[i::7], y[i::7], weights[i::7], coef, intercept, settings)[0] for i in range(7))
    np.testing.assert_allclose(total, parts, rtol=1e-12)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"rows": np.array([0, 9])}, "rows goes from 0 to 9"),
        ({"rows": np.array([-1, 2])}, "rows goes from -1 to 2"),
        ({"rates": np.ones(2)}, "Give one rate per minibatch"),
        ({"y": np.ones(8)}, "Give one of each per row"),
        ({"weights": np.ones(8)}, "Give one of each per row"),
        ({"coef": np.zeros((1, 4))}, r"Give \(K, n_features\) and \(K,\)"),
        ({"intercept": np.zeros(2)}, r"Give \(K, n_features\) and \(K,\)"),
        ({"settings": gradient.Settings(10)}, "Unknown loss 10"),
        ({"settings": gradient.Settings(2, batch_size=0)}, "batch_size"),
        ({"settings": gradient.Settings(9)}, "two classes or more"),
        ({"settings": gradient.Settings(9), "y": np.full(9, 2.0), "coef": np.zeros((2, 3)), "intercept": np.zeros(2)},
         "class numbers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(change, told):
    given = {
        "X": np.ones((9, 3)), "rows": np.arange(2), "y": np.ones(9), "weights": NOT_WEIGHTED, "coef": np.zeros((1, 3)),
        "intercept": np.zeros(1), "settings": gradient.Settings(2), "rates": np.ones(1), "sums": np.zeros(2),
    }  # fmt: skip
    with pytest.raises(ValueError, match=told):
        gradient.train(**given | change)
