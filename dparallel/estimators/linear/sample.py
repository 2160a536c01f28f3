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
    whole : float, weight of all rows that they stand for
    """

    bends: np.ndarray
    squares: np.ndarray
    weight: float = 0.0
    whole: float = 0.0

    @classmethod
    def nothing(cls, n_features: int) -> Sample:
        """The sample without rows."""
        return cls(np.zeros((n_features + 1, n_features + 1)), np.zeros(n_features))

    def take(self, X: Any, centre: np.ndarray, bend: np.ndarray, weights: np.ndarray | None) -> None:
        """Add rows to this one, in place; stand_for counts them.

        Parameters
        ----------
        X : ndarray or CSR of shape (n_rows, n_features)
        centre : ndarray of shape (n_features,), subtracted from the rows
        bend : ndarray of shape (n_rows,), each row's second derivative, its weight included
        weights : ndarray of shape (n_rows,), or None where all are 1
        """
        apart = (X.toarray() if hasattr(X, "indptr") else X) - centre
        self.bends += curve_of(apart, np.zeros(1), bend, with_intercept=True)
        self.squares += np.einsum("ij,ij,i->j", apart, apart, np.ones(len(bend)) if weights is None else weights)
        self.weight += _weight_of(bend, weights)

    def stand_for(self, rows: np.ndarray, weights: np.ndarray | None) -> None:
        """Count rows, taken or not, among those that it stands for; rows : anything as long as they are many."""
        self.whole += _weight_of(rows, weights)

    def merge(self, other: Sample) -> Sample:
        """The sample of both sets of rows."""
        squares, weight = self.squares + other.squares, self.weight + other.weight
        return Sample(self.bends + other.bends, squares, weight, self.whole + other.whole)

    def calibrated(self, mean_squares: np.ndarray | None) -> np.ndarray:
        """The Hessian of all rows, as far as these tell.

        Parameters
        ----------
        mean_squares : ndarray of shape (n_features,), weighted means of the squares of all rows, or None if not known

        Returns
        -------
        bends : ndarray of shape (p, p)

        Notes
        -----
        Each column is stretched until its squares are as large as they are known to be: rare values are in a sample too
        often or not at all. A column of which it has only zeros is taken to bend as much as the rows do on average.
        """
        if self.weight in (0.0, self.whole):
            return self.bends
        bends = self.bends * (self.whole / self.weight)
        if mean_squares is None:
            return bends
        known = (self.squares > 0) & (mean_squares > 0)
        stretch = np.append(known.astype(float), 1.0)
        stretch[:-1][known] = np.sqrt(mean_squares[known] * self.weight / self.squares[known])
        bends *= stretch[:, None] * stretch
        missing = np.flatnonzero(~known)
        bends[missing, missing] = mean_squares[missing] * bends[-1, -1]
        return bends


def _weight_of(rows: np.ndarray, weights: np.ndarray | None) -> float:
    return float(len(rows)) if weights is None else float(weights.sum())
