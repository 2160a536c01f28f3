"""What becomes of partitions on slow workers: they move to others, steps count once, and a fit takes no notice."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel.compat import worker_of_this_task
from dparallel.rounds import Partitioning, open_rounds
from dparallel.workers import train
from dparallel.workers.stragglers import Patience, Stragglers
from tests.clusters import MANY_KILLS, until
from tests.test_workers_cluster import Events, expected_count
from tests.toy_training import Count, Descent
from tests.toys import blocks_of

pytestmark = pytest.mark.timeout(300)

FOUR = dict.fromkeys("abcd", 1)
PATIENCE = Patience(factor=2.0, after_s=2.0, pardon_s=30.0)


# The planner


def report(stragglers, now, **slowness):
    """Let each worker report the two partitions that it holds in turn."""
    for number, worker in enumerate("abcd"):
        seconds = slowness.get(worker, 1.0)
        stragglers.note(worker, {2 * number: seconds, 2 * number + 1: seconds}, now)


def eight_partitions(patience=PATIENCE):
    return Stragglers([0.5] * 8, patience), [worker for worker in "abcd" for _ in range(2)]


def test_persistent_straggler_gives_its_partitions_to_others_and_the_others_keep_theirs():
    stragglers, holders = eight_partitions()
    for second in range(3):
        assert not stragglers.review(FOUR, second)
        report(stragglers, second, a=4.0)
    assert stragglers.review(FOUR, 3)
    assert stragglers.slowness == {"a": 4.0}
    homes = stragglers.assign(holders, FOUR)
    assert homes[2:] == holders[2:]
    assert "a" not in homes and homes[0] != homes[1]


def test_straggler_keeps_what_it_is_done_with_no_later_than_others_would_be():
    stragglers, holders = eight_partitions()
    for second in range(3):
        report(stragglers, second, a=2.1)
    assert stragglers.review(FOUR, 3)
    assert stragglers.assign(holders, FOUR).count("a") == 1


def test_of_two_workers_with_a_partition_each_none_moves_from_one_that_is_hardly_slower():
    stragglers = Stragglers([1.0, 1.0], PATIENCE)
    for second in range(3):
        stragglers.note("a", {0: 2.1}, second)
        stragglers.note("b", {1: 1.0}, second)
    assert stragglers.review("ab", 3)
    assert stragglers.assign(["a", "b"], {"a": 1, "b": 1}) == ["a", "b"]


def test_chance_delays_make_no_straggler():
    stragglers, _ = eight_partitions()
    random = np.random.default_rng(0)
    for second in range(200):
        slow = {worker: 5.0 for worker in "abcd" if random.random() < 0.1}
        report(stragglers, second, **slow)
        assert not stragglers.review(FOUR, second)


def test_partition_whose_rows_take_long_makes_no_straggler():
    stragglers, _ = eight_partitions()
    for second in range(10):
        report(stragglers, second)
        stragglers.note("a", {0: 9.0}, second)
        assert not stragglers.review(FOUR, second)


def test_a_short_slow_time_makes_no_straggler():
    stragglers, _ = eight_partitions()
    for number in range(18):
        report(stragglers, number / 10, a=4.0)
        assert not stragglers.review(FOUR, number / 10)


def test_a_pardoned_straggler_gets_its_share_again_and_twice_the_time_when_it_relapses():
    stragglers, holders = eight_partitions()
    terms, condemned_at = [], None
    for second in range(400):
        has_share = "a" not in stragglers.slowness
        report(stragglers, second, **({"a": 4.0} if has_share else {}))
        if stragglers.review(FOUR, second):
            holders = stragglers.assign(holders, FOUR)
            if "a" in stragglers.slowness:
                condemned_at = second
            else:
                terms.append(second - condemned_at)
                assert holders.count("a") == 2
    assert terms == [30, 60, 120]


def test_no_straggler_where_the_factor_is_switched_off():
    with dask.config.set({"dparallel.workers.straggler-factor": None}):
        stragglers, _ = eight_partitions(Patience.configured())
    for second in range(10):
        report(stragglers, second, a=1000.0)
        assert not stragglers.review(FOUR, second)


def test_a_worker_that_has_not_reported_yet_is_late_later():
    stragglers, _ = eight_partitions()
    assert stragglers.limit_s("a", [0, 1]) == float("inf")
    report(stragglers, 0)
    assert stragglers.limit_s("a", [0, 1]) == 5.0 + 2 * 2.0  # two steps of a second each
    assert stragglers.limit_s("new", [0, 1]) == 30.0 + 2 * 2.0


def test_settings_are_read_from_the_configuration():
    settings = {"straggler-factor": 3, "straggler-after": "1s", "straggler-pardon": "5s", "late-after": "2s"}
    with dask.config.set({f"dparallel.workers.{name}": value for name, value in settings.items()}):
        assert Patience.configured() == Patience(3.0, 1.0, 5.0, 2.0)
    assert Patience.configured() == Patience()


# The engine


def slowdown(slow_port):
    """How many times as long steps take on this worker."""
    return 4.0 if worker_of_this_task().address.endswith(slow_port) else 1.0


@dataclass(frozen=True)
class UnequalCount(Count):
    """Counts steps that only wait, on one worker four times as long: what else the machine does hardly matters."""

    slow_port: str = "never"

    def step(self, shard, prepared, parameters, info):
        threading.Event().wait(self.work_s * slowdown(self.slow_port))
        rows = sum(block.n_rows for block in shard.blocks)
        return {"count": np.array([1.0, info.clock, rows * info.partition])}, np.array([1.0, rows])


@dataclass(frozen=True)
class UnequalDescent(Descent):
    """Descent of the same kind."""

    slow_port: str = "never"
    wait_s: float = 0.02

    def step(self, shard, prepared, parameters, info):
        threading.Event().wait(self.wait_s * slowdown(self.slow_port))
        return super().step(shard, prepared, parameters, info)

    def work_seconds(self, rows):
        return self.n_steps * self.wait_s


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def run(algorithm, staleness, factor=2.0, after="1s", late="5s", max_epochs=1000, **options):
    X = da.random.default_rng(3).normal(size=(8000, 3), chunks=(1000, 3))
    settings = {"straggler-factor": factor, "straggler-after": after, "late-after": late}
    with (
        dask.config.set({f"dparallel.workers.{name}": value for name, value in settings.items()}),
        open_rounds(blocks_of(X), partitioning=Partitioning(2)) as rounds,
    ):
        started = time.perf_counter()
        outcome = train(rounds, algorithm, staleness=staleness, max_epochs=max_epochs, **options)
        return outcome, time.perf_counter() - started


def first_worker(client):
    return min(client.scheduler_info(n_workers=-1)["workers"])


def port_of(address):
    return f":{address.rpartition(':')[2]}"


@pytest.mark.slow
def test_moved_partitions_make_stale_steps_at_least_twice_as_fast_as_synchronous_ones(client):
    n_steps, n_epochs = 10, 8
    algorithm = UnequalCount(n_steps=n_steps, n_epochs=n_epochs, work_s=0.1, slow_port=port_of(first_worker(client)))
    synchronous, synchronous_s = run(algorithm, 0, factor=None)
    moved, moved_s = run(algorithm, 3)
    for name, outcome in {"synchronous": synchronous, "moved": moved}.items():
        print(name, [round(record.seconds, 2) for record in outcome.history], outcome.moves)
        assert outcome.parameters["count"][:2].tolist() == expected_count(8, n_steps, n_epochs)
    rates = [1 / np.median([record.seconds for record in outcome.history]) for outcome in (synchronous, moved)]
    print(f"whole fits {synchronous_s / moved_s:.2f} times as fast, epochs {rates[1] / rates[0]:.2f} times")
    assert {move.source for move in moved.moves} == {first_worker(client)} and not synchronous.moves
    assert rates[1] >= 2 * rates[0]


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [0, None])
def test_moved_partitions_are_as_good_behind_a_gate_as_without(client, staleness):
    algorithm = UnequalDescent(n_steps=50, n_epochs=4, slow_port=port_of(first_worker(client)))
    outcome, _ = run(algorithm, staleness)
    assert outcome.moves
    if staleness == 0:
        unmoved, _ = run(algorithm, 0, factor=None)
        np.testing.assert_array_equal(outcome.parameters["point"], unmoved.parameters["point"])
        assert [r.objective for r in outcome.history] == [r.objective for r in unmoved.history]


class Pause:
    """Stops the process of a worker when an epoch begins, and lets it go on when another does."""

    def __init__(self, client, address):
        self.pid = client.run(os.getpid, workers=[address])[address]

    def stop(self):
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [0, 3, None])
def test_a_worker_that_stands_still_holds_nothing_up_and_doubles_nothing_when_it_goes_on(client, staleness):
    n_epochs = 12
    address = first_worker(client)
    pause = Pause(client, address)
    algorithm = UnequalCount(n_steps=20, n_epochs=99, work_s=0.02)
    listeners = [Events({4: pause.stop, 10: pause.go_on})]
    try:
        outcome, seconds = run(algorithm, staleness, late="1s", max_epochs=n_epochs, listeners=listeners)
    finally:
        pause.go_on()
    print(f"{seconds:.1f} s", [round(record.seconds, 2) for record in outcome.history], outcome.moves)
    assert outcome.parameters["count"][:2].tolist() == expected_count(8, 20, n_epochs)
    assert {move.source for move in outcome.moves} == {address}
    until(lambda: len(client.nthreads()) == 4)
