"""Bins of the columns: each distinct value where there are few, else stretches of about the same number of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.estimators.decision_tree.rows import dense_pieces, used
from dparallel.estimators.decision_tree.survey import Survey
from dparallel.estimators.decision_tree.travelling import narrow

_NAMED = 5


@dataclass(frozen=True)
class _Count:
    """Partial: the weight of a shard's rows in each cell.

    Parameters
    ----------
    ladder : kernels.quantile.Ladder
    weight_power : int, weights are multiplied by 2**weight_power; None where rows are counted
    """

    ladder: Any
    weight_power: int | None

    def __call__(self, shard: Shard, state: None) -> np.ndarray:
        counts = np.zeros(self.ladder.n_cells, np.int64)
        for block in shard.blocks:
            rows = used(block)
            weights = None
            if self.weight_power is not None and rows.sample_weight is not None:
                weights = np.maximum(kernels.fixed_point.fixed(rows.sample_weight, self.weight_power), 1)
            for start, X in dense_pieces(rows.X):
                X = kernels.layouts.readable(X)
                own = None if weights is None else weights[start : start + X.shape[0]]
                self.ladder.count(kernels.layouts.layout(X), X.shape[0], own, counts)
        return narrow(counts)


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return narrow(np.add(a, b, dtype=np.int64))


def choose_bins(rounds: Any, found: Survey, max_bins: int, categorical: np.ndarray | None) -> Any:
    """Choose the bins of all columns, in no round where each has at most max_bins values, else in one.

    Parameters
    ----------
    max_bins : int, from 2 to 255
    categorical : ndarray of shape (n_features,), bool, or None

    Returns
    -------
    bins : kernels.binning.Bins

    Raises
    ------
    DataError
        If a categorical column has more than max_bins values.

    Notes
    -----
    The bins of a column with more values end at the quantiles k / max_bins, most of them met to a thirtieth of a bin.
    Worse are only those of columns whose values agree in their first five or six digits. Weights count, so that a row
    of weight 2 is as good as two. No row travels, and no sample is drawn: chunks, their order and seeds do not matter.
    """
    columns = found.columns
    if categorical is not None:
        _refuse_many(columns.distinct, categorical, max_bins)
    over = np.flatnonzero(columns.distinct.over)
    if not len(over):
        return kernels.binning.make_bins(columns.distinct, {})
    power = None if found.weight == found.n_used << 1074 else 60 - found.weight_bits
    unit = 1 if power is None else 1 << max(power, 0)
    ladder = kernels.quantile.Ladder.over(columns.spans.of(over), max_bins)
    counts = rounds.reduce(_Count(ladder, power), _add).astype(np.int64)
    return kernels.binning.make_bins(columns.distinct, ladder.edges(counts, max_bins, unit))


def _refuse_many(distinct: Any, categorical: np.ndarray, max_bins: int) -> None:
    many = np.flatnonzero(distinct.over & categorical)
    if many.size:
        named = ", ".join(map(str, many[:_NAMED])) + (" and others" if many.size > _NAMED else "")
        raise DataError(
            f"Categorical features have more than max_bins={max_bins} categories each: {named}. Raise max_bins (255 at "
            "most), merge rare categories, or leave these features out of categorical_features."
        )
