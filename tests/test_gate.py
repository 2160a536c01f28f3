"""The gate for Dask arrays: the blocks hold what went in, or it is refused before any work."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from dparallel.blocks.gate import Block, gather
from dparallel.errors import AlignmentError, DataError, DataKindError

rng = np.random.default_rng(0)
ROWS = rng.normal(size=(60, 5))


def compute(blocks):
    """All the blocks of a Dask input, computed in this thread."""
    return list(dask.get(blocks.graph, list(blocks.keys)))


def stacked(blocks):
    return np.vstack([block.X for block in compute(blocks)])


class Reads:
    """Counts how often each block is made."""

    def __init__(self):
        self.seen = []

    def __call__(self, rows, block_info=None):
        if block_info:  # Dask calls once with nothing to learn the type
            self.seen.append(block_info[0]["chunk-location"])
        return rows


@st.composite
def cuts(draw, total):
    """Chunk lengths, zeros among them, that add up to total."""
    bounds = sorted(draw(st.lists(st.integers(0, total), max_size=6)))
    return tuple(int(stop - start) for start, stop in zip([0, *bounds], [*bounds, total]))


@settings(max_examples=40)
@given(st.data())
def test_blocks_hold_the_rows_whatever_the_chunks(data):
    n_rows, n_columns = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
    N = ROWS[:n_rows, :n_columns].astype(data.draw(st.sampled_from(["float32", "float64", "int16"])))
    y, weights = np.arange(n_rows), np.arange(n_rows) + 0.5
    columns = tuple(width for width in data.draw(cuts(n_columns)) if width)
    rows = data.draw(cuts(n_rows))
    X = da.from_array(N, chunks=(rows, columns))
    given_y = data.draw(st.sampled_from([y, da.from_array(y, chunks=(data.draw(cuts(n_rows)),))]))
    given_weights = data.draw(st.sampled_from([weights, da.from_array(weights, chunks=(data.draw(cuts(n_rows)),))]))
    blocks = gather(X, given_y, given_weights)
    made = compute(blocks)
    assert blocks.rows == rows and blocks.n_rows == n_rows and blocks.n_features == n_columns
    assert [block.n_rows for block in made] == list(rows)
    assert [block.index for block in made] == list(range(len(rows)))
    assert {block.X.dtype for block in made} == {blocks.dtype}
    np.testing.assert_array_equal(np.vstack([block.X for block in made]), N)
    np.testing.assert_array_equal(np.concatenate([block.y for block in made]), y)
    np.testing.assert_array_equal(np.concatenate([block.sample_weight for block in made]), weights)


@settings(max_examples=20)
@given(st.data())
def test_blocks_of_unknown_lengths_pair_with_their_weights(data):
    X = da.from_array(ROWS, chunks=(data.draw(cuts(60)), data.draw(st.sampled_from([2, 5]))))
    keep = X[:, 0] > data.draw(st.floats(-1, 1))
    some = X[keep]
    blocks = gather(some, some[:, :2], some[:, 1] ** 2)
    made = compute(blocks)
    assert blocks.rows == (None,) * X.numblocks[0] and blocks.n_rows is None
    wanted = ROWS[keep.compute(scheduler="sync")]
    np.testing.assert_array_equal(np.vstack([block.X for block in made]), wanted)
    np.testing.assert_array_equal(np.vstack([block.y for block in made]), wanted[:, :2])
    np.testing.assert_array_equal(np.concatenate([block.sample_weight for block in made]), wanted[:, 1] ** 2)


def test_one_weight_serves_all_rows():
    made = compute(gather(da.from_array(ROWS, chunks=(25, 5)), sample_weight=2))
    assert [block.sample_weight.tolist() for block in made] == [[2.0] * 25, [2.0] * 25, [2.0] * 10]


@pytest.mark.parametrize("weight, words", [(0, "non-zero"), (-1, "Negative"), (np.inf, "infinity")])
def test_one_wrong_weight_is_refused_at_once(weight, words):
    with pytest.raises(DataError, match=words):
        gather(da.from_array(ROWS, chunks=(25, 5)), sample_weight=weight)


def test_gathering_reads_nothing_and_each_block_is_read_once():
    reads = Reads()
    X = da.from_array(ROWS, chunks=(20, 5)).map_blocks(reads, dtype=float)
    blocks = gather(X, np.arange(60), X[:, 0] ** 2)
    assert reads.seen == []
    compute(blocks)
    assert sorted(reads.seen) == [(0, 0), (1, 0), (2, 0)]


def test_a_task_carries_only_its_own_rows():
    N = rng.normal(size=(1000, 50))
    blocks = gather(da.from_array(N, chunks=(100, 25)), N[:, 0], N[:, 1] ** 2)
    graph = dask.optimization.cull(blocks.graph, [blocks.keys[3]])[0]
    assert len(pickle.dumps(graph)) < 1.2 * (100 * 52 * 8) + 4000


def test_a_plain_chain_becomes_one_task_per_block():
    X = (da.random.default_rng(0).random((1000, 4), chunks=(10, 4)) + 1) * 2
    tasks = [key for key, task in gather(X).graph.items() if type(task).__name__ != "Alias"]
    assert len(tasks) == 100


def test_two_fits_of_the_same_data_share_no_block_keys():
    X = da.from_array(ROWS, chunks=(20, 5))
    assert not set(gather(X).keys) & set(gather(X).keys)


@pytest.mark.parametrize(
    "dtype, computed", [("f4", "f4"), ("f8", "f8"), ("f2", "f8"), ("i8", "f8"), ("?", "f8"), ("O", "f8")]
)
def test_dask_dtypes_are_those_of_local_data(dtype, computed):
    N = (ROWS > 0).astype(dtype)
    blocks = gather(da.from_array(N, chunks=(25, 2)))
    assert blocks.dtype == gather(N).dtype == np.dtype(computed)
    assert stacked(blocks).dtype == np.dtype(computed)
    np.testing.assert_array_equal(stacked(blocks), gather(N).local.X)


def test_objects_that_are_not_numbers_name_their_block():
    N = ROWS.astype(object)
    N[30, 1] = {"a": 1}
    with pytest.raises(TypeError, match=r"Block 1 .*argument must be .* string.* number"):
        compute(gather(da.from_array(N, chunks=(25, 5))))


@pytest.mark.parametrize(
    "X, error, words",
    [
        (da.ones(3), DataError, "Reshape your data"),
        (da.ones((3, 2, 1)), DataError, "Found array with dim 3, while dim <= 2 is required by Toy"),
        (da.ones((0, 3)), DataError, r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required by Toy"),
        (da.ones((3, 0)), DataError, r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of \d* is required."),
        (da.ones((3, 2)) * 1j, DataError, "Complex data not supported"),
        (da.ones((3, 2)).astype("U3"), DataKindError, "dtype <U3.*astype"),
        (da.ones((3, 2)).astype("datetime64[s]"), DataKindError, "datetime64"),
        (da.ones((3, 2))[:, da.ones(2) > 0], DataError, r"unknown number of columns.*compute_chunk_sizes\(\)"),
        (da.ones((3, 2)).map_blocks(scipy.sparse.csr_matrix), DataKindError, "Sparse data was passed.*toarray"),
        (dask.delayed(ROWS), DataKindError, "Delayed.*from_delayed"),
    ],
)
def test_dask_data_are_refused_before_any_work(X, error, words):
    with pytest.raises(error, match=words):
        gather(X, owner="Toy")


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csr_array, scipy.sparse.csc_matrix])
@pytest.mark.parametrize("columns", [2, 5])
def test_sparse_blocks_come_out_as_csr(make, columns):
    N = np.where(ROWS > 0, ROWS, 0).astype("float32")
    blocks = gather(da.from_array(N, chunks=(25, columns)).map_blocks(make), accept_sparse=True)
    made = compute(blocks)
    assert blocks.is_sparse and {block.X.format for block in made} == {"csr"}
    assert blocks.dtype == np.float32 == made[0].X.dtype
    np.testing.assert_array_equal(np.vstack([block.X.toarray() for block in made]), N)


def test_sparse_blocks_that_were_not_announced_are_refused_with_the_remedy():
    X = da.from_array(ROWS, chunks=(25, 5)).map_blocks(scipy.sparse.csr_matrix, meta=np.empty((0, 0)))
    with pytest.raises(DataKindError, match=r"Block \d of X is sparse.*meta=scipy.sparse.csr_matrix"):
        compute(gather(X, accept_sparse=True))


class DeviceRows:
    """Rows on a GPU, as cupy has them: no conversion but get()."""

    def __init__(self, rows):
        self.rows, self.shape, self.dtype, self.ndim = rows, rows.shape, rows.dtype, rows.ndim

    def get(self):
        return self.rows

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


def test_blocks_on_a_gpu_are_brought_to_the_host():
    X = da.from_array(ROWS, chunks=(25, 5)).map_blocks(DeviceRows, meta=np.empty((0, 0)))
    np.testing.assert_array_equal(stacked(gather(X, sample_weight=1)), ROWS)


def test_a_block_of_another_width_is_named():
    X = da.from_array(ROWS, chunks=(25, 5)).map_blocks(
        lambda rows: rows[:, :4] if len(rows) == 10 else rows, dtype=float
    )
    with pytest.raises(DataError, match=r"Block 2 of X has shape \(10, 4\), and X announces 5 features"):
        compute(gather(X))


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_a_block_of_another_length_is_named(name):
    X = da.from_array(ROWS, chunks=(25, 5))
    X = X[X[:, 0] > -9]
    other = X[:, 0].map_blocks(lambda rows: abs(rows[1:]) if len(rows) == 10 else abs(rows), dtype=float)
    blocks = gather(X, **{name: other})
    with pytest.raises(AlignmentError, match=f"Block 2 of X has 10 rows, and block 2 of {name} has 9"):
        compute(blocks)


@pytest.mark.parametrize("value, words", [(-1, "Negative values .*of block 1"), (np.nan, "of block 1 contains NaN")])
def test_a_wrong_weight_names_its_block(value, words):
    weights = np.ones(60)
    weights[30] = value
    with pytest.raises(DataError, match=words):
        compute(gather(da.from_array(ROWS, chunks=(25, 5)), sample_weight=weights))


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_unknown_and_known_lengths_are_refused_before_any_work(name):
    reads = Reads()
    X = da.from_array(ROWS, chunks=(20, 5)).map_blocks(reads, dtype=float)
    some = X[X[:, 0] > 0]
    with pytest.raises(
        AlignmentError, match=rf"unknown row counts \(3 blocks\), and {name} has 2 blocks.*compute_chunk"
    ):
        gather(some, **{name: da.ones(60, chunks=30)})
    with pytest.raises(AlignmentError, match=rf"unknown row counts.*{name} is an array of 60 rows in memory"):
        gather(some, **{name: np.ones(60)})
    with pytest.raises(AlignmentError, match=f"X has 60 rows, and {name} has 61"):
        gather(X, **{name: da.ones(61)})
    assert reads.seen == []


def test_weights_of_known_lengths_pair_with_unknown_ones_if_the_blocks_agree():
    X = da.from_array(ROWS, chunks=(20, 5))
    everything = X[X[:, 0] > -9]
    assert [b.n_rows for b in compute(gather(everything, sample_weight=da.ones(60, chunks=20)))] == [20, 20, 20]
    assert [b.n_rows for b in compute(gather(X, sample_weight=abs(everything[:, 0])))] == [20, 20, 20]


def test_block_counts_its_bytes_and_survives_pickle():
    block = Block(ROWS, np.arange(60), np.ones(60), 3)
    assert block.nbytes == ROWS.nbytes + 60 * 16
    assert dask.sizeof.sizeof(block) >= block.nbytes
    again = pickle.loads(pickle.dumps(block))
    assert again.index == 3 and np.array_equal(again.X, ROWS)
    sparse = Block(scipy.sparse.csr_matrix(np.eye(3)))
    assert sparse.nbytes == sparse.X.data.nbytes + sparse.X.indices.nbytes + sparse.X.indptr.nbytes
