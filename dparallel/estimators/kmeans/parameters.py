"""Checks of ParallelKMeans' parameters, before any work starts."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from dparallel.errors import DataError

INITS = ("k-means||", "k-means++", "random")
ALGORITHMS = ("auto", "bounded", "lloyd", "elkan")
METRICS = ("euclidean", "cosine")


def check_parameters(model: Any) -> None:
    """Refuse values that cannot be meant.

    Raises
    ------
    ValueError, TypeError
        Saying what was given and what is needed.
    """
    _check_number(model, "n_clusters", Integral, 1)
    _check_number(model, "max_iter", Integral, 1)
    _check_number(model, "tol", Real, 0)
    _check_number(model, "init_rounds", Integral, 1)
    _check_number(model, "oversampling_factor", Real, 0, strict=True)
    _check_choice(model, "algorithm", ALGORITHMS)
    _check_choice(model, "metric", METRICS)
    if isinstance(model.init, str):
        _check_choice(model, "init", INITS)
    if isinstance(model.n_init, str):
        _check_choice(model, "n_init", ("auto",))
    else:
        _check_number(model, "n_init", Integral, 1)


def _check_number(model: Any, name: str, kind: type, least: float, *, strict: bool = False) -> None:
    value = getattr(model, name)
    what = "an integer" if kind is Integral else "a number"
    bound = f"{'finite and greater than' if strict else 'at least'} {least}"
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} was given {value!r}. It must be {what} {bound}.")
    number: Any = value
    if not (least < number < np.inf if strict else number >= least):
        raise ValueError(f"{name} was given {value!r}. It must be {what} {bound}.")


def _check_choice(model: Any, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(model, name)
    if value not in choices:
        raise ValueError(f"{name} was given {value!r}. It must be one of {', '.join(map(repr, choices))}.")


def check_centres(centres: Any, n_clusters: int, n_features: int) -> np.ndarray:
    """Check initial centres that a user gave.

    Returns
    -------
    centres : ndarray of shape (n_clusters, n_features), float64

    Raises
    ------
    DataError
        If the shape is another, or a value is not finite.
    """
    centres = np.array(centres, dtype=np.float64)
    if centres.shape != (n_clusters, n_features):
        raise DataError(
            f"The shape of the initial centers {centres.shape} does not match the number of clusters {n_clusters} and "
            f"the number of features {n_features}. Give an array of shape ({n_clusters}, {n_features})."
        )
    if not np.isfinite(centres).all():
        raise DataError("The initial centers hold NaN or infinity. Give finite ones.")
    return centres
