"""The best split of each node of a batch, from its histogram: compiled, and by the formulas of scikit-learn.

Sums are integers, so equal splits have equal statistics whatever order the rows came in; the formulas are evaluated in
float64 in scikit-learn's order of operations, without fused or reordered ones, so that ties within a feature fall as
they do there. Equal gains go to the lower feature, then to the split that sends missing values right, then to the lower
threshold.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels import draws
from dparallel.kernels.draws import mix
from dparallel.kernels.layouts import flat

GINI, ENTROPY, SQUARED_ERROR, POISSON = range(4)
# rows of a node's sums: itself, zeros, what a split sends left, the best split's; as plain int each would compile anew
TOTAL, NOTHING, LEFT, BEST = np.arange(4)
SUBSET = -2  # in place of the last code that goes left: a subset of codes goes left

EPSILON = float(np.finfo(np.float64).eps)  # scikit-learn makes a leaf of a node whose impurity is not larger
_LOG_2 = math.log(2.0)
_LEAST_SUM = 10 * EPSILON  # a Poisson mean must be positive
LEAST_STEP = np.float32(1e-7)  # scikit-learn's FEATURE_THRESHOLD: closer values are not parted
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LEFT, _RIGHT = np.uint64(0x632BE59BD9B4E019), np.uint64(0xD1342543DE82EF95)


class Rules(NamedTuple):
    """What makes a split good, and what it must respect.

    Parameters
    ----------
    criterion : GINI, ENTROPY, SQUARED_ERROR or POISSON; friedman_mse ranks as SQUARED_ERROR does
    n_classes : int, 0 for regression
    weighted : bool, which statistics there are, see kernels.histogram
    weight_unit, moment_unit : float, powers of two: what an integer 1 in the weights and the moments stands for. The
        rows count as weights where they have none; then weight_unit is 1
    total_weight : float, weight of all training rows
    min_rows : int, the fewest rows of a child, at least 1
    min_weight : float, the least weight of a child
    max_features : int, how many features are looked at
    """

    criterion: int
    n_classes: int
    weighted: bool = False
    weight_unit: float = 1.0
    moment_unit: float = 1.0
    total_weight: float = 1.0
    min_rows: int = 1
    min_weight: float = 0.0
    max_features: int = 1 << 30

    def plain(self):
        """The same in the types that the kernels are compiled for."""
        kinds = (int, int, bool, float, float, float, int, float, int)
        return Rules(*(kind(value) for kind, value in zip(kinds, self)))


@dataclass(frozen=True)
class Splits:
    """The best split of each of some nodes.

    feature : ndarray of shape (n_nodes,), int32; -1 where no split is allowed
    threshold : ndarray of shape (n_nodes,), float64: values up to it go left. Infinite where only missing values go
        right, NaN where the feature is categorical
    missing_left : ndarray of shape (n_nodes,), bool; where the node has no missing values, they follow the more rows
    left : ndarray of shape (n_nodes, 4), uint64, the codes that go left as bits, see `histogram.partition`
    improvement : ndarray of shape (n_nodes,), float64, impurity decrease weighted as scikit-learn does
    left_statistics : ndarray of shape (n_nodes, n_statistics), int64
    middle : ndarray of shape (n_nodes,), float64, half-way between the children's values (of class 0), to bound what
        lies below a split on a feature with a monotonic constraint
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    improvement: np.ndarray
    left_statistics: np.ndarray
    middle: np.ndarray


@kernel(inlined=True)
def size(rules, sums, at):
    """Rows and weight of the statistics sums[at], both as integers."""
    if rules.n_classes == 0:
        return sums[at, 0], sums[at, 1] if rules.weighted else sums[at, 0]
    mass = np.int64(0)
    for label in range(rules.n_classes):
        mass += sums[at, label]
    return sums[at, rules.n_classes] if rules.weighted else mass, mass


