"""Rows and columns in tiles: scores are summed across a row of tiles, gradients down a column.

The solver's vectors are cut like the columns and stay with them. The driver sees inner products, and the intercepts,
which belong to no column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dparallel.estimators.linear.crew import Crew
from dparallel.estimators.linear.fitting import Task
from dparallel.estimators.linear.lbfgs import MOST_PAIRS, Landscape, Memory, Spot
from dparallel.estimators.linear.search import Trial
from dparallel.estimators.linear.tile_vectors import Vectors

_FEWEST_PAIRS, _MOST_PAIRS = 2, 30  # an iteration costs several round trips, and a pair little beside them
_OTHER_SLICES = 5  # besides the pairs: coefficients, direction, gradient, and two that are being made


@dataclass
class Intercepts:
    """The intercepts' share in every vector, in the solver's coordinates: of shape (n_outputs,) each.

    Parameters
    ----------
    root : float, by which steps are multiplied and gradients divided
    value : ndarray, the intercepts themselves, for rows that are centred
    """

    root: float
    value: np.ndarray
    gradient: np.ndarray
    steps: list[np.ndarray] = field(default_factory=list)
    changes: list[np.ndarray] = field(default_factory=list)

    @property
    def basis(self) -> list[np.ndarray]:
        """s_1 .. s_m, y_1 .. y_m, g."""
        return [*self.steps, *self.changes, self.gradient]

    def point(self, shares: np.ndarray) -> np.ndarray:
        """A direction as the parameters see it."""
        total = sum(share * vector for share, vector in zip(shares, self.basis, strict=True))
        return np.asarray(total / self.root)

    def advance(self, ahead: np.ndarray, step: float, gradient: np.ndarray, n_kept: int) -> None:
        """Go a step; gradient : as the parameters see it, at its end."""
        before, first = self.gradient, len(self.steps) - n_kept
        self.value = self.value + step * ahead
        self.gradient = gradient / self.root
        self.steps = [*self.steps[first:], step * self.root * ahead]
        self.changes = [*self.changes[first:], self.gradient - before]

    def products(self) -> np.ndarray:
        """As tile_tasks.find_products."""
        newest = (self.steps[-1], self.changes[-1], self.gradient) if self.steps else (self.gradient,)
        return np.array([[float(new @ vector) for vector in self.basis] for new in newest])


@dataclass
class Move:
    """What the driver decided in one iteration: enough to have the workers run it again.

    Parameters
    ----------
    shares : ndarray, coefficients of the direction
    intercept : ndarray, the direction of the intercepts
    step : float, None while the search is on
    n_kept : int, pairs that are kept besides the new one
    """

    shares: np.ndarray
    intercept: np.ndarray
    step: float | None = None
    n_kept: int = 0


class TileLandscape(Landscape):
    """An objective over tiles on the workers of a cluster.

    Parameters
    ----------
    crew : Crew
    task : Task
    """

    def __init__(self, crew: Crew, task: Task):
        self.crew = crew
        self.task = task
        self.objective = task.objective
        loss, scale = self.objective.loss, self.objective.scale
        # where all scores are the same every row bends alike
        bend = float(loss.bend(np.zeros((1, loss.n_outputs)), None)[0])
        begin = np.zeros(loss.n_outputs) if task.intercept is None else np.array(task.intercept, np.float64)
        # the losses' weights sum to 1 / scale
        self.intercepts = Intercepts(float(np.sqrt(bend)), begin, np.zeros(loss.n_outputs))
        self.vectors = Vectors(crew, task, bend)
        self._scale = scale
        self._most_pairs = MOST_PAIRS
        self._moves: list[Move] = []
        self._penalties = np.zeros((3, loss.n_outputs))
        self._looked = Trial(0.0, np.inf, 0.0)

    @property
    def state(self) -> TileLandscape:
        return self

    def _build(self) -> None:
        """Have the workers make what they hold, and take again whatever moves were made."""
        vectors = self.vectors
        vectors.load()
        vectors.begin(self.intercepts.value if not self._moves else self._begun)
        for move in self._moves:
            vectors.point(move.shares, move.intercept)
            if move.step is not None:
                vectors.advance(move.step, move.n_kept)

    def _ask(self, submit: Callable[[], Sequence[Any]]) -> list[Any]:
        before = self.crew.bytes_received
        found: list[Any] = self.crew.persevere(lambda: self.crew.gather(submit()), self._build)
        self.bytes_moved += self.crew.bytes_received - before
        return found

    def start(self) -> Spot:
        def load() -> np.ndarray:
            self.vectors.load()
            offsets = self.crew.gather(self.vectors.offsets(self.vectors.coef))
            return np.asarray(sum(offsets))

        offset = self.crew.persevere(load, lambda: None)
        self.intercepts.value = self._begun = self.intercepts.value + offset
        self.crew.persevere(self._build, lambda: None)
        self._most_pairs = self._choose_pairs()
        n_rows = self.vectors.n_rows
        found = self._ask(lambda: [*self.vectors.values(), *self.vectors.penalties()])
        self._penalties = np.asarray(sum(found[n_rows:]))
        self._looked = Trial(0.0, self._value(sum(found[:n_rows]), 0.0), 0.0)
        products, residuals, steepness = self._measure()
        self.intercepts.gradient = residuals / self.intercepts.root
        self.memory = Memory(float((products + self.intercepts.products())[0, 0]))
        return Spot(self._looked.value, steepness)

    def _choose_pairs(self) -> int:
        """As many pairs as there is memory for."""
        free = self.crew.free_bytes()
        if free is None:
            return MOST_PAIRS
        slices = 8 * self.crew.grid.form.n_features * self.objective.loss.n_outputs
        return int(np.clip((free / slices - _OTHER_SLICES) // 2, _FEWEST_PAIRS, _MOST_PAIRS))

    def _value(self, losses: float, step: float) -> float:
        squares = self._penalties[0] + 2.0 * step * self._penalties[1] + step * step * self._penalties[2]
        return self._scale * (losses + 0.5 * float(self.objective.penalties @ squares))

    def aim(self, direction: np.ndarray) -> None:
        self.crew.look_around()
        if self._moves and self._moves[-1].step is None:
            self._moves.pop()  # a direction that led nowhere
        move = Move(direction, self.intercepts.point(direction))
        self._moves.append(move)
        self._is_aimed = False
        self.vectors.point(move.shares, move.intercept)

    def look(self, step: float) -> Trial:
        n_rows = self.vectors.n_rows
        if self._is_aimed:
            found = self._ask(lambda: self.vectors.looks(step))
        else:
            found = self._ask(lambda: [*self.vectors.looks(step), *self.vectors.penalties()])
            self._penalties, self._is_aimed = np.asarray(sum(found[n_rows:])), True
        losses, slopes = (sum(part[i] for part in found[:n_rows]) for i in (0, 1))
        bend = self._penalties[1] + step * self._penalties[2]
        slope = self._scale * (slopes + float(self.objective.penalties @ bend))
        self._looked = Trial(step, self._value(losses, step), slope)
        return self._looked

    def move(self, step: float) -> Spot:
        move, intercepts = self._moves[-1], self.intercepts
        move.step, move.n_kept = step, min(len(intercepts.steps), self._most_pairs - 1)
        self.vectors.advance(step, move.n_kept)
        products, residuals, steepness = self._measure()
        intercepts.advance(move.intercept, step, residuals, move.n_kept)
        self.memory.follow(products + intercepts.products(), self._most_pairs)
        return Spot(self._looked.value, steepness)

    def _measure(self) -> tuple[np.ndarray, np.ndarray, float]:
        """The slices' inner products, the intercepts' gradient, and the largest derivative."""
        n_rows = self.vectors.n_rows
        found = self._ask(lambda: [*self.vectors.totals(), *self.vectors.products()])
        residuals = np.asarray(sum(found[:n_rows])) * (self._scale * self.objective.fit_intercept)
        steepness = max(float(np.abs(residuals).max()), *(part[1] for part in found[n_rows:]))
        return np.asarray(sum(part[0] for part in found[n_rows:])), residuals, steepness

    def forget(self) -> None:
        self.intercepts.steps, self.intercepts.changes = [], []
        self.memory = Memory(float(self.memory.products[-1, -1]))

    def close(self) -> None:
        """Let go of what the workers hold."""
        self.vectors.close()

    def finish(self) -> tuple[list[Any], np.ndarray]:
        """The slices of the coefficients, and the intercepts of rows that are not centred."""
        offsets = self._ask(lambda: self.vectors.offsets(self.vectors.take_coef()))
        return self.vectors.take_coef(), self.intercepts.value - sum(offsets)
