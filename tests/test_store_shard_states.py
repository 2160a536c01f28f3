"""ParameterShard: a change is whole or has not begun, and a state goes on bit for bit."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.errors import CheckpointError, StoreError
from dparallel.store.optimizers import Adam, Momentum, Optimizer
from dparallel.store.shard import ParameterShard, Update
from tests.toy_shards import bits, copy_of, gradient, interrupted, new_shard

# all or nothing


@dataclass(frozen=True)
class Bursting(Optimizer):
    """Adds, but raises at the update of that number, half done."""

    name = "bursting"
    slot_names = ("noise",)
    burst_at = 4

    def _step(self, values, slots, update, count, rooms):
        values += update
        slots[0][...] = count
        if count == self.burst_at:
            raise MemoryError("no room")


@pytest.mark.parametrize("staleness", [None, 3, 0])
def test_error_half_way_changes_nothing(staleness):
    names = ["a", "b", "c"]
    optimizers = {"a": Momentum(0.1), "b": Bursting(), "c": Adam(0.1)}
    shard = ParameterShard({name: np.zeros(4) for name in names}, optimizers, staleness, 2)

    def update(step):
        return Update(step, {name: np.full(4, 1.0 + step[1]) for name in names}, 0)

    for step in [(0, 0), (1, 0), (0, 1)]:
        assert shard.push(update(step))
    before = bits(shard)
    for _ in range(3):
        with pytest.raises(MemoryError):
            shard.push(update((1, 1)))
        assert bits(shard) == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bursting, "burst_at", 0)
        assert shard.push(update((1, 1)))
    assert shard.version == 4
    np.testing.assert_array_equal(shard.pull(["b"]).values["b"], np.full(4, 1.0 + 1 + 2 + 2))


def test_error_half_way_leaves_the_previous_clock_of_an_array_that_was_left_alone():
    shard = ParameterShard({"a": np.zeros(4), "b": np.zeros(4)}, {"a": Momentum(0.1), "b": Bursting()}, 0, 1)
    ones = {"a": np.ones(4), "b": np.ones(4)}
    for clock, values in enumerate([ones, {"b": np.ones(4)}, ones]):
        shard.push(Update((0, clock), values))
    before = bits(shard)
    with pytest.raises(MemoryError):
        shard.push(Update((0, 3), ones))
    assert bits(shard) == before


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"b": np.ones(2), "V": np.ones(2)}, "no array 'V'.*'W', 'b'"),
        ({"b": np.ones(2), "W": np.ones(6)}, "7 numbers of 'W', and 6"),
        ({"b": np.ones(2), "W": np.ones((7, 1))}, r"'W'.*\(7, 1\)"),
        ({"b": np.ones(2), "W": np.array(["x"] * 7)}, "'W'.*<U1"),
    ],
)
@pytest.mark.parametrize("staleness", [None, 0])
def test_wrong_update_changes_nothing(wrong, words, staleness):
    shard = new_shard(staleness, 1)
    before = bits(shard)
    with pytest.raises(StoreError, match=words):
        shard.push(Update((0, 0), wrong))
    assert bits(shard) == before


@pytest.mark.parametrize("action", ["push", "finish"])
@pytest.mark.parametrize("staleness", [None, 2, 0])
def test_interrupt_at_any_call_leaves_the_old_or_the_new_state(staleness, action):
    start = new_shard(staleness, 2)
    for step in [(0, 0), (1, 0), (0, 1)]:
        start.push(Update(step, gradient(*step), 0))
    change = {"push": lambda shard: shard.push(Update((1, 1), gradient(1, 1), 2)), "finish": lambda s: s.finish(1)}
    old, done = bits(start), copy_of(start)
    change[action](done)
    number = 1
    while True:
        shard = copy_of(start)
        hit = interrupted(number, lambda shard=shard: change[action](shard))
        assert bits(shard) in ([old, bits(done)] if hit else [bits(done)])
        change[action](shard)  # as a caller that tries again
        assert bits(shard) == bits(done)
        for step in [(0, 2), (0, 3)]:
            if shard.ready(step[1]):
                shard.push(Update(step, gradient(*step)))
        assert np.isfinite(shard.pull().values["W"]).all()
        if not hit:
            break
        number += 1
    assert number > 5


# states


@given(st.sampled_from([None, 0, 2]), st.integers(0, 12), st.data())
def test_state_in_the_middle_of_a_clock_goes_on_bit_for_bit(staleness, moment, data):
    steps = [(p, clock) for clock in range(4) for p in data.draw(st.permutations(range(3)))]
    shard = new_shard(staleness, 3)
    for step in steps[:moment]:
        shard.push(Update(step, gradient(*step), shard.version))
    again = copy_of(shard)
    assert bits(again) == bits(shard)
    for step in steps[moment:]:
        for one in (shard, again):
            one.push(Update(step, gradient(*step), one.version))
            one.push(Update(step, gradient(*step), one.version))
        assert bits(again) == bits(shard)
    shard.finish(0)
    again.finish(0)
    assert bits(again) == bits(shard)


def test_state_is_a_copy_both_ways():
    shard = new_shard(0)
    for step in [(0, 0), (1, 0), (2, 0), (1, 1)]:
        shard.push(Update(step, gradient(*step)))
    before = bits(shard)
    arrays, document = shard.state()
    again = ParameterShard.from_state(arrays, document)
    for array in arrays.values():
        array[...] = 77
    assert bits(shard) == bits(again) == before


def test_state_of_read_only_arrays_can_be_gone_on_from():
    arrays, document = new_shard().state()
    for array in arrays.values():
        array.flags.writeable = False
    shard = ParameterShard.from_state(arrays, document)
    assert all(shard.push(Update((0, clock), gradient(0, clock))) for clock in range(3))


@pytest.mark.parametrize("damage", ["no values", "no slots", "short slots", "no clocks", "wrong pending", "empty"])
def test_state_that_is_none_is_refused(damage):
    shard = new_shard(0)
    shard.push(Update((1, 0), gradient(1, 0)))
    arrays, document = shard.state()
    if damage == "no values":
        del arrays["values/W"]
    elif damage == "no slots":
        del arrays["slots/mean/W"]
    elif damage == "short slots":
        arrays["slots/mean/W"] = np.zeros(3)
    elif damage == "no clocks":
        document["clocks"] = None
    elif damage == "wrong pending":
        document["pending"] = [[1, 0]]
    else:
        document = {}
    with pytest.raises(CheckpointError, match="no shard"):
        ParameterShard.from_state(arrays, document)