@kernel(inlined=True, fastmath=False)
def disorder(rules, sums, of, minus, weight):
    """Gini index or entropy of the class weights sums[of] - sums[minus], as scikit-learn computes it."""
    result = 0.0
    if rules.criterion == GINI:
        for label in range(rules.n_classes):
            part = np.float64(sums[of, label] - sums[minus, label]) * rules.weight_unit
            result += part * part
        return 1.0 - result / (weight * weight)
    for label in range(rules.n_classes):
        part = np.float64(sums[of, label] - sums[minus, label]) * rules.weight_unit
        if part > 0.0:
            part /= weight
            result -= part * (math.log(part) / _LOG_2)
    return result


@kernel(inlined=True, fastmath=False)
def rank(rules, monotonic, sums, rows_left, mass_left, rows, mass):
    """What scikit-learn ranks splits by, the more the better, or minus infinity if a split is not allowed.

    monotonic : (sign, lower, upper)
    sums : int64 of shape (4, n_statistics), row NOTHING zeros; TOTAL is the node, LEFT what goes left
    rows_left, mass_left, rows, mass : int, rows and weight of both
    """
    if rows_left < rules.min_rows or rows - rows_left < rules.min_rows:
        return -np.inf
    weight_left = np.float64(mass_left) * rules.weight_unit
    weight_right = np.float64(mass - mass_left) * rules.weight_unit
    if weight_left < rules.min_weight or weight_right < rules.min_weight:
        return -np.inf
    at, unit = (0, rules.weight_unit) if rules.n_classes else (sums.shape[1] - 1, rules.moment_unit)
    sum_left, sum_right = np.float64(sums[LEFT, at]) * unit, np.float64(sums[TOTAL, at] - sums[LEFT, at]) * unit
    sign, lower, upper = monotonic
    if sign != 0:
        low, high = sum_left / weight_left, sum_right / weight_right
        if (low - high) * sign > 0 or low < lower or high < lower or low > upper or high > upper:
            return -np.inf
    if rules.n_classes:
        impurity_right = disorder(rules, sums, TOTAL, LEFT, weight_right)
        return -weight_right * impurity_right - weight_left * disorder(rules, sums, LEFT, NOTHING, weight_left)
    if rules.criterion == SQUARED_ERROR:
        return sum_left * sum_left / weight_left + sum_right * sum_right / weight_right
    if sum_left <= _LEAST_SUM or sum_right <= _LEAST_SUM:
        return -np.inf
    proxy_left = sum_left * (math.log(sum_left / weight_left) / _LOG_2)
    return proxy_left + sum_right * (math.log(sum_right / weight_right) / _LOG_2)


@kernel(inner=True, fastmath=False)
def search_values(rules, monotonic, feature, low, high, node, best):
    """Try all thresholds of one feature in one node.

    Parameters
    ----------
    feature : (bins, rows, mass, start, n_values, gap): statistics, rows and weight of all bins, of which those from
        start on are the feature's: n_values in ascending order of their values, then, if gap, that of missing values
    low, high : float32 of shape (n_slots,), extreme values of each bin
    node : (sums, rows, mass), see `rank`; sums[BEST] becomes what goes left in the best split
    best : float, the best rank so far

    Returns
    -------
    best : float
    last : int, the last code that goes left, n_values if only missing values go right; or -1 if nothing is better
    first : int, the first code with rows that goes right
    missing_left : int, 1 or 0
    """
    bins, rows, mass, start, n_values, gap = feature
    sums, node_rows, node_mass = node
    found, first, found_missing_left = np.int64(-1), np.int64(-1), np.int64(0)
    missing, n_statistics = start + n_values, bins.shape[1]
    gap = gap and rows[missing] > 0
    for missing_left in range(2 if gap else 1):
        rows_left = rows[missing] if missing_left else np.int64(0)
        mass_left = mass[missing] if missing_left else np.int64(0)
        for j in range(n_statistics):
            sums[LEFT, j] = bins[missing, j] if missing_left else np.int64(0)
        before = np.int64(-1)
        for slot in range(start, missing + 1 if gap and not missing_left else missing):
            if rows[slot] == 0:
                continue
            if before >= 0 and (slot == missing or low[slot] > high[before] + LEAST_STEP):
                value = rank(rules, monotonic, sums, rows_left, mass_left, node_rows, node_mass)
                if value > best:
                    best, found, first = value, n_values if slot == missing else before - start, slot - start
                    found_missing_left = np.int64(missing_left)
                    for j in range(n_statistics):
                        sums[BEST, j] = sums[LEFT, j]
            for j in range(n_statistics):
                sums[LEFT, j] += bins[slot, j]
            rows_left += rows[slot]
            mass_left += mass[slot]
            before = np.int64(slot)
    return best, found, first, found_missing_left


