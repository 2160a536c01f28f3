"""What staleness is worth where steps take unequal time: pulls and pushes of a real store, with steps that only wait.

The expected times follow from the rule alone: a step of clock c starts once all partitions have ended clock c - s - 1.
"""

import threading
import time

import numpy as np
import pytest

from dparallel import ParameterStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
N_PARTITIONS, UNIT_S = 4, 0.01


def expected_end(durations, staleness):
    """When the last partition ends, in units, if nothing but steps takes time."""
    ends = np.zeros((N_PARTITIONS, durations.shape[1]))
    for clock in range(durations.shape[1]):
        start = ends[:, clock - 1] if clock else np.zeros(N_PARTITIONS)
        if staleness is not None and clock > staleness:
            start = np.maximum(start, ends[:, clock - staleness - 1].max())
        ends[:, clock] = start + durations[:, clock]
    return ends[:, -1].max()


def run(durations, staleness, most_s=np.inf):
    """Let a thread per partition pull, wait and push; returns seconds and steps done, by partition."""
    done = np.zeros(N_PARTITIONS, int)
    with ParameterStore({"w": 10}, optimizer="add", staleness=staleness, n_partitions=N_PARTITIONS) as store:
        handle = store.handle()
        started = time.perf_counter()

        def train(partition):
            for clock, units in enumerate(durations[partition]):
                handle.pull("w", clock=clock if staleness is not None else None)
                if time.perf_counter() - started > most_s:
                    break
                time.sleep(units * UNIT_S)
                handle.push({"w": np.ones(10)}, step=(partition, clock))
                done[partition] += 1
            handle.finish(partition)

        threads = [threading.Thread(target=train, args=(p,)) for p in range(N_PARTITIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        assert (store.pull("w") == done.sum()).all()
    return seconds, done


def test_staleness_absorbs_chance_delays():
    durations = np.where(np.random.default_rng(0).random((N_PARTITIONS, 400)) < 0.1, 5.0, 1.0)
    seconds = {staleness: run(durations, staleness)[0] for staleness in (0, 4, None)}
    expected = {staleness: expected_end(durations, staleness) for staleness in seconds}
    print({s: (round(seconds[s] / seconds[0], 3), round(expected[s] / expected[0], 3)) for s in seconds})
    assert seconds[4] <= 0.75 * seconds[0] and seconds[None] <= 0.68 * seconds[0]
    assert all(abs(seconds[s] / (UNIT_S * expected[s]) - 1) < 0.15 for s in seconds)


def test_without_a_gate_one_slow_partition_slows_no_other():
    durations = np.ones((N_PARTITIONS, 2000))
    durations[0] = 4.0
    steps = {staleness: run(durations, staleness, most_s=4.0)[1].sum() for staleness in (0, None)}
    print("steps in 4 s, asynchronous / synchronous:", steps[None] / steps[0])
    assert steps[None] >= 2.6 * steps[0]
