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
from dparallel.estimators.linear.metric import FEW_COLUMNS, curve_of, diagonal_of, factorise
from dparallel.estimators.linear.search import Trial
from dparallel.records import add_seconds
from dparallel.rounds import Rounds

TILE_VALUES = 1 << 17  # of X at one time: 1 MB stays in a core's own cache from the product to the gradient
_PASS_PER_COLUMN = 1 / 20  # passes over the rows that a Hessian costs, per column


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
    """Value and gradient of the losses of some rows.

    Parameters
    ----------
    value : float
    coef : ndarray of shape (n_features, n_outputs), float64
    intercept : ndarray of shape (n_outputs,), float64
    """

    value: float
    coef: np.ndarray
    intercept: np.ndarray

    def merge(self, other: Slope) -> Slope:
        return Slope(self.value + other.value, self.coef + other.coef, self.intercept + other.intercept)


@dataclass(frozen=True)
class Measure:
    """Partial: the losses and their gradient at (coef, intercept)."""

    reading: Reading

    def __call__(self, shard: Shard, at: tuple[np.ndarray, np.ndarray]) -> Slope:
        coef, intercept = at
        value, slope, total = 0.0, np.zeros_like(coef), np.zeros_like(intercept)
        loss, centre = self.reading.objective.loss, self.reading.centre
        for X, y, weights in self.reading.tiles(shard):
            losses, residuals = loss(self.reading.scores(X, coef, intercept), y, weights)
            value += losses
            slope += X.T @ residuals
            total += residuals.sum(axis=0)
        # the rows' centre is taken off at the end, for CSR has no room for it
        return Slope(value, slope - np.outer(centre, total), total)


@dataclass(frozen=True)
class Curve:
    """Partial: X' H X at (coef, intercept), or its diagonal, with an intercept's column after those of X.

    H holds each row's second derivative, the mean over the outputs.
    """

    reading: Reading
    diagonal: bool

    def __call__(self, shard: Shard, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        coef, intercept = at
        size, centre = len(coef) + 1, self.reading.centre
        total = np.zeros(size if self.diagonal else (size, size))
        for X, _, weights in self.reading.tiles(shard):
            bend = self.reading.objective.loss.bend(self.reading.scores(X, coef, intercept), weights)
            if self.diagonal:
                total[:-1] += diagonal_of(X, centre, bend)
                total[-1] += bend.sum()
            else:
                total += curve_of(X, centre, bend, with_intercept=True)
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

    Attributes
    ----------
    coef, intercept : ndarray, where the solver is
    """

    def __init__(self, rounds: Rounds, reading: Reading, coef: np.ndarray, intercept: np.ndarray):
        self.rounds = rounds
        self.reading = reading
        self.parameters = np.vstack([coef, intercept])
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._looked: tuple[Trial, np.ndarray] | None = None
        self._since = 0  # moves in the present metric
        self._period = max(1, round(len(coef) * _PASS_PER_COLUMN))

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
        self._measure()
        value, gradient = self._evaluate(self.parameters)
        return self._settle(value, gradient)

    def _measure(self) -> None:
        """Take the Hessian here for the metric, or its diagonal where columns are many."""
        few, objective = len(self.coef) <= FEW_COLUMNS, self.reading.objective
        at = self.coef, self.intercept
        # not joined by worker first: which shards share a worker must not show in the last bits
        bends = self.rounds.reduce(Curve(self.reading, not few), add, at)
        if few and not objective.fit_intercept:
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

    def _evaluate(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient, one round."""
        objective = self.reading.objective
        with np.errstate(over="ignore", invalid="ignore"):
            found: Slope = self.rounds.reduce(Measure(self.reading), Slope.merge, (parameters[:-1], parameters[-1]))
        self.bytes_moved += self.rounds.bytes_moved
        self.seconds_by_worker = add_seconds([self.seconds_by_worker, self.rounds.seconds_by_worker])
        shrunk = parameters[:-1] * objective.penalties
        value = found.value + 0.5 * float(np.vdot(shrunk, parameters[:-1]))
        slope = np.vstack([found.coef + shrunk, found.intercept if objective.fit_intercept else 0 * found.intercept])
        return objective.scale * value, objective.scale * slope

    def aim(self, direction: np.ndarray) -> None:
        vectors = [s for s, _ in self._pairs] + [y for _, y in self._pairs] + [self._scaled]
        self._ahead = sum(share * vector for share, vector in zip(direction, vectors, strict=True))
        self._direction = self.metric.leave(self._ahead)
        self._looked = None

    def look(self, step: float) -> Trial:
        return self._look(step)[0]

    def _look(self, step: float) -> tuple[Trial, np.ndarray]:
        if self._looked is None or self._looked[0].step != step:
            value, gradient = self._evaluate(self.parameters + step * self._direction)
            self._looked = Trial(step, value, float(np.vdot(gradient, self._direction))), gradient
        return self._looked

    def move(self, step: float) -> Spot:
        trial, gradient = self._look(step)
        self.parameters = self.parameters + step * self._direction
        self._since += 1
        if self._is_stale():
            self._measure()
            return self._settle(trial.value, gradient)
        scaled = self.metric.shrink(gradient)
        pair = step * self._ahead, scaled - self._scaled
        self._gradient, self._scaled = gradient, scaled
        self._pairs = [*self._pairs[-(MOST_PAIRS - 1) :], pair]
        basis = [s for s, _ in self._pairs] + [y for _, y in self._pairs] + [scaled]
        rows = np.array([[float(np.vdot(new, vector)) for vector in basis] for new in (*pair, scaled)])
        self.memory.follow(rows, MOST_PAIRS)
        return Spot(trial.value, float(np.abs(gradient).max(initial=0.0)))

    def _is_stale(self) -> bool:
        """Whether a new Hessian would be worth its pass: not where it is the same everywhere, or was just taken."""
        is_quadratic = self.reading.objective.loss.is_quadratic
        return len(self.coef) <= FEW_COLUMNS and not is_quadratic and self._since >= self._period

    def forget(self) -> None:
        self._pairs = []
        self.memory = Memory(float(np.vdot(self._scaled, self._scaled)))
