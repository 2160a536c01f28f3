"""Growing a node to its end against growth from histograms, and against scikit-learn."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from dparallel.kernels import criteria, feature_draws, fixed_point
from dparallel.kernels.cart import Limits, finish
from dparallel.kernels.criteria import ENTROPY, GINI, POISSON, SQUARED_ERROR
from tests import tree_twin

NAMES = {GINI: "gini", ENTROPY: "entropy", SQUARED_ERROR: "squared_error", POISSON: "poisson"}
rng = np.random.default_rng(23)


def some_table(random, criterion, n_rows, n_features, n_values, share_missing=0.0, weighted=False, **rules):
    X = random.integers(0, n_values, (n_rows, n_features)).astype(np.float32)
    X[random.random(X.shape) < share_missing] = np.nan
    n_classes = 2 if criterion in (GINI, ENTROPY) else 0
    y = random.integers(0, 2 if n_classes else 30, n_rows) + (0 if n_classes else 0.25)
    weight = random.integers(1, 5, n_rows) / 4 if weighted else None
    return y, weight, tree_twin.table(X, y, criterion, n_classes, weight, **rules)


def second_of(data, y, weight):
    """What `finish` needs beside the rows for regression."""
    if data.rules.n_classes:
        return {}
    if data.rules.criterion == POISSON:
        terms = (1 if weight is None else weight) * y * np.log(y)
        power = fixed_point.exponent(np.abs(terms).max(), len(y))
        return {"target": data.target, "second": fixed_point.fixed(terms, power), "second_unit": 2.0**-power}
    unit = data.rules.moment_unit * 2.0 ** -fixed_point.exponent(np.abs(y).max(), len(y))
    return {"target": data.target, "limb": fixed_point.limb(len(y)), "second_unit": unit}


def impurities(data, subtree, second):
    if data.rules.n_classes:
        return criteria.impurities(subtree.statistics, data.rules)
    whole = fixed_point.whole(subtree.parts, second.get("limb", 0))
    return criteria.impurities(subtree.statistics, data.rules, whole, second["second_unit"])


def coded_values(data, categorical):
    """Values, and codes where a feature is categorical: what `finish` is given."""
    codes = np.where(np.isnan(data.values), np.nan, data.codes)
    return np.where(categorical, codes, data.values).astype(np.float32)


class Grown:
    """Growth from histograms, node by node and depth first: what the finished subtree should be."""

    def __init__(self, data, impurity, limits, categorical, constraint, key):
        self.data, self.impurity, self.limits = data, impurity, limits
        self.categorical, self.constraint = categorical, constraint
        self.nodes = []
        self.grow(np.arange(len(data.codes)), 0, key, (-np.inf, np.inf))

    def is_leaf(self, listed, depth):
        rules = self.data.rules
        weight = criteria.weights(self.data.statistics[listed].sum(axis=0, keepdims=True), rules)[0]
        few = len(listed) < max(self.limits.min_samples_split, 2 * rules.min_rows)
        return few or weight < 2 * rules.min_weight or depth >= self.limits.max_depth or self.impurity(listed) == 0

    def grow(self, listed, depth, key, bounds):
        at, total = len(self.nodes), self.data.statistics[listed].sum(axis=0)
        node = {"statistics": total, "feature": -1, "children": (-1, -1), "bounds": bounds}
        self.nodes.append(node)
        if self.is_leaf(listed, depth):
            return at
        options = {"constraint": self.constraint, "bounds": [bounds], "categorical": self.categorical, "keys": [key]}
        found = self.data.best(listed, **options)
        f = found.feature[0]
        if f < 0 or found.improvement[0] + criteria.EPSILON < self.limits.min_impurity_decrease:
            return at
        bits = found.left[0][:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
        goes = bits.ravel().astype(bool)[self.data.codes[listed, f]]
        node |= {"feature": f, "threshold": found.threshold[0], "missing_left": found.missing_left[0]}
        node |= {"improvement": found.improvement[0]}
        below, keys = self.bounds_below(f, found.middle[0], bounds), feature_draws.child_keys(np.array([key]))[:, 0]
        left = self.grow(listed[goes], depth + 1, keys[0], below[0])
        node["children"] = (left, self.grow(listed[~goes], depth + 1, keys[1], below[1]))
        return at

    def bounds_below(self, f, middle, bounds):
        sign = 0 if self.constraint is None else self.constraint[f]
        if sign == 0:
            return bounds, bounds
        halves = (bounds[0], middle), (middle, bounds[1])
        return halves if sign > 0 else halves[::-1]


@given(
    criterion=st.sampled_from(sorted(NAMES)),
    n_rows=st.integers(1, 120),
    n_features=st.integers(1, 5),
    n_values=st.sampled_from([1, 3, 12, 200]),
    share_missing=st.sampled_from([0.0, 0.2, 0.9]),
    weighted=st.booleans(),
    with_categories=st.booleans(),
    constrained=st.booleans(),
    max_features=st.integers(1, 5),
    limits=st.builds(
        Limits, st.sampled_from([0, 1, 3, 40]), st.sampled_from([2, 9]), st.sampled_from([0.0, 0.0, 0.01])
    ),
    min_rows=st.sampled_from([1, 1, 4]),
    min_weight=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 10**6),
)
def test_a_finished_node_is_what_histograms_would_have_grown(
    criterion, n_rows, n_features, n_values, share_missing, weighted, with_categories, constrained, max_features,
    limits, min_rows, min_weight, seed,
):  # fmt: skip
    random = np.random.default_rng(seed)
    shape = (criterion, n_rows, n_features, n_values, share_missing, weighted)
    rules = {"max_features": max_features, "min_rows": min_rows, "min_weight": min_weight}
    y, weight, data = some_table(random, *shape, **rules)
    second = second_of(data, y, weight)
    categorical = random.random(n_features) < 0.5 if with_categories else np.zeros(n_features, bool)
    constraint = np.where(categorical, 0, random.integers(-1, 2, n_features)) if constrained else None
    key = feature_draws.root_key(seed)
    options = {"constraint": constraint, "categorical": categorical, "key": key}
    subtree = finish(coded_values(data, categorical), data.rows, data.rules, limits, **second, **options)
    expected = Grown(data, lambda listed: len(set(y[listed])) > 1, limits, categorical, constraint, key).nodes
    assert subtree.feature.tolist() == [node["feature"] for node in expected]
    for name in ("children", "statistics", "bounds"):
        np.testing.assert_array_equal(getattr(subtree, name), [node[name] for node in expected])
    for name in ("threshold", "missing_left", "improvement"):
        inner = [node[name] for node in expected if node["feature"] >= 0]
        np.testing.assert_array_equal(getattr(subtree, name)[subtree.feature >= 0], inner)
    pure = impurities(data, subtree, second) == 0
    assert (subtree.feature[pure] == -1).all()


@pytest.mark.parametrize("criterion", sorted(NAMES))
def test_a_whole_tree_is_scikit_learns_where_no_gains_tie(criterion):
    X = rng.normal(size=(6000, 6)).astype(np.float32)
    noise = rng.normal(size=6000)
    y = X[:, 0] + X[:, 1] ** 2 + noise
    y = np.digitize(y, [0.5, 2.0]) if criterion in (GINI, ENTROPY) else np.exp(y / 3)
    n_classes = 3 if criterion in (GINI, ENTROPY) else 0
    weight = rng.random(6000) + 0.5  # counts of classes would tie
    data = on_raw_values(X, y, criterion, n_classes, weight, min_rows=100)
    second = second_of(data, y, weight)
    subtree = finish(X, data.rows, data.rules, Limits(6), **second)
    kind = DecisionTreeClassifier if n_classes else DecisionTreeRegressor
    model = kind(criterion=NAMES[criterion], max_depth=6, min_samples_leaf=100, random_state=0)
    tree = model.fit(X, y, sample_weight=weight).tree_
    inner = subtree.feature >= 0
    np.testing.assert_array_equal(np.where(inner, subtree.feature, -2), tree.feature)
    np.testing.assert_array_equal(np.where(inner, subtree.threshold, -2.0), tree.threshold)
    np.testing.assert_array_equal(subtree.children[:, 0], tree.children_left)
    np.testing.assert_array_equal(subtree.children[:, 1], tree.children_right)
    np.testing.assert_array_equal(criteria.counts(subtree.statistics, data.rules), tree.n_node_samples)
    np.testing.assert_allclose(criteria.values(subtree.statistics, data.rules), tree.value[:, 0], rtol=1e-10)
    np.testing.assert_allclose(impurities(data, subtree, second), tree.impurity, rtol=1e-9, atol=1e-12)


def on_raw_values(X, y, criterion, n_classes=0, weight=None, **rules):
    """A table whose features need not be binned."""
    data = tree_twin.table(np.ones((len(X), 1)), y, criterion, n_classes, weight, **rules)
    data.values = X
    return data


def assert_same(one, other):
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("criterion", [GINI, SQUARED_ERROR])
def test_the_order_of_the_rows_does_not_matter(criterion):
    y, weight, data = some_table(rng, criterion, 500, 4, 60, 0.1, weighted=True)
    second = second_of(data, y, weight)
    shuffled = rng.permutation(500)
    moved = type(data.rows)(*(part[shuffled] if part.size else part for part in data.rows))
    moved_second = second | ({"target": data.target[shuffled]} if second else {})
    one = finish(data.values, data.rows, data.rules, Limits(), **second)
    assert_same(one, finish(data.values[shuffled], moved, data.rules, Limits(), **moved_second))


@pytest.mark.parametrize("criterion", [GINI, SQUARED_ERROR])
def test_integer_weights_are_repeated_rows(criterion):
    n_classes = 2 if criterion == GINI else 0
    X, y = rng.normal(size=(300, 3)).astype(np.float32), rng.integers(0, 2 if n_classes else 50, 300)
    times = rng.integers(1, 4, 300)
    weighted = on_raw_values(X, y, criterion, n_classes, times)
    repeated = on_raw_values(X.repeat(times, axis=0), y.repeat(times), criterion, n_classes)
    one = finish(X, weighted.rows, weighted.rules, Limits(), **second_of(weighted, y, times))
    other = finish(
        repeated.values, repeated.rows, repeated.rules, Limits(), **second_of(repeated, y.repeat(times), None)
    )
    for name in ("feature", "threshold", "children"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(
        criteria.values(one.statistics, weighted.rules), criteria.values(other.statistics, repeated.rules)
    )


def test_values_of_any_size_are_sorted():
    X = np.array([[-3e38], [-1.0], [-1e-30], [-0.0], [1e-30], [1.0], [3e38], [np.nan]], np.float32)
    data = on_raw_values(X, np.arange(8), GINI, 8)
    subtree = finish(X, data.rows, data.rules, Limits())
    thresholds = np.sort(subtree.threshold[subtree.feature >= 0])
    np.testing.assert_allclose(thresholds, [-1.5e38, -0.5, 0.5, 1.5e38, np.inf])
    # the three values about 0 are closer than scikit-learn parts
    assert sorted(criteria.counts(subtree.statistics, data.rules)[subtree.feature < 0].tolist()) == [1, 1, 1, 1, 1, 3]


@pytest.mark.parametrize("X", [np.ones((9, 2)), np.full((9, 2), np.nan), np.zeros((1, 3))])
def test_a_node_that_cannot_be_split_stays_alone(X):
    data = on_raw_values(X.astype(np.float32), np.arange(len(X)) % 2, GINI, 2)
    subtree = finish(data.values, data.rows, data.rules, Limits())
    assert subtree.feature.tolist() == [-1]
    assert subtree.statistics.sum() == len(X)
