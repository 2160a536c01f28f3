"""Counted quantiles against sorting, and what must not change them."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.kernels import layouts, quantile
from tests import twins


def spans_of(pieces, weights):
    found = None
    for X, own in zip(pieces, weights):
        spread = quantile.Spread(X.shape[1])
        X = layouts.readable(X)
        spread.scan(layouts.layout(X), len(X), own)
        found = spread.spans() if found is None else found.merge(spread.spans())
    return found


def edges(X, n_bins=255, weights=None, n_pieces=1, scale=0):
    """Bins of all columns, the rows given in pieces, their weights in fixed point of `scale` bits."""
    pieces = np.array_split(X, n_pieces)
    own = [None] * n_pieces if weights is None else np.array_split(weights, n_pieces)
    ladder = quantile.Ladder.over(spans_of(pieces, own), n_bins)
    counts = np.zeros(ladder.n_cells, np.int64)
    travelled = pickle.loads(pickle.dumps(ladder))
    for rows, weight in zip(pieces, own):
        rows = layouts.readable(rows)
        fixed = None if weight is None else weight.astype(np.int64) << scale
        travelled.count(layouts.layout(rows), len(rows), fixed, counts)
    return ladder.edges(counts, n_bins, 1 << scale)


def plain_edges(values, n_bins):
    """Quantiles of the sorted values: that of the nearest row."""
    values = np.sort(values[~np.isnan(values)].astype(np.float32) + np.float32(0))
    if len(np.unique(values)) <= n_bins:
        return np.unique(values)
    ranks = np.ceil(np.arange(1, n_bins) * len(values) / n_bins - 0.5).astype(int)
    return np.unique(np.append(values[np.maximum(ranks, 1) - 1], values[-1]))


def columns(n_rows=30_000, seed=0):
    """Bell-shaped, far from 0, over many powers of two, half of it one value, integers, clusters, tiny."""
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [
            rng.normal(size=n_rows),
            1e5 + rng.normal(size=n_rows),
            rng.lognormal(0, 9, n_rows),
            np.where(rng.random(n_rows) < 0.5, 0, rng.normal(size=n_rows)),
            rng.integers(0, 3000, n_rows) - 1500.0,
            np.where(rng.random(n_rows) < 0.4, 0, 1e6 + rng.random(n_rows)),
            -rng.exponential(1e-30, n_rows),
        ]
    )


X = columns()


@pytest.mark.parametrize("single", [True, False])
def test_each_quantile_is_met_to_a_tenth_of_a_bin(single):
    rows = X.astype(np.float32) if single else X
    found = edges(rows)
    for f, own in found.items():
        values = np.sort(rows[:, f].astype(np.float32))
        expected = plain_edges(values, 255)
        assert len(own) <= 255 and (np.diff(own) > 0).all() and own[-1] >= values[-1]
        below, wanted = np.searchsorted(values, own, "right"), np.searchsorted(values, expected, "right")
        nearest = np.abs(below[:, None] - wanted).min(axis=1)
        assert nearest.max() <= len(values) / 255 / 10 + 1


def test_few_values_are_bins_of_their_own():
    rng = np.random.default_rng(0)
    rows = rng.integers(-40, 40, (5000, 2)) / 3.0
    found = edges(rows, 100)
    for f, own in found.items():
        values = np.unique(rows[:, f].astype(np.float32))
        assert np.searchsorted(own, values).tolist() == list(range(len(values)))


@pytest.mark.parametrize("n_bins", [2, 16, 255])
def test_pieces_and_their_order_change_nothing(n_bins):
    whole = edges(X, n_bins)
    order = np.argsort(X[:, 0])
    for other in (edges(X, n_bins, n_pieces=7), edges(X[order], n_bins, n_pieces=3)):
        for f, own in whole.items():
            np.testing.assert_array_equal(other[f], own)


@pytest.mark.parametrize("scale", [0, 30])
def test_integer_weights_are_repeated_rows(scale):
    weights = np.random.default_rng(1).integers(1, 4, len(X))
    repeated = edges(np.repeat(X, weights, axis=0))
    weighted = edges(X, weights=weights.astype(float), scale=scale)
    for f, own in repeated.items():
        np.testing.assert_array_equal(weighted[f], own)


@pytest.mark.parametrize("layout", twins.LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_order_changes_nothing(layout, dtype):
    rows = X[:2000].astype(dtype)
    expected, found = edges(rows), edges(twins.lay_out(rows, layout))
    for f, own in expected.items():
        np.testing.assert_array_equal(found[f], own)


def test_missing_values_have_no_place_and_huge_ones_stay_finite():
    rows = X[:3000, :2].copy()
    rows[::3, 0] = np.nan
    rows[5, 1], rows[7, 1] = 1e300, -1e300
    found = edges(rows)
    np.testing.assert_array_equal(found[0], edges(rows[~np.isnan(rows[:, 0])])[0])
    assert np.isfinite(found[1]).all() and found[1][-1] == np.finfo(np.float32).max


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_keys_have_the_order_of_the_values(values):
    values = np.array(values, np.float32) + np.float32(0)
    keys = quantile.keys_of(values)
    assert (
        np.sign(keys[:, None].astype(np.int64) - keys) == np.sign(np.subtract.outer(values, values, dtype=float))
    ).all()
    np.testing.assert_array_equal(quantile.values_of(keys), values)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=300), st.integers(2, 9)
)
def test_bins_hold_all_values(values, n_bins):
    rows = np.array(values, np.float32)[:, None]
    (own,) = edges(rows, n_bins).values()
    assert 1 <= len(own) <= n_bins and own[-1] >= rows.max()


def test_many_columns_take_fewer_cells():
    assert quantile.bucket_bits(10) > quantile.bucket_bits(10_000) >= 10
    rows = np.random.default_rng(0).normal(size=(400, 700)).astype(np.float32)
    ladder = quantile.Ladder.over(spans_of([rows], [None]), 16)
    assert ladder.n_cells <= 700 * 16 * 128
    assert len(edges(rows, 16)[699]) == 16


def test_an_empty_piece_adds_nothing():
    nothing = spans_of([X[:0]], [None])
    whole = spans_of([X], [None])
    for merged in (nothing.merge(whole), whole.merge(nothing)):
        for name in ("places", "lowest", "highest", "counts"):
            np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    assert set(edges(X[:100, :3], 9)) == {0, 1, 2} == set(whole.of([0, 1, 2]).places >> whole.bits)
