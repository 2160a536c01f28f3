"""Targets of a regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.errors import DataError
from dparallel.estimators.sgd.classes import flat


@dataclass(frozen=True)
class NumberSummary:
    """What a pass over some targets found: their weight and their weighted mean and sum of squared deviations."""

    weight: float
    mean: float
    deviation: float

    @property
    def spread(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.deviation / self.weight)) if self.weight > 0 else 0.0

    def merge(self, other: NumberSummary) -> NumberSummary:
        """The summary of both sets of rows (Chan, Golub and LeVeque, 1983)."""
        weight = self.weight + other.weight
        if weight == 0.0:
            return self
        step = other.mean - self.mean
        mean = self.mean + step * (other.weight / weight)
        deviation = self.deviation + other.deviation + step * step * (self.weight * other.weight / weight)
        return NumberSummary(weight, mean, deviation)


def summarise_numbers(y: Any, sample_weight: np.ndarray | None) -> NumberSummary:
    """Look at the targets of one block; y : ndarray of shape (n_rows,) of any dtype that holds numbers."""
    values = to_numbers(y)
    weights = np.ones(len(values)) if sample_weight is None else sample_weight
    total = float(weights.sum())
    if total == 0.0:
        return NumberSummary(0.0, 0.0, 0.0)
    mean = float(weights @ values / total)
    return NumberSummary(total, mean, float(weights @ (values - mean) ** 2))


def to_numbers(y: Any) -> np.ndarray:
    """One block of y as numbers, of shape (n_rows,), float64.

    Raises
    ------
    DataError
        For NaN, infinity and what is no number, in scikit-learn's words.
    """
    try:
        values = np.ascontiguousarray(flat(y), dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"y holds values that are not numbers: {error}. Convert y first.") from error
    if not np.isfinite(values).all():
        raise DataError(
            "Input y contains NaN."
            if np.isnan(values).any()
            else "Input y contains infinity or a value too large for dtype('float64')."
        )
    return values


@dataclass(frozen=True)
class Numbers:
    """The targets of a fit, as the kernels are shown them.

    Parameters
    ----------
    center : float, a number near the targets, from which their spread is measured
    """

    center: float = 0.0
    n_outputs = 1

    def targets(self, y: np.ndarray) -> np.ndarray:
        """What the kernels learn, of shape (n_rows,), float64."""
        return to_numbers(y)

    def weigh(self, targets: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
        """Weights of rows, of shape (n_rows,), float64, or (0,) where all are 1."""
        return np.empty(0) if sample_weight is None else sample_weight

    def mean_weight(self, summary: NumberSummary) -> float:
        """Rows of a regression are weighed by sample_weight alone."""
        return 1.0

    def groups(self, targets: np.ndarray) -> tuple[np.ndarray, int]:
        """All rows are of one group."""
        return np.zeros(len(targets), np.int64), 1

    def measure(self, targets: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Sums for `score`: weight, targets, squared targets, squared errors, and the number of rows.

        Parameters
        ----------
        scores : ndarray of shape (n_rows, 1)
        weights : ndarray of shape (n_rows,)
        """
        away = targets - self.center
        error = targets - scores[:, 0]
        return np.array([weights.sum(), weights @ away, weights @ away**2, weights @ error**2, len(targets)])

    def score(self, sums: np.ndarray) -> float:
        """R², from the sums of `measure`."""
        weight, first, second, errors, n_rows = sums
        deviation = second - first * first / weight if weight > 0 else 0.0
        return r_squared(NumberSummary(weight, self.center, deviation), errors, n_rows)


def r_squared(targets: NumberSummary, errors: float, n_rows: int) -> float:
    """R² as scikit-learn has it: where all targets are the same 1 if they are met, else 0; NaN for one row.

    Parameters
    ----------
    targets : NumberSummary; errors : float, weighted sum of squared errors; n_rows : int
    """
    if n_rows < 2:
        return float("nan")
    rounding = targets.weight * (4.0 * np.finfo(float).eps * targets.mean) ** 2
    if not targets.deviation > rounding:
        return float(errors == 0)
    return float(1.0 - errors / targets.deviation)
