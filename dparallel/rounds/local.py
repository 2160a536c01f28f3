"""Rounds over shards in this process, on threads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import dask.threaded

from dparallel.blocks.block import Block, Blocks
from dparallel.blocks.budget import memory_share, refuse_if_too_large, shard_budget
from dparallel.blocks.loading import ShardPlan, block_bytes, group_blocks, has_futures, independent_blocks
from dparallel.blocks.shards import Shard, report_shard, total_known, warn_if_streamed
from dparallel.errors import PlaceError
from dparallel.place import Local, run_threads
from dparallel.rounds.base import Combine, Partial, Rounds


class LocalRounds(Rounds):
    """Rounds over shards in this process.

    Parameters
    ----------
    blocks : Blocks
    shards : list of Shard, one per thread; with one shard no thread is started

    Attributes
    ----------
    pool : executor for all shards but the first, or None
    """

    is_local = True

    def __init__(self, blocks: Blocks, shards: Sequence[Shard]):
        super().__init__(blocks)
        self.place = Local(len(shards))
        self.shards = list(shards)
        self._set_offsets()
        self.pool = ThreadPoolExecutor(len(shards) - 1, thread_name_prefix="dparallel") if len(shards) > 1 else None

    @property
    def rows(self) -> list[list[int | None]]:
        return [list(shard.rows) for shard in self.shards]

    @property
    def n_shards(self) -> int:
        return len(self.shards)

    @property
    def n_rows(self) -> int | None:
        return total_known(shard.n_rows for shard in self.shards)

    def _reduce(self, partial: Partial, combine: Combine, state: Any, per_worker: bool) -> Any:
        return functools.reduce(combine, self._collect(partial, state))

    def _collect(self, partial: Partial, state: Any) -> list[Any]:
        timed = run_threads([functools.partial(_run_timed, partial, shard, state) for shard in self.shards], self.pool)
        self._set_offsets()
        self.seconds_by_worker = {f"thread {i}": seconds for i, (_, seconds) in enumerate(timed)}
        return [part for part, _ in timed]

    def _set_offsets(self) -> None:
        offset: int | None = 0
        for shard in self.shards:
            shard.offset = offset
            offset = total_known([offset, shard.n_rows])

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
        self.shards = []


def _run_timed(partial: Partial, shard: Shard, state: Any) -> tuple[Any, float]:
    started = perf_counter()
    part = partial(shard, state)
    return part, perf_counter() - started


def load_here(blocks: Blocks, n_threads: int, scratch_bytes_per_row: int) -> list[Shard]:
    """Make the shards of a Dask collection in this process, one per thread, in memory as far as it goes.

    Raises
    ------
    PlaceError
        If the collection holds futures, which only their own cluster can compute.
    MemoryBudgetError
        If the blocks share tasks, so that they cannot be streamed, and do not fit.
    """
    entries = independent_blocks(blocks)
    ranges = group_blocks(blocks.rows, n_threads)
    if entries is None:
        held = _compute_together(blocks, n_threads)
        return [Shard(i, held[low:high], first_block=low) for i, (low, high) in enumerate(ranges)]
    share = memory_share() / len(ranges)
    plans = [
        ShardPlan(i, low, tuple(entries[low:high]), share, scratch_bytes_per_row)
        for i, (low, high) in enumerate(ranges)
    ]
    with ThreadPoolExecutor(n_threads) as pool:
        shards = run_threads([functools.partial(plan.load, 1) for plan in plans], pool)
    warn_if_streamed([report_shard(shard) for shard in shards])
    return shards


def _compute_together(blocks: Blocks, n_threads: int) -> list[Block]:
    """Compute all blocks at once by Dask's own threads: they share tasks."""
    refuse_futures(blocks)
    sizes = [block_bytes(blocks, i) for i in range(blocks.n_blocks)]
    refuse_if_too_large(sum(size or 0 for size in sizes), shard_budget(memory_share()))
    return list(dask.threaded.get(dict(blocks.graph or {}), list(blocks.keys), num_workers=n_threads))


def refuse_futures(blocks: Blocks) -> None:
    """Raise PlaceError for data that only their own cluster has."""
    if has_futures(blocks):
        raise PlaceError(
            "The data hold futures of a Dask cluster, and no client is active here. Open a Client to that cluster, or "
            "build the data anew."
        )
