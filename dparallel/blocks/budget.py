"""How much memory the blocks of a fit may take."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import dask

from dparallel.compat import worker_memory, worker_of_this_task
from dparallel.errors import MemoryBudgetError

_LIBRARY_BYTES = 150_000_000  # what numba, its kernels and scikit-learn will take in a worker that has not loaded them


MEMORY_SHARE = 0.4  # of the free memory, where dparallel.memory-share does not say another


def memory_share() -> float:
    """Return the share of the free memory that blocks and scratch may take, 0 where dparallel.persist is off."""
    if not dask.config.get("dparallel.persist", True):
        return 0.0
    return float(dask.config.get("dparallel.memory-share", MEMORY_SHARE))


def cluster_limit(client: Any) -> int | None:
    """Return the bytes that the workers of a client may use together, None where one of them has no limit."""
    limits = [worker["memory_limit"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    return sum(limits) if all(limits) else None


def shard_budget(share: float, n_sharers: int | None = None) -> int:
    """Return the bytes that a shard may keep in blocks and scratch.

    Parameters
    ----------
    share : float, of the memory that is free in this process
    n_sharers : int or None, shards that use this process's memory; None in a Dask task, where threads are counted

    Notes
    -----
    On a worker it is also what is left below the mark at which Dask spills: a spilled shard loses its scratch and is
    read back in every round.
    """
    worker = worker_of_this_task()
    if worker is None:
        return int(share * _free_system_bytes()) // (n_sharers or 1)
    limit, used = worker_memory(worker)
    if not limit:
        return int(share * _free_system_bytes()) // (n_sharers or worker.state.nthreads)
    mark = dask.config.get("distributed.worker.memory.target", 0.6)
    to_come = 0 if "sklearn" in sys.modules and "numba" in sys.modules else _LIBRARY_BYTES
    return worker_budget(share, limit, used + to_come, mark, to_come) // (n_sharers or worker.state.nthreads)


def worker_budget(share: float, limit: int, used: int, mark: float | bool, to_come: int = 0) -> int:
    """Return the bytes that all blocks and scratch on a worker may take.

    Parameters
    ----------
    share : float, of the memory that is free
    limit, used : int, bytes of the worker; to_come : int, those of used that libraries have yet to take
    mark : float or False, share of the limit at which Dask begins to spill
    """
    return max(0, int(min(share * (limit - used + to_come), (mark or 1.0) * limit - used)))


def _free_system_bytes() -> int:
    import psutil

    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no such file, or "max": no limit on this container
        limit, used = (int(_read(f"/sys/fs/cgroup/memory.{name}")) for name in ("max", "current"))
        free = min(free, max(0, limit - used))
    return free


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def refuse_if_too_large(needed_bytes: int, given_bytes: int) -> None:
    """Refuse blocks that share tasks and do not fit: streaming them would compute the shared tasks in every round.

    Raises
    ------
    MemoryBudgetError
    """
    if memory_share() == 0.0:
        raise MemoryBudgetError(
            "The blocks depend on each other (after a shuffle, a rechunk, an indexing or a statistic of the whole), so "
            "they must be held in memory, and dparallel.persist is off in Dask's configuration. Switch it on, or write "
            "the data to disk first (to_zarr, to_parquet) and fit what you read back."
        )
    if needed_bytes > given_bytes:
        raise MemoryBudgetError(
            "The blocks depend on each other (after a shuffle, a rechunk or a statistic of the whole), so they must be "
            f"held in memory. That takes {needed_bytes / 1e9:.2f} GB, and {given_bytes / 1e9:.2f} GB may be used. "
            "Write the data to disk first (to_zarr, to_parquet) and fit what you read back, add workers or memory, or "
            "raise dparallel.memory-share."
        )
