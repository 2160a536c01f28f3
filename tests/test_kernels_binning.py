"""Counting distinct values and coding rows against plain numpy."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.kernels.binning import MOST_BINS, Bins, Coder, Distinct, make_bins
from tests import twins

LARGEST = np.finfo(np.float32).max
rng = np.random.default_rng(5)


def seen(X, limit=MOST_BINS):
    distinct = Distinct(X.shape[1], limit)
    distinct.scan(X)
    return distinct


def as_single(X):
    """Values as the kernels see them."""
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(X), np.clip(X, -LARGEST, LARGEST), X).astype(np.float32) + np.float32(0)


def plain_values(column):
    values = as_single(column)
    return np.unique(values[~np.isnan(values)])


def plain_codes(column, bins, f):
    """One feature's codes: how many bins lie wholly below the value."""
    upper = bins.upper[bins.starts[f] : bins.starts[f] + bins.n_values[f]]
    values = as_single(column)
    return np.where(np.isnan(values), bins.n_values[f], np.searchsorted(upper[:-1], values))


def some_table(random, n_rows, n_features, n_values, share_missing):
    """Columns of few and of many values, the first of few."""
    X = random.normal(size=(n_rows, n_features)) * 10.0 ** random.integers(-20, 20, n_features)
    X[:, ::2] = np.sort(random.normal(size=n_values))[random.integers(0, n_values, X[:, ::2].shape)]
    X[random.random(X.shape) < share_missing] = np.nan
    return X


def some_bins(X, max_bins=MOST_BINS):
    distinct = seen(X, max_bins)
    edges = {}
    for f in np.flatnonzero(distinct.over):
        values = plain_values(X[:, f])
        edges[f] = values[np.linspace(0, values.size - 1, max_bins + 1).astype(int)[1:]]
    return make_bins(distinct, edges)


tables = {
    "n_rows": st.one_of(st.integers(0, 60), st.integers(200, 700)),
    "n_features": st.one_of(st.integers(1, 5), st.integers(30, 70)),
    "n_values": st.integers(1, 300),
    "share_missing": st.sampled_from([0.0, 0.1, 1.0]),
    "dtype": st.sampled_from([np.float32, np.float64]),
    "layout": st.sampled_from(twins.LAYOUTS),
    "seed": st.integers(0, 10**6),
}


@given(**tables, limit=st.integers(1, MOST_BINS))
def test_distinct_values_are_those_of_numpy(n_rows, n_features, n_values, share_missing, dtype, layout, seed, limit):
    X = some_table(np.random.default_rng(seed), n_rows, n_features, n_values, share_missing).astype(dtype)
    distinct = seen(twins.lay_out(X, layout), limit)
    expected = [plain_values(column) for column in X.T]
    assert distinct.over.tolist() == [values.size > limit for values in expected]
    assert distinct.missing.tolist() == np.isnan(X).any(axis=0).tolist()
    assert not distinct.infinite.any()
    for f in np.flatnonzero(~distinct.over):
        np.testing.assert_array_equal(distinct.values(f), expected[f])


