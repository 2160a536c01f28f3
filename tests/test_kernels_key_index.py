"""The index of keys against a dict, drawn rows against numpy, and the ranges that keys are spread over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dparallel.kernels import draws, key_index
from tests import twins

KEYS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=60)


def new_index(n_places):
    return np.full(n_places, -1, np.int32)


def insert(places, keys, n_rows, wanted):
    wanted, rows = np.array(wanted, np.int64), np.empty(len(wanted), np.int64)
    return key_index.insert(places, keys, n_rows, wanted, rows), rows


def find(places, keys, n_rows, wanted):
    wanted, rows = np.array(wanted, np.int64), np.empty(len(wanted), np.int64)
    key_index.find(places, keys, n_rows, wanted, rows)
    return rows


def insert_into_dict(known, wanted):
    return [known.setdefault(key, len(known)) for key in wanted]


@given(st.lists(KEYS, max_size=4), KEYS)
def test_keys_are_found_as_in_a_dict(batches, others):
    places, keys, n_rows, known = new_index(512), np.empty(256, np.int64), 0, {}
    for batch in batches:
        n_rows, rows = insert(places, keys, n_rows, batch)
        assert rows.tolist() == insert_into_dict(known, batch)
        assert n_rows == len(known)
    assert keys[:n_rows].tolist() == list(known)
    assert find(places, keys, n_rows, others).tolist() == [known.get(key, -1) for key in others]


@given(KEYS, KEYS)
def test_rows_that_were_given_up_are_not_found_and_do_no_harm(kept, given_up):
    places, keys = new_index(512), np.empty(256, np.int64)
    n_rows, _ = insert(places, keys, 0, kept)
    insert(places, keys, n_rows, given_up)  # and nobody says that they are there
    known = {key: row for row, key in enumerate(keys[:n_rows].tolist())}
    assert find(places, keys, n_rows, given_up).tolist() == [known.get(key, -1) for key in given_up]
    more = [*given_up[::2], 7, *kept]
    n_rows, rows = insert(places, keys, n_rows, more)
    assert rows.tolist() == insert_into_dict(known, more)
    assert n_rows == len(known)


def test_a_full_half_of_the_index_is_searched_to_the_end():
    n = 1 << 12
    wanted = np.random.default_rng(0).integers(-(2**62), 2**62, n)
    places, keys = new_index(2 * n), np.empty(n, np.int64)
    assert insert(places, keys, 0, wanted)[0] == n
    np.testing.assert_array_equal(find(places, keys, n, wanted), np.arange(n))
    assert (find(places, keys, n, wanted + 2**62 + 1) == -1).all()


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 3))
def test_rows_are_added_in_their_order(rows, width):
    rows = np.array(rows, np.int64)
    values = np.random.default_rng(len(rows)).normal(size=(len(rows), width))
    sums, expected = np.zeros((5, width)), np.zeros((5, width))
    key_index.add_rows(sums, rows, values)
    for row, value in zip(rows, values):
        expected[row] += value
    assert sums.tobytes() == expected.tobytes()


def spread(keys, n_bits):
    found = np.empty(len(keys), np.int64)
    key_index.ranges(keys, n_bits, found)
    return found


def test_ranges_are_the_high_bits_of_the_hash_and_even():
    keys = np.arange(-50_000, 150_000)
    found = spread(keys, 12)
    with np.errstate(over="ignore"):
        expected = [int(draws.mix.py_func(np.uint64(int(key) % 2**64)) >> np.uint64(52)) for key in keys[:100]]
    assert found[:100].tolist() == expected
    assert stats.chisquare(np.bincount(found, minlength=4096)).pvalue > 0.001


def drawn(seed, kind, scale, keys, width):
    values = np.empty((len(keys), width))
    key_index.initial(draws.key(seed, "sparse"), kind, scale, np.array(keys, np.int64), values)
    return values


def twin_of_drawn(seed, kind, scale, keys, width):
    values = np.empty((len(keys), width))
    with np.errstate(over="ignore"):
        for i, key in enumerate(keys):
            golden = np.uint64(0x9E3779B97F4A7C15)
            row_key = draws.mix.py_func(draws.key(seed, "sparse") + (np.uint64(key % 2**64) + np.uint64(1)) * golden)
            numbers = twins.hashed(row_key, np.arange(2 * width))
            first, second = numbers[::2], numbers[1::2]
            if kind == key_index.UNIFORM:
                values[i] = scale * (2 * first - 1)
            else:
                values[i] = scale * np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
    return values


@pytest.mark.parametrize("kind", [key_index.UNIFORM, key_index.NORMAL])
def test_first_values_are_functions_of_seed_key_and_column(kind):
    keys = [0, 1, -1, 2**63 - 1, -(2**63), 10**15]
    found = drawn(3, kind, 0.5, keys, 4)
    np.testing.assert_allclose(found, twin_of_drawn(3, kind, 0.5, keys, 4), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(drawn(3, kind, 0.5, keys[::-1], 4)[::-1], found)
    np.testing.assert_array_equal(drawn(3, kind, 0.5, keys, 2), found[:, :2])
    assert not np.isclose(drawn(4, kind, 0.5, keys, 4), found).any()


def test_first_values_have_the_distribution_that_they_say():
    keys = np.arange(20_000)
    normal, uniform = (drawn(0, kind, 2.0, keys, 3) for kind in (key_index.NORMAL, key_index.UNIFORM))
    assert stats.kstest(normal.ravel() / 2, "norm").pvalue > 0.001
    assert stats.kstest(uniform.ravel(), "uniform", (-2, 4)).pvalue > 0.001
    assert np.abs(np.corrcoef(normal.T) - np.eye(3)).max() < 0.03
