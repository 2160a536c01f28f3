"""The values beside each split against a walk in plain numpy."""

import numpy as np
import pytest

from dparallel.kernels import binning, boundaries, layouts
from tests import twins

RNG = np.random.default_rng(0)


def bits(codes):
    words = np.zeros(4, np.uint64)
    for code in codes:
        words[code >> 6] |= np.uint64(1 << (code & 63))
    return words


def make_tree(bins, codes):
    """A tree of three splits in the middle of what rows are there; a missing value goes left at node 1."""
    feature = np.array([0, 1, 2, -1, -1, -1, -1], np.int32)
    children = np.array([[1, 2], [3, 4], [5, 6], *[[-1, -1]] * 4], np.int32)
    left = np.zeros((7, 4), np.uint64)
    left[0] = bits(range(40))
    left[1] = bits([*range(20), bins.n_values[1]])
    left[2] = bits(range(100))
    return feature, left, children


def rows_of(X):
    distinct = binning.Distinct(X.shape[1], 4)
    distinct.scan(X)
    within = np.clip(X, -3, 3).astype(np.float32)
    edges = {f: np.nanquantile(within[:, f], np.arange(1, 121) / 120).astype(np.float32) for f in range(3)}
    bins = binning.make_bins(distinct, edges)
    coder, codes = binning.Coder(bins), np.empty(X.shape, np.uint8)
    coder.code(X, codes)
    return bins, codes


def plain(X, codes, bins, tree, take):
    feature, left, children = tree
    highest, lowest = np.full(7, -np.inf, np.float32), np.full(7, np.inf, np.float32)
    for row in np.flatnonzero(take):
        node = 0
        while feature[node] >= 0:
            f, code = feature[node], int(codes[row, feature[node]])
            goes_left = bool(int(left[node, code >> 6]) >> (code & 63) & 1)
            value = np.float32(np.clip(X[row, f], -3.4028235e38, 3.4028235e38))
            if not np.isnan(value):
                if goes_left:
                    highest[node] = max(highest[node], value)
                else:
                    lowest[node] = min(lowest[node], value)
            node = children[node, 0 if goes_left else 1]
    return highest, lowest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", twins.LAYOUTS)
@pytest.mark.parametrize("some", [False, True])
def test_they_are_the_extremes_of_the_rows_that_come_by(dtype, layout, some):
    X = RNG.normal(size=(900, 3)).astype(dtype)
    X[::7, 1] = np.nan
    if dtype == np.float64:
        X[3, 0], X[4, 2] = 1e300, -1e300
    bins, codes = rows_of(X)
    tree = make_tree(bins, codes)
    take = RNG.random(900) < 0.6 if some else np.ones(900, bool)
    found = boundaries.Boundaries(*tree, bins.n_values)
    for start, stop in ((0, 300), (300, 300), (300, 900)):
        own = layouts.readable(twins.lay_out(X[start:stop], layout))
        found.scan(layouts.layout(own), codes[start:stop], take[start:stop] if some else None)
    highest, lowest = plain(X, codes, bins, tree, take)
    np.testing.assert_array_equal(found.highest, highest)
    np.testing.assert_array_equal(found.lowest, lowest)
    assert (found.highest[:3] < found.lowest[:3]).all()
