"""The parameter store on a cluster and in one process, while nothing dies (for deaths see test_store_deaths.py)."""

import asyncio
import gc
import itertools
import pickle
import statistics
import threading
import time
import warnings

import dask
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

import dparallel.store
from dparallel import ParameterStore, compat
from dparallel.errors import (
    CheckpointError,
    ConsistencyError,
    NotYet,
    PlaceError,
    StoreError,
    StoreUnavailable,
    StoreWarning,
)
from dparallel.place import Local
from dparallel.store import Adam, Add, Momentum, StoreStats
from dparallel.store import ParameterStore as FromStore
from dparallel.store.layout import FullUpdate

N = 30  # numbers in the array of most tests


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["one process", "cluster"])
def where(request, client):
    """Options that put a store into this process, or on the cluster."""
    return {"place": Local(2)} if request.param == "one process" else {}


def until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def ones(number=1.0):
    return {"w": np.full(N, float(number))}


def counting(**options):
    return ParameterStore({"w": N}, optimizer="add", **options)


def remote(client, function, *arguments, worker=None):
    """Run a function as a task and wait for it."""
    return client.submit(function, *arguments, workers=worker, pure=False).result(timeout=60)


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
        monkeypatch.setitem(compat._reaches_workers, client, is_direct)
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
        talk = asyncio.run_coroutine_threadsafe(run(store.handle()), compat.event_loop(client))
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


# consistency


def contribution(partition, clock):
    return np.random.default_rng((partition, clock)).normal(size=N)


def descend(handle, partition, n_clocks):
    """Steps of a partition that read what they change."""
    for clock in range(n_clocks):
        w = handle.pull("w", clock=clock)
        handle.push({"w": w * 0.1 + contribution(partition, clock)}, step=(partition, clock))
    handle.finish(partition)


def serial(n_partitions, n_clocks):
    """What staleness 0 must come to, bit for bit."""
    w, v = np.zeros(N), np.zeros(N)
    for clock in range(n_clocks):
        gradients = [w * 0.1 + contribution(partition, clock) for partition in range(n_partitions)]
        for gradient in gradients:
            v = 0.9 * v + gradient
            w = w - 0.05 * v
    return w


@pytest.mark.parametrize("n_shards", [1, 3])
def test_in_step_the_result_is_that_of_the_serial_run_bit_for_bit(client, n_shards):
    """Six partitions on four threads: those that wait make room for the others."""
    optimizer = Momentum(learning_rate=0.05, momentum=0.9)
    options = {"optimizer": optimizer, "staleness": 0, "n_partitions": 6, "n_shards": n_shards}
    with ParameterStore({"w": N}, **options) as store:
        client.gather(client.map(descend, [store.handle()] * 6, range(6), n_clocks=12, pure=False))
        np.testing.assert_array_equal(store.pull("w"), serial(6, 12))
        assert store.progress() == dict.fromkeys(range(6), 12)


def lead_by(handle, partition, n_clocks):
    """Take steps and return by how much the partition led the slowest at most, as the parameters themselves show."""
    lead = 0
    for clock in range(n_clocks):
        counts = handle.pull("n", clock=clock)
        lead = max(lead, clock - int(counts.min()))
        update = np.zeros(len(counts))
        update[partition] = 1
        handle.push({"n": update}, step=(partition, clock))
    handle.finish(partition)
    return lead


def greatest_lead(client, staleness, n_clocks):
    with ParameterStore({"n": 4}, optimizer="add", staleness=staleness, n_partitions=4, n_shards=2) as store:
        leads = client.gather(client.map(lead_by, [store.handle()] * 4, range(4), n_clocks=n_clocks, pure=False))
        np.testing.assert_array_equal(store.pull("n"), np.full(4, float(n_clocks)))
    return max(leads)


@pytest.mark.parametrize("staleness", [0, 3])
def test_nobody_leads_by_more_than_the_staleness(client, staleness):
    assert greatest_lead(client, staleness, 40) <= staleness


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [0, 1, 3, 8])
def test_nobody_leads_by_more_than_the_staleness_in_two_thousand_clocks(client, staleness):
    lead = greatest_lead(client, staleness, 500)
    assert lead <= staleness
    assert lead > 0 or staleness == 0


