"""Splitters that decide block by block which rows are in a fold: nothing of the rows' number reaches the client."""

from __future__ import annotations

import numbers
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import dask.array as da
import numpy as np
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from dparallel import kernels
from dparallel.blocks.dask_arrays import is_dask
from dparallel.blocks.reducing import align
from dparallel.errors import DataError, warn
from dparallel.model_selection.parts import Part, count_lengths, make_parts, numbers_of, with_lengths
from dparallel.model_selection.rules import Members, Places
from dparallel.model_selection.sizes import split_sizes
from dparallel.model_selection.strata import Strata, find_strata

Pair = tuple[Part, Part]


class BlockSplitter(BaseCrossValidator):
    """Base of all splitters.

    Notes
    -----
    dparallel's searches use `parts`. scikit-learn's use `split`, which brings the rows' numbers to the client, 8 bytes
    per row, as its own splitters do; y stays where it is.
    """

    _about: str | None = None  # the argument that parts are made by: "y" or "groups"

    def parts(self, X: Any, y: Any = None, groups: Any = None) -> list[Pair]:
        """Split data in blocks.

        Parameters
        ----------
        X : Dask array, series or dataframe of shape (n_rows, ...); blocks of unknown lengths are counted, once
        y, groups : Dask array or series, or array-like, of shape (n_rows,), or None

        Returns
        -------
        parts : list of (train, test), both Part, for `select`

        Raises
        ------
        DataError
            If there are more splits than rows, or labels or groups are missing.
        AlignmentError
            If y or groups cannot be paired with X.
        """
        lengths = count_lengths(X)
        about = None if self._about is None else self._aligned({"y": y, "groups": groups}[self._about], X, lengths)
        return self._parts(lengths, about)

    def split(self, X, y=None, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of each split, as scikit-learn's searches want them.

        Parameters
        ----------
        X : Dask collection, or array-like, of shape (n_rows, ...)
        y, groups : Dask array or series, or array-like, of shape (n_rows,), or None

        Yields
        ------
        train, test : ndarray of shape (n_chosen,), int64, ascending
        """
        if not is_dask(X):
            values = [None if part is None else np.asarray(part) for part in (y, groups)]
            y, groups = (None if part is None else da.from_array(part, chunks=-1) for part in values)
            X = da.from_array(np.arange(_n_rows(X)), chunks=-1)
        for train, test in self.parts(X, y, groups):
            yield numbers_of(train), numbers_of(test)

    def _aligned(self, about: Any, X: Any, lengths: Sequence[int]) -> da.Array:
        name = str(self._about)
        if about is None:
            raise DataError(f"The '{name}' parameter should not be None. {type(self).__name__} splits by it.")
        rows = align({"X": with_lengths(X, lengths) if isinstance(X, da.Array) else X, name: about})
        return with_lengths(rows[name], lengths)

    @abstractmethod
    def _parts(self, lengths: tuple[int, ...], about: da.Array | None) -> list[Pair]: ...

    def get_n_splits(self, X=None, y=None, groups=None):
        """The number of splits: int."""
        return self.n_splits


class _Folds(BlockSplitter):
    def __init__(self, n_splits=5, *, shuffle=False, random_state=None):
        _check_folds(n_splits, shuffle, random_state)
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def _seed(self) -> int | None:
        return draw_seed(self.random_state) if self.shuffle else None


class KFold(_Folds):
    """Folds of consecutive rows, or of rows in a random order.

    Without shuffle the folds are those of sklearn.model_selection.KFold. With it they are others of the same sizes: a
    row's fold is a function of the seed and the row's number, whatever the blocks.

    Parameters
    ----------
    n_splits : int, default=5
    shuffle : bool, default=False
    random_state : int, RandomState or None, default=None; for shuffle

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel.model_selection import KFold, select
    >>> X = da.arange(6, chunks=4)
    >>> [(select(X, train).compute(), select(X, test).compute()) for train, test in KFold(2).parts(X)]
    [(array([3, 4, 5]), array([0, 1, 2])), (array([0, 1, 2]), array([3, 4, 5]))]
    """

    def _parts(self, lengths, about):
        n = sum(lengths)
        if self.n_splits > n:
            raise DataError(
                f"Cannot have number of splits n_splits={self.n_splits} greater than the number of samples: "
                f"n_samples={n}. Choose fewer splits."
            )
        seed = self._seed()
        key = None if seed is None else kernels.draws.key(seed, "kfold")
        ends = np.cumsum([n // self.n_splits + (fold < n % self.n_splits) for fold in range(self.n_splits)])
        starts = np.cumsum((0, *lengths))
        rules = [
            [Places(int(start), n, int(low), int(high), key, inverted) for start, _ in zip(starts, lengths)]
            for low, high in zip([0, *ends], ends)
            for inverted in (True, False)
        ]
        return pairs(make_parts(rules, lengths))


class StratifiedKFold(_Folds):
    """Folds with the same share of each class.

    Without shuffle the folds are those of sklearn.model_selection.StratifiedKFold. With it they are others of the same
    sizes, in which a row's fold is a function of the seed and of how many rows of its class come before. The number of
    rows of each class in each block comes to the client.

    Parameters
    ----------
    n_splits : int, default=5
    shuffle : bool, default=False
    random_state : int, RandomState or None, default=None; for shuffle
    """

    _about = "y"

    def _parts(self, lengths, about):
        strata = find_strata(about)
        self._check_sizes(strata.totals)
        edges = strata.folds(self.n_splits)
        keys = strata.keys(self._seed())
        rules = [
            strata.rules(edges[fold], edges[fold + 1], keys, inverted)
            for fold in range(self.n_splits)
            for inverted in (True, False)
        ]
        return pairs(make_parts(rules, lengths, about))

    def _check_sizes(self, totals: np.ndarray) -> None:
        if (self.n_splits > totals).all():
            raise DataError(
                f"n_splits={self.n_splits} cannot be greater than the number of members in each class. "
                "Choose fewer splits."
            )
        if self.n_splits > totals.min():
            warn(
                f"The least populated class in y has only {totals.min()} members, which is less than "
                f"n_splits={self.n_splits}.",
                UserWarning,
            )


class GroupKFold(_Folds):
    """Folds of whole groups, of about the same size.

    The folds are those of sklearn.model_selection.GroupKFold, shuffled or not. The number of rows of each group in each
    block comes to the client.

    Parameters
    ----------
    n_splits : int, default=5
    shuffle : bool, default=False; whether groups are shared out at random, and not by their sizes
    random_state : int, RandomState or None, default=None; for shuffle
    """

    _about = "groups"
    __metadata_request__split = {"groups": True}

    def _parts(self, lengths, about):
        strata = find_strata(about)
        fold = self._fold_of_groups(strata)
        rules = [
            [Members(groups[fold[np.searchsorted(strata.classes, groups)] == i], inverted) for groups in strata.present]
            for i in range(self.n_splits)
            for inverted in (True, False)
        ]
        return pairs(make_parts(rules, lengths, about))

    def _fold_of_groups(self, strata: Strata) -> np.ndarray:
        """The fold of each group: ndarray of shape (n_groups,), int64."""
        n_groups = len(strata.classes)
        if self.n_splits > n_groups:
            raise DataError(
                f"Cannot have number of splits n_splits={self.n_splits} greater than the number of groups: {n_groups}. "
                "Choose fewer splits."
            )
        fold = np.zeros(n_groups, np.int64)
        if self.shuffle:
            order = check_random_state(self.random_state).permutation(n_groups)
            for i, groups in enumerate(np.array_split(order, self.n_splits)):
                fold[groups] = i
            return fold
        sizes = np.zeros(self.n_splits)
        for group in np.argsort(strata.totals, kind="stable")[::-1]:
            fold[group] = sizes.argmin()
            sizes[fold[group]] += strata.totals[group]
        return fold


class ShuffleSplit(BlockSplitter):
    """Random rows to test on, and others to train on, anew in each split.

    The sizes are those of sklearn.model_selection.ShuffleSplit, the rows are others: a row's part is a function of the
    seed and the row's number, whatever the blocks. Rows keep their order.

    Parameters
    ----------
    n_splits : int, default=10
    test_size, train_size : float, a share of the rows, int, or None for the rest; a tenth is tested if both are None
    random_state : int, RandomState or None, default=None
    """

    def __init__(self, n_splits=10, *, test_size=None, train_size=None, random_state=None):
        self.n_splits = n_splits
        self.test_size = test_size
        self.train_size = train_size
        self.random_state = random_state

    def _parts(self, lengths, about):
        n = sum(lengths)
        n_train, n_test = split_sizes(n, self.test_size, self.train_size, default=0.1)
        seed = draw_seed(self.random_state)
        starts = np.cumsum((0, *lengths))[:-1].tolist()
        keys = [kernels.draws.key(seed, "shuffle", split) for split in range(self.n_splits)]
        rules = [
            [Places(start, n, low, high, key) for start in starts]
            for key in keys
            for low, high in ((n_test, n_test + n_train), (0, n_test))
        ]
        return pairs(make_parts(rules, lengths))


def pairs(parts: Sequence[Part]) -> list[Pair]:
    """Pair parts that alternate: train, test, train, test ..."""
    return list(zip(parts[::2], parts[1::2], strict=True))


def draw_seed(random_state: Any) -> int:
    """A seed from an int, a RandomState or None."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _check_folds(n_splits: Any, shuffle: Any, random_state: Any) -> None:
    if not isinstance(n_splits, numbers.Integral):
        raise TypeError(
            f"The number of folds must be of Integral type. {n_splits} of type {type(n_splits)} was passed."
        )
    if n_splits < 2:
        raise ValueError(
            f"k-fold cross-validation requires at least one train/test split: n_splits={n_splits}, not 2+."
        )
    if not isinstance(shuffle, bool):
        raise TypeError(f"shuffle must be True or False; got {shuffle}")
    if not shuffle and random_state is not None:
        raise ValueError(
            "Setting a random_state has no effect since shuffle is False. Leave it out, or set shuffle=True."
        )


def _n_rows(X: Any) -> int:
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)
