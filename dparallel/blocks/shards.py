"""A shard: consecutive blocks that one worker thread computes in every round, and the scratch kept beside them."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dparallel.blocks.block import Block
from dparallel.blocks.budget import memory_share
from dparallel.blocks.streaming import BlockStream, LazyBlock
from dparallel.errors import StreamingWarning, warn

MIN_SHARD_ELEMENTS = 32_768  # below this, handing the shard to a thread costs more than computing it
CUT_ROWS = 64  # local shards start at multiples of this, aligned in memory


class Scratch:
    """A cache of what a partial can rebuild from its blocks and the state, valid for exactly one stamp.

    A partial may run twice, or be aborted half-way, or find itself in a new process. So the content is lent under a
    lock, is invalid while lent, and becomes valid again only by ``commit``, the last thing a partial does.

    Parameters
    ----------
    enabled : bool, False where there is no memory for it: then nothing is ever kept
    """

    __slots__ = ("_content", "_lock", "_stamp", "enabled")

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self._lock = threading.RLock()
        self._stamp: Hashable | None = None
        self._content: Any = None

    @contextmanager
    def borrow(self, stamp: Hashable) -> Iterator[Any]:
        """Lock the scratch and yield its content if it was committed with this very stamp, else None."""
        with self._lock:
            content = self._content if stamp is not None and self._stamp == stamp else None
            self._stamp = self._content = None
            yield content

    def commit(self, stamp: Hashable, content: Any) -> None:
        """Keep content under stamp, until the next borrow."""
        with self._lock:
            if self.enabled:
                self._stamp, self._content = stamp, content


class Shard:
    """Consecutive blocks of the data, and their scratch.

    Parameters
    ----------
    index : int, the shard's number in row order
    entries : sequence of Block or LazyBlock, in row order
    first_block : int, how many blocks come before this shard
    offset : int or None, global number of the first row; None while earlier shards have unknown lengths
    scratch_enabled : bool, see Scratch

    Attributes
    ----------
    blocks : iterable of Block in row order; streamed blocks are computed again by every pass
    n_rows : int or None, None while a block's length is unknown
    """

    def __init__(
        self,
        index: int,
        entries: Sequence[Block | LazyBlock],
        *,
        first_block: int = 0,
        offset: int | None = None,
        scratch_enabled: bool = True,
    ):
        self.index = index
        self.first_block = first_block
        self.offset = offset
        self.blocks = BlockStream(entries)
        self.scratch = Scratch(scratch_enabled)

    @property
    def rows(self) -> tuple[int | None, ...]:
        """The rows of each block, None where unknown."""
        return self.blocks.rows

    @property
    def n_rows(self) -> int | None:
        """The number of rows, None while a block's length is unknown."""
        return total_known(self.blocks.rows)

    def __getstate__(self) -> dict[str, Any]:
        # scratch is a cache and its lock cannot travel: a copy of the shard starts with none
        state = {name: value for name, value in self.__dict__.items() if name != "scratch"}
        return state | {"scratch_enabled": self.scratch.enabled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.scratch = Scratch(state.pop("scratch_enabled"))
        self.__dict__.update(state)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.blocks.kept_bytes


def total_known(numbers: Iterable[int | None]) -> int | None:
    """Add up numbers, to None if any is unknown."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def cut_block(block: Block, n_pieces: int) -> list[Shard]:
    """Cut a block in memory into at most n_pieces shards of about the same number of rows.

    Parameters
    ----------
    block : Block, dense or CSR
    n_pieces : int, at least 1; fewer are made when the data are small

    Returns
    -------
    shards : list of Shard, each of one block that shares the memory of the given one
    """
    n_elements = block.X.size if not hasattr(block.X, "indptr") else 2 * block.X.nnz + block.n_rows
    n_pieces = max(1, min(n_pieces, n_elements // MIN_SHARD_ELEMENTS))
    cuts = [block.n_rows * i // n_pieces // CUT_ROWS * CUT_ROWS for i in range(n_pieces)] + [block.n_rows]
    if n_pieces == 1:
        return [Shard(0, [block], offset=0)]
    return [Shard(i, [slice_rows(block, low, high)], offset=low) for i, (low, high) in enumerate(zip(cuts, cuts[1:]))]


def slice_rows(block: Block, low: int, high: int) -> Block:
    """Return rows low to high of a block as a block that shares its memory, CSR included."""
    y = None if block.y is None else block.y[low:high]
    sample_weight = None if block.sample_weight is None else block.sample_weight[low:high]
    if not hasattr(block.X, "indptr"):
        return Block(block.X[low:high], y, sample_weight, block.index)
    # scipy's X[low:high] copies, and its constructor copies views of much larger arrays
    start, stop = block.X.indptr[low], block.X.indptr[high]
    X = type(block.X)((high - low, block.X.shape[1]), dtype=block.X.dtype)
    X.data, X.indices = block.X.data[start:stop], block.X.indices[start:stop]
    X.indptr = block.X.indptr[low : high + 1] - start
    return Block(X, y, sample_weight, block.index)


@dataclass(frozen=True)
class ShardReport:
    """What the driver knows about a shard.

    Parameters
    ----------
    rows : rows of each block, None where no pass has counted them
    n_streamed : int, blocks that every pass computes again
    kept_bytes : int, blocks held in memory
    streamed_bytes : int or None, expected size of the others, None if unknown
    """

    rows: tuple[int | None, ...]
    n_streamed: int
    kept_bytes: int
    streamed_bytes: int | None


def report_shard(shard: Shard) -> ShardReport:
    """Tell what a shard holds."""
    streamed = shard.blocks.streamed
    size = total_known(entry.size_bytes for entry in streamed)
    return ShardReport(shard.rows, len(streamed), shard.blocks.kept_bytes, size)


def warn_if_streamed(reports: Sequence[ShardReport]) -> None:
    """Warn the user of open_rounds if some blocks are computed again in every round."""
    n_streamed = sum(report.n_streamed for report in reports)
    if not n_streamed:
        return
    kept = sum(report.kept_bytes for report in reports)
    sizes = [report.streamed_bytes for report in reports]
    size = total_known(sizes)
    read = "an amount not known beforehand" if size is None else f"about {size / 1e9:.2f} GB"
    blocks = f"{n_streamed} of {sum(len(report.rows) for report in reports)} blocks"
    if memory_share() == 0.0:
        why, remedy = "are not kept, since dparallel.persist is off,", "switch it on in Dask's configuration"
    else:
        why = "do not fit into the share of memory"
        remedy = "add memory or workers, or raise dparallel.memory-share in Dask's configuration"
    warn(
        f"{blocks} {why} and are read again in every round: {kept / 1e9:.2f} GB are kept, {read} is read per round. "
        f"To avoid it {remedy}.",
        StreamingWarning,
    )
