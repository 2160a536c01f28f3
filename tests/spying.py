"""A spy on what a client receives."""

import dask.array as da
from dask.sizeof import sizeof
from distributed import Client


class Spy:
    """Counts the bytes that clients of this process receive, and refuses that a Dask matrix becomes an ndarray here.

    scikit-learn's splitters for classifiers look at y, a vector.

    Attributes
    ----------
    received : int, bytes of all results that were gathered, by whatever call
    """

    def __init__(self, monkeypatch):
        self.received = 0
        gather, compute, convert = Client._gather, da.Array.compute, da.Array.__array__

        async def spying_gather(client, futures, *args, **kwargs):
            found = await gather(client, futures, *args, **kwargs)
            self.received += sum(map(sizeof, found)) if isinstance(found, list) else 0
            return found

        def spying_convert(array, *args, **kwargs):
            assert array.ndim < 2, f"a Dask array of shape {array.shape} was brought to the client"
            return convert(array, *args, **kwargs)

        def spying_compute(array, *args, **kwargs):
            assert array.ndim < 2, f"a Dask array of shape {array.shape} was computed"
            return compute(array, *args, **kwargs)

        monkeypatch.setattr(Client, "_gather", spying_gather)  # beneath gather, get and compute
        monkeypatch.setattr(da.Array, "__array__", spying_convert)
        monkeypatch.setattr(da.Array, "compute", spying_compute)
