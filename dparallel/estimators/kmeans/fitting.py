"""One fit of k-means: survey the rows, seed, run Lloyd's rounds, and keep the best of several starts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.errors import DataError
from dparallel.estimators.kmeans import seeding
from dparallel.estimators.kmeans.lloyd import Finish, Lloyd, LloydState, Totals
from dparallel.estimators.kmeans.survey import Survey, choose_frame, squares_about_origin, survey
from dparallel.records import Listener, RoundRecord
from dparallel.rounds import Rounds, iterate

SCRATCH_BYTES_PER_ROW = 12  # a label and two bounds, or in seeding a squared distance and the nearest candidate
_FARTHEST = 1e140  # in the frame, where rows lie at distances of about 1


@dataclass(frozen=True)
class Plan:
    """What to do, taken from an estimator's parameters.

    tol : float, relative to the mean variance of the columns
    """

    n_clusters: int
    max_iter: int
    tol: float
    bounded: bool
    unit: bool
    factor: float
    init_rounds: int


@dataclass(frozen=True)
class Run:
    """How one start ended. Centres are in the frame."""

    frame: Any
    centres: np.ndarray
    counts: np.ndarray
    inertia: float
    n_iter: int
    stop_reason: str
    converged: bool
    last_change: float
    history: list[RoundRecord]
    labels: np.ndarray | None
    n_distinct: int


class Fitting:
    """The rows of one fit, surveyed and ready for starts.

    Parameters
    ----------
    rounds : Rounds, open
    plan : Plan
    with_labels : bool, whether runs bring the labels back
    """

    def __init__(self, rounds: Rounds, plan: Plan, *, with_labels: bool):
        self.rounds = rounds
        self.plan = plan
        self.with_labels = with_labels
        self.n_features = rounds.blocks.n_features
        self.found: Survey = survey(rounds, self.n_features, unit=plan.unit)
        n_rows = self.found.plain.n_rows
        if n_rows < plan.n_clusters:
            raise DataError(
                f"n_samples={n_rows} should be >= n_clusters={plan.n_clusters}. Give more rows or take fewer clusters."
            )
        self.frame = choose_frame(self.found, unit=plan.unit, sparse=rounds.blocks.is_sparse)

    def seed(self, init: Any, seed: int) -> np.ndarray:
        """First centres in the frame, of shape (n_clusters, n_features); init : a method's name or centres."""
        plan = self.plan
        if not isinstance(init, str):
            return self._enter(init)
        run = f"seed-{uuid.uuid4().hex}"
        place = (self.rounds, self.frame, self.n_features, plan.n_clusters, seed, run)
        if init == "random":
            rows = seeding.random_rows(*place)
        elif init == "k-means++":
            rows = seeding.greedy(*place)
        else:
            rows = seeding.scalable(*place, factor=plan.factor, n_rounds=plan.init_rounds)
        if len(rows) < plan.n_clusters:  # fewer distinct rows than clusters: repeat some, so that no centre is invented
            rows = np.resize(rows, (plan.n_clusters, self.n_features))
        return self.frame.enter(rows)

    def _enter(self, given: np.ndarray) -> np.ndarray:
        """Bring centres that a user gave into the frame."""
        with np.errstate(over="ignore"):
            centres = self.frame.enter(given)
            too_far = not (np.abs(centres) < _FARTHEST).all()
        if too_far:
            raise DataError(
                "The initial centers lie so far from the rows that squared distances overflow float64. "
                "Give centers nearer to the rows."
            )
        return centres

    def run(self, init: Any, seed: int, listeners: Sequence[Listener] = ()) -> Run:
        """Seed and run Lloyd's rounds once."""
        algorithm = Lloyd(
            self.rounds, self.plan.bounded, self._tolerance(), squares_about_origin(self.found, self.frame)
        )
        state = algorithm.start(uuid.uuid4().hex, self.frame, self.seed(init, seed))
        outcome = iterate(self.rounds, algorithm, state, max_rounds=self.plan.max_iter, listeners=listeners)
        total, labels = self._finish(outcome.state)
        return Run(
            self.frame,
            outcome.state.centres,
            outcome.state.counts,
            self._inertia(total),
            outcome.n_rounds,
            outcome.stop_reason,
            outcome.converged,
            outcome.history[-1].change or 0.0,
            outcome.history,
            labels,
            int((total.members > 0).sum()),
        )

    def _finish(self, state: LloydState) -> tuple[Totals, np.ndarray | None]:
        finish = Finish(self.with_labels)
        if not self.with_labels:
            return self.rounds.reduce(finish, Totals.add, state), None
        parts = self.rounds.collect(finish, state)
        total = parts[0]
        for part in parts[1:]:
            total = total.add(part)
        return total, np.concatenate(total.labels) if total.labels else np.empty(0, np.int32)

    def _inertia(self, total: Totals) -> float:
        if self.plan.unit:
            return 0.5 * (total.inertia + self.found.blank)
        return total.inertia / self.frame.scale**2

    def _tolerance(self) -> float:
        """The tolerance on squared movements, in the frame: tol times the mean variance of the columns.

        Unit rows have at most 1 / n_features of it, and that is taken.
        """
        if self.plan.unit:
            return self.plan.tol / self.n_features
        return self.plan.tol * float(self.found.plain.variance.mean()) * self.frame.scale**2
