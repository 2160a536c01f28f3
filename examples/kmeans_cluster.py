"""
More data than a worker can hold
================================

Two worker processes of 1 GB each cluster 1.2 GB of rows. dparallel keeps as many blocks in the workers' memory as its
share of it allows (``dparallel.memory-share``, 0.4 of what is free). The others are made again in every round, one
after another, and a warning says how much that is. The labels do not come here either: each worker writes those of the
blocks that it has.
"""

import logging
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

from dparallel import ParallelKMeans

N_BLOCKS = 100
BLOCK_SHAPE = (50_000, 60)
N_CLUSTERS = 12
MEMORY_LIMIT = 1_000_000_000


def main():
    settings = {"threads_per_worker": 1, "memory_limit": MEMORY_LIMIT, "dashboard_address": "127.0.0.1:0"}
    # without Dask's warning of memory that it does not manage: blocks are such while they are being made
    with LocalCluster(2, silence_logs=logging.ERROR, **settings) as cluster, Client(cluster) as client:
        chunks = ((BLOCK_SHAPE[0],) * N_BLOCKS, BLOCK_SHAPE[1])
        X = da.map_blocks(draw_block, chunks=chunks, meta=np.empty((0, 0), np.float32))
        print(f"{X.nbytes / 1e9:.2f} GB in {N_BLOCKS} blocks, two workers of {MEMORY_LIMIT / 1e9:.2f} GB each")
        before = peak_mb()
        model = fit(X)
        print("\nround  inertia       change    seconds  kB moved")
        for r in model.history_:
            print(f"{r.round:5}  {r.objective:.6e}  {r.change:.2e}  {r.seconds:7.2f}  {r.bytes_moved / 1e3:8.1f}")
        print(model.stop_reason_)
        write_labels(model, X)
        print("\npeak memory of the workers:", ", ".join(f"{peak:.0f} MB" for peak in client.run(peak_mb).values()))
        print(f"growth of this process's peak memory: {peak_mb() - before:.0f} MB")


def fit(X):
    """Fit, and print what dparallel warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = ParallelKMeans(N_CLUSTERS, max_iter=10, random_state=0).fit(X)
    for warning in caught:
        print(f"{warning.category.__name__}: {warning.message}")
    return model


def write_labels(model, X):
    """Have the workers write the labels, one file per block, and count what they wrote."""
    with tempfile.TemporaryDirectory() as folder:
        da.to_npy_stack(folder, model.predict(X))
        n_files = len(list(Path(folder).glob("*.npy")))
        counts = da.bincount(da.from_npy_stack(folder), minlength=N_CLUSTERS).compute()
    print(f"\n{counts.sum():,} labels written to {n_files} files")
    print("rows per cluster:", *counts)


def draw_block(block_info=None):
    """One block of rows in boxes around random means, always the same: its number seeds the draws."""
    means = 0.5 * np.random.default_rng(7).random((N_CLUSTERS, BLOCK_SHAPE[1]), dtype=np.float32)
    rng = np.random.default_rng([1, block_info[None]["chunk-location"][0]])
    rows = rng.random(BLOCK_SHAPE, dtype=np.float32)
    rows += means[rng.integers(N_CLUSTERS, size=len(rows))]
    return rows


def peak_mb():
    """The most memory that this process has held so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes on macOS, kB elsewhere


if __name__ == "__main__":
    main()
