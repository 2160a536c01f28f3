"""The one loop that owns limits, stop reasons, history and listeners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dparallel.blocks.shards import Shard
from dparallel.records import Audience, Listener, RoundRecord
from dparallel.rounds.base import Rounds


class Algorithm:
    """What iterate runs: subclass it, preferably as a frozen dataclass, since its partial travels to the workers.

    The state is whatever the algorithm likes, small and picklable, and is never changed in place.
    """

    def partial(self, shard: Shard, state: Any) -> Any:
        """Return what the shard adds to the total; runs on the workers, perhaps twice, so totals and never deltas."""
        raise NotImplementedError

    def combine(self, a: Any, b: Any) -> Any:
        """Return the sum of two parts, the first from earlier rows, changing neither."""
        raise NotImplementedError

    def update(self, state: Any, total: Any) -> Any:
        """Return the state that follows, given the total of all shards."""
        raise NotImplementedError

    def done(self, old: Any, new: Any) -> str | None:
        """Return why to stop, as a sentence, or None to go on; asked after every update."""
        return None

    def objective(self, state: Any) -> float | None:
        """Return what the algorithm makes small, for the record."""
        return None

    def change(self, state: Any) -> float | None:
        """Return how far the last update moved the state, for the record."""
        return None


@dataclass(frozen=True)
class Outcome:
    """How an iteration ended.

    Parameters
    ----------
    state : the last state
    stop_reason : str, a sentence
    history : list of RoundRecord
    n_rounds : int, rounds run in all, those before start_round included
    converged : bool, False if stopped by max_rounds
    """

    state: Any
    stop_reason: str
    history: list[RoundRecord]
    n_rounds: int
    converged: bool


def iterate(
    rounds: Rounds,
    algorithm: Algorithm,
    state: Any,
    *,
    max_rounds: int,
    listeners: Sequence[Listener] = (),
    start_round: int = 0,
) -> Outcome:
    """Run rounds until the algorithm is done or max_rounds have been run.

    Parameters
    ----------
    rounds : Rounds, open
    algorithm : Algorithm
    state : the first state
    max_rounds : int, at least 0, counted from the very first round
    listeners : objects with the methods of records.Listener, called in this thread
    start_round : int, rounds that were run earlier, when a fit is resumed

    Returns
    -------
    outcome : Outcome

    Raises
    ------
    As Rounds.reduce, and whatever the algorithm or a listener raises.
    """
    history: list[RoundRecord] = []
    reason = None
    number = start_round
    audience = Audience(listeners)
    audience.start(state)
    while reason is None and number < max_rounds:
        number += 1
        audience.start_round(number, state)
        total = rounds.reduce(algorithm.partial, algorithm.combine, state)
        old, state = state, algorithm.update(state, total)
        record = RoundRecord(
            number,
            algorithm.objective(state),
            algorithm.change(state),
            rounds.seconds,
            rounds.bytes_moved,
            seconds_by_worker=rounds.seconds_by_worker,
        )
        history.append(record)
        asked = audience.end_round(record, state)
        reason = algorithm.done(old, state) or asked
    sentence = reason or f"Stopped at the limit of {max_rounds} rounds."
    audience.stop(sentence, state)
    return Outcome(state, sentence, history, number, reason is not None)
