"""Fixed point and its exact sums against Python's integers."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from dparallel.kernels import fixed_point
from tests.tree_twin import some_nodes

rng = np.random.default_rng(11)


@given(
    largest=st.floats(0, 1e300),
    n_rows=st.integers(1, 2**31 - 1),
    sign=st.sampled_from([-1.0, 1.0]),
)
@example(5e-324, 1, 1.0)
@example(1.7e308, 2**31 - 1, -1.0)
def test_no_sum_of_fixed_point_numbers_leaves_its_range(largest, n_rows, sign):
    power = fixed_point.exponent(largest, n_rows)
    number = int(fixed_point.fixed([sign * largest], power)[0])
    assert abs(number) * n_rows <= 2**61
    if largest > 1e-250:
        assert abs(number) * n_rows >= 2**58


def test_small_integers_are_exact_in_fixed_point():
    values = rng.integers(-(10**6), 10**6, 1000)
    power = fixed_point.exponent(10**6, 10**9)
    assert power >= 0
    np.testing.assert_array_equal(fixed_point.fixed(values, power), values << power)


@given(n_rows=st.integers(1, 200), total=st.integers(200, 2**31 - 1), seed=st.integers(0, 10**6))
def test_sums_of_products_are_exact(n_rows, total, seed):
    random = np.random.default_rng(seed)
    a, b = (fixed_point.fixed(random.uniform(-1, 1, n_rows), fixed_point.exponent(1.0, total)) for _ in range(2))
    a[random.random(n_rows) < 0.3] = fixed_point.fixed([-1.0], fixed_point.exponent(1.0, total))[0]
    limb = fixed_point.limb(total)
    order, first, last = some_nodes(random, n_rows, 3)
    parts = fixed_point.squares(a, b, limb, order, first, last)
    expected = [sum(int(a[row]) * int(b[row]) for row in order[i:j]) for i, j in zip(first, last)]
    assert fixed_point.whole(parts, limb) == expected
    # every part of as many rows as announced stays in int64
    assert (np.abs(parts).max(initial=0) // max(n_rows, 1)) * total <= 2**63
    np.testing.assert_array_equal(
        fixed_point.sums(a, order, first, last), [a[order[i:j]].sum() for i, j in zip(first, last)]
    )


def test_parts_of_products_do_not_overflow_in_the_worst_case():
    for total in (1, 2, 3, 1000, 2**20, 2**31 - 1):
        limb, power = fixed_point.limb(total), fixed_point.exponent(1.0, total)
        for number in (fixed_point.fixed([x], power)[0] for x in (1.0, -1.0, 1 - 2**-52)):
            numbers = np.array([number])
            parts = fixed_point.squares(numbers, numbers, limb, np.zeros(1, np.int32), [0], [1])[0]
            assert max(abs(int(part)) for part in parts) * total < 2**63
