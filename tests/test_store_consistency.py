"""Clocks: which steps are new, which may start, in which order they may come."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.errors import ConsistencyError, StoreError
from dparallel.store import consistency
from dparallel.store.consistency import Clocks, as_step


def recorded(clocks, *steps):
    """Record the steps that are new and return the others."""
    old = []
    for step in steps:
        if clocks.is_new(step):
            clocks.record(step)
        else:
            old.append(step)
    return old


@given(st.lists(st.tuples(st.sampled_from([0, 1, 7, "handle"]), st.integers(0, 30)), max_size=200))
def test_without_staleness_each_step_is_new_once_in_any_order(steps):
    clocks, seen = Clocks(), set()
    for number, step in enumerate(steps):
        assert clocks.is_new(step) == (step not in seen)
        if step not in seen:
            clocks.record(step)
            seen.add(step)
        if number % 7 == 0:
            clocks = Clocks.from_state(json.loads(json.dumps(clocks.state())))
    partitions = {partition for partition, _ in seen if partition != "handle"}
    highest = {partition: max(clock for p, clock in seen if p == partition) for partition in partitions}
    assert clocks.progress() == {partition: clock + 1 for partition, clock in highest.items()}


@given(
    st.sampled_from([0, 1, 3, 8]),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), max_size=300),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3)), max_size=3),
)
def test_with_staleness_a_step_is_accepted_exactly_if_it_is_next_and_may_start(staleness, steps, finishes):
    clocks, upcoming, finished = Clocks(staleness, 4), [0] * 4, set()
    for number, (partition, clock) in enumerate(steps):
        for moment, gone in finishes:
            if moment == number:
                clocks.finish(gone)
                finished.add(gone)
        waited_for = [upcoming[other] for other in range(4) if other not in finished]
        slowest = min(waited_for) if waited_for else max(upcoming)
        assert clocks.slowest == slowest
        assert clocks.may_start(clock) == (not waited_for or clock - slowest <= staleness)
        if clock < upcoming[partition]:
            assert not clocks.is_new((partition, clock))
        elif clock == upcoming[partition] and partition not in finished and clock - slowest <= staleness:
            assert clocks.is_new((partition, clock))
            clocks.record((partition, clock))
            upcoming[partition] += 1
        else:
            with pytest.raises(ConsistencyError):
                clocks.is_new((partition, clock))
        assert clocks.progress() == dict(enumerate(upcoming))


@given(st.sampled_from([0, 1, 3]), st.lists(st.integers(0, 2), max_size=40), st.integers(0, 2))
def test_state_survives_json(staleness, partitions, gone):
    clocks, upcoming = Clocks(staleness, 3), [0] * 3
    for partition in partitions:
        if clocks.may_start(upcoming[partition]):
            clocks.record((partition, upcoming[partition]))
            upcoming[partition] += 1
    clocks.finish(gone)
    again = Clocks.from_state(json.loads(json.dumps(clocks.state())))
    assert again.state() == clocks.state()
    assert (again.slowest, again.progress()) == (clocks.slowest, clocks.progress())
    assert again.unfinished == clocks.unfinished


def test_late_step_of_a_handle_is_not_lost():
    clocks = Clocks()
    assert not recorded(clocks, ("a", 2), ("a", 5), ("a", 0), ("a", 4), ("a", 1), ("a", 3))
    assert recorded(clocks, *(("a", clock) for clock in range(6))) == [("a", clock) for clock in range(6)]


def test_memory_of_handles_is_bounded_and_keeps_the_newest(monkeypatch):
    monkeypatch.setattr(consistency, "N_HANDLES", 3)
    clocks = Clocks()
    assert not recorded(clocks, ("a", 1), ("b", 0), ("c", 0), ("a", 2), ("d", 0))
    assert recorded(clocks, ("a", 2), ("c", 0), ("d", 0)) == [("a", 2), ("c", 0), ("d", 0)]
    assert clocks.is_new(("b", 0))
    assert len(clocks.state()["handles"]) == 3


def test_memory_of_passed_clocks_is_bounded():
    clocks = Clocks()
    recorded(clocks, *((0, 2 * number + 1) for number in range(5000)))
    assert len(clocks.state()["gaps"][0][1]) == consistency.N_GAPS
    assert clocks.is_new((0, 9998)) and not clocks.is_new((0, 9999))


def test_finished_partition_holds_nobody_up():
    clocks = Clocks(1, 3)
    recorded(clocks, (0, 0), (0, 1), (1, 0))
    assert not clocks.may_start(2)
    clocks.finish(2)
    assert clocks.may_start(2) and clocks.slowest == 1
    clocks.finish(2)
    assert clocks.unfinished == {0, 1}


def test_once_all_are_finished_everything_may_start():
    clocks = Clocks(0, 2)
    recorded(clocks, (0, 0), (1, 0), (0, 1))
    clocks.finish(0)
    clocks.finish(1)
    assert clocks.slowest == 2 and clocks.may_start(1_000_000)


@pytest.mark.parametrize(
    "staleness, steps, step, words",
    [
        (0, [], (0, 1), "the next step of the partition is 0"),
        (0, [(0, 0)], (0, 1), "slowest partition has completed 0 steps.*clock=1"),
        (3, [(0, 0)], (0, 2), "the next step of the partition is 1"),
        (0, [], ("handle", 0), r"Give step=\(partition, clock\)"),
    ],
)
def test_step_out_of_order_is_refused(staleness, steps, step, words):
    clocks = Clocks(staleness, 2)
    recorded(clocks, *steps)
    with pytest.raises(ConsistencyError, match=words):
        clocks.is_new(step)


def test_step_of_a_finished_partition_is_refused_unless_it_came_before():
    clocks = Clocks(2, 2)
    recorded(clocks, (0, 0))
    clocks.finish(0)
    assert not clocks.is_new((0, 0))
    with pytest.raises(ConsistencyError, match="finished after 1 steps"):
        clocks.is_new((0, 1))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Clocks(0), "Give n_partitions"),
        (lambda: Clocks(-1, 2), "staleness=-1"),
        (lambda: Clocks(1.5, 2), "staleness=1.5"),
        (lambda: Clocks(None, 0), "n_partitions=0"),
        (lambda: Clocks(0, 2).is_new((2, 0)), "no partition 2.*n_partitions=2"),
        (lambda: Clocks(None, 2).is_new((9, 0)), "no partition 9"),
        (lambda: Clocks(0, 2).finish(2), "no partition 2"),
        (lambda: as_step((0, -1)), "negative"),
        (lambda: as_step((-1, 0)), "negative"),
        (lambda: as_step(3), "no pair"),
        (lambda: as_step((0, 1.0)), "no pair"),
        (lambda: as_step((None, 1)), "no pair"),
    ],
)
def test_wrong_numbers_are_named(call, words):
    with pytest.raises(StoreError, match=words):
        call()


def test_steps_of_numpy_kinds_become_plain():
    partition, clock = as_step(np.array([3, 4]))
    assert (type(partition), type(clock)) == (int, int) and (partition, clock) == (3, 4)
