"""Numbers in fewer bytes, as they travel: in half precision, or a few of many."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

LARGEST_EXPONENT = 15  # of float16, whose largest number is 65504


class Half(NamedTuple):
    """Numbers in half precision: scale * codes.

    Parameters
    ----------
    codes : ndarray of any shape, float16
    scale : float, a power of two, so that nothing is lost but the digits beyond the eleventh
    """

    codes: np.ndarray
    scale: float

    @classmethod
    def of(cls, values: np.ndarray) -> Half:
        """Return the nearest to finite values of float64."""
        largest = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))
        # with a smaller power than the last one, numbers near the least there are would be divided by 0
        power = max(math.frexp(largest)[1] - LARGEST_EXPONENT, sys.float_info.min_exp - 1)
        scale = math.ldexp(1.0, power) if largest else 1.0
        return cls((values / scale).astype(np.float16), scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the numbers."""
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the codes."""
        return self.codes.nbytes

    def full(self) -> np.ndarray:
        """Return the numbers as float64."""
        return self.codes.astype(np.float64) * self.scale

    def cut(self, low: int, high: int) -> Half:
        """Return a range of the first axis."""
        return Half(self.codes[low:high], self.scale)

    def take(self, where: np.ndarray | slice) -> Half:
        """Return some rows."""
        return Half(self.codes[where], self.scale)

    def copy(self) -> Half:
        """Return a copy of the arrays."""
        return Half(self.codes.copy(), self.scale)


class Picked(NamedTuple):
    """A few numbers of a flat array, the others being zero.

    Parameters
    ----------
    places : ndarray of shape (n_picked,), uint32 or int64, ascending
    values : ndarray of shape (n_picked,), float64
    size : int, length of the array
    """

    places: np.ndarray
    values: np.ndarray
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes of places and values."""
        return self.places.nbytes + self.values.nbytes

    def full(self) -> np.ndarray:
        """Return all numbers, of shape (size,), float64."""
        numbers = np.zeros(self.size)
        numbers[self.places] = self.values
        return numbers

    def cut(self, low: int, high: int) -> Picked:
        """Return a range of the array."""
        first, last = np.searchsorted(self.places, (low, high))
        return Picked(self.places[first:last] - self.places.dtype.type(low), self.values[first:last], high - low)

    def copy(self) -> Picked:
        """Return a copy of the arrays."""
        return Picked(self.places.copy(), self.values.copy(), self.size)


def unpacked(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an update's values in full: those that are Half or Picked, or Rows of such."""
    for given in values.values():
        if isinstance(given, tuple):
            return {name: _unpacked(mine) for name, mine in values.items()}
    return values


def _unpacked(given: Any) -> Any:
    if isinstance(given, (Half, Picked)):
        return given.full()
    rows: Any = given
    return rows._replace(values=rows.values.full()) if isinstance(getattr(rows, "values", None), Half) else rows
