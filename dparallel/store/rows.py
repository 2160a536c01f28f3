"""Rows of sparse tables by int64 keys: what a table begins with, what travels, and which shard has which keys."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from dparallel import kernels
from dparallel.errors import StoreError
from dparallel.store.packed import Half

# Keys are hashed to so many virtual ranges, and each shard has some that follow one another.
RANGE_BITS = 12
N_RANGES = 2**RANGE_BITS
_KINDS = ("uniform", "normal")


@dataclass(frozen=True)
class SparseTable:
    """A table of rows under int64 keys, of which only those that were pushed to take memory.

    Parameters
    ----------
    width : int, length of a row; None for one number per key
    initial : float, the first value of every number; or "uniform", drawn between -scale and scale; or "normal", drawn
        with standard deviation scale
    scale : float, of what is drawn
    seed : int in [0, 2**64), of what is drawn

    Raises
    ------
    StoreError
        If one of them does not fit.

    Notes
    -----
    What is drawn is a hash of (seed, key, column), so a row has the same first value whenever and wherever it is asked
    for. A pull of a row that nobody has pushed to does not store it.

    Examples
    --------
    >>> from dparallel import ParameterStore, SparseTable
    >>> with ParameterStore({"emb": SparseTable(width=2)}, optimizer="add") as store:
    ...     store.push({"emb": ([7, 10**15], [[1.0, 2.0], [3.0, 4.0]])}, step=(0, 0))
    ...     store.pull("emb", keys=[10**15, 8])
    array([[3., 4.],
           [0., 0.]])
    """

    width: int | None = None
    initial: float | str = 0.0
    scale: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        settings = {
            "width": (_as_width, "None or a whole number of at least 1"),
            "initial": (_as_initial, f"a finite number, or one of {', '.join(map(repr, _KINDS))}"),
            "scale": (_as_scale, "a positive number"),
            "seed": (_as_seed, "a whole number of at least 0 and below 2**64"),
        }
        for field in fields(self):
            convert, needed = settings[field.name]
            given = getattr(self, field.name)
            try:
                object.__setattr__(self, field.name, convert(given))
            except (TypeError, ValueError):
                raise StoreError(f"SparseTable({field.name}={given!r}): {field.name} must be {needed}.") from None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows, -1 standing for their number, which is not bounded."""
        return (-1,) if self.width is None else (-1, self.width)

    @property
    def n_columns(self) -> int:
        """Numbers in a row."""
        return self.width or 1

    def first_rows(self, keys: np.ndarray) -> np.ndarray:
        """Return the first values of these keys, of shape (n_keys, n_columns), float64."""
        values = np.empty((len(keys), self.n_columns))
        if not isinstance(self.initial, str):
            values[...] = self.initial
            return values
        kind = kernels.key_index.UNIFORM if self.initial == "uniform" else kernels.key_index.NORMAL
        kernels.key_index.initial(kernels.draws.key(self.seed, "sparse"), kind, self.scale, keys, values)
        return values

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain text and numbers, for JSON."""
        return asdict(self)


class Rows(NamedTuple):
    """Rows of one table as they travel.

    Parameters
    ----------
    keys : ndarray of shape (n,), int64, each once
    values : ndarray of shape (n, n_columns), float64; or Half of that shape, before it is applied
    """

    keys: np.ndarray
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return self.keys.nbytes + self.values.nbytes

    def take(self, keys: np.ndarray, where: np.ndarray | slice) -> Rows:
        """Return the rows at some places, which have these keys."""
        values: Any = self.values.take(where) if isinstance(self.values, Half) else self.values[where]
        return Rows(keys, values)

    def copy(self) -> Rows:
        """Return a copy of the arrays."""
        return Rows(self.keys.copy(), self.values.copy())


class Part(NamedTuple):
    """The keys of one table that one shard has."""

    keys: np.ndarray
    places: np.ndarray | slice  # where they stand among all that were given


def as_keys(name: str, given: Any) -> np.ndarray:
    """Return keys as int64 of shape (n,), without copying where they are that already.

    Raises
    ------
    StoreError
        If they are anything else than a list of whole numbers that int64 holds.
    """
    keys = np.asarray(given)
    if keys.ndim == 1 and not keys.size:
        return np.empty(0, np.int64)
    if keys.ndim != 1 or keys.dtype.kind not in "iu":
        raise StoreError(
            f"The keys of {name!r} must be whole numbers of shape (n,), got {keys.dtype} of shape {keys.shape}. Hash "
            "names to int64 first."
        )
    if keys.dtype == np.uint64 and int(keys.max()) >= 2**63:
        raise StoreError(f"The keys of {name!r} go beyond int64. View them as int64: keys.view(numpy.int64).")
    return plain(keys.astype(np.int64, copy=False))


def plain(array: np.ndarray) -> np.ndarray:
    """Return an array as the kernels are compiled for: contiguous and not read-only."""
    return np.require(array, requirements=("C", "W"))


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return each key once, in the order in which they come first, and for each given its place there.

    The places are None where no key comes twice.
    """
    keys = plain(keys)
    index = new_index(len(keys))
    found, places = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    n = kernels.key_index.insert(index, found, 0, keys, places)
    return (keys, None) if n == len(keys) else (found[:n].copy(), places)