@kernel(inner=True, fastmath=False)
def sort_categories(feature, at, present):
    """List the slots that have rows, by their mean of the statistic `at`, equal ones in order; returns how many."""
    bins, rows, mass, start, n_values, gap = feature
    key, count = np.empty(256, np.float64), 0
    for slot in range(start, start + n_values + np.int64(gap)):
        if rows[slot] > 0:  # sort by insertion
            value, i = np.float64(bins[slot, at]) / np.float64(mass[slot]), count
            while i > 0 and key[i - 1] > value:
                key[i], present[i] = key[i - 1], present[i - 1]
                i -= 1
            key[i], present[i] = value, slot
            count += 1
    return count


@kernel(inner=True, fastmath=False)
def search_categories(rules, feature, node, best, goes):
    """Try subsets of the categories of one feature in one node, missing values being a category of their own.

    Categories are put in order by their mean, or by their share of a class: for two classes and for regression the
    best subset is among the first ones of that order (Fisher, 1958; Breiman et al., 1984). For more classes each
    class's order is tried, which need not hold the best subset.

    Parameters
    ----------
    goes : uint8 of shape (256,), changed if a better split is found: 1 for the codes that go left, 2 for those without
        rows in the node; the others as for `search_values`

    Returns
    -------
    best : float
    found : bool, whether a split is better than the best so far
    """
    bins, rows, mass, start = feature[:4]
    sums, node_rows, node_mass = node
    present, found = np.empty(256, np.int64), False
    n_statistics = bins.shape[1]
    for order in range(rules.n_classes if rules.n_classes > 2 else 1):
        at = n_statistics - 1 if rules.n_classes == 0 else (order if rules.n_classes > 2 else 1)
        count = sort_categories(feature, at, present)
        rows_left, mass_left = np.int64(0), np.int64(0)
        for j in range(n_statistics):
            sums[LEFT, j] = 0
        for i in range(count - 1):
            slot = present[i]
            rows_left += rows[slot]
            mass_left += mass[slot]
            for j in range(n_statistics):
                sums[LEFT, j] += bins[slot, j]
            value = rank(rules, (np.int64(0), 0.0, 0.0), sums, rows_left, mass_left, node_rows, node_mass)
            if value > best:
                best, found = value, True
                for j in range(n_statistics):
                    sums[BEST, j] = sums[LEFT, j]
                for code in range(256):
                    goes[code] = 2
                for j in range(count):
                    goes[present[j] - start] = 1 if j <= i else 0
    return best, found


@kernel(inner=True)
def is_varied(categorical, f, rows, start, n_values, gap, low, high):
    """Whether a feature takes more than one value in a node; arguments as for `search_feature`."""
    first, last = -1, -1
    for slot in range(start, start + n_values):
        if rows[slot] > 0:
            first = slot if first < 0 else first
            last = slot
    if first < 0:
        return False
    if gap and rows[start + n_values] > 0:
        return True
    if categorical is not None and categorical[f]:
        return first < last
    return first < last and low[last] > high[first] + LEAST_STEP