def test_a_closed_gate_is_not_yet_and_the_push_is_applied(where):
    with counting(staleness=0, n_partitions=2, **where) as store:
        handle = store.handle()
        with pytest.raises(NotYet):
            handle.exchange([FullUpdate((0, 0), ones())], clock=1, wait_s=0.05)
        assert store.progress() == {0: 1, 1: 0}
        handle.push(ones(), step=(1, 0))
        np.testing.assert_array_equal(handle.pull("w", clock=1), np.full(N, 2.0))
        with pytest.raises(ConsistencyError):
            handle.push(ones(), step=(0, 5))


def test_a_reply_tells_the_version_of_what_was_read(where):
    with counting(staleness=0, n_partitions=1, n_shards=2, **where) as store:
        handle = store.handle()
        for clock in range(3):
            handle.push(ones(), step=(0, clock))
        for clock in (2, 3):  # a step that is run again reads what it read before
            reply = handle.exchange(clock=clock)
            np.testing.assert_array_equal(reply.parameters["w"], np.full(N, float(clock)))
            assert reply.versions == (clock, clock)


def test_a_wait_at_the_gate_ends_as_soon_as_it_opens(where):
    with counting(staleness=0, n_partitions=2, **where) as store:
        handle = store.handle()
        coming = handle.exchange_soon([FullUpdate((0, 0), ones())], clock=1, wait_s=30)
        handle.push(ones(), step=(1, 0))
        np.testing.assert_array_equal(coming.result(20).parameters["w"], np.full(N, 2.0))


def test_background_exchanges_of_a_partition_keep_their_order(client):
    with counting(staleness=100, n_partitions=1, n_shards=2) as store:
        handle = store.handle()
        coming = [handle.exchange_soon([FullUpdate((0, clock), ones())], ()) for clock in range(100)]
        assert [reply.result(20).progress[0] for reply in coming] == list(range(1, 101))


def test_updates_record_how_old_their_parameters_were(where):
    with counting(**where) as store:
        first, second = store.handle(), store.handle()
        for handle in (first, second):
            handle.pull()
        for clock in range(3):
            second.push(ones(), step=(1, clock))
        first.push(ones(), step=(0, 0))
        assert store.stats().staleness == {0: 1, 1: 1, 2: 1, 3: 1}


def write_until(handle, partition, name, size):
    from distributed import Event

    end = Event(name)
    for clock in itertools.count():
        handle.push({"w": np.ones(size)}, step=(partition, clock))
        if clock % 20 == 0 and end.is_set():
            return clock + 1


