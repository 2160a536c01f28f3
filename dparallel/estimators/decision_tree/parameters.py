"""What the constructor's parameters mean for given data, checked in scikit-learn's words."""

from __future__ import annotations

from math import ceil
from numbers import Integral
from typing import Any

import dask
import numpy as np

from dparallel.estimators.decision_tree.frontier import Limits

HISTOGRAM_BYTES = "dparallel.tree.histogram-bytes"
_NO_LIMIT = np.iinfo(np.int32).max


def histogram_bytes() -> int:
    """Memory that the histograms of one round may take in a worker."""
    return int(dask.utils.parse_bytes(dask.config.get(HISTOGRAM_BYTES, "256 MiB")))


def find_limits(model: Any, n_rows: int) -> Limits:
    """Resolve when nodes are not split further; fractions are of n_rows."""
    leaf, split = model.min_samples_leaf, model.min_samples_split
    if not isinstance(leaf, Integral):
        leaf = ceil(leaf * n_rows)
    if not isinstance(split, Integral):
        split = max(2, ceil(split * n_rows))
    return Limits(
        max_depth=_NO_LIMIT if model.max_depth is None else int(model.max_depth),
        min_samples_split=int(split),
        min_samples_leaf=int(leaf),
        min_weight_fraction=float(model.min_weight_fraction_leaf),
        min_impurity_decrease=float(model.min_impurity_decrease),
        max_leaf_nodes=None if model.max_leaf_nodes is None else int(model.max_leaf_nodes),
        exact_rows=int(model.exact_rows),
    )


def count_features(max_features: Any, n_features: int) -> int:
    """How many features a node looks at."""
    if max_features is None:
        return n_features
    if isinstance(max_features, str):
        return max(1, int(np.sqrt(n_features) if max_features == "sqrt" else np.log2(n_features)))
    if isinstance(max_features, Integral):
        return int(max_features)
    return max(1, int(max_features * n_features))


def find_constraint(
    monotonic_cst: Any, n_features: int, n_classes: int, categorical: np.ndarray | None
) -> np.ndarray | None:
    """Check monotonic constraints, and turn their signs for classes: growth bounds the share of the first class.

    Parameters
    ----------
    n_classes : int, 0 for regression
    categorical : ndarray of shape (n_features,), bool, or None

    Returns
    -------
    constraint : ndarray of shape (n_features,), int8, or None

    Raises
    ------
    ValueError
        In scikit-learn's words.
    """
    if monotonic_cst is None:
        return None
    signs = np.asarray(monotonic_cst)
    if signs.shape[0] != n_features:
        raise ValueError(f"monotonic_cst has shape {signs.shape[0]} but the input data X has {n_features} features.")
    if not np.isin(signs, (-1, 0, 1)).all():
        raise ValueError(f"monotonic_cst must be None or an array-like of -1, 0 or 1, but got {np.unique(signs)}")
    if n_classes > 2:
        raise ValueError("Monotonicity constraints are not supported with multiclass classification")
    if categorical is not None and (signs[categorical] != 0).any():
        raise ValueError("Categorical features cannot have monotonic constraints.")
    signs = signs.astype(np.int8)
    return -signs if n_classes else signs


def refuse_together(model: Any) -> None:
    """Refuse parameters that contradict each other.

    Raises
    ------
    ValueError
    """
    if model.exact_rows and model.max_leaf_nodes is not None:
        raise ValueError(
            f"exact_rows={model.exact_rows!r} and max_leaf_nodes={model.max_leaf_nodes!r} were given. Small nodes are "
            "finished apart from each other, so the leaves of the whole tree cannot be limited. Give one of the two."
        )
