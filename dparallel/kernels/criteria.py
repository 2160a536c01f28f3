"""What makes a split good: the criteria of scikit-learn, from integer statistics of the nodes.

Statistics are those of `histogram`. The formulas by which splits are ranked are evaluated in float64 in scikit-learn's
order of operations, without fused or reordered ones, so that ties within a feature fall as they do there.
"""

import math
from typing import NamedTuple

import numpy as np

from dparallel.compat import kernel

GINI, ENTROPY, SQUARED_ERROR, POISSON = range(4)
# rows of a node's sums: itself, zeros, what a split sends left, the best split's; as plain int each would compile anew
TOTAL, NOTHING, LEFT, BEST = np.arange(4)

EPSILON = float(np.finfo(np.float64).eps)  # scikit-learn makes a leaf of a node whose impurity is not larger
_LOG_2 = math.log(2.0)
_LEAST_SUM = 10 * EPSILON  # a Poisson mean must be positive


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
