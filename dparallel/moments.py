"""Count, mean and squared deviations of all columns, in one round over the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError


@dataclass(frozen=True)
class Moments:
    """What a round over the rows finds out about the columns.

    n_rows : int, rows of any weight
    weight : float, the sum of their weights
    mean : ndarray of shape (n_features,), float64, weighted
    deviation : ndarray of shape (n_features,), float64, weighted sum of squared deviations from the mean
    """

    n_rows: int
    weight: float
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Weighted variance of each column (not the unbiased estimate), 0 for no weight."""
        return self.deviation / self.weight if self.weight > 0 else np.zeros_like(self.deviation)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows (Chan, Golub and LeVeque, 1983)."""
        weight = self.weight + other.weight
        if weight == 0.0:
            return Moments(self.n_rows + other.n_rows, 0.0, self.mean, self.deviation)
        step = other.mean - self.mean
        mean = self.mean + step * (other.weight / weight)
        deviation = self.deviation + other.deviation + step * step * (self.weight * other.weight / weight)
        return Moments(self.n_rows + other.n_rows, weight, mean, deviation)


@contextmanager
def naming(block: Block) -> Iterator[None]:
    """Add the number of the block to an error about its data."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{error} (Seen in block {block.index} of the data.)") from None


def measure_block(block: Block, *, weighted: bool = True) -> Moments:
    """Moments of one block.

    Raises
    ------
    DataError
        If X holds NaN or infinity, naming the block.
    """
    with naming(block):
        return Moments(block.n_rows, *kernels.ruler.block_moments(block.X, block.sample_weight if weighted else None))


def measure_shard(shard: Shard, n_features: int) -> Moments:
    """Weighted moments of a shard: the partial of a round whose state is the number of columns."""
    total = Moments(0, 0.0, np.zeros(n_features), np.zeros(n_features))
    for block in shard.blocks:
        total = total.merge(measure_block(block))
    return total
