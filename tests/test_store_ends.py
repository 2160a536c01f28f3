"""Snapshots of a parameter store, what is left when it ends, and what a pull costs."""

import asyncio
import gc
import statistics
import threading
import time

import dask
import numpy as np
import psutil
import pytest

import dparallel.store
from dparallel import ParameterStore, compat
from dparallel.errors import (
    CheckpointError,
    StoreUnavailable,
)
from dparallel.place import Local
from dparallel.store import Adam, Add, fleet
from dparallel.store import ParameterStore as FromStore
from tests import toy_store
from tests.clusters import until
from tests.toy_store import N, contribution, counting, ones, remote

client = pytest.fixture(scope="module")(toy_store.two_workers)
where = pytest.fixture(params=toy_store.PLACES)(toy_store.placed)


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
        extensions = dask_scheduler.extensions
        names = [*dask_scheduler.tasks, *extensions["variables"].variables, *extensions["events"]._events]
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


def until_nothing_is_left(client):
    until(lambda: not left_on(client), otherwise=lambda: left_on(client))


def test_no_host_is_made_while_a_store_closes(client, monkeypatch):
    monkeypatch.setattr(fleet, "LOOK_S", 0.0)  # it looks for workers without a host all the time
    for _ in range(3):
        with counting(n_shards=2) as store:
            store.push(ones())
    until_nothing_is_left(client)


def test_nothing_is_left_after_close_an_error_or_a_forgotten_store(client):
    with counting(n_shards=2) as store:
        store.push(ones())
        assert left_on(client)
    until_nothing_is_left(client)
    with pytest.raises(ZeroDivisionError), counting(n_shards=2) as store:
        store.push({"w": 1 // 0})
    until_nothing_is_left(client)
    store = counting(n_shards=2)
    store.push(ones())
    del store
    gc.collect()
    until_nothing_is_left(client)


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
        gc.collect()  # circles of objects wait for it, with their arrays
        client.run(gc.collect)
        pids = [psutil.Process().pid, *client.run(lambda: psutil.Process().pid).values()]
        return sum(psutil.Process(pid).memory_info().rss for pid in pids)

    def use():
        with ParameterStore({"w": 2**17}, optimizer="adam", n_shards=2) as store:
            store.push({"w": np.ones(2**17)})
            store.pull()
        until_nothing_is_left(client)

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
