"""Who computes which tile, and how the driver submits and waits."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, cast
from weakref import WeakValueDictionary

import dask
from dask.sizeof import sizeof

from dparallel.blocks.budget import cluster_limit, memory_share, refuse_if_too_large
from dparallel.blocks.grid import Grid
from dparallel.blocks.loading import has_futures, lost_blocks
from dparallel.errors import ClusterLostError
from dparallel.estimators.linear import tile_tasks
from dparallel.rounds.placing import assign_workers
from dparallel.rounds.watching import Stuck, Watch

MAX_RELOADS = 5
RETURN_S = 5  # how long a worker that died is waited for


class Places:
    """The workers of columns and rows of tiles; what is on a worker that stays does not move.

    Attributes
    ----------
    groups : list of list of str, the workers of each column of tiles; the first holds the slices of the vectors
    rows : list of str, the worker that holds the scores of each row of tiles
    """

    def __init__(self, n_rows: int, n_columns: int):
        self._n_rows = n_rows
        self._n_columns = n_columns
        self._threads: dict[str, int] = {}
        self.groups: list[list[str]] = []
        self.rows: list[str] = []

    def follow(self, threads: Mapping[str, int]) -> None:
        """Give what dead workers had to others."""
        if not threads or dict(threads) == self._threads:
            return
        self._threads = dict(threads)
        there = sorted(threads)
        n_columns, n_workers = self._n_columns, len(there)
        if n_columns >= n_workers:
            before = [group[0] if group and group[0] in threads else None for group in self.groups]
            owners = assign_workers(before or [None] * n_columns, dict.fromkeys(there, 1))
            self.groups = [[owner] for owner in owners]
        else:
            cuts = [n_workers * c // n_columns for c in range(n_columns + 1)]
            self.groups = [there[low:high] for low, high in zip(cuts, cuts[1:])]
        held = [worker if worker in threads else None for worker in self.rows] or [None] * self._n_rows
        self.rows = assign_workers(held, dict.fromkeys(there, 1))

    def owner(self, column: int) -> str:
        """The worker of a column's slices."""
        return self.groups[column][0]

    def of_tile(self, row: int, column: int) -> str:
        """The worker of a tile."""
        group = self.groups[column]
        return group[row % len(group)]


class Crew:
    """The workers that share the tiles of one fit.

    Every task is pinned to the worker that has most of what it needs. Pinned loosely some would be stolen, and a worker
    would come to hold more of the vectors than its share. So what dies with a worker gets stuck, and all that the
    workers hold is built anew, to the same bits, from the numbers that the driver has kept.

    Parameters
    ----------
    grid : Grid
    client : distributed.Client, synchronous

    Attributes
    ----------
    places : Places
    bytes_received : int, results that the driver was sent so far
    """

    def __init__(self, grid: Grid, client: Any):
        self.grid = grid
        self.client = client
        self.token = uuid.uuid4().hex[:12]
        self.places = Places(len(grid.rows), len(grid.columns))
        self.bytes_received = 0
        self._names = count()
        self._loading = False
        self._made: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._held: tuple[list[list[Any]], list[Any]] | None = None
        self.watch = Watch(client, self._is_ours, functools.partial(_lost_rows, grid, client))

    def _is_ours(self, key: Any) -> bool:
        return self._loading or self.token in str(key)

    def look_around(self) -> None:
        """See which workers are there."""
        self.watch.wait_for_workers()
        self.places.follow(self.watch.threads)

    def load(self) -> tuple[list[list[Any]], list[Any]]:
        """Bring tiles and targets to their workers, once, and return their futures, tiles by row and column."""
        if self._held is None:
            self._held = self._load()
        return self._held

    def _load(self) -> tuple[list[list[Any]], list[Any]]:
        self._refuse_too_large()
        self.look_around()
        grid, places = self.grid, self.places
        self._loading = True
        made = self.client.get(dict(grid.graph), [list(grid.keys), list(grid.targets)], sync=False)
        tiles, targets = made
        try:
            n_columns = len(grid.columns)
            held = [
                [
                    self.submit("tile", places.of_tile(r, c), tile_tasks.keep, tiles[r * n_columns + c])
                    for c in range(n_columns)
                ]
                for r in range(len(grid.rows))
            ]
            rows = [self.submit("row", places.rows[r], tile_tasks.keep, future) for r, future in enumerate(targets)]
            self.watch.wait([future for row in held for future in row] + rows)
        finally:
            self._loading = False
            for future in made[0] + made[1]:
                future.release()
        return held, rows

    def _refuse_too_large(self) -> None:
        size, graph_of = self.grid.nbytes, cast(Any, self.grid)
        limit = cluster_limit(self.client)
        if size is not None and limit is not None and not has_futures(graph_of):
            refuse_if_too_large(size, int(memory_share() * limit))

    def free_bytes(self) -> int | None:
        """The memory that workers may fill, less the tiles; None where a worker has no limit."""
        limit = cluster_limit(self.client)
        if limit is None:
            return None
        mark = dask.config.get("distributed.worker.memory.target", 0.6) or 1.0
        return int(mark * limit) - sum(self.client.nbytes(summary=False).values())

    def submit(self, name: str, worker: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Submit one task."""
        key = f"dparallel-{name}-{self.token}-{next(self._names)}"
        future = self.client.submit(tile_tasks.run, function, *arguments, key=key, pure=False, workers=[worker])
        self._made[key] = future
        return future

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for small results and fetch them; raises what Watch.gather raises."""
        found = self.watch.gather(futures)
        self.bytes_received += sum(sizeof(part) for part in found)
        return found

    def close(self, kept: Sequence[Any] = ()) -> None:
        """Let go of everything but a few futures, even where the frames of an exception still refer to it."""
        self._held = None
        keys = {future.key for future in kept}
        for key, future in list(self._made.items()):
            if key not in keys:
                future.release()

    def persevere(self, ask: Callable[[], Any], rebuild: Callable[[], None]) -> Any:
        """Ask the workers something; where their tasks got stuck, build anew what they held and ask again."""
        for _ in range(MAX_RELOADS):
            try:
                return ask()
            except Stuck:
                self._rebuild(rebuild)
        raise ClusterLostError(
            f"All workers of {self.client!r} died or paused at once, {MAX_RELOADS} times in this step. Look into their "
            "logs; most often they ran out of memory: add memory or use smaller chunks."
        )

    def _rebuild(self, rebuild: Callable[[], None]) -> None:
        n_workers = len({worker for group in self.places.groups for worker in group})
        for _ in range(MAX_RELOADS):
            self._held = None
            # a nanny starts a new worker soon, and those that are left need not have room for all
            with suppress(TimeoutError):
                self.client.wait_for_workers(n_workers, timeout=RETURN_S)
            try:
                return rebuild()
            except Stuck:
                continue


def _lost_rows(grid: Grid, client: Any) -> list[int]:
    """The rows of tiles that need one of the user's futures that was cancelled."""
    lost = lost_blocks(cast(Any, grid), client)  # which looks at graph and keys only
    return sorted({tile // len(grid.columns) for tile in lost})
