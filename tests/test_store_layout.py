"""Layout: what is cut into shards comes together again; numbers that float64 does not hold are refused."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.errors import CheckpointError, StoreError
from dparallel.store.layout import Layout, initial_values
from dparallel.store.optimizers import Adam
from dparallel.store.shard import ParameterShard
from dparallel.store.states import pack, unpack

SHAPES = st.dictionaries(
    st.text(max_size=4), st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=4
)


@given(SHAPES, st.integers(1, 5))
def test_what_is_split_comes_together_again(shapes, n_shards):
    layout = Layout.even(shapes, n_shards)
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    parts = layout.split(values)
    assert len(parts) == layout.n_shards == n_shards
    for name, array in values.items():
        sizes = [len(part[name]) for part in parts]
        assert sum(sizes) == array.size and max(sizes) - min(sizes) <= 1
    joined = layout.join(parts)
    assert list(joined) == list(shapes)
    for name, array in values.items():
        assert joined[name].shape == shapes[name]
        np.testing.assert_array_equal(joined[name], array)


@given(SHAPES, st.integers(1, 5))
def test_layout_survives_pickle_and_json(shapes, n_shards):
    layout = Layout.even(shapes, n_shards)
    assert pickle.loads(pickle.dumps(layout)) == layout
    assert Layout.from_dict(json.loads(json.dumps(layout.as_dict()))) == layout
    assert layout.size_bytes == 8 * sum(int(np.prod(shape)) for shape in shapes.values())


def test_rooms_are_filled_shard_by_shard():
    layout = Layout.even({"W": (2, 3), "b": (1,)}, 2)
    arrays, rooms = layout.rooms(["W", "b"])
    for number, room in enumerate(rooms):
        for view in room.values():
            view[...] = number
    np.testing.assert_array_equal(arrays["W"], [[0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(arrays["b"], [1])


@pytest.mark.parametrize("kind", ["float32", "float16", "int64", "uint8", "bool", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_kind_and_order_become_float64_in_rows(kind, order):
    given_array = np.asarray(np.arange(6).reshape(2, 3) % 2, dtype=kind, order=order)
    parts = Layout.even({"W": (2, 3)}, 2).split({"W": given_array})
    assert [part["W"].dtype for part in parts] == [np.dtype(np.float64)] * 2
    assert np.concatenate([part["W"] for part in parts]).tolist() == [0, 1, 0, 1, 0, 1]


def test_float64_is_not_copied():
    array = np.ones((4, 5))
    assert all(np.shares_memory(part["W"], array) for part in Layout.even({"W": (4, 5)}, 3).split({"W": array}))


@pytest.mark.filterwarnings("error")
def test_finite_numbers_whose_sum_overflows_are_taken():
    Layout.even({"W": (4,)}).split({"W": np.array([1e308, 1e308, -1e308, 1e308])})


@pytest.mark.parametrize(
    "values, words",
    [
        ({"V": np.zeros(3)}, "no array 'V'. It has 'W', 'b'"),
        ({("W",): np.zeros(3)}, "no array"),
        ({"W": np.zeros(6)}, r"'W' has shape \(2, 3\) on the store, and \(6,\)"),
        ({"W": np.zeros((3, 2))}, r"\(3, 2\)"),
        ({"b": [1.0, np.nan, 0.0]}, "'b' holds NaN or infinity.*learning rate"),
        ({"b": [1.0, np.inf, -np.inf]}, "NaN or infinity"),
        ({"b": [2**53 + 1, 0, 0]}, "beyond 2"),
        ({"b": np.array([2**64 - 1, 0, 0], dtype=np.uint64)}, "beyond 2"),
        ({"b": ["x", "y", "z"]}, "'b' must be real numbers"),
        ({"b": np.zeros(3, complex)}, "complex128"),
        ({"b": [[1.0], [1.0, 2.0]]}, "'b' is no array"),
        ({"b": np.array([None, 1, 2])}, "object"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_values_that_do_not_fit_are_named(values, words):
    with pytest.raises(StoreError, match=words):
        Layout.even({"W": (2, 3), "b": (3,)}, 2).split(values)


def test_initial_values_are_zeros_of_a_shape_or_the_given_numbers():
    values = initial_values({"W": (2, 3), "b": 4, "c": np.array([1, 2]), "s": ()})
    assert {name: array.shape for name, array in values.items()} == {"W": (2, 3), "b": (4,), "c": (2,), "s": ()}
    assert all(array.dtype == np.float64 for array in values.values())
    assert values["c"].tolist() == [1.0, 2.0] and not values["W"].any()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: initial_values({}), "at least one array"),
        (lambda: initial_values({1: (2,)}), "must be a str"),
        (lambda: initial_values({"W": (2, -1)}), r"\(2, -1\)"),
        (lambda: initial_values({"W": (2, 1.5)}), "whole numbers"),
        (lambda: initial_values({"W": np.array([np.nan])}), "NaN"),
        (lambda: Layout.even({"W": (2,)}, 0), "n_shards=0"),
        (lambda: Layout.even({}), "at least one"),
    ],
)
def test_wrong_beginnings_are_named(call, words):
    with pytest.raises(StoreError, match=words):
        call()


def two_states():
    layout = Layout.even({"W": (3, 2), "a/b": (1,)}, 2)
    parts = layout.split({"W": np.arange(6.0).reshape(3, 2), "a/b": np.ones(1)})
    shards = [ParameterShard(part, dict.fromkeys(part, Adam(0.5)), 0, 2) for part in parts]
    return layout, [shard.state() for shard in shards]


def test_states_of_all_shards_are_unpacked_as_they_were_packed():
    layout, states = two_states()
    arrays, document = pack(layout, states)
    again, unpacked = unpack(arrays, json.loads(json.dumps(document)))
    assert again == layout
    for (held, described), (held_again, described_again) in zip(states, unpacked, strict=True):
        assert described == described_again and held.keys() == held_again.keys()
        assert all(held[key].tobytes() == held_again[key].tobytes() for key in held)


@pytest.mark.parametrize("damage", ["no layout", "a shard less", "no values", "another length", "layout of other kind"])
def test_states_that_are_none_are_refused(damage):
    arrays, document = pack(*two_states())
    if damage == "no layout":
        del document["layout"]
    elif damage == "a shard less":
        document["shards"].pop()
    elif damage == "no values":
        del arrays["1/values/W"]
    elif damage == "another length":
        arrays["1/values/W"] = np.zeros(2)
    else:
        document["layout"] = ["W"]
    with pytest.raises(CheckpointError):
        unpack(arrays, document)
