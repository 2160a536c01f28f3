"""The gate for local data: no copy where none is needed, and scikit-learn's words where they are refused."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse

from dparallel.blocks.gate import gather
from dparallel.errors import AlignmentError

rng = np.random.default_rng(0)
ROWS = rng.normal(size=(60, 5))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_local_floats_stay_as_they_are(order, dtype):
    X = np.array(ROWS, dtype=dtype, order=order)
    X.flags.writeable = False
    blocks = gather(X)
    assert np.shares_memory(blocks.local.X, X)
    assert blocks.local.X.flags == X.flags
    assert (blocks.kind, blocks.dtype, blocks.rows, blocks.n_features) == ("numpy", dtype, (60,), 5)
    assert not blocks.is_dask and not blocks.is_sparse and not blocks.weighted


def test_memory_map_is_not_read(tmp_path):
    np.save(tmp_path / "X.npy", ROWS)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.shares_memory(gather(X).local.X, X)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool", "float16", ">f8", "object"])
def test_other_numbers_become_float64(dtype):
    X = (ROWS > 0).astype(dtype)
    for blocks in (gather(X), gather(X.tolist())):
        assert blocks.local.X.dtype == np.dtype("float64")
        np.testing.assert_array_equal(blocks.local.X, ROWS > 0)


def test_masked_values_become_nan():
    X = np.ma.masked_greater(ROWS, 1)
    np.testing.assert_array_equal(gather(X).local.X, np.where(ROWS > 1, np.nan, ROWS))


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil"])
@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_sparse_input_becomes_csr(kind, make):
    X = make(np.where(ROWS > 0, ROWS, 0))
    block = gather(X.asformat(kind), accept_sparse=True).local
    assert block.X.format == "csr"
    assert (block.X != X).nnz == 0
    assert np.shares_memory(block.X.data, X.data) or kind != "csr"


def test_long_sparse_indices_are_kept():
    X = scipy.sparse.csr_matrix(np.eye(4))
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    assert gather(X, accept_sparse=True).local.X.indices.dtype == np.int64


def test_duplicate_sparse_entries_are_added_up_in_a_copy():
    X = scipy.sparse.csr_matrix(([1.0, 2.0, 3.0], [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    np.testing.assert_array_equal(gather(X, accept_sparse=True).local.X.data, [3, 3])
    assert X.nnz == 3


@pytest.mark.parametrize(
    "X, error, words",
    [
        (np.ones(3), ValueError, "Reshape your data"),
        (np.ones((0, 3)), ValueError, r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required by Toy"),
        (np.ones((3, 0)), ValueError, r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of \d* is required"),
        (np.ones((3, 2, 1)), ValueError, "Found array with dim 3"),
        (np.ones((3, 2)) * 1j, ValueError, "Complex data not supported"),
        (scipy.sparse.csr_matrix(np.eye(2)), TypeError, "Sparse data was passed"),
        (np.matrix([[1.0]]), TypeError, "np.matrix"),
        ([["a", "b"]], ValueError, "could not convert string to float"),
    ],
)
def test_local_data_are_refused_in_the_words_of_scikit_learn(X, error, words):
    with pytest.raises(error, match=words):
        gather(X, owner="Toy")


@pytest.mark.parametrize("weights", [np.ones(60, "float32"), [1] * 60, 1, 1.0, np.float32(1), np.ones(60, bool)])
def test_local_weights_become_float64(weights):
    block = gather(ROWS, sample_weight=weights).local
    assert block.sample_weight.dtype == np.float64
    np.testing.assert_array_equal(block.sample_weight, np.ones(60))


@pytest.mark.parametrize(
    "weights, words",
    [
        (np.ones(59), r"sample_weight.shape == \(59,\), expected \(60,\)"),
        (np.ones((60, 1)), "must be 1D array or scalar, got 2D array"),
        (np.full(60, np.nan), "NaN or infinity"),
        (-1, "Negative values in data passed to `sample_weight`"),
        (np.zeros(60), "Sample weights must contain at least one non-zero number"),
        (da.ones(60), r"sample_weight.compute\(\)"),
    ],
)
def test_wrong_local_weights_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        gather(ROWS, sample_weight=weights)


@pytest.mark.parametrize("y", [np.arange(60), [str(row) for row in range(60)], rng.normal(size=(60, 2))])
def test_local_y_keeps_its_values(y):
    np.testing.assert_array_equal(gather(ROWS, y).local.y, np.asarray(y))


@pytest.mark.parametrize("y", [np.ones(59), da.ones(60)])
def test_local_y_that_does_not_fit_is_refused(y):
    with pytest.raises(AlignmentError):
        gather(ROWS, y)


def at_an_odd_address(array):
    """The same numbers where a message from another process might have put them."""
    memory = np.empty(array.nbytes + 1, np.uint8)
    odd = memory[1:].view(array.dtype).reshape(array.shape)
    odd[...] = array
    assert not odd.flags.aligned
    return odd


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_what_came_over_a_network_is_moved_once_to_where_kernels_read_it(kind):
    X, weights = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20.0)
    given = X
    if kind == "dense":
        odd = at_an_odd_address(X)
    else:
        given = scipy.sparse.csr_matrix(X)
        parts = tuple(map(at_an_odd_address, (given.data, given.indices, given.indptr)))
        odd = scipy.sparse.csr_matrix(parts, shape=X.shape, copy=False)
    block = gather(odd, sample_weight=at_an_odd_address(weights), accept_sparse=True).local
    for part in (
        *((block.X,) if kind == "dense" else (block.X.data, block.X.indices, block.X.indptr)),
        block.sample_weight,
    ):
        assert part.flags.aligned
    np.testing.assert_array_equal(block.X.toarray() if kind == "csr" else block.X, X)
    np.testing.assert_array_equal(block.sample_weight, weights)
    assert gather(given, accept_sparse=True).local.X is given  # what lies well is not copied