@kernel(inner=True)
def draw_features(key, max_features, varied):
    """Choose the features that a node looks at: in an order given by hashes, until enough have been visited.

    varied : ndarray of shape (n_features,), bool, whether the feature takes more than one value in the node, changed to
        whether it is looked at, too. As in scikit-learn the draw goes on until at least one such feature is visited.
    """
    n_features = varied.size
    if max_features >= n_features:
        return
    number, visited = np.empty(n_features, np.uint64), np.zeros(n_features, np.bool_)
    for f in range(n_features):
        number[f] = mix(key + np.uint64(f + 1) * _GOLDEN)
    enough = False
    for count in range(n_features):
        if count >= max_features and enough:
            break
        least = -1
        for f in range(n_features):
            if not visited[f] and (least < 0 or number[f] < number[least]):
                least = f
        visited[least] = True
        enough |= varied[least]
    for f in range(n_features):
        varied[f] &= visited[f]


@kernel(inner=True, fastmath=False)
def improvement(rules, sums, weight_left, weight):
    """The decrease of impurity by the split BEST, weighted by the node's share of all rows, as in scikit-learn."""
    weight_right = weight - weight_left
    if rules.n_classes:
        right_part = weight_right / weight * disorder(rules, sums, TOTAL, BEST, weight_right)
        left_part = weight_left / weight * disorder(rules, sums, BEST, NOTHING, weight_left)
        whole = disorder(rules, sums, TOTAL, NOTHING, weight)
        return weight / rules.total_weight * (whole - right_part - left_part)
    at = sums.shape[1] - 1
    low = np.float64(sums[BEST, at]) * rules.moment_unit / weight_left
    high = np.float64(sums[TOTAL, at] - sums[BEST, at]) * rules.moment_unit / weight_right
    if rules.criterion == SQUARED_ERROR:  # the variance between the children: no difference of large squares
        return weight_left * weight_right / weight * (low - high) * (low - high) / rules.total_weight
    mean = np.float64(sums[TOTAL, at]) * rules.moment_unit / weight
    return (weight_left * low * math.log(low / mean) + weight_right * high * math.log(high / mean)) / rules.total_weight


@kernel(inner=True, fastmath=False)
def place(split, feature, goes, rows_left, node_rows, bits, at):
    """Set the bits of the codes that go left; returns whether missing values do."""
    _, rows, _, start, n_values, gap = feature
    last, missing_left = split[0], split[2] == 1
    more_left = rows_left > node_rows - rows_left
    if not (gap and rows[start + n_values] > 0):
        missing_left = more_left
    elif last == SUBSET:
        missing_left = goes[n_values] == 1
    for code in range(256):
        goes_left = missing_left
        if code < n_values:  # categories without rows here follow the more rows, as missing values do
            goes_left = (more_left if goes[code] == 2 else goes[code] == 1) if last == SUBSET else code <= last
        if goes_left:
            bits[at, code >> 6] |= np.uint64(1) << np.uint64(code & 63)
    return missing_left


@kernel(inner=True, fastmath=False)
def record(rules, f, split, feature, low, high, goes, node, at, result):
    """Write the split BEST down as row `at` of the arrays of `Splits`.

    split : (last, first, missing_left) of `search_values`, last being SUBSET for the one that goes holds
    f, feature : the feature's number, and as for `search_values`
    """
    features, thresholds, missing_lefts, bits, gain, left_statistics, middle = result
    start, n_values = feature[3], feature[4]
    last, first, _ = split
    sums, node_rows, node_mass = node
    rows_left, mass_left = size(rules, sums, BEST)
    features[at] = f
    missing_lefts[at] = place(split, feature, goes, rows_left, node_rows, bits, at)
    thresholds[at] = np.nan if last == SUBSET else np.inf
    if last != SUBSET and last < n_values:
        thresholds[at] = np.float64(high[start + last]) / 2.0 + np.float64(low[start + first]) / 2.0
    weight, weight_left = np.float64(node_mass) * rules.weight_unit, np.float64(mass_left) * rules.weight_unit
    gain[at] = improvement(rules, sums, weight_left, weight)
    value_at, unit = (0, rules.weight_unit) if rules.n_classes else (sums.shape[1] - 1, rules.moment_unit)
    middle[at] = np.float64(sums[BEST, value_at]) * unit / (2 * weight_left)
    middle[at] += np.float64(sums[TOTAL, value_at] - sums[BEST, value_at]) * unit / (2 * (weight - weight_left))
    for j in range(sums.shape[1]):
        left_statistics[at, j] = sums[BEST, j]


