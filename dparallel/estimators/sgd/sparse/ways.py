"""How coefficients in sparse tables are begun, trained and published: settling.Dense for CSR rows of many columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from dparallel.estimators.sgd.algorithm import Objective
from dparallel.estimators.sgd.geometry import Geometry, coarse
from dparallel.estimators.sgd.pace import Pace, choose_sparse_pace
from dparallel.estimators.sgd.parameters import LEADER, PASSIVE
from dparallel.estimators.sgd.schedule import QUADRATIC
from dparallel.estimators.sgd.settling import Before, Dense
from dparallel.estimators.sgd.sparse.algorithm import KeyedLeader, KeyedSGD
from dparallel.estimators.sgd.sparse.coefficients import begin
from dparallel.estimators.sgd.sparse.survey import lie, survey
from dparallel.rounds import Rounds

_LEADER_RATE = 0.1  # for values of size 1: near the best for hashed clicks and for a9a


class Keyed(Dense):
    """Minibatch SGD; steps are taken in X's own coordinates."""

    kind = KeyedSGD
    survey = staticmethod(survey)
    begin = staticmethod(begin)

    def __init__(self) -> None:
        self._algorithm: Any = None

    def published(self, parameters: dict[str, Any]) -> tuple[Any, np.ndarray]:
        """The parameters to publish after an epoch."""
        return self._algorithm.learnt(parameters)

    def learnt(self, after: Before, parameters: dict[str, Any]) -> tuple[Any, np.ndarray]:
        return self.published(parameters)

    def pace(self, model: Any, rounds: Rounds, found: Any, targets: Any) -> Pace:
        return choose_sparse_pace(
            1 if model.learning_rate in (*PASSIVE, LEADER) else model.batch_size,
            model._minibatches_of_a_step(),
            n_rows=found.n_rows,
            n_longest=max(sum(n or 0 for n in rows) for rows in rounds.rows),
            entries=found.entries,
            n_outputs=targets.n_outputs,
            n_features=found.n_features,
            is_local=rounds.is_local,
        )

    def geometry(
        self, model: Any, rounds: Rounds, before: Before, found: Any, objective: Objective, partial: bool
    ) -> Geometry | None:
        if model.learning_rate != "auto" and not isinstance(model.eta0, str):
            return None
        is_quadratic = model.loss in QUADRATIC
        return lie(rounds, found, fit_intercept=bool(model.fit_intercept), is_quadratic=is_quadratic)

    def rest(self, found: Any, before: Before) -> dict[str, Any]:
        return {"n_features": found.n_features, "state": before.state}

    def make(self, **given: Any) -> KeyedSGD:
        """Make the algorithm, which is asked later what its parameters stand for."""
        self._algorithm = self.kind(**given)
        return self._algorithm


class Leading(Keyed):
    """FTRL-Proximal."""

    kind = KeyedLeader

    def geometry(self, *_: Any) -> None:
        return None

    def first_rate(self, model: Any, found: Any) -> float:
        if not isinstance(model.eta0, str):
            return float(model.eta0)
        size = np.sqrt(found.squares / max(1, found.entries))
        return float(coarse(_LEADER_RATE / size)) if size > 0 else _LEADER_RATE
