"""Hosts that are made before their store: one store takes them over, and what no store takes is ended."""

import threading

import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel import ParameterStore, place
from dparallel.store.hosting import Hosting
from tests.clusters import until


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def hosting(client):
    found = Hosting.begin(place.Cluster(client), n_wanted=2, has_tables=False, patience_s=10)
    yield found
    found.close()


def hosts(client):
    return sum(client.run(lambda dask_worker: len(dask_worker.state.actors)).values())


def test_a_store_takes_over_the_hosts_that_are_there_and_ends_them(client, hosting):
    until(lambda: hosts(client) == 2, timeout_s=10)
    with ParameterStore({"w": np.arange(3.0)}, place=hosting) as store:
        assert {seat.key.rpartition("-host-")[0] for seat in hosting.fleet.hosts} == {hosting.board}
        store.push({"w": np.ones(3)})
        np.testing.assert_array_equal(store.pull("w"), np.arange(3.0) - 1)
        hosting.close()  # they are the store's now
        np.testing.assert_array_equal(store.pull("w"), np.arange(3.0) - 1)
    until(lambda: hosts(client) == 0, timeout_s=10)


def test_a_store_that_needs_more_hosts_than_were_begun_gets_them(client, hosting):
    with ParameterStore({"w": 30}, n_shards=3, place=hosting) as store:
        assert len(hosting.fleet.hosts) == 3
        store.push({"w": np.ones(30)})
        np.testing.assert_array_equal(store.pull("w"), np.full(30, -1))
    until(lambda: hosts(client) == 0, timeout_s=10)


def test_a_second_store_makes_hosts_of_its_own(client, hosting):
    with ParameterStore({"w": 2}, place=hosting), ParameterStore({"w": 3}, place=hosting) as second:
        assert second.pull("w").shape == (3,)
        until(lambda: hosts(client) >= 4, timeout_s=10)
    until(lambda: hosts(client) == 0, timeout_s=10)


def test_hosts_that_no_store_takes_are_ended(client):
    for n_seconds in (0, 0.01, 0.5):  # while they are made, and after it
        hosting = Hosting.begin(place.Cluster(client), n_wanted=2, has_tables=False, patience_s=10)
        threading.Event().wait(n_seconds)
        hosting.close()
        hosting.close()
        until(lambda: hosts(client) == 0, timeout_s=10)
        until(lambda: not client.run_on_scheduler(keys_of_hosts), timeout_s=10)


def keys_of_hosts(dask_scheduler):
    return [key for key in dask_scheduler.tasks if "host" in key]
