"""How large dicts and lists travel: as one string of bytes, read without a search for garbage in between.

While a list of a million small containers is unpickled, Python looks again and again for garbage among all that are
there already, which takes ten times as long as the reading.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle

from dparallel.mapreduce.garbage import seldom_searched


def pack(make: Callable[[Any], Any], content: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return what the method __reduce__ of a container must: how to make it again from its content."""
    try:
        packed = pickle.dumps(content, protocol=5)
        is_known_elsewhere = b"__main__" not in packed
    except Exception:  # what a local class, a lambda or a lock raises differs
        is_known_elsewhere = False
    if not is_known_elsewhere:
        packed = cloudpickle.dumps(content, protocol=5)
    return unpack, (make, packed)


def unpack(make: Callable[[Any], Any], packed: bytes) -> Any:
    """Return the container."""
    with seldom_searched():
        return make(pickle.loads(packed))
