"""From the graph of the blocks to shards in memory, as far as the memory goes."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from dparallel.blocks.block import Block, Blocks
from dparallel.blocks.budget import shard_budget
from dparallel.blocks.shards import Shard
from dparallel.blocks.streaming import LazyBlock
from dparallel.compat import fuse, future_status, holders, is_plain_data, task_graph


def independent_blocks(blocks: Blocks) -> list[LazyBlock] | None:
    """Give each block the tasks that it needs, or return None if blocks have a task in common or depend on futures.

    Parameters
    ----------
    blocks : Blocks of a Dask collection
    """
    tasks, futures = task_graph(blocks.graph)
    if futures:
        return None
    owner: dict[Hashable, int] = {}
    entries = []
    for i, key in enumerate(blocks.keys):
        own, missing = _ancestors(tasks, key)
        if missing or any(owner.setdefault(k, i) != i for k, task in own.items() if not is_plain_data(task)):
            return None
        entries.append(LazyBlock(own, key, blocks.rows[i], block_bytes(blocks, i)))
    return entries


def fused(graph: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> dict[Hashable, Any]:
    """The same graph, but what only one of some keys needs is one task: each task is a message from the scheduler.

    Parameters
    ----------
    graph : a Dask graph
    keys : those that are wanted; none is needed by another. A single one stays as it is, since its tasks may run side
        by side.
    """
    graph = dict(graph)
    if len(keys) < 2:
        return graph
    tasks, futures = task_graph(graph)
    needed = {key: _ancestors(tasks, key)[0].keys() - futures.keys() for key in keys}
    n_owners = Counter(name for names in needed.values() for name in names)
    for key, names in needed.items():
        own = [name for name in names if n_owners[name] == 1 and not _is_data(tasks[name])]
        if len(own) > 1 and key in own:
            for name in own:
                del graph[name]
            graph[key] = fuse([tasks[name] for name in own])
    return graph


def _is_data(task: Any) -> bool:
    return is_plain_data(task) and not task.dependencies


def future_keys(blocks: Blocks) -> list[set[Hashable]]:
    """The keys of the futures that each block needs: of what was persisted or scattered.

    Dask's optimisation leaves a future in the graph, or only its key in the tasks that need it.
    """
    tasks, futures = task_graph(blocks.graph)
    found = []
    for key in blocks.keys:
        own, missing = _ancestors(tasks, key)
        found.append(missing | {futures[name].key for name in own.keys() & futures.keys()})
    return found


def has_futures(blocks: Blocks) -> bool:
    """Whether the data were persisted or scattered, so that only their cluster has them."""
    return any(future_keys(blocks))


def lost_blocks(blocks: Blocks, client: Any) -> list[int]:
    """Return the numbers of the blocks that need one of the user's futures that was cancelled."""
    lost = ("cancelled", "lost", None)
    return [i for i, keys in enumerate(future_keys(blocks)) if any(future_status(client, key) in lost for key in keys)]


def find_homes(blocks: Blocks, client: Any) -> list[str] | None:
    """Return the worker that holds most of what each block is made of; None if that is not known of all.

    Parameters
    ----------
    blocks : Blocks of a Dask collection
    client : distributed.Client
    """
    needed = future_keys(blocks)
    if not all(needed):
        return None
    places = holders(client, set().union(*needed))
    homes = []
    for keys in needed:
        weights: Counter[str] = Counter()
        for key in keys:
            at, size = places.get(key, ((), 0))
            weights.update({worker: max(1, size) for worker in at})
        if not weights or not keys <= places.keys():
            return None  # it is not there yet
        homes.append(max(sorted(weights), key=weights.__getitem__))
    return homes


def _ancestors(tasks: Mapping[Hashable, Any], key: Hashable) -> tuple[dict[Hashable, Any], set[Hashable]]:
    """Return the tasks that key needs, itself included, and the keys among them that are not in the graph."""
    found: dict[Hashable, Any] = {}
    missing: set[Hashable] = set()
    wanted = [key]
    while wanted:
        name = wanted.pop()
        if name in tasks and name not in found:
            found[name] = tasks[name]
            wanted.extend(tasks[name].dependencies)
        elif name not in tasks:
            missing.add(name)
    return found, missing


