"""The best split of each node of a batch, from its histogram: compiled, and by the formulas of scikit-learn.

Sums are integers, so equal splits have equal statistics whatever order the rows came in, see `criteria`. Equal gains go
to the lower feature, then to the split that sends missing values right, then to the lower threshold.
"""

from dataclasses import dataclass

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.criteria import BEST, LEFT, TOTAL, improvement, rank, size
from dparallel.kernels.feature_draws import draw_features
from dparallel.kernels.layouts import flat

SUBSET = -2  # in place of the last code that goes left: a subset of codes goes left
LEAST_STEP = np.float32(1e-7)  # scikit-learn's FEATURE_THRESHOLD: closer values are not parted


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
