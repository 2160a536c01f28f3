"""A small node grown to the end on one worker: exact CART on raw values, by the rules of `splits`.

Rows are sorted once by every feature; each split parts these orders, which stay sorted. A node's distinct values of a
feature then are the bins that `splits.search_values` looks at.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from dparallel.compat import kernel
from dparallel.kernels.criteria import ENTROPY, EPSILON, GINI, NOTHING, TOTAL, disorder, size
from dparallel.kernels.feature_draws import child_key, draw_features
from dparallel.kernels.fixed_point import add_product
from dparallel.kernels.histogram import NONE_64
from dparallel.kernels.layouts import flat
from dparallel.kernels.sorting import sort_columns
from dparallel.kernels.splits import LEAST_STEP, SUBSET, constraints, empty_splits, record, search_feature

_FIRST, _LAST, _DEPTH, _PARENT, _SIDE, _CONSTANT = range(6)  # columns of the stack of nodes to come


class Limits(NamedTuple):
    """When a node is a leaf, beside what `criteria.Rules` say.

    Parameters
    ----------
    max_depth : int, levels below the given node
    min_samples_split : int, the fewest rows of a node that is split
    min_impurity_decrease : float
    """

    max_depth: int = 1 << 30
    min_samples_split: int = 2
    min_impurity_decrease: float = 0.0

    def plain(self):
        """The same in the types that the kernels are compiled for."""
        return Limits(int(self.max_depth), int(self.min_samples_split), float(self.min_impurity_decrease))


@dataclass(frozen=True)
class Subtree:
    """A tree below a node, which is its node 0; ids are given depth first, left before right, as scikit-learn does.

    feature : ndarray of shape (n_nodes,), int32, -1 at leaves
    threshold : ndarray of shape (n_nodes,), float64; NaN at leaves and where the feature is categorical
    missing_left : ndarray of shape (n_nodes,), bool
    left : ndarray of shape (n_nodes, 4), uint64, the categories that go left as bits; 0 where the feature is no such
    improvement : ndarray of shape (n_nodes,), float64
    children : ndarray of shape (n_nodes, 2), int32, ids of the left and right child, -1 at leaves
    statistics : ndarray of shape (n_nodes, n_statistics), int64
    parts : ndarray of shape (n_nodes, 3), int64; what `criteria.impurities` needs, see `fixed_point.whole`
    bounds : ndarray of shape (n_nodes, 2), float64, within which monotonic constraints keep a node's value
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    improvement: np.ndarray
    children: np.ndarray
    statistics: np.ndarray
    parts: np.ndarray
    bounds: np.ndarray


@kernel(inner=True)
def _count_missing(column, order, first, last):
    """How many of the last rows of a sorted node are NaN."""
    count = 0
    while count < last - first and column[order[last - 1 - count]] != column[order[last - 1 - count]]:
        count += 1
    return count


@kernel(inlined=True)
def _add_row(rules, rows, row, sums, at):
    """Add a row to the statistics sums[at]."""
    classes, weight, moment = rows
    if rules.n_classes:
        sums[at, classes[row]] += weight[row] if rules.weighted else np.int64(1)
        if rules.weighted:
            sums[at, rules.n_classes] += 1
        return
    sums[at, 0] += 1
    if rules.weighted:
        sums[at, 1] += weight[row]
    sums[at, sums.shape[1] - 1] += moment[row]


@kernel(inner=True)
def _gather(rules, rows, column, order, first, last, n_missing, n_codes, bins, n_rows, mass, values):
    """Add up a node's rows by value of a sorted feature; returns how many bins of values there are.

    n_codes : int, of a categorical feature, whose bins are its codes; else 0. Missing values come in the bin behind.
    """
    count = n_codes
    for slot in range(n_codes + 1):
        for j in range(bins.shape[1]):
            bins[slot, j] = 0
    for i in range(first, last - n_missing):
        row = order[i]
        if n_codes:
            _add_row(rules, rows, row, bins, np.int64(column[row]))
            continue
        if count == 0 or column[row] > values[count - 1]:
            values[count] = column[row]
            for j in range(bins.shape[1]):
                bins[count, j] = 0
            count += 1
        _add_row(rules, rows, row, bins, count - 1)
    for j in range(bins.shape[1]):
        bins[count, j] = 0
    for i in range(last - n_missing, last):
        _add_row(rules, rows, order[i], bins, count)
    for slot in range(count + 1):
        n_rows[slot], mass[slot] = size(rules, bins, slot)
    return count


