"""Fitted coefficients as functions of a block: what predict and its kin send to the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.estimators.sgd.classes import flat
from dparallel.estimators.sgd.numbers import NumberSummary, summarise_numbers, to_numbers
from dparallel.moments import naming


@dataclass(frozen=True)
class Line:
    """Decision values of a block, of shape (n_rows,) for one row of coefficients, else (n_rows, n_outputs).

    Parameters
    ----------
    coef : ndarray of shape (n_outputs, n_features)
    intercept : ndarray of shape (n_outputs,)
    """

    coef: np.ndarray
    intercept: np.ndarray

    @property
    def n_outputs(self) -> int:
        """Rows of the coefficients."""
        return len(self.coef)

    def __call__(self, X: Any) -> np.ndarray:
        scores = self.scores(X)
        return scores[:, 0] if self.n_outputs == 1 else scores

    def scores(self, X: Any) -> np.ndarray:
        """Decision values of shape (n_rows, n_outputs)."""
        with np.errstate(invalid="ignore", over="ignore"):
            scores = np.asarray(X @ self.coef.T) + self.intercept
        if not np.isfinite(scores).all():
            refuse_not_finite(X)
        return scores


def refuse_not_finite(X: Any) -> None:
    """Raise DataError if X holds NaN or infinity, naming one."""
    if not np.isfinite(X.data if hasattr(X, "indptr") else X).all():
        raise DataError(kernels.ruler.blame(X))


@dataclass(frozen=True)
class Predict:
    """Classes of a block, of shape (n_rows,) and the classes' dtype."""

    line: Any
    classes: np.ndarray

    def __call__(self, X: Any) -> np.ndarray:
        scores = self.line.scores(X)
        numbers = (scores[:, 0] > 0).astype(np.int64) if scores.shape[1] == 1 else scores.argmax(axis=1)
        return self.classes[numbers]


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of a block, of shape (n_rows, n_classes), or their logarithms.

    Parameters
    ----------
    line : Line or SparseLine
    loss : "log_loss" (logistic, or softmax for more than two classes) or "modified_huber"
    log : bool

    Notes
    -----
    For "modified_huber" as scikit-learn does: (clip(score, -1, 1) + 1) / 2, for more than two classes divided by their
    sum, and all the same where all are 0 (Zhang, "Statistical behavior and consistency of classification methods",
    2004).
    """

    line: Any
    loss: str
    log: bool = False

    def __call__(self, X: Any) -> np.ndarray:
        scores = self.line.scores(X)
        chances = _clipped(scores) if self.loss == "modified_huber" else _softmax(scores)
        if not self.log:
            return chances
        with np.errstate(divide="ignore"):
            return np.log(chances.astype(X.dtype, copy=False))  # of what the other method returns


def _softmax(scores: np.ndarray) -> np.ndarray:
    if scores.shape[1] == 1:
        return _logistic(scores[:, 0])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _logistic(scores: np.ndarray) -> np.ndarray:
    """The softmax of (0, score): the smaller of the two is computed, not what is left, so that it loses no digits."""
    ratio = np.exp(-np.abs(scores))
    total = 1 + ratio
    chances = np.empty((len(scores), 2), scores.dtype)
    chances[:, 0], chances[:, 1] = 1 / total, ratio / total
    np.copyto(chances, chances[:, ::-1].copy(), where=(scores > 0)[:, None])
    return chances


def _clipped(scores: np.ndarray) -> np.ndarray:
    chances = (np.clip(scores, -1, 1) + 1) / 2
    if scores.shape[1] == 1:
        return np.concatenate([1 - chances, chances], axis=1)
    total = chances.sum(axis=1, keepdims=True)
    return np.where(total > 0, chances / np.where(total > 0, total, 1), scores.dtype.type(1 / scores.shape[1]))


def count_right(shard: Shard, model: Predict) -> np.ndarray:
    """Partial: weight of the shard's rows that are predicted rightly, and of all."""
    total = np.zeros(2)
    for block in shard.blocks:
        weights = np.ones(block.n_rows) if block.sample_weight is None else block.sample_weight
        with naming(block):
            right = np.asarray(model(block.X) == flat(block.y))
        total += [weights[right].sum(), weights.sum()]
    return total


@dataclass(frozen=True)
class Errors:
    """What the coefficient of determination is made of.

    Parameters
    ----------
    n_rows : int
    squares : float, weighted sum of squared errors
    targets : NumberSummary
    """

    n_rows: int
    squares: float
    targets: NumberSummary

    def merge(self, other: Errors) -> Errors:
        """The errors of both sets of rows."""
        return Errors(self.n_rows + other.n_rows, self.squares + other.squares, self.targets.merge(other.targets))


def measure_errors(shard: Shard, line: Line) -> Errors:
    """Partial: the squared errors of the shard's rows."""
    total = Errors(0, 0.0, NumberSummary(0.0, 0.0, 0.0))
    for block in shard.blocks:
        y = to_numbers(block.y)
        weights = np.ones(block.n_rows) if block.sample_weight is None else block.sample_weight
        with naming(block):
            errors = y - line(block.X)
        found = summarise_numbers(y, block.sample_weight)
        total = total.merge(Errors(block.n_rows, float(weights @ errors**2), found))
    return total
