"""What runs on the workers where columns are split: each function sees one tile, or one slice of the vectors.

Slices are C-contiguous arrays of shape (n_columns, n_outputs), float64. All functions are pure and give the same bits
whenever they run, so any of them may run again after a worker has died.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from dparallel.blocks.block import Block, aligned
from dparallel.blocks.grid import Targets
from dparallel.blocks.matrix import check_length
from dparallel.estimators.linear.losses import Loss, Objective
from dparallel.estimators.linear.metric import Metric, curve_of, factorise
from dparallel.moments import Moments, measure_block

_STRIP_VALUES = 1 << 17  # of a tile that is made dense, or copied, at one time


@dataclass(frozen=True)
class Frame:
    """The coordinates of a slice.

    Parameters
    ----------
    centre : ndarray of shape (n_columns,), float64, that is subtracted from the columns
    metric : Metric, of the slice alone
    """

    centre: np.ndarray
    metric: Metric

    def __sizeof__(self) -> int:
        return self.centre.nbytes + self.metric.__sizeof__()


@dataclass(frozen=True)
class Slice:
    """What the solver knows of some columns. Arrays are never changed, and states that follow share them.

    Parameters
    ----------
    coef : ndarray, the coefficients
    gradient : ndarray, in the solver's coordinates
    steps, changes : tuple of ndarray, s and y of each pair, the oldest first, in the solver's coordinates
    """

    coef: np.ndarray
    gradient: np.ndarray
    steps: tuple[np.ndarray, ...] = ()
    changes: tuple[np.ndarray, ...] = ()

    @property
    def basis(self) -> tuple[np.ndarray, ...]:
        """s_1 .. s_m, y_1 .. y_m, g."""
        return (*self.steps, *self.changes, self.gradient)

    def __sizeof__(self) -> int:
        return self.coef.nbytes + sum(vector.nbytes for vector in self.basis)


@dataclass(frozen=True)
class Row:
    """Targets and weights of a row of tiles, as the loss is shown them; weights None where all are 1."""

    targets: np.ndarray
    weights: np.ndarray | None


def run(function: Any, *arguments: Any) -> Any:
    """Call a function of this module with arrays that lie where compiled loops want them.

    What came over a network lies anywhere, and NumPy multiplies such arrays by other loops, to other bits.
    """
    return function(*(straightened(argument) for argument in arguments))


def straightened(thing: Any) -> Any:
    """The same with all its arrays aligned, copied where they were not."""
    if isinstance(thing, np.ndarray) or hasattr(thing, "indptr"):
        return aligned(thing)
    if isinstance(thing, (list, tuple)):
        parts = [straightened(part) for part in thing]
        return thing if all(a is b for a, b in zip(parts, thing, strict=True)) else type(thing)(parts)
    if isinstance(thing, (Frame, Metric, Slice, Row, Targets)):
        held = {field.name: getattr(thing, field.name) for field in fields(thing)}
        found = {name: straightened(value) for name, value in held.items()}
        changed = {name: value for name, value in found.items() if value is not held[name]}
        return replace(thing, **changed) if changed else thing
    return thing


def summarise_row(targets: Targets, summarise: Any) -> tuple[Any, float]:
    """What a row of tiles shows of the targets, None for no rows, and the rows' weight."""
    n_rows, weights = len(targets.y), targets.sample_weight
    total = float(n_rows) if weights is None else float(weights.sum())
    return summarise(targets.y, weights) if n_rows else None, total


def prepare_row(raw: Targets, targets: Any) -> Row:
    """Make y and sample_weight what the loss is shown."""
    y = targets.targets(raw.y)
    weights = targets.weigh(y, raw.sample_weight)
    return Row(y, weights if weights.size or not len(y) else None)


def measure_tile(X: Any, row: Row, index: int) -> Moments:
    """Moments of the columns of a tile; raises DataError for NaN and infinity, AlignmentError for other lengths."""
    check_length("y", row.targets, X.shape[0], index)
    return measure_block(Block(X, None, row.weights, index))


