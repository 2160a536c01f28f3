"""Predictions come out in the kind of container that went in, lazily where that is lazy."""

import pickle
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from dparallel import place
from dparallel.blocks.outputs import apply
from dparallel.errors import DataError, DataKindError

rng = np.random.default_rng(0)
ROWS = rng.normal(size=(60, 5))


def label(X):
    """A whole number per row."""
    return np.asarray(X.sum(axis=1)).ravel() > 0


def two(X):
    """Two columns per row."""
    total = np.asarray(X.sum(axis=1)).ravel()
    return np.column_stack([total, -total])


class Heavy:
    """A function that carries a large model."""

    def __init__(self):
        self.weights = np.ones((50_000, 5))

    def __call__(self, X):
        return X @ self.weights[0]


class Reads:
    """Counts how often each block is made."""

    def __init__(self):
        self.seen = []

    def __call__(self, rows, block_info=None):
        if block_info:
            self.seen.append(block_info[0]["chunk-location"])
        return rows


@pytest.mark.parametrize("make", [np.array, np.asfortranarray, np.ndarray.tolist])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_local_rows_give_arrays(make, dtype):
    labels = apply(make(ROWS), label, dtype=dtype)
    assert labels.dtype == dtype and isinstance(labels, np.ndarray)
    np.testing.assert_array_equal(labels, label(ROWS))
    both = apply(make(ROWS), two, dtype=dtype, columns=["plus", "minus"])
    assert both.dtype == dtype
    np.testing.assert_array_equal(both, two(ROWS).astype(dtype))


