"""
Asynchronous SGD with a worker killed half-way
==============================================

A logistic model is trained by asynchronous SGD on two worker processes, which generate their rows themselves, and then
once more while one of the two is killed with SIGKILL half-way. The coefficients lie in a store with two copies, so no
update that was acknowledged is lost; the rows that died with the worker are generated again. The fit goes on with one
process until the other has started anew, and ends with the same accuracy. Matplotlib draws both curves.
"""

import logging
import os
import signal
import tempfile
import threading

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster

from dparallel import AsyncSGDClassifier

N_BLOCKS, N_ROWS, N_FEATURES = 16, 50_000, 40  # rows per block


def draw_block(block_info=None):
    rng = np.random.default_rng([1, block_info[None]["chunk-location"][0]])
    X = rng.normal(size=(N_ROWS, N_FEATURES))
    chances = 1 / (1 + np.exp(-X @ np.linspace(-1, 1, N_FEATURES)))
    return np.column_stack([X, rng.random(N_ROWS) < chances])


def fit(X, y, name, axes):
    model = AsyncSGDClassifier("log_loss", alpha=1e-6, max_iter=20, tol=None, random_state=0).fit(X, y)
    seconds = [record.seconds for record in model.history_]
    axes.plot(np.cumsum(seconds), [record.objective for record in model.history_], marker=".", label=name)
    print(f"{name}: accuracy {model.score(X, y):.4f}, {sum(seconds):.2f} s, {model.store_stats_.pushes} updates")
    return sum(seconds)


def main():
    chunks = ((N_ROWS,) * N_BLOCKS, N_FEATURES + 1)
    rows = da.map_blocks(draw_block, chunks=chunks, dtype=float, meta=np.empty((0, 0)))
    X, y = rows[:, :-1], rows[:, -1].astype(int)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    settings = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    # the one death is meant, so Dask's log stays silent
    with LocalCluster(2, silence_logs=logging.CRITICAL, **settings) as cluster, Client(cluster) as client:
        AsyncSGDClassifier("log_loss").fit(X[: 2 * N_ROWS], y[: 2 * N_ROWS])  # compiles
        half_s = fit(X, y, "undisturbed", axes) / 2
        threading.Timer(half_s, os.kill, [next(iter(client.run(os.getpid).values())), signal.SIGKILL]).start()
        fit(X, y, "a worker killed", axes)
    axes.set(xlabel="seconds", ylabel="mean log loss of an epoch")
    axes.legend()
    figure.savefig(f"{tempfile.gettempdir()}/async_sgd_worker_killed.png", dpi=120)


if __name__ == "__main__":
    main()
