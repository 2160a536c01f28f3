"""What fitted parallel trees are: trees of scikit-learn that can be asked, drawn, pruned, pickled and searched."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    export_graphviz,
    export_text,
    plot_tree,
)

from dparallel import ParallelDecisionTree, ParallelDecisionTreeRegressor
from tests import trees
from tests.trees import Y3, YR, X, both

FITTED = ParallelDecisionTree(max_depth=5).fit(X, Y3)
FITTED_R = ParallelDecisionTreeRegressor(max_depth=5).fit(X, YR)


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
    rows, score = trees.categories()
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
