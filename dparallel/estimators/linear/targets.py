"""Targets of ridge regression: one number or several for each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.estimators.sgd.numbers import NumberSummary, r_squared, summarise_numbers, to_numbers
from dparallel.estimators.sgd.predictions import Line
from dparallel.moments import naming


@dataclass(frozen=True)
class TableSummary:
    """What a pass over some targets found.

    Parameters
    ----------
    columns : tuple of NumberSummary, one per target
    is_flat : bool, whether y had one dimension
    """

    columns: tuple[NumberSummary, ...]
    is_flat: bool

    @property
    def mean(self) -> np.ndarray:
        """Mean of each target: of shape (n_targets,)."""
        return np.array([column.mean for column in self.columns])

    def merge(self, other: TableSummary) -> TableSummary:
        """The summary of both sets of rows.

        Raises
        ------
        DataError
            If they have different numbers of targets.
        """
        if len(self.columns) != len(other.columns):
            raise DataError(
                f"Some blocks of y have {len(self.columns)} targets, others {len(other.columns)}. Give every row as "
                "many."
            )
        return TableSummary(merge_columns(self.columns, other.columns), self.is_flat)


def merge_columns(a: tuple[NumberSummary, ...], b: tuple[NumberSummary, ...]) -> tuple[NumberSummary, ...]:
    """The summaries of both sets of rows, target by target."""
    return tuple(one.merge(other) for one, other in zip(a, b, strict=True))


def to_table(y: Any) -> np.ndarray:
    """One block of y as numbers, of shape (n_rows, n_targets), float64.

    Raises
    ------
    DataError
        For NaN, infinity and what is no number, in scikit-learn's words.
    """
    if y.ndim == 1:
        return to_numbers(y)[:, None]
    return np.ascontiguousarray(to_numbers(y.ravel()).reshape(y.shape))


def summarise_table(y: Any, sample_weight: np.ndarray | None) -> TableSummary:
    """Look at the targets of one block; y : ndarray of shape (n_rows,) or (n_rows, n_targets)."""
    columns = to_table(y).T
    return TableSummary(tuple(summarise_numbers(column, sample_weight) for column in columns), y.ndim == 1)


@dataclass(frozen=True)
class Table:
    """The targets of a fit, as losses are shown them."""

    n_outputs: int

    def targets(self, y: np.ndarray) -> np.ndarray:
        """What is learnt, of shape (n_rows, n_targets), float64."""
        return to_table(y)

    def weigh(self, targets: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
        """Weights of rows, of shape (n_rows,), float64, or (0,) where all are 1."""
        return np.empty(0) if sample_weight is None else sample_weight


@dataclass(frozen=True)
class TableLine:
    """Predictions of a block, of shape (n_rows, n_targets)."""

    line: Line

    def __call__(self, X: Any) -> np.ndarray:
        return self.line.scores(X)


@dataclass(frozen=True)
class TableErrors:
    """What the coefficients of determination are made of.

    Parameters
    ----------
    n_rows : int
    squares : ndarray of shape (n_targets,), weighted sums of squared errors
    columns : tuple of NumberSummary, of the targets
    """

    n_rows: int
    squares: np.ndarray
    columns: tuple[NumberSummary, ...]

    def merge(self, other: TableErrors) -> TableErrors:
        """The errors of both sets of rows."""
        columns = merge_columns(self.columns, other.columns)
        return TableErrors(self.n_rows + other.n_rows, self.squares + other.squares, columns)

    def r_squared(self) -> float:
        """The mean of the targets' coefficients of determination."""
        pairs = zip(self.columns, self.squares, strict=True)
        return float(np.mean([r_squared(column, float(square), self.n_rows) for column, square in pairs]))


def measure_table(shard: Shard, line: Line) -> TableErrors:
    """Partial: the squared errors of the shard's rows."""
    nothing = tuple(NumberSummary(0.0, 0.0, 0.0) for _ in line.coef)
    total = TableErrors(0, np.zeros(len(line.coef)), nothing)
    for block in shard.blocks:
        with naming(block):
            total = total.merge(table_errors(block.y, line.scores(block.X), block.sample_weight))
    return total


def table_errors(y: Any, scores: np.ndarray, sample_weight: np.ndarray | None) -> TableErrors:
    """The errors of one block whose predictions are known.

    Raises
    ------
    DataError
        If y has another number of targets.
    """
    found = to_table(y)
    if found.shape != scores.shape:
        raise DataError(f"y has {found.shape[1]} targets, and the model predicts {scores.shape[1]}.")
    weights = np.ones(len(found)) if sample_weight is None else sample_weight
    return TableErrors(len(found), weights @ (found - scores) ** 2, summarise_table(y, sample_weight).columns)
