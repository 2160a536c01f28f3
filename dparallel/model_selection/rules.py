"""Which rows of a block belong to a part of the data: small rules that travel to the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels

_HALVINGS = 4  # rounds of a Feistel network, from which on it passes for a random permutation (Luby and Rackoff, 1988)


def shuffled(numbers: np.ndarray, n: int, key: np.uint64 | None) -> np.ndarray:
    """Give each number its place in a permutation of 0 .. n - 1, without making the whole of it.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows,), int64, in [0, n)
    n : int
    key : uint64 from kernels.draws.key, which says which permutation; None for the one that changes nothing

    Returns
    -------
    places : ndarray of shape (n_rows,), int64, in [0, n), as different as the numbers are

    Notes
    -----
    A balanced Feistel network over the next power of four; what falls outside is sent through again (Black and Rogaway,
    "Ciphers with arbitrary finite domains", 2002).
    """
    if key is None or n < 2:
        return numbers
    half = np.uint64(((n - 1).bit_length() + 1) // 2)
    places = numbers.astype(np.uint64)
    outside = np.ones(len(places), bool)
    while outside.any():
        places[outside] = _exchange(places[outside], half, key)
        outside = places >= np.uint64(n)
    return places.astype(np.int64)


def _exchange(values: np.ndarray, half: np.uint64, key: np.uint64) -> np.ndarray:
    """Permute the numbers below 4 ** half."""
    low = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & low
    for step in range(_HALVINGS):
        own = kernels.draws.mix.py_func(np.array([key + np.uint64(step)], np.uint64))
        left, right = right, left ^ (kernels.draws.mix.py_func(right ^ own) & low)
    return (left << half) | right


@dataclass(frozen=True)
class Places:
    """Rows whose place among all rows, in the order of a permutation, is in [low, high).

    Parameters
    ----------
    first_row : int, the global number of the block's first row
    n : int, rows of all blocks
    low, high : int
    key : uint64 that says which permutation, or None for the order of the rows
    inverted : bool, whether all other rows are meant
    """

    first_row: int
    n: int
    low: int
    high: int
    key: np.uint64 | None = None
    inverted: bool = False

    def __call__(self, n_rows: int, values: Any = None) -> np.ndarray:
        """The chosen rows: ndarray of shape (n_rows,), bool."""
        places = shuffled(np.arange(self.first_row, self.first_row + n_rows), self.n, self.key)
        return ((places >= self.low) & (places < self.high)) ^ self.inverted

    def count(self, n_rows: int) -> int | None:
        """How many rows are chosen, None where only the rule itself can tell."""
        if self.key is not None:
            return None
        inside = max(0, min(self.high, self.first_row + n_rows) - max(self.low, self.first_row))
        return n_rows - inside if self.inverted else inside


@dataclass(frozen=True)
class ClassPlaces:
    """Rows whose place among the rows of their class is in [low, high) of that class.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), sorted, those of the block
    here : ndarray of shape (n_classes,), int64: rows of the class in the block
    first, n, low, high : ndarray of shape (n_classes,), int64: rows of the class before the block, and in all blocks
    keys : sequence of uint64, one per class, or None
    inverted : bool, whether all other rows are meant
    """

    classes: np.ndarray
    here: np.ndarray
    first: np.ndarray
    n: np.ndarray
    low: np.ndarray
    high: np.ndarray
    keys: Any = None
    inverted: bool = False

    def __call__(self, n_rows: int, values: Any) -> np.ndarray:
        """The chosen rows: ndarray of shape (n_rows,), bool; values : ndarray of shape (n_rows,), the rows' classes."""
        count = self.count(n_rows)
        if count in (0, n_rows):
            return np.full(n_rows, count > 0)  # nobody has to look for classes
        chosen = np.zeros(n_rows, bool)
        for c, label in enumerate(self.classes):
            rows = np.flatnonzero(values == label)
            if self.keys is None:
                chosen[rows[slice(*self._inside(c))]] = True
            else:
                places = shuffled(self.first[c] + np.arange(len(rows)), int(self.n[c]), self.keys[c])
                chosen[rows] = (places >= self.low[c]) & (places < self.high[c])
        return chosen ^ self.inverted

    def count(self, n_rows: int) -> int | None:
        """How many rows are chosen, None where only the rule itself can tell."""
        if self.keys is not None:
            return None
        low, high = self._inside(slice(None))
        inside = int((high - low).sum())
        return n_rows - inside if self.inverted else inside

    def _inside(self, c: Any) -> tuple[Any, Any]:
        """Which of a class's rows in the block, in their order, are in [low, high)."""
        low, high = (np.clip(edge[c] - self.first[c], 0, self.here[c]) for edge in (self.low, self.high))
        return low, high


@dataclass(frozen=True)
class Members:
    """Rows of some groups.

    Parameters
    ----------
    groups : ndarray of shape (n_groups,), those of the block that are chosen
    inverted : bool, whether the rows of all other groups are meant
    """

    groups: np.ndarray
    inverted: bool = False

    def __call__(self, n_rows: int, values: Any) -> np.ndarray:
        """The chosen rows: ndarray of shape (n_rows,), bool; values : ndarray of shape (n_rows,), the rows' groups."""
        return np.isin(values, self.groups) ^ self.inverted

    def count(self, n_rows: int) -> int | None:
        """How many rows are chosen, None where only the rule itself can tell."""
        return None


@dataclass(frozen=True)
class Listed:
    """Rows by their numbers in the block; rows : ndarray of shape (n_chosen,), int64."""

    rows: np.ndarray

    def __call__(self, n_rows: int, values: Any = None) -> np.ndarray:
        """The chosen rows' numbers: ndarray of shape (n_chosen,), int64."""
        return self.rows

    def count(self, n_rows: int) -> int | None:
        """How many rows are chosen."""
        return len(self.rows)
