"""The loop over rounds: limits, reasons to stop, history and listeners."""

from dataclasses import dataclass

import numpy as np

from dparallel.records import RoundRecord
from dparallel.rounds import Algorithm, iterate, open_rounds
from tests.toys import blocks_of


@dataclass(frozen=True)
class Count(Algorithm):
    """Counts rounds; done at a given one."""

    last: int

    def partial(self, shard, state):
        return sum(block.n_rows for block in shard.blocks)

    def combine(self, a, b):
        return a + b

    def update(self, state, total):
        return state + 1

    def done(self, old, new):
        return f"Counted to {new}." if new == self.last else None

    def objective(self, state):
        return -state


def test_iterate_stops_with_a_reason_or_at_its_limit():
    with open_rounds(blocks_of(np.zeros((10, 2)))) as rounds:
        done = iterate(rounds, Count(last=3), 0, max_rounds=10)
        assert (done.state, done.n_rounds, done.stop_reason, done.converged) == (3, 3, "Counted to 3.", True)
        limited = iterate(rounds, Count(last=3), 0, max_rounds=2)
        assert (limited.n_rounds, limited.converged) == (2, False) and "limit of 2 rounds" in limited.stop_reason
        resumed = iterate(rounds, Count(last=30), 5, max_rounds=7, start_round=5)
        assert [record.round for record in resumed.history] == [6, 7] and resumed.n_rounds == 7
        assert iterate(rounds, Count(last=3), 0, max_rounds=0).history == []


def test_listeners_hear_of_every_round_and_may_stop():
    heard = []

    class Ear:
        def on_start(self, state):
            heard.append(("start", state))

        def on_round_start(self, number, state):
            heard.append(("round", number, state))

        def on_round(self, record, state):
            heard.append((record, state))
            return record.round == 2

        def on_stop(self, reason, state):
            heard.append((reason, state))

    with open_rounds(blocks_of(np.zeros((10, 2)))) as rounds:
        outcome = iterate(rounds, Count(last=5), 0, max_rounds=10, listeners=[Ear()])
    assert heard[0] == ("start", 0) and heard[1] == ("round", 1, 0) and heard[-1] == (outcome.stop_reason, 2)
    assert outcome.history == [heard[2][0], heard[4][0]] and all(isinstance(r, RoundRecord) for r in outcome.history)
    assert [record.objective for record in outcome.history] == [-1, -2]
