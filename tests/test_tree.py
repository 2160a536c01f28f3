"""The parallel trees in this process: what their parameters and attributes mean, and what they refuse."""

import pickle
import warnings

import dask
import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    export_graphviz,
    export_text,
    plot_tree,
)

from dparallel import ParallelDecisionTree, ParallelDecisionTreeClassifier, ParallelDecisionTreeRegressor
from dparallel.errors import AlignmentError, DataError
from dparallel.estimators.decision_tree import frontier
from tests import trees, twins

X = trees.steps()
Y3, Y2, YR = trees.labels(X), trees.labels(X, 2), trees.numbers(X)
FITTED = ParallelDecisionTree(max_depth=5).fit(X, Y3)
FITTED_R = ParallelDecisionTreeRegressor(max_depth=5).fit(X, YR)
BOTH = [(ParallelDecisionTree, Y3), (ParallelDecisionTreeRegressor, YR)]


def both(function):
    return pytest.mark.parametrize("Tree, y", BOTH, ids=["classes", "numbers"])(function)


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


@both
def test_few_bins_are_split_few_times(Tree, y):
    model = Tree(max_bins=4).fit(X, y)
    paths = model.decision_path(X[:500]).toarray()
    for feature in range(X.shape[1]):
        assert paths[:, model.tree_.feature == feature].sum(axis=1).max() <= 3


@both
def test_small_memory_for_histograms_takes_more_rounds_and_gives_the_same_tree(Tree, y):
    expected = Tree(max_depth=6).fit(X, y)
    with dask.config.set({"dparallel.tree.histogram-bytes": "20 kB"}):
        model = Tree(max_depth=6).fit(X, y)
    trees.assert_same_tree(model, expected)
    assert model.n_rounds_ > expected.n_rounds_
    assert len(model.history_) == len(expected.history_)
    assert max(record.n_rounds for record in model.history_) > 1


REST = {
    "classes": (ParallelDecisionTree, X, Y3, {}),
    "entropy": (ParallelDecisionTree, X, Y3, {"criterion": "entropy", "min_samples_leaf": 5}),
    "missing": (ParallelDecisionTree, trees.missing(X), Y3, {}),
    "continuous": (ParallelDecisionTree, trees.missing(X + np.random.default_rng(7).normal(size=X.shape)), Y3, {}),
    "few bins": (ParallelDecisionTree, X + np.random.default_rng(7).normal(size=X.shape), Y2, {"max_bins": 40}),
    "monotonic": (ParallelDecisionTree, X, Y2, {"monotonic_cst": [1, 0, 0, -1, 0, 0]}),
    "some features": (ParallelDecisionTree, X, Y3, {"max_features": 2, "random_state": 3}),
    "categories": (ParallelDecisionTree, X.round(), Y3, {"categorical_features": [0, 3]}),
    "numbers": (ParallelDecisionTreeRegressor, X, YR, {}),
    "continuous numbers": (ParallelDecisionTreeRegressor, X + 1e-3 * np.arange(24_000.0).reshape(X.shape), YR, {}),
    "poisson": (ParallelDecisionTreeRegressor, trees.missing(X), np.abs(YR), {"criterion": "poisson"}),
    "category numbers": (ParallelDecisionTreeRegressor, X.round(), YR, {"categorical_features": [0, 3]}),
}


@pytest.mark.parametrize("max_depth", [5, 9, None])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", REST)
def test_finishing_the_rest_at_once_gives_the_tree_of_levels(monkeypatch, case, weighted, max_depth):
    Tree, rows, y, parameters = REST[case]
    weights = np.random.default_rng(0).random(len(X)) if weighted else None
    at_once = Tree(max_depth=max_depth, **parameters).fit(rows, y, weights)
    for name in ("_LEVELS_WORTH_IT", "_MANY_LEVELS"):
        monkeypatch.setattr(frontier, name, 2**62)
    by_levels = Tree(max_depth=max_depth, **parameters).fit(rows, y, weights)
    trees.assert_same_tree(at_once, by_levels)
    assert at_once.n_rounds_ <= by_levels.n_rounds_ - (max_depth is None)
    assert [r.n_splits for r in at_once.history_] == [r.n_splits for r in by_levels.history_]
    np.testing.assert_allclose(
        [r.objective for r in at_once.history_], [r.objective for r in by_levels.history_], atol=1e-9
    )


