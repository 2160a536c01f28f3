"""Moments of columns over blocks and shards."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from dparallel.blocks.block import Block
from dparallel.blocks.gate import gather
from dparallel.errors import DataError
from dparallel.moments import Moments, measure_block, measure_shard
from dparallel.rounds import open_rounds
from tests import twins

rng = np.random.default_rng(0)
X = rng.normal(size=(1000, 4)) * [1e-3, 1.0, 1e3, 1.0] + [0.0, 1e6, 0.0, 0.0]
WEIGHTS = rng.choice([0.0, 1.0, 2.5], 1000)


def assert_moments(found, rows, weights):
    total, mean, deviation = twins.moments(rows, weights)
    assert found.n_rows == len(rows)
    np.testing.assert_allclose(found.weight, float(total), rtol=1e-14)
    np.testing.assert_allclose(found.mean, mean.astype(float), rtol=1e-13, atol=1e-15 * np.abs(rows).max())
    np.testing.assert_allclose(found.deviation, deviation.astype(float), rtol=1e-10)
    np.testing.assert_allclose(found.variance, (deviation / total).astype(float), rtol=1e-10)


@given(cuts=st.lists(st.integers(0, 1000), max_size=8), weighted=st.booleans())
def test_merging_blocks_gives_the_moments_of_all_rows_however_they_are_cut(cuts, weighted):
    edges = [0, *sorted(cuts), 1000]
    total = Moments(0, 0.0, np.zeros(4), np.zeros(4))
    for low, high in zip(edges, edges[1:]):
        total = total.merge(measure_block(Block(X[low:high], None, WEIGHTS[low:high] if weighted else None)))
    assert_moments(total, X, WEIGHTS if weighted else np.ones(1000))


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_merging_is_associative(a, b):
    low, high = sorted((a, b))
    one, two, three = (measure_block(Block(part)) for part in (X[:low], X[low:high], X[high:]))
    left, right = one.merge(two).merge(three), one.merge(two.merge(three))
    np.testing.assert_allclose(left.mean, right.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(left.deviation, right.deviation, rtol=1e-10)


def test_merging_changes_neither_side():
    one, two = measure_block(Block(X[:300])), measure_block(Block(X[300:]))
    before = [array.copy() for part in (one, two) for array in (part.mean, part.deviation)]
    one.merge(two)
    for array, copy in zip([one.mean, one.deviation, two.mean, two.deviation], before):
        assert (array == copy).all()


def test_no_weight_has_no_variance():
    found = measure_block(Block(X, None, np.zeros(1000)))
    assert found.n_rows == 1000 and found.weight == 0 and not found.variance.any()
    assert_moments(found.merge(measure_block(Block(X))), np.vstack([X, X]), np.r_[np.zeros(1000), np.ones(1000)])


def test_weights_may_be_left_out_of_account():
    assert_moments(measure_block(Block(X, None, WEIGHTS), weighted=False), X, np.ones(1000))


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("chunks", [None, 1000, 100, (1, 0, 998, 1)])
def test_a_round_over_any_data_finds_their_moments(make, chunks):
    near = X - [0.0, 1e6, 0.0, 0.0]
    if chunks is None:
        data, weights = make(near), WEIGHTS
    else:
        data = da.from_array(near, chunks=(chunks, -1)).map_blocks(make, meta=make(np.empty((0, 4))))
        weights = da.from_array(WEIGHTS, chunks=(chunks,))
    with open_rounds(gather(data, sample_weight=weights, accept_sparse=True)) as rounds:
        assert_moments(rounds.reduce(measure_shard, Moments.merge, 4), near, WEIGHTS)


def test_a_value_that_is_not_finite_is_blamed_with_its_block():
    bad = X.copy()
    bad[730, 2] = np.nan
    with (
        open_rounds(gather(da.from_array(bad, chunks=(100, 4)))) as rounds,
        pytest.raises(DataError, match=r"NaN, for instance at row 30, column 2.*block 7"),
    ):
        rounds.reduce(measure_shard, Moments.merge, 4)
