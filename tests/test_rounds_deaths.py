"""What a fit does when workers, the scheduler or the data die under it."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel.errors import ClusterLostError, DataLostError, StreamingWarning
from dparallel.rounds import iterate, open_rounds
from tests.toys import Means, TwoMeans, blocks_of, plain_two_means, sum_shard

N_ROWS, N_ROUNDS = 100_000, 40
MANY_KILLS = {
    "distributed.scheduler.allowed-failures": 30,
    # or LocalCluster gives up a worker that happens to be restarting 15 s after it was killed once before
    "distributed.deploy.lost-worker-timeout": "1 hour",
}


@pytest.fixture(scope="module", params=[pytest.param(2, marks=pytest.mark.slow), 4])
def client(request):
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(n_workers=request.param, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def settled(client):
    """A client all of whose workers have come back, and are known to their nannies to be there."""
    n_workers = len(client.cluster.workers)
    client.wait_for_workers(n_workers, timeout=30)
    until(lambda: all(nanny.status.name == "running" for nanny in client.cluster.workers.values()))
    return client


@pytest.fixture(scope="module")
def data():
    X = da.random.default_rng(7).random((N_ROWS, 3), chunks=(10_000, 3))
    return X, plain_two_means(X.compute(scheduler="sync").mean(axis=1), N_ROUNDS)


class Killer:
    """Kills a worker a random while after each of the given rounds."""

    def __init__(self, client, rounds, seed):
        self.random = random.Random(seed)
        self.client, self.rounds, self.timers, self.killed = client, rounds, [], set()

    def on_start(self, state):
        self.pids = sorted(self.client.run(os.getpid).items())

    def on_round_start(self, number, state):
        pass

    def on_round(self, record, state):
        if record.round in self.rounds:
            address, pid = self.pids.pop(self.random.randrange(len(self.pids)))
            self.killed.add(address)
            self.timers.append(threading.Timer(self.random.random() * 0.05, os.kill, (pid, signal.SIGKILL)))
            self.timers[-1].start()

    def on_stop(self, reason, state):
        for timer in self.timers:
            timer.join()
        # the next test starts with workers that live
        until(lambda: not self.killed & self.client.nthreads().keys())


def fit(X, listeners=()):
    with open_rounds(blocks_of(X)) as rounds:
        return iterate(rounds, TwoMeans(work=5, tolerance=-1), Means(), max_rounds=N_ROUNDS, listeners=listeners)


def ours(client):
    return [key for keys in client.has_what().values() for key in keys if "dparallel" in str(key)]


def until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 10))])
def test_a_killed_worker_changes_no_number(settled, data, seed):
    X, expected = data
    at = random.Random(seed).randrange(1, N_ROUNDS)
    outcome = fit(X, [Killer(settled, [at], seed)])
    assert outcome.n_rounds == N_ROUNDS
    np.testing.assert_allclose(outcome.state.centres, expected, rtol=1e-10)


def test_two_killed_workers_change_no_number(settled, data):
    X, expected = data
    outcome = fit(X, [Killer(settled, [8, 20], 0)])
    np.testing.assert_allclose(outcome.state.centres, expected, rtol=1e-10)


def test_a_restarted_worker_gets_its_share_again(settled, data):
    X, client = data[0], settled
    n_workers = len(client.cluster.workers)
    with open_rounds(blocks_of(X)) as rounds:
        rounds.reduce(sum_shard, np.add)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        rounds.reduce(sum_shard, np.add)
        client.wait_for_workers(n_workers, timeout=30)
        until(lambda: rounds.reduce(sum_shard, np.add) is not None and len(homes(client)) == n_workers)


def homes(client):
    """Workers that hold a shard."""
    return {
        worker
        for worker, keys in client.has_what().items()
        if any(str(key).startswith(("dparallel-load", "dparallel-join")) for key in keys)
    }


def test_all_workers_killed_at_once_change_no_number(settled, data):
    X, expected = data

    class KillAll(Killer):
        def on_round(self, record, state):
            if record.round == 10:
                for address, pid in self.pids:
                    self.killed.add(address)
                    os.kill(pid, signal.SIGKILL)

    outcome = fit(X, [KillAll(settled, [], 0)])
    np.testing.assert_allclose(outcome.state.centres, expected, rtol=1e-10)


def test_blocks_that_depend_on_each_other_survive_a_killed_worker(settled, data):
    X, expected = data
    shifted = X + (X.mean() - X.mean())
    outcome = fit(shifted, [Killer(settled, [10], 0)])
    np.testing.assert_allclose(outcome.state.centres, expected, rtol=1e-10)


def test_persisted_blocks_survive_a_killed_worker(settled, data):
    X, expected = data
    outcome = fit(X.persist(), [Killer(settled, [10], 0)])
    np.testing.assert_allclose(outcome.state.centres, expected, rtol=1e-10)


def test_streamed_blocks_survive_a_killed_worker(settled, data):
    X, expected = data
    with dask.config.set({"dparallel.persist": False}), pytest.warns(StreamingWarning):
        outcome = fit(X, [Killer(settled, [10], 0)])
    np.testing.assert_allclose(outcome.state.centres, expected, rtol=1e-10)


def test_scattered_data_that_die_are_named(settled):
    client = settled
    workers = sorted(client.nthreads())
    pieces = [
        client.scatter(np.ones((100, 2)) * i, workers=[workers[i // 4]], hash=False, broadcast=False) for i in range(8)
    ]
    X = da.concatenate([da.from_delayed(piece, (100, 2), float) for piece in pieces])
    with open_rounds(blocks_of(X)) as rounds:
        assert rounds.reduce(sum_shard, np.add)[0] == 2800
        alone = [i for i, piece in enumerate(pieces) if client.who_has([piece])[piece.key] == (workers[0],)]
        assert len(alone) >= 2  # others have been brought to another worker as well
        named = f"Blocks {', '.join(map(str, alone))} "
        os.kill(client.run(os.getpid)[workers[0]], signal.SIGKILL)
        until(lambda: workers[0] not in client.nthreads())
        with pytest.raises(DataLostError, match=rf"{named}of the data were lost .* scatter"):
            rounds.reduce(sum_shard, np.add)
    with pytest.raises(DataLostError, match=named), open_rounds(blocks_of(X)) as rounds:
        rounds.reduce(sum_shard, np.add)


@pytest.fixture
def scheduler():
    """A scheduler and two workers in processes of their own, and a client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    command = [sys.executable, "-m"]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    common = ["--no-dashboard", "--host", "127.0.0.1"]
    scheduler_command = [*command, "distributed.cli.dask_scheduler", "--port", str(port), *common]
    worker_command = [*command, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", *common]
    processes = [subprocess.Popen(scheduler_command, **options)]
    try:
        with Client(address, timeout=30) as client:
            processes += [subprocess.Popen(worker_command, **options) for _ in range(2)]
            client.wait_for_workers(2, timeout=30)
            yield client, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


class AtRound(Killer):
    """Does something to a process after the tenth round."""

    def __init__(self, process, action):
        self.process, self.action, self.at = process, action, None

    def on_start(self, state):
        pass

    def on_stop(self, reason, state):
        pass

    def on_round(self, record, state):
        if record.round == 10:
            self.at = time.monotonic()
            self.process.send_signal(self.action)


@pytest.mark.parametrize("action", [signal.SIGKILL, signal.SIGSTOP])
def test_a_scheduler_that_dies_or_falls_silent_ends_the_fit_within_ten_seconds(scheduler, data, action):
    process = scheduler[1][0]
    listener = AtRound(process, action)
    with pytest.raises(ClusterLostError, match="connection to the Dask scheduler was lost"):
        fit(data[0], [listener])
    assert time.monotonic() - listener.at < 10
    process.send_signal(signal.SIGCONT)


def kill_own_process(shard, state):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_partial_that_kills_every_worker_ends_the_fit_with_a_name():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
        open_rounds(blocks_of(da.ones((10, 2), chunks=(5, 2)))) as rounds,
        pytest.raises(ClusterLostError, match=r"workers .*died"),
    ):
        rounds.reduce(kill_own_process, np.add)


def test_a_cluster_without_workers_ends_the_fit_with_the_remedy(scheduler, data):
    workers = scheduler[1][1:]
    with dask.config.set({"dparallel.timeouts.workers": "1s"}), open_rounds(blocks_of(data[0])) as rounds:
        for worker in workers:
            worker.kill()
        with pytest.raises(ClusterLostError, match=r"no worker for 1 s\. Start workers"):
            rounds.reduce(sum_shard, np.add)
