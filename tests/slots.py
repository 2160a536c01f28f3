"""A store whose every step adds one to a slot of its own, in a row for each shard.

A zero is a step that was lost, a two one that counted twice.
"""

import contextlib
import threading
import time

import dask
import numpy as np
from distributed import Client, LocalCluster

from dparallel import ParameterStore
from dparallel.errors import ConsistencyError
from tests.clusters import MANY_KILLS, settle, until

N_PARTITIONS, N_SHARDS, N = 4, 2, 30


def three_workers():
    """A cluster whose workers may be killed often; for a fixture named cluster."""
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(n_workers=3, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        yield cluster


def settled_client(cluster):
    """Its client, once all workers are back; for a fixture."""
    client = Client.current()
    settle(client, 3)
    return client


def open_slots(n_clocks, **options):
    shape = (N_SHARDS, N_PARTITIONS, n_clocks)
    options = {"n_partitions": N_PARTITIONS, "n_shards": N_SHARDS, "replicas": 1, **options}
    return ParameterStore({"slots": shape}, optimizer="add", **options)


def steps(handle, partition, first, last, staleness):
    """Clocks that a partition is to do next; with a staleness until all partitions are done, since steps are undone."""
    if staleness is None:
        yield from range(max(first, handle.progress().get(partition, 0)), last)
        return
    while min((progress := handle.progress()).values()) < last:
        if progress[partition] < last:
            yield progress[partition]
        else:
            threading.Event().wait(0.01)


def fill_slots(handle, partition, first, last, n_clocks, staleness=None):
    """Take the steps of a partition; return when each was acknowledged, and the longest call."""
    acknowledged, longest = {}, 0.0
    for clock in steps(handle, partition, first, last, staleness):
        start = time.monotonic()
        with contextlib.suppress(ConsistencyError):  # undone, or done by the worker that was killed
            if staleness is not None:
                handle.pull("slots", clock=clock)
            update = np.zeros((N_SHARDS, N_PARTITIONS, n_clocks))
            update[:, partition, clock] = 1
            handle.push({"slots": update}, step=(partition, clock))
            acknowledged[clock] = time.monotonic()
        longest = max(longest, time.monotonic() - start)
    return acknowledged, longest


def start_filling(client, store, first, last, n_clocks, staleness=None):
    handles = [store.handle()] * N_PARTITIONS
    options = {"first": first, "last": last, "n_clocks": n_clocks, "staleness": staleness}
    return client.map(fill_slots, handles, range(N_PARTITIONS), pure=False, **options)


def are_two_copies(store):
    stats = store.stats()
    return None not in (*stats.primaries, *stats.backups) and stats


def host_of_a_shard(client, store, rng):
    """The process that holds the primary of some shard."""
    stats = until(lambda: are_two_copies(store))
    return stats.pids[rng.choice(stats.primaries)]


def worker_without_shards(client, store, rng):
    def find():
        stats = are_two_copies(store)
        held = stats and {*stats.primaries, *stats.backups}
        return stats and [pid for address, pid in stats.pids.items() if address not in held]

    return rng.choice(until(find))


def until_dead(store, pid):
    until(lambda: pid not in store.stats().pids.values())
    return time.monotonic()
