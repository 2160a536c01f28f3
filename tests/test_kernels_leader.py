"""kernels.leader against FTRL-Proximal in plain numpy, and kernels.columns against numpy's unique."""

import numpy as np
import pytest
import scipy.sparse

from dparallel.kernels import columns, gradient, leader
from dparallel.kernels.losses import LOSSES


def twin(X, y, weights, rate, beta, l2, l1, epochs):
    """Algorithm 1 of McMahan et al. (2013) for the log loss, with n and z, and penalties times the rows seen."""
    X = X.toarray()
    z, n, zb, nb, seen = np.zeros(X.shape[1]), np.zeros(X.shape[1]), 0.0, 0.0, 0

    def coef():
        size = np.maximum(np.abs(z) - l1 * seen, 0)
        return -np.sign(z) * size / ((beta + np.sqrt(n)) / rate + l2 * seen)

    for _ in range(epochs):
        for x, target, weight in zip(X, y, weights):
            if weight == 0:
                continue
            w, b = coef(), -zb / ((beta + np.sqrt(nb)) / rate)
            slope = -weight * target / (1 + np.exp(target * (x @ w + b)))
            gradient_ = slope * x
            sigma = (np.sqrt(n + gradient_**2) - np.sqrt(n)) / rate
            z += gradient_ - sigma * w
            n += gradient_**2
            zb += slope - (np.sqrt(nb + slope**2) - np.sqrt(nb)) / rate * b
            nb += slope**2
            seen += 1
    return coef(), -zb / ((beta + np.sqrt(nb)) / rate)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("l2, l1", [(0.0, 0.0), (1e-3, 2e-3)])
def test_a_coefficient_is_that_of_the_paper(dtype, l2, l1):
    random = np.random.default_rng(0)
    X = scipy.sparse.random(200, 30, 0.2, format="csr", random_state=0, dtype=dtype)
    y, weights = random.choice([-1.0, 1.0], 200), random.integers(0, 3, 200).astype(float)
    table, intercept, sums = np.zeros((30, 2)), np.zeros(2), np.zeros(2)
    settings = gradient.Settings(LOSSES["log_loss"], l2=l2, l1=l1)
    n = 0.0
    for _ in range(2):
        n = leader.train(X, y, weights, table, intercept, settings, 0.3, 1.5, n, sums)
    coef, offset = twin(X, y, weights, 0.3, 1.5, l2, l1, 2)
    assert n == 2 * np.count_nonzero(weights) and sums[1] == 2 * weights.sum()
    np.testing.assert_allclose(leader.coefficients(table, 0.3, 1.5, l2, l1, n)[:, 0], coef, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(leader.coefficients(intercept[None], 0.3, 1.5)[0, 0], offset, rtol=1e-9)
    assert (coef == 0).any() == (l1 > 0)


def test_several_outputs_learn_each_class_against_the_rest():
    X = scipy.sparse.random(100, 20, 0.3, format="csr", random_state=1)
    y = np.random.default_rng(1).integers(0, 3, 100).astype(float)
    settings = gradient.Settings(LOSSES["hinge"])
    table, intercept = np.zeros((20, 6)), np.zeros(6)
    leader.train(X, y, np.empty(0), table, intercept, settings, 0.1, 1.0, 0.0, np.zeros(2))
    for k in range(3):
        alone, offset = np.zeros((20, 2)), np.zeros(2)
        signs = np.where(y == k, 1.0, -1.0)
        leader.train(X, signs, np.empty(0), alone, offset, settings, 0.1, 1.0, 0.0, np.zeros(2))
        np.testing.assert_allclose(table[:, 2 * k : 2 * k + 2], alone, rtol=1e-12)
        np.testing.assert_allclose(intercept[2 * k : 2 * k + 2], offset, rtol=1e-12)


def test_states_are_those_that_coefficients_come_from():
    coef = np.random.default_rng(2).normal(size=(5, 2))
    np.testing.assert_allclose(leader.coefficients(leader.states(coef, 0.2, 1.0), 0.2, 1.0), coef, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_columns_are_numbered_in_the_order_of_their_coming(dtype):
    given = np.random.default_rng(3).zipf(1.3, 300_000).clip(max=10**9).astype(dtype)
    numbers = columns.ColumnNumbers()
    found = np.concatenate([numbers.number(part) for part in np.array_split(given, 3)])
    _, first = np.unique(given, return_index=True)
    assert (numbers.keys == given[np.sort(first)]).all() and (numbers.keys[found] == given).all()
    assert (numbers.look_up(given) == found).all()
    assert numbers.look_up(np.array([-5], dtype)).tolist() == [numbers.n]


def test_gathered_rows_are_those_asked_for_over_their_own_columns():
    X = scipy.sparse.random(400, 90, 0.02, format="csr", random_state=4)
    X.indices = X.indices.astype(np.int32)
    rows = np.random.default_rng(4).permutation(400)[:50]
    chosen = X[rows]
    gathered = columns.Gathered(90, 50, chosen.nnz, X.dtype)
    gathered.add(X, rows[:20])
    gathered.add(X, rows[20:])
    assert sorted(gathered.columns) == np.unique(chosen.indices).tolist()
    own = scipy.sparse.csr_matrix((gathered.data, gathered.columns[gathered.indices], gathered.indptr), (50, 90))
    assert (own != chosen).nnz == 0
