"""The synchronous engine: state goes out to the shards, partial results come back and are combined, round after round.

This is the way to write an algorithm of one's own: gather the data, open rounds on them, reduce.

    blocks = gather(X)
    with open_rounds(blocks) as rounds:
        total = rounds.reduce(partial, combine, state)                        # one round
        outcome = iterate(rounds, algorithm, state, max_rounds=100)            # rounds until the algorithm is done

Where one round is all, reduce_once(blocks, partial, combine, state) holds nothing and asks the cluster once.
"""

from dparallel.rounds.base import Rounds
from dparallel.rounds.loop import Algorithm, Outcome, iterate
from dparallel.rounds.opening import open_rounds
from dparallel.rounds.placing import Partitioning
from dparallel.rounds.single import reduce_once

__all__ = ["Algorithm", "Outcome", "Partitioning", "Rounds", "iterate", "open_rounds", "reduce_once"]
