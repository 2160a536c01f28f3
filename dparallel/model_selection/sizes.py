"""How many rows a test set and a training set have."""

from __future__ import annotations

from math import ceil, floor
from numbers import Integral
from typing import Any

from dparallel.errors import DataError


def split_sizes(n_rows: int, test_size: Any, train_size: Any, *, default: float) -> tuple[int, int]:
    """Turn sizes as scikit-learn's functions take them into numbers of rows.

    Parameters
    ----------
    n_rows : int
    test_size, train_size : float in (0, 1), a share; int, rows; or None for the rest
    default : float, the share of the test set if both are None

    Returns
    -------
    n_train, n_test : int

    Raises
    ------
    DataError
        If a size is no share and no number of rows, or both together are too many, or nothing is left to train on.
    """
    if test_size is None and train_size is None:
        test_size = default
    for name, size in (("test_size", test_size), ("train_size", train_size)):
        _check_size(name, size, n_rows)
    test = None if test_size is None else _rows(test_size, n_rows, ceil)
    train = None if train_size is None else _rows(train_size, n_rows, floor)
    n_test = n_rows - (train or 0) if test is None else test
    n_train = n_rows - n_test if train is None else train
    if n_train + n_test > n_rows:
        raise DataError(
            f"The sum of train_size and test_size = {n_train + n_test}, should be smaller than the number of samples "
            f"{n_rows}. Reduce test_size and/or train_size."
        )
    if n_train == 0:
        raise DataError(
            f"With n_samples={n_rows}, test_size={test_size} and train_size={train_size}, the resulting train set will "
            "be empty. Adjust any of the aforementioned parameters."
        )
    return n_train, n_test


def _rows(size: Any, n_rows: int, rounded: Any) -> int:
    return int(size) if isinstance(size, Integral) else int(rounded(size * n_rows))


def _check_size(name: str, size: Any, n_rows: int) -> None:
    if size is None:
        return
    most = n_rows if isinstance(size, Integral) else 1
    if not 0 < size < most:
        raise DataError(
            f"{name}={size} should be either positive and smaller than the number of samples {n_rows} or a float in "
            "the (0, 1) range."
        )
