"""The thread pools of BLAS and OpenMP, held to one thread while small matrices are worked on."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_inside = {"blas": 0, "openmp": 0}
_limits: dict[str, Any] = {}


@contextmanager
def one_thread(api: str) -> Iterator[None]:
    """Hold a pool of this process to one thread; several threads may be inside, and the last to leave restores it.

    For small matrices a pool costs more than it saves: OpenBLAS's threads go on spinning for some 25 ms after a
    product, on cores that are needed for other things. Limits set and lifted by several threads, each for itself, may
    leave the pool at one thread for good.

    Parameters
    ----------
    api : "blas" or "openmp"
    """
    with _lock:
        if not _inside[api]:
            _limits[api] = _pools(len(sys.modules)).limit(limits=1, user_api=api)
        _inside[api] += 1
    try:
        yield
    finally:
        with _lock:
            _inside[api] -= 1
            if not _inside[api]:
                _limits.pop(api).restore_original_limits()


@functools.lru_cache(maxsize=1)
def _pools(n_modules: int) -> Any:
    """The pools of this process, found anew when modules were imported since: to look for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
