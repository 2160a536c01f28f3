"""A store whose every step adds one to a slot of its own, in a row for each shard.

A zero is a step that was lost, a two one that counted twice. The slots are one array, or rows of a sparse table under
keys that lie on the shard of their row.
"""

import contextlib
import functools
import threading
import time

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster, wait

from dparallel import ParameterStore, SparseTable
from dparallel.errors import ConsistencyError
from dparallel.store.rows import N_RANGES, cut_keys
from tests.clusters import MANY_KILLS, settle, until

N_PARTITIONS, N_SHARDS, N = 4, 2, 30
PLAIN = ["dense", "sparse"]
KINDS = [*PLAIN, *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dense, top k", "sparse, fp16"))]
COMPRESSIONS = {"dense, top k": ("top_k", 0.1), "sparse, fp16": "fp16"}  # neither changes or leaves out a one


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


def open_slots(n_clocks, kind="dense", **options):
    given = SparseTable() if kind.startswith("sparse") else (N_SHARDS, N_PARTITIONS, n_clocks)
    options = {"n_partitions": N_PARTITIONS, "n_shards": N_SHARDS, "replicas": 1, **options}
    return ParameterStore({"slots": given}, optimizer="add", **options)


@functools.cache
def slot_keys(n_clocks):
    """The keys of a sparse table's slots, of shape (N_SHARDS, N_PARTITIONS, n_clocks): row s lies on shard s."""
    spread = 64  # so many keys for each slot, of which one is taken
    candidates = np.arange(N_PARTITIONS * n_clocks * spread)
    keys = np.empty((N_SHARDS, N_PARTITIONS * n_clocks), np.int64)
    cuts = [N_RANGES * number // N_SHARDS for number in range(N_SHARDS + 1)]
    for row, part in zip(keys, cut_keys(candidates, cuts)):
        slots, first = np.unique(part.keys // spread, return_index=True)
        assert len(slots) == len(row)
        row[:] = part.keys[first]
    return keys.reshape(N_SHARDS, N_PARTITIONS, n_clocks)


def is_sparse(handle):
    return "slots" in handle._transport.layout.tables


def update_of(handle, values):
    """What is pushed to add these values to the slots."""
    if not is_sparse(handle):
        return {"slots": values}
    where = np.nonzero(values)
    return {"slots": (slot_keys(values.shape[-1])[where], values[where])}


def read_slots(handle, n_clocks, clock=None):
    """The slots as an array of shape (N_SHARDS, N_PARTITIONS, n_clocks)."""
    if not is_sparse(handle):
        return handle.pull("slots", clock=clock)
    keys = slot_keys(n_clocks)
    return handle.pull("slots", clock=clock, keys=keys.ravel()).reshape(keys.shape)


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


def run_to_the_end(client, store, run, last):
    """Gather what run(partition), a future, returns for each partition.

    Behind a gate the others wait for a partition whose steps a death has undone: one whose task had ended by then runs
    again.
    """
    tasks = {partition: run(partition) for partition in range(N_PARTITIONS)}
    while not all(task.done() for task in tasks.values()):
        with contextlib.suppress(TimeoutError):
            wait(list(tasks.values()), timeout=0.1)
        if any(task.done() for task in tasks.values()):
            progress = store.progress()
            undone = [p for p, task in tasks.items() if task.status == "finished" and progress[p] < last]
            tasks |= {partition: run(partition) for partition in undone}
    return client.gather(list(tasks.values()))


def fill_slots(handle, partition, first, last, n_clocks, staleness=None):
    """Take the steps of a partition; return when each was acknowledged, and the longest call."""
    acknowledged, longest = {}, 0.0
    for clock in steps(handle, partition, first, last, staleness):
        start = time.monotonic()
        with contextlib.suppress(ConsistencyError):  # undone, or done by the worker that was killed
            if staleness is not None:
                read_slots(handle, n_clocks, clock)
            update = np.zeros((N_SHARDS, N_PARTITIONS, n_clocks))
            update[:, partition, clock] = 1
            handle.push(update_of(handle, update), step=(partition, clock))
            acknowledged[clock] = time.monotonic()
        longest = max(longest, time.monotonic() - start)
    return acknowledged, longest


def start_filling(client, store, first, last, n_clocks, staleness=None, kind="dense", partitions=range(N_PARTITIONS)):
    handles = [store.handle(COMPRESSIONS.get(kind))] * len(partitions)
    options = {"first": first, "last": last, "n_clocks": n_clocks, "staleness": staleness}
    return client.map(fill_slots, handles, partitions, pure=False, **options)


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
