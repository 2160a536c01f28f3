"""The arrays of a shard with their optimizers' slots: replaced as a whole, never changed while they are current."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dparallel.checkpoint import as_whole
from dparallel.errors import StoreError
from dparallel.store.optimizers import Optimizer, from_dict


class Column(NamedTuple):
    """One array.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
    slots : dict of str to ndarray of shape (n,), float64
    n_updates : int, updates of this array so far
    """

    values: np.ndarray
    slots: dict[str, np.ndarray]
    n_updates: int


class Columns:
    """Named arrays, each with its optimizer.

    Parameters
    ----------
    values : dict of str to ndarray of shape (n,), numbers; copied as float64
    optimizers : dict of str to Optimizer, for the same names

    Attributes
    ----------
    current : dict of str to Column; to be assigned by the owner, so that a change is one assignment

    Notes
    -----
    `after` computes into buffers that were handed back by `reuse`: in the steady state nothing is allocated, which
    costs more than the arithmetic (fresh pages of the operating system).
    """

    def __init__(self, values: Mapping[str, np.ndarray], optimizers: Mapping[str, Optimizer]):
        if values.keys() != optimizers.keys():
            raise StoreError(f"The arrays {sorted(values)} need one optimizer each, given are {sorted(optimizers)}.")
        self.optimizers = dict(optimizers)
        self.current = {
            name: Column(array := as_range(name, given).copy(), optimizers[name].slots(array), 0)
            for name, given in values.items()
        }
        self._spare_values: dict[str, np.ndarray] = {}
        self._spare_slots: dict[str, dict[str, np.ndarray]] = {}

    def checked(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return an update's values as float64 ranges.

        Raises
        ------
        StoreError
            If a name, length or kind does not fit.
        """
        checked = {}
        for name, given in values.items():
            self.check_names((name,))
            checked[name] = as_range(name, given, len(self.current[name].values))
        return checked

    def check_names(self, names: Sequence[str]) -> None:
        """Raise StoreError if there is no array of one of these names."""
        for name in names:
            if name not in self.current:
                raise StoreError(f"The store has no array {name!r}. It has {', '.join(map(repr, self.current))}.")

    def after(self, updates: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Column]:
        """Return the columns that these updates change, as they are after them in this order; changes none itself."""
        names = dict.fromkeys(name for update in updates for name in update)
        return {name: self._after(name, [update[name] for update in updates if name in update]) for name in names}

    def reuse(self, values: Mapping[str, np.ndarray], slots: Mapping[str, dict[str, np.ndarray]]) -> None:
        """Take back buffers that nothing reads any more."""
        self._spare_values.update(values)
        self._spare_slots.update(slots)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return copies of all arrays by key, and a document for JSON."""
        arrays = {}
        for name, column in self.current.items():
            arrays[f"values/{name}"] = column.values.copy()
            for slot, array in column.slots.items():
                arrays[f"slots/{slot}/{name}"] = array.copy()
        return arrays, {
            "optimizers": [[name, optimizer.as_dict()] for name, optimizer in self.optimizers.items()],
            "n_updates": [[name, column.n_updates] for name, column in self.current.items()],
        }

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> Columns:
        """Return the columns that state described, with copies of the arrays."""
        optimizers = {name: from_dict(described) for name, described in document["optimizers"]}
        n_updates = dict(document["n_updates"])
        columns = cls({name: arrays[f"values/{name}"] for name in optimizers}, optimizers)
        for name, column in columns.current.items():
            for slot, array in column.slots.items():
                array[...] = as_range(name, arrays[f"slots/{slot}/{name}"], len(array))
            columns.current[name] = column._replace(n_updates=as_whole(n_updates[name]))
        return columns

    def _after(self, name: str, updates: list[np.ndarray]) -> Column:
        column, optimizer = self.current[name], self.optimizers[name]
        values = self._spare_values.pop(name, None)
        slots = self._spare_slots.pop(name, None)
        if values is None:
            values = np.empty_like(column.values)
        if slots is None:
            slots = {slot: np.empty_like(array) for slot, array in column.slots.items()}
        np.copyto(values, column.values)
        for slot, array in column.slots.items():
            np.copyto(slots[slot], array)
        for number, update in enumerate(updates, column.n_updates + 1):
            optimizer.apply(values, slots, update, number)
        return Column(values, slots, column.n_updates + len(updates))


def as_range(name: str, given: Any, length: int | None = None) -> np.ndarray:
    """Return a range as float64 of shape (length,), without copying where it is that already."""
    array = np.asarray(given)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise StoreError(
            f"The range of {name!r} on a shard must be numbers of shape (n,), got {array.dtype} of shape {array.shape}."
        )
    if length is not None and len(array) != length:
        raise StoreError(f"The shard holds {length} numbers of {name!r}, and {len(array)} were given.")
    return array.astype(np.float64, copy=False)
