"""
Seeing a fit
============

Three ways to look at training on a cluster: progress while it runs, plots of the fitted estimator, and the page in
Dask's dashboard. Two workers train a classifier asynchronously; one of them is killed on the way, and the other takes
over its rows and its copy of the parameters.
"""

import os
import signal
import sys
import threading

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster

from dparallel import AsyncSGDClassifier, ParallelKMeans, plot
from dparallel.observe import Progress, dashboard


def main():
    with LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        # None, with a warning, where bokeh is not installed; the fits run all the same
        print("the page of running fits:", dashboard(client))
        X = da.map_blocks(draw_rows, chunks=((25_000,) * 12, 20), dtype=np.float64, meta=np.empty((0, 0)))
        y = (X[:, 0] - X[:, 1] ** 2 > 0).astype(int)
        # on a terminal Progress() draws bars; "log" prints a line every few seconds, for logs like this one
        with Progress(display="log", file=sys.stdout):
            kmeans = ParallelKMeans(6, max_iter=15, random_state=0).fit(X)
            killer = threading.Timer(2.0, kill_a_worker, [client])
            killer.start()
            model = AsyncSGDClassifier(loss="log_loss", max_iter=60, tol=None, random_state=0).fit(X, y)
            killer.join()
        print(f"{model.store_stats_.pushes} updates, {model.store_stats_.failovers} failovers")
        draw(kmeans, model, X)


def draw_rows(block_info=None):
    """25,000 rows about six corners."""
    random = np.random.default_rng(block_info[None]["chunk-location"][0])
    corners = np.random.default_rng(1).normal(0, 2, size=(6, 20))
    return corners[random.integers(6, size=25_000)] + random.normal(size=(25_000, 20))


def kill_a_worker(client):
    pid = min(client.run(os.getpid).values())
    os.kill(pid, signal.SIGKILL)
    print(f"killed the worker with process number {pid}")


def draw(kmeans, model, X):
    """Plots take a fitted estimator and, where they look at rows, Dask data; they return the Axes."""
    _, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    plot.objective(model, ax=axes[0, 0])
    plot.staleness(model, ax=axes[0, 1])
    plot.traffic(model, ax=axes[0, 2])
    plot.worker_times(model, ax=axes[1, 0])
    plot.centres(kmeans, ax=axes[1, 1])
    plot.silhouette(kmeans, X, ax=axes[1, 2])
    plt.show()


if __name__ == "__main__":
    main()
