"""Passive-aggressive learning row by row against plain numpy."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from dparallel.kernels import gradient, passive
from dparallel.kernels.losses import LOSSES
from tests import twins


def train(X, rows, y, weights, coef, intercept, name, settings, constant, is_second, sums, averages):
    """The same in numpy, a row and an output at a time."""
    for row in rows:
        if weights[row] == 0:
            continue
        x = X[row]
        for k in range(len(coef)):
            target = y[row] if len(coef) == 1 else (1.0 if y[row] == k else -1.0)
            score = x @ coef[k] + intercept[k]
            missing = max(0, 1 - target * score) if name == "hinge" else max(0, abs(target - score) - settings.epsilon)
            direction = target if name == "hinge" else np.sign(target - score)
            sums[0] += weights[row] * missing
            norm = x @ x
            if norm == 0 and not is_second:
                continue
            size = missing / (norm + 0.5 / constant) if is_second else min(constant, missing / norm)
            step = weights[row] * size * direction
            moved = max(0, 1 - constant * settings.l2) * coef[k] + step * x
            coef[k] = np.sign(moved) * np.maximum(np.abs(moved) - constant * settings.l1, 0)
            intercept[k] += step if settings.fit_intercept else 0.0
        sums[1] += weights[row]
        averages[0][...] += coef
        averages[1][...] += intercept


@pytest.mark.parametrize("name, n_outputs", [("hinge", 1), ("hinge", 3), ("epsilon_insensitive", 1)])
@given(
    n_rows=st.integers(1, 40),
    n_features=st.integers(1, 12),
    layout=st.sampled_from([*twins.LAYOUTS, "CSR"]),
    is_second=st.booleans(),
    fit_intercept=st.booleans(),
    l2=st.sampled_from([0.0, 0.1, 50.0]),
    l1=st.sampled_from([0.0, 0.01]),
    seed=st.integers(0, 10**6),
)
def test_passive_aggressive_steps_are_those_of_numpy(
    name, n_outputs, n_rows, n_features, layout, is_second, fit_intercept, l2, l1, seed
):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_features)) * (random.random((n_rows, n_features)) < 0.6)
    given = scipy.sparse.csr_matrix(X) if layout == "CSR" else twins.lay_out(X, layout)
    y = random.integers(n_outputs, size=n_rows).astype(float) if n_outputs > 1 else random.choice([-1.0, 1.0], n_rows)
    weights = random.choice([0.0, 1.0, 2.0], n_rows)
    rows = random.integers(n_rows, size=2 * n_rows)
    settings = gradient.Settings(LOSSES[name], 0.2, l2, l1, 1, fit_intercept)
    coef, intercept = random.normal(size=(n_outputs, n_features)), random.normal(size=n_outputs)
    results = []
    for run, matrix, label in ((passive.train, given, ()), (train, X, (name,))):
        w, b, sums = coef.copy(), intercept.copy(), np.zeros(2)
        averages = np.zeros_like(coef), np.zeros_like(intercept)
        run(matrix, rows, y, weights, w, b, *label, settings, 0.3, is_second, sums, averages)
        results.append((w, b, sums, *averages))
    for ours, expected in zip(*results):
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


def test_pieces_of_long_rows_are_visited_in_order():
    random = np.random.default_rng(0)
    X = random.normal(size=(3000, 300)) / 20  # more than one piece
    y = random.choice([-1.0, 1.0], 3000)
    settings = gradient.Settings(LOSSES["hinge"])
    whole, parts = np.zeros((1, 300)), np.zeros((1, 300))
    offsets = np.zeros(1), np.zeros(1)
    rows = random.permutation(3000)
    passive.train(X, rows, y, np.empty(0), whole, offsets[0], settings, 0.1, False, np.zeros(2))
    for piece in np.array_split(rows, 7):
        passive.train(X, piece, y, np.empty(0), parts, offsets[1], settings, 0.1, False, np.zeros(2))
    np.testing.assert_array_equal(whole, parts)
