"""The shards of one fit on a cluster: made, moved when workers come and go, and let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from dparallel.blocks.block import Blocks
from dparallel.blocks.budget import cluster_limit, memory_share, refuse_if_too_large
from dparallel.blocks.loading import ShardPlan, find_homes, fused, group_blocks, has_futures, independent_blocks
from dparallel.blocks.shards import ShardReport, report_shard, total_known, warn_if_streamed
from dparallel.place import Cluster
from dparallel.rounds import tasks
from dparallel.rounds.crew import Crew
from dparallel.rounds.placing import Partitioning, assign_workers
from dparallel.rounds.watching import Watch


@dataclass
class Held:
    """A shard as the driver sees it.

    Parameters
    ----------
    low, high : int, its blocks
    worker : str, the address of the worker that it is meant to be on
    future : distributed.Future of the Shard
    """

    low: int
    high: int
    worker: str
    future: Any


class Holding:
    """Keeps the shards of one fit on the workers, one per thread where there are blocks enough.

    Parameters
    ----------
    blocks : Blocks of a Dask collection
    place : Cluster
    watch : Watch
    token : str, in the name of every key of this fit
    scratch_bytes_per_row : int
    partitioning : Partitioning or None, shards that are to stay what they are; None to cut them as workers come and go
    in_any_order : bool, whether blocks may be lined up by the workers that hold them, so that few of them travel

    Attributes
    ----------
    shards : list of Held in row order
    rows : list of int or None, rows per block as far as known, in the order in which blocks are lined up
    assign : function like placing.assign_workers, which says where shards belong when they are moved
    """

    def __init__(
        self,
        blocks: Blocks,
        place: Cluster,
        watch: Watch,
        token: str,
        scratch_bytes_per_row: int,
        partitioning: Partitioning | None = None,
        in_any_order: bool = False,
    ):
        self.client = place.client
        self.shards: list[Held] = []
        self.rows: list[int | None] = list(blocks.rows)
        self.assign = assign_workers
        self._blocks = blocks
        self._watch = watch
        self._token = token
        self._names = count()
        self._made: list[Any] = []
        self._scratch_bytes_per_row = scratch_bytes_per_row
        self._entries = independent_blocks(blocks)
        self._partitioning = partitioning
        per_thread = 1 if partitioning is None else partitioning.per_thread
        self._share = memory_share() / (place.count_fits() * per_thread)
        self._threads: dict[str, int] = {}  # of the workers that get shards
        self._has_warned = False
        self._in_any_order = in_any_order
        self._order: list[int] = []  # the block at each place, once they are lined up
        self._crew = Crew(place.client, token)

    def load(self) -> None:
        """Make the shards and wait until they are there; warn if some blocks have to be streamed."""
        self._threads = self._crew.welcome(self._watch.wait_for_workers())
        if self._entries is not None:
            self._load_apart(self._ranges(), self._entries)
        else:
            homes = find_homes(self._blocks, self.client)
            if homes is None:
                self._load_through_scheduler()
            else:
                self._load_where_it_lies(homes)
            if total_known(self.rows) is not None:
                return  # there is nothing that the shards could tell
        reports = self.count_rows()
        if not self._has_warned:
            warn_if_streamed(reports)
            self._has_warned = True

    def _ranges(self) -> list[tuple[int, int]]:
        """The blocks of each shard."""
        n_threads = sum(self._threads.values())
        if self._partitioning is None:
            return group_blocks(self.rows, n_threads)
        return self._partitioning.group(self.rows, n_threads)

    @property
    def is_loaded_by_dask(self) -> bool:
        """Whether Dask computes the blocks, which share tasks or need futures; else each shard computes its own."""
        return self._entries is None

    def _load_apart(self, ranges, entries) -> None:
        """Let each shard's task compute the blocks from their own graphs, as far as the memory goes."""
        workers = assign_workers([None] * len(ranges), self._threads)
        for i, ((low, high), worker) in enumerate(zip(ranges, workers, strict=True)):
            self.shards.append(self._load_one(i, low, high, entries, worker))

    def _load_one(self, index: int, low: int, high: int, entries, worker: str) -> Held:
        plan = ShardPlan(index, low, tuple(entries[low:high]), self._share, self._scratch_bytes_per_row)
        return Held(low, high, worker, self._submit(tasks.load_shard, tasks.pack(plan), worker=worker))

    def _load_where_it_lies(self, homes: Sequence[str]) -> None:
        """Join each shard where most of it is, in one task with what turns persisted data into its blocks.

        Nobody waits for that here: the first round does.
        """
        order, ranges, workers = self._plan(homes)
        keys = [self._name(tasks.assemble_shard) for _ in ranges]
        graph = dict(self._blocks.graph or {})
        for i, (key, (low, high)) in enumerate(zip(keys, ranges, strict=True)):
            graph[key] = (tasks.assemble_shard, i, low, True, *(self._blocks.keys[block] for block in order[low:high]))
        graph = fused(graph, keys)
        for key, (low, high), worker in zip(keys, ranges, workers, strict=True):
            (future,) = self.client.get(graph, [key], workers=[worker], allow_other_workers=True, sync=False)
            self._made.append(future)
            self.shards.append(Held(low, high, worker, future))

    def _load_through_scheduler(self) -> None:
        """Let Dask compute blocks that depend on each other or on futures, and join each shard where most of it is."""
        keys = list(self._blocks.keys)
        blocks = self.client.get(fused(self._blocks.graph or {}, keys), keys, sync=False)
        try:
            self._watch.wait(blocks)
            self._check_memory(blocks)
            places = self.client.who_has(blocks)
            order, ranges, workers = self._plan([min(places.get(block.key, ()), default="") for block in blocks])
            for i, ((low, high), worker) in enumerate(zip(ranges, workers, strict=True)):
                own = [blocks[block] for block in order[low:high]]
                future = self._submit(tasks.assemble_shard, i, low, True, *own, worker=worker)
                self.shards.append(Held(low, high, worker, future))
            self._watch.wait([shard.future for shard in self.shards])
        finally:
            for block in blocks:
                block.release()

    def _plan(self, homes: Sequence[str]) -> tuple[Sequence[int], list[tuple[int, int]], list[str]]:
        """Say in which order blocks go, which of them each shard gets, and which worker, from where the blocks are."""
        order = self._line_up(homes)
        ranges = self._ranges()
        holders = [_most_frequent([homes[i] for i in order[low:high] if homes[i]]) for low, high in ranges]
        return order, ranges, assign_workers(holders, self._threads)

    def _line_up(self, homes: Sequence[str]) -> Sequence[int]:
        """Return the block at each place, by the workers that held them at first, and put rows into that order."""
        if not self._order:
            numbers = range(len(homes))
            self._order = sorted(numbers, key=homes.__getitem__) if self._in_any_order else list(numbers)
            self.rows = [self.rows[i] for i in self._order]
        return self._order

    def _check_memory(self, blocks: Sequence[Any]) -> None:
        """Refuse blocks that share tasks and do not fit: streaming would compute the shared tasks in every round."""
        if has_futures(self._blocks):
            return  # persisted by the user: it is in memory already
        sizes = self.client.nbytes([block.key for block in blocks], summary=False)
        limit = cluster_limit(self.client)
        if limit is not None:
            refuse_if_too_large(sum(sizes.values()), int(self._share * limit))

    def count_rows(self) -> list[ShardReport]:
        """Ask the shards for their lengths and fill in rows."""
        reports = [self._submit(report_shard, shard.future, worker=shard.worker) for shard in self.shards]
        found = self._watch.gather(reports)
        for report in reports:
            report.release()
        for shard, report in zip(self.shards, found, strict=True):
            for i, rows in enumerate(report.rows, shard.low):
                self.rows[i] = self.rows[i] if rows is None else rows
        return found

    def offsets(self) -> list[int | None]:
        """Return the global number of each shard's first row, None after a block of unknown length."""
        found: list[int | None] = []
        before: int | None = 0
        for shard in self.shards:
            found.append(before)
            before = total_known([before, *self.rows[shard.low : shard.high]])
        return found

    @property
    def threads(self) -> dict[str, int]:
        """Threads of the workers that get shards, by address."""
        return self._threads

    def doubt(self, worker: str) -> None:
        """Let follow move all shards away from a worker that seems to stand still, until it answers again."""
        self._crew.doubt(worker)

    def follow(self, threads: dict[str, int], anyway: bool = False) -> None:
        """Move or cut shards so that all threads have work, if workers came or went since the last call.

        Parameters
        ----------
        threads : threads of each worker that is there now
        anyway : bool, whether to ask assign also where the workers are the same
        """
        usable = self._crew.usable(threads)
        if not usable or (usable == self._threads and not anyway):
            return
        self._threads = usable
        homes = self.client.who_has([shard.future for shard in self.shards])
        for shard in self.shards:
            at = homes.get(shard.future.key, ())
            shard.worker = shard.worker if shard.worker in at else next(iter(at), shard.worker)
        ranges = [(shard.low, shard.high) for shard in self.shards]
        if self._partitioning is None and min(sum(self._threads.values()), len(self.rows)) > len(ranges):
            ranges = group_blocks(self.rows, sum(self._threads.values()))
        self._move(ranges)

    def _move(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Make the shards that ranges ask for out of those there are."""
        old = {(shard.low, shard.high): shard for shard in self.shards}
        holders = [self._holder_of(low) for low, _ in ranges]
        new = []
        for i, ((low, high), worker) in enumerate(zip(ranges, self.assign(holders, self._threads), strict=True)):
            same = old.get((low, high))
            if same is not None and same.worker == worker:
                new.append(same)
            elif same is not None and same.worker not in self._threads and self._entries is not None:
                new.append(self._load_one(i, low, high, self._entries, worker))  # its holder may never answer
            else:
                new.append(self._join(i, low, high, worker))
        self._watch.wait([shard.future for shard in new])
        self.shards = new
        self._release_all_but([shard.future for shard in new])

    def _join(self, index: int, low: int, high: int, worker: str) -> Held:
        """Cut the blocks low to high out of the present shards, where they are, and join them on worker."""
        pieces = []
        for shard in self.shards:
            start, stop = max(low, shard.low) - shard.low, min(high, shard.high) - shard.low
            if stop - start == shard.high - shard.low:
                pieces.append(shard.future)  # whole: nobody has to cut it, at a worker that may be slow
            elif start < stop:
                pieces.append(self._submit(tasks.cut_shard, shard.future, start, stop, worker=shard.worker))
        return Held(low, high, worker, self._submit(tasks.join_shards, index, *pieces, worker=worker))

    def _holder_of(self, block: int) -> str:
        return next(shard.worker for shard in self.shards if shard.low <= block < shard.high)

    def _submit(self, function, *arguments, worker: str) -> Any:
        pinned = {"workers": [worker], "allow_other_workers": True}
        future = self.client.submit(function, *arguments, key=self._name(function), pure=False, **pinned)
        self._made.append(future)
        return future

    def _name(self, function) -> str:
        return f"dparallel-{function.__name__.replace('_', '-')}-{self._token}-{next(self._names)}"

    def _release_all_but(self, futures: Sequence[Any]) -> None:
        kept = {future.key for future in futures}
        for future in self._made:
            if future.key not in kept:
                future.release()
        self._made = list(futures)

    def release(self) -> None:
        """Let go of all shards; load makes them anew."""
        self.shards = []
        self._release_all_but([])

    def close(self) -> None:
        """Let go of everything."""
        self._crew.close()
        self.release()


def _most_frequent(addresses: Sequence[str]) -> str | None:
    return max(sorted(set(addresses)), key=addresses.count) if addresses else None
