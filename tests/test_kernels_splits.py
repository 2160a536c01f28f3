"""The search for splits against plain Python, and against scikit-learn's trees of one level."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from dparallel.kernels import criteria, fixed_point, splits
from dparallel.kernels.criteria import ENTROPY, GINI, POISSON, SQUARED_ERROR
from tests import tree_twin

NAMES = {GINI: "gini", ENTROPY: "entropy", SQUARED_ERROR: "squared_error", POISSON: "poisson"}
rng = np.random.default_rng(17)


def goes_left(found, at=0):
    """The codes that go left: shape (256,)."""
    bits = found.left[at][:, None] >> np.arange(64, dtype=np.uint64)
    return (bits.ravel() & np.uint64(1)).astype(bool)


def assert_same(data, found, at, listed, expected):
    if expected is None:
        assert found.feature[at] == -1
        return
    _, feature, threshold, missing_left, left = expected
    assert (found.feature[at], found.threshold[at], found.missing_left[at]) == (feature, threshold, missing_left)
    np.testing.assert_array_equal(found.left_statistics[at], left)
    values, codes = data.values[listed, feature], data.codes[listed, feature]
    np.testing.assert_array_equal(
        goes_left(found, at)[codes], np.where(np.isnan(values), missing_left, values <= threshold)
    )


@given(
    criterion=st.sampled_from(sorted(NAMES)),
    n_rows=st.integers(2, 60),
    n_features=st.integers(1, 4),
    n_values=st.integers(1, 30),
    share_missing=st.sampled_from([0.0, 0.2, 0.9]),
    weighted=st.booleans(),
    min_rows=st.sampled_from([1, 1, 3]),
    min_weight=st.sampled_from([0.0, 2.5]),
    constrained=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_the_best_split_is_the_best_of_all_candidates(
    criterion, n_rows, n_features, n_values, share_missing, weighted, min_rows, min_weight, constrained, seed
):
    random = np.random.default_rng(seed)
    shape = (n_rows, n_features, n_values, share_missing)
    n_classes = 2 if constrained else 3
    limits = {"min_rows": min_rows, "min_weight": min_weight}
    data = tree_twin.some_table(random, criterion, *shape, weighted=weighted, n_classes=n_classes, **limits)
    constraint = random.integers(-1, 2, n_features) if constrained else None
    bounds = np.sort(random.uniform(0, 1 if data.rules.n_classes else 4, (2, 2))) if constrained else None
    nodes = [np.arange(n_rows), random.permutation(n_rows)[: n_rows // 2 + 1]]
    found = data.best(*nodes, constraint=constraint, bounds=bounds)
    for at, listed in enumerate(nodes):
        within = (-np.inf, np.inf) if bounds is None else bounds[at]
        assert_same(data, found, at, listed, tree_twin.best_split(data, listed, constraint, within))


@given(
    criterion=st.sampled_from([GINI, ENTROPY, SQUARED_ERROR]),
    n_rows=st.integers(2, 40),
    n_values=st.integers(2, 12),
    share_missing=st.sampled_from([0.0, 0.3]),
    min_rows=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_ties_within_a_feature_fall_as_in_scikit_learn(criterion, n_rows, n_values, share_missing, min_rows, seed):
    random = np.random.default_rng(seed)
    X, y = tree_twin.some_rows(random, criterion, n_rows, 1, n_values, share_missing)
    y[:2] = 0, 1
    n_classes = int(y.max()) + 1 if criterion != SQUARED_ERROR else 0
    if n_classes:
        y = np.unique(y, return_inverse=True)[1]
        n_classes = int(y.max()) + 1
    data = tree_twin.table(X, y, criterion, n_classes, min_rows=min_rows)
    kind = DecisionTreeClassifier if n_classes else DecisionTreeRegressor
    tree = kind(criterion=NAMES[criterion], max_depth=1, min_samples_leaf=min_rows).fit(X, y).tree_
    found = data.best(np.arange(n_rows))
    if tree.node_count == 1:
        assert found.feature[0] == -1
        return
    assert found.threshold[0] == tree.threshold[0]
    assert found.missing_left[0] == tree.missing_go_to_left[0]
    gain = tree.impurity[0] - (tree.weighted_n_node_samples[1:] * tree.impurity[1:]).sum() / n_rows
    np.testing.assert_allclose(found.improvement[0], gain, atol=1e-12)


@pytest.mark.parametrize("criterion", sorted(NAMES))
@pytest.mark.parametrize("share_missing", [0.0, 0.1])
def test_splits_and_impurities_of_larger_data_are_scikit_learns(criterion, share_missing):
    X = rng.integers(0, 200, (4000, 5)).astype(np.float32)
    noise = rng.normal(size=4000)
    signal = X[:, 2] / 100 + (X[:, 3] > 60)
    y = np.digitize(signal + noise, [0.5, 1.7]) if criterion in (GINI, ENTROPY) else np.exp(signal + noise)
    X[rng.random(X.shape) < share_missing] = np.nan
    weight = rng.random(4000) + 0.1
    data = tree_twin.table(X, y, criterion, 3 if criterion in (GINI, ENTROPY) else 0, weight)
    kind = DecisionTreeClassifier if data.rules.n_classes else DecisionTreeRegressor
    tree = kind(criterion=NAMES[criterion], max_depth=1).fit(X, y, sample_weight=weight).tree_
    found = data.best(np.arange(4000))
    assert (found.feature[0], found.threshold[0]) == (tree.feature[0], tree.threshold[0])
    assert found.missing_left[0] == tree.missing_go_to_left[0]
    root = data.statistics.sum(axis=0, keepdims=True)
    statistics = np.concatenate([root, found.left_statistics, root - found.left_statistics])
    np.testing.assert_allclose(criteria.weights(statistics, data.rules), tree.weighted_n_node_samples, rtol=1e-12)
    np.testing.assert_array_equal(criteria.counts(statistics, data.rules), tree.n_node_samples)
    np.testing.assert_allclose(criteria.values(statistics, data.rules), tree.value[:, 0], rtol=1e-9)
    wanted = tree.impurity
    if criterion == POISSON:  # scikit-learn 1.7 is wrong about it where values are missing
        left = goes_left(found)[data.codes[:, found.feature[0]]]
        wanted = [deviance(y[rows], weight[rows]) for rows in (slice(None), left, ~left)]
    np.testing.assert_allclose(impurities(data, y, weight, found, statistics), wanted, rtol=1e-9)
    parts = tree.weighted_n_node_samples * wanted
    np.testing.assert_allclose(found.improvement[0], (parts[0] - parts[1] - parts[2]) / weight.sum(), rtol=1e-8)


def deviance(y, weight):
    """Half the mean Poisson deviance of a node."""
    return np.average(y * np.log(y / np.average(y, weights=weight)), weights=weight)


def impurities(data, y, weight, found, statistics):
    """The impurities of a root and its children."""
    left = goes_left(found)[data.codes[:, found.feature[0]]]
    order = np.concatenate([np.arange(len(y)), np.flatnonzero(left), np.flatnonzero(~left)]).astype(np.int32)
    first = np.array([0, len(y), len(y) + left.sum()])
    last = np.append(first[1:], 2 * len(y))
    if data.rules.n_classes:
        return criteria.impurities(statistics, data.rules)
    if data.rules.criterion == POISSON:
        entropy = weight * y * np.log(y)
        power = fixed_point.exponent(np.abs(entropy).max(), len(y))
        second = fixed_point.sums(fixed_point.fixed(entropy, power), order, first, last)
        return criteria.impurities(statistics, data.rules, second, 2.0**-power)
    limb = fixed_point.limb(len(y))
    parts = fixed_point.squares(data.rows.moment, data.target, limb, order, first, last)
    unit = data.rules.moment_unit * 2.0 ** -fixed_point.exponent(np.abs(y).max(), len(y))
    return criteria.impurities(statistics, data.rules, fixed_point.whole(parts, limb), unit)


def test_equal_gains_go_to_the_lower_feature():
    values = rng.integers(0, 9, 200).astype(np.float32)
    y = (values > 3) ^ (rng.random(200) < 0.1)
    for X in (np.column_stack([np.ones(200), -values, values]), np.column_stack([np.ones(200), values, 2 * values])):
        assert tree_twin.table(X, y, GINI, 2).best(np.arange(200)).feature[0] == 1


def test_values_that_scikit_learn_takes_for_equal_are_not_parted():
    X = np.array([[0.0], [5e-8], [1e-7], [1.0]], np.float32)
    data = tree_twin.table(X, [0, 1, 0, 1], GINI, 2)
    assert data.best(np.arange(4)).threshold[0] == pytest.approx(0.5)
    assert data.best(np.arange(3)).feature[0] == -1
    assert data.best(np.array([0, 3])).feature[0] == 0


def test_empty_bins_between_do_not_move_the_threshold():
    X = np.arange(10, dtype=np.float32)[:, None]
    data = tree_twin.table(X, np.arange(10) > 4, GINI, 2)
    assert data.best(np.array([0, 1, 8, 9])).threshold[0] == 4.5


def test_nodes_that_cannot_be_split_say_so():
    X = np.column_stack([np.ones(6), np.full(6, np.nan)]).astype(np.float32)
    data = tree_twin.table(X, [0, 1] * 3, GINI, 2)
    found = data.best(np.arange(6), np.arange(1), np.arange(0))
    assert found.feature.tolist() == [-1] * 3
    assert not found.left.any()


def test_missing_values_alone_can_go_right():
    X = np.array([[1.0], [2.0], [np.nan], [np.nan]], np.float32)
    found = tree_twin.table(X, [0, 0, 1, 1], GINI, 2).best(np.arange(4))
    assert found.threshold[0] == np.inf and not found.missing_left[0]
    assert goes_left(found)[:3].tolist() == [True, True, False]


def test_32_bit_counts_give_the_same_splits():
    data = tree_twin.some_table(rng, GINI, 300, 3, 20)
    wide = data.histograms(np.arange(300))
    found = [splits.best(h, data.bins, data.low, data.high, data.rules) for h in (wide, wide.astype(np.int32))]
    for one, other in zip(vars(found[0]).values(), vars(found[1]).values()):
        np.testing.assert_array_equal(one, other)


def subsets(data, f, listed):
    """Every way to part the categories that a node has: (left codes, rank)."""
    codes, statistics = data.codes[listed, f], data.statistics[listed]
    present = np.unique(codes)
    for count in range(1, present.size):
        for chosen in itertools.combinations(present.tolist(), count):
            left = np.isin(codes, chosen)
            value = tree_twin.rank(statistics[left].sum(axis=0), statistics[~left].sum(axis=0), data.rules)
            if value is not None:
                yield chosen, value


@given(
    criterion=st.sampled_from(sorted(NAMES)),
    n_rows=st.integers(2, 80),
    n_values=st.integers(1, 7),
    share_missing=st.sampled_from([0.0, 0.2]),
    weighted=st.booleans(),
    min_rows=st.sampled_from([1, 1, 4]),
    seed=st.integers(0, 10**6),
)
def test_the_best_subset_of_categories_is_found(criterion, n_rows, n_values, share_missing, weighted, min_rows, seed):
    random = np.random.default_rng(seed)
    data = tree_twin.some_table(random, criterion, n_rows, 1, n_values, share_missing, weighted=weighted, n_classes=2)
    listed = random.permutation(n_rows)[: n_rows // 2 + 1]
    found = data.best(listed, categorical=[True])
    expected = dict(subsets(data, 0, listed))
    if not expected:
        assert found.feature[0] == -1
        return
    codes = data.codes[listed, 0]
    left = goes_left(found)[codes]
    chosen = tuple(np.unique(codes[left]).tolist())
    np.testing.assert_allclose(expected[chosen], max(expected.values()), rtol=1e-12, atol=1e-12)
    assert np.isnan(found.threshold[0])
    np.testing.assert_array_equal(found.left_statistics[0], data.statistics[listed][left].sum(axis=0))
    absent = np.setdiff1d(np.arange(data.bins.starts[1]), codes)
    assert (goes_left(found)[absent] == (left.sum() > (~left).sum())).all()
    assert found.missing_left[0] == goes_left(found)[data.bins.n_values[0]]


def test_subsets_of_categories_for_many_classes_are_the_best_that_parts_one_class_from_the_others():
    data = tree_twin.some_table(rng, GINI, 400, 1, 7, n_classes=5)
    listed = np.arange(400)
    found, shares = data.best(listed, categorical=[True]), []
    counts = np.stack([data.statistics[data.codes[:, 0] == code].sum(axis=0) for code in range(7)])
    expected = dict(subsets(data, 0, listed))
    for label in range(5):
        order = np.argsort(counts[:, label] / counts.sum(axis=1), kind="stable")
        shares += [expected[tuple(sorted(order[:count].tolist()))] for count in range(1, 7)]
    chosen = tuple(np.flatnonzero(goes_left(found)[:7]).tolist())
    assert expected[chosen] == max(shares)


def test_categories_and_numbers_compete():
    category = rng.integers(0, 6, 500)
    number = rng.integers(0, 100, 500)
    data = tree_twin.table(
        np.column_stack([number, category]).astype(np.float32), np.isin(category, [0, 3, 5]), GINI, 2
    )
    found = data.best(np.arange(500), categorical=[False, True])
    assert found.feature[0] == 1
    assert set(np.flatnonzero(goes_left(found)[:6])) in ({0, 3, 5}, {1, 2, 4})


def test_a_monotonic_split_leaves_its_middle_between_the_children():
    data = tree_twin.some_table(rng, SQUARED_ERROR, 300, 2, 20)
    found = data.best(np.arange(300), constraint=[1, 1])
    root = data.statistics.sum(axis=0, keepdims=True)
    low, high = (
        criteria.values(part, data.rules)[0, 0] for part in (found.left_statistics, root - found.left_statistics)
    )
    assert low <= high
    assert found.middle[0] == pytest.approx((low + high) / 2, rel=1e-14)


def test_arrays_that_came_over_a_network_compile_nothing_anew():
    data = tree_twin.some_table(rng, GINI, 50, 3, 9)
    histograms = data.histograms(np.arange(50))
    splits.best(histograms, data.bins, data.low, data.high, data.rules)
    before = len(splits._search.signatures)
    data.bins = data.bins._replace(starts=received(data.bins.starts), n_values=received(data.bins.n_values))
    splits.best(received(histograms), data.bins, received(data.low), received(data.high), data.rules)
    assert len(splits._search.signatures) == before


def received(array):
    """The same numbers at an odd address, and read-only."""
    room = np.empty(array.nbytes + 1, np.uint8)
    result = room[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    result.flags.writeable = False
    return result
