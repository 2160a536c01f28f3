"""Categorical features: which ones they are, and the columns of dataframes with a category dtype as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dparallel.blocks.dask_arrays import is_dask
from dparallel.errors import DataKindError


@dataclass(frozen=True)
class Categories:
    """The categories of dataframe columns, as fit saw them.

    Parameters
    ----------
    of_column : mapping of column label to a list of categories, whose places are the numbers that the tree sees
    """

    of_column: Mapping[Any, list[Any]] = field(default_factory=dict)

    @classmethod
    def found_in(cls, X: Any) -> Categories:
        """Those of the columns of a pandas or Dask dataframe that have a category dtype; none for other data.

        Raises
        ------
        DataKindError
            If Dask does not know the categories of a column yet.
        """
        found = {}
        for label, dtype in _column_dtypes(X):
            if getattr(dtype, "name", None) != "category":
                continue
            if is_dask(X) and not X[label].cat.known:
                raise DataKindError(
                    f"Dask does not know the categories of column {label!r} yet. Call X = X.categorize() first, which "
                    "looks at the data once."
                )
            found[label] = list(dtype.categories)
        return cls(found)

    def encode(self, X: Any) -> Any:
        """X with the numbers of the categories in place of its category columns; unknown and missing ones are NaN."""
        if not self.of_column or not hasattr(X, "columns"):
            return X
        if is_dask(X):
            return X.map_partitions(_encode, self.of_column)
        return _encode(X, self.of_column)


def _column_dtypes(X: Any) -> list[tuple[Any, Any]]:
    if not hasattr(X, "columns") or not hasattr(X, "dtypes"):
        return []
    return list(zip(X.columns, X.dtypes))


def _encode(frame: Any, of_column: Mapping[Any, list[Any]]) -> Any:
    import pandas as pd

    result = frame.copy(deep=False)
    for label, categories in of_column.items():
        if label in frame.columns:
            column, known = frame[label], pd.Index(categories)
            if getattr(column.dtype, "name", None) == "category":  # its own categories may be others, in other order
                codes = np.append(known.get_indexer(column.cat.categories), -1)[column.cat.codes]
            else:
                codes = known.get_indexer(column)
            result[label] = np.where(codes < 0, np.nan, codes).astype(np.float32)
    return result


def find_categorical(
    given: Any, n_features: int, names: np.ndarray | None, categories: Categories, columns: Any
) -> np.ndarray | None:
    """Resolve the parameter categorical_features.

    Parameters
    ----------
    given : the parameter
    n_features : int
    names : ndarray of shape (n_features,), str, or None
    categories : Categories of the data
    columns : labels of the data's columns, or None

    Returns
    -------
    categorical : ndarray of shape (n_features,), bool, or None where there is none

    Raises
    ------
    ValueError
        For what cannot be meant.
    """
    mask = np.zeros(n_features, bool)
    if isinstance(given, str):  # "from_dtype"
        if columns is not None:
            mask[:] = [label in categories.of_column for label in columns]
        return mask if mask.any() else None
    if given is None:
        return None
    wanted = np.asarray(given)
    if wanted.size == 0:
        return None
    if wanted.dtype.kind not in "biuUSO":
        raise ValueError(f"categorical_features must be an array-like of bool, int or str, got: {wanted.dtype.name}.")
    if wanted.dtype.kind == "b":
        if wanted.shape != (n_features,):
            raise ValueError(
                "categorical_features set as a boolean mask must have shape (n_features,), got: "
                f"{wanted.shape}. X has {n_features} features."
            )
        mask[:] = wanted
    elif wanted.dtype.kind in "iu":
        if wanted.min() < 0 or wanted.max() >= n_features:
            raise ValueError(
                f"categorical_features set as integer indices must be in [0, n_features - 1], got {wanted.tolist()} "
                f"for {n_features} features."
            )
        mask[wanted] = True
    else:
        mask[_places(wanted.tolist(), names)] = True
    return mask if mask.any() else None


def _places(wanted: list[Any], names: np.ndarray | None) -> list[int]:
    if not all(isinstance(name, str) for name in wanted):
        kinds = ", ".join(sorted({type(name).__name__ for name in wanted}))
        raise ValueError(f"categorical_features must be an array-like of bool, int or str, got: {kinds}.")
    if names is None:
        raise ValueError(
            "categorical_features should be passed as an array of integers or as a boolean mask when the model is "
            "fitted on data without feature names."
        )
    known = {name: i for i, name in enumerate(names)}
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"categorical_features has a item value '{name}' which is not a valid feature name of the training "
                f"data. Observed feature names: {list(names)}"
            )
    return [known[name] for name in wanted]
