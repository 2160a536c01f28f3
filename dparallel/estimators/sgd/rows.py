"""The rows of a partition as its steps read them: targets, weights, and the order of every epoch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.streaming import LazyBlock
from dparallel.estimators.sgd.holdout import HeldOut


@dataclass(frozen=True)
class Reading:
    """How blocks are read.

    Parameters
    ----------
    targets : Labels or Numbers
    seed : int
    shuffle : bool
    held_out : HeldOut or None
    """

    targets: Any
    seed: int
    shuffle: bool = True
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class ReadyBlock:
    """A block as the kernels want it.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,), float64
    weights : ndarray of shape (n_rows,), float64, 0 for rows that are held out; or (0,) where all are 1
    held : ndarray of bool of shape (n_rows,), or None
    held_weights : ndarray of shape (n_rows,), float64, weights of the rows that are held out, or None
    """

    X: Any
    y: np.ndarray
    weights: np.ndarray
    held: np.ndarray | None = None
    held_weights: np.ndarray | None = None


class Source:
    """Blocks, made ready when first needed; several threads may ask.

    Parameters
    ----------
    entries : sequence of Block or LazyBlock
    numbers : number of each block in the data
    first_rows : global number of each block's first row
    reading : Reading
    """

    def __init__(
        self,
        entries: Sequence[Block | LazyBlock],
        numbers: Sequence[int],
        first_rows: Sequence[int],
        reading: Reading,
    ):
        self.entries = entries
        self.numbers = numbers
        self.first_rows = first_rows
        self.reading = reading
        self._lock = threading.RLock()
        self._ready: dict[int, ReadyBlock] = {}
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def block(self, entry: int) -> ReadyBlock:
        """Make a block ready. Of those that are not in memory only the last is kept."""
        with self._lock:
            if entry not in self._ready:
                given = self.entries[entry]
                if isinstance(given, LazyBlock):
                    self._ready = {i: made for i, made in self._ready.items() if isinstance(self.entries[i], Block)}
                    given = given.compute().aligned()
                self._ready[entry] = self._make(given, self.first_rows[entry])
            return self._ready[entry]

    def order(self, entry: int, epoch: int) -> np.ndarray:
        """The order of a block's rows in an epoch, int64 of shape (n_rows,)."""
        with self._lock:
            if (entry, epoch) not in self._orders:
                # partitions that share a block are at most one epoch apart
                self._orders = dict(list(self._orders.items())[-1:])
                self._orders[entry, epoch] = self._draw_order(entry, epoch)
            return self._orders[entry, epoch]

    def _draw_order(self, entry: int, epoch: int) -> np.ndarray:
        n_rows = self.block(entry).y.size
        if not self.reading.shuffle:
            return np.arange(n_rows)
        key = kernels.draws.key(self.reading.seed, "rows", epoch)
        own = kernels.draws.key(int(key), "block", self.numbers[entry])
        return kernels.permutation.permutation(own, n_rows)

    def _make(self, block: Block, first_row: int) -> ReadyBlock:
        targets = self.reading.targets
        y = targets.targets(block.y)
        weights = targets.weigh(y, block.sample_weight)
        if self.reading.held_out is None:
            return ReadyBlock(block.X, y, weights)
        held = self.reading.held_out.mask(first_row, targets.groups(y)[0])
        weights = weights if weights.size else np.ones(y.size)
        own = np.ones(y.size) if block.sample_weight is None else block.sample_weight
        return ReadyBlock(block.X, y, np.where(held, 0.0, weights), held, np.where(held, own, 0.0))


@dataclass(frozen=True)
class Stretch:
    """Rows of a step that lie in one block.

    Parameters
    ----------
    block : ReadyBlock
    rows : int64 of shape (n_rows,), their numbers in the block, in the order to visit
    batches_before : int, minibatches of the partition that came earlier in this epoch
    rows_before : int, rows of the partition that came earlier in this epoch
    """

    block: ReadyBlock
    rows: np.ndarray
    batches_before: int
    rows_before: int


@dataclass(frozen=True)
class Segment:
    """Part of a block: places low to high in the order of an epoch, which are other rows in every epoch."""

    entry: int
    low: int
    high: int

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return self.high - self.low


class PartitionRows:
    """The rows of one partition: an epoch visits its segments one after another, each in minibatches.

    Parameters
    ----------
    source : Source
    segments : tuple of Segment
    """

    def __init__(self, source: Source, segments: Sequence[Segment]):
        self.source = source
        self.segments = tuple(segments)
        self.n_rows = sum(segment.n_rows for segment in segments)
        self._last: tuple[int, list[Segment]] = (-1, [])

    def between(self, epoch: int, first: int, last: int, batch_size: int) -> Iterator[Stretch]:
        """Find the rows of some minibatches of an epoch; none where the partition has fewer.

        Parameters
        ----------
        epoch : int
        first, last : int, minibatches of the partition in that epoch, from 0; the last one does not belong to them
        batch_size : int, rows of a minibatch
        """
        batches = rows = 0
        for segment in self._visited(epoch):
            n_batches = count_batches([segment.n_rows], batch_size)
            low, high = max(first - batches, 0), min(last - batches, n_batches)
            if low < high:
                start, stop = low * batch_size, min(high * batch_size, segment.n_rows)
                order = self.source.order(segment.entry, epoch)[segment.low + start : segment.low + stop]
                yield Stretch(self.source.block(segment.entry), order, batches + low, rows + start)
            batches += n_batches
            rows += segment.n_rows
            if batches >= last:
                break

    def count_batches(self, batch_size: int) -> int:
        """Minibatches of an epoch."""
        return count_batches([segment.n_rows for segment in self.segments], batch_size)

    def _visited(self, epoch: int) -> list[Segment]:
        """The segments in the order in which this epoch visits them."""
        if self._last[0] != epoch:
            self._last = epoch, self._draw_visits(epoch)
        return self._last[1]

    def _draw_visits(self, epoch: int) -> list[Segment]:
        if len(self.segments) == 1 or not self.source.reading.shuffle:
            return list(self.segments)
        numbers = np.array([self.source.numbers[segment.entry] for segment in self.segments])
        first = int(numbers.min())
        key = kernels.draws.key(self.source.reading.seed, "blocks", epoch)
        drawn = kernels.draws.numbers(key, first, int(numbers.max()) - first + 1)[numbers - first]
        return [self.segments[i] for i in np.argsort(drawn)]


def count_batches(rows: Sequence[int], batch_size: int) -> int:
    """Minibatches of blocks of so many rows: none spans two blocks."""
    return sum(-(-n_rows // batch_size) for n_rows in rows)
