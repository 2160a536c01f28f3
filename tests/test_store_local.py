"""LocalTransport: the store of one process, under threads."""

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import numpy as np
import pytest

from dparallel import checkpoint
from dparallel.errors import ConsistencyError, NotYet, StoreError, StoreUnavailable
from dparallel.store.layout import FullUpdate, Reply
from dparallel.store.local import LocalTransport
from dparallel.store.optimizers import Adam, Add, Momentum
from tests.toy_shards import interrupted

LONG_S = 60.0  # nothing here takes that long: a wait that ends by it is a wake-up that was missed
GATE = "dparallel-store-gate"


def counting(staleness=None, n_partitions=2, n_shards=2, deadline_s=LONG_S, shape=(3, 4)):
    """Return a store that adds up an array."""
    return LocalTransport.create(
        {"n": shape},
        {"n": Add()},
        staleness=staleness,
        n_partitions=n_partitions,
        n_shards=n_shards,
        deadline_s=deadline_s,
    )


def one(step, number=1.0, shape=(3, 4), versions=None):
    return FullUpdate(step, {"n": np.full(shape, number)}, versions)


def run_in_threads(function, n_threads):
    """Run function(number) in so many threads at once; raise what one of them raised."""
    with ThreadPoolExecutor(n_threads) as pool:
        futures = [pool.submit(function, number) for number in range(n_threads)]
        _, hanging = wait_for(futures, timeout=LONG_S)
        assert not hanging
        return [future.result() for future in futures]


# what an exchange does


def test_exchange_pushes_in_order_and_reads():
    store = LocalTransport.create({"W": np.ones((2, 3)), "b": 2}, {"W": Add(), "b": Add()}, n_shards=2)
    ones = np.ones((2, 3))
    reply = store.exchange([FullUpdate((0, 0), {"W": ones}), FullUpdate((0, 1), {"W": ones, "b": [1.0, 2.0]})])
    assert isinstance(reply, Reply)
    np.testing.assert_array_equal(reply.parameters["W"], 3 * ones)
    np.testing.assert_array_equal(reply.parameters["b"], [1.0, 2.0])
    assert (reply.versions, reply.progress) == ((2, 2), {0: 2})
    assert store.exchange(names=()) == Reply({}, (2, 2), {0: 2})
    assert list(store.exchange(names=["b"]).parameters) == list(store.exchange(names="b").parameters) == ["b"]


def test_reply_is_owned_by_the_receiver():
    store = counting()
    first = store.exchange()
    first.parameters["n"][:] = np.nan
    second = store.exchange([one((0, 0))])
    store.exchange([one((0, 1)), one((0, 2))])
    np.testing.assert_array_equal(second.parameters["n"], np.ones((3, 4)))


@pytest.mark.parametrize("staleness", [None, 0, 2])
def test_wrong_update_or_name_is_refused_before_anything_is_applied(staleness):
    store = counting(staleness)
    with pytest.raises(StoreError, match="no array 'm'"):
        store.exchange([one((0, 0))], ["m"])
    with pytest.raises(StoreError, match=r"\(4, 3\)"):
        store.exchange([one((0, 0)), FullUpdate((0, 1), {"n": np.ones((4, 3))})])
    with pytest.raises(StoreError, match="no partition 2"):
        store.exchange([one((2, 0))])
    assert store.progress() == {0: 0, 1: 0} and store.statistics()["pushes"] == 0


def test_statistics_count_updates_once_over_all_shards():
    store = counting(n_shards=3)
    base = store.exchange().versions
    for step in [(0, 0), (1, 0), (0, 0)]:
        store.exchange([one(step, versions=base)], ())
    assert store.statistics() == {"pushes": 2, "pulls": 1, "duplicates": 1, "staleness": {0: 1, 1: 1}}


# consistency


@pytest.mark.parametrize("staleness, n_shards", [(0, 1), (0, 3), (1, 2), (3, 1), (8, 2)])
def test_no_partition_leads_by_more_than_the_staleness(staleness, n_shards):
    """All end up waiting for one another, so that each wake-up matters."""
    n_threads, n_clocks = 4, 2000
    store = counting(staleness, n_threads, n_shards)
    completed, leads = [0] * n_threads, []

    def run(partition):
        rng = np.random.default_rng(partition)
        updates = []
        for clock in range(n_clocks):
            reply = store.exchange(updates, clock=clock)
            leads.append(max(clock - min(completed), clock - min(reply.progress.values())))
            # everything up to clock - staleness - 1 of every partition was read
            assert reply.parameters["n"].min() >= n_threads * (clock - staleness)
            for _ in range(rng.integers(0, 20)):
                threading.Event().wait(0)  # lets another thread run
            completed[partition] = clock + 1  # before the push: never behind what the store knows
            updates = [one((partition, clock), versions=reply.versions)]
        store.exchange(updates, ())
        store.finish(partition)

    run_in_threads(run, n_threads)
    assert max(leads) <= staleness
    np.testing.assert_array_equal(store.exchange().parameters["n"], np.full((3, 4), 8000.0))


