"""Dask data as scikit-learn's searches take them: of a known number of rows, cut by parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from sklearn.base import is_classifier

from dparallel.blocks.align import paired
from dparallel.blocks.dask_arrays import is_dask, is_partitioned
from dparallel.blocks.reducing import align
from dparallel.errors import AlignmentError, DataError
from dparallel.model_selection.held import hold
from dparallel.model_selection.parts import Part, count_lengths, listed, select, with_lengths
from dparallel.model_selection.splitters import BlockSplitter, KFold, StratifiedKFold
from dparallel.place import find


class Rows:
    """A Dask collection of known length, of which scikit-learn's cross-validation can take the rows of a Part.

    scikit-learn turns what a splitter yields into arrays, so a part travels as its number: an array of one.

    Parameters
    ----------
    collection : Dask array, series or dataframe
    lengths : tuple of int, rows of each block
    parts : list of Part, filled once the folds are made
    """

    def __init__(self, collection: Any, lengths: tuple[int, ...], parts: list[Part]):
        self.collection = collection
        self.lengths = lengths
        self.parts = parts

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.lengths), *self.collection.shape[1:])

    @property
    def ndim(self) -> int:
        return int(self.collection.ndim)

    def __getitem__(self, key: Any) -> Any:
        (number,) = key[0] if isinstance(key, tuple) else key
        return select(self.collection, self.parts[number])

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """The values of y, which scikit-learn's own splitters look at; X is never brought here."""
        if self.ndim > 1:
            raise DataError("A splitter asks for the values of X. Use one of dparallel.model_selection.")
        return np.asarray(self.collection.compute(), dtype)


@dataclass(frozen=True)
class Data:
    """What a search works on.

    Parameters
    ----------
    X, y : Rows, y may be None
    params : dict, arguments of fit; those that have a value for each row are Rows
    folds : list of (train, test), numbers of parts as Rows take them
    """

    X: Rows
    y: Rows | None
    params: dict[str, Any]
    folds: list[tuple[np.ndarray, np.ndarray]]

    @property
    def whole(self) -> tuple[Any, Any, dict[str, Any]]:
        """X, y and params as an estimator takes them, all rows."""
        params = {name: _bare(value) for name, value in self.params.items()}
        return self.X.collection, _bare(self.y), params


@contextmanager
def prepare(estimator: Any, X: Any, y: Any, params: dict[str, Any], groups: Any, cv: Any) -> Iterator[Data]:
    """Hold the data of a search, count their rows, and split them.

    Parameters
    ----------
    estimator : classifiers get stratified folds
    X : Dask array or dataframe
    y, groups : Dask array or series, or array-like, of shape (n_rows,), or None
    params : dict, arguments of fit; those with one value for each row are cut like X
    cv : None, int, splitter of dparallel's or scikit-learn's, or an iterable of (train, test) row numbers or masks

    Yields
    ------
    data : Data, which must not be used outside

    Raises
    ------
    AlignmentError
        If what belongs to the rows cannot be paired with X.
    """
    with find(is_dask=True) as place:
        given = {"y": y, "groups": groups} | params
        beside = {name: value for name, value in given.items() if _belongs_to_rows(name, value)}
        lazy = {name: value for name, value in beside.items() if is_dask(value)}
        aligned = _beside(X, lazy)
        X, *held = hold([X, *aligned.values()], place)
        lengths = count_lengths(X)
        X = with_lengths(X, lengths) if isinstance(X, da.Array) else X
        parts: list[Part] = []
        rows = {name: _rows(name, value, lengths, parts) for name, value in zip(aligned, held, strict=True)}
        # what is in memory can be cut once the lengths are known
        rows |= {name: _cut(name, value, lengths, parts) for name, value in beside.items() if name not in lazy}
        targets, groups = rows.pop("y", None), rows.pop("groups", None)
        whole = Rows(X, lengths, parts)
        for pair in split(estimator, cv, whole, targets, groups):
            parts.extend(pair)
        folds = [(np.array([i]), np.array([i + 1])) for i in range(0, len(parts), 2)]
        yield Data(whole, targets, params | rows, folds)


def split(estimator: Any, cv: Any, X: Rows, y: Rows | None, groups: Rows | None) -> list[tuple[Part, Part]]:
    """The folds that `cv` means."""
    cv = 5 if cv is None else cv
    if isinstance(cv, int):
        cv = StratifiedKFold(cv) if is_classifier(estimator) and y is not None else KFold(cv)
    if isinstance(cv, BlockSplitter):
        return cv.parts(X.collection, _bare(y), _bare(groups))
    pairs = cv.split(X, y, None if groups is None else np.asarray(groups)) if hasattr(cv, "split") else cv
    return [(_part(train, X.lengths), _part(test, X.lengths)) for train, test in pairs]


def _part(rows: Any, lengths: tuple[int, ...]) -> Part:
    return rows if isinstance(rows, Part) else listed(rows, lengths)


def _bare(rows: Any) -> Any:
    return rows.collection if isinstance(rows, Rows) else rows


def _belongs_to_rows(name: str, value: Any) -> bool:
    """Whether an argument has a value for each row."""
    if value is None:
        return False
    return is_dask(value) or (name in ("y", "groups", "sample_weight") and np.ndim(value) > 0)


def _beside(X: Any, lazy: dict[str, Any]) -> dict[str, Any]:
    """Dask collections in the blocks of X; what has as many partitions stays the series or dataframe that it is."""
    found = {}
    for name, value in lazy.items():
        # also checks that they can be paired
        rows = align({"X": X, name: value})[name]
        same = is_partitioned(value) and value.npartitions == rows.numblocks[0]
        found[name] = value if same or value is X else rows
    return found


def _rows(name: str, collection: Any, lengths: tuple[int, ...], parts: list[Part]) -> Rows:
    own = count_lengths(collection)
    if own != lengths:
        i = next((i for i, (n, m) in enumerate(zip(lengths, own)) if n != m), 0)
        raise AlignmentError(
            f"Block {i} of X has {lengths[i]} rows, and block {i} of {name} has {own[i]}. dparallel pairs them block "
            f"by block. Build X and {name} from the same collection."
        )
    return Rows(with_lengths(collection, lengths) if isinstance(collection, da.Array) else collection, lengths, parts)


def _cut(name: str, values: Any, lengths: tuple[int, ...], parts: list[Part]) -> Rows:
    frame = da.zeros(sum(lengths), chunks=(lengths,))
    return Rows(paired(name, np.asarray(values), frame, None), lengths, parts)