@kernel(inner=True)
def _find_varied(X, orders, first, last, n_codes, features, n_constant, varied):
    """Mark the features that take more than one value in a node; returns how many do not.

    n_codes : see `_gather`
    features : int64 of shape (n_features,), of which the first n_constant are known to be constant; those found to be
        so are moved behind them. They are constant in all nodes below, whose rows are then not kept in their order.
    """
    for i in range(n_constant):
        varied[features[i]] = False
    for i in range(n_constant, features.size):
        f = features[i]
        column, order = X[f], orders[f]
        n_missing = _count_missing(column, order, first, last)
        low, high = column[order[first]], column[order[max(last - 1 - n_missing, first)]]
        varied[f] = n_missing < last - first and (
            n_missing > 0 or (high > low if n_codes[f] else high > low + LEAST_STEP)
        )
        if not varied[f]:
            features[i], features[n_constant] = features[n_constant], f
            n_constant += 1
    return n_constant


@kernel(inner=True)
def _part(X, orders, first, last, features, n_constant, f, threshold, missing_left, left, at, side, room):
    """Part the rows of a node, in every order that is kept; returns where the right ones begin."""
    begin = first
    for i in range(first, last):
        row = orders[f, i]
        value = X[f, row]
        if value != value:
            goes_left = missing_left
        elif threshold != threshold:
            code = np.int64(value)
            goes_left = (left[at, code >> 6] >> np.uint64(code & 63)) & np.uint64(1) == 1
        else:
            goes_left = value <= threshold
        side[row] = goes_left
        begin += np.int64(goes_left)
    for k in range(n_constant, features.size):
        order = orders[features[k]]
        n_left, n_right = first, np.int64(0)
        for i in range(first, last):
            row = order[i]
            order[n_left] = row
            room[n_right] = row
            n_left += np.int64(side[row])
            n_right += 1 - np.int64(side[row])
        for i in range(n_right):
            order[n_left + i] = room[i]
    return begin


@kernel(inner=True, fastmath=False)
def _is_pure(rules, rows, order, first, last, targets, sums, parts, at):
    """Add up a node, and tell whether its impurity is none.

    targets : (target, second, limb, second_unit); see `finish`
    """
    target, second, limb, second_unit = targets
    for j in range(sums.shape[1]):
        sums[TOTAL, j] = 0
    for i in range(first, last):
        _add_row(rules, rows, order[i], sums, TOTAL)
    weight = np.float64(size(rules, sums, TOTAL)[1]) * rules.weight_unit
    if rules.criterion in (GINI, ENTROPY):
        return disorder(rules, sums, TOTAL, NOTHING, weight) <= EPSILON
    moment = rows[2]
    lowest = highest = target[order[first]]
    for i in range(first, last):
        row = order[i]
        lowest, highest = min(lowest, target[row]), max(highest, target[row])
        if second.size:
            parts[at, 2] += second[row]
        else:
            add_product(moment[row], target[row], limb, parts[at])
    if second.size or lowest == highest:
        return lowest == highest
    scale = 2.0**limb
    square = (np.float64(parts[at, 0]) * scale + np.float64(parts[at, 1])) * scale + np.float64(parts[at, 2])
    mean = np.float64(sums[TOTAL, sums.shape[1] - 1]) * rules.moment_unit / weight
    return square * second_unit / weight - mean * mean <= EPSILON