def test_gate_is_passed_up_to_the_staleness_and_no_further():
    store = counting(3, 2)
    for clock in range(4):
        store.exchange(clock=clock, wait_s=0)
        store.exchange([one((0, clock))], ())
    with pytest.raises(NotYet, match=r"clock 4 may not start.*completed 0 steps"):
        store.exchange([one((0, 3))], clock=4, wait_s=0)
    store.exchange([one((1, 0))], ())
    assert store.exchange(clock=4, wait_s=0).progress == {0: 4, 1: 1}


def test_not_yet_leaves_the_updates_applied():
    store = counting(0, 2, deadline_s=0.01)
    with pytest.raises(NotYet):
        store.exchange([one((1, 0))], clock=1)
    assert store.progress() == {0: 0, 1: 1}


@pytest.mark.parametrize("n_shards", [1, 2, 3])
def test_synchronous_threads_give_the_bits_of_the_serial_loop(n_shards):
    n_partitions, n_clocks = 3, 40

    def make(staleness):
        first = {"W": np.ones((4, 3)), "b": np.zeros(2)}
        optimizers = {"W": Adam(0.01), "b": Momentum(0.01)}
        return LocalTransport.create(
            first, optimizers, staleness=staleness, n_partitions=n_partitions, n_shards=n_shards, deadline_s=LONG_S
        )

    def update(partition, clock, parameters, versions=None):
        gradients = {name: np.cos(array * (partition + 1) + clock) for name, array in parameters.items()}
        return FullUpdate((partition, clock), gradients, versions)

    serial = make(None)
    for clock in range(n_clocks):
        parameters = serial.exchange().parameters
        serial.exchange([update(partition, clock, parameters) for partition in range(n_partitions)], ())
    store = make(0)

    def run(partition):
        updates = []
        for clock in range(n_clocks):
            reply = store.exchange(updates, clock=clock)
            updates = [update(partition, clock, reply.parameters, reply.versions)]
            again = store.exchange(clock=clock)  # as a step that is run again
            assert all(again.parameters[name].tobytes() == array.tobytes() for name, array in reply.parameters.items())
        store.exchange(updates, ())

    run_in_threads(run, n_partitions)
    ended, expected = store.exchange(clock=n_clocks).parameters, serial.exchange().parameters
    assert all(ended[name].tobytes() == array.tobytes() for name, array in expected.items())
    assert store.statistics()["staleness"] == {0: n_partitions * n_clocks}
    with pytest.raises(ConsistencyError, match="superseded"):
        store.exchange(clock=n_clocks - 2)


def test_every_update_counts_once_when_all_threads_push_all_of_them():
    store = counting(None, 3, n_shards=3)
    steps = [(partition, clock) for partition in range(3) for clock in range(100)]

    def run(number):
        for step in np.random.default_rng(number).permutation(steps):
            store.exchange([one(step)], ())

    run_in_threads(run, 4)
    np.testing.assert_array_equal(store.exchange().parameters["n"], np.full((3, 4), 300.0))
    counts = store.statistics()
    assert (counts["pushes"], counts["duplicates"]) == (300, 900)


@pytest.mark.parametrize("n_shards", [1, 3])
def test_no_pull_is_torn_under_full_writes(n_shards):
    shape = (60_000,)
    store = counting(None, 2, n_shards, shape=shape)
    is_over = threading.Event()

    def write(partition):
        clock = 0
        while not is_over.is_set():
            store.exchange([one((partition, clock), shape=shape)], ())
            clock += 1
        return clock

    def read():
        try:
            for _ in range(1000):
                reply = store.exchange()
                # one state of the whole store: every element of every shard has seen the same updates
                assert len(set(reply.versions)) == 1
                assert reply.parameters["n"].min() == reply.parameters["n"].max() == reply.versions[0]
        finally:
            is_over.set()

    written = run_in_threads(lambda number: write(number) if number < 2 else read(), 3)
    assert store.exchange().versions == (sum(written[:2]),) * n_shards


# in the background