def test_values_closer_than_scikit_learn_parts_them_are_not_parted_when_the_rest_is_finished(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(3000, 4)) * 1e-6
    y = rows[:, 0] * rows[:, 1] > 0
    at_once = ParallelDecisionTree().fit(rows, y)
    for name in ("_LEVELS_WORTH_IT", "_MANY_LEVELS"):
        monkeypatch.setattr(frontier, name, 2**62)
    trees.assert_same_tree(at_once, ParallelDecisionTree().fit(rows, y))


@both
def test_history_has_a_record_per_level(Tree, y):
    model = Tree(max_depth=6).fit(X, y)
    assert len(model.history_) == 6
    assert [record.round for record in model.history_] == [1, 2, 3, 4, 5, 6]
    assert sum(record.n_splits for record in model.history_) == model.tree_.node_count - model.tree_.n_leaves
    assert model.history_[-1].objective == pytest.approx(trees.leaf_impurity(model), abs=1e-9)
    objectives = [record.objective for record in model.history_]
    assert sorted(objectives, reverse=True) == objectives
    assert model.history_[2].as_dict()["n_splits"] <= 4


def test_rounds_are_at_most_depth_and_three():
    rows = np.random.default_rng(0).normal(size=(20_000, 5))
    for Tree, y in ((ParallelDecisionTree, rows[:, 0] > rows[:, 1]), (ParallelDecisionTreeRegressor, rows[:, 0])):
        model = Tree(max_depth=6).fit(rows, y)
        assert model.n_rounds_ <= 6 + 3


@both
def test_thresholds_lie_half_way_between_the_nearest_values_of_the_node(Tree, y):
    rows = np.random.default_rng(5).normal(size=X.shape).astype(np.float32) + X.astype(np.float32)
    model = Tree(max_depth=5, max_bins=32).fit(rows, y)
    tree, path = model.tree_, model.decision_path(rows).tocsc()
    for node in np.flatnonzero(tree.feature >= 0):
        values = rows[path[:, [node]].indices, tree.feature[node]]
        left, right = values[values <= tree.threshold[node]], values[values > tree.threshold[node]]
        assert len(left) == tree.n_node_samples[tree.children_left[node]]
        assert tree.threshold[node] == np.float64(left.max()) / 2 + np.float64(right.min()) / 2


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


def test_a_class_of_weight_0_takes_no_part():
    model = ParallelDecisionTree(class_weight={0: 0.0, 1: 1.0, 2: 2.0}, max_depth=4).fit(X, Y3)
    peer = DecisionTreeClassifier(class_weight={0: 0.0, 1: 1.0, 2: 2.0}, max_depth=4, random_state=0).fit(X, Y3)
    trees.assert_equals_sklearn_but_for_ties(model, peer)
    assert model.tree_.n_node_samples[0] == (Y3 > 0).sum() and 0 not in model.predict(X)


# --- missing values


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


# --- categories


def categories(n_rows=4000, n_categories=12, seed=0):
    """A category whose effect has nothing to do with its number, and a plain column."""
    rng = np.random.default_rng(seed)
    category = rng.integers(0, n_categories, n_rows)
    effect = rng.permutation(n_categories) - n_categories / 2
    score = effect[category] + rng.normal(size=n_rows)
    return np.column_stack([rng.normal(size=n_rows), category * 7.0 - 3]), score