@kernel(inner=True)
def _choose(rules, rows, X, orders, first, last, monotone, node, varied, codes, work):
    """Find and record the best split of a node; returns its feature or -1.

    monotone : (constraint, lower, upper); codes : (categorical, n_codes); work : see `_grow`
    """
    constraint, lower, upper = monotone
    categorical, n_codes = codes
    bins, n_rows, mass, values, goes, at, result = work
    best, chosen = -np.inf, np.int64(-1)
    for f in range(varied.size):
        if not varied[f]:
            continue
        order = orders[f]
        n_missing = _count_missing(X[f], order, first, last)
        count = _gather(rules, rows, X[f], order, first, last, n_missing, n_codes[f], bins, n_rows, mass, values)
        feature = (bins, n_rows, mass, np.int64(0), np.int64(count), n_missing > 0)
        monotonic = (np.int64(constraint[f]), lower, upper)
        best, last_left, first_right, missing_left = search_feature(
            rules, categorical, f, monotonic, feature, values, values, node, best, goes
        )
        if last_left != -1:
            chosen = np.int64(f)
            result[3][at] = np.uint64(0)
            record(rules, f, (last_left, first_right, missing_left), feature, values, values, goes, node, at, result)
            if last_left != SUBSET:  # its bits speak of the values of this node
                result[3][at] = np.uint64(0)
    return chosen


@kernel(inner=True)
def _child_bounds(sign, lower, upper, middle, right):
    """Bounds of a child's value below a split on a feature of that constraint."""
    if sign == 0:
        return lower, upper
    return (middle, upper) if right == (sign > 0) else (lower, middle)


@kernel
def _grow(X, orders, rows, rules, limits, targets, constraint, codes, stack, keys, stack_bounds, result, tree):
    """Grow a tree depth first; see `finish`. Returns the number of nodes.

    X : float32 of shape (n_features, n_rows); orders : int32 of the same shape, rows sorted by each feature
    stack : int64 of shape (n_places, 6), keys, stack_bounds : what is known of nodes to come, the first filled in
    result : arrays of `Splits`; tree : (children, statistics, parts, bounds)
    """
    n_features, n_rows = X.shape
    children, statistics, parts, bounds = tree
    n_bins = max(n_rows, 256) + 1
    bins, values = np.empty((n_bins, statistics.shape[1]), np.int64), np.empty(n_bins, np.float32)
    bin_rows, mass, goes = np.empty(n_bins, np.int64), np.empty(n_bins, np.int64), np.zeros(256, np.uint8)
    sums, varied = np.zeros((4, statistics.shape[1]), np.int64), np.empty(n_features, np.bool_)
    features, side, room = np.arange(n_features), np.empty(n_rows, np.uint8), np.empty(n_rows + 1, np.int32)
    top, n_nodes = np.int64(1), np.int64(0)
    while top > 0:
        top -= 1
        first, last, depth = stack[top, _FIRST], stack[top, _LAST], stack[top, _DEPTH]
        parent, n_constant = stack[top, _PARENT], stack[top, _CONSTANT]
        key, lower, upper, at = keys[top], stack_bounds[top, 0], stack_bounds[top, 1], n_nodes
        n_nodes += 1
        if parent >= 0:
            children[parent, stack[top, _SIDE]] = at
        bounds[at, 0], bounds[at, 1] = lower, upper
        order = orders[features[n_constant]]  # one that the parent kept, as all behind those constant there
        pure = _is_pure(rules, rows, order, first, last, targets, sums, parts, at)
        for j in range(sums.shape[1]):
            statistics[at, j] = sums[TOTAL, j]
        count, node_mass = size(rules, sums, TOTAL)
        few = count < limits.min_samples_split or count < 2 * rules.min_rows
        light = np.float64(node_mass) * rules.weight_unit < 2.0 * rules.min_weight
        if pure or few or light or depth >= limits.max_depth:
            continue
        n_constant = _find_varied(X, orders, first, last, codes[1], features, n_constant, varied)
        draw_features(key, rules.max_features, varied)
        work = (bins, bin_rows, mass, values, goes, at, result)
        node, monotone = (sums, count, node_mass), (constraint, lower, upper)
        f = _choose(rules, rows, X, orders, first, last, monotone, node, varied, codes, work)
        if f < 0 or result[4][at] + EPSILON < limits.min_impurity_decrease:
            result[0][at] = -1
            continue
        begin = _part(
            X, orders, first, last, features, n_constant, f, result[1][at], result[2][at], result[3], at, side, room
        )
        for right in range(1, -1, -1):
            stack[top, _FIRST] = begin if right else first
            stack[top, _LAST] = last if right else begin
            stack[top, _DEPTH], stack[top, _PARENT] = depth + 1, at
            stack[top, _SIDE], stack[top, _CONSTANT] = right, n_constant
            keys[top] = child_key(key, right == 1)
            low, high = _child_bounds(constraint[f], lower, upper, result[6][at], right == 1)
            stack_bounds[top, 0], stack_bounds[top, 1] = low, high
            top += 1
    return n_nodes


