"""Linear models whose parameters are trained apart and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from dparallel.estimators.local_sgd.training import Training
from dparallel.estimators.sgd.algorithm import LinearSGD
from dparallel.estimators.sgd.linear import SGDLinear
from dparallel.estimators.sgd.parameters import check_checkpoint, check_number_or_auto
from dparallel.rounds import Partitioning, Rounds
from dparallel.workers import Outcome, partitions_in
from dparallel.workers.saving import Saving


class LocalLinear(SGDLinear):
    """Base of LocalSGDClassifier and LocalSGDRegressor."""

    def _check_parameters(self, *, partial: bool = False) -> None:
        super()._check_parameters(partial=partial)
        if self.sync_every is not None:
            check_number_or_auto(self, "sync_every", Integral, 1)
        check_checkpoint(self)
        if self.sync_every is None and self.checkpoint is not None:
            raise ValueError(
                "checkpoint was given with sync_every=None. Partitions that are averaged once, at the end, leave "
                "nothing to go on from before. Give sync_every='auto' or a number, or checkpoint=None."
            )

    def _minibatches_of_a_step(self) -> int | str:
        return "auto" if self.sync_every is None else self.sync_every

    def _cutting(self, *, partial: bool = False) -> dict[str, Any]:
        """How to cut the rows: a replica for each thread, or as in the fit that is resumed, whoever comes and goes."""
        return {"partitioning": Partitioning(1, partitions_in(None if partial else self.checkpoint))}

    def _train(
        self,
        rounds: Rounds,
        algorithm: LinearSGD,
        max_epochs: int,
        plain: dict[str, Any] | None = None,
        listeners: Sequence[Any] = (),
    ) -> Outcome:
        saving = Saving(None if plain is None else self.checkpoint, plain)
        return Training(rounds, algorithm, self.sync_every, max_epochs, listeners, saving).run()

    def _publish(self, outcome: Outcome, *rest: Any) -> None:
        super()._publish(outcome, *rest)
        self.sync_every_ = outcome.history[-1].interval  # type: ignore[attr-defined]
