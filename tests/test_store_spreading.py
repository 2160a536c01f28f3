"""Shards that are spread over new workers: live, whoever dies meanwhile, and no push waits for long."""

import random
import threading
import time

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel import ParameterStore
from dparallel.store.messages import Route, Seat
from dparallel.store.spreading import next_move
from tests.clusters import MANY_KILLS, kill, until
from tests.slots import (
    KINDS,
    N_PARTITIONS,
    N_SHARDS,
    are_two_copies,
    open_slots,
    read_slots,
    start_filling,
    until_dead,
)

pytestmark = pytest.mark.timeout(400)

A, B, C, D = (Seat(f"tcp://10.0.0.{number}:1", f"host-{number}") for number in range(4))


def after_moves(routes, seats):
    """Follow next_move to the end; what it asks for must be allowed at every step."""
    routes = list(routes)
    for _ in range(100):
        move = next_move(routes, seats)
        if move is None:
            return routes
        route = routes[move.number]
        if move.is_primary:
            backup = route.primary if move.seat == route.backup else route.backup
            routes[move.number] = Route(route.epoch + 1, move.seat, backup)
        else:
            routes[move.number] = route._replace(backup=move.seat)
        assert routes[move.number].primary != routes[move.number].backup
    raise AssertionError("no end of moves")


@pytest.mark.parametrize("has_backups", [False, True])
@pytest.mark.parametrize("n_shards", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("seats", [[A], [A, B], [A, B, C], [A, B, C, D]])
def test_moves_lead_to_equally_many_primaries_and_copies(seats, n_shards, has_backups):
    if has_backups and len(seats) == 1:
        return
    routes = after_moves([Route(1, A, B if has_backups else None)] * n_shards, seats)
    primaries = [sum(route.primary == seat for route in routes) for seat in seats]
    copies = [sum(seat in route[1:] for route in routes) for seat in seats]
    assert max(primaries) - min(primaries) <= 1
    assert max(copies) - min(copies) <= 2
    assert sum(copies) == n_shards * (1 + has_backups)


def test_no_second_copy_moves_to_the_machine_of_its_primary():
    other = Seat("tcp://10.0.0.0:2", "host-9")
    assert after_moves([Route(1, A, B), Route(1, B, A)] * 4, [A, B, other]) is not None
    assert next_move([Route(1, A, B)] * 1, [A, B, other]) is None
    routes = after_moves([Route(1, A, B)] * 4, [A, B, other])
    assert all(route.backup == B or route.primary == B for route in routes)


def workers(n_workers):
    return LocalCluster(n_workers=n_workers, threads_per_worker=2, dashboard_address=":0")


@pytest.mark.parametrize("kind", [pytest.param("dense", marks=pytest.mark.slow), *KINDS[1:]])
def test_shards_are_spread_over_workers_that_join_while_pushes_go_on(kind):
    n_clocks = 200
    with (
        dask.config.set(MANY_KILLS),
        workers(2) as cluster,
        Client(cluster) as client,
        open_slots(n_clocks, kind, n_shards=4) as store,
    ):
        before = store.stats()
        pushing = start_filling(client, store, 0, n_clocks, n_clocks, kind=kind)
        cluster.scale(4)
        client.wait_for_workers(4, timeout=60)
        store.spread()
        spread = until(lambda: are_two_copies(store))
        longest = max(found[1] for found in client.gather(pushing))
        slots = read_slots(store.handle(), n_clocks)
        np.testing.assert_array_equal(slots, np.ones((N_SHARDS, N_PARTITIONS, n_clocks)))
    print(f"longest push {longest:.3f} s", before.primaries, before.backups, spread.primaries, spread.backups)
    copies = [*spread.primaries, *spread.backups]
    assert len(set(spread.primaries)) == len(set(copies)) == 4
    assert spread.restores == 0


def test_without_second_copies_shards_are_spread_as_well():
    with workers(1) as cluster, Client(cluster) as client, ParameterStore({"w": 30}, n_shards=3, replicas=0) as store:
        store.push({"w": np.ones(30)})
        cluster.scale(3)
        client.wait_for_workers(3, timeout=60)
        store.spread()
        assert len(set(store.stats().primaries)) == 3
        np.testing.assert_array_equal(store.pull("w"), np.full(30, -1.0))
        store.push({"w": np.ones(30)})
        np.testing.assert_array_equal(store.pull("w"), np.full(30, -2.0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_while_shards_are_spread_loses_and_doubles_nothing(kind):
    """Over and over: all shards on two workers, then spread over four while one of them is killed."""
    n_clocks, n_kills, rng = 400, 10, random.Random(5)
    edges = np.linspace(0, n_clocks, n_kills + 1).astype(int)
    with (
        dask.config.set(MANY_KILLS),
        workers(4) as cluster,
        Client(cluster) as client,
        open_slots(n_clocks, kind, n_shards=4) as store,
    ):
        for first, last in zip(edges, edges[1:]):
            client.wait_for_workers(4, timeout=60)
            stats = until(lambda: len(store.stats().pids) == 4 and are_two_copies(store))
            for address in sorted(stats.pids)[:2]:
                store.drain(address)
            until(lambda: are_two_copies(store))
            pushing = start_filling(client, store, int(first), int(last), n_clocks, kind=kind)
            store._supervisor.fleet.drained.clear()
            victim = rng.choice(list(stats.pids.values()))
            timer = threading.Timer(rng.random() * 0.2, kill, (victim,))
            timer.start()
            store.spread()
            client.gather(pushing)
            timer.join()
            until_dead(store, victim)
        slots = read_slots(store.handle(), n_clocks)
        assert (np.sum(slots == 0), np.sum(slots > 1)) == (0, 0)
        assert store.stats().restores == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_spreading_holds_up_no_push_for_a_second(kind):
    """From the order to hold pushes up until another copy serves, for shards of 100 KB.

    A push takes longer than that now and then on a busy machine, also where nothing moves.
    """
    n_clocks, calls = 3000, []
    with workers(2) as cluster, Client(cluster) as client, open_slots(n_clocks, kind, n_shards=4) as store:
        cluster.scale(4)
        until(lambda: len(store.stats().pids) == 4)
        pushing = start_filling(client, store, 0, 150, n_clocks, kind=kind)
        until(lambda: min(store.progress().values()) > 10)
        fleet = store._supervisor.fleet
        order = fleet.call

        async def call(seat, method, *arguments, **options):
            started = time.monotonic()
            found = await order(seat, method, *arguments, **options)
            calls.append((method, started, time.monotonic()))
            return found

        fleet.call = call
        store.spread()
        longest = max(found[1] for found in client.gather(pushing))
    levels = [started for method, started, _ in calls if method == "level"]
    ends = [ended for method, _, ended in calls if method == "promote"]
    held = [end - start for start, end in zip(levels, ends, strict=True)]
    print(f"held up for {np.round(held, 3)} s, longest push {longest:.3f} s")
    assert held and max(held) < 1.0
