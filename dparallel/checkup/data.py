"""What would hurt about data on a cluster, by what is known of them without computing anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dparallel.blocks.budget import memory_share, worker_budget
from dparallel.checkup.report import Finding, gigabytes

SMALL_BYTES = 1_000_000  # a chunk that takes less time to compute with than Dask takes to run a task on it
MANY_PER_THREAD = 20
GOOD_BYTES = 64_000_000


def chunks(X: Any, workers: Mapping[str, Mapping[str, Any]], n_threads: Mapping[str, int]) -> Iterator[Finding]:
    """Find chunks of a size that hurts, and memory that will not do for all of them.

    Parameters
    ----------
    X : anything
    workers : dict by address, as from a probe of workers
    n_threads : dict of int by address
    """
    if not hasattr(X, "dask"):
        yield Finding(
            "note",
            "chunks",
            f"X is a {type(X).__name__} of this process.",
            "dparallel computes where the data are, so a fit with it uses the threads of this process and no worker.",
            "That is best for what fits into this process. For the cluster, read the data there: dask.array.from_zarr, "
            "dask.dataframe.read_parquet.",
        )
        return
    n_blocks = count_blocks(X)
    n_all = sum(n_threads.values())
    if n_blocks < n_all:
        yield Finding(
            "warning",
            "chunks",
            f"X has {n_blocks} blocks of rows for {n_all} threads.",
            "A thread works on whole blocks, so some of them have nothing to do.",
            f"Cut X into at least {n_all} blocks (rechunk, repartition), or into a few for each thread.",
        )
    sizes = block_bytes(X)
    if sizes:
        yield from _sizes(sizes, n_all, workers, n_threads)
        yield from _room(float(sum(sizes)), workers)
    elif isinstance(getattr(X, "numblocks", None), tuple):
        yield Finding(
            "note",
            "chunks",
            f"The rows of the {n_blocks} blocks of X are not known yet.",
            "Fits count them in their first pass, but nobody can tell now whether they fit into memory.",
            "Call X.compute_chunk_sizes() before check() if you want to know; it computes X once.",
        )


def count_blocks(X: Any) -> int:
    """Return the blocks of rows of a Dask collection; 1 of one that has none, such as a Delayed."""
    blocks, partitions = getattr(X, "numblocks", None), getattr(X, "npartitions", None)
    if isinstance(blocks, tuple) and blocks:
        return int(blocks[0])
    return partitions if isinstance(partitions, int) else 1


def block_bytes(X: Any) -> list[float]:
    """Return the bytes of each block of a Dask array, or none where they are not known, as of a dataframe."""
    if not (isinstance(getattr(X, "chunks", None), tuple) and X.chunks and hasattr(X, "dtype")):
        return []
    width = X.dtype.itemsize * math.prod(X.shape[1:])
    if X.dtype.hasobject or any(math.isnan(n) for n in (*X.chunks[0], width)):
        return []
    return [float(n * width) for n in X.chunks[0]]


def _sizes(
    sizes: list[float], n_all: int, workers: Mapping[str, Mapping[str, Any]], n_threads: Mapping[str, int]
) -> Iterator[Finding]:
    mean, total = sum(sizes) / len(sizes), sum(sizes)
    if mean < SMALL_BYTES and len(sizes) > MANY_PER_THREAD * n_all:
        n_good = max(n_all, round(total / GOOD_BYTES))
        yield Finding(
            "warning",
            "chunks",
            f"X has {len(sizes)} blocks of rows, of {gigabytes(mean)} each.",
            "Dask takes some 3 ms for each task, longer than computing with so little takes, and its scheduler has to "
            "remember every one.",
            f"Use larger blocks: X.rechunk() to about {n_good} of {gigabytes(total / n_good)}, best where X is read.",
        )
    # a thread holds a block, what it was computed from, and what comes next
    rooms = {
        address: (answer["limit_bytes"] or answer["memory_bytes"]) / n_threads[address] / 3
        for address, answer in workers.items()
    }
    if rooms and max(sizes) > min(rooms.values()):
        least = min(rooms.values())
        yield Finding(
            "warning",
            "chunks",
            f"The largest block of X takes {gigabytes(max(sizes))}, and a worker has {gigabytes(3 * least)} for each "
            "of its threads.",
            "A thread holds its block, what it is computed from and the one that is read next. Workers will spill, "
            "pause or be ended for want of memory.",
            f"Use blocks of at most {gigabytes(min(least, GOOD_BYTES * 2))} (rechunk where X is read), fewer threads "
            "for each worker, or more memory.",
        )


def _room(total: float, workers: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    share = memory_share()
    room = sum(
        worker_budget(share, answer["limit_bytes"], answer["used_bytes"], answer["target"])
        if answer["limit_bytes"]
        else int(share * answer["memory_bytes"])
        for answer in workers.values()
    )
    if not workers or total <= room:
        return
    why = f"a fit may keep {gigabytes(room)} of it on the workers ({share:.0%} of what is free, below Dask's mark)"
    if share == 0.0:
        why = "dparallel.persist is off, so a fit keeps nothing of it"
    yield Finding(
        "warning",
        "chunks",
        f"X takes {gigabytes(total)}, and {why}.",
        "Blocks that are not kept are read and computed again in every round, and an X that cannot be read again "
        "block by block (after a shuffle or a rechunk) is refused.",
        "Add workers or memory, use float32, or put X on a fast disk (to_zarr, to_parquet) and fit what you read back.",
    )
