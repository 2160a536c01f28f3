"""Python's search for cyclic garbage, which a dict of many lists slows down."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NEW_CONTAINERS = 500_000  # between two searches; Python's own 700 made map tasks take 1.4 to 2 times as long

_lock = threading.Lock()
_n_inside = 0
_before = gc.get_threshold()


@contextmanager
def seldom_searched() -> Iterator[None]:
    """Search less often while any thread of this process is inside; a search that was switched off stays so."""
    global _n_inside, _before
    with _lock:
        if _n_inside == 0:
            _before = gc.get_threshold()
            if 0 < _before[0] < NEW_CONTAINERS:
                gc.set_threshold(NEW_CONTAINERS, *_before[1:])
        _n_inside += 1
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                gc.set_threshold(*_before)
