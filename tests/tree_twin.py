"""The best split of one node once more, in plain Python: every candidate is ranked by scikit-learn's formulas."""

import math
from dataclasses import dataclass

import numpy as np

from dparallel.kernels import criteria, fixed_point, histogram, splits
from dparallel.kernels.binning import Bins, Coder, Distinct, make_bins
from dparallel.kernels.histogram import NONE_32, Rows


@dataclass
class Table:
    """Rows as the kernels take them, and in real numbers.

    values : float32 of shape (n_rows, n_features), distinct values few; y : class codes or numbers; weight : or None
    """

    values: np.ndarray
    bins: Bins
    codes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: Rows
    target: np.ndarray
    rules: criteria.Rules

    @property
    def statistics(self):
        """The statistics of each row on its own."""
        n = len(self.codes)
        one, rows = np.ones(n, np.int64), self.rows
        weight = [rows.weight] if self.rules.weighted else []
        if not self.rules.n_classes:
            return np.column_stack([one, *weight, rows.moment])
        shares = (rows.classes[:, None] == np.arange(self.rules.n_classes)) * (weight[0] if weight else one)[:, None]
        return np.column_stack([shares, one]) if weight else shares

    def histograms(self, *nodes):
        """The histograms of some nodes, given as lists of rows."""
        order = np.concatenate(nodes).astype(np.int32)
        cuts = np.cumsum([0] + [len(node) for node in nodes])
        out = np.empty((len(nodes), self.bins.starts[-1], self.statistics.shape[1]), np.int64)
        histogram.build(self.codes, self.bins.starts, self.rows, order, cuts[:-1], cuts[1:], out)
        return out

    def best(self, *nodes, **rules):
        """The best splits of some nodes, given as lists of rows."""
        return splits.best(self.histograms(*nodes), self.bins, self.low, self.high, self.rules, **rules)


