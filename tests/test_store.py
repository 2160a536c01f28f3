"""The parameter store as users call it, on a cluster and in one process, and where its shards lie."""

import asyncio
import pickle
import threading
import warnings

import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel import ParameterStore
from dparallel.compat import actors
from dparallel.errors import (
    PlaceError,
    StoreError,
    StoreWarning,
)
from dparallel.place import Local
from dparallel.store import Adam, Momentum, StoreStats
from tests import toy_store
from tests.clusters import until
from tests.toy_store import N, counting, ones, remote

client = pytest.fixture(scope="module")(toy_store.two_workers)
where = pytest.fixture(params=toy_store.PLACES)(toy_store.placed)


# what users call


def test_pull_returns_an_array_for_a_name_and_a_dict_for_several(where):
    with ParameterStore({"W": np.ones((4, 3)), "b": 3}, optimizer="add", n_shards=2, **where) as store:
        handle = store.handle()
        handle.push({"W": np.full((4, 3), 2), "b": [1, 2, 3]}, step=(0, 0))
        np.testing.assert_array_equal(handle.pull("W"), np.full((4, 3), 3.0))
        assert {name: found.shape for name, found in handle.pull(["W"]).items()} == {"W": (4, 3)}
        assert {name: found.dtype.name for name, found in handle.pull().items()} == {"W": "float64", "b": "float64"}
        np.testing.assert_array_equal(handle.pushpull({"b": [1, 1, 1]}, "b", step=(0, 1)), [2, 3, 4])
        assert list(handle.pushpull({"b": [1, 1, 1]}, step=(0, 2))) == ["W", "b"]
        assert (handle.version, handle.progress(), handle.names) == (3, {0: 3}, ("W", "b"))
        np.testing.assert_array_equal(store.pull("b"), [3, 4, 5])


def test_optimizers_are_given_by_name_by_object_or_for_each_array(where):
    specs = ["adam", Adam(learning_rate=0.5), {"w": Momentum(learning_rate=0.1, momentum=0.5), "v": "add"}]
    for spec in specs:
        with ParameterStore({"w": 3, "v": 3}, optimizer=spec, **where) as store:
            store.push({"w": [1, 1, 1], "v": [1, 1, 1]})
            assert (store.pull("w") < 0).all()
    assert store is not None
    with ParameterStore({"w": 2}, learning_rate=0.25, **where) as store:
        store.push({"w": [1, 2]})
        np.testing.assert_array_equal(store.pull("w"), [-0.25, -0.5])


def test_a_step_counts_once_and_a_push_without_step_each_time(where):
    with counting(**where) as store:
        handle = store.handle()
        for _ in range(3):
            handle.push(ones(), step=(5, 0))
            handle.push(ones(10))
        np.testing.assert_array_equal(handle.pull("w"), np.full(N, 31.0))
        assert store.stats().duplicates == 2


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda handle: handle.pull("v"), "no array 'v'"),
        (lambda handle: handle.pull(["w", "v"]), "no array 'v'"),
        (lambda handle: handle.push({"v": [1.0]}), "no array 'v'"),
        (lambda handle: handle.push({"w": [1.0]}), r"shape \(30,\)"),
        (lambda handle: handle.push({"w": [float("nan")] * N}), "NaN"),
        (lambda handle: handle.push(ones(), step=3), "no pair"),
        (lambda handle: handle.push(ones(), step=(9, 0)), "no partition 9"),
        (lambda handle: handle.finish(9), "no partition 9"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(where, call, message):
    with counting(n_partitions=2, **where) as store:
        with pytest.raises(StoreError, match=message):
            call(store.handle())
        np.testing.assert_array_equal(store.pull("w"), np.zeros(N))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimizer": "sdg"}, "sdg"),
        ({"optimizer": {"v": "sgd"}}, "optimizer names"),
        ({"n_shards": 0}, "n_shards=0"),
        ({"n_shards": "many"}, "n_shards='many'"),
        ({"replicas": 2}, "replicas=2"),
        ({"staleness": 0}, "n_partitions"),
        ({"staleness": -1, "n_partitions": 2}, "staleness=-1"),
    ],
)
def test_options_that_do_not_fit_are_named(where, options, message):
    with pytest.raises(StoreError, match=message):
        ParameterStore({"w": N}, **options, **where)


def test_the_receiver_owns_what_it_pulls_and_the_store_what_it_was_pushed(client):
    def run(handle):
        given = ones()
        handle.push(given, step=(0, 0))
        given["w"][:] = np.nan
        found = handle.pull("w")
        found[:] = 7
        return handle.pull("w")

    for staleness in (None, 0):
        with counting(staleness=staleness, n_partitions=1) as store:
            home = store.stats().primaries[0]
            other = next(worker for worker in client.nthreads() if worker != home)
            for worker in (home, other):
                np.testing.assert_array_equal(remote(client, run, store.handle(), worker=worker), np.ones(N))
            np.testing.assert_array_equal(run(store.handle()), np.ones(N))


