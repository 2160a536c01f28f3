"""Rounds over shards on the workers of a Dask cluster: one task per shard and round."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from dask.sizeof import sizeof

from dparallel.blocks.block import Blocks
from dparallel.blocks.loading import lost_blocks
from dparallel.blocks.shards import total_known
from dparallel.errors import ClusterLostError
from dparallel.place import Cluster
from dparallel.rounds import tasks
from dparallel.rounds.base import Combine, Partial, Rounds
from dparallel.rounds.holding import Holding
from dparallel.rounds.placing import Partitioning
from dparallel.rounds.watching import Stuck, Watch

EMBEDDED_BYTES = 65_536  # a larger state is a key of its own and travels once per worker, not once per task
FAN_IN = 16
MAX_RELOADS = 5


class ClusterRounds(Rounds):
    """Rounds over shards on a cluster.

    Parameters
    ----------
    blocks : Blocks of a Dask collection
    place : Cluster
    scratch_bytes_per_row : int
    partitioning, in_any_order : see Holding

    Attributes
    ----------
    client : distributed.Client
    token : str, in the name of every key of this fit
    watch : Watch
    holding : Holding
    """

    is_local = False

    def __init__(
        self,
        blocks: Blocks,
        place: Cluster,
        scratch_bytes_per_row: int = 0,
        partitioning: Partitioning | None = None,
        in_any_order: bool = False,
    ):
        super().__init__(blocks)
        self.place = place
        self.client = place.client
        self._number = 0
        self._running: list[Any] = []
        self.token = uuid.uuid4().hex[:12]
        self.watch = Watch(place.client, self._is_ours, functools.partial(lost_blocks, blocks, place.client))
        self.holding = Holding(blocks, place, self.watch, self.token, scratch_bytes_per_row, partitioning, in_any_order)
        try:
            self.persevere(lambda: None)
        except BaseException:
            self.close()
            raise

    def _is_ours(self, key: Any) -> bool:
        # blocks that Dask computes for us may wait for any task of the user's
        return self.holding.is_loaded_by_dask or self.token in str(key)

    def persevere(self, action: Callable[[], Any]) -> Any:
        """Do something on the cluster; where its tasks got stuck, make the shards anew and do it again."""
        for _ in range(MAX_RELOADS):
            try:
                if not self.holding.shards:
                    self.holding.load()
                return action()
            except Stuck:
                self._release()
                self.holding.release()
        raise workers_gone(self.client)

    @property
    def rows(self) -> list[list[int | None]]:
        return [self.holding.rows[shard.low : shard.high] for shard in self.holding.shards]

    @property
    def n_shards(self) -> int:
        return len(self.holding.shards)

    @property
    def n_rows(self) -> int | None:
        return total_known(self.holding.rows)

    def _reduce(self, partial: Partial, combine: Combine, state: Any, per_worker: bool) -> Any:
        parts = self.persevere(lambda: self._round(partial, state, combine, per_worker))
        return functools.reduce(combine, parts)

    def _collect(self, partial: Partial, state: Any) -> list[Any]:
        return self.persevere(lambda: self._round(partial, state, None))

    def _round(self, partial: Partial, state: Any, combine: Combine | None, per_worker: bool = False) -> list[Any]:
        """Run one round and fetch its parts, no more than FAN_IN where they may be combined."""
        self.holding.follow(self.watch.threads)
        self._number += 1
        try:
            parts, sent = self._submit_partials(tasks.pack((partial, state)))
            if combine is not None and per_worker:
                parts = self._combine_on_workers(tasks.pack(combine), parts)
            while combine is not None and len(parts) > FAN_IN:
                parts = self._submit_combines(tasks.pack(combine), parts)
            self.watch.look()
            timed = self.watch.gather(parts)
        finally:
            self._release()
        found = [one.part for one in timed]
        self.seconds_by_worker = tasks.slowest(one.seconds for one in timed)
        self.bytes_moved = sent + sum(sizeof(part) for part in found)
        if self.n_rows is None:
            self.holding.count_rows()
        return found

    def _submit_partials(self, payload: bytes) -> tuple[list[Any], int]:
        shards = self.holding.shards
        given: Any = payload
        copies = len(shards)
        if len(payload) > EMBEDDED_BYTES:
            given = self._submit("state", 0, tasks.hold, payload, worker=shards[0].worker)
            copies = len({shard.worker for shard in shards})
        parts = [
            self._submit("partial", i, tasks.run_timed, shard.future, offset, given, worker=shard.worker)
            for i, (shard, offset) in enumerate(zip(shards, self.holding.offsets(), strict=True))
        ]
        return parts, copies * len(payload)

    def _combine_on_workers(self, payload: bytes, parts: Sequence[Any]) -> list[Any]:
        """Combine neighbouring parts of the same worker there."""
        pairs = zip(self.holding.shards, parts, strict=True)
        groups = [(w, [part for _, part in group]) for w, group in groupby(pairs, key=lambda pair: pair[0].worker)]
        return [
            group[0] if len(group) == 1 else self._submit("join", i, tasks.run_combine, payload, *group, worker=worker)
            for i, (worker, group) in enumerate(groups)
        ]

    def _submit_combines(self, payload: bytes, parts: Sequence[Any]) -> list[Any]:
        """Combine neighbours on the workers, FAN_IN at a time."""
        groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
        return [
            self._submit(f"combine-{len(parts)}", i, tasks.run_combine, payload, *group, worker=None)
            for i, group in enumerate(groups)
        ]

    def _submit(self, name: str, index: int, function: Any, *arguments: Any, worker: str | None) -> Any:
        key = f"dparallel-{name}-{self.token}-{self._number}-{index}"
        pinned = {} if worker is None else {"workers": [worker], "allow_other_workers": True}
        future = self.client.submit(function, *arguments, key=key, pure=False, **pinned)
        self._running.append(future)
        return future

    def _release(self) -> None:
        for future in self._running:
            future.release()
        self._running = []

    def close(self) -> None:
        self._release()
        self.holding.close()


def workers_gone(client: Any) -> ClusterLostError:
    """The error of a round that was begun MAX_RELOADS times."""
    return ClusterLostError(
        f"All workers of {client!r} died or paused at once, {MAX_RELOADS} times in this round. Look into their logs; "
        "most often they ran out of memory: add memory or use smaller chunks."
    )
