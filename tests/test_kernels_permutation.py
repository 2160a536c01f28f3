"""Orders to visit rows in."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dparallel.kernels import draws
from dparallel.kernels.permutation import permutation
from tests import twins


@given(n=st.integers(0, 3000), seed=st.integers(0, 2**64 - 1))
def test_it_is_a_permutation_and_that_of_the_textbook(n, seed):
    key = draws.key(seed, "order")
    numbers = twins.hashed(key, np.arange(n))
    expected = list(range(n))
    for i in range(n - 1, 0, -1):
        j = int(numbers[i] * (i + 1))
        expected[i], expected[j] = expected[j], expected[i]
    order = permutation(key, n)
    assert order.dtype == np.int64 and order.tolist() == expected and sorted(expected) == list(range(n))


def test_it_depends_on_the_key_and_the_length_alone():
    key = draws.key(1, "order", 2)
    assert (permutation(key, 1000) == permutation(key, 1000)).all()
    others = [draws.key(2, "order", 2), draws.key(1, "order", 3), draws.key(1, "other", 2)]
    for other in others:  # a chance of 1 in 1000 per place
        assert (permutation(other, 1000) == permutation(key, 1000)).sum() < 10


def test_all_orders_of_four_come_equally_often():
    found = [tuple(permutation(draws.key(seed, "order"), 4)) for seed in range(12_000)]
    counts = [found.count(order) for order in itertools.permutations(range(4))]
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("n", [1000, 100_003])
def test_places_are_uniform_and_neighbours_come_apart(n):
    order = permutation(draws.key(7, "order"), n)
    cells = (np.arange(n) * 10 // n) * 10 + order * 10 // n
    assert stats.chisquare(np.bincount(cells, minlength=100)).pvalue > 0.001
    assert abs(stats.spearmanr(order[:-1], order[1:]).statistic) < 5 / np.sqrt(n)
    assert (np.abs(np.diff(order)) == 1).sum() < 15  # two are expected
