"""A store that counts, for the tests of the parameter store."""

import numpy as np

from dparallel import ParameterStore

N = 30  # numbers in its array


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
