"""The memory that growing a tree takes on a worker, beside the data that it holds anyway."""

import ctypes
import gc
import os

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster, wait

from dparallel import ParallelDecisionTree

N_BLOCKS, N_ROWS, N_FEATURES = 16, 200_000, 28
PEAK = "/proc/self/clear_refs"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(not os.access(PEAK, os.W_OK), reason="only Linux forgets a process's peak when told to"),
]


def make_rows(number):
    return np.random.default_rng(number).standard_normal((N_ROWS, N_FEATURES), np.float32)


def make_labels(number):
    rows = make_rows(number)
    return (rows[:, 0] * rows[:, 1] + rows[:, 2] > 0.5).astype(np.int64)


def forget_peak():
    """Give freed memory back, and return what is left, in bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open(PEAK, "w") as file:
        file.write("5")
    return peak()


def peak():
    """The most memory that this process has had since, in bytes."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def held_by_workers(client, make, numbers, *shape, dtype):
    """Blocks in the memory of the workers, the first half of them on the first, so that none has to move."""
    workers = sorted(client.scheduler_info()["workers"])
    parts = []
    for i in numbers:
        future = client.submit(make, i, workers=[workers[i * len(workers) // N_BLOCKS]])
        parts.append(da.from_delayed(future, (N_ROWS, *shape), dtype))
        wait(future)
    return da.concatenate(parts)


@pytest.mark.timeout(300)
def test_a_worker_needs_codes_labels_histograms_and_one_block():
    cap = 8_000_000
    with (
        dask.config.set({"dparallel.tree.histogram-bytes": cap}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):

        def data(numbers):
            rows = held_by_workers(client, make_rows, numbers, N_FEATURES, dtype=np.float32)
            return rows, held_by_workers(client, make_labels, numbers, dtype=np.int64)

        ParallelDecisionTree(max_depth=8).fit(*data((0, N_BLOCKS - 1)))  # loads and compiles all that it uses
        X, y = data(range(N_BLOCKS))
        before = client.run(forget_peak)
        ParallelDecisionTree(max_depth=8).fit(X, y)
        grown = {worker: most - before[worker] for worker, most in client.run(peak).items()}
    n_rows = N_BLOCKS * N_ROWS // 2
    labels = n_rows * (4 + 4)  # a class number, and a place in the order of the nodes
    assert max(grown.values()) <= n_rows * N_FEATURES + labels + cap + N_ROWS * N_FEATURES * 4
