"""The Hessian of a sample of the rows, made like that of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.estimators.linear.metric import curve_of


@dataclass
class Sample:
    """What was found of some rows.

    Parameters
    ----------
    bends : ndarray of shape (p, p), p = n_features + 1: sum over the rows of bend * row * row', a 1 after each row
    squares : ndarray of shape (n_features,), weighted sum of the rows' squares
    weight : float, of the rows
    """

    bends: np.ndarray
    squares: np.ndarray
    weight: float

    @classmethod
    def nothing(cls, n_features: int) -> Sample:
        """The sample without rows."""
        return cls(np.zeros((n_features + 1, n_features + 1)), np.zeros(n_features), 0.0)

    def take(self, X: Any, centre: np.ndarray, bend: np.ndarray, weights: np.ndarray | None) -> None:
        """Add rows to this one, in place.

        Parameters
        ----------
        X : ndarray or CSR of shape (n_rows, n_features)
        centre : ndarray of shape (n_features,), subtracted from the rows
        bend : ndarray of shape (n_rows,), each row's second derivative, its weight included
        weights : ndarray of shape (n_rows,), or None where all are 1
        """
        apart = (X.toarray() if hasattr(X, "indptr") else X) - centre
        weights = np.ones(len(bend)) if weights is None else weights
        self.bends += curve_of(apart, np.zeros(1), bend, with_intercept=True)
        self.squares += np.einsum("ij,ij,i->j", apart, apart, weights)
        self.weight += float(weights.sum())

    def merge(self, other: Sample) -> Sample:
        """The sample of both sets of rows."""
        return Sample(self.bends + other.bends, self.squares + other.squares, self.weight + other.weight)

    def calibrated(self, spread: np.ndarray, weight: float) -> np.ndarray:
        """The Hessian of all rows, as far as these tell.

        Parameters
        ----------
        spread : ndarray of shape (n_features,), weighted sum of the squares of all rows
        weight : float, of all rows

        Returns
        -------
        bends : ndarray of shape (p, p)

        Notes
        -----
        Each column is stretched until its squares sum to what they are known to: rare values are in a sample too often
        or not at all. A column of which the sample has only zeros is taken to bend as much as the rows do on average.
        """
        known = (self.squares > 0) & (spread > 0)
        stretch = np.append(np.zeros(len(spread)), np.sqrt(weight / max(self.weight, np.finfo(float).tiny)))
        stretch[:-1][known] = np.sqrt(spread[known] / self.squares[known])
        bends = self.bends * stretch[:, None] * stretch
        mean_bend = bends[-1, -1] / weight if weight > 0 else 0.0
        missing = np.flatnonzero(~known)
        bends[missing, missing] = spread[missing] * mean_bend
        return bends
