"""The coordinates in which the solver measures: about those in which the objective bends alike in all directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

FEW_COLUMNS = 1024  # as many may have their Hessian factorised
_JITTER = 1e-12


@dataclass(frozen=True)
class Metric:
    """A Hessian H = F F', by which steps are multiplied by F' and gradients by the inverse of F.

    Parameters
    ----------
    factors : list of ndarray, one per output or one for all: lower Cholesky factors F of shape (p, p), or the roots of
        a diagonal, of shape (p,)

    Notes
    -----
    All vectors are of shape (p, n_outputs).
    """

    factors: list[np.ndarray]

    def shrink(self, gradient: np.ndarray) -> np.ndarray:
        """A gradient in the solver's coordinates."""
        return self._each(gradient, divided=True, transposed=False)

    def stretch(self, gradient: np.ndarray) -> np.ndarray:
        """Undo shrink."""
        return self._each(gradient, divided=False, transposed=False)

    def leave(self, step: np.ndarray) -> np.ndarray:
        """A step of the solver's as one of the parameters."""
        return self._each(step, divided=True, transposed=True)

    def enter(self, step: np.ndarray) -> np.ndarray:
        """Undo leave."""
        return self._each(step, divided=False, transposed=True)

    def _each(self, vectors: np.ndarray, **how: bool) -> np.ndarray:
        if len(self.factors) == 1:
            return _apply(self.factors[0], vectors, **how)
        columns = zip(self.factors, vectors.T, strict=True)
        return np.column_stack([_apply(factor, column, **how) for factor, column in columns])

    def __sizeof__(self) -> int:
        return sum(factor.nbytes for factor in self.factors)


def _apply(factor: np.ndarray, vectors: np.ndarray, *, divided: bool, transposed: bool) -> np.ndarray:
    if factor.ndim == 2 and divided:
        trans = "T" if transposed else "N"
        found = scipy.linalg.solve_triangular(factor, vectors, lower=True, trans=trans, check_finite=False)
        return np.ascontiguousarray(found)
    if factor.ndim == 2:
        return (factor.T if transposed else factor) @ vectors
    roots = factor if vectors.ndim == 1 else factor[:, None]
    return vectors / roots if divided else vectors * roots


def factorise(bends: np.ndarray, penalties: Sequence[float] | np.ndarray, scale: float, n_free: int = 0) -> Metric:
    """Make a metric.

    Parameters
    ----------
    bends : ndarray of shape (p, p) or its diagonal, of shape (p,): the Hessian of the losses for one output
    penalties : of each output
    scale : float, by which losses and penalties are multiplied
    n_free : int, so many of the last parameters bear no penalty
    """
    factors: dict[float, np.ndarray] = {}
    for penalty in penalties:
        if penalty not in factors:
            factors[penalty] = _factor(bends, float(penalty), scale, n_free)
    if len(factors) == 1:
        return Metric(list(factors.values()))
    return Metric([factors[penalty] for penalty in penalties])


def _factor(bends: np.ndarray, penalty: float, scale: float, n_free: int) -> np.ndarray:
    diagonal = (bends if bends.ndim == 1 else bends.diagonal()).copy()
    diagonal[: len(diagonal) - n_free] += penalty
    largest = float(diagonal.max(initial=0.0)) or 1.0
    # a column that bends nothing has no measure of its own
    diagonal[~(diagonal > _JITTER * largest)] = largest
    if bends.ndim == 1:
        return np.asarray(np.sqrt(scale * diagonal))
    roots = np.sqrt(diagonal)
    unit = bends / roots[:, None] / roots
    jitter = 0.0
    while True:
        np.fill_diagonal(unit, 1.0 + jitter)
        try:
            factor = scipy.linalg.cholesky(unit, lower=True, check_finite=False)
        except scipy.linalg.LinAlgError:
            jitter = max(_JITTER, 10 * jitter)
        else:
            return np.ascontiguousarray(factor * (np.sqrt(scale) * roots)[:, None])


def curve_of(X: Any, centre: np.ndarray, bend: np.ndarray, *, with_intercept: bool = False) -> np.ndarray:
    """(X - centre)' diag(bend) (X - centre) of some rows; with a column of ones after those of X if asked.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_rows, n_features)
    centre : ndarray of shape (n_features,); bend : ndarray of shape (n_rows,), not negative
    """
    n_features = X.shape[1]
    rows = np.empty((len(bend), n_features + with_intercept))
    np.subtract(X.toarray() if hasattr(X, "indptr") else X, centre, out=rows[:, :n_features])
    rows[:, n_features:] = 1.0
    rows *= np.sqrt(bend)[:, None]
    return np.asarray(rows.T @ rows)


def diagonal_of(X: Any, centre: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """The diagonal of `curve_of`."""
    squares = X.multiply(X).T @ bend if hasattr(X, "indptr") else np.einsum("ij,ij,i->j", X, X, bend)
    return np.asarray(np.maximum(squares - 2.0 * centre * (X.T @ bend) + centre**2 * bend.sum(), 0.0))