def block_bytes(blocks: Blocks, i: int) -> int | None:
    """Return the expected size of block i, None where it cannot be known."""
    rows = blocks.rows[i]
    if rows is None or blocks.is_sparse:
        return None
    return rows * (blocks.n_features * blocks.dtype.itemsize + 8 * blocks.weighted)


IN_FLIGHT = 3  # blocks of a streaming shard at one time: one computed with, one prefetched, one as it came from disk


@dataclass(frozen=True)
class ShardPlan:
    """All that a worker needs to make a shard.

    Parameters
    ----------
    index : int, the shard's number
    first_block : int, blocks before the shard
    entries : tuple of LazyBlock
    memory_share : float, which share of the worker's free memory may hold blocks and scratch; 0 streams everything
    scratch_bytes_per_row : int
    """

    index: int
    first_block: int
    entries: tuple[LazyBlock, ...]
    memory_share: float
    scratch_bytes_per_row: int

    def load(self, n_sharers: int | None = None) -> Shard:
        """Make the shard, keeping its first blocks in memory as far as the share of memory goes.

        Parameters
        ----------
        n_sharers : int or None, shards that use this process's memory; None in a Dask task, where threads are counted
        """
        budget = shard_budget(self.memory_share, n_sharers)
        rows = [entry.n_rows for entry in self.entries]
        scratch = self.scratch_bytes_per_row * sum(n for n in rows if n is not None)
        scratch_enabled = budget > 0 and scratch <= budget // 2
        if scratch_enabled:
            budget -= scratch
        entries = keep_first(self.entries, budget, self.scratch_bytes_per_row * scratch_enabled)
        return Shard(self.index, entries, first_block=self.first_block, scratch_enabled=scratch_enabled)


def keep_first(
    entries: Sequence[LazyBlock], budget_bytes: int, scratch_bytes_per_row: int = 0
) -> list[Block | LazyBlock]:
    """Compute blocks in order while they fit into the budget; the others stay as they are.

    Parameters
    ----------
    entries : sequence of LazyBlock
    budget_bytes : int
    scratch_bytes_per_row : int, counted for blocks of unknown length; that of the others is already off the budget
    """
    kept: list[Block | LazyBlock] = list(entries)
    sizes: list[int] = []
    known = [entry.size_bytes for entry in entries if entry.size_bytes is not None]
    left = budget_bytes - (0 if sum(known) <= budget_bytes else IN_FLIGHT * max(known))
    for i, entry in enumerate(entries):
        expected = max(sizes, default=0) if entry.size_bytes is None else entry.size_bytes
        if left <= 0 or expected > left:
            break
        is_counted = entry.n_rows is not None
        block = entry.compute()
        size = block.nbytes + (0 if is_counted else scratch_bytes_per_row * block.n_rows)
        sizes.append(size)
        if size > left:
            break
        kept[i] = block
        left -= size
    if len(known) < len(entries) and any(isinstance(entry, LazyBlock) for entry in kept):
        _make_room(kept, entries, sizes, left)
    return kept


def _make_room(kept: list[Block | LazyBlock], entries: Sequence[LazyBlock], sizes: Sequence[int], left: int) -> None:
    """Give up kept blocks, the last first, until there is room for the blocks that a pass has in flight."""
    for i in reversed(range(len(sizes))):
        if left >= IN_FLIGHT * max(sizes):
            break
        if isinstance(kept[i], Block):
            left += sizes[i]
            kept[i] = entries[i]


def group_blocks(rows: Sequence[int | None], n_groups: int) -> list[tuple[int, int]]:
    """Divide consecutive blocks into groups of about the same number of rows, or of blocks where rows are unknown.

    Parameters
    ----------
    rows : rows of each block, None where unknown
    n_groups : int

    Returns
    -------
    ranges : list of (first block, block after the last), none empty, at most n_groups
    """
    n_groups = max(1, min(n_groups, len(rows)))
    known = [float(n) for n in rows if n is not None]
    weights = known if len(known) == len(rows) and any(known) else [1.0] * len(rows)
    before = [0.0, *accumulate(weights)]
    cuts = [0]
    for group in range(1, n_groups):
        wanted = before[-1] * group / n_groups
        low, high = cuts[-1] + 1, len(rows) - (n_groups - group)
        cut = bisect_left(before, wanted, low, high)
        cuts.append(cut - 1 if cut > low and wanted - before[cut - 1] <= before[cut] - wanted else cut)
    return list(zip(cuts, [*cuts[1:], len(rows)], strict=True))