def find_centre(fit_intercept: bool, *moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """What is subtracted from the columns, and their sums of squares about it."""
    total = moments[0]
    for other in moments[1:]:
        total = total.merge(other)
    centre = total.mean if fit_intercept else np.zeros_like(total.mean)
    return centre, total.deviation + total.weight * (total.mean - centre) ** 2


def bend_tile(X: Any, row: Row, centre: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """A tile's share in the Hessian of the losses of its columns, for second derivatives of 1."""
    bend = np.ones(X.shape[0]) if row.weights is None else row.weights
    total = np.zeros((X.shape[1], X.shape[1]))
    height = max(16, _STRIP_VALUES // max(1, X.shape[1]))
    for low in range(0, X.shape[0], height):
        total += curve_of(X[low : low + height], centre[0], bend[low : low + height])
    return total


def make_frame(objective: Objective, bend: float, centre: tuple[np.ndarray, np.ndarray], *bends: np.ndarray) -> Frame:
    """The coordinates of a column of tiles.

    Parameters
    ----------
    bend : float, second derivative of one row's loss where all scores are the same
    centre : what find_centre returns
    bends : what bend_tile returns, for all tiles of the column; none to make do with the diagonal
    """
    curve: Any = sum(bends) if bends else centre[1]
    return Frame(centre[0], factorise(bend * curve, objective.penalties, objective.scale))


def begin_scores(row: Row, intercept: np.ndarray) -> np.ndarray:
    """Scores where all coefficients are 0: of shape (n_rows, n_outputs)."""
    return np.tile(intercept, (len(row.targets), 1))


def score_tile(X: Any, coef: np.ndarray, frame: Frame) -> np.ndarray:
    """A tile's share in the scores of its rows: of shape (n_rows, n_outputs)."""
    return np.asarray(X @ coef) - frame.centre @ coef


def add_scores(intercept: np.ndarray, *parts: np.ndarray) -> np.ndarray:
    """Scores of a row of tiles."""
    total = parts[0] + intercept
    for part in parts[1:]:
        total += part
    return total


def look_at_row(
    row: Row, scores: np.ndarray, step: float, loss: Loss, intercept: np.ndarray, *parts: np.ndarray
) -> tuple[float, float]:
    """Loss of a row of tiles after a step, and its derivative by the step; intercept, parts : as for add_scores."""
    ahead = add_scores(intercept, *parts)
    with np.errstate(over="ignore", invalid="ignore"):
        value, residuals = loss(scores + step * ahead, row.targets, row.weights)
        return value, float(np.vdot(residuals, ahead))


def value_row(row: Row, scores: np.ndarray, loss: Loss) -> float:
    """Loss of a row of tiles."""
    return loss(scores, row.targets, row.weights)[0]


def advance_scores(scores: np.ndarray, ahead: np.ndarray, step: float) -> np.ndarray:
    """Scores after a step."""
    return scores + step * ahead


def find_residuals(row: Row, scores: np.ndarray, ahead: np.ndarray | None, step: float, loss: Loss) -> np.ndarray:
    """Derivatives of the loss by the scores, after a step."""
    return loss(scores if ahead is None else advance_scores(scores, ahead, step), row.targets, row.weights)[1]


def sum_residuals(residuals: np.ndarray) -> np.ndarray:
    """A row of tiles' share in the intercepts' gradient."""
    return np.asarray(residuals.sum(axis=0))


def add_gradients(frame: Frame, *tiles_and_residuals: Any) -> np.ndarray:
    """The gradient of the losses of some tiles of a column, from the first downwards."""
    total: Any = None
    for X, residuals in zip(tiles_and_residuals[::2], tiles_and_residuals[1::2], strict=True):
        gradient = np.ascontiguousarray(X.T @ residuals)
        gradient -= frame.centre[:, None] * residuals.sum(axis=0)
        total = gradient if total is None else np.add(total, gradient, out=total)
    return np.asarray(total)


def begin_slice(
    frame: Frame, objective: Objective, coef: np.ndarray, others: Sequence[np.ndarray], *tiles_and_residuals: Any
) -> Slice:
    """The state of a slice at its first coefficients.

    Parameters
    ----------
    others : gradients of the tiles of this column that other workers have added up
    tiles_and_residuals : the other tiles of this column and the residuals of their rows, in turn
    """
    return Slice(coef, _differentiate(frame, objective, coef, others, *tiles_and_residuals))


def advance_slice(
    frame: Frame,
    objective: Objective,
    before: Slice,
    ahead: np.ndarray,
    step: float,
    n_kept: int,
    others: Sequence[np.ndarray],
    *tiles_and_residuals: Any,
) -> Slice:
    """The state of a slice after a step; n_kept : pairs that are kept besides the new one; others as in begin_slice."""
    coef = before.coef + step * ahead
    gradient = _differentiate(frame, objective, coef, others, *tiles_and_residuals)
    kept = slice(len(before.steps) - n_kept, None)
    moved = frame.metric.enter(step * ahead)
    change = gradient - before.gradient
    return Slice(coef, gradient, (*before.steps[kept], moved), (*before.changes[kept], change))


def _differentiate(
    frame: Frame, objective: Objective, coef: np.ndarray, others: Sequence[np.ndarray], *tiles_and_residuals: Any
) -> np.ndarray:
    total = add_gradients(frame, *tiles_and_residuals)
    for other in others:
        total += other
    total += coef * objective.penalties
    total *= objective.scale
    return frame.metric.shrink(total)


def point(shares: np.ndarray, frame: Frame, at: Slice) -> np.ndarray:
    """A direction as the parameters see it; shares : coefficients of the last vectors of the basis.

    Where pairs were dropped there is one share only, of the gradient.
    """
    vectors = at.basis[-len(shares) :]
    total = shares[0] * vectors[0]
    for share, vector in zip(shares[1:], vectors[1:], strict=True):
        total += share * vector
    return frame.metric.leave(total)


def find_products(frame: Frame, at: Slice) -> tuple[np.ndarray, float]:
    """Inner products of the newest vectors with all, and the largest absolute derivative.

    Returns
    -------
    products : ndarray of shape (3, 2 m + 1); for m = 0 of shape (1, 1)
    steepness : float
    """
    basis, n_pairs = at.basis, len(at.steps)
    newest = (at.steps[-1], at.changes[-1], at.gradient) if n_pairs else (at.gradient,)
    products = np.array([[float(np.vdot(new, vector)) for vector in basis] for new in newest])
    return products, float(np.abs(frame.metric.stretch(at.gradient)).max(initial=0.0))


def find_penalties(at: Slice, ahead: np.ndarray | None) -> np.ndarray:
    """Squares of coefficients, products with the direction, and its squares, by output: of shape (3, n_outputs)."""
    ahead = np.zeros_like(at.coef) if ahead is None else ahead
    pairs: Sequence[tuple[np.ndarray, np.ndarray]] = ((at.coef, at.coef), (at.coef, ahead), (ahead, ahead))
    return np.array([np.einsum("ij,ij->j", a, b) for a, b in pairs])


def find_offset(frame: Frame, coef: np.ndarray) -> np.ndarray:
    """What centring a slice's columns adds to the scores: of shape (n_outputs,)."""
    return np.asarray(frame.centre @ coef)


def take_coef(at: Slice) -> np.ndarray:
    """The coefficients of a slice."""
    return at.coef


def make_coef(n_columns: int, n_outputs: int) -> np.ndarray:
    """Coefficients of 0."""
    return np.zeros((n_columns, n_outputs))


def keep(thing: Any) -> Any:
    """Hold something on the worker that this runs on."""
    return thing
