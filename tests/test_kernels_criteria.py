"""Impurities against exact arithmetic; the ranks of splits are tested by the search for them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.kernels import criteria, fixed_point
from dparallel.kernels.criteria import ENTROPY, GINI, POISSON, SQUARED_ERROR, Rules
from tests import tree_twin

rng = np.random.default_rng(17)


@given(n_rows=st.integers(1, 50), offset=st.sampled_from([0.0, 1e3, 1e9]), seed=st.integers(0, 10**6))
def test_variances_are_exact_however_far_off_the_targets_lie(n_rows, offset, seed):
    random = np.random.default_rng(seed)
    y = offset + random.integers(0, 1000, n_rows) / 64
    data = tree_twin.table(np.ones((n_rows, 1)), y, SQUARED_ERROR)
    second = [sum(int(target) ** 2 for target in data.target)]
    found = criteria.impurities(
        data.statistics.sum(axis=0, keepdims=True), data.rules, second, data.rules.moment_unit**2
    )
    exact = [Fraction(value) for value in y.tolist()]
    mean = sum(exact) / n_rows
    assert found[0] == float(sum((value - mean) ** 2 for value in exact) / n_rows)


@pytest.mark.parametrize("criterion", [GINI, ENTROPY, SQUARED_ERROR, POISSON])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_pure_node_has_no_impurity_at_all(criterion, weighted):
    for value in (0.1, 1.0, 7.3e5, 1e-7):
        y = np.full(37, 1 if criterion in (GINI, ENTROPY) else value)
        y_and_others = np.append(y, y[:3] * 2 if criterion in (SQUARED_ERROR, POISSON) else [0, 0, 0])
        weight = rng.random(40) + 0.01 if weighted else None
        n_classes = 2 if criterion in (GINI, ENTROPY) else 0
        data = tree_twin.table(np.ones((40, 1)), y_and_others, criterion, n_classes, weight)
        statistics = data.statistics[:37].sum(axis=0, keepdims=True)
        second, unit = None, 1.0
        if criterion == SQUARED_ERROR:
            second = [sum(int(a) * int(b) for a, b in zip(data.rows.moment[:37], data.target[:37]))]
            unit = data.rules.moment_unit * 2.0 ** -fixed_point.exponent(2 * value, 40)
        if criterion == POISSON:
            terms = (np.ones(40) if weight is None else weight) * y_and_others * np.log(y_and_others)
            power = fixed_point.exponent(np.abs(terms).max(), 40)
            second, unit = [int(fixed_point.fixed(terms[:37], power).sum())], 2.0**-power
        assert criteria.impurities(statistics, data.rules, second, unit)[0] == 0.0


def test_a_poisson_node_without_events_has_infinite_impurity():
    assert np.isinf(criteria.impurities(np.array([[3, 0]]), Rules(POISSON, 0), [0])[0])
