"""What runs on the workers: making shards, cutting and joining them, one partial, one combine."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from dask.sizeof import sizeof

from dparallel.blocks.block import Block
from dparallel.blocks.loading import ShardPlan
from dparallel.blocks.shards import Shard
from dparallel.compat import worker_of_this_task


def pack(thing: Any) -> bytes:
    """Pickle what a task is given, functions of __main__ included, into bytes that Dask does not look into."""
    from distributed.protocol import pickle

    return pickle.dumps(thing)


def unpack(payload: bytes) -> Any:
    """Undo pack."""
    from distributed.protocol import pickle

    return pickle.loads(payload)


def load_shard(payload: bytes) -> Shard:
    """Make a shard from the graphs of its own blocks."""
    plan: ShardPlan = unpack(payload)
    return plan.load()


def assemble_shard(index: int, first_block: int, scratch_enabled: bool, *blocks: Block) -> Shard:
    """Make a shard of blocks that Dask computed."""
    return Shard(index, blocks, first_block=first_block, scratch_enabled=scratch_enabled)


def cut_shard(shard: Shard, low: int, high: int) -> Shard:
    """Return blocks low to high of a shard, numbered from its own first, in the same memory."""
    entries = shard.blocks.entries[low:high]
    first_block = shard.first_block + low
    return Shard(shard.index, entries, first_block=first_block, scratch_enabled=shard.scratch.enabled)


def join_shards(index: int, *pieces: Shard) -> Shard:
    """Make one shard of pieces that follow each other."""
    entries = [entry for piece in pieces for entry in piece.blocks.entries]
    enabled = all(piece.scratch.enabled for piece in pieces)
    return Shard(index, entries, first_block=pieces[0].first_block, scratch_enabled=enabled)


def hold(payload: bytes) -> bytes:
    """Return a large state, so that it is a key of its own and travels once per worker."""
    return payload


def run_partial(shard: Shard, offset: int | None, payload: bytes) -> Any:
    """Run one partial on one shard."""
    shard.offset = offset
    partial, state = unpack(payload)
    return partial(shard, state)


@dataclass(frozen=True, slots=True)
class Timed:
    """A part of a round's total, and how long the workers took for it.

    Parameters
    ----------
    part : Any
    seconds : dict of address of a worker to float, how long it computed: its slowest shard
    """

    part: Any
    seconds: dict[str, float]

    def __sizeof__(self) -> int:
        return int(sizeof(self.part)) + 100 * len(self.seconds)  # by which Dask knows what a result weighs


def run_timed(shard: Shard, offset: int | None, payload: bytes) -> Timed:
    """Run one partial on one shard, and say who took how long."""
    started = perf_counter()
    part = run_partial(shard, offset, payload)
    worker = worker_of_this_task()
    return Timed(part, {} if worker is None else {worker.address: perf_counter() - started})


def run_combine(payload: bytes, *parts: Timed) -> Timed:
    """Combine parts in order."""
    total = functools.reduce(unpack(payload), [timed.part for timed in parts])
    return Timed(total, slowest(timed.seconds for timed in parts))


def slowest(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The longest that each worker took for one of several shards of a round."""
    found: dict[str, float] = {}
    for part in parts:
        for worker, seconds in part.items():
            found[worker] = max(seconds, found.get(worker, 0.0))
    return found
