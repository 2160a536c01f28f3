"""A small shard with two arrays, what makes two shards comparable, and an interrupt at any call."""

import json
import sys

import numpy as np

from dparallel.store.optimizers import Adam, Momentum
from dparallel.store.shard import ParameterShard

SIZES = {"W": 7, "b": 2}


def gradient(partition, clock):
    rng = np.random.default_rng((partition, clock))
    values = {name: rng.normal(size=n) for name, n in SIZES.items()}
    return values if (partition + clock) % 3 else {"W": values["W"]}  # an update may leave arrays out


def new_shard(staleness=None, n_partitions=3):
    values = {name: np.linspace(1.0, 2.0, n) for name, n in SIZES.items()}
    return ParameterShard(values, {"W": Adam(0.1), "b": Momentum(0.1)}, staleness, n_partitions)


def bits(shard):
    """Everything a shard is, as comparable bytes and text."""
    arrays, document = shard.state()
    return {key: array.tobytes() for key, array in arrays.items()}, json.dumps(document)


def values_of(snapshot):
    return {name: array.tobytes() for name, array in snapshot.values.items()}


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
