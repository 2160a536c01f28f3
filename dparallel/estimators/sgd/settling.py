"""From an estimator's parameters and the survey of its rows to the algorithm that is run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.errors import DataError
from dparallel.estimators.sgd.algorithm import Averaging, LinearSGD, Objective, published
from dparallel.estimators.sgd.classes import Labels
from dparallel.estimators.sgd.geometry import Geometry, coarse, lie
from dparallel.estimators.sgd.holdout import hold_out
from dparallel.estimators.sgd.judge import EpochJudge
from dparallel.estimators.sgd.pace import Pace, choose_pace
from dparallel.estimators.sgd.parameters import PASSIVE
from dparallel.estimators.sgd.rows import Reading, count_batches
from dparallel.estimators.sgd.schedule import QUADRATIC, Schedule, choose_knee, curvature
from dparallel.estimators.sgd.survey import Survey, survey
from dparallel.moments import Moments
from dparallel.rounds import Rounds
from dparallel.store.optimizers import make_optimizer
from dparallel.workers import Outcome

_SURE = 2.0  # the largest second derivative of a loss is up to twice what curvature says


@dataclass(frozen=True)
class Before:
    """What earlier calls of partial_fit have done.

    Parameters
    ----------
    batches : float, minibatches of a partition; epochs : int; rows : int, rows seen, repeats counted
    moments : Moments of all rows seen, or None
    stored : stored values of each of their columns, see Survey
    eta0 : float, the shortest first rate that "auto" has chosen, 0 for none
    coef, intercept : the parameters that training goes on from, float64; None where those are the published ones
    coef_sum, intercept_sum, n_summed : sums of the parameters of all minibatches, for average
    state : the parameters of a store that goes on as a whole, or None
    """

    batches: float = 0.0
    epochs: int = 0
    rows: int = 0
    moments: Moments | None = None
    stored: np.ndarray | None = None
    eta0: float = 0.0
    coef: np.ndarray | None = None
    intercept: np.ndarray | None = None
    coef_sum: np.ndarray | float = 0.0
    intercept_sum: np.ndarray | float = 0.0
    n_summed: float = 0.0
    state: Any = None

    @property
    def last(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The parameters that training goes on from."""
        return self.coef, self.intercept

    def with_moments(self, found: Survey) -> Moments:
        """Moments of all rows, those of this call included."""
        return self.moments.merge(found.moments) if self.moments is not None and self._is_like(found) else found.moments

    def with_stored(self, found: Survey) -> np.ndarray | None:
        """Stored values of each column, those of this call included; None for dense rows."""
        if self.stored is None or found.stored is None:
            return found.stored
        return self.stored + found.stored

    def _is_like(self, found: Survey) -> bool:
        """Whether the rows are CSR, or dense, as they were before; else what was measured then is of no use."""
        return (self.stored is None) == (found.stored is None)

    def follow(self, outcome: Outcome, algorithm: LinearSGD, found: Survey, per_epoch: float) -> Before:
        """What is left after one more call; per_epoch : minibatches of an epoch of the longest partition."""
        parameters = outcome.parameters
        is_summed = algorithm.averaging is not None  # without, earlier sums are out of date
        return Before(
            batches=self.batches + outcome.n_epochs * per_epoch,
            epochs=self.epochs + outcome.n_epochs,
            rows=self.rows + outcome.n_epochs * int(algorithm.row_counts.sum()),
            moments=self.with_moments(found),
            stored=self.with_stored(found),
            eta0=algorithm.schedule.eta0,
            coef=parameters["coef"] if is_summed else None,
            intercept=parameters["intercept"] if is_summed else None,
            coef_sum=self.coef_sum + parameters["coef_sum"] if is_summed else 0.0,
            intercept_sum=self.intercept_sum + parameters["intercept_sum"] if is_summed else 0.0,
            n_summed=self.n_summed + float(parameters["n_summed"][0]) if is_summed else 0.0,
            state=algorithm.kept(parameters),
        )

    def published(self, parameters: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The parameters to publish: the average of those summed, where there are any."""
        if not self.n_summed:
            return parameters["coef"], parameters["intercept"]
        return np.asarray(self.coef_sum / self.n_summed), np.asarray(self.intercept_sum / self.n_summed)


def begin(n_outputs: int, n_features: int, coef: Any, intercept: Any) -> tuple[np.ndarray, np.ndarray]:
    """The parameters to start from: those given, or zeros.

    Returns
    -------
    coef : ndarray of shape (n_outputs, n_features), float64, a copy
    intercept : ndarray of shape (n_outputs,), float64, a copy

    Raises
    ------
    DataError
        If a given one has another shape.
    """
    start = np.zeros((n_outputs, n_features)), np.zeros(n_outputs)
    for name, given, values in (("coef_init", coef, start[0]), ("intercept_init", intercept, start[1])):
        if given is None:
            continue
        given = np.asarray(given.toarray() if hasattr(given, "toarray") else given, np.float64)
        alike = given.shape == values.shape or (n_outputs == 1 and given.size == values.size)
        if not alike:
            raise DataError(
                f"Provided {name} does not match dataset. It has shape {given.shape}, and {values.shape} is needed."
            )
        values[...] = given.reshape(values.shape)
    return start


class Dense:
    """Coefficients in one array: how they are begun, trained and published."""

    kind: Any = LinearSGD
    survey: Any = staticmethod(survey)
    begin: Any = staticmethod(begin)
    published: Any = staticmethod(published)

    def learnt(self, after: Before, parameters: dict[str, np.ndarray]) -> tuple[Any, np.ndarray]:
        """The parameters to publish at the end of a call."""
        return after.published(parameters)

    def pace(self, model: Any, rounds: Rounds, found: Any, targets: Any) -> Pace:
        """How much is done between two looks at the store."""
        return choose_pace(
            1 if model.learning_rate in PASSIVE else model.batch_size,
            model._minibatches_of_a_step(),
            n_rows=found.n_rows,
            n_partitions=rounds.n_shards,
            entries=found.entries,
            n_outputs=targets.n_outputs,
            is_local=rounds.is_local,
        )

    def geometry(
        self, model: Any, rounds: Rounds, before: Before, found: Any, objective: Objective, partial: bool
    ) -> Geometry | None:
        """How the rows lie, where anything depends on it."""
        scaled = model.learning_rate == "auto"
        if not (scaled or isinstance(model.eta0, str) or (objective.l1 and not partial)):
            return None
        return lie(
            rounds,
            before.with_moments(found),
            before.with_stored(found),
            fit_intercept=bool(model.fit_intercept),
            scaled=scaled,
            is_batch=partial,
            is_quadratic=model.loss in QUADRATIC,
        )

    def first_rate(self, model: Any, found: Any) -> float | None:
        """The rate at the start where no geometry is needed for it."""
        return None if isinstance(model.eta0, str) else float(model.eta0)

    def rest(self, found: Any, before: Before) -> dict[str, Any]:
        """What else the algorithm is given."""
        return {}

    def make(self, **given: Any) -> LinearSGD:
        """Make the algorithm."""
        return self.kind(**given)


def settle(
    model: Any,
    rounds: Rounds,
    found: Survey,
    targets: Any,
    seed: int,
    start: tuple[Any, np.ndarray],
    before: Before,
    *,
    partial: bool = False,
    way: Any,
) -> LinearSGD:
    """Make the algorithm of one call of fit or partial_fit.

    Parameters
    ----------
    model : classifier or regressor by SGD
    targets : Labels or Numbers
    start : coef and intercept to start from
    partial : bool, whether partial_fit asks: one epoch, which nobody judges
    way : Dense, or what has the same methods
    """
    objective = make_objective(model, targets)
    pace = way.pace(model, rounds, found, targets)
    early = model.early_stopping and not partial
    fraction = model.validation_fraction
    held_out = hold_out(rounds, targets, seed, fraction, found.n_rows) if early else None
    reading = Reading(targets, seed, bool(model.shuffle), held_out)
    geometry = way.geometry(model, rounds, before, found, objective, partial)
    eta0 = way.first_rate(model, found)
    if eta0 is None:
        eta0 = _first_rate(found, targets, objective, geometry, pace, before)
    settling_time = 0.0 if geometry is None else float(coarse(geometry.settling_time(pace.batch_size)))
    knee = choose_knee(settling_time, longest_epoch(rounds, pace))
    local = rounds.blocks.local
    return way.make(
        coef=start[0],
        intercept=start[1],
        objective=objective,
        schedule=Schedule(model.learning_rate, eta0, float(model.power_t), float(model.alpha), knee),
        pace=pace,
        reading=reading,
        optimizer=make_optimizer(model.optimizer, 1.0 if model.optimizer == "sgd" else None),
        verdicts=_judge(model, objective, eta0, targets.score if early else None, partial),
        row_counts=np.array(found.rows, np.int64),
        batches_before=before.batches,
        epochs_before=before.epochs,
        averaging=Averaging(int(model.average), found.n_rows, before.rows) if model.average else None,
        sure_rate=_sure_rate(found, targets, objective, geometry),
        metric=None if geometry is None else geometry.metric,
        shift=None if geometry is None else geometry.shift,
        whole=None if local is None else way.kind.source_kind([local], [0], [0], reading),
        **way.rest(found, before),
    )


def _judge(model: Any, objective: Objective, eta0: float, score: Any, partial: bool) -> EpochJudge:
    return EpochJudge(
        tol=None if partial else model.tol,
        patience=int(model.n_iter_no_change),
        l1=objective.l1,
        l2=objective.l2,
        eta0=eta0,
        learning_rate=model.learning_rate,
        score=score,
    )


def _first_rate(
    found: Survey, targets: Any, objective: Objective, geometry: Geometry, pace: Pace, before: Before
) -> float:
    bend = _bend_of_loss(found, targets, objective) * geometry.bend(pace.batch_size)
    rate = float(coarse(1.0 / bend)) if bend > 0 else 1.0
    return min(rate, before.eta0) if before.eta0 else rate


def _sure_rate(found: Survey, targets: Any, objective: Objective, geometry: Geometry | None) -> float:
    if geometry is None or not geometry.top > 0:
        return 0.0
    return float(coarse(1.0 / (_SURE * _bend_of_loss(found, targets, objective) * geometry.top)))


def _bend_of_loss(found: Survey, targets: Any, objective: Objective) -> float:
    spread = getattr(found.target, "spread", 0.0)  # labels have none
    return curvature(objective.loss, spread, objective.epsilon) * targets.mean_weight(found.target)


def make_objective(model: Any, targets: Any) -> Objective:
    """What a model's parameters ask to make small."""
    shares: dict[Any, tuple[float, float]] = {"l2": (1.0, 0.0), "l1": (0.0, 1.0), None: (0.0, 0.0)}
    if model.penalty == "elasticnet":
        shares["elasticnet"] = 1.0 - model.l1_ratio, model.l1_ratio
    l2, l1 = shares[model.penalty]
    loss = "softmax" if model.loss == "log_loss" and targets.n_outputs > 1 else model.loss
    alpha = float(model.alpha)
    return Objective(loss, float(model.epsilon), alpha * l2, alpha * l1, bool(model.fit_intercept))


def longest_epoch(rounds: Rounds, pace: Pace) -> float:
    """Minibatches of an epoch, of the partition that has most."""
    return float(max(count_batches([n or 0 for n in rows], pace.batch_size) for rows in rounds.rows))


def fingerprint(model: Any, found: Survey, targets: Any) -> dict[str, Any]:
    """What tells one training from another: parameters and the shape of the data, as plain values."""
    left_out = ("checkpoint", "verbose", "n_jobs", "warm_start", "max_iter")
    plain = {name: repr(value) for name, value in model.get_params().items() if name not in left_out}
    plain |= {
        "estimator": type(model).__name__,
        "n_rows": str(found.n_rows),
        "n_features": str(found.n_features),
    }
    if isinstance(targets, Labels):
        plain["classes"] = _digest(targets.classes.tolist())
    return plain


def seed_of(plain: dict[str, Any]) -> int:
    """A seed for a training that may have to be resumed and has none: the same whenever its fingerprint is."""
    return int(_digest(plain), 16)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:15]
