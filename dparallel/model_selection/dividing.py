"""train_test_split for data in blocks."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import sklearn.model_selection

from dparallel import kernels
from dparallel.blocks.dask_arrays import is_dask
from dparallel.blocks.reducing import align
from dparallel.errors import DataError, DataKindError
from dparallel.model_selection.parts import Part, count_lengths, make_parts, select, with_lengths
from dparallel.model_selection.rules import Places
from dparallel.model_selection.sizes import split_sizes
from dparallel.model_selection.splitters import draw_seed
from dparallel.model_selection.strata import find_strata, largest_remainders


def train_test_split(*collections, test_size=None, train_size=None, random_state=None, shuffle=True, stratify=None):
    """Split collections into rows to train on and rows to test on, lazily.

    Parameters
    ----------
    *collections : Dask arrays, series or dataframes with the same blocks of rows, such as X, y and weights
        Blocks of unknown lengths are counted, once, which reads them.
    test_size, train_size : float, a share of the rows, int, or None for the rest; a quarter is tested if both are None
    random_state : int, RandomState or None, default=None
    shuffle : bool, default=True; if not, the last rows are tested on
    stratify : Dask array or series of shape (n_rows,), labels of which both sides get the same shares, or None

    Returns
    -------
    parts : list of Dask collections: train and test of the first, of the second ... each row in the block where it was

    Raises
    ------
    DataError
        If sizes cannot be meant, or stratify needs shuffle.
    DataKindError
        If only some of the collections are Dask's.
    AlignmentError
        If they cannot be paired row by row.

    Notes
    -----
    Sizes are those of sklearn.model_selection.train_test_split, to which collections in memory are passed on. Which
    rows are drawn is a function of the seed and the rows' numbers, whatever the blocks.

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel.model_selection import train_test_split
    >>> X = da.arange(10, chunks=4)
    >>> train, test = train_test_split(X, test_size=0.3, random_state=0)
    >>> train.shape, test.shape
    ((7,), (3,))
    """
    if not collections:
        raise ValueError("At least one array required as input. Give what is to be split.")
    if not any(map(is_dask, (*collections, stratify))):
        given = {"random_state": random_state, "shuffle": shuffle, "stratify": stratify}
        return sklearn.model_selection.train_test_split(
            *collections, test_size=test_size, train_size=train_size, **given
        )
    if not all(map(is_dask, collections)):
        raise DataKindError(
            "Some of the collections are Dask's and others are in memory. Give all as Dask collections with the same "
            "blocks, for instance by dask.array.from_array(values, chunks=X.chunks[0])."
        )
    if not shuffle and stratify is not None:
        raise DataError("Stratified train/test split is not implemented for shuffle=False. Leave stratify out.")
    lengths = count_lengths(collections[0])
    sizes = split_sizes(sum(lengths), test_size, train_size, default=0.25)
    parts = _parts(lengths, sizes, shuffle, random_state, _beside(collections[0], stratify, lengths))
    return [
        select(with_lengths(each, lengths) if isinstance(each, da.Array) else each, part)
        for each in _same_blocks(collections, lengths)
        for part in parts
    ]


def _parts(
    lengths: tuple[int, ...], sizes: tuple[int, int], shuffle: bool, random_state: Any, labels: Any
) -> list[Part]:
    """The train and the test part."""
    n, (n_train, n_test) = sum(lengths), sizes
    starts = np.cumsum((0, *lengths))[:-1].tolist()
    if not shuffle:
        edges = ((0, n_train), (n_train, n_train + n_test))
        return make_parts([[Places(start, n, low, high) for start in starts] for low, high in edges], lengths)
    seed = draw_seed(random_state)
    if labels is None:
        key = kernels.draws.key(seed, "split")
        edges = ((n_test, n_test + n_train), (0, n_test))
        return make_parts([[Places(start, n, low, high, key) for start in starts] for low, high in edges], lengths)
    strata = find_strata(labels)
    if strata.totals.min() < 2:
        raise DataError(
            "The least populated classes in y have only 1 member, which is too few. The minimum number of groups for "
            "any class cannot be less than 2. Leave such rows out."
        )
    test = largest_remainders(strata.totals, n_test)
    train = np.minimum(largest_remainders(strata.totals, n_train), strata.totals - test)
    keys, nothing = strata.keys(seed), np.zeros_like(test)
    rules = [strata.rules(test, test + train, keys, False), strata.rules(nothing, test, keys, False)]
    return make_parts(rules, lengths, labels)


def _beside(first: Any, labels: Any, lengths: tuple[int, ...]) -> da.Array | None:
    """Labels in the blocks of the first collection."""
    if labels is None:
        return None
    return with_lengths(align({"X": first, "stratify": labels})["stratify"], lengths)


def _same_blocks(collections: tuple[Any, ...], lengths: tuple[int, ...]) -> list[Any]:
    """Arrays cut like the first collection, where lengths are known; the rest as it is."""
    first = collections[0]
    first = with_lengths(first, lengths) if isinstance(first, da.Array) else first
    return [
        align({"the first collection": first, "another": each})["another"]
        if isinstance(each, da.Array) and isinstance(first, da.Array) and each is not collections[0]
        else each
        for each in collections
    ]
