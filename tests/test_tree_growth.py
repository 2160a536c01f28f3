"""How the parallel trees grow: rounds, levels, thresholds, and small nodes that are finished at once."""

import pickle
import sys

import dask
import numpy as np
import pytest

from dparallel import ParallelDecisionTree, ParallelDecisionTreeRegressor
from dparallel.estimators.decision_tree import exact, frontier, growth, held, searching, settling
from tests import trees
from tests.trees import Y2, Y3, YR, X, both


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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("exact_rows", [0, 300])
def test_rounds_are_at_most_depth_and_three(exact_rows, weighted):
    rows = np.random.default_rng(0).normal(size=(20_000, 5))
    rows[::7, 2] = np.nan
    y = np.nan_to_num(rows).sum(axis=1) + rows[:, 0] * rows[:, 1] + np.random.default_rng(1).normal(size=len(rows))
    weights = np.random.default_rng(2).random(len(y)) + 0.1 if weighted else None
    for Tree, target in ((ParallelDecisionTree, y > 0.5), (ParallelDecisionTreeRegressor, y)):
        for max_depth in (*range(1, 13), None):
            model = Tree(max_depth=max_depth, exact_rows=exact_rows).fit(rows, target, weights)
            assert model.tree_.max_depth == max_depth or max_depth is None
            assert model.n_rounds_ <= model.tree_.max_depth + 3


@both
@pytest.mark.parametrize("parameters", [{"max_depth": 4}, {}, {"exact_rows": 500}, {"max_leaf_nodes": 20}], ids=str)
def test_rows_are_coded_once(monkeypatch, Tree, y, parameters):
    coded = []

    def spy(shard, coding):
        coded.append(shard.index)
        return held.hold(shard, coding)

    for module in (growth, exact, settling):
        monkeypatch.setattr(module, "hold", spy)
    Tree(**parameters).fit(X + np.random.default_rng(7).normal(size=X.shape), y)
    assert len(coded) == len(set(coded)) > 0


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


@pytest.mark.parametrize("n_built", [0, 3])
@pytest.mark.parametrize("largest", [9, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**61])
def test_histograms_travel_in_few_bytes_and_arrive_as_they_were(largest, n_built):
    histograms = np.zeros((n_built, 500, 2), np.int64)
    histograms[:, :, 0], histograms[:, ::7, 1] = 5, largest
    second, ends = np.array([[2**61, -1, 3]]), np.float32([[-1e38, 2.0], [0.5, 1e38]])
    part = growth.Part(histograms, second, *ends)
    came = pickle.loads(pickle.dumps(part))
    for name in ("histograms", "second", "low", "high"):
        np.testing.assert_array_equal(getattr(came, name), getattr(part, name))
        assert getattr(came, name).dtype == getattr(part, name).dtype
    bytes_of_two = 12 if not -(2**31) <= largest < 2**31 else 8
    assert sys.getsizeof(came) - sys.getsizeof(growth.Part(*(array[:0] for array in (histograms, second, *ends)))) == (
        500 * n_built * bytes_of_two + second.nbytes + ends.nbytes
    )
    counts = histograms.astype(np.int32)
    assert pickle.loads(pickle.dumps(growth.Part(counts, second, *ends))).histograms.dtype == np.int32


@both
def test_threads_that_share_the_search_find_what_one_finds(monkeypatch, Tree, y):
    options = {"max_depth": 8, "max_features": 3, "random_state": 5}
    expected = Tree(**options).fit(X, y)
    monkeypatch.setattr(searching, "_NUMBERS_PER_THREAD", 1)
    monkeypatch.setattr("dparallel.place.count_threads", lambda: 3)
    trees.assert_same_tree(Tree(**options).fit(X, y), expected)
