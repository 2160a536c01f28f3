"""Where the data decide where the rounds run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dparallel.blocks.block import Blocks
from dparallel.blocks.shards import cut_block
from dparallel.place import Cluster, Local, find
from dparallel.rounds.base import Rounds
from dparallel.rounds.cluster import ClusterRounds
from dparallel.rounds.local import LocalRounds, load_here
from dparallel.rounds.placing import Partitioning


@contextmanager
def open_rounds(
    blocks: Blocks,
    *,
    scratch_bytes_per_row: int = 0,
    partitioning: Partitioning | None = None,
    in_any_order: bool = False,
) -> Iterator[Rounds]:
    """Cut blocks into shards, one per thread that will compute, and open rounds on them.

    Data in this process are computed here, on threads. Dask collections are computed by the active client, or here
    where there is none; inside a Dask task by the workers of its cluster.

    Parameters
    ----------
    blocks : Blocks, from gather
    scratch_bytes_per_row : int, what the partials will keep in shard.scratch, taken off the memory that holds blocks
    partitioning : Partitioning or None, on a cluster: shards that stay what they are whatever workers come and go; None
        to cut them so that every worker has work
    in_any_order : bool, whether blocks that the cluster holds already may be lined up by the workers that hold them, so
        that few of them travel: for algorithms to which the order of the rows means nothing. Combination, offsets and
        row numbers then follow that order.

    Yields
    ------
    rounds : Rounds

    Raises
    ------
    PlaceError
        If the active client is asynchronous, or its cluster has no workers.
    WorkerVersionError
        If workers lack dparallel or hold another version.
    MemoryBudgetError
        If blocks that depend on each other do not fit into memory.
    """
    with find(blocks.is_dask) as place:
        if isinstance(place, Cluster):
            opened: Rounds = ClusterRounds(blocks, place, scratch_bytes_per_row, partitioning, in_any_order)
        else:
            opened = open_here(place, blocks, scratch_bytes_per_row, partitioning)
        with opened as rounds:
            yield rounds


def open_here(
    place: Local, blocks: Blocks, scratch_bytes_per_row: int = 0, partitioning: Partitioning | None = None
) -> LocalRounds:
    """Open rounds in this process; see open_rounds."""
    # threads of this process do not come and go, so one shard per thread will do
    n_shards = partitioning.n_shards if partitioning is not None and partitioning.n_shards else place.n_threads
    if blocks.local is not None:
        return LocalRounds(blocks, cut_block(blocks.local, n_shards))
    return LocalRounds(blocks, load_here(blocks, n_shards, scratch_bytes_per_row))