@pytest.mark.parametrize("exact_rows", [0, 1000])
@pytest.mark.parametrize("given", [[1], [False, True], np.array([1])])
def test_categories_are_split_into_the_best_subsets(given, exact_rows):
    rows, score = categories()
    model = ParallelDecisionTreeRegressor(max_depth=1, categorical_features=given, exact_rows=exact_rows).fit(
        rows, score
    )
    means = np.array([score[rows[:, 1] == value].mean() for value in np.unique(rows[:, 1])])
    best = np.inf
    for i in range(1, 12):
        low = np.isin(rows[:, 1], np.unique(rows[:, 1])[np.argsort(means)[:i]])
        best = min(best, score[low].var() * low.mean() + score[~low].var() * (~low).mean())
    assert trees.leaf_impurity(model) == pytest.approx(best)
    (test,) = model.category_tests_
    assert test.feature == 1 and sorted([*test.left, *test.right]) == np.unique(rows[:, 1]).tolist()
    assert np.argmax(model.feature_importances_) == 1 and model.feature_importances_.sum() == pytest.approx(1)


@pytest.mark.parametrize("exact_rows", [0, 1000])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_unknown_categories_go_where_missing_ones_go(exact_rows, n_classes):
    rows, score = categories()
    y = np.digitize(score, np.quantile(score, np.arange(1, n_classes) / n_classes))
    model = ParallelDecisionTree(max_depth=5, categorical_features=[1], exact_rows=exact_rows).fit(rows, y)
    unknown, missing = rows.copy(), rows.copy()
    unknown[:, 1], missing[:, 1] = 1234.5, np.nan
    np.testing.assert_array_equal(model.apply(unknown), model.apply(missing))
    plain = ParallelDecisionTree(max_depth=5).fit(rows, y)
    assert model.score(rows, y) > plain.score(rows, y)
    for sparse in (rows, scipy.sparse.csr_matrix(rows)):
        np.testing.assert_array_equal(model.predict(sparse), model.predict(rows))


def test_missing_categories_are_a_category_of_their_own():
    rows, score = categories()
    rows[rows[:, 1] == 4, 1] = np.nan
    model = ParallelDecisionTreeRegressor(max_depth=4, categorical_features=[1]).fit(rows, score)
    filled = np.where(np.isnan(rows), 4.0, rows)
    peer = ParallelDecisionTreeRegressor(max_depth=4, categorical_features=[1]).fit(filled, score)
    np.testing.assert_allclose(model.predict(rows), peer.predict(filled))


def test_to_sklearn_writes_subsets_as_thresholds_where_it_can():
    rows = np.column_stack([np.arange(300) % 3 * 1.0, np.arange(300.0)])
    for y in (rows[:, 0] > 1, rows[:, 0] < 1, rows[:, 0] < 2):
        model = ParallelDecisionTree(categorical_features=[0]).fit(rows, y)
        np.testing.assert_array_equal(model.to_sklearn().predict(rows), y)
        assert model.to_sklearn().tree_.n_features == 2
    model = ParallelDecisionTree(categorical_features=[0]).fit(rows, rows[:, 0] == 1)
    with pytest.raises(ValueError, match=r"one of the categories \[.*\] and not one of .* No threshold does that"):
        model.to_sklearn()


def test_category_dtypes_are_found_in_dataframes():
    pd = pytest.importorskip("pandas")
    rows, score = categories()
    names = np.array(list("abcdefghijkl"))[((rows[:, 1] + 3) / 7).astype(int)]
    frame = pd.DataFrame({"plain": rows[:, 0], "kind": pd.Categorical(names)})
    model = ParallelDecisionTreeRegressor(max_depth=4, categorical_features="from_dtype").fit(frame, score)
    peer = ParallelDecisionTreeRegressor(max_depth=4, categorical_features=["kind"]).fit(frame, score)
    other = ParallelDecisionTreeRegressor(max_depth=4, categorical_features=[1]).fit(rows, score)
    np.testing.assert_array_equal(model.predict(frame), other.predict(rows))
    np.testing.assert_array_equal(peer.predict(frame), other.predict(rows))
    shuffled = frame.assign(kind=pd.Categorical(names, categories=list("lkjihgfedcbaz")))
    np.testing.assert_array_equal(model.predict(shuffled), model.predict(frame))
    assert model.score(shuffled, score) == model.score(frame, score)
    assert any("kind not in ['" in name for name in model.split_names_)
    assert "kind not in" in export_text(model, feature_names=model.split_names_)
    text = frame.assign(kind=names)
    with pytest.raises(ValueError, match="could not convert string to float"):
        ParallelDecisionTreeRegressor().fit(text, score)


