"""Rows in shards, all columns together: one pass over the data per evaluation, the solver's vectors in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.estimators.linear.lbfgs import MOST_PAIRS, Landscape, Memory, Spot
from dparallel.estimators.linear.losses import Objective
from dparallel.estimators.linear.metric import FEW_COLUMNS, diagonal_of, factorise
from dparallel.estimators.linear.sample import Sample
from dparallel.estimators.linear.search import Trial
from dparallel.records import add_seconds
from dparallel.rounds import Rounds

TILE_VALUES = 1 << 17  # of X at one time: 1 MB stays in a core's own cache from the product to the gradient
_PASS_PER_COLUMN = 1 / 20  # passes over the rows that a Hessian of them all costs, per column
_MOST_ROWS, _LEAST_ROWS = 600, 100  # per column, of a sample whose Hessian is near enough to that of all rows
_PASS = 0.5  # passes that a sample may cost that is taken at each look
_CHEAP = 1.5  # passes that the Hessian of all rows may cost
_FAST = 0.25  # a step that leaves no more of the gradient than this needs no memory of those before
_FIRST_MOVES = 5  # after so many the Hessian changes little
_MOVES = 10  # after so many a sample's Hessian is taken again in any case


@dataclass(frozen=True)
class Reading:
    """How the rows of a fit are read.

    Parameters
    ----------
    stamp : str, tells this fit's scratch from others'
    targets : Labels or Numbers, which make y and sample_weight what the loss is shown
    objective : Objective
    centre : ndarray of shape (n_features,), float64, that is subtracted from rows; where it lies changes no optimum
    """

    stamp: str
    targets: Any
    objective: Objective
    centre: np.ndarray

    def tiles(self, shard: Shard) -> Iterator[tuple[Any, np.ndarray, np.ndarray | None]]:
        """Rows, targets and weights of a shard, as much at one time as caches hold.

        Targets are made once per fit and kept beside the shard.
        """
        with shard.scratch.borrow(self.stamp) as held:
            known = {} if held is None else held
            for number, block in enumerate(shard.blocks):
                if number not in known:
                    known[number] = self.prepare(block)
                y, weights = known[number]
                height = max(16, TILE_VALUES // max(1, _values_per_row(block.X)) // 16 * 16)
                for low in range(0, block.n_rows, height):
                    rows = slice(low, low + height)
                    yield _cut(block.X, rows), y[rows], None if weights is None else weights[rows]
            shard.scratch.commit(self.stamp, known)

    def prepare(self, block: Block) -> tuple[np.ndarray, np.ndarray | None]:
        """Targets and weights of one block."""
        y = self.targets.targets(block.y)
        weights = self.targets.weigh(y, block.sample_weight)
        return y, weights if weights.size or not len(y) else None

    def scores(self, X: Any, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Scores of some rows, of shape (n_rows, n_outputs), float64; coef : of shape (n_features, n_outputs)."""
        return np.asarray(X @ coef) + (intercept - self.centre @ coef)


