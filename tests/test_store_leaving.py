"""What the parameter store does when workers are shut down, and when its driver or the scheduler dies."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import dask
import numpy as np
import pytest
from distributed import Client, Event, LocalCluster

from dparallel import ParameterStore
from dparallel.errors import StoreUnavailable
from dparallel.place import Local
from tests import slots
from tests.clusters import MANY_KILLS, kill, separate_processes, until
from tests.slots import (
    KINDS,
    N_PARTITIONS,
    N_SHARDS,
    N,
    are_two_copies,
    open_slots,
    read_slots,
    start_filling,
)

pytestmark = pytest.mark.timeout(400)


cluster = pytest.fixture(scope="module")(slots.three_workers)
client = pytest.fixture(slots.settled_client)


# elasticity


def start_workers(n_workers):
    return LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_scaling_down_worker_by_worker_loses_nothing(kind):
    n_clocks = 60
    with (
        dask.config.set(MANY_KILLS),
        start_workers(4) as cluster,
        Client(cluster) as client,
        open_slots(n_clocks, kind) as store,
    ):
        pushing = start_filling(client, store, 0, n_clocks, n_clocks, kind=kind)
        for n_workers in (3, 2):
            until(lambda: are_two_copies(store))
            cluster.scale(n_workers)
            until(lambda: len(client.nthreads()) == n_workers)  # noqa: B023
        client.gather(pushing)
        slots = read_slots(store.handle(), n_clocks)
        np.testing.assert_array_equal(slots, np.ones((N_SHARDS, N_PARTITIONS, n_clocks)))
        assert store.stats().restores == 0


@pytest.mark.parametrize("kind", ["dense", pytest.param("sparse", marks=pytest.mark.slow)])
def test_scaling_down_loses_nothing_even_where_both_copies_leave_at_once(kind):
    with (
        dask.config.set(MANY_KILLS),
        start_workers(4) as cluster,
        Client(cluster) as client,
        open_slots(10, kind, n_shards=8) as store,
    ):
        client.gather(start_filling(client, store, 0, 10, 10))
        stats = until(lambda: are_two_copies(store))
        stays = cluster.workers[0].worker_address
        assert any(stays not in copies for copies in zip(stats.primaries, stats.backups))
        cluster.scale(1)
        until(lambda: len(client.nthreads()) == 1)
        np.testing.assert_array_equal(read_slots(store.handle(), 10), np.ones((N_SHARDS, N_PARTITIONS, 10)))
        stats = store.stats()
        assert stats.restores == 0
        assert set(stats.primaries) == {stays}


# the driver

DRIVER = """
import sys
import numpy as np
from distributed import Client, Event
from dparallel import ParameterStore

if __name__ == "__main__":
    with Client(sys.argv[1]), ParameterStore({"w": 30}, optimizer="add", checkpoint=sys.argv[2]) as store:
        for clock in range(10):
            store.push({"w": np.ones(30)}, step=(0, clock))
        Event("pushed").set()
        Event("never").wait()
"""


def test_a_driver_that_dies_leaves_nothing_but_its_checkpoint(client, tmp_path):
    script, path = tmp_path / "driver.py", tmp_path / "store"
    script.write_text(DRIVER)
    environment = {**os.environ, "DASK_DPARALLEL__STORE__SNAPSHOT_EVERY": "100ms"}
    driver = subprocess.Popen([sys.executable, script, client.scheduler.address, path], env=environment)
    try:
        assert Event("pushed", client=client).wait(timeout=60)
        until(lambda: path.exists() and pushes_in(path) == 10)
    finally:
        kill(driver.pid)
        driver.wait()
    until(lambda: not any(client.run(count_hosts).values()))
    Event("pushed", client=client).clear()
    with ParameterStore.restore(path) as store:
        np.testing.assert_array_equal(store.pull("w"), np.full(N, 10.0))
        assert store.progress() == {0: 10}


def pushes_in(path):
    with ParameterStore.restore(path, place=Local(1)) as store:
        return store.handle().version


def count_hosts(dask_worker):
    ticking = [task for task in asyncio.all_tasks() if "_tick" in task.get_coro().__qualname__]
    return len(dask_worker.state.actors) + len(ticking)


# the scheduler


def push_for_ever(handle, path):
    """Push until that fails; write how, and how long the last call took, to a file."""
    while True:
        start = time.monotonic()
        try:
            handle.push({"w": np.ones(N)})
        except Exception as error:
            path.write_text(f"{type(error).__name__} {time.monotonic() - start}\n{error}")
            return


@pytest.mark.parametrize("action", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_a_lost_scheduler_is_named_by_the_client_within_ten_seconds(action):
    with separate_processes(n_workers=2) as (_, processes), ParameterStore({"w": N}) as store:
        processes[0].send_signal(action)
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match="scheduler"):
            until(lambda: store.push({"w": np.ones(N)}))
        assert time.monotonic() - start < 10
        for call in (store.pull, store.progress):
            with pytest.raises(StoreUnavailable, match="scheduler"):
                call()
        with contextlib.suppress(StoreUnavailable):  # its workers may be there still
            store.stats()
            store.state()
        assert time.monotonic() - start < 10
        processes[0].send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_lost_scheduler_is_named_in_a_task_within_ten_seconds(tmp_path):
    with separate_processes(n_workers=2) as (client, processes), ParameterStore({"w": N}) as store:
        path = tmp_path / "in a task"
        pushing = client.submit(push_for_ever, store.handle(), path, pure=False)
        until(lambda: store.handle().version > 0)
        kill(processes[0].pid)
        start = time.monotonic()
        store.close()  # until then a task may go on with a shard that its driver still reaches
        # workers shut down without their scheduler, and may be gone before the task knows
        until(lambda: path.exists() or all(process.poll() is not None for process in processes[1:]))
        assert time.monotonic() - start < 15
        if path.exists():
            kind, seconds = path.read_text().split()[:2]
            assert (kind, float(seconds) < 10) == ("StoreUnavailable", True)
        del pushing