@pytest.mark.parametrize(
    "given, message",
    [
        ([0.5], "must be an array-like of bool, int or str, got: float64"),
        ([True], r"must have shape \(n_features,\), got: \(1,\)"),
        ([2], r"must be in \[0, n_features - 1\]"),
        ([-1], r"must be in \[0, n_features - 1\]"),
        (["a"], "without feature names"),
    ],
)
def test_categorical_features_that_cannot_be_meant_are_refused(given, message):
    rows, score = categories()
    with pytest.raises(ValueError, match=message):
        ParallelDecisionTreeRegressor(categorical_features=given).fit(rows, score)


def test_more_categories_than_bins_are_refused():
    rows = np.arange(600.0).reshape(300, 2)
    with pytest.raises(DataError, match=r"more than max_bins=255 categories each: 1\. Raise max_bins"):
        ParallelDecisionTree(categorical_features=[1]).fit(rows, np.arange(300) % 2)
    with pytest.raises(ValueError, match="Categorical features cannot have monotonic constraints"):
        ParallelDecisionTree(categorical_features=[1], monotonic_cst=[0, 1]).fit(rows[:99], np.arange(99) % 2)


# --- what comes out


@both
def test_it_is_a_real_tree_of_scikit_learn(Tree, y):
    model = Tree(max_depth=4).fit(X, y)
    own = model.to_sklearn()
    assert (
        type(own) in (DecisionTreeClassifier, DecisionTreeRegressor)
        and type(own.tree_).__module__ == "sklearn.tree._tree"
    )
    np.testing.assert_array_equal(own.predict(X), model.predict(X))
    np.testing.assert_array_equal(own.apply(X), model.apply(X))
    np.testing.assert_array_equal(own.feature_importances_, model.feature_importances_)
    assert (own.decision_path(X) != model.decision_path(X)).nnz == 0
    assert own.get_depth() == model.get_depth() == 4 and own.get_n_leaves() == model.get_n_leaves()
    assert own.score(X, y) == pytest.approx(model.score(X, y), rel=1e-12)
    assert export_text(own) == export_text(model)
    assert export_graphviz(own, None) == export_graphviz(model, None)
    if Tree is ParallelDecisionTree:
        np.testing.assert_array_equal(own.predict_proba(X), model.predict_proba(X))
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(own.predict_log_proba(X), model.predict_log_proba(X))
    assert pickle.loads(pickle.dumps(own)).predict(X[:5]).tolist() == own.predict(X[:5]).tolist()
    assert {name: value for name, value in own.get_params().items() if name in model.get_params()} == {
        name: value for name, value in model.get_params().items() if name in own.get_params()
    }


def test_it_is_drawn():
    pytest.importorskip("matplotlib").use("Agg")
    assert len(plot_tree(FITTED, max_depth=2, filled=True)) > 7


@both
def test_pickles_and_clones_are_as_good(Tree, y):
    model = Tree(max_depth=4, exact_rows=100).fit(X, y)
    other = pickle.loads(pickle.dumps(model))
    trees.assert_same_tree(model, other)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    trees.assert_same_tree(clone(model).fit(X, y), model)


