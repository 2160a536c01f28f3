"""The rows of a partition over the columns that they have, and those of one step over the columns of that step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.estimators.sgd.rows import PartitionRows, ReadyBlock, Segment, Source, Stretch, count_batches

_KEPT = 3  # steps: the one that runs, and those whose parameters are on their way


class KeyedSource(Source):
    """Blocks whose columns are numbered anew, in the order in which they come first.

    Attributes
    ----------
    numbers_of_columns : kernels.columns.ColumnNumbers
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.numbers_of_columns = kernels.columns.ColumnNumbers()

    def _make(self, block: Block, first_row: int) -> ReadyBlock:
        X = block.X
        numbers = self.numbers_of_columns.number(X.indices)
        shape = X.shape[0], self.numbers_of_columns.n
        made = super()._make(block, first_row)
        return replace(made, X=csr_of_parts(X.data, numbers, X.indptr, shape))


@dataclass(frozen=True)
class StepRows:
    """The rows of one step, in the order in which they are visited.

    Parameters
    ----------
    keys : ndarray of shape (n_keys,), int64, the columns that these rows have
    data, indices, indptr : of the rows as CSR over these columns
    y : ndarray of shape (n_rows,), float64
    weights : ndarray of shape (n_rows,), float64, or (0,) where all are 1
    stretches : list of (first row, rows, batches_before) of each block, see rows.Stretch
    """

    keys: np.ndarray
    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    stretches: list[tuple[int, int, int]]

    def matrix(self, n_more: int = 0) -> Any:
        """Return the rows as CSR, with some more columns that no row has."""
        shape = len(self.y), len(self.keys) + n_more
        return csr_of_parts(self.data, self.indices, self.indptr, shape)


class KeyedRows(PartitionRows):
    """The rows of one partition; see PartitionRows.

    Parameters
    ----------
    source : KeyedSource
    """

    source: KeyedSource

    def __init__(self, source: KeyedSource, segments: Sequence[Segment]):
        super().__init__(source, segments)
        self._steps: dict[tuple[int, int], StepRows] = {}

    def step(self, epoch: int, first: int, last: int, batch_size: int) -> StepRows:
        """Gather the rows of some minibatches; see PartitionRows.between."""
        if (epoch, first) not in self._steps:
            kept = list(self._steps.items())[1 - _KEPT :]
            self._steps = {
                **dict(kept),
                (epoch, first): self._gather(list(self.between(epoch, first, last, batch_size))),
            }
        return self._steps[epoch, first]

    def count_batches(self, batch_size: int) -> int:
        return count_batches([segment.n_rows for segment in self.segments], batch_size)

    def _gather(self, stretches: list[Stretch]) -> StepRows:
        columns = self.source.numbers_of_columns
        blocks = [stretch.block for stretch in stretches]
        lengths = [np.diff(block.X.indptr)[stretch.rows].sum() for block, stretch in zip(blocks, stretches)]
        n_rows = [len(stretch.rows) for stretch in stretches]
        dtype = blocks[0].X.dtype if blocks else np.float64
        gathered = kernels.columns.Gathered(columns.n, sum(n_rows), int(sum(lengths)), dtype)
        for block, stretch in zip(blocks, stretches):
            gathered.add(block.X, stretch.rows)
        nothing = [np.empty(0)]
        return StepRows(
            keys=columns.keys[gathered.columns],
            data=gathered.data,
            indices=gathered.indices,
            indptr=gathered.indptr,
            y=np.concatenate([block.y[stretch.rows] for block, stretch in zip(blocks, stretches)] or nothing),
            weights=np.concatenate(
                [_weights(block, stretch.rows) for block, stretch in zip(blocks, stretches)] or nothing
            ),
            stretches=[
                (start, n, stretch.batches_before)
                for start, n, stretch in zip(np.cumsum([0, *n_rows]).tolist(), n_rows, stretches)
            ],
        )


def _weights(block: ReadyBlock, rows: np.ndarray) -> np.ndarray:
    return block.weights[rows] if block.weights.size else block.weights


def csr_of_parts(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> Any:
    """Return a CSR matrix of these arrays, which are neither copied nor checked."""
    X = scipy.sparse.csr_matrix(shape, dtype=data.dtype)
    X.data, X.indices, X.indptr = data, indices, indptr
    return X
