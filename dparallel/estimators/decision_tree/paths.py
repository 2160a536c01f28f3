"""A fitted tree as functions of a block of rows: what predict, apply and decision_path send to the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.errors import DataError

_LARGEST = np.finfo(np.float32).max
_VALUES_AT_ONCE = 1 << 22  # of rows that are widened by columns of category tests


@dataclass(frozen=True)
class Subset:
    """A test of whether a feature is one of some categories; a column of its own for the Tree: 0 goes left, 1 right.

    Parameters
    ----------
    feature : int
    left, right : ndarray of float32, ascending, the categories that go left, and the others that are known
    """

    feature: int
    left: np.ndarray
    right: np.ndarray

    def column(self, values: np.ndarray) -> np.ndarray:
        """0, 1, or NaN for missing and unknown categories: they go where the node sends missing values."""
        result = np.full(len(values), np.nan, np.float32)
        result[np.isin(values, self.left)] = 0
        result[np.isin(values, self.right)] = 1
        return result


@dataclass(frozen=True)
class Paths:
    """The way of rows through a tree.

    Parameters
    ----------
    tree : sklearn.tree._tree.Tree, over the features and then a column for each subset
    subsets : tuple of Subset
    """

    tree: Any
    subsets: tuple[Subset, ...]

    def leaves(self, X: Any) -> np.ndarray:
        """Number of each row's leaf, int64 of shape (n_rows,)."""
        found = [self.tree.apply(part) for part in self.widened(X)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def indicators(self, X: Any) -> Any:
        """CSR of shape (n_rows, n_nodes), 1 where a row goes through a node."""
        from scipy.sparse import vstack

        found = [self.tree.decision_path(part) for part in self.widened(X)]
        return found[0] if len(found) == 1 else vstack(found, format="csr")

    def widened(self, X: Any) -> Iterator[Any]:
        """Yield the rows as the tree reads them, all at once, or where there are subsets a few at a time."""
        X = to_single(X)
        if not self.subsets:
            yield X
            return
        height = max(1, _VALUES_AT_ONCE // (X.shape[1] + len(self.subsets)))
        for start in range(0, max(X.shape[0], 1), height):
            rows = X[start : start + height]
            rows = rows.toarray() if hasattr(rows, "indptr") else rows
            tests = [subset.column(rows[:, subset.feature]) for subset in self.subsets]
            yield np.column_stack([rows, *tests]).astype(np.float32, copy=False)


def to_single(X: Any) -> Any:
    """A block as float32, as scikit-learn's trees read it; what is finite stays finite, NaN stays NaN.

    Raises
    ------
    DataError
        For infinity, and for NaN in CSR.
    """
    if hasattr(X, "indptr"):
        data = to_single(X.data)
        if np.isnan(data).any():
            raise DataError("Input X contains NaN. A missing value is only read in dense data: give X.toarray().")
        indices, indptr = X.indices.astype(np.int32, copy=False), X.indptr.astype(np.int32, copy=False)
        return type(X)((data, indices, indptr), shape=X.shape, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        single = X.astype(np.float32, copy=False)
        if np.isfinite(single.sum(dtype=np.float64)):
            return single
        if np.isinf(X).any():
            raise DataError("Input X contains infinity or a value too large for dtype('float32').")
        return np.clip(X, -_LARGEST, _LARGEST).astype(np.float32)


@dataclass(frozen=True)
class Leaves:
    """Numbers of the leaves of a block's rows."""

    paths: Paths

    def __call__(self, X: Any) -> np.ndarray:
        return self.paths.leaves(X)


@dataclass(frozen=True)
class Indicators:
    """Which nodes a block's rows go through, as CSR."""

    paths: Paths

    def __call__(self, X: Any) -> Any:
        return self.paths.indicators(X)


@dataclass(frozen=True)
class Values:
    """What a table says of a block's rows.

    Parameters
    ----------
    paths : Paths
    table : ndarray of shape (n_nodes,) or (n_nodes, n_columns), what it says of each leaf
    """

    paths: Paths
    table: np.ndarray

    def __call__(self, X: Any) -> np.ndarray:
        return self.table[self.paths.leaves(X)]
