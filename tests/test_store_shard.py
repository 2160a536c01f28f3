"""ParameterShard: exactly once, bulk-synchronous commits, gates, copies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.errors import ConsistencyError, StoreError
from dparallel.store.optimizers import SGD, Add
from dparallel.store.shard import ParameterShard, Update
from tests.toy_shards import gradient, new_shard, values_of


def serial(n_clocks, n_partitions=3):
    """Return the values before each clock of the serial loop, partition after partition, and after the last."""
    shard, before = new_shard(None, n_partitions), []
    for clock in range(n_clocks):
        before.append(values_of(shard.pull()))
        for partition in range(n_partitions):
            shard.push(Update((partition, clock), gradient(partition, clock)))
    return [*before, values_of(shard.pull())]


# exactly once


@given(st.permutations([(p, c) for p in range(3) for c in range(6)] * 2))
def test_steps_in_any_order_and_doubled_count_once(steps):
    shard = ParameterShard({"n": np.zeros(3)}, {"n": Add()})
    new = [shard.push(Update(step, {"n": np.full(3, 10.0 ** step[0] * 2 ** step[1])})) for step in steps]
    assert sum(new) == 18 and shard.version == 18
    np.testing.assert_array_equal(shard.pull().values["n"], np.full(3, 111 * 63))


@given(st.sampled_from([0, 1, 3]), st.integers(0, 10_000))
def test_gated_steps_shuffled_and_doubled_count_once(staleness, seed):
    rng = np.random.default_rng(seed)
    shard = ParameterShard({"n": np.zeros(1)}, {"n": Add()}, staleness, 3)
    missing = {(partition, clock) for partition in range(3) for clock in range(5)}
    while missing:
        step = (int(rng.integers(3)), int(rng.integers(5)))
        try:
            is_new = shard.push(Update(step, {"n": np.array([10.0 ** step[0] * 2 ** step[1]])}))
        except ConsistencyError:
            assert step in missing  # refused, to be sent again: not lost
        else:
            assert is_new == (step in missing)
            missing.discard(step)
    np.testing.assert_array_equal(shard.pull().values["n"], [111 * 31])
    assert shard.version == 15 and shard.progress() == {0: 5, 1: 5, 2: 5}


# bulk-synchronous


@given(st.integers(1, 4), st.data())
def test_commits_are_bit_identical_to_the_serial_loop_in_any_order_of_arrival(n_partitions, data):
    shard, expected = new_shard(0, n_partitions), serial(4, n_partitions)
    for clock in range(4):
        for partition in data.draw(st.permutations(range(n_partitions))):
            assert values_of(shard.pull(clock=clock)) == expected[clock]
            assert shard.push(Update((partition, clock), gradient(partition, clock)))
            assert not shard.push(Update((partition, clock), gradient(partition, clock)))
        assert values_of(shard.pull(clock=clock + 1)) == values_of(shard.pull()) == expected[clock + 1]
        assert values_of(shard.pull(clock=clock)) == expected[clock]
    assert shard.version == 4 * n_partitions


def test_previous_clock_is_served_and_older_ones_refused():
    shard, expected = new_shard(0), serial(3)
    for clock in range(3):
        for partition in range(3):
            shard.push(Update((partition, clock), gradient(partition, clock)))
    current, previous = shard.pull(clock=3), shard.pull(clock=2)
    assert (current.version, current.clock, values_of(current)) == (9, 3, expected[3])
    assert (previous.version, previous.clock, values_of(previous)) == (6, 2, expected[2])
    with pytest.raises(ConsistencyError, match=r"clock 1 reads was superseded.*progress\(\)"):
        shard.pull(clock=1)
    assert not shard.ready(4)
    with pytest.raises(ConsistencyError, match="clock 4 may not start yet"):
        shard.pull(clock=4)


def test_waiting_update_is_copied_unless_it_is_owned():
    shard, owned, lent = new_shard(0, 3), {"W": np.ones(7)}, {"W": np.ones(7)}
    shard.push(Update((0, 0), owned), is_owned=True)
    shard.push(Update((1, 0), lent))
    lent["W"][:] = np.nan
    assert shard.state()[0]["pending/1/W"].tolist() == [1.0] * 7
    owned["W"][:] = 2.0
    assert shard.state()[0]["pending/0/W"].tolist() == [2.0] * 7


def test_finish_commits_the_clock_that_waited_only_for_it():
    shard, reference = new_shard(0, 3), new_shard(None, 3)
    for partition in (2, 0):
        shard.push(Update((partition, 0), gradient(partition, 0)))
    for partition in (0, 2):
        reference.push(Update((partition, 0), gradient(partition, 0)))
    shard.finish(1)
    assert values_of(shard.pull(clock=1)) == values_of(reference.pull())
    assert shard.version == 2 and shard.clock == 1


def test_finished_partitions_last_step_is_committed_with_the_others():
    shard, expected = new_shard(0, 2), serial(1, 2)
    shard.push(Update((1, 0), gradient(1, 0)))
    shard.finish(1)
    assert shard.clock == 0
    shard.push(Update((0, 0), gradient(0, 0)))
    assert values_of(shard.pull(clock=1)) == expected[1]
    shard.finish(0)
    assert shard.ready(99)


# stale-synchronous and asynchronous


def test_gate_opens_once_the_slowest_is_within_the_staleness():
    shard = new_shard(2, 3)
    for clock in range(3):
        shard.push(Update((0, clock), gradient(0, clock)))
    assert shard.ready(2) and not shard.ready(3)
    shard.push(Update((1, 0), gradient(1, 0)))
    assert not shard.ready(3)
    shard.push(Update((2, 0), gradient(2, 0)))
    assert shard.ready(3) and shard.pull(clock=3).clock == 1
    assert not shard.ready(4)


def test_staleness_counts_the_updates_since_the_base():
    shard = new_shard()
    bases = [0, 0, 2, 1, None, 50]
    for clock, base in enumerate(bases):
        shard.push(Update((0, clock), gradient(0, clock), base))
    assert shard.staleness == {0: 3, 1: 1, 2: 1}
    synchronous = new_shard(0)
    for clock in range(2):
        for partition in (2, 1, 0):
            synchronous.push(Update((partition, clock), gradient(partition, clock), 3 * clock))
    assert synchronous.staleness == {0: 6}


def test_snapshot_is_owned_by_the_receiver():
    shard = new_shard()
    first = shard.pull(["W"])
    expected = first.values["W"].copy()
    for clock in range(3):
        shard.push(Update((0, clock), gradient(0, clock)))
    np.testing.assert_array_equal(first.values["W"], expected)
    first.values["W"][:] = np.nan
    assert np.isfinite(shard.pull().values["W"]).all()


def test_first_values_are_copied():
    given_values = np.ones(3)
    shard = ParameterShard({"W": given_values}, {"W": Add()})
    for clock in range(4):
        shard.push(Update((0, clock), {"W": np.ones(3)}))
    np.testing.assert_array_equal(given_values, np.ones(3))


def test_arrays_and_optimizers_must_name_the_same():
    with pytest.raises(StoreError, match="one optimizer each"):
        ParameterShard({"W": np.zeros(2)}, {"V": SGD()})


def test_pull_of_an_unknown_name_is_refused():
    with pytest.raises(StoreError, match="no array 'V'"):
        new_shard().pull(["W", "V"])
