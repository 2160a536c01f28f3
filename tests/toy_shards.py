"""A small shard with two arrays and a sparse table, what makes two shards comparable, and an interrupt at any call."""

import json
import sys

import numpy as np

from dparallel.store.optimizers import FTRL, Adam, Momentum
from dparallel.store.rows import Rows, SparseTable
from dparallel.store.shard import ParameterShard

SIZES = {"W": 7, "b": 2}
TABLE = SparseTable(width=3, initial="normal", seed=5)
KEYS = np.arange(-4, 8) * 10**17


def gradient(partition, clock):
    rng = np.random.default_rng((partition, clock))
    values = {name: rng.normal(size=n) for name, n in SIZES.items()}
    values["T"] = Rows(rng.permutation(KEYS)[:5], rng.normal(size=(5, 3)))
    values["S"] = Rows(rng.permutation(KEYS)[:2], rng.normal(size=(2, 1)))
    return values if (partition + clock) % 3 else {"W": values["W"]}  # an update may leave arrays out


def new_shard(staleness=None, n_partitions=3):
    values = {name: np.linspace(1.0, 2.0, n) for name, n in SIZES.items()}
    optimizers = {"W": Adam(0.1), "b": Momentum(0.1), "T": Adam(0.1), "S": FTRL(0.1, l1=0.1)}
    return ParameterShard(values, optimizers, staleness, n_partitions, {"T": TABLE, "S": SparseTable()})


def bits(shard):
    """Everything a shard is, as comparable bytes and text."""
    arrays, document = shard.state()
    return {key: array.tobytes() for key, array in arrays.items()}, json.dumps(document)


def values_of(snapshot):
    arrays = {name: given if isinstance(given, Rows) else [given] for name, given in snapshot.values.items()}
    return {name: [array.tobytes() for array in given] for name, given in arrays.items()}


def copy_of(shard):
    arrays, document = shard.state()
    return ParameterShard.from_state(arrays, json.loads(json.dumps(document)))


class Interrupter:
    """Raises KeyboardInterrupt at that place in their order where Python would handle a signal.

    Those are the beginnings of functions in Python and the ends of calls of functions in C.
    """

    def __init__(self, number):
        self.number = number

    def __call__(self, frame, event, argument):
        module = frame.f_globals.get("__name__", "")
        if event not in ("call", "c_return") or not module.startswith(("dparallel.store", "threading")):
            return
        self.number -= 1
        if self.number == 0:
            raise KeyboardInterrupt


def interrupted(number, action):
    """Run action with an interrupt at the place of that number; return whether it came to that."""
    profile = sys.getprofile()
    try:
        sys.setprofile(Interrupter(number))
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(profile)
    return False
