"""The moments kernels against long double."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from dparallel.errors import DataError
from dparallel.kernels.ruler import block_moments
from tests import twins

DTYPES = [np.float32, np.float64]
rng = np.random.default_rng(3)


@given(
    n_rows=st.integers(1, 400),
    n_features=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from([*twins.LAYOUTS, "CSR"]),
    weighted=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_moments_are_those_of_long_double(n_rows, n_features, dtype, layout, weighted, seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=(n_rows, n_features)) * 10.0 ** random.integers(-3, 4, n_features)
    if layout == "CSR":
        values *= random.random(values.shape) < 0.3
    values = values.astype(dtype)
    weights = random.choice([0.0, 0.25, 3.0], n_rows) if weighted else None
    if weighted:
        weights[0] = 1.0
    X = scipy.sparse.csr_matrix(values) if layout == "CSR" else twins.lay_out(values, layout)
    total, mean, deviation = block_moments(X, weights)
    expected = twins.moments(values, np.ones(n_rows) if weights is None else weights)
    size = np.abs(values).max(axis=0).astype(float)
    assert total == expected[0]
    np.testing.assert_allclose(mean, expected[1].astype(float), rtol=1e-13, atol=1e-15 * size.max())
    np.testing.assert_allclose(deviation, expected[2].astype(float), rtol=1e-11, atol=1e-28 * size.max() ** 2)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6, 1e8, -1e10])
def test_deviations_do_not_drown_in_an_offset(offset):
    X = offset + rng.integers(0, 100, (5000, 3)).astype(float)
    total, mean, deviation = block_moments(X, None)
    np.testing.assert_allclose(mean - offset, (X - offset).mean(axis=0), rtol=1e-12, atol=1e-15 * abs(offset))
    np.testing.assert_allclose(deviation / total, (X - offset).var(axis=0), rtol=1e-9)


@pytest.mark.parametrize("value", [0.1, 1e8 + 0.1, -1e150, 1e-300])
def test_a_constant_column_deviates_by_rounding_only(value):
    _, mean, deviation = block_moments(np.full((1000, 2), value), None)
    np.testing.assert_allclose(mean, value, rtol=1e-14)
    assert (deviation <= 1000 * (1000 * 2.3e-16 * value) ** 2).all()


def test_scales_at_the_ends_of_float32_are_measured():
    for scale in (1e-30, 1e30):
        X = (scale * rng.normal(size=(300, 2))).astype(np.float32)
        _, mean, deviation = block_moments(X, None)
        np.testing.assert_allclose(deviation / 300, X.astype(float).var(axis=0), rtol=1e-12)
        np.testing.assert_allclose(mean, X.astype(float).mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", ["no", "some", "none at that row", "none at all"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row, column", [(0, 0), (127, 2), (128, 0), (599, 1)])
def test_a_value_that_is_not_finite_is_blamed_where_it_stands_whatever_its_weight(sparse, weighted, value, row, column):
    X = np.ones((600, 3))
    X[row, column] = value
    weights = {"no": None, "none at all": np.zeros(600)}.get(weighted, np.ones(600))
    if weighted == "none at that row":
        weights[row - row % 128 : row - row % 128 + 128] = 0.0
    name = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(DataError, match=f"{name}, for instance at row {row}, column {column}"):
        block_moments(scipy.sparse.csr_matrix(X) if sparse else X, weights)


def test_values_whose_sum_overflows_are_called_too_large():
    with pytest.raises(DataError, match="so large"):
        block_moments(np.full((200, 1), 1e307), None)


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
def test_no_rows_weigh_nothing(make):
    total, mean, deviation = block_moments(make(np.empty((0, 4))), None)
    assert total == 0 and not mean.any() and not deviation.any()


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
def test_rows_without_weight_weigh_nothing(make):
    total, mean, deviation = block_moments(make(rng.normal(size=(300, 4))), np.zeros(300))
    assert total == 0 and not mean.any() and not deviation.any()