def stored_keys(given: np.ndarray) -> np.ndarray:
    """Return the keys that a state holds; a ValueError if they are none, or one comes twice."""
    if given.dtype != np.int64 or given.ndim != 1 or distinct(given)[1] is not None:
        raise ValueError(f"an array of {given.dtype} of shape {given.shape} holds no keys of a table, or one twice")
    return given


def summed(keys: np.ndarray, values: np.ndarray) -> Rows:
    """Return rows in which each key comes once: with the sum of its rows, in their order."""
    found, places = distinct(keys)
    if places is None:
        return Rows(keys, values)
    sums = np.zeros((len(found), values.shape[1]))
    kernels.key_index.add_rows(sums, places, values)
    return Rows(found, sums)


def cut_keys(keys: np.ndarray, cuts: Sequence[int]) -> list[Part]:
    """Return the part of each shard; shard s has the ranges from cuts[s] to cuts[s + 1]."""
    if len(cuts) == 2:
        return [Part(keys, slice(None))]
    ranges = np.empty(len(keys), np.int64)
    kernels.key_index.ranges(keys, RANGE_BITS, ranges)
    # of 16 bits, which numpy sorts by counting
    shards = np.repeat(np.arange(len(cuts) - 1, dtype=np.uint16), np.diff(cuts))[ranges]
    order = np.argsort(shards, kind="stable")
    bounds = np.searchsorted(shards[order], range(len(cuts)))
    return [Part(keys[order[low:high]], order[low:high]) for low, high in zip(bounds, bounds[1:])]


def new_index(n_rows: int) -> np.ndarray:
    """Return an empty index with room for so many rows; see kernels.key_index."""
    return np.full(1 << max(4, (2 * n_rows - 1).bit_length()), -1, np.int32)


def index_of(keys: np.ndarray, room: int) -> np.ndarray:
    """Return the index of rows with these keys, each of which comes once, with room for so many."""
    index, rows, keys = new_index(room), np.empty(len(keys), np.int64), plain(keys)
    kernels.key_index.insert(index, keys, 0, keys, rows)  # each key is written where it stands
    return index


def places_among(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each wanted key stands among keys, -1 where it does not; each of keys comes once."""
    places = np.empty(len(wanted), np.int64)
    kernels.key_index.find(index_of(keys, len(keys)), plain(keys), len(keys), plain(wanted), places)
    return places


class Asked:
    """The keys that somebody wants to read, cut into the shards' parts.

    Parameters
    ----------
    given : dict of str to ndarray of shape (n,), int64; a key may come twice
    rows : dict of str to (shape, cuts) of a table

    Attributes
    ----------
    parts : tuple of dict of str to ndarray, the keys that each shard is asked for
    """

    def __init__(self, given: Mapping[str, np.ndarray], rows: Mapping[str, tuple[Any, Sequence[int]]]):
        n_shards = len(next(iter(rows.values()))[1]) - 1 if rows else 0
        self.parts: tuple[dict[str, np.ndarray], ...] = tuple({} for _ in range(n_shards))
        self._given = given
        self._cut: dict[str, tuple[int, list[Part], np.ndarray | None]] = {}
        for name, keys in given.items():
            found, places = distinct(keys)
            cut = cut_keys(found, rows[name][1])
            self._cut[name] = len(found), cut, places
            for part, (mine, _) in zip(self.parts, cut):
                part[name] = mine

    @property
    def signature(self) -> bytes:
        """What tells these keys from others."""
        digest = blake2b(digest_size=16)
        for name, keys in self._given.items():
            digest.update(f"{name} {len(keys)} ".encode())
            digest.update(keys)
        return digest.digest()

    def part(self, name: str, rows: np.ndarray, shard: int) -> np.ndarray:
        """Return the rows that a shard returned, from what join returned."""
        n, cut, places = self._cut[name]
        if places is not None:
            once = np.empty((n, rows.shape[1]))
            once[places] = rows
            rows = once
        return rows[cut[shard].places]

    def join(self, name: str, found: Sequence[np.ndarray]) -> np.ndarray:
        """Return the rows in the order of the keys, from what each shard returned."""
        n, cut, places = self._cut[name]
        rows = found[0]
        if len(found) > 1:
            rows = np.empty((n, rows.shape[1]))
            for (_, where), some in zip(cut, found):
                rows[where] = some
        return rows if places is None else rows[places]


def sorted_rows(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several shards as one, by ascending key."""
    keys = np.concatenate([part.keys for part in parts])
    order = np.argsort(keys, kind="stable")
    return Rows(keys[order], np.concatenate([part.values for part in parts])[order])


def _as_width(given: Any) -> int | None:
    width = None if given is None else operator.index(given)
    if width is not None and width < 1:
        raise ValueError
    return width


def _as_initial(given: Any) -> float | str:
    if given in _KINDS:
        return str(given)
    number = float(given)
    if not math.isfinite(number):
        raise ValueError
    return number


def _as_scale(given: Any) -> float:
    number = float(given)
    if not (math.isfinite(number) and number > 0):
        raise ValueError
    return number


def _as_seed(given: Any) -> int:
    seed = operator.index(given)
    if not 0 <= seed < 2**64:
        raise ValueError
    return seed