@both
def test_cost_complexity_pruning_is_scikit_learns(Tree, y):
    model = Tree(max_depth=6, min_samples_leaf=10).fit(X, y)
    own = model.to_sklearn()
    path = model.cost_complexity_pruning_path(X, y)
    assert (np.diff(path.ccp_alphas) >= 0).all() and path.impurities[0] == pytest.approx(trees.leaf_impurity(model))
    alpha = float(path.ccp_alphas[len(path.ccp_alphas) // 2]) * 1.0001
    pruned = Tree(max_depth=6, min_samples_leaf=10, ccp_alpha=alpha).fit(X, y)
    own.set_params(ccp_alpha=alpha)._prune_tree()
    assert 1 < pruned.tree_.node_count < model.tree_.node_count
    trees.assert_same_tree(pruned, own)


def test_cost_complexity_pruning_keeps_categories():
    rows, score = categories()
    model = ParallelDecisionTreeRegressor(max_depth=6, categorical_features=[1], ccp_alpha=0.05).fit(rows, score)
    assert 1 < model.tree_.node_count < 60 and model.score(rows, score) > 0.5
    assert model.feature_importances_.shape == (2,)


def test_it_works_inside_scikit_learns_searches():
    search = GridSearchCV(ParallelDecisionTree(), {"max_depth": [1, 4]}, cv=3).fit(X, Y3)
    assert search.best_params_ == {"max_depth": 4}
    assert cross_val_score(ParallelDecisionTreeRegressor(max_depth=4), X, YR, cv=3).min() > 0.2


def test_scores_weigh_rows():
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    for model, y in ((FITTED, Y3), (FITTED_R, YR)):
        repeated = model.score(np.repeat(X, weights, axis=0), np.repeat(y, weights))
        assert model.score(X, y, sample_weight=weights) == pytest.approx(repeated, rel=1e-12)
    with pytest.warns(UserWarning, match="R\\^2 score is not well-defined"):
        assert np.isnan(FITTED_R.score(X[:1], YR[:1]))


def test_the_data_are_left_alone():
    rows, y, weights = X.copy(), Y3.copy(), np.ones(len(X))
    ParallelDecisionTree(exact_rows=500).fit(rows, y, weights)
    np.testing.assert_array_equal(rows, X)
    np.testing.assert_array_equal(y, Y3)
    assert (weights == 1).all()


def test_columns_given_as_one_target_warn():
    with pytest.warns(UserWarning, match="A column-vector y was passed when a 1d array was expected"):
        model = ParallelDecisionTree(max_depth=5).fit(X, Y3[:, None])
    trees.assert_same_tree(model, FITTED)


def test_callbacks_see_a_fitted_tree_after_every_round():
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring=lambda model, X, y: {"score": model.score(X, y)})
    ParallelDecisionTree(max_depth=4).set_callbacks(monitor).fit(X, Y3)
    scores = [entry["score"] for entry in monitor.get_logs().data if entry["task_name"] == "round"]
    assert (
        len(scores) == 4
        and sorted(scores) == scores
        and scores[-1] == ParallelDecisionTree(max_depth=4).fit(X, Y3).score(X, Y3)
    )


# --- refusals


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_depth": 0},
        {"max_depth": 1.5},
        {"min_samples_split": 1},
        {"min_samples_split": 1.5},
        {"min_samples_leaf": 0},
        {"min_samples_leaf": 1.0},
        {"min_weight_fraction_leaf": 0.6},
        {"max_features": 0},
        {"max_features": "auto"},
        {"max_leaf_nodes": 1},
        {"min_impurity_decrease": -0.1},
        {"ccp_alpha": -1.0},
        {"random_state": "zero"},
        {"criterion": "gain"},
    ],
    ids=str,
)
@both
def test_parameters_are_refused_in_scikit_learns_words(Tree, y, parameters):
    (name,) = parameters
    with pytest.raises(ValueError) as theirs:
        Tree._sklearn_class(**parameters).fit(X, y)
    with pytest.raises(ValueError) as ours:
        Tree(**parameters).fit(X, y)
    if name != "criterion":
        assert str(ours.value) == str(theirs.value).replace(Tree._sklearn_class.__name__, Tree.__name__)
    assert f"The {name!r} parameter of {Tree.__name__} must be" in str(ours.value)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"max_bins": 1}, r"'max_bins' parameter .* must be an int in the range \[2, 255\]"),
        ({"max_bins": 256}, r"'max_bins' parameter .* must be an int in the range \[2, 255\]"),
        ({"exact_rows": -1}, "'exact_rows' parameter"),
        ({"categorical_features": "all"}, "'categorical_features' parameter"),
        ({"class_weight": "even"}, "'class_weight' parameter"),
        ({"class_weight": {5: 1.0}}, "classes"),
        ({"exact_rows": 10, "max_leaf_nodes": 5}, "exact_rows=10 and max_leaf_nodes=5 were given"),
        ({"monotonic_cst": [1, 0]}, "monotonic_cst has shape 2 but the input data X has 6 features"),
        ({"monotonic_cst": [2, 0, 0, 0, 0, 0]}, "must be None or an array-like of -1, 0 or 1"),
        ({"monotonic_cst": [1, 0, 0, 0, 0, 0]}, "not supported with multiclass classification"),
    ],
)
def test_what_cannot_be_meant_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        ParallelDecisionTree(**parameters).fit(X, Y3)


