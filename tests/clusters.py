"""Clusters whose processes tests kill, and ways to wait for what follows."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from distributed import Client

from benchmarks.cluster import MANY_KILLS

__all__ = ["MANY_KILLS", "kill", "separate_processes", "settle", "until"]


def until(condition, timeout_s=30):
    """Wait until a function without arguments returns something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def settle(client, n_workers):
    """Wait until all workers have come back, and are known to their nannies to be there."""
    client.wait_for_workers(n_workers, timeout=60)
    until(lambda: all(nanny.status.name == "running" for nanny in client.cluster.workers.values()))


def kill(pid):
    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def separate_processes(n_workers, n_threads=1):
    """A client, and the processes of its scheduler and workers, which have no nannies."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m"]
    common = ["--no-dashboard", "--host", "127.0.0.1"]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    threads = ["--nthreads", str(n_threads), "--no-nanny"]
    worker = [*command, "distributed.cli.dask_worker", address, *threads, *common]
    processes = [subprocess.Popen([*command, "distributed.cli.dask_scheduler", "--port", port, *common], **options)]
    try:
        with Client(address, timeout=30) as client:
            processes += [subprocess.Popen(worker, **options) for _ in range(n_workers)]
            client.wait_for_workers(n_workers, timeout=60)
            yield client, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
