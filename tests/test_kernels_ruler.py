"""Frames, movements of centres, and the choice between dense and sparse loops."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from dparallel.errors import DataError
from dparallel.kernels import lloyd_csr, ruler
from dparallel.kernels.ruler import Frame, Held, Ruler, block_moments
from tests import twins

rng = np.random.default_rng(2)


@given(st.integers(-60, 60), st.sampled_from([0.0, 1.0, -1e4, 1e8]), st.integers(0, 10**6))
def test_entering_and_leaving_a_frame_gives_the_points_back(exponent, offset, seed):
    points = offset + np.random.default_rng(seed).normal(size=(9, 4))
    frame = Frame(points[0].copy(), 2.0**exponent)
    np.testing.assert_allclose(frame.leave(frame.enter(points)), points, rtol=1e-15, atol=1e-15 * (1 + abs(offset)))


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_a_unit_frame_keeps_the_direction_of_centres_of_any_size(size):
    points = size * np.array([[3.0, 4.0], [0.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(Frame(np.zeros(2), 1.0, True).enter(points), [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-12)


@given(
    n_clusters=st.integers(1, 70),
    n_features=st.integers(1, 30),
    step=st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 1e6]),
    seed=st.integers(0, 10**6),
)
def test_movements_are_not_understated_and_gaps_not_overstated(n_clusters, n_features, step, seed):
    random = np.random.default_rng(seed)
    before = random.normal(size=(n_clusters, n_features))
    after = before + step * random.normal(size=before.shape)
    motion = Ruler(Frame(np.zeros(n_features)), after).motion_from(before)
    moved = np.sqrt(((after.astype(np.longdouble) - before) ** 2).sum(axis=1))
    assert (motion.moved >= moved).all() and (motion.moved <= moved * (1 + 3e-6)).all()
    if n_clusters == 1:
        return
    for j in range(n_clusters):
        assert motion.others[j] >= np.delete(moved, j).max()
    squares = twins.squared_distances(after, after)
    np.fill_diagonal(squares, np.inf)
    gap = np.sqrt(squares.min(axis=1)) / 2
    assert (motion.gap <= gap * (1 + 1e-7)).all() and (motion.gap >= gap * 0.99 - 1e-3 * step).all()


def test_centres_that_coincide_have_no_gap():
    centres = np.repeat(rng.normal(size=(3, 5)), 2, axis=0)
    assert not Ruler(Frame(np.zeros(5)), centres).motion_from(None).gap.any()


@pytest.mark.parametrize("size", [1e20, 1e60, 1e140])
@pytest.mark.filterwarnings("error")
def test_a_centre_far_outside_is_measured_without_warnings(size):
    X = rng.normal(size=(300, 3))
    X[7] = 0
    before = np.vstack([X[:3], np.full((1, 3), size)])
    first = Ruler(Frame(np.zeros(3)), before)
    held = Held(300, True)
    first.assign(X, None, held, first.motion_from(None), first=True)
    twins.assert_nearest(held.labels, X, before[:3])
    after = Ruler(Frame(np.zeros(3)), np.vstack([X[3:6], X[:1]]))
    after.assign(X, None, held, after.motion_from(before), first=False)
    twins.assert_nearest(held.labels, X, after.centres)


def test_labels_do_not_depend_on_how_rows_are_cut():
    X = rng.normal(size=(9000, 6))
    measure = Ruler(Frame(np.zeros(6)), rng.normal(size=(37, 6)))
    whole = measure.labels(X)
    for cut in (1, 63, 4096, 5000):
        assert (np.concatenate([measure.labels(X[:cut]), measure.labels(X[cut:])]) == whole).all()


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_no_rows_have_no_labels_and_no_distances(make):
    X = make(np.empty((0, 4)))
    measure = Ruler(Frame(np.zeros(4)), np.eye(4))
    labels = measure.labels(X)
    assert labels.shape == (0,) and labels.dtype == np.int32
    assert measure.squared_distances(X, labels).shape == (0,)
    assert measure.distances(X).shape == (0, 4)


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_few_rows_come_out_dense_in_float64(make, dtype):
    dense = rng.integers(0, 3, (20, 5)).astype(dtype)
    rows = ruler.dense_rows(make(dense), np.array([3, 3, 19]))
    assert rows.dtype == np.float64 and (rows == dense[[3, 3, 19]]).all()
    assert ruler.dense_rows(make(dense), np.empty(0, np.int64)).shape == (0, 5)


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_rows_of_zeros_are_found_and_rows_that_sum_to_zero_are_not(make):
    assert ruler.blank_rows(make(np.array([[0.0, 0.0], [1.0, -1.0], [0.0, 1e-300]]))).tolist() == [True, False, False]


def test_blame_names_nan_before_infinity():
    X = np.ones((4, 3))
    X[1, 2], X[3, 0] = np.inf, np.nan
    assert "NaN" in ruler.blame(X) and "NaN" in ruler.blame(scipy.sparse.csr_matrix(X))


def test_blame_finds_row_and_column_behind_empty_rows():
    X = scipy.sparse.csr_matrix(([1.0, np.inf], [1, 2], [0, 0, 1, 1, 1, 2, 2]), shape=(6, 3))
    assert "infinity, for instance at row 4, column 2" in ruler.blame(X)


def test_values_whose_squares_overflow_are_called_too_large():
    with pytest.raises(DataError, match="so large"):
        Ruler(Frame(np.zeros(2)), np.array([[1e200, 1.0]])).labels(np.array([[1e200, 0.0]]))


def test_rows_at_an_odd_address_are_measured_as_if_they_lay_evenly():
    rows = np.random.default_rng(0).normal(size=(200, 5))
    odd = np.frombuffer(b"x" + rows.tobytes(), np.uint8)[1:].view(np.float64).reshape(rows.shape)
    assert not odd.flags.aligned
    ruler = Ruler(Frame(np.zeros(5)), rows[:4].copy())
    np.testing.assert_array_equal(ruler.labels(odd), ruler.labels(rows))
    np.testing.assert_array_equal(ruler.distances(odd), ruler.distances(rows))
    for a, b in zip(block_moments(odd, None), block_moments(rows, None)):
        np.testing.assert_array_equal(a, b)


def test_read_only_csr_parts_are_measured_by_the_same_compiled_variant():
    X = scipy.sparse.random(50, 6, 0.5, format="csr", random_state=0)
    frozen = X.copy()
    for part in (frozen.data, frozen.indices, frozen.indptr):
        part.flags.writeable = False
    ruler = Ruler(Frame(np.zeros(6)), X[:4].toarray())
    expected = ruler.labels(X)
    variants = len(lloyd_csr.assign.signatures)
    np.testing.assert_array_equal(ruler.labels(frozen), expected)
    assert len(lloyd_csr.assign.signatures) == variants
