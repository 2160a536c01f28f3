"""Histograms and the order of rows against plain numpy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dparallel.kernels import histogram
from dparallel.kernels.binning import Bins
from dparallel.kernels.histogram import NONE_32, Rows
from tests import tree_twin

rng = np.random.default_rng(11)
KINDS = ("classes", "weighted classes", "numbers", "weighted numbers")


def some_rows(random, n_rows, kind, n_classes=3):
    weight = random.integers(0, 2**40, n_rows)
    if "classes" in kind:
        classes = random.integers(0, n_classes, n_rows).astype(np.int32)
        return Rows(classes, weight) if "weighted" in kind else Rows(classes)
    moment = random.integers(-(2**45), 2**45, n_rows)
    return Rows(NONE_32, weight, moment) if "weighted" in kind else Rows(moment=moment)


def row_statistics(rows, n_classes):
    """The statistics of each row on its own: shape (n_rows, n_statistics)."""
    one = np.ones(max(rows.classes.size, rows.moment.size), np.int64)
    if not rows.classes.size:
        return np.column_stack([one, *([rows.weight] if rows.weight.size else []), rows.moment])
    shares = (rows.classes[:, None] == np.arange(n_classes)) * (rows.weight if rows.weight.size else one)[:, None]
    return np.column_stack([shares, one]) if rows.weight.size else shares


def some_table(random, n_rows, n_features, n_bins):
    """Codes, and where each feature's slots start."""
    widths = random.integers(1, n_bins + 1, n_features)
    codes = (random.random((n_rows, n_features)) * widths).astype(np.uint8)
    return codes, np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)


def plain_histogram(codes, starts, statistics, listed):
    result = np.zeros((starts[-1], statistics.shape[1]), np.int64)
    for f in range(codes.shape[1]):
        np.add.at(result, starts[f] + codes[listed, f].astype(int), statistics[listed])
    return result


def left_bits(goes):
    """Which codes go left, shape (n_nodes, 256), as bits."""
    bits = goes.reshape(-1, 4, 64).astype(np.uint64) << np.arange(64, dtype=np.uint64)
    return np.bitwise_or.reduce(bits, axis=2)


@given(
    n_rows=st.integers(1, 300),
    n_features=st.integers(1, 80),
    n_bins=st.sampled_from([1, 2, 20, 256]),
    kind=st.sampled_from(KINDS),
    n_classes=st.sampled_from([2, 3, 40]),
    n_nodes=st.integers(1, 6),
    seed=st.integers(0, 10**6),
)
@example(200, 80, 256, "weighted classes", 40, 3, 0)  # far more than a cache holds: features in groups
def test_histograms_are_those_of_numpy(n_rows, n_features, n_bins, kind, n_classes, n_nodes, seed):
    random = np.random.default_rng(seed)
    codes, starts = some_table(random, n_rows, n_features, n_bins)
    rows = some_rows(random, n_rows, kind, n_classes)
    order, first, last = tree_twin.some_nodes(random, n_rows, n_nodes)
    statistics = row_statistics(rows, n_classes)
    width = histogram.n_statistics(n_classes if "classes" in kind else 0, "weighted" in kind)
    assert width == statistics.shape[1]
    out = np.full((n_nodes, starts[-1], width), -1, np.int32 if kind == "classes" else np.int64)
    histogram.build(codes, starts, rows, order, first, last, out)
    for node in range(n_nodes):
        listed = order[first[node] : last[node]]
        np.testing.assert_array_equal(out[node], plain_histogram(codes, starts, statistics, listed))
    bins = Bins(starts, np.diff(starts), np.empty(0), np.empty(0))
    expected = [statistics[order[a:b]].sum(axis=0) for a, b in zip(first, last)]
    np.testing.assert_array_equal(histogram.totals(out, bins), expected)


def test_counts_are_the_same_in_32_and_64_bits():
    codes, starts = some_table(rng, 500, 6, 30)
    rows = some_rows(rng, 500, "classes")
    results = [np.empty((1, starts[-1], 3), kind) for kind in (np.int32, np.int64)]
    for out in results:
        histogram.build(codes, starts, rows, histogram.all_rows(500), [0], [500], out)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sibling_is_the_parent_less_the_other_child(kind):
    codes, starts = some_table(rng, 900, 5, 100)
    rows, order = some_rows(rng, 900, kind), rng.permutation(900).astype(np.int32)
    parent, child, sibling = np.empty((3, 1, starts[-1], row_statistics(rows, 3).shape[1]), np.int64)
    for out, (a, b) in ((parent, (0, 900)), (child, (0, 311)), (sibling, (311, 900))):
        histogram.build(codes, starts, rows, order, [a], [b], out)
    np.testing.assert_array_equal(parent - child, sibling)


def test_rows_that_are_not_kept_are_in_no_order():
    assert histogram.all_rows(3).tolist() == [0, 1, 2]
    assert histogram.all_rows(np.array([True, False, True])).tolist() == [0, 2]


@given(n_rows=st.integers(1, 400), n_nodes=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_a_split_parts_each_nodes_rows_and_keeps_them_in_order(n_rows, n_nodes, seed):
    random = np.random.default_rng(seed)
    codes = random.integers(0, 256, (n_rows, 3), dtype=np.uint8)
    order, first, last = tree_twin.some_nodes(random, n_rows, n_nodes)
    goes, feature = random.random((n_nodes, 256)) < 0.5, random.integers(-1, 3, n_nodes)
    expected, counts = order.copy(), np.full(n_nodes, -1)
    for node in np.flatnonzero(feature >= 0):
        listed = order[first[node] : last[node]]
        left = goes[node, codes[listed, feature[node]]]
        expected[first[node] : last[node]] = np.concatenate([listed[left], listed[~left]])
        counts[node] = left.sum()
    found = histogram.partition(codes, order, first, last, feature, left_bits(goes), np.empty(1, np.int32))
    np.testing.assert_array_equal(found, counts)
    np.testing.assert_array_equal(order, expected)
