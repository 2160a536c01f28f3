"""ParallelSimpleImputer: scikit-learn's SimpleImputer for numbers in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.utils.validation import check_is_fitted

from dparallel.errors import DataError, warn
from dparallel.estimator import ParallelEstimator
from dparallel.observe.callbacks import CallbackSupport
from dparallel.observe.fits import observed_as_one
from dparallel.rounds import reduce_once

TILE_VALUES = 1 << 15
_STRATEGIES = ("mean", "median", "most_frequent", "constant")


class ParallelSimpleImputer(CallbackSupport, TransformerMixin, ParallelEstimator):
    """Fill in missing numbers by a statistic of their column, in one round over the data.

    For the mean two numbers per column come back from each shard; for the median and the most frequent value the
    distinct values of each column with their counts do, 16 bytes each. Rows stay where they are, and a Dask collection
    is transformed lazily.

    Parameters
    ----------
    missing_values : float, default=nan
        What stands for a missing number.
    strategy : {"mean", "median", "most_frequent", "constant"}, default="mean"
    fill_value : float or None, default=None
        For "constant"; None means 0.
    copy : bool, default=True
        Accepted because scikit-learn's SimpleImputer has it; X is never changed.
    add_indicator : bool, default=False
        Add a column of zeros and ones for each column in which a number was missing during fit.
    keep_empty_features : bool, default=False
        Keep columns of which every number is missing, and fill them with 0 (with fill_value for "constant").

    Attributes
    ----------
    statistics_ : ndarray of shape (n_features,), float64, what is filled in; NaN for columns that are left out
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.impute.SimpleImputer : the same in one process, and for strings. It turns Dask data into numpy arrays.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from dparallel import ParallelSimpleImputer
    >>> X = da.from_array([[1.0, 2.0], [np.nan, 4.0], [3.0, np.nan]], chunks=(2, 2))
    >>> ParallelSimpleImputer().fit(X).transform(X).compute()
    array([[1., 2.],
           [2., 4.],
           [3., 3.]])
    """

    def __init__(
        self,
        *,
        missing_values=np.nan,
        strategy="mean",
        fill_value=None,
        copy=True,
        add_indicator=False,
        keep_empty_features=False,
    ):
        self.missing_values = missing_values
        self.strategy = strategy
        self.fill_value = fill_value
        self.copy = copy
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features

    @observed_as_one
    def fit(self, X, y=None):
        """Find what to fill in.

        Parameters
        ----------
        X : array-like, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features), numbers
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X holds infinity, or NaN where that does not stand for a missing number.
        """
        if self.strategy not in _STRATEGIES:
            raise ValueError(f"Can only use these strategies: {list(_STRATEGIES)}, got strategy={self.strategy!r}")
        blocks = self._gather(X)
        counting = self.strategy in ("median", "most_frequent")
        summarise = _Summarise(self.missing_values, counting)
        columns = reduce_once(blocks, summarise, merge_columns, blocks.n_features)
        self._n_missing = np.array([column.n_missing for column in columns])
        self._n_rows = columns[0].n_missing + columns[0].n_present
        found = np.array([column.statistic(self.strategy) for column in columns])
        if self.strategy == "constant":
            found = np.full(len(columns), 0.0 if self.fill_value is None else self.fill_value, np.float64)
        empty = np.array([column.n_present == 0 for column in columns])
        if self.keep_empty_features:
            self.statistics_ = np.where(empty & (self.strategy != "constant"), 0.0, found)
        else:
            self.statistics_ = np.where(empty, np.nan, found)
        return self

    def transform(self, X):
        """Fill in missing numbers.

        Parameters
        ----------
        X : array-like, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)

        Returns
        -------
        filled : of X's kind, with its columns' names, of shape (n_rows, n_features_out); ndarray for local input; lazy
            for Dask input
        """
        check_is_fitted(self)
        left_out = np.flatnonzero(np.isnan(self.statistics_))
        if len(left_out):
            names = getattr(self, "feature_names_in_", np.arange(self.n_features_in_))[left_out]
            warn(
                f"Skipping features without any observed values: {names}. At least one non-missing value is needed for "
                f"imputation with strategy={self.strategy!r}.",
                UserWarning,
            )
        fill = _Fill(self.missing_values, self.statistics_, self._marked())
        return self._apply(X, fill, dtype=None, columns=self.get_feature_names_out())

    def get_feature_names_out(self, input_features=None):
        """Names of the columns that transform returns.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), or None for those seen in fit, or x0, x1 ...

        Returns
        -------
        names : ndarray of str of shape (n_features_out,), dtype object
        """
        check_is_fitted(self)
        return self.to_sklearn().get_feature_names_out(input_features)

    def to_sklearn(self):
        """Return a fitted sklearn.impute.SimpleImputer that fills in the same."""
        check_is_fitted(self)
        # two rows show it where numbers were missing, and which columns have none
        present = 2.0 if self.missing_values == 1 else 1.0
        seen = np.where(self._n_missing == self._n_rows, self.missing_values, present)
        rows = np.stack([np.where(self._n_missing > 0, self.missing_values, seen), seen])
        model = SimpleImputer(**self.get_params())
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            import pandas as pd

            rows = pd.DataFrame(rows, columns=names)
        model.fit(rows)
        model.statistics_ = self.statistics_.copy()
        return model

    def _marked(self) -> np.ndarray:
        """Columns that get one of zeros and ones beside them."""
        return np.flatnonzero(self._n_missing > 0) if self.add_indicator else np.zeros(0, np.int64)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "statistics_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = _is_nan(self.missing_values)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@dataclass(frozen=True)
class Column:
    """What some rows tell of a column.

    Parameters
    ----------
    n_missing, n_present : int
    total : float, sum of the numbers that are present
    values, counts : ndarray of shape (n_values,): the distinct numbers, sorted, and how often each is there; or None
    """

    n_missing: int
    n_present: int
    total: float
    values: np.ndarray | None = None
    counts: np.ndarray | None = None

    def merge(self, other: Column) -> Column:
        """What both sets of rows tell."""
        sums = self.n_missing + other.n_missing, self.n_present + other.n_present, self.total + other.total
        if self.values is None or other.values is None or self.counts is None or other.counts is None:
            return Column(*sums)
        values, at = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, at, np.concatenate([self.counts, other.counts]))
        return Column(*sums, values, counts)

    def statistic(self, strategy: str) -> float:
        """What is filled in; NaN if no number is present."""
        if not self.n_present:
            return np.nan
        if self.values is None or self.counts is None:
            return self.total / self.n_present
        if strategy == "most_frequent":
            return float(self.values[self.counts.argmax()])
        middle = [(self.n_present - 1) // 2, self.n_present // 2]
        return float(self.values[np.searchsorted(np.cumsum(self.counts), middle, side="right")].mean())


def merge_columns(first: list[Column], second: list[Column]) -> list[Column]:
    """What both sets of rows tell of all columns."""
    return [one.merge(other) for one, other in zip(first, second, strict=True)]


@dataclass(frozen=True)
class _Summarise:
    """Partial: what a shard tells of its columns; counting : bool, whether to count distinct numbers."""

    missing_values: float
    counting: bool

    def __call__(self, shard: Any, n_features: int) -> list[Column]:
        nothing = (np.zeros(0), np.zeros(0, np.int64)) if self.counting else ()
        total = [Column(0, 0, 0.0, *nothing)] * n_features
        for block in shard.blocks:
            if self.counting:
                found = [self._column(values) for values in block.X.T]
            else:
                found = sum_columns(block.X, self.missing_values)
            total = merge_columns(total, found)
        return total

    def _column(self, values: np.ndarray) -> Column:
        missing = find_missing(values, self.missing_values)
        present = values[~missing]
        sums = int(missing.sum()), len(present), float(present.sum(dtype=np.float64))
        return Column(*sums, *np.unique(present, return_counts=True))


def sum_columns(X: np.ndarray, missing_values: float) -> list[Column]:
    """What rows tell of their columns without their distinct numbers; some rows at a time, which the cache holds."""
    n_missing, total = np.zeros(X.shape[1], np.int64), np.zeros(X.shape[1])
    height = max(1, TILE_VALUES // max(1, X.shape[1]))
    for first in range(0, len(X), height):
        tile = X[first : first + height]
        missing = find_missing(tile, missing_values)
        n_missing += missing.sum(axis=0)
        total += np.where(missing, X.dtype.type(0), tile).sum(axis=0, dtype=np.float64)
    return [Column(int(n), len(X) - int(n), float(value)) for n, value in zip(n_missing, total)]


@dataclass(frozen=True)
class _Fill:
    """A block without missing numbers, and without columns whose statistic is NaN; marked : columns to mark, too."""

    missing_values: float
    statistics: np.ndarray
    marked: np.ndarray

    def __call__(self, X: np.ndarray) -> np.ndarray:
        missing = find_missing(X, self.missing_values)
        kept = ~np.isnan(self.statistics)
        filled = np.where(missing, self.statistics.astype(X.dtype), X)[:, kept]
        if not len(self.marked):
            return filled
        return np.concatenate([filled, missing[:, self.marked].astype(X.dtype)], axis=1)


def find_missing(X: np.ndarray, missing_values: float) -> np.ndarray:
    """Where numbers are missing: bool, of X's shape.

    Raises
    ------
    DataError
        If X holds infinity, or NaN that does not stand for a missing number.
    """
    missing = np.isnan(X) if _is_nan(missing_values) else np.equal(X, missing_values)
    if not (np.isfinite(X) | missing).all():
        raise DataError("Input X contains infinity, or NaN that is not missing_values. Leave such rows out.")
    return missing


def _is_nan(value: Any) -> bool:
    return bool(isinstance(value, (float, np.floating)) and np.isnan(value))
