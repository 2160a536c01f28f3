"""Blocks that are computed from their own graph, one after another, in every pass."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, cast

from dparallel.blocks.block import Block
from dparallel.compat import execute_graph, is_given_up


class LazyBlock:
    """A block as the graph that computes it, and nothing else.

    Parameters
    ----------
    graph : mapping, only the tasks that the block needs
    key : the block's key in it
    size_bytes : int or None, expected size of the block, None where unknown
    n_rows : int or None
    """

    __slots__ = ("graph", "key", "n_rows", "size_bytes")

    def __init__(self, graph: Mapping[Hashable, Any], key: Hashable, n_rows: int | None, size_bytes: int | None):
        self.graph = graph
        self.key = key
        self.n_rows = n_rows
        self.size_bytes = size_bytes

    def compute(self) -> Block:
        """Compute the block in the calling thread, and note its size."""
        block: Block = execute_graph(self.graph, self.key)
        self.n_rows, self.size_bytes = block.n_rows, block.nbytes
        return block


class BlockStream:
    """An iterable of blocks, some in memory, the others computed in every pass with one prefetched.

    A pass that reads blocks ends with CancelledError once its Dask task is given up: nobody waits for its result.

    Parameters
    ----------
    entries : sequence of Block or LazyBlock
    """

    def __init__(self, entries: Sequence[Block | LazyBlock]):
        self.entries = [entry.aligned() if isinstance(entry, Block) else entry for entry in entries]

    def __reduce__(self) -> tuple[Any, ...]:
        # made anew where it arrives, for the sake of alignment
        return BlockStream, (self.entries,)

    @property
    def streamed(self) -> list[LazyBlock]:
        """The blocks that every pass computes again."""
        return [entry for entry in self.entries if isinstance(entry, LazyBlock)]

    @property
    def kept_bytes(self) -> int:
        """The bytes of the blocks in memory."""
        return sum(entry.nbytes for entry in self.entries if isinstance(entry, Block))

    @property
    def rows(self) -> tuple[int | None, ...]:
        """The rows of each block, None where no pass has counted them."""
        return tuple(entry.n_rows for entry in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Block]:
        return self._read() if self.streamed else iter(cast("list[Block]", self.entries))

    def _read(self) -> Iterator[Block]:
        with ThreadPoolExecutor(1, thread_name_prefix="dparallel-prefetch") as reader:
            reads = (reader.submit(entry.compute) for entry in self.streamed)
            coming = next(reads, None)
            for entry in self.entries:
                if is_given_up():
                    raise CancelledError("The fit that this pass belongs to has ended.")
                if isinstance(entry, Block):
                    yield entry
                elif coming is not None:
                    block, coming = coming.result(), next(reads, None)
                    yield block
                    del block  # or it would stay until the next one is there