@kernel(inner=True)
def load_node(rules, histogram, n_first, bins, rows, mass, sums):
    """Copy a node's histogram and add up its statistics over the n_first bins of its first feature."""
    n_statistics = bins.shape[1]
    for j in range(n_statistics):
        sums[TOTAL, j] = 0
    for slot in range(bins.shape[0]):
        for j in range(n_statistics):
            bins[slot, j] = histogram[slot, j]
        rows[slot], mass[slot] = size(rules, bins, slot)
        if slot < n_first:
            for j in range(n_statistics):
                sums[TOTAL, j] += bins[slot, j]


@kernel(inner=True)
def search_feature(rules, categorical, f, monotonic, feature, low, high, node, best, goes):
    """Try all splits of one feature; arguments and result as for `search_values`, last being SUBSET for a subset.

    categorical : as for `best`; where it is None, the search for subsets is not even compiled
    """
    if categorical is not None and categorical[f]:
        best, found = search_categories(rules, feature, node, best, goes)
        return best, np.int64(SUBSET if found else -1), np.int64(-1), np.int64(0)
    return search_values(rules, monotonic, feature, low, high, node, best)


@kernel
def _search(histograms, starts, n_values, low, high, rules, constraint, bounds, categorical, keys, result):
    """Find the best split of each node; see `best`."""
    n_slots, n_statistics = histograms.shape[1:]
    bins, sums = np.empty((n_slots, n_statistics), np.int64), np.zeros((4, n_statistics), np.int64)
    rows, mass = np.empty(n_slots, np.int64), np.empty(n_slots, np.int64)
    goes, varied = np.zeros(256, np.uint8), np.empty(n_values.size, np.bool_)
    for at in range(histograms.shape[0]):
        load_node(rules, histograms[at], starts[1], bins, rows, mass, sums)
        node_rows, node_mass = size(rules, sums, TOTAL)
        node = (sums, node_rows, node_mass)
        for f in range(n_values.size):
            start, count = np.int64(starts[f]), np.int64(n_values[f])
            varied[f] = is_varied(categorical, f, rows, start, count, starts[f + 1] > start + count, low, high)
        if keys is not None:
            draw_features(keys[at], rules.max_features, varied)
        best, chosen, split = -np.inf, np.int64(-1), (np.int64(-1), np.int64(-1), np.int64(0))
        for f in range(n_values.size):
            if varied[f]:
                start, count = np.int64(starts[f]), np.int64(n_values[f])
                feature = (bins, rows, mass, start, count, starts[f + 1] > start + count)
                monotonic = (np.int64(constraint[f]), bounds[at, 0], bounds[at, 1])
                best, last, first, missing_left = search_feature(
                    rules, categorical, f, monotonic, feature, low, high, node, best, goes
                )
                if last != -1:
                    chosen, split = np.int64(f), (last, first, missing_left)
        if chosen >= 0:
            start, count = np.int64(starts[chosen]), np.int64(n_values[chosen])
            feature = (bins, rows, mass, start, count, starts[chosen + 1] > start + count)
            record(rules, chosen, split, feature, low, high, goes, node, at, result)


