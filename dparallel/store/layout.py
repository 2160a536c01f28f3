"""How named arrays are cut into shards, and the messages that both transports speak."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dparallel.errors import CheckpointError, StoreError

LARGEST_WHOLE = 2**53  # beyond it float64 skips whole numbers


@dataclass(frozen=True, slots=True)
class FullUpdate:
    """What one step adds to the store.

    Parameters
    ----------
    step : (partition, clock); partition is an int, or a str for a handle that counts its own pushes
    values : dict of str to ndarray of the array's shape; some of the names, or none
    versions : tuple of int, versions of the shards that the step was computed from, from its Reply; None if unknown
    """

    step: tuple[int | str, int]
    values: Mapping[str, np.ndarray]
    versions: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What an exchange returns.

    Parameters
    ----------
    parameters : dict of str to ndarray of the array's shape, float64, owned by the receiver
    versions : tuple of int, updates applied on each shard at the moment of reading
    progress : dict of int to int, clock of each partition's next step, the least over the shards
    """

    parameters: dict[str, np.ndarray]
    versions: tuple[int, ...]
    progress: dict[int, int]


@dataclass(frozen=True)
class Layout:
    """Which range of each array, flattened in C order, lies on which shard.

    Parameters
    ----------
    names : tuple of str
    shapes : tuple of tuple of int, shape of each array
    cuts : tuple of tuple of int, n_shards + 1 increasing positions in each flattened array
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    cuts: tuple[tuple[int, ...], ...]
    _rows: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = {name: (shape, cuts) for name, shape, cuts in zip(self.names, self.shapes, self.cuts, strict=True)}
        object.__setattr__(self, "_rows", rows)

    def __reduce__(self) -> tuple[type[Layout], tuple[Any, ...]]:
        return Layout, (self.names, self.shapes, self.cuts)

    @classmethod
    def even(cls, shapes: Mapping[str, Sequence[int]], n_shards: int = 1) -> Layout:
        """Return the layout that gives each shard the same share of each array, to one element."""
        if n_shards < 1 or not shapes:
            raise StoreError(f"A store needs at least one shard and one array, got n_shards={n_shards} of {shapes}.")
        sizes = [math.prod(shape) for shape in shapes.values()]
        return cls(
            tuple(shapes),
            tuple(tuple(int(length) for length in shape) for shape in shapes.values()),
            tuple(tuple(size * number // n_shards for number in range(n_shards + 1)) for size in sizes),
        )

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self.cuts[0]) - 1

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return 8 * sum(math.prod(shape) for shape in self.shapes)

    def split(self, values: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], ...]:
        """Cut arrays into the shards' ranges.

        Parameters
        ----------
        values : dict of str to array-like of the array's shape, numbers; some of the names, or none

        Returns
        -------
        parts : tuple of dict of str to ndarray of shape (n,), float64, one for each shard; views where possible.
            A shard that has no element of an array gets an empty range.

        Raises
        ------
        StoreError
            If a name, shape or kind does not fit, or a number is NaN, infinite or a whole number beyond 2**53.
        """
        parts: tuple[dict[str, np.ndarray], ...] = tuple({} for _ in range(self.n_shards))
        for name, given in values.items():
            shape, cuts = self._row(name)
            array = as_numbers(name, given)
            if array.shape != shape:
                raise StoreError(f"{name!r} has shape {shape} on the store, and {array.shape} was given.")
            flat = array.reshape(-1)
            for part, low, high in zip(parts, cuts, cuts[1:]):
                part[name] = flat[low:high]
        return parts

    def join(self, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Put together what split cut: one dict per shard, with ranges of the same names, to arrays of full shape."""
        if len(parts) == 1:
            return {name: array.reshape(self._row(name)[0]) for name, array in parts[0].items()}
        arrays, rooms = self.rooms(dict.fromkeys(name for part in parts for name in part))
        for room, part in zip(rooms, parts, strict=True):
            for name, view in room.items():
                view[...] = part[name]
        return arrays

    def rooms(self, names: Iterable[str]) -> tuple[dict[str, np.ndarray], tuple[dict[str, np.ndarray], ...]]:
        """Return new arrays of full shape, not filled, and for each shard the views of its ranges."""
        arrays: dict[str, np.ndarray] = {}
        rooms: tuple[dict[str, np.ndarray], ...] = tuple({} for _ in range(self.n_shards))
        for name in names:
            shape, cuts = self._row(name)
            arrays[name] = np.empty(shape)
            flat = arrays[name].reshape(-1)
            for room, low, high in zip(rooms, cuts, cuts[1:]):
                room[name] = flat[low:high]
        return arrays, rooms

    def check_names(self, names: Iterable[str]) -> None:
        """Raise StoreError if there is no array of one of these names."""
        for name in names:
            self._row(name)

    def as_dict(self) -> dict[str, Any]:
        """Return the layout as plain lists, for JSON."""
        return {"names": list(self.names), "shapes": [*map(list, self.shapes)], "cuts": [*map(list, self.cuts)]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Layout:
        """Return the layout that as_dict described."""
        return cls(tuple(document["names"]), tuple(map(tuple, document["shapes"])), tuple(map(tuple, document["cuts"])))

    def _row(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        try:
            return self._rows[name]
        except (KeyError, TypeError):
            raise StoreError(f"The store has no array {name!r}. It has {', '.join(map(repr, self.names))}.") from None


def initial_values(parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays that a store begins with.

    Parameters
    ----------
    parameters : dict of str to shape (int or tuple of int, zeros), or to ndarray with the first values

    Returns
    -------
    values : dict of str to ndarray, float64
    """
    if not parameters:
        raise StoreError('A store needs at least one array, for instance {"W": (n_features, n_classes)}.')
    values = {}
    for name, given in parameters.items():
        if not isinstance(name, str):
            raise StoreError(f"The name {name!r} of an array must be a str.")
        if isinstance(given, (int, np.integer, tuple)):
            values[name] = _zeros(name, given)
        else:
            values[name] = as_numbers(name, given)
    return values


def as_numbers(name: str, given: Any) -> np.ndarray:
    """Return an array as float64, without copying where it is that already.

    Raises
    ------
    StoreError
        If it holds anything but finite numbers, or whole numbers that float64 does not hold.
    """
    try:
        array = np.asarray(given)
    except ValueError as error:  # nested sequences of unequal lengths
        raise StoreError(f"{name!r} is no array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise StoreError(f"{name!r} must be real numbers, got {array.dtype}. The store holds float64.")
    if array.dtype.kind in "iu" and array.size and max(int(array.max()), -int(array.min())) > LARGEST_WHOLE:
        raise StoreError(f"{name!r} holds whole numbers beyond 2**53, which float64 on the store cannot tell apart.")
    numbers = array.astype(np.float64, copy=False)
    if not np.isfinite(numbers).all():
        raise StoreError(
            f"{name!r} holds NaN or infinity. "
            "Look at the data and the loss; if the training diverges, lower the learning rate."
        )
    return numbers


def _zeros(name: str, shape: Any) -> np.ndarray:
    lengths = shape if isinstance(shape, tuple) else (shape,)
    if not all(isinstance(length, (int, np.integer)) and length >= 0 for length in lengths):
        raise StoreError(f"The shape {shape!r} of {name!r} must be whole numbers of at least 0.")
    return np.zeros(lengths)


def pack(
    layout: Layout, states: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the states of all shards as one set of arrays and one document, for a file. See unpack."""
    arrays = {f"{number}/{key}": array for number, (held, _) in enumerate(states) for key, array in held.items()}
    return arrays, {"layout": layout.as_dict(), "shards": [dict(document) for _, document in states]}


def unpack(
    arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]
) -> tuple[Layout, list[tuple[dict[str, np.ndarray], dict[str, Any]]]]:
    """Return what pack was given.

    Raises
    ------
    CheckpointError
        If this is no store's.
    """
    try:
        layout = Layout.from_dict(document["layout"])
        documents = document["shards"]
        if len(documents) != layout.n_shards:
            raise ValueError(f"{len(documents)} shards, and a layout of {layout.n_shards}")
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"The snapshot holds no parameter store: {error!r}.") from error
    states: list[tuple[dict[str, np.ndarray], dict[str, Any]]] = [({}, described) for described in documents]
    for key, array in arrays.items():
        number, _, rest = key.partition("/")
        if number.isdecimal() and int(number) < len(states):
            states[int(number)][0][rest] = array
    for name, cuts in zip(layout.names, layout.cuts):
        for (held, _), low, high in zip(states, cuts, cuts[1:]):
            if f"values/{name}" not in held or held[f"values/{name}"].shape != (high - low,):
                raise CheckpointError(f"The snapshot lacks {name!r} from {low} to {high}, which its layout names.")
    return layout, states