def some_nodes(random, n_rows, n_nodes):
    """Rows in an order, and nodes that are parts of it, some empty, not all of it."""
    order = random.permutation(n_rows)[: n_rows - n_rows // 10].astype(np.int32)
    cuts = np.sort(random.integers(0, order.size + 1, 2 * n_nodes))
    return order, cuts[::2], cuts[1::2]


def some_rows(random, criterion, n_rows, n_features, n_values, share_missing=0.0, n_classes=3):
    """A table of few values, small integers as y."""
    X = random.integers(0, n_values, (n_rows, n_features)) * random.choice([0.1, 1.0, 1e10], n_features)
    X[random.random(X.shape) < share_missing] = np.nan
    low = -5 if criterion == criteria.SQUARED_ERROR else 0
    high = n_classes if criterion in (criteria.GINI, criteria.ENTROPY) else 6
    return X.astype(np.float32), random.integers(low, high, n_rows)


def some_table(random, criterion, *shape, weighted=False, n_classes=3, **rules):
    """The same as the kernels take it."""
    X, y = some_rows(random, criterion, *shape, n_classes=n_classes)
    weight = random.integers(1, 4, len(X)) / 4 if weighted else None
    classes = n_classes if criterion in (criteria.GINI, criteria.ENTROPY) else 0
    return table(X, y + (0 if classes else 1e-3), criterion, classes, weight, **rules)


def table(X, y, criterion, n_classes=0, weight=None, **rules):
    """Bin and code a table; y and weight are small integers, or numbers that are rounded to fixed point."""
    distinct = Distinct(X.shape[1], 255)
    distinct.scan(X)
    bins = make_bins(distinct, {})
    coder, codes = Coder(bins), np.empty(X.shape, np.uint8)
    coder.code(X, codes)
    n = len(X)
    total = float(n if weight is None else np.sum(weight))
    power = 0 if weight is None else fixed_point.exponent(np.max(weight), n)
    fixed_weight = np.empty(0, np.int64) if weight is None else fixed_point.fixed(weight, power)
    made = criteria.Rules(criterion, n_classes, weight is not None, 2.0**-power, total_weight=total, **rules)
    if n_classes:
        rows, target = Rows(np.asarray(y, np.int32), fixed_weight), np.empty(0, np.int64)
    else:
        target_power = fixed_point.exponent(np.abs(y).max(), n)
        target = fixed_point.fixed(y, target_power)
        moments = y if weight is None else y * weight
        moment_power = fixed_point.exponent(np.abs(moments).max(), n)
        rows = Rows(NONE_32, fixed_weight, fixed_point.fixed(moments, moment_power))
        made = made._replace(moment_unit=2.0**-moment_power)
    return Table(X.astype(np.float32), bins, codes, coder.low, coder.high, rows, target, made)


def gini(weights):
    total = sum(weights)
    squares = 0.0
    for weight in weights:
        squares += weight * weight
    return 1.0 - squares / (total * total)


def entropy(weights):
    total, result = sum(weights), 0.0
    for weight in weights:
        if weight > 0:
            result -= weight / total * (math.log(weight / total) / math.log(2.0))
    return result


def real(statistics, rules):
    """Rows, weight, and class weights or the sum of weight * y, in real units."""
    numbers = statistics.tolist()
    if rules.n_classes:
        mass = [number * rules.weight_unit for number in numbers[: rules.n_classes]]
        rows = numbers[-1] if rules.weighted else sum(numbers)
        return rows, sum(numbers[: rules.n_classes]) * rules.weight_unit, mass
    return numbers[0], numbers[1 if rules.weighted else 0] * rules.weight_unit, numbers[-1] * rules.moment_unit


def rank(left, right, rules):
    """What scikit-learn's criteria rank a split by, None where it is not allowed."""
    (rows_left, weight_left, sum_left), (rows_right, weight_right, sum_right) = real(left, rules), real(right, rules)
    if min(rows_left, rows_right) < rules.min_rows or min(weight_left, weight_right) < rules.min_weight:
        return None
    if rules.n_classes:
        impurity = gini if rules.criterion == criteria.GINI else entropy
        return -weight_right * impurity(sum_right) - weight_left * impurity(sum_left)
    if rules.criterion == criteria.SQUARED_ERROR:
        return sum_left * sum_left / weight_left + sum_right * sum_right / weight_right
    if min(sum_left, sum_right) <= 10 * np.finfo(float).eps:
        return None
    log_2 = math.log(2.0)
    return sum_left * (math.log(sum_left / weight_left) / log_2) + sum_right * (
        math.log(sum_right / weight_right) / log_2
    )


def keeps(left, right, rules, sign, bounds):
    """Whether a split respects a monotonic constraint."""
    if sign == 0:
        return True
    low, high = (
        (part[2][0] if rules.n_classes else part[2]) / part[1] for part in (real(left, rules), real(right, rules))
    )
    return (low - high) * sign <= 0 and all(bounds[0] <= value <= bounds[1] for value in (low, high))


def candidates(values, statistics):
    """All splits of one feature: (missing go left, last value that goes left, first that goes right, rows)."""
    gap = np.isnan(values)
    present = np.unique(values[~gap])
    for missing_left in (False, True) if gap.any() else (False,):
        for low, high in zip(present, present[1:]):
            if high > low + np.float32(1e-7):
                yield missing_left, low, high, (values <= low) | (gap & missing_left)
        if gap.any() and present.size and not missing_left:
            yield False, np.inf, np.inf, ~gap


def best_split(data, listed, constraint=None, bounds=(-np.inf, np.inf), allowed=None):
    """Find the best split of a node: (rank, feature, threshold, missing go left, statistics of the left), or None."""
    statistics, found = data.statistics[listed], None
    for f in range(data.values.shape[1]) if allowed is None else allowed:
        values = data.values[listed, f]
        for missing_left, low, high, left in candidates(values, statistics):
            parts = statistics[left].sum(axis=0), statistics[~left].sum(axis=0)
            value = rank(*parts, data.rules)
            if value is None or not keeps(*parts, data.rules, 0 if constraint is None else constraint[f], bounds):
                continue
            if found is None or value > found[0]:
                threshold = np.inf if np.isinf(low) else float(low) / 2 + float(high) / 2
                goes = missing_left if np.isnan(values).any() else left.sum() > (~left).sum()
                found = (value, f, threshold, bool(goes), parts[0])
    return found
