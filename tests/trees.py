"""What the tests of trees share: comparing trees, and data whose best splits are never tied."""

import numpy as np
import pytest

from dparallel import ParallelDecisionTree, ParallelDecisionTreeRegressor

NODE_ARRAYS = (
    "children_left",
    "children_right",
    "feature",
    "threshold",
    "impurity",
    "n_node_samples",
    "weighted_n_node_samples",
    "missing_go_to_left",
    "value",
)


def assert_same_tree(a, b):
    """Two fitted trees are the same to the last bit."""
    assert a.tree_.node_count == b.tree_.node_count and a.tree_.max_depth == b.tree_.max_depth
    for name in NODE_ARRAYS:
        np.testing.assert_array_equal(getattr(a.tree_, name), getattr(b.tree_, name), err_msg=name)


def assert_equals_sklearn(ours, theirs, *, tolerance=1e-12):
    """Node for node: the same splits and rows, impurities and values to a tolerance relative to the root's."""
    a, b = ours.tree_, theirs.tree_
    assert a.node_count == b.node_count and a.max_depth == b.max_depth
    for name in ("children_left", "children_right", "feature", "n_node_samples"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_allclose(a.threshold, b.threshold, rtol=1e-15)
    scale = max(abs(b.impurity[0]), 1e-300)
    np.testing.assert_allclose(a.impurity, b.impurity, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(a.weighted_n_node_samples, b.weighted_n_node_samples, rtol=1e-12)
    np.testing.assert_allclose(a.value, b.value, rtol=0, atol=tolerance * max(np.abs(b.value).max(), 1e-300))
    split = a.feature >= 0
    np.testing.assert_array_equal(a.missing_go_to_left[split], b.missing_go_to_left[split])


def assert_equals_sklearn_but_for_ties(ours, theirs, *, tolerance=1e-12, least_share=0.5):
    """Node for node from the root, down to where both chose different splits of equal gain.

    Returns
    -------
    n_compared : int, nodes that were compared, at least least_share of all
    """
    a, b = ours.tree_, theirs.tree_
    scale = max(abs(b.impurity[0]), 1e-300)
    waiting, n_compared = [(0, 0)], 0
    while waiting:
        i, j = waiting.pop()
        n_compared += 1
        assert a.n_node_samples[i] == b.n_node_samples[j]
        assert abs(a.impurity[i] - b.impurity[j]) <= tolerance * scale
        np.testing.assert_allclose(a.value[i], b.value[j], rtol=0, atol=tolerance * max(np.abs(b.value).max(), 1e-300))
        assert (a.children_left[i] < 0) == (b.children_left[j] < 0)
        if a.children_left[i] < 0:
            continue
        if (a.feature[i], a.threshold[i]) == (b.feature[j], b.threshold[j]):
            assert a.missing_go_to_left[i] == b.missing_go_to_left[j]
            waiting += [(a.children_left[i], b.children_left[j]), (a.children_right[i], b.children_right[j])]
        else:
            assert abs(gain(a, i) - gain(b, j)) <= 1e-12 * scale
    assert n_compared >= least_share * b.node_count
    return n_compared


def gain(tree, node):
    """Decrease of the impurity of the whole tree by a node's split."""
    weighted = tree.impurity * tree.weighted_n_node_samples / tree.weighted_n_node_samples[0]
    return weighted[node] - weighted[tree.children_left[node]] - weighted[tree.children_right[node]]


def leaf_impurity(model):
    """Impurity of all leaves, weighted by their rows' weight."""
    tree = model.tree_
    leaf = tree.children_left < 0
    return float((tree.impurity * tree.weighted_n_node_samples)[leaf].sum() / tree.weighted_n_node_samples[0])


def steps(n_rows=4000, n_features=6, n_values=200, seed=0):
    """Columns of few values each, float64; deep nodes are large enough that gains are not tied."""
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(size=(n_rows, n_features)) * n_values / 8) / 4


def labels(X, n_classes=3, seed=1):
    """Labels that depend on the columns and on chance."""
    rng = np.random.default_rng(seed)
    score = X[:, 0] + 0.5 * X[:, 1] * (X[:, 2] > 0) - 0.3 * X[:, 3] + rng.normal(scale=np.std(X), size=len(X))
    return np.digitize(score, np.quantile(score, np.arange(1, n_classes) / n_classes))


def numbers(X, seed=1):
    """Targets that depend on the columns and on chance, none of them alike."""
    rng = np.random.default_rng(seed)
    return X[:, 0] + 0.5 * X[:, 1] * (X[:, 2] > 0) - 0.3 * X[:, 3] + rng.normal(scale=np.std(X), size=len(X))


def missing(X, share=0.1, seed=2):
    """A copy in which some values are missing."""
    X = X.copy()
    X[np.random.default_rng(seed).random(X.shape) < share] = np.nan
    return X


def categories(n_rows=4000, n_categories=12, seed=0):
    """A category whose effect has nothing to do with its number, and a plain column."""
    rng = np.random.default_rng(seed)
    category = rng.integers(0, n_categories, n_rows)
    effect = rng.permutation(n_categories) - n_categories / 2
    score = effect[category] + rng.normal(size=n_rows)
    return np.column_stack([rng.normal(size=n_rows), category * 7.0 - 3]), score


X = steps()
Y3, Y2, YR = labels(X), labels(X, 2), numbers(X)


def both(function):
    """Run a test with each of the two trees and targets for it."""
    cases = [(ParallelDecisionTree, Y3), (ParallelDecisionTreeRegressor, YR)]
    return pytest.mark.parametrize("Tree, y", cases, ids=["classes", "numbers"])(function)
