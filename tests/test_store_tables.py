"""Sparse tables in one process: the same numbers as a dict of rows, and as a dense array where that holds them all."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel import ParameterStore, SparseTable
from dparallel.errors import StoreError
from dparallel.place import Local
from dparallel.store import FTRL, SGD, Adagrad, Adam, Add
from dparallel.store.layout import FullUpdate, Layout
from dparallel.store.local import LocalTransport
from dparallel.store.rows import distinct, summed

OPTIMIZERS = [Add(), SGD(0.05), Adagrad(0.3, 0.1), Adam(0.05), FTRL(0.3, l1=0.05, l2=0.01)]
NAMES = [optimizer.name for optimizer in OPTIMIZERS]


def open_table(optimizer, table=None, n_shards=1, **options):
    options = {"n_shards": n_shards, **options}
    return LocalTransport.create({"T": table or SparseTable(width=2)}, {"T": optimizer}, **options)


def pull(transport, keys=None, clock=None):
    return transport.exchange((), ["T"], clock, keys=None if keys is None else {"T": keys}).parameters["T"]


# against twins


@given(st.integers(0, 10_000), st.sampled_from(OPTIMIZERS), st.sampled_from([1, 3]), st.sampled_from([None, 0]))
def test_rows_change_as_those_of_a_dict(seed, optimizer, n_shards, staleness):
    """Each row has its own slots and its own count of updates; repeated keys are added up first."""
    rng, table = np.random.default_rng(seed), SparseTable(2, "normal", 1.0, seed)
    transport = open_table(optimizer, table, n_shards, staleness=staleness, n_partitions=1)
    twin = {}
    for clock in range(5):
        keys = rng.integers(-5, 5, 7) * 10**15
        rows = rng.normal(size=(7, 2))
        transport.exchange([FullUpdate((0, clock), {"T": (keys, rows)})], ())
        for key in dict.fromkeys(keys.tolist()):
            first = table.first_rows(np.array([key]))[0]
            values, slots, count = twin.setdefault(key, (first, optimizer.slots(first), []))
            count.append(key)
            optimizer.apply(values, slots, rows[keys == key].sum(axis=0), len(count))
    wanted = np.arange(-6, 6) * 10**15
    expected = [twin[key][0] if key in twin else table.first_rows(np.array([key]))[0] for key in wanted.tolist()]
    np.testing.assert_allclose(pull(transport, wanted), expected, rtol=1e-13, atol=1e-13)
    found_keys, found_rows = pull(transport)
    assert found_keys.tolist() == sorted(twin)
    np.testing.assert_allclose(found_rows, [twin[key][0] for key in sorted(twin)], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=NAMES)
def test_sparse_and_dense_agree_where_every_key_is_touched(optimizer, n_shards):
    rng, n = np.random.default_rng(0), 40
    table = SparseTable(3, "normal", 0.5, 9)
    keys = rng.permutation(n) * 10**12
    first = table.first_rows(keys)
    parameters, optimizers = {"T": table, "W": first}, {"T": optimizer, "W": optimizer}
    transport = LocalTransport.create(parameters, optimizers, n_shards=n_shards)
    for clock in range(200):
        update, order = rng.normal(size=(n, 3)), rng.permutation(n)
        transport.exchange([FullUpdate((0, clock), {"T": (keys[order], update[order]), "W": update})], ())
    found = transport.exchange((), keys={"T": keys}).parameters
    np.testing.assert_allclose(found["T"], found["W"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if o.name != "adam"], ids=lambda optimizer: optimizer.name)
def test_laziness_is_exact_where_a_zero_update_changes_nothing(optimizer):
    rng, n = np.random.default_rng(1), 40
    parameters, optimizers = {"T": SparseTable(), "W": n}, {"T": optimizer, "W": optimizer}
    transport = LocalTransport.create(parameters, optimizers)
    for clock in range(200):
        keys = rng.permutation(n)[:5]
        update = np.zeros(n)
        update[keys] = rng.normal(size=5)
        transport.exchange([FullUpdate((0, clock), {"T": (keys, update[keys]), "W": update})], ())
    found = transport.exchange((), keys={"T": np.arange(n)}).parameters
    np.testing.assert_allclose(found["T"], found["W"], rtol=1e-10, atol=1e-10)


def test_ftrls_zeros_are_exact_and_grow_with_l1():
    n, shares = 2000, []
    for l1 in (0.0, 0.5, 2.0, 8.0):
        transport = open_table(FTRL(0.1, l1=l1), SparseTable())
        draws = np.random.default_rng(3)
        for clock in range(20):
            keys = draws.permutation(n)[:500]
            transport.exchange([FullUpdate((0, clock), {"T": (keys, draws.normal(size=500))})], ())
        shares.append(np.mean(pull(transport, np.arange(n)) == 0))
    assert shares == sorted(shares)
    assert shares[0] < 0.02 < 0.2 < shares[2] < shares[3]


# reading


@given(st.lists(st.integers(-4, 4), max_size=12), st.sampled_from([1, 2, 5]))
def test_rows_come_in_the_order_of_the_keys_whatever_repeats(keys, n_shards):
    transport = open_table(Add(), SparseTable(), n_shards)
    transport.exchange([FullUpdate((0, 0), {"T": (keys, np.ones(len(keys)))})], ())
    wanted = [*keys, 99, *keys[::-1]]
    np.testing.assert_array_equal(pull(transport, wanted), [keys.count(key) for key in wanted])


def test_pulls_of_rows_that_nobody_touched_store_nothing():
    transport = open_table(Add(), SparseTable(4, "normal", seed=1), n_shards=2)
    transport.exchange([FullUpdate((0, 0), {"T": ([5], np.zeros((1, 4)))})], ())
    before = [station.shard.size_bytes for station in transport._stations]
    first = pull(transport, np.arange(10_000))
    assert [station.shard.size_bytes for station in transport._stations] == before
    np.testing.assert_array_equal(pull(transport, np.arange(10_000)), first)
    assert pull(transport)[0].tolist() == [5]


def test_the_previous_clock_is_read_in_step():
    transport = open_table(Add(), SparseTable(), staleness=0, n_partitions=2)

    def push(partition, clock, keys):
        transport.exchange([FullUpdate((partition, clock), {"T": (keys, np.ones(len(keys)))})], ())

    keys = [1, 2, 3, 4]
    push(0, 0, [1, 2])
    np.testing.assert_array_equal(pull(transport, keys, 0), np.zeros(4))
    push(1, 0, [2, 3])
    push(0, 1, [3, 4])
    push(1, 1, [3])
    np.testing.assert_array_equal(pull(transport, keys, 1), [1, 2, 1, 0])
    np.testing.assert_array_equal(pull(transport, keys, 2), [1, 2, 3, 1])
    assert pull(transport, None, 1)[0].tolist() == [1, 2, 3]
    arrays, document = transport.state()
    again = LocalTransport.from_state(arrays, json.loads(json.dumps(document)))
    np.testing.assert_array_equal(pull(again, keys, 1), [1, 2, 1, 0])
    np.testing.assert_array_equal(pull(again, keys, 2), [1, 2, 3, 1])


def test_names_and_keys_say_what_is_read():
    with ParameterStore({"b": 2, "T": SparseTable(), "U": SparseTable(2)}, optimizer="add", place=Local(1)) as store:
        store.push({"T": ([1], [1.0]), "U": ([2], [[3.0, 4.0]]), "b": [1, 1]}, step=(0, 0))
        assert list(store.pull()) == ["b", "T", "U"]
        assert list(store.pull(keys={"U": [2]})) == ["b", "U"]
        assert list(store.pull(["U", "b"], keys={"U": [2]})) == ["U", "b"]
        assert store.pull("T", keys=[]).shape == (0,)
        assert store.pull("U", keys=[7, 8, 9]).shape == (3, 2)
        keys, rows = store.pull("U")
        assert (keys.tolist(), rows.tolist()) == ([2], [[3.0, 4.0]])
        found = store.handle().pushpull({"T": ([1, 1], [1.0, 2.0])}, "T", step=(0, 1), keys=[1, 5])
        assert found.tolist() == [4.0, 0.0]


# refusals


@pytest.mark.parametrize(
    "values, words",
    [
        ({"T": [1.0, 2.0, 3.0]}, r"'T' is a sparse table, and list was given. Give a pair \(keys, rows\)"),
        ({"T": ([1, 2], [1.0, 2.0])}, r"2 keys of 'T' need rows of shape \(2, 2\), and \(2,\) was given"),
        ({"T": ([1.5], [[1.0, 2.0]])}, "keys of 'T' must be whole numbers.*float64"),
        ({"T": ([True], [[1.0, 2.0]])}, "whole numbers"),
        ({"T": ([[1]], [[1.0, 2.0]])}, "whole numbers"),
        ({"T": (np.array([2**63], np.uint64), [[1.0, 2.0]])}, "beyond int64"),
        ({"T": ([1], [[1.0, np.nan]])}, "NaN"),
        ({"U": ([1], [[1.0, 2.0]])}, "no array 'U'"),
    ],
)
def test_updates_that_do_not_fit_are_named_and_change_nothing(values, words):
    transport = open_table(Add())
    with pytest.raises(StoreError, match=words):
        transport.exchange([FullUpdate((0, 0), values)], ())
    assert pull(transport)[0].size == 0
    assert transport.progress() == {}


@pytest.mark.parametrize(
    "names, keys, words",
    [
        (["b"], {"b": [1]}, "'b', which is no sparse table.*tables are 'T'"),
        (["b"], {"T": [1]}, "'T'"),
        (["T"], {"T": ["x"]}, "Hash names to int64"),
        (["T"], {"V": [1]}, "'V'"),
    ],
)
def test_keys_that_do_not_fit_are_named(names, keys, words):
    with ParameterStore({"b": 2, "T": SparseTable()}, optimizer="add", place=Local(1)) as store:
        with pytest.raises(StoreError, match=words):
            store.pull(names, keys=keys)
        with pytest.raises(StoreError, match="keys must be a dict"):
            store.pull(["T", "b"], keys=[1])


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_optimizers_that_move_rows_which_no_push_names_are_refused(name):
    with pytest.raises(StoreError, match=f"'{name}' goes on moving rows.*'T'. Use add"):
        ParameterStore({"T": SparseTable()}, optimizer=name, place=Local(1))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"width": 0}, "width=0.*None or a whole number"),
        ({"width": 1.5}, "width=1.5"),
        ({"initial": "gamma"}, "initial='gamma'.*'uniform', 'normal'"),
        ({"initial": np.nan}, "finite"),
        ({"scale": 0}, "scale=0.*positive"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_tables_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(StoreError, match=words):
        SparseTable(**settings)


# what travels


@given(st.lists(st.integers(-3, 3), max_size=20))
def test_repeated_keys_are_added_up(keys):
    keys = np.array(keys, np.int64)
    rows = np.random.default_rng(len(keys)).integers(0, 9, (len(keys), 2)).astype(float)
    found = summed(keys, rows)
    assert found.keys.tolist() == list(dict.fromkeys(keys.tolist()))
    expected = [rows[keys == key].sum(axis=0) for key in found.keys]
    np.testing.assert_array_equal(found.values, np.reshape(expected, (-1, 2)))
    once, places = distinct(keys)
    np.testing.assert_array_equal(once if places is None else once[places], keys)


def test_each_shard_gets_its_keys_and_nothing_more():
    layout = Layout.even({"T": (-1, 2)}, 3)
    keys = np.arange(3000)
    parts = layout.split({"T": (keys, np.stack([keys, -keys], axis=1))})
    assert sorted(np.concatenate([part["T"].keys for part in parts]).tolist()) == keys.tolist()
    assert all(800 < len(part["T"].keys) < 1200 for part in parts)
    assert all((part["T"].values == np.stack([part["T"].keys, -part["T"].keys], axis=1)).all() for part in parts)
    assert Layout.from_dict(json.loads(json.dumps(layout.as_dict()))) == layout
    assert layout.split({"T": ([], np.empty((0, 2)))}) == ({}, {}, {})
