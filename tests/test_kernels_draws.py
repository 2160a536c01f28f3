"""Random numbers that belong to rows, and the draws made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dparallel.kernels import draws
from tests import twins

NOT_WEIGHTED = np.empty(0)


def oversample(key, first_row, cost, weights, rate):
    chosen, ratio = np.empty(cost.size, np.int64), np.empty(cost.size)
    count = draws.oversample(key, first_row, cost, weights, rate, chosen, ratio)
    return chosen[:count], ratio[:count]


def race(key, first_row, mass, n_winners):
    chosen, time = np.full(n_winners, -1, np.int64), np.full(n_winners, np.inf)
    draws.race(key, first_row, mass, chosen, time)
    return chosen, time


def numbers(key, n_rows, first_row=0):
    """The rows' numbers, read off the ratios of an oversampling that takes all of them."""
    return oversample(key, first_row, np.ones(n_rows), NOT_WEIGHTED, 1.0)[1]


@pytest.mark.parametrize("first_row", [0, 1, 10**6, 2**31, 2**40])
def test_a_rows_number_is_the_hash_of_key_and_global_row(first_row):
    key = draws.key(2**64 - 1, "random", 3)
    assert (numbers(key, 500, first_row) == twins.hashed(key, first_row + np.arange(500))).all()


@pytest.mark.parametrize("first_row", [0, 17, 2**40])
def test_numbers_of_consecutive_rows_are_those_that_draws_use(first_row):
    key = draws.key(3, "held out")
    assert (draws.numbers(key, first_row, 500) == numbers(key, 500, first_row)).all()
    assert draws.numbers(key, first_row, 0).shape == (0,)


def test_numbers_are_uniform():
    drawn = numbers(draws.key(0, "test"), 200_000)
    assert drawn.min() > 0 and drawn.max() < 1
    assert stats.chisquare(np.bincount((drawn * 256).astype(int), minlength=256)).pvalue > 0.001
    assert stats.kstest(drawn, "uniform").pvalue > 0.001


@pytest.mark.parametrize("lag", [1, 2, 64, 4096])
def test_numbers_of_neighbouring_rows_are_independent(lag):
    drawn = numbers(draws.key(5, "test"), 200_000)
    cells = (drawn[:-lag] * 16).astype(int) * 16 + (drawn[lag:] * 16).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=256)).pvalue > 0.001


@pytest.mark.parametrize("other", [(1, "test", 0), (0, "tesu", 0), (0, "test", 1), (2**63, "test", 0)])
def test_another_seed_purpose_or_round_gives_independent_numbers(other):
    a, b = numbers(draws.key(0, "test", 0), 100_000), numbers(draws.key(*other), 100_000)
    cells = (a * 16).astype(int) * 16 + (b * 16).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=256)).pvalue > 0.001


def test_keys_of_many_seeds_and_rounds_differ():
    keys = {int(draws.key(seed, purpose, n)) for seed in range(50) for purpose in ("a", "b", "ab") for n in range(50)}
    assert len(keys) == 50 * 3 * 50


@given(
    n_rows=st.integers(0, 300),
    cut=st.integers(0, 300),
    first_row=st.integers(0, 2**40),
    rate=st.sampled_from([0.0, 0.01, 0.3, 5.0]),
    weighted=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_oversampling_is_that_of_numpy_however_rows_are_cut(n_rows, cut, first_row, rate, weighted, seed):
    random = np.random.default_rng(seed)
    cost = random.exponential(size=n_rows) * (random.random(n_rows) < 0.8)
    weights = random.choice([0.0, 1.0, 4.0], n_rows) if weighted else NOT_WEIGHTED
    key, cut = draws.key(seed, "scalable"), min(cut, n_rows)
    mass = cost * weights if weighted else cost
    drawn = twins.hashed(key, first_row + np.arange(n_rows))
    expected = np.flatnonzero(drawn < rate * mass)
    chosen, ratio = oversample(key, first_row, cost, weights, rate)
    assert (chosen == expected).all()
    assert (ratio == drawn[expected] / mass[expected]).all()
    assert (mass[chosen] > 0).all()
    head = oversample(key, first_row, cost[:cut], weights[:cut], rate)
    tail = oversample(key, first_row + cut, cost[cut:], weights[cut:], rate)
    assert (np.append(head[0], tail[0] + cut) == chosen).all() and (np.append(head[1], tail[1]) == ratio).all()


def test_oversampling_draws_each_row_at_its_rate():
    cost = np.repeat([0.0, 0.1, 1.0, 3.0, 50.0], 20_000)
    chosen, _ = oversample(draws.key(1, "scalable"), 0, cost, NOT_WEIGHTED, 0.1)
    found = np.bincount(chosen // 20_000, minlength=5)
    wanted = np.minimum(0.1 * np.array([0.0, 0.1, 1.0, 3.0, 50.0]), 1.0)
    assert (abs(found - 20_000 * wanted) <= 4 * np.sqrt(20_000 * wanted * (1 - wanted))).all()


@given(
    n_rows=st.integers(0, 300),
    cut=st.integers(0, 300),
    first_row=st.integers(0, 2**40),
    n_winners=st.integers(1, 40),
    seed=st.integers(0, 10**6),
)
def test_the_race_is_that_of_numpy_however_rows_are_cut(n_rows, cut, first_row, n_winners, seed):
    random = np.random.default_rng(seed)
    mass = random.exponential(size=n_rows) * (random.random(n_rows) < 0.7) * 10.0 ** random.integers(-200, 200)
    key, cut = draws.key(seed, "random"), min(cut, n_rows)
    with np.errstate(divide="ignore"):
        arrival = -np.log(twins.hashed(key, first_row + np.arange(n_rows))) / mass
    arrival[mass == 0] = np.inf
    order = np.argsort(arrival, kind="stable")[: min(n_winners, int((mass > 0).sum()))]
    chosen, time = race(key, first_row, mass, n_winners)
    n_arrived = len(order)
    assert (chosen[:n_arrived] - first_row == order).all() and (chosen[n_arrived:] == -1).all()
    np.testing.assert_allclose(time[:n_arrived], arrival[order], rtol=1e-14)
    assert np.isinf(time[n_arrived:]).all()
    parts, times = np.full(n_winners, -1, np.int64), np.full(n_winners, np.inf)
    draws.race(key, first_row, mass[:cut], parts, times)
    draws.race(key, first_row + cut, mass[cut:], parts, times)
    assert (parts == chosen).all() and (times == time).all()


def test_the_race_is_won_in_proportion_to_mass():
    mass = np.array([0.0, 1.0, 2.0, 4.0, 1.0])
    won = np.zeros(5)
    for trial in range(20_000):
        won[race(draws.key(9, "greedy", trial), 0, mass, 1)[0][0]] += 1
    assert won[0] == 0
    assert stats.chisquare(won[1:], 20_000 * mass[1:] / mass.sum()).pvalue > 0.001
