"""Which reducer a key goes to: the same in every process, whatever Python's hash seed."""

from __future__ import annotations

from numbers import Number
from typing import Any
from zlib import crc32

from dparallel.errors import DataError, DataKindError

_MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: neighbouring numbers end far apart (Knuth, volume 3)
_MASK = 2**64 - 1
_NONE = 0x6E6F6E65


def partition_of(key: Any, n_reducers: int) -> int:
    """Return the number of the reducer that gets a key.

    Parameters
    ----------
    key : str, bytes, number (int, float, bool, complex, Fraction, Decimal, NumPy's), None, or a tuple of these
    n_reducers : int, at least 1

    Returns
    -------
    partition : int, from 0 to n_reducers - 1

    Raises
    ------
    DataKindError
        If the key is of another kind.
    DataError
        If the key is or holds NaN, which does not equal itself.

    Notes
    -----
    Keys that are equal get the same number: 1, 1.0 and True, or 0.0 and -0.0. Python's own hash would do for numbers
    only: that of a str depends on PYTHONHASHSEED, which workers do not share.
    """
    if type(key) is str:  # the usual case first
        return crc32(key.encode("utf-8", "surrogatepass")) % n_reducers
    return stable_hash(key) % n_reducers


def stable_hash(key: Any) -> int:
    """Return a number of at most 44 bits that equal keys share in all processes; raises what partition_of raises."""
    if isinstance(key, str):
        return crc32(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, bytes):
        return crc32(key, 1)
    if key is None:
        return _NONE
    if isinstance(key, Number):
        if key != key:
            raise DataError("A key is NaN, which equals no key, so its values cannot meet. Yield None instead.")
        return ((hash(key) * _MULTIPLIER) & _MASK) >> 20  # Python's hash of a number is the same for equal numbers
    if isinstance(key, tuple):
        code = len(key)
        for part in key:
            code = ((code ^ stable_hash(part)) * _MULTIPLIER) & _MASK
        return code >> 20
    raise DataKindError(
        f"A key is a {type(key).__name__}: {key!r:.200}. Keys are str, bytes, numbers, None, or tuples of these. "
        "Yield one of these, or give map_reduce a partitioner."
    )
