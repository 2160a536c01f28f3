"""Toy algorithms for the engine's tests: the answers are known, and whoever misuses scratch gets them wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from dparallel.blocks.block import Block, Blocks
from dparallel.rounds import Algorithm


def blocks_of(X, unknown=False):
    """The blocks of a numpy array, or of a Dask array of one column chunk."""
    if isinstance(X, np.ndarray):
        return Blocks("numpy", X.shape[1], None, X.dtype, False, (len(X),), local=Block(X))
    graph = dict(X.__dask_graph__())
    keys = tuple(f"block-{X.name}-{i}" for i in range(X.numblocks[0]))
    graph.update({key: (make_block, (X.name, i, 0), i) for i, key in enumerate(keys)})
    rows = (None,) * len(keys) if unknown else X.chunks[0]
    return Blocks("dask.array", X.shape[1], None, X.dtype, False, rows, graph=graph, keys=keys, source=X)


def make_block(X, index):
    return Block(X, index=index)


def sum_shard(shard, state):
    """Sum the columns and count the rows."""
    total = np.zeros(shard_width(shard) + 1)
    for block in shard.blocks:
        total += [*block.X.sum(axis=0), block.n_rows]
    return total


def shard_width(shard):
    return next(iter(shard.blocks)).X.shape[1]


def locate_shard(shard, state):
    """Tell which rows a shard has, in how many blocks, and in which process it is."""
    return [(shard.offset, sum(block.n_rows for block in shard.blocks), len(shard.blocks), os.getpid())]


def concatenate(a, b):
    return a + b


@dataclass(frozen=True)
class Means:
    """State of TwoMeans."""

    centres: np.ndarray = field(default_factory=lambda: np.array([0.1, 0.2]))
    round: int = 0


@dataclass(frozen=True)
class TwoMeans(Algorithm):
    """Lloyd's algorithm for two centres on a line, which keeps each row's value and last choice as scratch.

    The scratch holds the rows' values, shifted by the round's number: used in a wrong round it gives wrong sums.
    """

    run: str = "only"
    work: int = 1
    tolerance: float = 1e-12

    def partial(self, shard, state):
        with shard.scratch.borrow((self.run, state.round)) as held:
            values = (
                held - state.round
                if held is not None
                else np.concatenate([block.X.mean(axis=1) for block in shard.blocks])
            )
            for _ in range(self.work):
                right = np.abs(values - state.centres[1]) < np.abs(values - state.centres[0])
            sums = np.array([values[~right].sum(), values[right].sum()])
            counts = np.array([(~right).sum(), right.sum()])
            shard.scratch.commit((self.run, state.round + 1), values + (state.round + 1))
        return sums, counts

    def combine(self, a, b):
        return a[0] + b[0], a[1] + b[1]

    def update(self, state, total):
        return Means(total[0] / np.maximum(total[1], 1), state.round + 1)

    def done(self, old, new):
        moved = np.abs(old.centres - new.centres).max()
        return f"The centres moved by {moved:g}." if moved <= self.tolerance else None

    def objective(self, state):
        return float(state.centres[0])

    def change(self, state):
        return None


def plain_two_means(values, n_rounds):
    """The same in plain numpy."""
    centres = np.array([0.1, 0.2])
    for _ in range(n_rounds):
        right = np.abs(values - centres[1]) < np.abs(values - centres[0])
        centres = np.array([values[~right].mean(), values[right].mean()])
    return centres
