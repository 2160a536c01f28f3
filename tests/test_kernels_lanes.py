"""The vector loop alone, and the layout of centres that it reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.compat import kernel
from dparallel.kernels import lanes

TILES = [(np.float32, lanes.TILE_ROWS_32, np.int32), (np.float64, lanes.TILE_ROWS_64, np.int64)]


@kernel
def measure_all(tile, packed, half_norms, best, second, nearest):
    for group in range(packed.shape[0]):
        lanes.measure_group(tile, packed, half_norms, group, tile.shape[0], best, second, nearest)


def measure(tile, centres, dtype, label_dtype):
    packed, half_norms = lanes.pack_centres(centres, dtype)
    n_lanes = tile.shape[1]
    best, second = np.full(n_lanes, np.inf, dtype), np.full(n_lanes, np.inf, dtype)
    nearest = np.zeros(n_lanes, label_dtype)
    measure_all(tile, packed, half_norms, best, second, nearest)
    return best, second, nearest


@given(n_clusters=st.integers(1, 70), n_features=st.integers(1, 70), seed=st.integers(0, 10**6))
def test_packed_centres_are_negated_in_groups_and_padding_never_wins(n_clusters, n_features, seed):
    centres = np.random.default_rng(seed).normal(size=(n_clusters, n_features))
    packed, half_norms = lanes.pack_centres(centres, np.float64)
    assert packed.shape == (-(-n_clusters // lanes.GROUP), n_features, lanes.GROUP) and packed.flags.c_contiguous
    for j in range(n_clusters):
        assert (packed[j // lanes.GROUP, :, j % lanes.GROUP] == -centres[j]).all()
    np.testing.assert_allclose(half_norms[:n_clusters], (centres**2).sum(axis=1) / 2, rtol=1e-13)
    assert np.isinf(half_norms[n_clusters:]).all() and len(half_norms) % lanes.GROUP == 0


@pytest.mark.parametrize("dtype, n_lanes, label_dtype", TILES)
@given(n_clusters=st.integers(1, 70), n_features=st.integers(1, 70), seed=st.integers(0, 10**6))
def test_whole_numbers_are_measured_exactly(dtype, n_lanes, label_dtype, n_clusters, n_features, seed):
    random = np.random.default_rng(seed)
    tile = random.integers(-5, 6, (n_features, n_lanes)).astype(dtype)
    centres = random.integers(-5, 6, (n_clusters, n_features)).astype(float)
    values = (centres**2).sum(axis=1)[:, None] / 2 - centres @ tile.astype(float)
    best, second, nearest = measure(tile, centres, dtype, label_dtype)
    assert (best == values.min(axis=0)).all()
    assert (nearest == values.argmin(axis=0)).all()
    ordered = np.sort(np.vstack([values, np.full(n_lanes, np.inf)]), axis=0)
    assert (second == ordered[1]).all()


@pytest.mark.parametrize("dtype, n_lanes, label_dtype", TILES)
def test_lanes_do_not_touch_each_other(dtype, n_lanes, label_dtype):
    random = np.random.default_rng(1)
    tile = random.normal(size=(19, n_lanes)).astype(dtype)
    centres = random.normal(size=(33, 19))
    together = measure(tile, centres, dtype, label_dtype)
    for lane in range(n_lanes):
        alone = np.full_like(tile, 7.0)
        alone[:, (lane + 1) % n_lanes] = tile[:, lane]
        for a, b in zip(together, measure(alone, centres, dtype, label_dtype)):
            assert a[lane] == b[(lane + 1) % n_lanes]


@pytest.mark.parametrize("dtype, n_lanes, label_dtype", TILES)
def test_nan_never_wins_and_shows_as_infinity(dtype, n_lanes, label_dtype):
    tile = np.ones((3, n_lanes), dtype)
    tile[1, 5] = np.nan
    best, second, nearest = measure(tile, np.eye(3), dtype, label_dtype)
    assert np.isinf(best[5]) and np.isinf(second[5]) and nearest[5] == 0
    assert np.isfinite(np.delete(best, 5)).all()


@pytest.mark.parametrize("dtype, n_lanes, label_dtype", TILES)
def test_a_centre_that_is_not_finite_never_wins(dtype, n_lanes, label_dtype):
    centres = np.array([[np.nan, 0.0], [3.0, 4.0], [np.inf, 1.0]])
    best, second, nearest = measure(np.ones((2, n_lanes), dtype), centres, dtype, label_dtype)
    assert (nearest == 1).all() and (best == 12.5 - 7.0).all() and np.isinf(second).all()


@kernel
def add_up(address, zero, size):
    numbers = lanes.pointer_like(address, zero)
    total = 0.0
    for i in range(size):
        total += numbers[i]
    return total


@pytest.mark.parametrize("size", [0, 1, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_address_of_an_array_reads_as_its_numbers(size, dtype):
    values = np.arange(size, dtype=dtype)
    assert add_up(values.ctypes.data, dtype(0), size) == values.sum(dtype=float)
