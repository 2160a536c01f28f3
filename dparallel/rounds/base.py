"""What rounds are wherever they run: the interface between an algorithm and the place that computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any

from dparallel.blocks.block import Blocks
from dparallel.blocks.shards import Shard
from dparallel.place import Cluster, Local

Partial = Callable[[Shard, Any], Any]
Combine = Callable[[Any, Any], Any]


class Rounds(ABC):
    """Shards of one data set, open for rounds; a context manager, made by open_rounds.

    Attributes
    ----------
    n_shards : int
    n_rows : int or None; None only while data of unknown lengths are streamed and no round has read them yet
    is_local : bool, whether the shards are in this process
    place : Local or Cluster
    bytes_moved : int, state and partial results of the last round that crossed the network
    seconds : float, length of the last round
    seconds_by_worker : dict of str to float, how long each worker computed in the last round: its slowest shard
    """

    is_local: bool
    place: Local | Cluster

    def __init__(self, blocks: Blocks):
        self.blocks = blocks
        self.bytes_moved = 0
        self.seconds = 0.0
        self.seconds_by_worker: dict[str, float] = {}

    @property
    @abstractmethod
    def n_shards(self) -> int:
        """The number of shards that the next round will use, unless workers come or go."""

    @property
    @abstractmethod
    def rows(self) -> list[list[int | None]]:
        """The rows of each block of each shard, None while no round has counted them."""

    @property
    @abstractmethod
    def n_rows(self) -> int | None:
        """The number of rows of all shards."""

    def reduce(self, partial: Partial, combine: Combine, state: Any = None, *, per_worker: bool = False) -> Any:
        """Run one round: partial(shard, state) on every shard, combined in row order.

        Parameters
        ----------
        partial : picklable callable (shard, state) -> part; goes once through shard.blocks. It may be run twice on a
            shard, so it returns totals of the shard and never changes to earlier totals.
        combine : picklable callable (part, part) -> part, associative; must not change its arguments
        state : anything picklable, small
        per_worker : bool, whether parts are so large that each worker should combine its own before they travel, which
            costs a task more

        Returns
        -------
        total : the combined part

        Raises
        ------
        DataLostError
            If blocks were lost that nothing can rebuild.
        ClusterLostError
            If the scheduler died, or workers died again and again.

        Notes
        -----
        What partial raises reaches the caller as it is; the other shards' work is given up.
        """
        started = perf_counter()
        total = self._reduce(partial, combine, state, per_worker)
        self.seconds = perf_counter() - started
        return total

    def collect(self, partial: Partial, state: Any = None) -> list[Any]:
        """Run one round and return the parts of all shards in row order, uncombined: for small parts, or locally."""
        started = perf_counter()
        parts = self._collect(partial, state)
        self.seconds = perf_counter() - started
        return parts

    @abstractmethod
    def _reduce(self, partial: Partial, combine: Combine, state: Any, per_worker: bool) -> Any: ...

    @abstractmethod
    def _collect(self, partial: Partial, state: Any) -> list[Any]: ...

    @abstractmethod
    def close(self) -> None:
        """Let go of all shards and of whatever still runs."""

    def __enter__(self) -> Rounds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
