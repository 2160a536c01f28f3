"""Sorted columns against numpy's stable sort."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dparallel.kernels.sorting import sort_columns


@given(n_rows=st.integers(0, 200), kind=st.sampled_from(["few", "normal", "all powers"]), seed=st.integers(0, 10**6))
def test_rows_are_sorted_as_numpy_does_it(n_rows, kind, seed):
    random = np.random.default_rng(seed)
    X = random.normal(size=(3, n_rows))
    X *= 10.0 ** random.integers(-45, 38, X.shape) if kind == "all powers" else 1.0
    X = np.round(X, 0 if kind == "few" else 60).astype(np.float32)
    X[random.random(X.shape) < 0.1] = np.nan
    X[random.random(X.shape) < 0.05] = random.choice([np.inf, -np.inf, -0.0, 0.0])
    np.testing.assert_array_equal(sort_columns(X), np.argsort(X + np.float32(0), axis=1, kind="stable"))