def _values_per_row(X: Any) -> int:
    return int(X.shape[1] if not hasattr(X, "indptr") else 2 * X.nnz // max(1, X.shape[0]) + 8)


def _cut(X: Any, rows: slice) -> Any:
    """Some rows as float64 in C order: what a product comes to depends on the order, which a journey may change."""
    if not hasattr(X, "indptr"):
        return np.ascontiguousarray(X[rows], dtype=np.float64)
    low, high = X.indptr[rows.start], X.indptr[min(rows.stop, X.shape[0])]
    pointers = X.indptr[rows.start : rows.stop + 1] - low
    parts = (X.data[low:high].astype(np.float64, copy=False), X.indices[low:high], pointers)
    return type(X)(parts, shape=(len(pointers) - 1, X.shape[1]), copy=False)


@dataclass(frozen=True)
class Slope:
    """Value and gradient of the losses of some rows, and the Hessian of a sample of them.

    Parameters
    ----------
    value : float
    coef : ndarray of shape (n_features, n_outputs), float64
    intercept : ndarray of shape (n_outputs,), float64
    sample : Sample or None
    """

    value: float
    coef: np.ndarray
    intercept: np.ndarray
    sample: Sample | None = None

    def merge(self, other: Slope) -> Slope:
        sample = None if self.sample is None or other.sample is None else self.sample.merge(other.sample)
        return Slope(self.value + other.value, self.coef + other.coef, self.intercept + other.intercept, sample)


@dataclass(frozen=True)
class Measure:
    """Partial: the losses and their gradient at (coef, intercept).

    every : int, the Hessian is taken of every so many-th tile; 0 for of none
    """

    reading: Reading
    every: int = 0

    def __call__(self, shard: Shard, at: tuple[np.ndarray, np.ndarray]) -> Slope:
        coef, intercept = at
        value, slope, total = 0.0, np.zeros_like(coef), np.zeros_like(intercept)
        loss, centre = self.reading.objective.loss, self.reading.centre
        sample = Sample.nothing(len(coef)) if self.every else None
        for number, (X, y, weights) in enumerate(self.reading.tiles(shard)):
            scores = self.reading.scores(X, coef, intercept)
            losses, residuals = loss(scores, y, weights)
            value += losses
            slope += X.T @ residuals
            total += residuals.sum(axis=0)
            if sample is not None:
                sample.stand_for(y, weights)
                if number % self.every == 0:
                    sample.take(X, centre, loss.bend(scores, weights), weights)
        # the rows' centre is taken off at the end, for CSR has no room for it
        return Slope(value, slope - np.outer(centre, total), total, sample)


@dataclass(frozen=True)
class Curve:
    """Partial: X' H X at (coef, intercept) of every so many-th tile, an intercept's column after those of X.

    H holds each row's second derivative, the mean over the outputs.
    """

    reading: Reading
    every: int

    def __call__(self, shard: Shard, at: tuple[np.ndarray, np.ndarray]) -> Sample:
        coef, intercept = at
        total, centre = Sample.nothing(len(coef)), self.reading.centre
        for number, (X, y, weights) in enumerate(self.reading.tiles(shard)):
            total.stand_for(y, weights)
            if number % self.every == 0:
                bend = self.reading.objective.loss.bend(self.reading.scores(X, coef, intercept), weights)
                total.take(X, centre, bend, weights)
        return total


@dataclass(frozen=True)
class Diagonal:
    """Partial: the diagonal of X' H X, see Curve, of all rows."""

    reading: Reading

    def __call__(self, shard: Shard, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        coef, intercept = at
        total, centre = np.zeros(len(coef) + 1), self.reading.centre
        for X, _, weights in self.reading.tiles(shard):
            bend = self.reading.objective.loss.bend(self.reading.scores(X, coef, intercept), weights)
            total[:-1] += diagonal_of(X, centre, bend)
            total[-1] += bend.sum()
        return total


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Combine two sums."""
    return a + b


class RowLandscape(Landscape):
    """An objective over rows in shards.

    Parameters
    ----------
    rounds : Rounds, open
    reading : Reading
    coef, intercept : ndarray of shape (n_features, n_outputs) and (n_outputs,), where to start, with rows centred
    mean_squares : ndarray of shape (n_features,), of all rows' distances to the centre, weighted as in the objective;
        None where that is not known

    Attributes
    ----------
    coef, intercept : ndarray, where the solver is
    """

    def __init__(
        self,
        rounds: Rounds,
        reading: Reading,
        coef: np.ndarray,
        intercept: np.ndarray,
        mean_squares: np.ndarray | None,
    ):
        self.rounds = rounds
        self.reading = reading
        self._mean_squares = mean_squares
        self.parameters = np.vstack([coef, intercept])
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._looked: tuple[Trial, np.ndarray, Sample | None] | None = None
        self._since = 0  # moves in the present metric
        self._moves = 0
        self._every, self._is_beside = self._choose_sample()
        self._period = max(1, round(len(coef) * _PASS_PER_COLUMN / self._every))

    def _choose_sample(self) -> tuple[int, bool]:
        """Of every how many-th tile the Hessian is taken, and whether at each look or in rounds of its own.

        Where the objective is quadratic its Hessian is the solution, and taken of all rows.
        """
        n_rows, n_columns = self.rounds.n_rows or 0, len(self.parameters)
        passes = n_columns * _PASS_PER_COLUMN
        if self.reading.objective.loss.is_quadratic or n_columns > FEW_COLUMNS or passes <= _CHEAP:
            return 1, False
        rows = min(_MOST_ROWS * n_columns, n_rows * _PASS / passes)
        is_beside = rows >= _LEAST_ROWS * n_columns
        every = int(n_rows // (rows if is_beside else _LEAST_ROWS * n_columns))
        return max(1, every), is_beside and every > 1

    @property
    def coef(self) -> np.ndarray:
        return self.parameters[:-1]

    @property
    def intercept(self) -> np.ndarray:
        return self.parameters[-1]

    @property
    def state(self) -> tuple[np.ndarray, np.ndarray]:
        return self.coef, self.intercept

    def start(self) -> Spot:
        if not self._is_beside:
            self._measure()
        value, gradient, sample = self._evaluate(self.parameters)
        if sample is not None:
            self._adopt(sample.calibrated(self._mean_squares))
        return self._settle(value, gradient)

    def _measure(self) -> None:
        """Take the Hessian here for the metric, or its diagonal where columns are many."""
        at = self.coef, self.intercept
        # not joined by worker first: which shards share a worker must not show in the last bits
        if len(self.coef) > FEW_COLUMNS:
            self._adopt(self.rounds.reduce(Diagonal(self.reading), add, at))
        else:
            found: Sample = self.rounds.reduce(Curve(self.reading, self._every), Sample.merge, at)
            self._adopt(found.calibrated(self._mean_squares))

    def _adopt(self, bends: np.ndarray) -> None:
        """Make a metric of a Hessian, or of its diagonal."""
        objective = self.reading.objective
        if bends.ndim == 2 and not objective.fit_intercept:
            bends[-1, :-1] = bends[:-1, -1] = 0.0
        self.metric = factorise(bends, objective.penalties, objective.scale, n_free=1)
        self._since = 0

    def _settle(self, value: float, gradient: np.ndarray) -> Spot:
        """Begin anew from here, without pairs."""
        self._gradient = gradient
        self._scaled = self.metric.shrink(gradient)
        self._pairs = []
        self.memory = Memory(float(np.vdot(self._scaled, self._scaled)))
        return Spot(value, float(np.abs(gradient).max(initial=0.0)))

    def _evaluate(self, parameters: np.ndarray) -> tuple[float, np.ndarray, Sample | None]:
        """Value and gradient, and the Hessian of a sample where one is taken; one round."""
        objective = self.reading.objective
        measure = Measure(self.reading, self._every if self._is_beside else 0)
        with np.errstate(over="ignore", invalid="ignore"):
            found: Slope = self.rounds.reduce(measure, Slope.merge, (parameters[:-1], parameters[-1]))
        self.bytes_moved += self.rounds.bytes_moved
        self.seconds_by_worker = add_seconds([self.seconds_by_worker, self.rounds.seconds_by_worker])
        shrunk = parameters[:-1] * objective.penalties
        value = found.value + 0.5 * float(np.vdot(shrunk, parameters[:-1]))
        slope = np.vstack([found.coef + shrunk, found.intercept if objective.fit_intercept else 0 * found.intercept])
        return objective.scale * value, objective.scale * slope, found.sample

    def aim(self, direction: np.ndarray) -> None:
        vectors = [s for s, _ in self._pairs] + [y for _, y in self._pairs] + [self._scaled]
        self._ahead = sum(share * vector for share, vector in zip(direction, vectors, strict=True))
        self._direction = self.metric.leave(self._ahead)
        self._looked = None

    def look(self, step: float) -> Trial:
        return self._look(step)[0]

    def _look(self, step: float) -> tuple[Trial, np.ndarray, Sample | None]:
        if self._looked is None or self._looked[0].step != step:
            value, gradient, sample = self._evaluate(self.parameters + step * self._direction)
            self._looked = Trial(step, value, float(np.vdot(gradient, self._direction))), gradient, sample
        return self._looked

    def move(self, step: float) -> Spot:
        trial, gradient, sample = self._look(step)
        self.parameters = self.parameters + step * self._direction
        self._since += 1
        self._moves += 1
        scaled = self.metric.shrink(gradient)
        if sample is not None and self._is_better_anew(scaled):
            self._adopt(sample.calibrated(self._mean_squares))
            return self._settle(trial.value, gradient)
        if sample is None and self._is_stale():
            self._measure()
            return self._settle(trial.value, gradient)
        pair = step * self._ahead, scaled - self._scaled
        self._gradient, self._scaled = gradient, scaled
        self._pairs = [*self._pairs[-(MOST_PAIRS - 1) :], pair]
        basis = [s for s, _ in self._pairs] + [y for _, y in self._pairs] + [scaled]
        rows = np.array([[float(np.vdot(new, vector)) for vector in basis] for new in (*pair, scaled)])
        self.memory.follow(rows, MOST_PAIRS)
        return Spot(trial.value, float(np.abs(gradient).max(initial=0.0)))

    def _is_better_anew(self, scaled: np.ndarray) -> bool:
        """Whether to take over a sample's Hessian, which costs no round, and forget the steps.

        Where steps in its measure are slow, a sample does not show what bends: then their memory is worth more, and the
        next sample is larger.
        """
        left = float(np.vdot(scaled, scaled)) / max(self.memory.products[-1, -1], np.finfo(float).tiny)
        is_fast = self._moves < _FIRST_MOVES or left <= _FAST**2
        if not is_fast:
            self._every = max(1, self._every // 2)
        return is_fast or self._since >= _MOVES

    def _is_stale(self) -> bool:
        """Whether a new Hessian would be worth its pass: not where it is the same everywhere, or was just taken."""
        is_quadratic = self.reading.objective.loss.is_quadratic
        return len(self.coef) <= FEW_COLUMNS and not is_quadratic and self._since >= self._period

    def forget(self) -> None:
        self._pairs = []
        self.memory = Memory(float(np.vdot(self._scaled, self._scaled)))
