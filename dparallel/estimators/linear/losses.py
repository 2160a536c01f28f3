"""The losses of linear models, as functions of the scores of some rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Loss:
    """A loss of rows, convex in their scores.

    Parameters
    ----------
    n_outputs : int, columns of the scores
    """

    n_outputs: int

    is_quadratic = False

    def __call__(self, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Sum of the weighted losses, and their derivatives by the scores.

        Parameters
        ----------
        scores : ndarray of shape (n_rows, n_outputs), float64
        targets : ndarray, see the class
        weights : ndarray of shape (n_rows,), float64, or None where all are 1

        Returns
        -------
        value : float
        residuals : ndarray of shape (n_rows, n_outputs), float64, weights included
        """
        raise NotImplementedError

    def bend(self, scores: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Second derivative of each row's loss by one score, the mean over the outputs: of shape (n_rows,)."""
        raise NotImplementedError


class Logistic(Loss):
    """log(1 + exp(-target * score)) for targets -1 and 1, of shape (n_rows,)."""

    def __call__(self, scores, targets, weights):
        margins = scores[:, 0] * targets
        powers = np.exp(-np.abs(margins))
        losses = np.log1p(powers) - np.minimum(margins, 0.0)
        # the logistic function of -margin, without a difference of nearly equal numbers
        chances = np.where(margins > 0, powers, 1.0) / (1.0 + powers)
        residuals = -targets * chances
        if weights is None:
            return float(losses.sum()), residuals[:, None]
        return float(weights @ losses), (weights * residuals)[:, None]

    def bend(self, scores, weights):
        powers = np.exp(-np.abs(scores[:, 0]))
        return _weighed(powers / (1.0 + powers) ** 2, weights)


class Softmax(Loss):
    """Minus the logarithm of the softmax of the target's score, for targets that are numbers of classes."""

    def __call__(self, scores, targets, weights):
        rows, places = np.arange(len(scores)), targets.astype(np.int64)
        shifted = scores - scores.max(axis=1, keepdims=True)
        powers = np.exp(shifted)
        totals = powers.sum(axis=1)
        losses = np.log(totals) - shifted[rows, places]
        residuals = powers / totals[:, None]
        residuals[rows, places] -= 1.0
        if weights is None:
            return float(losses.sum()), residuals
        return float(weights @ losses), residuals * weights[:, None]

    def bend(self, scores, weights):
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances = powers / powers.sum(axis=1, keepdims=True)
        return _weighed((chances * (1.0 - chances)).mean(axis=1), weights)


class Squares(Loss):
    """Half of the squared difference, for targets of shape (n_rows, n_outputs)."""

    is_quadratic = True

    def __call__(self, scores, targets, weights):
        differences = scores - targets
        residuals = differences if weights is None else differences * weights[:, None]
        return 0.5 * float(np.vdot(residuals, differences)), residuals

    def bend(self, scores, weights):
        return _weighed(np.ones(len(scores)), weights)


def _weighed(values: Any, weights: np.ndarray | None) -> np.ndarray:
    return np.asarray(values if weights is None else values * weights)


@dataclass(frozen=True)
class Objective:
    """What is made small: scale * (sum of losses + sum over the outputs of penalty / 2 * |coefficients|^2).

    Parameters
    ----------
    loss : Loss
    penalties : ndarray of shape (n_outputs,), float64; intercepts bear none
    scale : float, 1 / the sum of all weights, so that tolerances mean the same for any number of rows
    fit_intercept : bool
    """

    loss: Loss
    penalties: np.ndarray
    scale: float
    fit_intercept: bool
