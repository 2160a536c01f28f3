"""Which features nodes look at: as many as asked for, each as often, and none of them constant alone."""

import numpy as np

from dparallel.kernels import feature_draws
from dparallel.kernels.criteria import GINI
from tests import tree_twin

rng = np.random.default_rng(17)


def test_as_many_features_are_drawn_as_asked_for_and_each_as_often():
    data = tree_twin.some_table(rng, GINI, 60, 6, 5)
    keys = feature_draws.child_keys(np.arange(3000, dtype=np.uint64)).ravel()
    listed = [np.arange(60)] * keys.size
    data.rules = data.rules._replace(max_features=1)
    found = data.best(*listed, keys=keys)
    counts = np.bincount(found.feature, minlength=6)
    assert (np.abs(counts - 1000) < 5 * np.sqrt(1000 * 5 / 6)).all()
    ranks = [tree_twin.best_split(data, listed[0], allowed=[f])[0] for f in range(6)]
    data.rules = data.rules._replace(max_features=4)
    counts = np.bincount(data.best(*listed, keys=keys).feature, minlength=6)
    best, second = np.argsort(ranks)[::-1][:2]
    assert abs(counts[best] - 4000) < 5 * np.sqrt(6000 * 2 / 9)
    assert abs(counts[second] - 2000 * 4 / 5) < 5 * np.sqrt(6000 * 0.27 * 0.73)


def test_a_constant_feature_is_drawn_but_never_the_only_one():
    X = np.column_stack([np.ones((50, 5)), rng.integers(0, 5, 50)]).astype(np.float32)
    data = tree_twin.table(X, rng.integers(0, 2, 50), GINI, 2, max_features=2)
    found = data.best(*[np.arange(50)] * 40, keys=np.arange(40))
    assert (found.feature == 5).all()


def test_children_have_keys_of_their_own():
    root = feature_draws.root_key(3)
    keys = np.array([root], np.uint64)
    for _ in range(10):
        keys = feature_draws.child_keys(keys).ravel()
    assert len(set(keys.tolist())) == 1024
    assert root != feature_draws.root_key(4)
