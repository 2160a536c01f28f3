"""Minibatch gradient descent over CSR rows against plain numpy on the same rows made dense."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from dparallel.kernels import gradient
from dparallel.kernels.losses import LOSSES
from tests.test_kernels_gradient import ALL, assert_trains_as_numpy, problem

NOT_WEIGHTED = np.empty(0)


def sparse(random, n_rows, n_features, density, dtype=np.float64, index=np.int32):
    """Random CSR rows, some of them empty, with zeros that are stored and values that are split in two."""
    values = random.normal(size=(n_rows, n_features)) * (random.random((n_rows, n_features)) < density)
    X = scipy.sparse.csr_matrix(values.astype(dtype))
    X.data[random.random(X.nnz) < 0.05] = 0.0
    repeated = np.repeat(X.indices, 2)
    halves = np.repeat(X.data / 2, 2)
    X = scipy.sparse.csr_matrix((halves, repeated, 2 * X.indptr), shape=X.shape)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    return X


@pytest.mark.parametrize("name, n_classes", ALL)
@given(
    n_rows=st.integers(1, 90),
    n_features=st.integers(1, 60),
    density=st.sampled_from([0.02, 0.2, 0.7]),
    batch_size=st.sampled_from([1, 2, 7, 32, 1000]),
    kinds=st.sampled_from([(np.float32, np.int32), (np.float64, np.int32), (np.float64, np.int64)]),
    weighted=st.booleans(),
    averaged=st.booleans(),
    fit_intercept=st.booleans(),
    l2=st.sampled_from([0.0, 1e-3, 0.5, 10.0]),
    l1=st.sampled_from([0.0, 1e-3, 0.05, 0.4]),
    seed=st.integers(0, 10**6),
)
def test_training_is_that_of_numpy_on_dense_rows(
    name, n_classes, n_rows, n_features, density, batch_size, kinds, weighted, averaged, fit_intercept, l2, l1, seed
):
    random = np.random.default_rng(seed)
    _, y, weights, coef, intercept = problem(random, n_rows, n_features, name, n_classes, weighted)
    X = sparse(random, n_rows, n_features, density, *kinds)
    rows = random.integers(n_rows, size=random.integers(0, 3 * n_rows))
    rates = random.choice([0.0, 0.03, 0.3], -(-rows.size // batch_size), p=[0.1, 0.45, 0.45])
    settings = gradient.Settings(LOSSES[name], 0.4, l2, l1, batch_size, fit_intercept, 0.7)
    assert_trains_as_numpy(X, rows, y, weights, coef, intercept, name, settings, rates, averaged, 1e-10)


@pytest.mark.parametrize("l2", [0.0, 1e-4, 1.5, 50.0])
@pytest.mark.parametrize("l1", [0.0, 1e-4, 0.02])
@pytest.mark.parametrize("averaged", [False, True])
def test_penalties_of_thousands_of_steps_reach_features_that_are_rarely_seen(l2, l1, averaged):
    random = np.random.default_rng(0)
    X = sparse(random, 400, 300, 0.01)
    _, y, weights, coef, intercept = problem(random, 400, 300, "log_loss", 1)
    rows = random.integers(400, size=5000)
    settings = gradient.Settings(LOSSES["log_loss"], l2=l2, l1=l1, batch_size=2)
    rates = 0.5 / np.sqrt(1 + np.arange(2500))
    result = assert_trains_as_numpy(X, rows, y, weights, coef, intercept, "log_loss", settings, rates, averaged, 1e-10)
    assert l1 < 0.02 or (result[0] == 0).any()


def test_dense_and_csr_rows_of_real_size_give_the_same():
    random = np.random.default_rng(0)
    X = sparse(random, 3000, 200, 0.1)
    y = random.choice([-1.0, 1.0], 3000)
    settings = gradient.Settings(LOSSES["squared_hinge"], l2=1e-4, l1=1e-3, batch_size=16)
    results = []
    for matrix in (X, X.toarray()):
        w, b, sums, averages = np.zeros((1, 200)), np.zeros(1), np.zeros(2), (np.zeros((1, 200)), np.zeros(1))
        for epoch in range(3):
            rows = np.random.default_rng(epoch).permutation(3000)
            gradient.train(matrix, rows, y, NOT_WEIGHTED, w, b, settings, np.full(188, 0.1), sums, averages)
        results.append((w, b, sums, *averages))
    for sparse_result, dense_result in zip(*results):
        np.testing.assert_allclose(sparse_result, dense_result, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_memory_that_may_not_be_written_is_read(n_classes):
    random = np.random.default_rng(0)
    X = sparse(random, 50, 20, 0.3)
    name = "softmax" if n_classes > 1 else "log_loss"
    _, y, weights, coef, intercept = problem(random, 50, 20, name, n_classes, True)
    rows, rates = np.arange(50), np.full(2, 0.1)
    for array in (X.data, X.indices, X.indptr, y, weights, rows, rates):
        array.flags.writeable = False
    settings = gradient.Settings(LOSSES[name])
    assert_trains_as_numpy(X, rows, y, weights, coef, intercept, name, settings, rates, False)


@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_rows", [0, 1, 200])
def test_scores_and_losses_are_those_of_dense_rows(n_classes, dtype, n_rows):
    random = np.random.default_rng(1)
    X = sparse(random, n_rows, 30, 0.2, dtype)
    _, y, weights, coef, intercept = problem(random, n_rows, 30, "log_loss", n_classes, True)
    scores = gradient.scores(X, coef, intercept)
    dense = X.toarray().astype(np.float64)
    np.testing.assert_allclose(scores, dense @ coef.T + intercept, rtol=1e-12, atol=1e-12)
    for name in ("log_loss", "hinge"):
        settings = gradient.Settings(LOSSES[name], l1=0.1, l2=0.1)
        ours = gradient.losses(X, y, weights, coef, intercept, settings)
        np.testing.assert_allclose(ours, gradient.losses(dense, y, weights, coef, intercept, settings), rtol=1e-12)


def test_a_score_that_is_not_finite_shows():
    X = sparse(np.random.default_rng(0), 50, 10, 0.5)
    for averages in (None, (np.zeros((1, 10)), np.zeros(1))):
        for l1 in (0.0, 0.1):
            coef, sums = np.zeros((1, 10)), np.zeros(2)
            coef[0, 3] = np.nan
            settings = gradient.Settings(LOSSES["log_loss"], l1=l1)
            rates = np.full(2, 0.1)
            gradient.train(
                X, np.arange(50), np.ones(50), NOT_WEIGHTED, coef, np.zeros(1), settings, rates, sums, averages
            )
            assert np.isnan(sums[0]) and np.isnan(coef).any()
