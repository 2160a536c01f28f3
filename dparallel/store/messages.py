"""What handles, hosts and the supervisor say to each other."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dparallel.store.updates import Snapshot, Update

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
    keys : dict of str to ndarray of shape (n,), int64: which rows of the tables to read; all where it is not said
    saved_bytes : int, of keys that are left out, since the host knows them by their signatures; None where all are sent
        as they are
    known : (epoch, version) that the asker has; if that would be read again, no values are sent
    """

    epoch: int
    entries: tuple[Entry, ...] = ()
    names: tuple[str, ...] | None = ()
    clock: int | None = None
    partitions: tuple[int, ...] = ()
    wait_s: float = 0.0
    keys: Mapping[str, np.ndarray] | None = None
    saved_bytes: int | None = None
    known: tuple[int, int] | None = None


class Answer(NamedTuple):
    """What a shard answers.

    Parameters
    ----------
    status : "ok"; "not_yet", the gate is closed and what was pushed is applied; "moved", ask somebody else, nothing is
        promised; "rolled_back", the store went back to a snapshot and the step is none of the next; "unknown_keys",
        nothing was done, send all lists of keys again
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


def bytes_of(request: Request) -> int:
    """Return the bytes of the arrays of a request as it travelled."""
    keys = sum(keys.nbytes for keys in request.keys.values()) if request.keys else 0
    return size_of(request.entries) + keys - (request.saved_bytes or 0)


def size_of_values(snapshot: Snapshot | None) -> int:
    """Return the bytes of the values of a snapshot, if there are any."""
    values = None if snapshot is None else snapshot.values
    return 0 if values is None else sum(array.nbytes for array in values.values())


def size_of(entries: Iterable[Entry]) -> int:
    """Return the bytes of the arrays of updates."""
    return sum(array.nbytes for entry in entries if not isinstance(entry, Finish) for array in entry.values.values())
