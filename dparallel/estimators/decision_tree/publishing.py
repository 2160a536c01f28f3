"""From the arrays of a grown tree to scikit-learn's Tree, whose columns are the features and tests of categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import compat, kernels
from dparallel.estimators.decision_tree.paths import Subset
from dparallel.estimators.decision_tree.tree import TreeArrays

_BETWEEN = 0.5  # a test of categories gives 0 or 1


@dataclass(frozen=True)
class Published:
    """A tree that can be asked.

    Parameters
    ----------
    tree : sklearn.tree._tree.Tree
    subsets : tuple of Subset, what the tree's columns behind the features are
    """

    tree: Any
    subsets: tuple[Subset, ...]


def publish(
    arrays: TreeArrays, rules: Any, bins: Any, categorical: np.ndarray | None, *, shift: float, bounded: bool
) -> Published:
    """Make the Tree.

    Parameters
    ----------
    arrays : TreeArrays, in the order of nodes that the Tree is to have
    rules : kernels.criteria.Rules; bins : kernels.binning.Bins
    categorical : ndarray of shape (n_features,), bool, or None
    shift : float, was subtracted from the targets
    bounded : bool, whether there are monotonic constraints
    """
    criteria = kernels.criteria
    n_features = len(bins.n_values)
    feature, threshold = arrays.feature.copy(), arrays.threshold.copy()
    subsets: dict[tuple[int, bytes], int] = {}
    tests: list[Subset] = []
    for node in _category_tests(arrays, categorical):
        name = (int(feature[node]), arrays.left[node].tobytes())
        if name not in subsets:
            subsets[name] = n_features + len(tests)
            tests.append(_subset(arrays, node, bins))
        feature[node], threshold[node] = subsets[name], _BETWEEN
    nodes = {
        "left_child": arrays.left_child,
        "right_child": arrays.right_child,
        "feature": feature,
        "threshold": threshold,
        "impurity": arrays.impurity,
        "n_node_samples": criteria.counts(arrays.statistics, rules),
        "weighted_n_node_samples": criteria.weights(arrays.statistics, rules),
        "missing_go_to_left": arrays.missing_left,
    }
    values = node_values(arrays, rules, shift=shift, bounded=bounded)
    depth = int(arrays.depth.max(initial=0))
    n_columns = n_features + len(tests)
    tree = compat.tree_from_arrays(n_columns, max(rules.n_classes, 1), depth, nodes, values[:, None, :])
    return Published(tree, tuple(tests))


def node_values(arrays: TreeArrays, rules: Any, *, shift: float, bounded: bool) -> np.ndarray:
    """Class shares or means of all nodes: float64 of shape (n_nodes, n_classes or 1)."""
    values = kernels.criteria.values(arrays.statistics, rules)
    if bounded:  # as scikit-learn: the share of the first of two classes, or the mean, stays within its bounds
        values[:, 0] = np.clip(values[:, 0], arrays.lower, arrays.upper)
        if rules.n_classes:
            values[:, 1:] = 1.0 - values[:, :1]
    return values if rules.n_classes else values + shift


def _category_tests(arrays: TreeArrays, categorical: np.ndarray | None) -> np.ndarray:
    """Nodes that are split on a categorical feature."""
    if categorical is None:
        return np.empty(0, np.int64)
    return np.flatnonzero((arrays.feature >= 0) & categorical[arrays.feature])


def _subset(arrays: TreeArrays, node: int, bins: Any) -> Subset:
    feature = int(arrays.feature[node])
    codes = np.arange(bins.n_values[feature])
    values = bins.upper[bins.starts[feature] + codes]
    goes_left = (arrays.left[node][codes >> 6] >> (codes & 63).astype(np.uint64)) & np.uint64(1) == 1
    return Subset(feature, values[goes_left], values[~goes_left])


def prune(published: Published, n_classes: int, ccp_alpha: float) -> Published:
    """Prune by minimal cost-complexity; n_classes : 1 for regression."""
    if ccp_alpha == 0.0:
        return published
    tree = compat.pruned_tree(published.tree, published.tree.n_features, n_classes, ccp_alpha)
    return Published(tree, published.subsets)


def importances(published: Published, n_features: int) -> np.ndarray:
    """Share of each feature in the decrease of impurity, tests of its categories included: float64, sum 1 or 0."""
    columns = published.tree.compute_feature_importances(normalize=False)
    feature = np.concatenate([np.arange(n_features), [subset.feature for subset in published.subsets]]).astype(int)
    result = np.bincount(feature, columns, minlength=n_features)
    total = result.sum()
    return result / total if total > 0 else result


def with_thresholds(published: Published, n_features: int) -> Any:
    """The Tree with its tests of categories turned into thresholds on the categories' numbers.

    Raises
    ------
    ValueError
        If categories that go left and right alternate in a test, so that no single threshold parts them.
    """
    if not published.subsets:
        return published.tree
    state = published.tree.__getstate__()
    tests = {n_features + i: subset for i, subset in enumerate(published.subsets)}
    columns = {name: getattr(published.tree, name).copy() for name in ("feature", "threshold")}
    left, right = published.tree.children_left.copy(), published.tree.children_right.copy()
    missing_left = published.tree.missing_go_to_left.astype(bool)
    for node in np.flatnonzero(columns["feature"] >= n_features):
        subset = tests[int(columns["feature"][node])]
        threshold, swapped = _threshold(subset)
        columns["feature"][node], columns["threshold"][node] = subset.feature, threshold
        if swapped:
            left[node], right[node] = right[node], left[node]
            missing_left[node] = not missing_left[node]
    nodes = {
        **columns,
        "left_child": left,
        "right_child": right,
        "missing_go_to_left": missing_left,
        **{name: getattr(published.tree, name) for name in ("impurity", "n_node_samples", "weighted_n_node_samples")},
    }
    values = published.tree.value
    return compat.tree_from_arrays(n_features, values.shape[2], state["max_depth"], nodes, values)


def _threshold(subset: Subset) -> tuple[float, bool]:
    """The threshold that parts the categories of a test, and whether those that go left lie above it."""
    low, high = subset.left, subset.right
    swapped = bool(len(low) and len(high) and low[0] > high[0])
    if swapped:
        low, high = high, low
    if len(low) and len(high) and low[-1] > high[0]:
        raise ValueError(
            f"The tree tests whether feature {subset.feature} is one of the categories {subset.left.tolist()} and not "
            f"one of {subset.right.tolist()}. No threshold does that, and this release of scikit-learn's trees knows "
            "thresholds only. Predict with this estimator, or fit with categorical_features=None."
        )
    if not (len(low) and len(high)):
        return (np.inf if len(low) else -np.inf), False
    return float(low[-1]) / 2 + float(high[0]) / 2, swapped
