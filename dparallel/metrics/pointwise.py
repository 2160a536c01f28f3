"""Losses of single predictions: functions of targets and predictions, float64 of shape (n_rows, n_outputs)."""

from __future__ import annotations

import numpy as np
import scipy.special

from dparallel.errors import DataError


def squared(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Squares of the errors."""
    return (y_true - y_pred) ** 2


def absolute(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Sizes of the errors."""
    return np.abs(y_true - y_pred)


def relative(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Sizes of the errors as shares of the targets', which are taken for epsilon where they are 0."""
    return np.abs(y_true - y_pred) / np.maximum(np.abs(y_true), np.finfo(np.float64).eps)


def logarithmic(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Squared errors of log(1 + y).

    Raises
    ------
    DataError
        If a number is -1 or less.
    """
    if (y_true <= -1).any() or (y_pred <= -1).any():
        raise DataError(
            "Mean Squared Logarithmic Error cannot be used when targets contain values less than or equal to -1. "
            "Clip the predictions, or use mean_squared_error."
        )
    return (np.log1p(y_true) - np.log1p(y_pred)) ** 2


def poisson(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Deviance of Poisson's distribution.

    Raises
    ------
    DataError
        If a target is negative, or a prediction not positive.
    """
    if (y_true < 0).any() or (y_pred <= 0).any():
        raise DataError(
            "Mean Tweedie deviance error with power=1 can only be used on non-negative y and strictly positive y_pred."
        )
    return 2 * (scipy.special.xlogy(y_true, y_true / y_pred) - y_true + y_pred)


def gamma(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Deviance of the gamma distribution.

    Raises
    ------
    DataError
        If a target or a prediction is not positive.
    """
    if (y_true <= 0).any() or (y_pred <= 0).any():
        raise DataError("Mean Tweedie deviance error with power=2 can only be used on strictly positive y and y_pred.")
    return 2 * (np.log(y_pred / y_true) + y_true / y_pred - 1)