def test_targets_that_cannot_be_learned_are_refused():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        ParallelDecisionTree().fit(X, YR)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        ParallelDecisionTree().fit(X, np.where(Y3 > 0, np.nan, 1.0))
    with pytest.raises(ValueError, match="Input y contains infinity"):
        ParallelDecisionTreeRegressor().fit(X, np.where(Y3 > 0, np.inf, 1.0))
    with pytest.raises(ValueError, match="y should be a 1d array"):
        ParallelDecisionTreeRegressor().fit(X, np.column_stack([YR, YR]))
    with pytest.raises(ValueError, match="negative which is not allowed for Poisson"):
        ParallelDecisionTreeRegressor(criterion="poisson").fit(X, YR)
    with pytest.raises(ValueError, match="Sum of y is not positive"):
        ParallelDecisionTreeRegressor(criterion="poisson").fit(X, np.zeros(len(X)))


def test_rows_that_cannot_be_read_are_refused():
    bad = X.copy()
    bad[17, 3] = np.inf
    message = r"Input X contains infinity or a value too large for dtype\('float32'\)"
    with pytest.raises(DataError, match=message):
        ParallelDecisionTree().fit(bad, Y3)
    for method in (FITTED.predict, FITTED.predict_proba, FITTED.apply, FITTED.decision_path):
        with pytest.raises(DataError, match=message):
            method(bad)
    hollow = scipy.sparse.csr_matrix(np.where(np.abs(X) < 1, np.nan, X))
    with pytest.raises(DataError, match="Input X contains NaN"):
        ParallelDecisionTree().fit(hollow, Y3)
    with pytest.raises(DataError, match="Input X contains NaN"):
        FITTED.predict(hollow)
    with pytest.raises(AlignmentError):
        ParallelDecisionTree().fit(X, Y3[:-1])
    with pytest.raises(DataError, match="must contain at least one non-zero number"):
        ParallelDecisionTree().fit(X, Y3, np.zeros(len(X)))
    with pytest.raises(ValueError, match="X has 5 features, but ParallelDecisionTree is expecting 6"):
        FITTED.predict(X[:, :5])


@both
def test_nothing_is_predicted_before_fit(Tree, y):
    model = Tree()
    for ask in (model.predict, model.apply, model.decision_path):
        with pytest.raises(NotFittedError):
            ask(X)
    for ask in (model.get_depth, model.get_n_leaves, model.to_sklearn, lambda: model.feature_importances_):
        with pytest.raises(NotFittedError):
            ask()


def test_no_warning_is_given_on_ordinary_data():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ParallelDecisionTree(max_depth=3).fit(X, Y3).predict(X)
        ParallelDecisionTreeRegressor(max_depth=3, exact_rows=50).fit(trees.missing(X), YR).predict(X)
        ParallelDecisionTree(max_depth=3).fit(X, Y3).predict_log_proba(X)