@pytest.mark.parametrize("n_rows", [1, 1024, 50_001])
@pytest.mark.parametrize("make", [np.array, scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_threads_cut_the_rows_and_put_them_together_again(n_rows, make, monkeypatch):
    monkeypatch.setattr(place, "count_threads", lambda: 3)
    X = make(np.where(rng.random((n_rows, 6)) > 0.5, 1.5, 0))
    heights = []

    def watched(rows):
        heights.append(rows.shape[0])
        return two(rows)

    np.testing.assert_array_equal(apply(X, watched, dtype=float, columns="ab", accept_sparse=True), two(X))
    assert len(heights) == (3 if n_rows > 2000 else 1) and sum(heights) == n_rows


def test_an_error_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(place, "count_threads", lambda: 2)

    def picky(rows):
        if rows[-1, 0] == 1:
            raise DataError("Input X contains NaN.")
        return rows[:, 0]

    X = np.zeros((100_000, 2))
    X[-1] = 1
    with pytest.raises(DataError, match=r"Input X contains NaN\."):
        apply(X, picky, dtype=float)


def test_a_function_that_loses_rows_is_refused():
    with pytest.raises(DataError, match=r"returned shape \(59,\) for 60 rows, and \(60,\) is needed"):
        apply(ROWS, lambda rows: rows[1:, 0], dtype=float)


def test_sparse_rows_are_refused_where_dense_ones_are_needed():
    for X in (scipy.sparse.eye(3, format="csr"), da.ones((3, 2)).map_blocks(scipy.sparse.csr_matrix)):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            apply(X, label, dtype=int)


@settings(max_examples=30)
@given(st.data())
def test_dask_arrays_give_lazy_arrays_with_the_same_rows(data):
    bounds = sorted(data.draw(st.lists(st.integers(0, 60), max_size=5)))
    rows = tuple(stop - start for start, stop in zip([0, *bounds], [*bounds, 60]))
    X = da.from_array(ROWS, chunks=(rows, data.draw(st.sampled_from([2, 5]))))
    if data.draw(st.booleans()):
        X = X[X[:, 0] > 0]
    labels = apply(X, label, dtype="int32")
    both = apply(X, two, dtype="float32", columns=["plus", "minus"])
    np.testing.assert_array_equal(labels.chunks[0], X.chunks[0])
    np.testing.assert_array_equal(both.chunks[0], X.chunks[0])
    assert labels.ndim == 1 and both.chunks[1] == (2,)
    assert (labels.dtype, both.dtype) == (np.int32, np.float32)
    N, got_labels, got_both = dask.compute(X, labels, both, scheduler="sync")
    assert (got_labels.dtype, got_both.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(got_labels, label(N))
    np.testing.assert_array_equal(got_both, two(N).astype("float32"))


def test_meta_is_that_of_the_results():
    X = da.from_array(ROWS, chunks=25).map_blocks(scipy.sparse.csr_matrix)
    labels = apply(X, label, dtype="int32", accept_sparse=True)
    both = apply(X, two, dtype="float32", columns="ab", accept_sparse=True)
    for result, shape in ((labels, (0,)), (both, (0, 0))):
        assert isinstance(result._meta, np.ndarray) and result._meta.dtype == result.dtype
        assert result._meta.ndim == len(shape)
    np.testing.assert_array_equal(labels.compute(), label(ROWS))


def test_nothing_is_read_until_asked_and_then_each_block_once():
    reads = Reads()
    X = da.from_array(ROWS, chunks=(20, 5)).map_blocks(reads, dtype=float)
    labels = apply(X, label, dtype=int)
    assert reads.seen == []
    labels.compute(scheduler="sync")
    assert sorted(reads.seen) == [(0, 0), (1, 0), (2, 0)]
    reads.seen.clear()
    labels[45].compute(scheduler="sync")
    assert reads.seen == [(2, 0)]


def test_a_large_model_is_in_the_graph_once():
    X = da.from_array(ROWS, chunks=(2, 5))
    labels = apply(X, Heavy(), dtype=float)
    graph = labels.__dask_optimize__(labels.__dask_graph__(), labels.__dask_keys__())
    sizes = sorted(len(pickle.dumps(task)) for task in graph.values())
    assert sizes[-1] > 2_000_000 and sizes[-2] < 10_000


def test_a_wrong_block_is_named():
    def picky(rows):
        if (rows == ROWS[30, 0]).any():
            raise DataError("Input X contains NaN.")
        return rows[:, 0]

    with pytest.raises(DataError, match=r"Block 1 of X: Input X contains NaN\."):
        apply(da.from_array(ROWS, chunks=(25, 5)), picky, dtype=float).compute(scheduler="sync")


def test_predicting_needs_neither_a_client_nor_distributed():
    program = (
        "import sys, numpy as np, dask.array as da\n"
        "sys.modules['distributed'] = None\n"
        "from dparallel.blocks.outputs import apply\n"
        "X = da.ones((10, 3), chunks=(4, 3))\n"
        "print(apply(X, lambda rows: rows.sum(axis=1), dtype=float).compute().sum())\n"
        "print(apply(np.ones((10, 3)), lambda rows: rows.sum(axis=1), dtype=float).sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["30.0", "30.0"]


@pytest.fixture
def frames(tmp_path):
    """A pandas dataframe with gaps, and the same read from Parquet without known divisions."""
    pytest.importorskip("pyarrow")
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    df = pd.DataFrame(ROWS, columns=list("abcde"))
    df["text"] = [f"row {number} of many, all of them long" for number in range(60)]
    dd.from_pandas(df, npartitions=4).to_parquet(tmp_path / "rows")
    return df, dd.read_parquet(tmp_path / "rows")


def test_predictions_become_a_column_straight_from_parquet_and_back(frames, tmp_path):
    df, ddf = frames
    assert not ddf.known_divisions
    columns = ["a", "b"]
    ddf["cluster"] = apply(ddf[columns], label, dtype="int32")
    ddf.to_parquet(tmp_path / "out")
    dd = pytest.importorskip("dask.dataframe")
    back = dd.read_parquet(tmp_path / "out").compute()
    assert back["cluster"].dtype == np.int32
    np.testing.assert_array_equal(back["cluster"], label(df[columns].to_numpy()))
    np.testing.assert_array_equal(back["text"], df["text"])


@pytest.mark.parametrize("n_partitions", [1, 3])
def test_dask_dataframes_give_frames_with_the_same_index_and_partitions(n_partitions):
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    index = pd.Index(np.arange(60) * 3, name="id")
    df = pd.DataFrame(ROWS.astype("float32"), columns=list("abcde"), index=index)
    ddf = dd.from_pandas(df, npartitions=n_partitions)
    labels = apply(ddf, label, dtype="int32")
    both = apply(ddf, two, dtype="float32", columns=["plus", "minus"])
    for result in (labels, both):
        assert result.divisions == ddf.divisions and result.known_divisions
        assert result.compute(scheduler="sync").index.equals(index)
    assert isinstance(labels, dd.Series) and labels.name is None and labels.dtype == np.int32
    assert list(both.columns) == ["plus", "minus"] and set(both.dtypes) == {np.dtype("float32")}
    np.testing.assert_array_equal(both.compute(scheduler="sync"), two(df.to_numpy()))
    dd.utils.assert_eq(labels, pd.Series(label(ROWS), index=index).astype("int32"), scheduler="sync")


def test_dask_dataframes_are_not_computed_until_asked(frames):
    df, ddf = frames
    seen = []
    watched = ddf[["a"]].map_partitions(lambda part: seen.append(len(part)) or part, meta=ddf[["a"]])
    labels = apply(watched, label, dtype=int)
    assert seen == []
    assert labels.compute(scheduler="sync").tolist() == (df["a"] > 0).tolist()
    assert sum(seen) == 60


def test_pandas_gives_an_array(frames):
    df, _ = frames
    np.testing.assert_array_equal(apply(df[["a", "b"]], label, dtype=int), label(df[["a", "b"]].to_numpy()))
    with pytest.raises(ValueError, match="could not convert string to float"):
        apply(df, label, dtype=int)


def test_columns_of_text_are_refused_by_name(frames):
    _, ddf = frames
    with pytest.raises(DataKindError, match="'text'"):
        apply(ddf, label, dtype=int)


@pytest.fixture(scope="module")
def client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_predictions_are_made_on_the_workers(client):
    X = da.from_array(ROWS, chunks=(20, 2)).persist()
    labels = apply(X, Heavy(), dtype=float)
    np.testing.assert_allclose(labels.compute(), ROWS.sum(axis=1))
    assert set(client.has_what()) and labels.persist().sum().compute() == pytest.approx(ROWS.sum())


def test_dataframe_predictions_are_made_on_the_workers(client, frames):
    df, ddf = frames
    ddf["cluster"] = apply(ddf[["a", "b"]], label, dtype="int32")
    np.testing.assert_array_equal(ddf["cluster"].compute(), label(df[["a", "b"]].to_numpy()))
