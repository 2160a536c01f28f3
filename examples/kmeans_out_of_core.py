"""
Files on disk, read again in every round
========================================

Half a gigabyte of rows is written to files and clustered from there by the threads of this process, without ever being
in memory as a whole. Every round reads all files again, since ``dparallel.persist`` is set to False. By default
dparallel would keep what fits into 40 % of the free memory, and read only the rest again.

The files are Parquet, read through Dask dataframes, where pandas and pyarrow are installed, else ``.npy`` files read
through Dask arrays. The labels are written in the same way, file by file.
"""

import resource
import sys
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import dask
import dask.array as da
import numpy as np

from dparallel import ParallelKMeans
from dparallel.errors import StreamingWarning

N_FILES = 40
FILE_SHAPE = (100_000, 16)
N_CLUSTERS = 10
COLUMNS = [f"x{i}" for i in range(FILE_SHAPE[1])]
HAS_PARQUET = find_spec("pandas") is not None and find_spec("pyarrow") is not None


def main():
    ParallelKMeans(2).fit(np.eye(4))  # so that the memory for compiling is not taken for that of the files
    with tempfile.TemporaryDirectory() as name, dask.config.set({"dparallel.persist": False}):
        folder = Path(name)
        if HAS_PARQUET:
            cluster_parquet(folder)
        else:
            cluster_npy(folder)


def cluster_parquet(folder):
    """Rows and labels as columns of a dataframe."""
    import dask.dataframe as dd

    dd.from_map(draw_frame, range(N_FILES)).to_parquet(folder / "rows", write_index=False)
    print(f"{size_mb(folder / 'rows'):.0f} MB in {N_FILES} Parquet files")
    df = dd.read_parquet(folder / "rows")
    model = fit(df[COLUMNS])

    df["cluster"] = model.predict(df[COLUMNS])
    df.to_parquet(folder / "clustered", write_index=False)
    written = dd.read_parquet(folder / "clustered")
    print(f"\nwritten with a column more: {size_mb(folder / 'clustered'):.0f} MB")
    summary = written.groupby("cluster").agg({"x0": ["count", "mean"], "x1": "mean", "x2": "mean"})
    print(summary.compute().sort_index().to_string(float_format="{:.3f}".format))


def cluster_npy(folder):
    """Rows and labels as stacks of .npy files."""
    chunks = ((FILE_SHAPE[0],) * N_FILES, FILE_SHAPE[1])
    rows = da.map_blocks(draw_numbered, chunks=chunks, dtype=float, meta=np.empty((0, 0)))
    da.to_npy_stack(folder / "rows", rows)
    print(f"{size_mb(folder / 'rows'):.0f} MB in {N_FILES} .npy files (Parquet needs pandas and pyarrow)")
    X = da.from_npy_stack(folder / "rows")
    model = fit(X)

    da.to_npy_stack(folder / "labels", model.predict(X))
    labels = da.from_npy_stack(folder / "labels")
    print(f"\nlabels written: {size_mb(folder / 'labels'):.0f} MB")
    print("rows per cluster:", *da.bincount(labels, minlength=N_CLUSTERS).compute())


def fit(X):
    """Fit, and print what it cost."""
    before = peak_mb()
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StreamingWarning)  # it says that files are read in every round, as we wish
        model = ParallelKMeans(N_CLUSTERS, random_state=3).fit(X)
    print(f"fit: {time.perf_counter() - started:.1f} s, {model.n_iter_} rounds. {model.stop_reason_}")
    print(f"median round, reading all files: {np.median([r.seconds for r in model.history_]):.2f} s")
    print(f"peak memory of this process: {before:.0f} MB before the fit, {peak_mb():.0f} MB after it")
    return model


def draw(number):
    """The rows of one file: a Gaussian mixture whose draws are seeded by the file's number."""
    means = np.random.default_rng(7).uniform(-2, 2, size=(N_CLUSTERS, FILE_SHAPE[1]))
    rng = np.random.default_rng([1, number])
    return means[rng.integers(N_CLUSTERS, size=FILE_SHAPE[0])] + rng.normal(size=FILE_SHAPE)


def draw_numbered(block_info=None):
    return draw(block_info[None]["chunk-location"][0])


def draw_frame(number):
    import pandas as pd

    return pd.DataFrame(draw(number), columns=COLUMNS)


def size_mb(folder):
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def peak_mb():
    """The most memory that this process has held so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes on macOS, kB elsewhere


if __name__ == "__main__":
    main()
