"""What the parameter store does when workers are killed: what was acknowledged counts once."""

import contextlib
import functools
import os
import random
import threading
import time

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel import ParameterStore, SparseTable
from dparallel.errors import ConsistencyError
from dparallel.store import Adagrad, Momentum
from tests import slots
from tests.clusters import MANY_KILLS, kill, settle, until
from tests.slots import (
    KINDS,
    N_PARTITIONS,
    N_SHARDS,
    PLAIN,
    N,
    are_two_copies,
    host_of_a_shard,
    open_slots,
    read_slots,
    run_to_the_end,
    start_filling,
    steps,
    until_dead,
    worker_without_shards,
)

pytestmark = pytest.mark.timeout(400)


cluster = pytest.fixture(scope="module")(slots.three_workers)
client = pytest.fixture(slots.settled_client)


def fill_under_kills(client, store, n_clocks, n_kills, choose, staleness, kind, seed=0):
    """Fill all slots in as many rounds as there are kills, each killing a process at a random moment of its round."""
    rng, longest = random.Random(seed), 0.0
    edges = np.linspace(0, n_clocks, n_kills + 1).astype(int)
    for first, last in zip(edges, edges[1:]):
        victim = choose(client, store, rng)
        start = functools.partial(start_filling, client, store, int(first), int(last), n_clocks, staleness, kind)
        timer = threading.Timer(rng.random() * 0.3, kill, (victim,))
        timer.start()
        if staleness is None:
            filled = client.gather(start())
        else:
            filled = run_to_the_end(client, store, lambda partition, start=start: start([partition])[0], last)
        longest = max(longest, *(found[1] for found in filled))
        timer.join()
        until_dead(store, victim)
    assert longest < 10
    return read_slots(store.handle(), n_clocks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "n_clocks, n_kills, staleness",
    [
        (60, 3, None),
        pytest.param(500, 20, None, marks=pytest.mark.slow),
        pytest.param(500, 20, 0, marks=pytest.mark.slow),
        pytest.param(500, 20, 3, marks=pytest.mark.slow),
    ],
)
def test_killed_hosts_lose_and_double_nothing(client, n_clocks, n_kills, staleness, kind):
    with open_slots(n_clocks, kind, staleness=staleness) as store:
        slots = fill_under_kills(client, store, n_clocks, n_kills, host_of_a_shard, staleness, kind)
        stats = store.stats()
    assert (np.sum(slots == 0), np.sum(slots > 1)) == (0, 0)
    assert stats.failovers >= n_kills
    assert stats.restores == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_compute_workers_lose_and_double_nothing(kind):
    n_clocks, n_kills = 500, 20
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        open_slots(n_clocks, kind) as store,
    ):
        for address in sorted(client.nthreads())[:2]:
            store.drain(address)
        slots = fill_under_kills(client, store, n_clocks, n_kills, worker_without_shards, None, kind)
        assert (np.sum(slots == 0), np.sum(slots > 1)) == (0, 0)
        assert store.stats().failovers <= 2 * N_SHARDS  # from draining


def pull_at(handle, moments):
    """Pull again and again; return for each of the moments how long after it a pull that began later had answered."""
    pulls = []
    while len(pulls) == 0 or not os.path.exists(moments):
        start = time.monotonic()
        handle.pull("slots")
        pulls.append((start, time.monotonic()))
    with open(moments) as file:
        kills = [float(line) for line in file]
    return [next(end for start, end in pulls if start >= kill) - kill for kill in kills]


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLAIN)
def test_a_killed_primary_is_replaced_within_a_second(client, tmp_path, kind):
    """From the signal to the first pull that began after it and was answered, in a task and in the driver."""
    n_kills, rng, kills, waits = 20, random.Random(3), [], []
    with open_slots(10, kind) as store:
        n_other = sorted(client.nthreads())
        store.drain(n_other[0])  # where the task runs that measures
        moments = tmp_path / "moments"
        pulling = client.submit(pull_at, store.handle(), moments, workers=[n_other[0]], pure=False)
        for _ in range(n_kills):
            victim = host_of_a_shard(client, store, rng)
            kills.append(time.monotonic())
            kill(victim)
            store.pull("slots")
            waits.append(time.monotonic() - kills[-1])
            until_dead(store, victim)
            settle(client, 3)
        (tmp_path / "part").write_text("".join(f"{moment}\n" for moment in kills))
        os.rename(tmp_path / "part", moments)
        in_task = pulling.result(timeout=30)
    for found in (waits, in_task):
        print(f"recovery: median {np.median(found):.3f} s, 95th percentile {np.percentile(found, 95):.3f} s")
        assert np.median(found) <= 1.0
        assert np.percentile(found, 95) <= 3.0


# in step, the same bits

KEYS = np.arange(N) * 10**15


def descend(handle, partition, first, last):
    """Steps that read what they change."""
    for clock in steps(handle, partition, first, last, staleness=0):
        with contextlib.suppress(ConsistencyError):
            w = read_w(handle, clock)
            gradient = w * 0.1 + np.random.default_rng((partition, clock)).normal(size=N)
            is_sparse = "w" in handle._transport.layout.tables
            handle.push({"w": (KEYS, gradient) if is_sparse else gradient}, step=(partition, clock))


def read_w(handle, clock=None):
    is_sparse = "w" in handle._transport.layout.tables
    return handle.pull("w", clock=clock, keys=KEYS if is_sparse else None)


def descend_alone(n_clocks, kind):
    w, v = np.zeros(N), np.zeros(N)
    for clock in range(n_clocks):
        normals = [np.random.default_rng((partition, clock)).normal(size=N) for partition in range(N_PARTITIONS)]
        gradients = [w * 0.1 + normal for normal in normals]
        for gradient in gradients:
            v = v + gradient**2 if kind == "sparse" else 0.9 * v + gradient
            w = w - (0.05 * gradient / (np.sqrt(v) + 1e-10) if kind == "sparse" else 0.05 * v)
    return w


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize(
    "n_clocks, n_kills", [(20, 2), pytest.param(500, 20, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_in_step_killed_hosts_do_not_change_a_bit(client, n_clocks, n_kills, replicas, kind):
    rng = random.Random(1)
    optimizer = Adagrad(learning_rate=0.05) if kind == "sparse" else Momentum(learning_rate=0.05, momentum=0.9)
    options = {"optimizer": optimizer, "n_shards": N_SHARDS, "replicas": replicas}
    edges = np.linspace(0, n_clocks, n_kills + 1).astype(int)
    given = SparseTable() if kind == "sparse" else N
    with ParameterStore({"w": given}, staleness=0, n_partitions=N_PARTITIONS, **options) as store:
        for first, last in zip(edges, edges[1:]):
            stats = until(lambda: are_two_copies(store)) if replicas else store.stats()
            victim = stats.pids[rng.choice(stats.primaries)]

            span = store.handle(), int(first), int(last)

            def run(partition, span=span):
                return client.submit(descend, span[0], partition, *span[1:], pure=False)

            timer = threading.Timer(rng.random() * 0.3, kill, (victim,))
            timer.start()
            run_to_the_end(client, store, run, last)
            timer.join()
            until_dead(store, victim)
            until(lambda: None not in store.stats().primaries)
        if min(store.progress().values()) < n_clocks:  # the last kill came after the last step
            run_to_the_end(client, store, run, n_clocks)
        np.testing.assert_array_equal(read_w(store.handle()), descend_alone(n_clocks, kind))
