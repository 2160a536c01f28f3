"""A store that counts, for the tests of the parameter store."""

import numpy as np
from distributed import Client, LocalCluster

from dparallel import ParameterStore
from dparallel.place import Local

N = 30  # numbers in its array


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


def counting(**options):
    """A store of one array that adds up what it is pushed."""
    return ParameterStore({"w": N}, optimizer="add", **options)


def remote(client, function, *arguments, worker=None):
    """Run a function as a task and wait for it."""
    return client.submit(function, *arguments, workers=worker, pure=False).result(timeout=60)


def contribution(partition, clock):
    """The same numbers for the same step."""
    return np.random.default_rng((partition, clock)).normal(size=N)