def test_exchange_soon_returns_at_once_and_is_fulfilled_when_the_gate_opens():
    store = counting(0, 2)
    opened = store.exchange_soon(clock=0)
    assert opened.done() and opened.result().versions == (0, 0)
    waiting = store.exchange_soon([one((0, 0))], clock=1)
    assert not waiting.done() and store.progress() == {0: 1, 1: 0}
    store.exchange([one((1, 0), 10.0)], ())
    np.testing.assert_array_equal(waiting.result(LONG_S).parameters["n"], np.full((3, 4), 11.0))
    store.close()
    assert GATE not in {thread.name for thread in threading.enumerate()}


def test_exchange_soon_holds_errors_in_its_future():
    store = counting(0, 2)
    assert isinstance(store.exchange_soon(names=["m"]).exception(), StoreError)
    assert isinstance(store.exchange_soon([one((0, 1))]).exception(), ConsistencyError)
    assert isinstance(store.exchange_soon(clock=1, wait_s=0.01).exception(LONG_S), NotYet)


def test_finish_opens_the_gate():
    store = counting(1, 2)
    store.exchange([one((0, 0)), one((0, 1))], ())
    waiting = store.exchange_soon(clock=2)
    assert not waiting.done()
    store.finish(1)
    assert waiting.result(LONG_S).progress == {0: 2, 1: 0}


# snapshots


@pytest.mark.parametrize("staleness", [None, 0])
def test_state_under_writes_is_one_state_of_the_whole_store(staleness):
    store = counting(staleness, 2, n_shards=3)
    is_over = threading.Event()

    def write(partition):
        updates, clock = [], 0
        while not is_over.is_set():
            try:
                store.exchange(updates, clock=clock if staleness == 0 else None, wait_s=0)
            except NotYet:
                continue
            updates, clock = [one((partition, clock))], clock + 1

    def snapshot():
        try:
            for _ in range(50):
                arrays, document = store.state()
                assert document["shards"][0] == document["shards"][1] == document["shards"][2]
                version = document["shards"][0]["version"]
                assert all((arrays[f"{number}/values/n"] == version).all() for number in range(3))
        finally:
            is_over.set()

    run_in_threads(lambda number: write(number) if number < 2 else snapshot(), 3)


def test_store_goes_on_from_a_file(tmp_path):
    store = counting(0, 2, n_shards=2)
    store.exchange([one((0, 0)), one((1, 0)), one((0, 1), 5.0)])
    checkpoint.write(tmp_path / "store", *store.state())
    again = LocalTransport.from_state(*checkpoint.read(tmp_path / "store"))
    for each in (store, again):
        assert each.exchange([one((0, 1), 7.0)], ()).progress == {0: 2, 1: 1}
        reply = each.exchange([one((1, 1), 1.0)], clock=2)
        np.testing.assert_array_equal(reply.parameters["n"], np.full((3, 4), 8.0))


# ends


def test_close_wakes_all_that_wait_and_refuses_every_call():
    store = counting(0, 3)
    entered = threading.Barrier(3)

    def wait(partition):
        entered.wait(LONG_S)
        with pytest.raises(StoreUnavailable):
            store.exchange([one((partition, 0))], clock=1)

    soon = store.exchange_soon(clock=2)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(wait, partition) for partition in range(2)]
        entered.wait(LONG_S)
        end = time.monotonic() + LONG_S
        while sum(store.progress().values()) < 2:  # then both have pushed, and wait or are about to
            assert time.monotonic() < end
        store.close()
        for future in waiting:
            future.result(LONG_S)
    assert isinstance(soon.exception(LONG_S), StoreUnavailable)
    store.close()
    calls = [store.exchange, store.progress, store.statistics, store.state, lambda: store.finish(0)]
    for call in [*calls, lambda: store.exchange([one((0, 0))], (), clock=5), lambda: store.exchange_soon().result()]:
        with pytest.raises(StoreUnavailable, match="was closed"):
            call()
    assert GATE not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("staleness", [None, 0])
def test_interrupt_at_any_call_leaves_no_lock_and_no_update_half_known(staleness):
    steps = [one((0, 0), 1.0), one((1, 0), 10.0), one((0, 1), 100.0), one((1, 1), 1000.0)]
    number, hit = 0, True
    with ThreadPoolExecutor(1) as other:
        while hit:
            number += 1
            store = counting(staleness)
            hit = interrupted(number, lambda store=store: store.exchange(steps, clock=2))
            reply = other.submit(store.exchange, steps, clock=2).result(LONG_S)
            np.testing.assert_array_equal(reply.parameters["n"], np.full((3, 4), 1111.0))
            assert reply.versions == (4, 4)
            other.submit(store.close).result(LONG_S)
    assert number > 100


def test_store_of_this_process_does_not_travel():
    with pytest.raises(TypeError, match=r"cannot travel.*Client"):
        pickle.dumps(counting())
