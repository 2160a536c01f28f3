"""The parallel trees in this process: kinds of data, parameters, weights and missing values."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.tree import (
    DecisionTreeClassifier,
    export_text,
)

from dparallel import ParallelDecisionTree, ParallelDecisionTreeClassifier, ParallelDecisionTreeRegressor
from tests import trees, twins
from tests.trees import Y2, Y3, YR, X, both
from tests.versions import since

FITTED = ParallelDecisionTree(max_depth=5).fit(X, Y3)


def test_the_classifier_has_two_names():
    assert ParallelDecisionTreeClassifier is ParallelDecisionTree


# --- what a tree is given


@both
@pytest.mark.parametrize("layout", twins.LAYOUTS)
def test_memory_order_changes_nothing(Tree, y, layout):
    trees.assert_same_tree(Tree(max_depth=4).fit(twins.lay_out(X, layout), y), Tree(max_depth=4).fit(X, y))


@both
@pytest.mark.parametrize(
    "make",
    [np.ndarray.tolist, np.float32, scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array],
    ids=["list", "float32", "CSR", "CSC", "COO"],
)
def test_kinds_of_rows_give_the_same_tree_and_predictions(Tree, y, make):
    expected, model = Tree(max_depth=4).fit(X, y), Tree(max_depth=4).fit(make(X), y)
    trees.assert_same_tree(model, expected)
    np.testing.assert_array_equal(model.predict(make(X)), expected.predict(X))
    np.testing.assert_array_equal(model.apply(make(X)), expected.apply(X))
    assert (model.decision_path(make(X)) != expected.decision_path(X)).nnz == 0


@pytest.mark.parametrize(
    "names", [[3, 5, 9], [0.0, 1.0, 2.0], ["a", "b", "c"], [-2, 0, 70_000], [2**62, 2**62 + 1, 2**62 + 2]]
)
@pytest.mark.parametrize("kind", [np.asarray, lambda values: np.array(values, dtype=object)], ids=["plain", "object"])
def test_labels_may_be_of_any_kind(names, kind):
    names = kind(names)
    model = ParallelDecisionTree(max_depth=5).fit(X, names[Y3])
    np.testing.assert_array_equal(model.classes_, names)
    np.testing.assert_array_equal(model.predict(X), names[FITTED.predict(X)])
    assert model.n_classes_ == 3 and model.score(X, names[Y3]) == FITTED.score(X, Y3)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float32, np.uint64])
def test_labels_keep_their_dtype(dtype):
    model = ParallelDecisionTree(max_depth=3).fit(X, Y2.astype(dtype))
    assert model.classes_.dtype == dtype and model.predict(X).dtype == dtype
    np.testing.assert_array_equal(model.predict(X).astype(int), ParallelDecisionTree(max_depth=3).fit(X, Y2).predict(X))


@both
def test_a_single_class_or_target_gives_a_leaf(Tree, y):
    model = Tree().fit(X, np.full(len(X), 7.0))
    assert model.tree_.node_count == 1 and model.get_depth() == 0 and model.get_n_leaves() == 1
    assert (model.predict(X) == 7).all() and model.tree_.impurity[0] == 0
    assert (model.feature_importances_ == 0).all()
    assert model.apply(X).max() == 0 and export_text(model)


def test_equal_targets_far_from_zero_are_pure():
    y = np.where(X[:, 0] > 0, 1e9 + 0.1, 1e9 + 0.3)
    model = ParallelDecisionTreeRegressor().fit(X, y)
    assert model.tree_.node_count == 3 and (model.tree_.impurity[1:] == 0).all()
    np.testing.assert_array_equal(model.predict(X), y)


@pytest.mark.parametrize("offset", [1e6, -(2.0**40)])
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_far_from_zero_lose_no_digits(offset, weighted):
    weights = np.random.default_rng(0).integers(1, 4, len(X)) if weighted else None
    near = ParallelDecisionTreeRegressor(max_depth=7).fit(X, np.round(YR), weights)
    far = ParallelDecisionTreeRegressor(max_depth=7).fit(X, np.round(YR) + offset, weights)
    for name in ("feature", "threshold", "n_node_samples"):
        np.testing.assert_array_equal(getattr(far.tree_, name), getattr(near.tree_, name))
    np.testing.assert_allclose(far.tree_.impurity, near.tree_.impurity, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(far.tree_.value - offset, near.tree_.value, atol=1e-15 * abs(offset))


@both
@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_very_few_rows_are_enough(Tree, y, n_rows):
    model = Tree().fit(X[:n_rows], y[:n_rows])
    np.testing.assert_allclose(model.predict(X[:n_rows]), y[:n_rows])


def test_columns_of_every_kind_are_read():
    rng = np.random.default_rng(0)
    n = 3000
    rows = np.column_stack(
        [
            np.where(rng.random(n) < 0.5, 1e300, -1e300),
            np.full(n, 4.0),
            rng.integers(0, 2, n),
            np.full(n, np.nan),
            rng.normal(size=n) * 10.0 ** rng.integers(-300, 300, n),
            np.where(rng.random(n) < 0.5, np.nan, 3.0),
            rng.normal(size=n),
        ]
    )
    for y in (rows[:, 0] > 0, rows[:, 2] > 0, np.isnan(rows[:, 5]), rows[:, 6] > 0.3):
        model = ParallelDecisionTree(max_depth=4).fit(rows, y)
        assert model.score(rows, y) > 0.99
        assert np.isfinite(model.tree_.threshold[model.tree_.feature >= 0]).all() or np.isnan(rows).any()
        assert not {1, 3} & set(model.tree_.feature)


def test_values_that_float32_cannot_tell_apart_are_one():
    rows = np.array([[1.0], [1.0 + 1e-12], [2.0]])
    model = ParallelDecisionTreeRegressor().fit(rows, [0.0, 1.0, 5.0])
    assert model.tree_.node_count == 3 and model.predict([[1.0]]) == 0.5


# --- parameters


@both
def test_limits_are_kept(Tree, y):
    def tree(**parameters):
        return Tree(**parameters).fit(X, y).tree_

    leaf = tree(min_samples_leaf=50).n_node_samples
    assert leaf.min() >= 50
    fraction = tree(min_samples_leaf=0.02)
    assert fraction.n_node_samples.min() >= 80
    split = tree(min_samples_split=300)
    assert (split.n_node_samples[split.children_left >= 0] >= 300).all()
    assert tree(max_depth=3).max_depth == 3
    assert tree(max_leaf_nodes=9).n_leaves == 9
    weight = tree(min_weight_fraction_leaf=0.05)
    assert weight.weighted_n_node_samples.min() >= 0.05 * len(X)
    less = tree(max_depth=6, min_impurity_decrease=0.02 * tree(max_depth=1).impurity[0])
    assert less.node_count < tree(max_depth=6).node_count


@both
def test_min_samples_leaf_counts_rows_and_min_weight_their_weight(Tree, y):
    weights = np.where(X[:, 0] > 0, 100.0, 1.0)
    model = Tree(min_samples_leaf=40).fit(X, y, weights)
    assert model.tree_.n_node_samples.min() >= 40
    model = Tree(min_weight_fraction_leaf=0.01).fit(X, y, weights)
    assert model.tree_.weighted_n_node_samples.min() >= 0.01 * weights.sum()
    assert model.tree_.n_node_samples.min() < 0.01 * len(X)


@both
@pytest.mark.parametrize("max_features", [1, 2, 0.5, "sqrt", "log2"])
def test_max_features_draws_by_the_seed_alone(Tree, y, max_features):
    def fit(seed):
        return Tree(max_depth=5, max_features=max_features, random_state=seed).fit(X, y)

    trees.assert_same_tree(fit(0), fit(0))
    assert len({fit(seed).tree_.feature.tobytes() for seed in range(6)}) > 1
    assert fit(0).max_features_ == {1: 1, 2: 2, 0.5: 3, "sqrt": 2, "log2": 2}[max_features]


def test_max_features_looks_further_where_a_column_is_constant():
    rows = np.column_stack([np.zeros((300, 5)), np.arange(300.0)])
    for seed in range(5):
        model = ParallelDecisionTree(max_features=1, random_state=seed).fit(rows, np.arange(300) > 100)
        assert model.score(rows, np.arange(300) > 100) == 1


@both
def test_max_features_of_all_features_needs_no_seed(Tree, y):
    trees.assert_same_tree(Tree(max_depth=4, random_state=1).fit(X, y), Tree(max_depth=4, max_features=6).fit(X, y))


def test_equal_gains_go_to_the_lower_feature():
    twice = np.column_stack([X[:, [0]], X[:, [0]], -X[:, [0]]])
    model = ParallelDecisionTree(max_depth=4).fit(twice, Y3)
    assert set(model.tree_.feature) == {0, -2}


@pytest.mark.parametrize("y", [Y2, YR], ids=["classes", "numbers"])
@pytest.mark.parametrize("max_bins", [255, 20])
@pytest.mark.parametrize("limits", [{}, {"max_leaf_nodes": 40}, {"exact_rows": 500}])
def test_monotonic_constraints_hold_on_a_grid(y, max_bins, limits):
    Tree = ParallelDecisionTree if y is Y2 else ParallelDecisionTreeRegressor
    model = Tree(monotonic_cst=[1, 1, 0, -1, 0, 0], max_bins=max_bins, **limits).fit(X, y)
    rng = np.random.default_rng(0)
    for feature, sign in ((0, 1), (1, 1), (3, -1)):
        grid = np.repeat(X[rng.integers(len(X), size=100)], 100, axis=0)
        grid[:, feature] = np.tile(np.linspace(X.min(), X.max(), 100), 100)
        values = model.predict_proba(grid)[:, 1] if y is Y2 else model.predict(grid)
        steps = np.diff(values.reshape(100, 100), axis=1)
        assert (sign * steps >= 0).all() and (steps != 0).any()


# --- weights


@both
@pytest.mark.parametrize("exact_rows", [0, 100_000])
@pytest.mark.parametrize("continuous", [False, True])
def test_integer_weights_are_repeated_rows(Tree, y, exact_rows, continuous):
    rows = X + np.random.default_rng(3).normal(size=X.shape) if continuous else X
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = Tree(max_depth=7, exact_rows=exact_rows).fit(rows, y, weights)
    repeated = Tree(max_depth=7, exact_rows=exact_rows).fit(np.repeat(rows, weights, axis=0), np.repeat(y, weights))
    for name in ("children_left", "feature", "threshold", "weighted_n_node_samples", "impurity", "value"):
        a, b = getattr(weighted.tree_, name), getattr(repeated.tree_, name)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13 * np.abs(b).max(), err_msg=name)
    dropped = Tree(max_depth=7, exact_rows=exact_rows).fit(rows[weights > 0], y[weights > 0], weights[weights > 0])
    trees.assert_same_tree(weighted, dropped)


@both
@pytest.mark.parametrize("factor", [2.0**-30, 0.37, 1e9])
def test_the_unit_of_the_weights_does_not_matter(Tree, y, factor):
    weights = np.random.default_rng(0).random(len(X)) + 0.01
    a, b = (Tree(max_depth=6).fit(X, y, own) for own in (weights, factor * weights))
    for name in ("feature", "threshold", "n_node_samples"):
        np.testing.assert_array_equal(getattr(a.tree_, name), getattr(b.tree_, name))
    np.testing.assert_allclose(a.tree_.value, b.tree_.value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_classes_weigh_the_same(weighted):
    weights = np.random.default_rng(0).random(len(X)) if weighted else None
    y = np.minimum(Y3, (X[:, 4] > 1) + 1)
    model = ParallelDecisionTree(class_weight="balanced", max_depth=3).fit(X, y, weights)
    peer = DecisionTreeClassifier(class_weight="balanced", max_depth=3, random_state=0).fit(X, y, weights)
    np.testing.assert_allclose(model.tree_.value[0], peer.tree_.value[0], rtol=1e-12)
    np.testing.assert_allclose(
        model.tree_.weighted_n_node_samples[0], peer.tree_.weighted_n_node_samples[0], rtol=1e-12
    )


def test_a_rare_class_costs_the_weights_of_the_others_no_digits():
    y = Y2.copy()
    y[:2] = 7
    model = ParallelDecisionTree(class_weight="balanced", max_depth=3).fit(X, y)
    np.testing.assert_allclose(model.tree_.value[0, 0], 1 / 3, rtol=1e-13)


@pytest.mark.parametrize("largest", [1e-100, 1.0, 1e100])
def test_weights_of_classes_and_rows_stay_in_range_together(largest):
    weights = np.random.default_rng(0).random(len(X)) * largest
    class_weight = {0: 1e-3, 1: 1.0, 2: 1e6}
    model = ParallelDecisionTree(class_weight=class_weight, max_depth=3).fit(X, Y3, weights)
    shares = np.array([class_weight[label] * (weights[label == Y3] / largest).sum() for label in range(3)])
    np.testing.assert_allclose(model.tree_.value[0, 0], shares / shares.sum(), rtol=0, atol=1e-14)


def test_a_class_of_weight_0_takes_no_part():
    model = ParallelDecisionTree(class_weight={0: 0.0, 1: 1.0, 2: 2.0}, max_depth=4).fit(X, Y3)
    peer = DecisionTreeClassifier(class_weight={0: 0.0, 1: 1.0, 2: 2.0}, max_depth=4, random_state=0).fit(X, Y3)
    trees.assert_equals_sklearn_but_for_ties(model, peer)
    assert model.tree_.n_node_samples[0] == (Y3 > 0).sum() and 0 not in model.predict(X)


# --- missing values


@since(1, 8, "the impurities of nodes with missing values")
@both
def test_missing_values_are_split_off_and_predicted(Tree, y):
    rows = trees.missing(X)
    model = Tree(max_depth=6).fit(rows, y)
    peer = model._sklearn_class(max_depth=6, random_state=0).fit(rows, y)
    trees.assert_equals_sklearn_but_for_ties(model, peer)
    blank = np.full((1, 6), np.nan)
    np.testing.assert_allclose(model.predict(blank), peer.predict(blank))


def test_only_missing_values_may_go_right():
    rows = np.where(np.arange(200)[:, None] < 60, np.nan, 5.0)
    model = ParallelDecisionTree().fit(rows, np.arange(200) < 60)
    assert model.tree_.node_count == 3 and model.tree_.threshold[0] == np.inf
    assert model.predict([[np.nan], [5.0], [9.0], [-9.0]]).tolist() == [True, False, False, False]


def test_a_missing_value_where_there_was_none_goes_with_the_more_rows():
    model = ParallelDecisionTree(max_depth=1).fit(np.arange(10.0)[:, None], np.arange(10) > 2)
    assert model.predict([[np.nan]]).tolist() == [True]