@pytest.mark.parametrize("n_pulls", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_pull_is_torn(client, n_pulls):
    from distributed import Event

    size, end = 2 * 20_000, Event("torn", client=client)  # two shards of 160 kB each, which a thread works on
    with ParameterStore({"w": size}, optimizer="add", n_shards=2) as store:
        handle = store.handle()
        writing = client.map(write_until, [handle] * 2, range(2), name="torn", size=size, pure=False)
        until(lambda: handle.version > 0)
        seen = set()
        for _ in range(n_pulls):
            parts = handle.pull("w").reshape(2, -1)
            assert (parts.min(axis=1) == parts.max(axis=1)).all()
            seen.add(parts[0, 0])
        end.set()
        n = sum(client.gather(writing))
        np.testing.assert_array_equal(handle.pull("w"), np.full(size, float(n)))
    end.clear()
    assert len(seen) > 10  # it was written meanwhile


# snapshots


def test_a_restored_store_goes_on_bit_for_bit(where, client, tmp_path):
    options = {"optimizer": Adam(learning_rate=0.1), "staleness": 0, "n_partitions": 2, "n_shards": 2}
    with ParameterStore({"w": N}, **options, **where) as store:
        for clock in range(3):
            for partition in range(2):
                store.push({"w": contribution(partition, clock)}, step=(partition, clock))
        store.push({"w": contribution(0, 3)}, step=(0, 3))  # waits for the other one
        store.snapshot(tmp_path / "store")
        store.push({"w": contribution(1, 3)}, step=(1, 3))
        expected = store.pull("w")
    for place in ({}, {"place": Local(1)}):
        with ParameterStore.restore(tmp_path / "store", **place) as store:
            assert store.progress() == {0: 4, 1: 3}
            store.push({"w": contribution(1, 3)}, step=(1, 3))
            np.testing.assert_array_equal(store.pull("w"), expected)


def test_a_checkpoint_is_written_from_time_to_time(where, client, tmp_path):
    path = tmp_path / "store"
    with dask.config.set({"dparallel.store.snapshot-every": "50ms"}), counting(checkpoint=path, **where) as store:
        store.push(ones(), step=(0, 0))

        def is_saved():
            if not path.exists():
                return False
            with ParameterStore.restore(path, place=Local(1)) as saved:
                return saved.pull("w")[0] == 1

        until(is_saved)


def test_a_file_that_is_no_snapshot_is_named(tmp_path):
    path = tmp_path / "other"
    path.write_bytes(b"no snapshot")
    with pytest.raises(CheckpointError, match="other"):
        ParameterStore.restore(path, place=Local(1))


# the end


def left_on(client):
    """What of ours is on the scheduler, the workers and the client."""

    def on_scheduler(dask_scheduler):
        names = [*dask_scheduler.tasks, *dask_scheduler.extensions["variables"].variables]
        return [str(name) for name in names if "dparallel-store" in str(name)]

    def on_worker(dask_worker):
        names = [*dask_worker.state.actors, *dask_worker.plugins, *(thread.name for thread in threading.enumerate())]
        names = [str(name) for name in names if "dparallel-s" in str(name)]
        return names + [task.get_coro().__qualname__ for task in asyncio.all_tasks() if is_ours(task)]

    async def on_client():
        return [task.get_coro().__qualname__ for task in asyncio.all_tasks() if is_ours(task)]

    found = client.run_on_scheduler(on_scheduler)
    found += [name for names in client.run(on_worker).values() for name in names]
    found += asyncio.run_coroutine_threadsafe(on_client(), compat.event_loop(client)).result(10)
    return found


def is_ours(task):
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "dparallel" in code.co_filename and "tests" not in code.co_filename


def test_nothing_is_left_after_close_an_error_or_a_forgotten_store(client):
    with counting(n_shards=2) as store:
        store.push(ones())
        assert left_on(client)
    until(lambda: not left_on(client))
    with pytest.raises(ZeroDivisionError), counting(n_shards=2) as store:
        store.push({"w": 1 // 0})
    until(lambda: not left_on(client))
    store = counting(n_shards=2)
    store.push(ones())
    del store
    gc.collect()
    until(lambda: not left_on(client))


def test_a_closed_store_says_so_at_once(where, client):
    with counting(**where) as store:
        handle = store.handle()
        handle.pull()
    store.close()
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="closed"):
        handle.pull()
    if not handle.is_local:
        with pytest.raises(StoreUnavailable, match="closed"):
            remote(client, lambda: handle.pull())
    assert time.monotonic() - start < 5


def test_the_public_names_are_lazy():
    assert FromStore is ParameterStore
    assert Add().name == "add"
    assert {"Adam", "Handle", "ParameterStore"} <= set(dir(dparallel.store))
    with pytest.raises(AttributeError, match="Subtract"):
        dparallel.store.Subtract  # noqa: B018


@pytest.mark.slow
def test_fifty_stores_in_a_row_do_not_grow_memory(client):
    def memory():
        pids = [psutil.Process().pid, *client.run(lambda: psutil.Process().pid).values()]
        return sum(psutil.Process(pid).memory_info().rss for pid in pids)

    def use():
        with ParameterStore({"w": 2**17}, optimizer="adam", n_shards=2) as store:
            store.push({"w": np.ones(2**17)})
            store.pull()
        until(lambda: not left_on(client))

    for _ in range(10):
        use()
    before = memory()
    for _ in range(50):
        use()
    assert memory() - before < 30e6  # a store of this size that stays takes 9 MB


@pytest.mark.slow
def test_a_pull_takes_at_most_twice_as_long_as_a_raw_call(client):
    class Raw:
        async def answer(self):
            return np.zeros(N)

    def measure(handle, raw):
        ours, plain = [], []
        for _ in range(500):
            start = time.perf_counter()
            raw.answer().result()
            middle = time.perf_counter()
            handle.pull("w")
            plain.append(middle - start)
            ours.append(time.perf_counter() - middle)
        return statistics.median(ours), statistics.median(plain)

    with counting() as store:
        home = store.stats().primaries[0]
        other = next(worker for worker in client.nthreads() if worker != home)
        raw = client.submit(Raw, actor=True, workers=[home]).result()
        ours, plain = remote(client, measure, store.handle(), raw, worker=other)
    assert ours < 2 * plain, (ours, plain)
