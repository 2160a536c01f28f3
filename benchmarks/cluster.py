"""A Dask cluster of processes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster

MANY_KILLS = {
    "distributed.scheduler.allowed-failures": 1000,
    # or LocalCluster gives up a worker that happens to be restarting 15 s after it was killed once before
    "distributed.deploy.lost-worker-timeout": "1 hour",
}


@contextmanager
def open_cluster(n_workers: int, memory_limit: Any = "auto") -> Iterator[Client]:
    """Start worker processes of one thread each, reachable from this machine only.

    Parameters
    ----------
    n_workers : int
    memory_limit : int, bytes per worker, or "auto"

    Yields
    ------
    client : distributed.Client, the active one
    """
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=memory_limit,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