def finish(
    X,
    rows,
    rules,
    limits,
    *,
    target=NONE_64,
    second=NONE_64,
    limb=0,
    second_unit=1.0,
    constraint=None,
    bounds=(-np.inf, np.inf),
    categorical=None,
    key=0,
):
    """Grow the tree below a node to its end.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32, the node's rows, at least one: values, and codes where a feature
        is categorical; NaN where they are missing
    rows : histogram.Rows, of the same rows
    rules : criteria.Rules
    limits : Limits
    target : ndarray of shape (n_rows,), int64, for regression the y in fixed point
    second : ndarray of shape (n_rows,), int64, for POISSON weight * y * log(y) in fixed point
    limb, second_unit : int and float, for SQUARED_ERROR as for `fixed_point.squares` and `criteria.impurities`
    constraint, categorical : as for `splits.best`
    bounds : (lower, upper), the node's own, as for `splits.best`
    key : uint64, the node's own, as for `splits.best`

    Returns
    -------
    subtree : Subtree

    Notes
    -----
    The order of the rows does not matter. Runs without the GIL. Needs about 8 bytes per value of X beside it.
    """
    n_rows, n_features = X.shape
    n_nodes = 2 * n_rows - 1
    if limits.max_depth < 30:
        n_nodes = min(n_nodes, (2 << max(int(limits.max_depth), 0)) - 1)
    n_statistics = (rules.n_classes or 2) + bool(rules.weighted)
    columns = flat(X.T, np.float32)
    orders = sort_columns(columns)
    found = empty_splits(n_nodes, n_statistics)
    tree = (
        np.full((n_nodes, 2), -1, np.int32),
        np.zeros((n_nodes, n_statistics), np.int64),
        np.zeros((n_nodes, 3), np.int64),
        np.empty((n_nodes, 2)),
    )
    count = _grow(
        columns,
        orders,
        tuple(flat(part, part.dtype) for part in rows),
        rules.plain(),
        limits.plain(),
        (flat(target, np.int64), flat(second, np.int64), int(limb), float(second_unit)),
        constraints(constraint, n_features),
        _codes(columns, categorical),
        *_stack(n_rows, limits, bounds, key),
        tuple(getattr(found, field.name) for field in fields(found)),
        tree,
    )
    return _subtree(found, tree, count)


def _stack(n_rows, limits, bounds, key):
    """A stack that holds the first node."""
    n_places = min(n_rows, max(int(limits.max_depth), 0)) + 2
    stack, stack_bounds = np.zeros((n_places, 6), np.int64), np.empty((n_places, 2))
    stack[0, [_LAST, _PARENT]] = n_rows, -1
    stack_bounds[0] = bounds
    return stack, np.full(n_places, key, np.uint64), stack_bounds


def _codes(columns, categorical):
    """Which features are categorical, and how many codes those have."""
    n_codes = np.zeros(columns.shape[0], np.int64)
    if categorical is None:
        return None, n_codes
    for f in np.flatnonzero(categorical):
        n_codes[f] = np.nanmax(columns[f], initial=0.0) + 1
    return flat(categorical, np.bool_), n_codes


def _subtree(found, tree, count):
    """Cut the arrays to the nodes there are, and clear what was tried at leaves."""
    parts = {field.name: getattr(found, field.name)[:count].copy() for field in fields(found)}
    leaf = parts["feature"] < 0
    parts["threshold"][leaf] = np.nan
    for name in ("missing_left", "left", "improvement"):
        parts[name][leaf] = 0
    kept = {field.name: parts[field.name] for field in fields(Subtree) if field.name in parts}
    children, statistics, squares, bounds = (part[:count].copy() for part in tree)
    return Subtree(**kept, children=children, statistics=statistics, parts=squares, bounds=bounds)
