"""How named arrays are cut into shards, and the messages that both transports speak."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dparallel.checkpoint import LARGEST_WHOLE, as_whole
from dparallel.errors import StoreError
from dparallel.store.packed import Half, Picked
from dparallel.store.rows import N_RANGES, Asked, Rows, SparseTable, as_keys, cut_keys, sorted_rows, summed


@dataclass(frozen=True, slots=True)
class FullUpdate:
    """What one step adds to the store.

    Parameters
    ----------
    step : (partition, clock); partition is an int, or a str for a handle that counts its own pushes
    values : dict of str to ndarray of the array's shape, or to (keys, rows) of a sparse table; some of the names, or
        none
    versions : tuple of int, versions of the shards that the step was computed from, from its Reply; None if unknown
    """

    step: tuple[int | str, int]
    values: Mapping[str, Any]
    versions: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What an exchange returns.

    Parameters
    ----------
    parameters : dict of str to ndarray of the array's shape, or (n_keys, width) of a sparse table, float64, owned by
        the receiver; (keys, rows) of a table whose keys were not given, all rows there are by ascending key
    versions : tuple of int, updates applied on each shard at the moment of reading
    progress : dict of int to int, clock of each partition's next step, the least over the shards
    epochs : tuple of int, reigns of those who answered, on a cluster
    question : what was read, for those who compare
    """

    parameters: dict[str, Any]
    versions: tuple[int, ...]
    progress: dict[int, int]
    epochs: tuple[int, ...] = ()
    question: Any = None