def empty_splits(n_nodes, n_statistics):
    """Room for the splits of some nodes, none of them found yet."""
    return Splits(
        np.full(n_nodes, -1, np.int32),
        np.full(n_nodes, np.nan),
        np.zeros(n_nodes, np.bool_),
        np.zeros((n_nodes, 4), np.uint64),
        np.zeros(n_nodes),
        np.zeros((n_nodes, n_statistics), np.int64),
        np.full(n_nodes, np.nan),
    )


def best(histograms, bins, low, high, rules, *, constraint=None, bounds=None, categorical=None, keys=None):
    """Find the best split of each node of a batch.

    Parameters
    ----------
    histograms : ndarray of shape (n_nodes, n_slots, n_statistics), int32 or int64
    bins : binning.Bins
    low, high : ndarray of shape (n_slots,), float32, the extreme values of each bin over all rows
    rules : Rules
    constraint : ndarray of shape (n_features,), int8: 1 where the value of the left child (classes: its share of class
        0) must not exceed that of the right one, -1 the other way round, 0 for none; or None. As in scikit-learn a
        classifier negates what its user says, who speaks of class 1.
    bounds : ndarray of shape (n_nodes, 2), float64, within which both children's values must lie where a feature is
        constrained; or None
    categorical : ndarray of shape (n_features,), bool, features that are split on subsets of their codes; or None
    keys : ndarray of shape (n_nodes,), uint64, which decide what features are drawn where max_features leaves some out

    Returns
    -------
    splits : Splits

    Notes
    -----
    All nodes are done in one call without the GIL. Only features whose values differ in the node are looked at. Bins
    whose extreme values are no further than 1e-7 apart are not parted, as in scikit-learn.
    """
    n_nodes, n_features = histograms.shape[0], bins.n_values.size
    result = empty_splits(n_nodes, histograms.shape[2])
    _search(
        flat(histograms, histograms.dtype),
        flat(bins.starts, np.int32),
        flat(bins.n_values, np.int32),
        flat(low, np.float32),
        flat(high, np.float32),
        rules.plain(),
        constraints(constraint, n_features),
        flat(np.tile([-np.inf, np.inf], (n_nodes, 1)) if bounds is None else bounds, np.float64),
        None if categorical is None else flat(categorical, np.bool_),
        flat(keys, np.uint64) if rules.max_features < n_features else None,
        tuple(vars(result).values()),
    )
    return result


def constraints(constraint, n_features):
    """Monotonic constraints as the kernels take them, zeros for None."""
    return np.zeros(n_features, np.int8) if constraint is None else flat(constraint, np.int8)


def root_key(seed):
    """The key of a tree's root; seed : int in [0, 2**64)."""
    return draws.key(seed, "features")


@kernel(inner=True)
def child_key(key, right):
    """The key of a child."""
    return mix(key ^ (_RIGHT if right else _LEFT))


@kernel
def _child_keys(keys, children):
    for node in range(keys.size):
        children[0, node], children[1, node] = child_key(keys[node], False), child_key(keys[node], True)


def child_keys(keys):
    """The keys of the left and of the right children of some nodes.

    Parameters
    ----------
    keys : ndarray of shape (n_nodes,), uint64

    Returns
    -------
    children : ndarray of shape (2, n_nodes), uint64
    """
    keys = flat(keys, np.uint64)
    children = np.empty((2, keys.size), np.uint64)
    _child_keys(keys, children)
    return children


def counts(statistics, rules):
    """Rows of each node: ndarray of shape (n_nodes,), int64."""
    if not rules.n_classes:
        return statistics[:, 0]
    return statistics[:, rules.n_classes] if rules.weighted else statistics.sum(axis=1)


def _masses(statistics, rules):
    """Weights of each node as integers."""
    if rules.n_classes:
        return statistics[:, : rules.n_classes].sum(axis=1)
    return statistics[:, 1 if rules.weighted else 0]


