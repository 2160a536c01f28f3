"""Worker, scheduler and data losses in the middle of a k-means fit, by SIGKILL."""

import os
import signal
import subprocess
import sys
import threading
import time

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel import ParallelKMeans
from dparallel.errors import ClusterLostError, DataLostError
from tests import datasets
from tests.clusters import Killer

pytestmark = pytest.mark.timeout(300)


def make_block(number, n_rows):
    """Rows that a worker makes again when they are lost."""
    return datasets.gauss_mixture(1, seed=number, n_rows=n_rows)


def rebuildable(n_blocks=8, n_rows=20_000):
    parts = [
        da.from_delayed(dask.delayed(make_block, pure=True)(i, n_rows), (n_rows, 15), float) for i in range(n_blocks)
    ]
    return da.concatenate(parts)


def fit(X, *callbacks):
    model = ParallelKMeans(30, init=make_block(0, 30), tol=0, max_iter=25)
    started = time.perf_counter()
    model.set_callbacks(*callbacks).fit(X)
    return model, time.perf_counter() - started


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("sklearn.callback")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 100}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


@pytest.mark.parametrize("rounds", [(3,), pytest.param((4, 9), marks=pytest.mark.slow)])
def test_a_killed_worker_does_not_change_the_centres(client, rounds):
    X = rebuildable()
    undisturbed, _ = fit(X)
    killer = Killer(client, rounds)
    model, _ = fit(X, killer)
    assert len(killer.killed) == len(rounds)
    np.testing.assert_array_equal(model.cluster_centers_, undisturbed.cluster_centers_)
    assert model.n_iter_ == undisturbed.n_iter_
    assert model.inertia_ == pytest.approx(undisturbed.inertia_, rel=1e-12)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("n_workers", [2, 4])
def test_ten_random_kills_cost_little_time_and_no_digit(n_workers):
    pytest.importorskip("sklearn.callback")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 100}),
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        X = rebuildable()
        fit(X)  # compiles and warms up
        random = np.random.default_rng(n_workers)
        lost = []
        for moment in range(11):
            client.wait_for_workers(n_workers)
            fit(X)  # the process that was restarted imports what it needs
            undisturbed, seconds = fit(X)
            rounds = (3, 12) if moment == 10 else (int(random.integers(1, 20)),)
            killer = Killer(client, rounds, seed=moment)
            model, took = fit(X, killer)
            assert len(killer.killed) == len(rounds)
            np.testing.assert_allclose(model.cluster_centers_, undisturbed.cluster_centers_, rtol=1e-10)
            assert model.n_iter_ == undisturbed.n_iter_
            lost.append(took - seconds)
        print(f"{n_workers} workers, undisturbed about {seconds:.2f} s, more when killed: {np.round(lost, 2)} s")


def test_scattered_data_lost_with_their_worker_are_a_data_lost_error(client):
    futures = client.scatter([make_block(i, 5000) for i in range(4)], broadcast=False)
    X = da.concatenate([da.from_delayed(dask.delayed(future), (5000, 15), float) for future in futures])
    killer = Killer(client, (3,))
    with pytest.raises(DataLostError, match=r"^Blocks? \d(, \d)* of the data were lost with the worker"):
        fit(X, killer)


START_SCHEDULER = [sys.executable, "-m", "distributed.cli.dask_scheduler"]


@pytest.mark.cluster
def test_a_killed_scheduler_is_a_typed_error_within_ten_seconds(tmp_path):
    pytest.importorskip("sklearn.callback")
    address_file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(address_file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*START_SCHEDULER, *common, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"], **quiet
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", *common, "--nthreads", "1", "--no-dashboard"], **quiet
    )
    try:
        for _ in range(300):
            if address_file.exists() and address_file.stat().st_size:
                break
            threading.Event().wait(0.1)
        with Client(scheduler_file=str(address_file)) as client:
            client.wait_for_workers(1)
            killed = []

            class KillScheduler(Killer):
                def kill(self):
                    killed.append(time.perf_counter())
                    os.kill(scheduler.pid, signal.SIGKILL)

            with pytest.raises(ClusterLostError):
                fit(rebuildable(), KillScheduler(client, (3,)))
            assert time.perf_counter() - killed[0] < 10
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
