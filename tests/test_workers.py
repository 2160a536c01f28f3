"""The asynchronous engine: every step counts once, in threads and on a cluster, whatever dies or joins."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from dparallel.errors import CheckpointError
from dparallel.rounds import Partitioning, open_rounds
from dparallel.workers import train
from tests.toy_training import Count, Descent, serial_descent
from tests.toys import blocks_of

X = np.random.default_rng(0).normal(size=(120_000, 3))


def run(data, algorithm, staleness=None, per_thread=1, n_shards=None, max_epochs=100, **options):
    partitioning = Partitioning(per_thread, n_shards)
    with open_rounds(blocks_of(data), partitioning=partitioning) as rounds:
        outcome = train(rounds, algorithm, staleness=staleness, max_epochs=max_epochs, **options)
        return outcome, len(rounds.rows)


@pytest.mark.parametrize("staleness", [0, 1, 3, None])
def test_every_step_counts_once_in_threads(staleness):
    outcome, n = run(X, Count(), staleness, n_shards=3)
    assert n == 3
    count = outcome.parameters["count"]
    assert count.tolist()[:2] == [90.0, 3 * sum(range(30))]
    assert outcome.n_epochs == 3 and outcome.n_steps == 90 and outcome.stop_reason == "That was enough."
    assert outcome.moves == []
    assert [record.objective for record in outcome.history] == [30.0, 30.0, 30.0]


@pytest.mark.parametrize("n_shards", [1, 2, 3])
def test_bulk_synchronous_steps_equal_a_serial_loop(n_shards):
    outcome, _ = run(X, Descent(), 0, n_shards=n_shards)
    with open_rounds(blocks_of(X), partitioning=Partitioning(1, n_shards)) as rounds:
        parts = [next(iter(shard.blocks)).X for shard in rounds.shards]
    assert len(parts) == n_shards
    np.testing.assert_array_equal(outcome.parameters["point"], serial_descent(parts, 4))


def test_limit_of_epochs_ends_a_training():
    outcome, _ = run(X, Count(n_epochs=99), max_epochs=2)
    assert outcome.n_epochs == 2 and not outcome.converged and "2 epochs" in outcome.stop_reason


def test_listener_is_told_of_epochs_and_can_stop():
    told = []

    class Listener:
        def on_start(self, state):
            told.append(("start", state["count"][0]))

        def on_round_start(self, number, state):
            told.append(("begin", number))

        def on_round(self, record, state):
            told.append((record.round, state["count"][0]))
            return record.round == 2

        def on_stop(self, reason, state):
            told.append(reason)

    run(X, Count(n_epochs=99), 0, n_shards=1, listeners=[Listener()])
    assert told == [("start", 0), ("begin", 1), (1, 10), ("begin", 2), (2, 20), "A listener asked to stop."]


class Interrupted(Exception):
    pass


class Interrupt:
    """Listener that breaks off after an epoch, as a dying cluster would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_start(self, state):
        pass

    def on_round_start(self, number, state):
        if number == self.epoch:
            raise Interrupted

    def on_round(self, record, state):
        return False

    def on_stop(self, reason, state):
        pass


@pytest.mark.parametrize("staleness", [0, 2, None])
def test_training_goes_on_from_its_checkpoint(tmp_path, staleness):
    path = tmp_path / "fit.checkpoint"
    with dask.config.set({"dparallel.checkpoint-every": "0s"}):
        with pytest.raises(Interrupted):
            run(X, Descent(), staleness, n_shards=2, checkpoint=path, listeners=[Interrupt(3)], fingerprint={"a": 1})
        assert path.exists()
        with pytest.raises(CheckpointError, match="a was 1 and is 2"):
            run(X, Descent(), staleness, n_shards=2, checkpoint=path, fingerprint={"a": 2})
        outcome, _ = run(X, Descent(), staleness, n_shards=2, checkpoint=path, fingerprint={"a": 1})
    whole, _ = run(X, Descent(), staleness, n_shards=2)
    assert outcome.n_epochs == 4 and outcome.n_steps == 2 * 8 * 2
    if staleness == 0:
        np.testing.assert_array_equal(outcome.parameters["point"], whole.parameters["point"])
        assert [r.objective for r in outcome.history] == [r.objective for r in whole.history]
    assert not path.exists()


def test_error_of_a_step_reaches_the_caller():
    class Wrong(Count):
        def step(self, shard, prepared, parameters, info):
            raise ZeroDivisionError("in a step")

    with pytest.raises(ZeroDivisionError, match="in a step"):
        run(X, Wrong())