def weights(statistics, rules):
    """Weights of each node: ndarray of shape (n_nodes,), float64."""
    return _masses(statistics, rules) * rules.weight_unit


def values(statistics, rules):
    """Values of each node: ndarray of float64, of shape (n_nodes, n_classes) class shares, or (n_nodes, 1) means."""
    if rules.n_classes:
        return statistics[:, : rules.n_classes] / _masses(statistics, rules)[:, None]
    return (statistics[:, -1] * rules.moment_unit / weights(statistics, rules))[:, None]


def impurities(statistics, rules, second=None, second_unit=1.0):
    """Impurity of each node.

    Parameters
    ----------
    statistics : ndarray of shape (n_nodes, n_statistics), int64
    rules : Rules
    second : for regression a sequence of n_nodes integers of any size, the sums over the rows of moment * y where the
        criterion is SQUARED_ERROR, of weight * y * log(y) where it is POISSON
    second_unit : float, the power of two that 1 in second stands for

    Returns
    -------
    impurity : ndarray of shape (n_nodes,), float64

    Notes
    -----
    Variances are exact but for one rounding. With weights and for POISSON the rows' numbers were rounded to fixed
    point; what may be rounding only counts as 0, so that a node whose targets are equal is pure.
    """
    weight = weights(statistics, rules)
    if rules.criterion == GINI:
        parts = statistics[:, : rules.n_classes] * rules.weight_unit
        return 1.0 - (parts * parts).sum(axis=1) / (weight * weight)
    if rules.criterion == ENTROPY:
        shares = values(statistics, rules)
        logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
        return -(shares * (logs / _LOG_2)).sum(axis=1)
    one = _variance if rules.criterion == SQUARED_ERROR else _deviance
    return np.array([one(row, int(square), second_unit, rules) for row, square in zip(statistics.tolist(), second)])


def _power(unit):
    return math.frexp(unit)[1] - 1


def _variance(statistics, second, second_unit, rules):
    """Variance of one node from integers: second / mass - (moment / mass) ** 2."""
    rows, moment = statistics[0], statistics[-1]
    mass = statistics[1] if rules.weighted else rows
    # both terms over mass ** 2, in units of 2 ** power
    first_power = _power(second_unit) - _power(rules.weight_unit)
    other_power = 2 * (_power(rules.moment_unit) - _power(rules.weight_unit))
    power = min(first_power, other_power)
    spread = (second * mass << first_power - power) - (moment * moment << other_power - power)
    square = math.ldexp(spread / mass, power) * rules.weight_unit
    if rules.weighted and _is_rounding(square, statistics, second_unit, rules):
        return 0.0
    return max(math.ldexp(spread / (mass * mass), power), 0.0)


def _is_rounding(square, statistics, second_unit, rules):
    """Whether a sum of squared deviations may come from weights and moments that were rounded by half a unit each."""
    rows, mass, moment = statistics
    total = abs(moment) * rules.moment_unit
    mean = total / (mass * rules.weight_unit)
    lost = 3 * rows * mean * (rules.moment_unit + mean * rules.weight_unit)
    return square <= lost + total * second_unit / rules.moment_unit + rows * second_unit


def _deviance(statistics, second, second_unit, rules):
    """Half the mean Poisson deviance of one node: (second - moment * log(mean)) / weight."""
    rows, total = statistics[0], statistics[-1] * rules.moment_unit
    weight = (statistics[1] if rules.weighted else rows) * rules.weight_unit
    if total <= _LEAST_SUM:
        return math.inf
    log = math.log(total / weight)
    spread = second * second_unit - total * log
    lost = rows * (
        second_unit
        + (1 + abs(log)) * rules.moment_unit
        + (total / weight * rules.weight_unit if rules.weighted else 0.0)
    )
    lost += 4 * EPSILON * (abs(second * second_unit) + abs(total * log))
    return 0.0 if spread <= lost else spread / weight
