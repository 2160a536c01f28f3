"""The first pass of a tree: distinct values and spans of the columns, classes or the range of the targets, weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.estimators.decision_tree.labels import count_labels
from dparallel.estimators.decision_tree.rows import dense_pieces, used
from dparallel.estimators.sgd.classes import LabelSummary
from dparallel.estimators.sgd.numbers import to_numbers
from dparallel.moments import naming

_UNIT_BITS = 1074  # every float64 is a whole number of 2**-1074
_HALF = 27  # bits of the lower half of a mantissa
_ROWS_AT_ONCE = 1 << 20  # so many halves add up in float64 without rounding


@dataclass(frozen=True)
class Columns:
    """What is known of the values of X.

    Parameters
    ----------
    distinct : kernels.binning.Distinct
    spans : kernels.quantile.Spans
    """

    distinct: Any
    spans: Any

    def merge(self, other: Columns) -> Columns:
        """What is known of both sets of rows."""
        return Columns(self.distinct.merge(other.distinct), self.spans.merge(other.spans))


@dataclass(frozen=True)
class Range:
    """The targets of a regression: lowest and highest of the rows that take part; infinite where there are none."""

    low: float = math.inf
    high: float = -math.inf

    def merge(self, other: Range) -> Range:
        """The range of both sets of rows."""
        return Range(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Survey:
    """What is known of the rows before any split is.

    Parameters
    ----------
    n_rows : int, of any weight
    n_used : int, of a weight above 0
    weight : int, sum of the weights in units of 2**-1074, exact
    largest_weight : float
    columns : Columns
    target : LabelSummary of all rows, their weights being 1, or Range
    """

    n_rows: int
    n_used: int
    weight: int
    largest_weight: float
    columns: Columns
    target: Any

    def merge(self, other: Survey) -> Survey:
        """What is known of both sets of rows."""
        return Survey(
            self.n_rows + other.n_rows,
            self.n_used + other.n_used,
            self.weight + other.weight,
            max(self.largest_weight, other.largest_weight),
            self.columns.merge(other.columns),
            self.target.merge(other.target),
        )

    def __sizeof__(self) -> int:
        distinct = self.columns.distinct
        return object.__sizeof__(self) + self.columns.spans.nbytes + 4 * distinct.limit * len(distinct.over)

    @property
    def weight_bits(self) -> int:
        """The least k for which the weights sum to at most 2**k."""
        return (max(self.weight, 1) - 1).bit_length() - _UNIT_BITS


@dataclass(frozen=True)
class Question:
    """What the first pass is asked.

    Parameters
    ----------
    n_features : int
    max_bins : int
    has_classes : bool, whether the targets are labels
    """

    n_features: int
    max_bins: int
    has_classes: bool


def survey(rounds: Any, question: Question) -> Survey:
    """Look at all rows, in one round.

    Raises
    ------
    DataError
        If X holds infinity, if there are no rows, or none with a weight.
    """
    found: Survey = rounds.reduce(survey_shard, Survey.merge, question)
    if not found.n_rows:
        raise DataError("Found array with 0 sample(s), while a minimum of 1 is required. Give rows to learn from.")
    if not found.n_used:
        raise DataError("Sample weights must contain at least one non-zero number.")
    return found


def survey_shard(shard: Shard, question: Question) -> Survey:
    """Partial: what is known of the shard's rows."""
    distinct = kernels.binning.Distinct(question.n_features, question.max_bins)
    spread = kernels.quantile.Spread(question.n_features)
    n_rows = n_used = weight = 0
    largest = 0.0
    target: Any = LabelSummary(np.empty(0), np.empty(0), np.empty(0)) if question.has_classes else Range()
    for block in shard.blocks:
        rows = used(block)
        with naming(block):
            _scan(rows, distinct, spread)
            target = target.merge(count_labels(_targets(block)) if question.has_classes else _range(block, rows))
        n_rows += block.n_rows
        n_used += rows.n_rows
        weight += (rows.n_rows << _UNIT_BITS) if rows.sample_weight is None else exact_sum(rows.sample_weight)
        if rows.n_rows:
            largest = max(largest, 1.0 if rows.sample_weight is None else float(rows.sample_weight.max()))
    return Survey(n_rows, n_used, weight, largest, Columns(distinct, spread.spans()), target)


def _scan(rows: Block, distinct: Any, spread: Any) -> None:
    for start, X in dense_pieces(rows.X):
        distinct.scan(X)
        if distinct.infinite.any():
            raise DataError("Input X contains infinity or a value too large for dtype('float32').")
        X = kernels.layouts.readable(X)
        weights = None if rows.sample_weight is None else rows.sample_weight[start : start + X.shape[0]]
        spread.scan(kernels.layouts.layout(X), X.shape[0], weights)
    if hasattr(rows.X, "indptr") and np.isnan(rows.X.data).any():
        raise DataError("Input X contains NaN. A missing value is only read in dense data: give X.toarray().")


def _targets(block: Block) -> np.ndarray:
    assert block.y is not None  # the gate asks for y
    return block.y


def _range(block: Block, rows: Block) -> Range:
    values = to_numbers(_targets(block))
    if rows is not block:
        values = to_numbers(_targets(rows))
    return Range(float(values.min()), float(values.max())) if len(values) else Range()


def exact_sum(values: np.ndarray) -> int:
    """Add up float64 numbers, none negative, without rounding, in units of 2**-1074: the order does not matter."""
    total = 0
    for start in range(0, len(values), _ROWS_AT_ONCE):
        fraction, power = np.frexp(values[start : start + _ROWS_AT_ONCE])
        mantissa = np.ldexp(fraction, 53).astype(np.int64)
        place = power.astype(np.int64) - 53 + _UNIT_BITS + 53
        high = np.bincount(place, mantissa >> _HALF)
        low = np.bincount(place, mantissa & ((1 << _HALF) - 1))
        for i in np.flatnonzero(high + low):
            total += ((int(high[i]) << _HALF) + int(low[i])) << int(i)
    return total >> 53
