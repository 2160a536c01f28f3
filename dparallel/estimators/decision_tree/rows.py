"""Blocks as a tree reads them: rows of weight 0 left out, CSR rows made dense a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dparallel.blocks.block import Block

_DENSE_VALUES = 1 << 20  # of CSR rows at one time


def used(block: Block) -> Block:
    """The block without its rows of weight 0, which take no part; the block itself where there are none."""
    if block.sample_weight is None:
        return block
    keep = block.sample_weight != 0
    if keep.all():
        return block
    y = None if block.y is None else block.y[keep]
    return Block(block.X[keep], y, block.sample_weight[keep], block.index)


def dense_pieces(X: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rows of a block as dense arrays, each with the number of its first row; a dense block is one piece."""
    if not hasattr(X, "indptr"):
        yield 0, X
        return
    height = max(1, _DENSE_VALUES // max(X.shape[1], 1))
    for start in range(0, X.shape[0], height):
        yield start, X[start : start + height].toarray()
