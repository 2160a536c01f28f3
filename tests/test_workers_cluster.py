"""The asynchronous engine on processes: the same counts, whoever dies, joins or leaves, and nothing left behind."""

from __future__ import annotations

import os
import random
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

from dparallel.rounds import Partitioning, open_rounds
from dparallel.workers import partitions_in, train
from dparallel.workers.cluster import WorkerLanes
from tests.toy_training import Count, Descent, serial_descent
from tests.toys import blocks_of

pytestmark = pytest.mark.timeout(300)

MANY_KILLS = {"distributed.scheduler.allowed-failures": 1000, "distributed.deploy.lost-worker-timeout": "1 hour"}
N_BLOCKS = 8


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def settled(client):
    """A client all of whose workers have come back, and are known to their nannies to be there."""
    client.wait_for_workers(2, timeout=30)
    until(lambda: all(nanny.status.name == "running" for nanny in client.cluster.workers.values()))
    return client


def until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def data(n_rows=8000):
    return da.random.default_rng(3).normal(size=(n_rows, 3), chunks=(n_rows // N_BLOCKS, 3))


def run(X, algorithm, staleness=None, per_thread=2, max_epochs=100, **options):
    partitioning = Partitioning(per_thread, partitions_in(options.get("checkpoint")))
    with open_rounds(blocks_of(X), partitioning=partitioning) as rounds:
        outcome = train(rounds, algorithm, staleness=staleness, max_epochs=max_epochs, **options)
        return outcome, partitioning.ranges


class Events:
    """Listener that does something when an epoch begins."""

    def __init__(self, actions):
        self.actions = actions

    def on_start(self, state):
        pass

    def on_round_start(self, number, state):
        if number in self.actions:
            self.actions[number]()

    def on_round(self, record, state):
        return False

    def on_stop(self, reason, state):
        pass


def expected_count(n_partitions, n_steps, n_epochs):
    clocks = n_steps * n_epochs
    return [n_partitions * clocks, n_partitions * sum(range(clocks))]


@pytest.mark.parametrize("staleness", [0, 1, 3, None])
def test_every_step_counts_once(settled, staleness):
    outcome, ranges = run(data(), Count(), staleness)
    assert len(ranges) == 4
    count = outcome.parameters["count"][:2].tolist()
    assert count >= expected_count(4, 10, 3)  # asynchronous partitions may have begun another epoch
    if staleness is not None:
        assert count == expected_count(4, 10, 3)
        assert [record.objective for record in outcome.history] == [40.0] * 3


def test_bulk_synchronous_steps_equal_a_serial_loop(settled):
    X = data()
    outcome, ranges = run(X, Descent(), 0)
    rows, width = X.compute(), 8000 // N_BLOCKS
    parts = [rows[low * width : high * width] for low, high in ranges]
    np.testing.assert_array_equal(outcome.parameters["point"], serial_descent(parts, 4))


def kill_one(client, seed):
    def kill():
        pids = sorted(client.run(os.getpid).values())
        pid = random.Random(seed).choice(pids)
        threading.Timer(random.Random(seed).random() * 0.1, os.kill, (pid, signal.SIGKILL)).start()

    return kill


@pytest.mark.parametrize("staleness", [0, 2, None])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_a_killed_worker_loses_and_doubles_no_step(settled, staleness, seed):
    algorithm = Count(n_steps=20, n_epochs=6, work_s=0.002)
    outcome, ranges = run(data(), algorithm, staleness, listeners=[Events({3: kill_one(settled, seed)})])
    n_clocks = 120
    if staleness is not None:
        assert outcome.parameters["count"][:2].tolist() == expected_count(len(ranges), 20, 6)
    else:
        assert outcome.parameters["count"][0] >= n_clocks * len(ranges)
        # a limit that nobody runs beyond: then the count is exact, too
        until(lambda: len(settled.nthreads()) == 2, 30)
        outcome, ranges = run(
            data(),
            Count(n_steps=20, n_epochs=99, work_s=0.002),
            staleness,
            max_epochs=6,
            listeners=[Events({3: kill_one(settled, seed)})],
        )
        assert outcome.parameters["count"][:2].tolist() == expected_count(len(ranges), 20, 6)


def test_bulk_synchronous_result_is_the_same_after_a_kill(settled):
    undisturbed, _ = run(data(), Descent(n_epochs=8), 0)
    disturbed, _ = run(data(), Descent(n_epochs=8), 0, listeners=[Events({3: kill_one(settled, 4)})])
    np.testing.assert_array_equal(disturbed.parameters["point"], undisturbed.parameters["point"])
    assert [r.objective for r in disturbed.history] == [r.objective for r in undisturbed.history]


def test_a_worker_that_joins_takes_over_partitions(monkeypatch):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        n_epochs, joined_at, seen = 8, 3, {}

        class Watched(WorkerLanes):
            def close(self):
                seen["total"] = dict(self.tasks_by_worker)
                super().close()

        monkeypatch.setattr("dparallel.workers.training.WorkerLanes", Watched)
        first = set(client.nthreads())

        def join():
            cluster.scale(3)
            client.wait_for_workers(3, timeout=30)
            seen["before"] = True

        algorithm = Count(n_steps=30, n_epochs=n_epochs, work_s=0.005)
        run(data(), algorithm, None, per_thread=4, listeners=[Events({joined_at: join})])
        late = sum(n for worker, n in seen["total"].items() if worker not in first)
        remaining = sum(seen["total"].values()) * (n_epochs - joined_at + 1) / n_epochs
        assert late >= 0.25 * remaining, seen


def test_scale_down_without_drain_loses_nothing():
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        algorithm = Count(n_steps=20, n_epochs=99, work_s=0.002)
        listeners = [Events({3: lambda: cluster.scale(1)})]
        outcome, ranges = run(data(), algorithm, None, max_epochs=8, listeners=listeners)
        assert outcome.parameters["count"][:2].tolist() == expected_count(len(ranges), 20, 8)


def ours(client):
    def find(dask_worker):
        return [str(key) for key in [*dask_worker.data, *dask_worker.state.actors] if "dparallel" in str(key)]

    return [key for keys in client.run(find).values() for key in keys]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_of_ours_stays_behind(settled, error):
    def fail():
        if error is not None:
            raise error("on purpose")

    before = threading.active_count()
    if error is None:
        run(data(), Count())
    else:
        with pytest.raises(error):
            run(data(), Count(), listeners=[Events({2: fail})])
    until(lambda: not ours(settled) and not [key for key in settled.futures if "dparallel" in str(key)])
    until(lambda: threading.active_count() <= before)


SCHEDULER_DIES = """
import os, signal, sys, threading, time
import dask, dask.array as da
from distributed import Client
from dparallel.rounds import Partitioning, open_rounds
from dparallel.workers import train
from dparallel.errors import StoreUnavailable, ClusterLostError
from tests.test_workers_cluster import Events, data
from tests.toy_training import Descent
from tests.toys import blocks_of

client = Client(sys.argv[1])
client.wait_for_workers(2, timeout=60)
died = []
def kill():
    os.kill(int(sys.argv[2]), signal.SIGKILL)
    died.append(time.monotonic())
with dask.config.set({"dparallel.checkpoint-every": "0s"}):
    try:
        with open_rounds(blocks_of(data()), partitioning=Partitioning(2)) as rounds:
            listeners = [Events({4: kill})]
            algorithm = Descent(n_epochs=6)
            train(rounds, algorithm, staleness=0, max_epochs=50, checkpoint=sys.argv[3], listeners=listeners)
    except StoreUnavailable as error:
        print("StoreUnavailable", time.monotonic() - died[0])
os._exit(0)
"""


def start_scheduler():
    program = (
        "from distributed.cli.dask_scheduler import main; "
        "main(['--host', '127.0.0.1', '--port', '0', '--dashboard-address', ':0'], standalone_mode=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "Scheduler at:" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, line.split()[-1]
    raise RuntimeError("no scheduler")


def test_a_killed_scheduler_is_a_typed_error_and_the_next_fit_goes_on_from_the_checkpoint(settled, tmp_path):
    undisturbed, _ = run(data(), Descent(n_epochs=6), 0)
    scheduler, address = start_scheduler()
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"],
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    path = tmp_path / "fit.checkpoint"
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCHEDULER_DIES, address, str(scheduler.pid), str(path)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.startswith("StoreUnavailable"), done.stderr[-3000:]
        assert float(done.stdout.split()[1]) < 10
        assert path.exists()
    finally:
        for process in [scheduler, *workers]:
            process.kill()
            process.wait()
    with dask.config.set({"dparallel.checkpoint-every": "0s"}):
        resumed, _ = run(data(), Descent(n_epochs=6), 0, checkpoint=path)
    assert 0 < resumed.n_steps < undisturbed.n_steps
    np.testing.assert_array_equal(resumed.parameters["point"], undisturbed.parameters["point"])
    assert not path.exists()
