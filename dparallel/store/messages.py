"""What handles, hosts and the supervisor say to each other."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from dparallel.store.shard import Snapshot, Update

SMALL_BYTES = 32 * 1024  # arrays up to this size are copied into the message, larger ones travel beside it
State = tuple[dict[str, np.ndarray], dict[str, Any]]  # as from ParameterShard.state


class Seat(NamedTuple):
    """Where a host is: the address of its worker and the key of its actor."""

    address: str
    key: str


class Route(NamedTuple):
    """Who serves a shard.

    Parameters
    ----------
    epoch : int, number of the reign, one more at each change of the primary
    primary, backup : Seat, or None where there is none (now)
    """

    epoch: int
    primary: Seat | None = None
    backup: Seat | None = None


class Finish(NamedTuple):
    """An entry of a shard's log: nobody waits for this partition any more."""

    partition: int


Entry = Update | Finish


class Request(NamedTuple):
    """What a handle asks of one shard, in this order: apply, wait for the gate, read.

    Parameters
    ----------
    epoch : int, the reign of the primary that is asked
    entries : updates and finishes, in order; their arrays belong to the receiver
    names : names to read; None for all, () for none
    clock : int, clock of the step that will read; None for the newest
    partitions : whose step that may be, where known
    wait_s : float, how long to wait for the gate at most, in seconds
    """

    epoch: int
    entries: tuple[Entry, ...] = ()
    names: tuple[str, ...] | None = ()
    clock: int | None = None
    partitions: tuple[int, ...] = ()
    wait_s: float = 0.0


class Answer(NamedTuple):
    """What a shard answers.

    Parameters
    ----------
    status : "ok"; "not_yet", the gate is closed and what was pushed is applied; "moved", ask somebody else, nothing is
        promised; "rolled_back", the store went back to a snapshot and the step is none of the next
    epoch : int, the newest that is known
    progress : dict of int to int, clock of each partition's next step; empty where moved
    version : int, updates applied
    snapshot : Snapshot, where one was asked for and the gate was open
    """

    status: str
    epoch: int
    progress: dict[int, int]
    version: int = 0
    snapshot: Snapshot | None = None


class ReplicaReport(NamedTuple):
    """What a host says about one of its replicas."""

    role: str
    epoch: int
    version: int
    is_broken: bool  # the backup does not answer
    staleness: dict[int, int]


class HostReport(NamedTuple):
    """What a host says about itself."""

    pid: int
    replicas: dict[int, ReplicaReport]
    counts: dict[int, dict[str, int]]  # by shard, since the host began
    is_leaving: bool  # its worker shuts down


def encode(message: Any, size_bytes: int) -> Any:
    """Return a message as bytes where its arrays are small: Dask takes three times as long for it as pickle does."""
    return pickle.dumps(message, protocol=5) if size_bytes <= SMALL_BYTES else message


def decode(packed: Any) -> Any:
    """Return what encode was given."""
    return pickle.loads(packed) if isinstance(packed, bytes) else packed


def size_of(entries: Iterable[Entry]) -> int:
    """Return the bytes of the arrays of updates."""
    return sum(array.nbytes for entry in entries if not isinstance(entry, Finish) for array in entry.values.values())
