"""One round over data that no other round will read: each block is computed, used and let go.

Rounds hold the blocks, which pays from the second pass on. For a score, or for the sums that a scaler takes, holding
would be a wait of its own: first for the shards, then for the round. Here blocks and partials are one graph.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import dask.threaded

from dparallel.blocks.block import Block, Blocks
from dparallel.blocks.loading import fused, lost_blocks
from dparallel.blocks.shards import Shard
from dparallel.place import Cluster, find
from dparallel.rounds import tasks
from dparallel.rounds.base import Combine, Partial
from dparallel.rounds.cluster import FAN_IN, MAX_RELOADS, workers_gone
from dparallel.rounds.local import refuse_futures
from dparallel.rounds.opening import open_here
from dparallel.rounds.watching import Stuck, Watch


def reduce_once(blocks: Blocks, partial: Partial, combine: Combine, state: Any = None) -> Any:
    """Compute partial(shard, state) of all blocks, combined in row order, in a single round.

    Parameters
    ----------
    blocks : Blocks, from gather
    partial : picklable callable (shard, state) -> part; on a cluster a shard is one block, and its offset is unknown
    combine : picklable callable (part, part) -> part, associative; must not change its arguments
    state : anything picklable

    Returns
    -------
    total : the combined part, all that leaves the workers

    Raises
    ------
    PlaceError, WorkerVersionError, MemoryBudgetError
        As by open_rounds.
    DataLostError, ClusterLostError
        As by Rounds.reduce.
    """
    with find(blocks.is_dask) as place:
        if isinstance(place, Cluster):
            return _reduce_on_cluster(blocks, place, tasks.pack((partial, state)), tasks.pack(combine))
        if not blocks.is_dask:
            with open_here(place, blocks) as rounds:
                return rounds.reduce(partial, combine, state)
        refuse_futures(blocks)
        graph, total = _graph(blocks, lambda i, key: (functools.partial(_run, partial, state, i), key), combine)
        return dask.threaded.get(graph, total, num_workers=place.n_threads)


def _reduce_on_cluster(blocks: Blocks, place: Cluster, partial: bytes, combine: bytes) -> Any:
    """Ask the cluster for the total; where its tasks got stuck, ask again."""
    client = place.client
    watch = Watch(client, lambda key: True, functools.partial(lost_blocks, blocks, client))
    for _ in range(MAX_RELOADS):
        future = _submit(client, blocks, partial, combine)
        try:
            return watch.gather([future])[0]
        except Stuck:
            continue
        finally:
            future.release()
    raise workers_gone(client)


def _submit(client: Any, blocks: Blocks, partial: bytes, combine: bytes) -> Any:
    """Give the whole graph to the scheduler; returns the future of the total."""
    held = f"dparallel-state-{uuid.uuid4().hex[:12]}"  # a key of its own, which travels once to each worker
    unpacked = functools.partial(_combine_packed, combine)
    given: dict[Hashable, Any] = {held: (tasks.hold, partial)}
    graph, total = _graph(blocks, lambda i, key: (_run_packed, held, i, key), unpacked, given)
    return client.get(graph, [total], sync=False)[0]


def _graph(
    blocks: Blocks, run: Callable[[int, Hashable], Any], combine: Combine, given: Mapping[Hashable, Any] = {}
) -> tuple[dict[Hashable, Any], Hashable]:
    """The graph of the blocks and of what is made of them, and the key of the total.

    Parameters
    ----------
    run : function of the number and the key of a block that returns the task of its part
    given : other tasks that it needs
    """
    token = uuid.uuid4().hex[:12]
    graph: dict[Hashable, Any] = {**(blocks.graph or {}), **given}
    keys: Sequence[Hashable] = [f"dparallel-partial-{token}-{i}" for i in range(blocks.n_blocks)]
    graph.update({key: run(i, block) for i, (key, block) in enumerate(zip(keys, blocks.keys, strict=True))})
    graph = fused(graph, keys)
    while len(keys) > 1:
        groups = [list(keys[start : start + FAN_IN]) for start in range(0, len(keys), FAN_IN)]
        names = [f"dparallel-combine-{token}-{len(keys)}-{i}" for i in range(len(groups))]
        graph.update({name: (_fold, combine, group) for name, group in zip(names, groups, strict=True)})
        keys = names
    return graph, keys[0]


def _run(partial: Partial, state: Any, index: int, block: Block) -> Any:
    """Run a partial on one block."""
    return partial(Shard(index, [block], first_block=index), state)


def _run_packed(payload: bytes, index: int, block: Block) -> Any:
    partial, state = tasks.unpack(payload)
    return _run(partial, state, index, block)


def _fold(combine: Combine, parts: Sequence[Any]) -> Any:
    """Combine parts in order."""
    return functools.reduce(combine, parts)


def _combine_packed(payload: bytes, first: Any, second: Any) -> Any:
    return tasks.unpack(payload)(first, second)
