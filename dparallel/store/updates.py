"""What a shard is given, and what is read of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.checkpoint import as_whole
from dparallel.store.consistency import Step, as_step
from dparallel.store.rows import Rows, stored_keys


@dataclass(frozen=True, slots=True)
class Update:
    """What one step adds to one shard.

    Parameters
    ----------
    step : (partition, clock); partition is an int, or a str for a handle that counts its own pushes
    values : dict of str to ndarray of shape (length of the shard's range,), float64, or to Rows of a sparse table; some
        of the names, or none; or what they were compressed to, see packed
    base : int, version of the shard that the step was computed from; None if unknown
    """

    step: Step
    values: Mapping[str, np.ndarray | Rows]
    base: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The values of a shard at one moment.

    Parameters
    ----------
    version : int, updates applied until then
    clock : int, steps of every unfinished partition that are in it for certain; None without a staleness
    values : dict of str to ndarray of shape (length of the shard's range,), or (n_keys, n_columns) of a sparse table,
        float64, owned by the receiver; Rows of a table whose keys were not given; None where this version was known
    """

    version: int
    clock: int | None
    values: dict[str, Any] | None


def pack_update(update: Update) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Return copies of an update's arrays by key, and the rest for JSON; the keys name its partition."""
    partition, arrays = update.step[0], {}
    for name, given in update.values.items():
        if isinstance(given, Rows):
            arrays[f"pending_keys/{partition}/{name}"] = given.keys.copy()
        arrays[f"pending/{partition}/{name}"] = (given.values if isinstance(given, Rows) else given).copy()
    return arrays, [*update.step, update.base, list(update.values)]


def unpack_update(arrays: Mapping[str, np.ndarray], described: list[Any]) -> Update:
    """Return what pack_update was given, with copies of the arrays."""
    partition, clock, base, names = described
    values: dict[str, np.ndarray | Rows] = {}
    for name in names:
        given, keys = arrays[f"pending/{partition}/{name}"].copy(), arrays.get(f"pending_keys/{partition}/{name}")
        values[name] = given if keys is None else Rows(stored_keys(keys).copy(), given)
    return Update(as_step((partition, clock)), values, None if base is None else as_whole(base))
