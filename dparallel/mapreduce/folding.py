"""Reducing a pair of values at a time, as functools.reduce does."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dparallel.errors import DataKindError

_UNCHANGEABLE = frozenset({int, float, bool, complex, str, bytes, tuple, frozenset, type(None), Fraction})


@dataclass(frozen=True)
class Fold:
    """A reducer or combiner that takes in one value after another: ``function(function(a, b), c)`` and so on.

    The quick way where it will do: no list of the values is made, so each value is let go of as soon as it is taken in.
    As a reducer without another combiner it is its own combiner.

    Parameters
    ----------
    function : function (left, right) -> value
        Associative: it must not matter where the values are cut into parts. Values come in the order of the source. It
        may change left itself and return it, as ``left |= right`` does for sets: a left value is always one that it has
        returned, or a copy (``copy.copy``). It does not change right, nor what left and right hold.

    Raises
    ------
    DataKindError
        If function cannot be called.

    Examples
    --------
    >>> import operator
    >>> from dparallel import map_reduce
    >>> from dparallel.mapreduce import Fold
    >>> def words(line):
    ...     return [(word, 1) for word in line.split()]
    >>> lines = [["to be or not"], ["to be"]]  # two partitions
    >>> map_reduce(lines, words, Fold(operator.add), n_reducers=1).compute(scheduler="threads")
    [('be', 2), ('not', 1), ('or', 1), ('to', 2)]
    """

    function: Callable[[Any, Any], Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise DataKindError(f"function is {self.function!r}. Give a function of two values.")

    def __call__(self, key: Hashable, values: Iterable[Any]) -> Any:
        """Return all values of a key as one; a single one as it is."""
        remaining = iter(values)
        first = next(remaining)
        for second in remaining:
            return functools.reduce(self.function, remaining, self.function(own(first), second))
        return first


def own(value: Any) -> Any:
    """Return a value that may be changed without changing the given one."""
    return value if type(value) in _UNCHANGEABLE else copy.copy(value)
