"""The rows farthest from their centres: where centres without rows go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.moments import naming


@dataclass(frozen=True)
class FarRow:
    """A row and how far it lies from its centre, squared and in the frame.

    distance : float; number : int, counted over all shards; label : int; weight : float
    point : ndarray of shape (n_features,), float64, in the frame
    """

    distance: float
    number: int
    label: int
    weight: float
    point: np.ndarray

    @property
    def rank(self) -> tuple[float, int]:
        """Farther rows come first, and of equal ones the earlier."""
        return (-self.distance, self.number)


def farthest_rows(shard: Shard, state: tuple[Any, np.ndarray, int]) -> tuple[int, list[FarRow]]:
    """Partial: how many rows are wanted, and those of a shard that lie farthest from their centres.

    state : (frame, centres, n_wanted). Rows of weight 0 do not count.
    """
    frame, centres, n_wanted = state
    ruler = kernels.ruler.Ruler(frame, centres)
    found: list[FarRow] = []
    start = shard.offset or 0
    for block in shard.blocks:
        with naming(block):
            labels = ruler.labels(block.X)
        squares = ruler.squared_distances(block.X, labels)
        if block.sample_weight is not None:
            squares[block.sample_weight == 0] = -1.0
        for row in _largest(squares, n_wanted):
            if squares[row] >= 0:
                weight = 1.0 if block.sample_weight is None else float(block.sample_weight[row])
                point = frame.enter(kernels.ruler.dense_rows(block.X, [row]))[0]
                found.append(FarRow(float(squares[row]), start + int(row), int(labels[row]), weight, point))
        found = sorted(found, key=lambda far: far.rank)[:n_wanted]
        start += block.n_rows
    return n_wanted, found


def _largest(values: np.ndarray, n_wanted: int) -> np.ndarray:
    """Where the largest values are, in descending order, of equal ones the first."""
    if n_wanted < values.size:
        threshold = np.partition(values, values.size - n_wanted)[values.size - n_wanted]
        rows = np.flatnonzero(values >= threshold)
    else:
        rows = np.arange(values.size)
    return rows[np.argsort(-values[rows], kind="stable")][:n_wanted]


def merge_farthest(a: tuple[int, list[FarRow]], b: tuple[int, list[FarRow]]) -> tuple[int, list[FarRow]]:
    """The farthest rows of both lists."""
    return a[0], sorted(a[1] + b[1], key=lambda far: far.rank)[: a[0]]
