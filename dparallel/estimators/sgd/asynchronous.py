"""Linear models whose parameters come together in a parameter store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dparallel.estimators.sgd.algorithm import LinearSGD
from dparallel.estimators.sgd.linear import SGDLinear
from dparallel.estimators.sgd.parameters import check_asynchronous
from dparallel.estimators.sgd.settling import seed_of
from dparallel.rounds import Partitioning, Rounds
from dparallel.workers import Outcome, partitions_in, train

_SHARDS_PER_THREAD = 2  # so that there is something to give to a worker that joins


class AsyncLinear(SGDLinear):
    """Base of AsyncSGDClassifier and AsyncSGDRegressor."""

    def _check_parameters(self, *, partial: bool = False) -> None:
        super()._check_parameters(partial=partial)
        check_asynchronous(self)

    def _minibatches_of_a_step(self) -> int | str:
        return self.push_every

    def _cutting(self, *, partial: bool = False) -> dict[str, Any]:
        """How to cut the rows: in a fit that is resumed as before, wherever it runs now.

        Where the result is to be the same in every run, or the next run has to go on with it, partitions must not
        depend on which worker happens to hold a block.
        """
        checkpoint = None if partial else self.checkpoint
        is_repeatable = self.staleness == 0 or checkpoint is not None
        partitioning = Partitioning(_SHARDS_PER_THREAD, partitions_in(checkpoint))
        return {"partitioning": partitioning, "in_any_order": not is_repeatable}

    def _train(
        self,
        rounds: Rounds,
        algorithm: LinearSGD,
        max_epochs: int,
        plain: dict[str, Any] | None = None,
        listeners: Sequence[Any] = (),
    ) -> Outcome:
        return train(
            rounds,
            algorithm,
            staleness=self.staleness,
            max_epochs=max_epochs,
            listeners=listeners,
            checkpoint=None if plain is None else self.checkpoint,
            fingerprint=plain,
        )

    def _seed(self, plain: dict[str, Any]) -> int:
        if self.random_state is None and self.checkpoint is not None:
            return seed_of(plain)  # a fit that is resumed must hold out the rows that it held out before
        return super()._seed(plain)

    def _publish(self, outcome: Outcome, *rest: Any) -> None:
        super()._publish(outcome, *rest)
        self.staleness_ = outcome.stats.staleness
        self.store_stats_ = outcome.stats
        self.moved_partitions_ = outcome.moves
