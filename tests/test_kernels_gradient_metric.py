"""Steps in other coordinates than X's own, against plain numpy and against steps on rows that are in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.kernels import gradient
from dparallel.kernels.losses import LOSSES
from tests import gradient_twin, twins
from tests.test_kernels_gradient import problem
from tests.test_kernels_gradient_csr import sparse

NOT_WEIGHTED = np.empty(0)
LOSS_NAMES = [("log_loss", 1), ("squared_error", 1), ("hinge", 3), ("softmax", 4)]


def train(X, rows, y, weights, coef, intercept, name, settings, rates, metric, shift, averages):
    """kernels.gradient.train with a metric, for dense X."""
    weights = weights if weights.size else np.ones(len(X))
    for batch, rate in enumerate(rates):
        chosen = rows[batch * settings.batch_size : (batch + 1) * settings.batch_size]
        chosen = chosen[weights[chosen] != 0]
        if len(chosen) and rate:
            _, slopes = gradient_twin.measure(name, settings.epsilon, y[chosen], X[chosen] @ coef.T + intercept)
            slopes = slopes * weights[chosen, None]
            before = coef.copy()
            coef *= np.maximum(0, 1 - rate * settings.l2 * metric)
            coef -= rate / len(chosen) * metric * (slopes.T @ (X[chosen] - shift))
            coef[...] = np.sign(coef) * np.maximum(np.abs(coef) - rate * settings.l1 * metric, 0)
            if settings.fit_intercept:
                intercept -= rate * slopes.sum(axis=0) / len(chosen) + (coef - before) @ shift
        averages[0][...] += coef
        averages[1][...] += intercept


@pytest.mark.parametrize("name, n_classes", LOSS_NAMES)
@given(
    n_rows=st.integers(1, 60),
    n_features=st.integers(1, 40),
    batch_size=st.sampled_from([1, 7, 32]),
    layout=st.sampled_from(twins.LAYOUTS),
    weighted=st.booleans(),
    fit_intercept=st.booleans(),
    l2=st.sampled_from([0.0, 1e-2, 5.0]),
    l1=st.sampled_from([0.0, 1e-2]),
    seed=st.integers(0, 10**6),
)
def test_training_in_a_metric_is_that_of_numpy(
    name, n_classes, n_rows, n_features, batch_size, layout, weighted, fit_intercept, l2, l1, seed
):
    random = np.random.default_rng(seed)
    X, y, weights, coef, intercept = problem(random, n_rows, n_features, name, n_classes, weighted)
    X = twins.lay_out(X, layout)
    metric, shift = random.random(n_features) * 2 * (random.random(n_features) < 0.9), random.normal(size=n_features)
    rows = random.integers(n_rows, size=2 * n_rows)
    rates = random.choice([0.0, 0.03, 0.1], -(-rows.size // batch_size))
    settings = gradient.Settings(LOSSES[name], 0.4, l2, l1, batch_size, fit_intercept)
    results = []
    for run, label in ((gradient.train, ()), (train, (name,))):
        w, b, averages = coef.copy(), intercept.copy(), (np.zeros_like(coef), np.zeros_like(intercept))
        if run is train:
            run(np.array(X, float), rows, y, weights, w, b, *label, settings, rates, metric, shift, averages)
        else:
            run(X, rows, y, weights, w, b, settings, rates, np.zeros(2), averages, metric, shift)
        results.append((w, b, *averages))
    for ours, expected in zip(*results):
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max(initial=1e-300))


@pytest.mark.parametrize("name, n_classes", LOSS_NAMES)
def test_the_path_is_that_of_standardised_rows(name, n_classes):
    random = np.random.default_rng(0)
    Z, y, _, coef, intercept = problem(random, 500, 12, name, n_classes)
    scale, shift = 10.0 ** random.uniform(-4, 4, 12), 10.0 ** random.uniform(-2, 3, 12)
    settings = gradient.Settings(LOSSES[name], 0.4, batch_size=8)
    rows, rates = random.permutation(500), np.full(63, 0.1)
    inside, outside = (np.zeros_like(coef), np.zeros_like(intercept)), (np.zeros_like(coef), np.zeros_like(intercept))
    gradient.train(Z, rows, y, NOT_WEIGHTED, *inside, settings, rates, np.zeros(2))
    X = Z * scale + shift
    gradient.train(X, rows, y, NOT_WEIGHTED, *outside, settings, rates, np.zeros(2), None, scale**-2.0, shift)
    np.testing.assert_allclose(outside[0] * scale, inside[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(outside[1] + outside[0] @ shift, inside[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("l2, l1", [(0.0, 0.0), (1e-4, 0.0), (1e-4, 1e-4), (0.0, 1e-3)])
@pytest.mark.parametrize("name, n_classes", LOSS_NAMES)
def test_csr_rows_in_a_metric_are_dense_ones_up_to_the_square_of_the_penalties(name, n_classes, l2, l1, averaged):
    random = np.random.default_rng(0)
    X = sparse(random, 400, 60, 0.1)
    _, y, weights, coef, intercept = problem(random, 400, 60, name, n_classes, True)
    metric = 10.0 ** random.uniform(-1, 1, 60)
    settings = gradient.Settings(LOSSES[name], 0.4, l2, l1, 4)
    rows, rates = random.permutation(400), np.full(100, 0.03)
    results = []
    for matrix in (X, X.toarray()):
        w, b, sums = coef.copy(), intercept.copy(), np.zeros(2)
        averages = (np.zeros_like(coef), np.zeros_like(intercept)) if averaged else None
        gradient.train(matrix, rows, y, weights, w, b, settings, rates, sums, averages, metric)
        results.append((w, b, sums, *(averages or ())))
    for ours, expected in zip(*results):
        exact = l1 == l2 == 0 and not averaged
        np.testing.assert_allclose(ours, expected, rtol=1e-10 if exact else 2e-2, atol=1e-12 if exact else 2e-3)


@pytest.mark.parametrize("make", [np.asarray, lambda X: sparse(np.random.default_rng(0), *X.shape, 1.0)])
def test_coordinates_that_do_not_fit_are_refused(make):
    X = make(np.ones((9, 3)))
    given = [np.arange(9), np.ones(9), NOT_WEIGHTED, np.zeros((1, 3)), np.zeros(1), gradient.Settings(2), np.ones(1)]
    with pytest.raises(ValueError, match="Give one of each per feature"):
        gradient.train(X, *given, np.zeros(2), None, np.ones(4))
    if hasattr(X, "indptr"):
        with pytest.raises(ValueError, match="cannot be shifted"):
            gradient.train(X, *given, np.zeros(2), None, np.ones(3), np.ones(3))