@given(cuts=st.lists(st.integers(0, 500), max_size=4), limit=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_parts_merge_in_any_order_and_travel_to_what_one_scan_sees(cuts, limit, seed):
    random = np.random.default_rng(seed)
    X = some_table(random, 500, 7, 40, 0.01)
    parts = [pickle.loads(pickle.dumps(seen(part, limit))) for part in np.split(X, sorted(cuts))]
    merged = parts.pop(random.integers(len(parts)))
    while parts:
        merged = merged.merge(parts.pop(random.integers(len(parts))))
    whole = seen(X, limit)
    assert merged.over.tolist() == whole.over.tolist()
    assert merged.missing.tolist() == whole.missing.tolist()
    for f in np.flatnonzero(~whole.over):
        np.testing.assert_array_equal(merged.values(f), whole.values(f))


def test_a_scan_goes_on_after_a_journey():
    X = rng.integers(0, 90, (400, 3)).astype(float)
    distinct = pickle.loads(pickle.dumps(seen(X[:200], 100)))
    distinct.scan(X[100:])
    assert not distinct.over.any()
    for f in range(3):
        np.testing.assert_array_equal(distinct.values(f), np.unique(X[:, f]))


def test_what_travels_is_no_larger_than_the_values():
    assert len(pickle.dumps(seen(rng.integers(0, 3, (1000, 50)).astype(float)))) < 50 * 40 + 500


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinity_is_told_of_and_values_beyond_float32_are_not_infinite(dtype):
    X = np.array([[1e300, np.inf, 0.0, 1.0], [-1e300, 1.0, -np.inf, np.nan]])
    X[:, 0] = np.clip(X[:, 0], np.finfo(dtype).min, np.finfo(dtype).max)
    distinct = seen(X.astype(dtype))
    assert distinct.infinite.tolist() == [False, True, True, False]
    assert distinct.values(0).tolist() == [-LARGEST, LARGEST]


def test_minus_zero_is_zero():
    assert seen(np.array([[0.0], [-0.0]])).values(0).tolist() == [0.0]


@given(**tables, max_bins=st.sampled_from([2, 15, 16, 17, 33, 254, 255]))
def test_codes_count_the_bins_below(n_rows, n_features, n_values, share_missing, dtype, layout, seed, max_bins):
    X = some_table(np.random.default_rng(seed), n_rows, n_features, n_values, share_missing).astype(dtype)
    bins = some_bins(X, max_bins)
    coder, codes = Coder(bins), np.empty(X.shape, np.uint8)
    coder.code(twins.lay_out(X, layout), codes)
    for f in range(n_features):
        expected = plain_codes(X[:, f], bins, f)
        np.testing.assert_array_equal(codes[:, f], expected)
        values = as_single(X[:, f])
        for code in range(bins.n_values[f]):
            slot = bins.starts[f] + code
            assert coder.low[slot] == values[expected == code].min()
            assert coder.high[slot] == values[expected == code].max()
            assert coder.high[slot] <= bins.upper[slot] or code == bins.n_values[f] - 1


def test_exact_bins_hold_one_value_each():
    X = np.column_stack([rng.integers(-100, 100, 3000), np.full(3000, 7.5), rng.integers(0, 2, 3000)])
    bins = some_bins(X)
    coder, codes = Coder(bins), np.empty(X.shape, np.uint8)
    coder.code(X, codes)
    assert bins.exact.all() and bins.n_values.tolist() == [200, 1, 2]
    np.testing.assert_array_equal(coder.low[bins.starts[:-1] + codes], X)
    np.testing.assert_array_equal(coder.high, bins.upper)


def test_extreme_values_merge_to_those_of_all_rows():
    X = rng.normal(size=(4000, 2))
    bins = some_bins(X)
    codes = np.empty(X.shape, np.uint8)
    whole, parts = Coder(bins), [Coder(bins), Coder(bins)]
    whole.code(X, codes)
    parts[0].code(X[:1234], codes[:1234])
    parts[1].code(X[1234:], codes[1234:])
    np.testing.assert_array_equal(np.minimum(parts[0].low, parts[1].low), whole.low)
    np.testing.assert_array_equal(np.maximum(parts[0].high, parts[1].high), whole.high)


def test_only_features_with_missing_values_have_a_slot_for_them():
    X = np.array([[1.0, np.nan, np.nan], [2.0, 5.0, np.nan]])
    bins = some_bins(X)
    assert isinstance(bins, Bins)
    assert bins.n_values.tolist() == [2, 1, 0]
    assert bins.starts.tolist() == [0, 2, 4, 5]
    codes = np.empty(X.shape, np.uint8)
    Coder(bins).code(X, codes)
    assert codes.tolist() == [[0, 1, 0], [1, 0, 0]]
