"""Deaths at every point of a push, of more workers than there are copies, and workers that only seem dead."""

import asyncio
import os
import signal
import time

import dask
import numpy as np
import pytest

from dparallel import compat
from dparallel.errors import RolledBack, StoreUnavailable
from dparallel.store.messages import Request
from dparallel.store.rows import Rows
from dparallel.store.updates import Update
from tests import slots
from tests.clusters import kill, until
from tests.slots import (
    COMPRESSIONS,
    KINDS,
    N_PARTITIONS,
    N_SHARDS,
    PLAIN,
    are_two_copies,
    fill_slots,
    open_slots,
    read_slots,
    slot_keys,
    start_filling,
    until_dead,
    update_of,
)

pytestmark = pytest.mark.timeout(400)


cluster = pytest.fixture(scope="module")(slots.three_workers)
client = pytest.fixture(slots.settled_client)


# at every point of a push


def arm(point, countdown):
    """Let this process die when it reaches a point for the n-th time."""
    from dparallel.store import replica

    def reached(here):
        nonlocal countdown
        countdown -= here == point
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    replica.reached = reached


SOME_POINTS = [("after_apply", 1, None), ("after_replicate", 1, 0), ("in_snapshot", 0, 3), ("before_apply", 0, None)]
ALL_POINTS = [
    pytest.param(
        point, replicas, staleness, marks=[] if (point, replicas, staleness) in SOME_POINTS else pytest.mark.slow
    )
    for point in ("before_apply", "after_apply", "after_replicate", "in_snapshot")
    for replicas in (0, 1)
    for staleness in (None, 0, 3)
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point, replicas, staleness", ALL_POINTS)
def test_a_death_at_any_point_costs_no_more_than_documented(client, tmp_path, point, replicas, staleness, kind):
    n_clocks, every_s = 40, 0.2
    checkpoint = tmp_path / "store" if point == "in_snapshot" else None
    options = {"staleness": staleness, "replicas": replicas, "checkpoint": checkpoint}
    every = dask.config.set({"dparallel.store.snapshot-every": f"{every_s}s"})
    with every, open_slots(n_clocks, kind, **options) as store:
        stats = store.stats()
        victim = stats.primaries[1]
        client.run(arm, point, 2 if point == "in_snapshot" else 25, workers=[victim])
        pushing = start_filling(client, store, 0, n_clocks, n_clocks, staleness, kind)
        died = until_dead(store, stats.pids[victim])
        found = client.gather(pushing)
        slots, stats = read_slots(store.handle(), n_clocks), store.stats()
    assert slots.max() <= 1
    assert (stats.restores == 0) == (replicas == 1)
    for row, partition, clock in np.argwhere(slots == 0):
        assert (row, replicas, staleness) == (1, 0, None)
        acknowledged = found[partition][0][int(clock)]
        assert died - acknowledged < every_s + 2  # since the last snapshot; a loaded machine takes them late


# stopped, not dead


QUICK = {(1, None, "sparse"), (0, 0, "dense")}


@pytest.mark.parametrize(
    "replicas, staleness, kind",
    [
        pytest.param(*way, kind, marks=() if (*way, kind) in QUICK else pytest.mark.slow)
        for way in [(1, None), (0, 0)]
        for kind in [*PLAIN, *COMPRESSIONS]
    ],
)
def test_a_primary_that_was_stopped_and_wakes_up_writes_nothing(client, replicas, staleness, kind):
    n_clocks = 40
    with open_slots(n_clocks, kind, replicas=replicas, staleness=staleness) as store:
        stats = store.stats()
        seat, epoch = store._supervisor.routes[0].primary, store._supervisor.routes[0].epoch
        others = [address for address in client.nthreads() if address != seat.address]
        os.kill(stats.pids[seat.address], signal.SIGSTOP)
        try:
            options = {"first": 0, "last": n_clocks, "n_clocks": n_clocks, "staleness": staleness}
            handles = [store.handle(COMPRESSIONS.get(kind))] * N_PARTITIONS
            pushing = client.map(fill_slots, handles, range(N_PARTITIONS), workers=others, pure=False, **options)
            until(lambda: store.stats().primaries[0] not in (None, seat.address))
        finally:
            os.kill(stats.pids[seat.address], signal.SIGCONT)
        update = Update((0, n_clocks), values_of_a_shard(kind, n_clocks))
        answer = ask_host(client, seat, Request(epoch, (update,)))
        assert answer is None or answer.status == "moved"
        assert max(longest for _, longest in client.gather(pushing)) < 10
        slots = read_slots(store.handle(), n_clocks)
        np.testing.assert_array_equal(slots, np.ones((N_SHARDS, N_PARTITIONS, n_clocks)))


def values_of_a_shard(kind, n_clocks):
    """An update of the first shard, as it travels."""
    ones = np.ones(N_PARTITIONS * n_clocks)
    return {"slots": Rows(slot_keys(n_clocks)[0].ravel(), ones[:, None]) if kind.startswith("sparse") else ones}


def ask_host(client, seat, request):
    """What a host answers to a request, None if it is gone."""
    talk = compat.call_actor(client, *seat, "exchange", (0, request), 1.0)
    try:
        return asyncio.run_coroutine_threadsafe(talk, compat.event_loop(client)).result(20)
    except (OSError, compat.ActorGone):
        return None


# more deaths than copies


@pytest.mark.parametrize("kind", PLAIN)
def test_the_loss_of_all_copies_is_named(client, kind):
    with open_slots(10, kind) as store:
        until(lambda: store._supervisor._snapshots.newest is None)  # which would take back what was acknowledged
        stats = until(lambda: are_two_copies(store))
        lost = {stats.primaries[0], stats.backups[0]}
        for address in lost:
            kill(stats.pids[address])
        start = time.monotonic()
        with pytest.raises(
            StoreUnavailable, match=r"Shard \d of the parameter store is lost: tcp.*snapshot\. Open a new"
        ):
            until(lambda: store.push(update_of(store.handle(), np.ones((N_SHARDS, N_PARTITIONS, 10)))))
        assert time.monotonic() - start < 10
        with pytest.raises(StoreUnavailable, match="is lost"):
            client.submit(fill_slots, store.handle(), 0, 0, 10, 10, pure=False).result(timeout=30)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_step_beyond_the_snapshot_is_rolled_back(client, kind):
    with (
        dask.config.set({"dparallel.store.snapshot-every": "1h"}),
        open_slots(10, kind, replicas=0, staleness=3) as store,
    ):
        handle = store.handle()
        ones = np.ones((N_SHARDS, N_PARTITIONS, 10))
        update = update_of(handle, ones)
        for clock in range(2):
            for partition in range(N_PARTITIONS):
                handle.push(update, step=(partition, clock))
        stats = store.stats()
        kill(stats.pids[stats.primaries[0]])
        until_dead(store, stats.pids[stats.primaries[0]])
        with pytest.raises(RolledBack, match="went back") as caught:
            handle.push(update, step=(0, 2))
        assert caught.value.progress == dict.fromkeys(range(N_PARTITIONS), 0)
        with pytest.raises(RolledBack):
            handle.pull("slots", clock=2)
        handle.push(update, step=(0, 0))
        np.testing.assert_array_equal(read_slots(handle, 10), ones)
