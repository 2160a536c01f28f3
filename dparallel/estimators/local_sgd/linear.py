"""Linear models whose parameters are trained apart and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from dparallel.estimators.local_sgd.training import Training
from dparallel.estimators.sgd.algorithm import LinearSGD
from dparallel.estimators.sgd.linear import SGDLinear
from dparallel.estimators.sgd.parameters import check_number_or_auto
from dparallel.rounds import Partitioning, Rounds
from dparallel.workers import Outcome


class LocalLinear(SGDLinear):
    """Base of LocalSGDClassifier and LocalSGDRegressor."""

    def _check_parameters(self, *, partial: bool = False) -> None:
        super()._check_parameters(partial=partial)
        if self.sync_every is not None:
            check_number_or_auto(self, "sync_every", Integral, 1)

    def _minibatches_of_a_step(self) -> int | str:
        return "auto" if self.sync_every is None else self.sync_every

    def _cutting(self, *, partial: bool = False) -> dict[str, Any]:
        """How to cut the rows: a replica for each thread, whatever workers come and go."""
        return {"partitioning": Partitioning(per_thread=1)}

    def _train(
        self,
        rounds: Rounds,
        algorithm: LinearSGD,
        max_epochs: int,
        plain: dict[str, Any] | None = None,
        listeners: Sequence[Any] = (),
    ) -> Outcome:
        return Training(rounds, algorithm, self.sync_every, max_epochs, listeners).run()

    def _publish(self, outcome: Outcome, *rest: Any) -> None:
        super()._publish(outcome, *rest)
        self.sync_every_ = outcome.history[-1].interval  # type: ignore[attr-defined]
