"""Clusters whose processes tests kill, and ways to wait for what follows."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
from distributed import Client

from benchmarks.cluster import MANY_KILLS

__all__ = ["MANY_KILLS", "Killer", "kill", "separate_processes", "settle", "until"]


def until(condition, timeout_s=30, otherwise=lambda: ""):
    """Wait until a function without arguments returns something true, and return it; otherwise tells what is there."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited in vain {otherwise()}"
        threading.Event().wait(0.01)


def settle(client, n_workers):
    """Wait until all workers have come back, and are known to their nannies to be there."""
    client.wait_for_workers(n_workers, timeout=60)
    until(lambda: all(nanny.status.name == "running" for nanny in client.cluster.workers.values()))


def kill(pid):
    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def separate_processes(n_workers, n_threads=1, *, worker_options=("--no-nanny",), environment=None, security=None):
    """A client, and the processes of its scheduler and workers, which have no nannies.

    worker_options : of `dask worker`; environment : dict, what is set for workers alone; security : Security of files
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{'tcp' if security is None else 'tls'}://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m"]
    common = ["--no-dashboard", "--host", "127.0.0.1"]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if security is not None:
        files = (security.tls_ca_file, security.tls_worker_cert, security.tls_worker_key)
        common += [part for pair in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), files) for part in pair]
    worker = [*command, "distributed.cli.dask_worker", address, "--nthreads", str(n_threads), *worker_options, *common]
    given = {**os.environ, **(environment or {})}
    processes = [subprocess.Popen([*command, "distributed.cli.dask_scheduler", "--port", port, *common], **options)]
    try:
        with Client(address, timeout=30, security=security) as client:
            processes += [subprocess.Popen(worker, **options, env=given) for _ in range(n_workers)]
            if n_workers:
                client.wait_for_workers(n_workers, timeout=60)
            yield client, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Killer:
    """A callback that kills a worker process a moment after each of some rounds has begun.

    Rounds are counted from 1; 0 is what a fit does before the first that it tells of.
    """

    def __init__(self, client, rounds, seed=0):
        self.client = client
        self.rounds = set(rounds)
        self.random = np.random.default_rng(seed)
        self.killed = []
        self.timers = []

    def setup(self, estimator, context):
        self.seen = 0

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "round":
            self.seen += 1
        elif 0 not in self.rounds:
            return
        if self.seen in self.rounds:
            self.kill_soon()

    def kill_soon(self):
        self.timers.append(threading.Timer(self.random.uniform(0.0, 0.05), self.kill))
        self.timers[-1].start()

    def kill(self):
        pid = int(self.random.choice(sorted(self.client.run(os.getpid).values())))
        kill(pid)
        self.killed.append(pid)

    def on_fit_task_end(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        for timer in self.timers:
            timer.join()
