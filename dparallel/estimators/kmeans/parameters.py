"""Checks of ParallelKMeans' parameters, before any work starts."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from dparallel.errors import DataError
from dparallel.estimators.checks import check_choice, check_number

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
    check_number(model, "n_clusters", Integral, 1)
    check_number(model, "max_iter", Integral, 1)
    check_number(model, "tol", Real, 0)
    check_number(model, "init_rounds", Integral, 1)
    check_number(model, "oversampling_factor", Real, 0, strict=True)
    check_choice(model, "algorithm", ALGORITHMS)
    check_choice(model, "metric", METRICS)
    if isinstance(model.init, str):
        check_choice(model, "init", INITS)
    if isinstance(model.n_init, str):
        check_choice(model, "n_init", ("auto",))
    else:
        check_number(model, "n_init", Integral, 1)


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