def test_a_handle_is_small_and_works_in_every_task(client):
    def run(handle, number):
        handle.push(ones(), step=(number, 0))
        return number

    with counting(n_shards=2) as store:
        handle = store.handle()
        assert len(pickle.dumps(handle)) < 1500
        numbers = client.gather(client.map(run, [handle] * 40, range(40), pure=False))
        assert numbers == list(range(40))
        np.testing.assert_array_equal(handle.pull("w"), np.full(N, 40.0))


@pytest.mark.parametrize("is_direct", [True, False])
def test_the_client_reaches_the_store_itself_or_through_the_scheduler(client, is_direct, monkeypatch):
    with counting(n_shards=2) as store:
        monkeypatch.setitem(actors._reaches_workers, client, is_direct)
        store.push(ones(), step=(0, 0))
        np.testing.assert_array_equal(store.pull("w"), np.ones(N))
        assert store.stats().pushes == 1


def test_threads_of_a_task_use_its_handle(client):
    def run(handle):
        found = []
        thread = threading.Thread(target=lambda: found.append(handle.pull("w")))
        thread.start()
        thread.join(20)
        return found

    with counting() as store:
        np.testing.assert_array_equal(remote(client, run, store.handle()), np.zeros((1, N)))


def test_a_store_opened_in_a_task_lives_on_the_cluster(client):
    def run():
        with counting() as store:
            store.push(ones())
            return store.pull("w"), store.stats().primaries

    found, primaries = remote(client, run)
    np.testing.assert_array_equal(found, np.ones(N))
    assert primaries[0] in client.nthreads()


def test_the_event_loop_may_not_wait_for_a_handle(client):
    async def run(handle):
        return handle.pull("w")

    with counting() as store:
        talk = asyncio.run_coroutine_threadsafe(run(store.handle()), actors.event_loop(client))
        with pytest.raises(PlaceError, match="plain function"):
            talk.result(10)


def test_a_cluster_of_threads_holds_a_store():
    def run(handle, number):
        handle.push(ones(), step=(number, 0))
        return handle.pull("w")[0]

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        counting(n_shards=2) as store,
    ):
        client.gather(client.map(run, [store.handle()] * 8, range(8), pure=False))
        np.testing.assert_array_equal(store.pull("w"), np.full(N, 8.0))
        assert None not in store.stats().backups


# where shards lie


def test_shards_and_copies_lie_on_different_workers(client):
    with counting(n_shards=4, replicas=1) as store:
        stats = store.stats()
    assert isinstance(stats, StoreStats)
    assert sorted(stats.primaries) == sorted(stats.backups) == sorted([*client.nthreads()] * 2)
    assert all(first != second for first, second in zip(stats.primaries, stats.backups))
    assert set(stats.pids) == set(client.nthreads())


def test_the_number_of_shards_grows_with_the_parameters(client):
    for size, n_shards in [(10, 1), (2**19, 1), (2**20, 2), (2**22, 2)]:
        with ParameterStore({"w": size}, replicas=0) as store:
            assert len(store.stats().primaries) == n_shards


def test_without_a_cluster_a_second_copy_is_refused_with_a_warning_only_where_asked_for():
    with pytest.warns(StoreWarning, match="one copy"):
        counting(place=Local(1), replicas=1).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counting(place=Local(1)).close()


def test_a_single_worker_warns_and_a_second_one_gets_the_copies():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        with pytest.warns(StoreWarning, match="another worker"):
            store = counting(n_shards=2)
        with store:
            store.push(ones(), step=(0, 0))
            assert store.stats().backups == (None, None)
            cluster.scale(2)
            until(lambda: None not in store.stats().backups, timeout_s=60)
            np.testing.assert_array_equal(store.pull("w"), np.ones(N))
        assert client.status == "running"


def push_many(handle, partition, n_clocks, number=1.0):
    for clock in range(n_clocks):
        handle.push(ones(number), step=(partition, clock))


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_drained_worker_holds_nothing_and_nothing_is_lost_meanwhile(client, replicas):
    leaving = sorted(client.nthreads())[0]
    with counting(n_shards=3, replicas=replicas) as store:
        pushing = client.map(push_many, [store.handle()] * 2, range(2), n_clocks=150, pure=False)
        store.drain(leaving)
        stats = store.stats()
        client.gather(pushing)
        assert leaving not in (*stats.primaries, *stats.backups)
        np.testing.assert_array_equal(store.pull("w"), np.full(N, 300.0))
        with pytest.raises(StoreError, match="no other worker"):
            store.drain(next(worker for worker in client.nthreads() if worker != leaving))
        np.testing.assert_array_equal(store.pull("w"), np.full(N, 300.0))


def test_a_worker_that_does_not_exist_cannot_be_drained(client):
    with counting() as store, pytest.raises(StoreError, match=r"no worker '1' to drain. Give an address, one of tcp"):
        store.drain("1")