@dataclass(frozen=True)
class Layout:
    """Which range of each array, flattened in C order, lies on which shard, and which range of a table's hashed keys.

    Parameters
    ----------
    names : tuple of str
    shapes : tuple of tuple of int, shape of each array; of a sparse table (-1,) or (-1, width)
    cuts : tuple of tuple of int, n_shards + 1 increasing positions in each flattened array, or among rows.N_RANGES

    Attributes
    ----------
    tables : frozenset of str, names of the sparse tables
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    cuts: tuple[tuple[int, ...], ...]
    tables: frozenset[str] = field(init=False, repr=False, compare=False)
    _rows: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = {name: (shape, cuts) for name, shape, cuts in zip(self.names, self.shapes, self.cuts, strict=True)}
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "tables", frozenset(name for name, (shape, _) in rows.items() if _is_table(shape)))

    def __reduce__(self) -> tuple[type[Layout], tuple[Any, ...]]:
        return Layout, (self.names, self.shapes, self.cuts)

    @classmethod
    def even(cls, shapes: Mapping[str, Sequence[int]], n_shards: int = 1) -> Layout:
        """Return the layout that gives each shard the same share of each array, to one element."""
        if n_shards < 1 or not shapes:
            raise StoreError(f"A store needs at least one shard and one array, got n_shards={n_shards} of {shapes}.")
        sizes = [N_RANGES if _is_table(shape) else math.prod(shape) for shape in shapes.values()]
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
        """Bytes of all arrays; of sparse tables nobody knows."""
        return 8 * sum(math.prod(shape) for shape in self.shapes if not _is_table(shape))

    def split(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Cut arrays into the shards' ranges.

        Parameters
        ----------
        values : dict of str to array-like of the array's shape, numbers, or to (keys, rows) of a sparse table; some of
            the names, or none; or to what they were compressed to

        Returns
        -------
        parts : tuple of dict of str to ndarray of shape (n,), float64, one for each shard; views where possible.
            A shard that has no element of an array gets an empty range. Of a table Rows, for shards that have some;
            rows of a key that comes more than once are added up.

        Raises
        ------
        StoreError
            If a name, shape or kind does not fit, or a number is NaN, infinite or a whole number beyond 2**53.
        """
        parts: tuple[dict[str, Any], ...] = tuple({} for _ in range(self.n_shards))
        for name, given in values.items():
            cuts = self._row(name)[1]
            whole = given if isinstance(given, (Half, Picked, Rows)) else self._checked(name, given)
            if isinstance(whole, Rows):
                for part, (keys, where) in zip(parts, cut_keys(whole.keys, cuts)):
                    if len(keys):
                        part[name] = whole.take(keys, where)
            elif isinstance(whole, (Half, Picked)):
                for part, low, high in zip(parts, cuts, cuts[1:]):
                    part[name] = whole.cut(low, high)
            else:
                for part, low, high in zip(parts, cuts, cuts[1:]):
                    part[name] = whole[low:high]
        return parts

    def checked(self, values: Mapping[str, Any]) -> dict[str, np.ndarray | Rows]:
        """Return an update's values as flat arrays of float64, and Rows with each key once; raises what split does."""
        return {name: self._checked(name, given) for name, given in values.items()}

    def _checked(self, name: str, given: Any) -> np.ndarray | Rows:
        shape = self._row(name)[0]
        if _is_table(shape):
            return _rows_of(name, given, shape)
        array = as_numbers(name, given)
        if array.shape != shape:
            raise StoreError(f"{name!r} has shape {shape} on the store, and {array.shape} was given.")
        return array.reshape(-1)

    def join(self, parts: Sequence[Mapping[str, Any]], asked: Asked | None = None) -> dict[str, Any]:
        """Put together what split cut: one dict per shard, with ranges of the same names, to arrays of full shape.

        Of tables each dict has the rows that this shard was asked for, or all its Rows where no keys were given.
        """
        tables = self.tables
        if not tables.isdisjoint(parts[0]):
            dense = self.join([{name: part[name] for name in part if name not in tables} for part in parts])
            return {
                name: dense[name] if name in dense else self._joined(name, [part[name] for part in parts], asked)
                for name in parts[0]
            }
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

    def reading(self, names: Iterable[str] | None, keys: Any) -> tuple[tuple[str, ...], Asked | None]:
        """Return the names that are to be read, and the keys that each shard is asked for.

        Parameters
        ----------
        names : str or names of arrays and tables; None for all, but where keys are given only the tables that they name
        keys : dict of str to array-like of shape (n,), whole numbers, for tables among the names; None for all rows

        Raises
        ------
        StoreError
            If there is no array of such a name, or keys do not fit.
        """
        if names is None and keys is None:
            return self.names, None
        tables = self.tables
        given = {} if keys is None else keys
        if names is None:
            wanted = tuple(name for name in self.names if name not in tables or name in given)
        else:
            wanted = (names,) if isinstance(names, str) else tuple(names)
            for name in wanted:
                self._row(name)
        for name in given:
            if name not in tables or name not in wanted:
                raise StoreError(
                    f"Keys are given for {name!r}, which is no sparse table among the names to read. "
                    f"The tables are {', '.join(map(repr, sorted(tables))) or 'none'}."
                )
        if not given:
            return wanted, None
        checked = {name: as_keys(name, mine) for name, mine in given.items()}
        return wanted, Asked(checked, {name: self._row(name) for name in given})

    def part_of(self, parameters: Mapping[str, Any], number: int, asked: Asked | None) -> dict[str, Any]:
        """Return what a shard contributed to what join returned."""
        part: dict[str, Any] = {}
        for name, given in parameters.items():
            cuts = self._row(name)[1]
            if name not in self.tables:
                part[name] = given.reshape(-1)[cuts[number] : cuts[number + 1]]
            elif isinstance(given, tuple):
                keys, where = cut_keys(given[0], cuts)[number]
                part[name] = Rows(keys, given[1].reshape(len(given[0]), -1)[where])
            elif asked is not None:
                part[name] = asked.part(name, given.reshape(len(given), -1), number)
        return part

    def _joined(self, name: str, parts: Sequence[Any], asked: Asked | None) -> Any:
        shape = self._row(name)[0]
        if isinstance(parts[0], Rows):
            keys, values = sorted_rows(parts)
            return keys, values.reshape(shape)
        assert asked is not None
        return asked.join(name, parts).reshape(shape)

    def as_dict(self) -> dict[str, Any]:
        """Return the layout as plain lists, for JSON."""
        return {"names": list(self.names), "shapes": [*map(list, self.shapes)], "cuts": [*map(list, self.cuts)]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Layout:
        """Return the layout that as_dict described; a ValueError or TypeError if it described none."""
        names, shapes, cuts = document["names"], document["shapes"], document["cuts"]
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise ValueError("a layout needs the names of its arrays, each once")
        layout = cls(
            tuple(names),
            tuple(tuple(as_whole(length, -1) for length in shape) for shape in shapes),
            tuple(tuple(map(as_whole, row)) for row in cuts),
        )
        for name, (shape, row) in layout._rows.items():
            size = N_RANGES if _is_table(shape) else math.prod(shape)
            is_shape = min(shape[_is_table(shape) :], default=0) >= 0
            rises = len(row) == layout.n_shards + 1 and list(row) == sorted(row)
            if not (is_shape and rises and layout.n_shards and (row[0], row[-1]) == (0, size)):
                raise ValueError(f"the shape and the cuts of {name!r} do not fit each other")
        return layout

    def _row(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        try:
            return self._rows[name]
        except (KeyError, TypeError):
            raise StoreError(f"The store has no array {name!r}. It has {', '.join(map(repr, self.names))}.") from None


def initial_values(parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays that a store begins with.

    Parameters
    ----------
    parameters : dict of str to shape (int or tuple of int, zeros), or to ndarray with the first values, or to
        SparseTable

    Returns
    -------
    values : dict of str to ndarray, float64; without the tables
    """
    if not parameters:
        raise StoreError('A store needs at least one array, for instance {"W": (n_features, n_classes)}.')
    values = {}
    for name, given in parameters.items():
        if not isinstance(name, str):
            raise StoreError(f"The name {name!r} of an array must be a str.")
        if isinstance(given, (int, np.integer, tuple)):
            values[name] = _zeros(name, given)
        elif not isinstance(given, SparseTable):
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


def _is_table(shape: Sequence[int]) -> bool:
    return len(shape) > 0 and shape[0] < 0


def _rows_of(name: str, given: Any, shape: tuple[int, ...]) -> Rows:
    """Return an update of a sparse table with each key once."""
    try:
        keys, values = given
    except (TypeError, ValueError):
        raise StoreError(
            f"{name!r} is a sparse table, and {type(given).__name__} was given. Give a pair (keys, rows)."
        ) from None
    keys, values = as_keys(name, keys), as_numbers(name, values)
    if values.shape != (len(keys), *shape[1:]):
        raise StoreError(
            f"{len(keys)} keys of {name!r} need rows of shape {(len(keys), *shape[1:])}, and {values.shape} was given."
        )
    return summed(keys, values.reshape(len(keys), math.prod(shape[1:])))


def _zeros(name: str, shape: Any) -> np.ndarray:
    lengths = shape if isinstance(shape, tuple) else (shape,)
    if not all(isinstance(length, (int, np.integer)) and length >= 0 for length in lengths):
        raise StoreError(f"The shape {shape!r} of {name!r} must be whole numbers of at least 0.")
    return np.zeros(lengths)
