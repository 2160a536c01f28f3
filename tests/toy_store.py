"""A store that counts, for the tests of the parameter store."""

from dataclasses import replace

import numpy as np
from distributed import Client, LocalCluster

from dparallel import ParameterStore, SparseTable
from dparallel.place import Local

N = 30  # numbers in its array


KINDS = ["dense", "sparse"]
PLACES = ["one process", "cluster"]


def two_workers():
    """The client of a cluster; for a fixture named client."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def placed(request, client):
    """Options that put a store into this process, or on the cluster; for a fixture over PLACES."""
    return {"place": Local(2)} if request.param == "one process" else {}


def ones(number=1.0):
    """An update."""
    return {"w": np.full(N, float(number))}


def counting(kind="dense", **options):
    """A store of one array, or sparse table, that adds up what it is pushed."""
    return ParameterStore({"w": parameter(kind, N)}, optimizer="add", **options)


def parameter(kind, size):
    return SparseTable() if kind == "sparse" else size


def handle_of(store, size=N):
    """A handle to whole arrays, also where they are sparse tables."""
    handle = store.handle()
    return WholeTables(handle, size) if handle._transport.layout.tables else handle


class WholeTables:
    """A handle to sparse tables of which so many keys are used: it pulls and pushes all of them, as arrays."""

    def __init__(self, handle, size):
        self.handle, self.keys = handle, np.arange(size) * 10**14 - 10**15
        self.finish, self.progress = handle.finish, handle.progress

    def __reduce__(self):
        return WholeTables, (self.handle, len(self.keys))

    @property
    def version(self):
        return self.handle.version

    def pull(self, name="w", clock=None):
        return self.handle.pull(name, clock, keys=self.keys)

    def push(self, values, step=None):
        self.handle.push(self._rows(values), step)

    def exchange(self, updates=(), names=("w",), clock=None, wait_s=None):
        updates = [replace(update, values=self._rows(update.values)) for update in updates]
        return self.handle.exchange(updates, names, clock, wait_s, dict.fromkeys(names, self.keys))

    def exchange_soon(self, updates, names=("w",), clock=None, wait_s=None):
        updates = [replace(update, values=self._rows(update.values)) for update in updates]
        return self.handle.exchange_soon(updates, names, clock, wait_s, dict.fromkeys(names, self.keys))

    def _rows(self, values):
        return {name: (self.keys, array) for name, array in values.items()}


def remote(client, function, *arguments, worker=None):
    """Run a function as a task and wait for it."""
    return client.submit(function, *arguments, workers=worker, pure=False).result(timeout=60)


def contribution(partition, clock):
    """The same numbers for the same step."""
    return np.random.default_rng((partition, clock)).normal(size=N)
