"""Coefficients of few columns among many: by key, as a scipy matrix, and as a function of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from dparallel import kernels
from dparallel.errors import DataError
from dparallel.estimators.sgd.predictions import refuse_not_finite


def rows_of(coef: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of a matrix that are not all zero, and what they hold.

    Parameters
    ----------
    coef : ndarray or scipy sparse matrix of shape (n_outputs, n_features)

    Returns
    -------
    keys : ndarray of shape (n_keys,), int64, ascending
    values : ndarray of shape (n_keys, n_outputs), float64
    """
    entries = scipy.sparse.coo_matrix(coef)
    keys, places = np.unique(entries.col, return_inverse=True)
    values = np.zeros((len(keys), coef.shape[0]))
    values[places.reshape(-1), entries.row] = entries.data
    return keys.astype(np.int64), values


def matrix_of(keys: np.ndarray, values: np.ndarray, n_features: int) -> Any:
    """Return the CSR matrix of shape (n_outputs, n_features) that rows_of was given; zeros are not stored."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    kept = [np.flatnonzero(column) for column in values.T]
    index = np.int32 if n_features <= np.iinfo(np.int32).max else np.int64
    indices = np.concatenate([keys[some] for some in kept]).astype(index)
    data = np.concatenate([column[some] for column, some in zip(values.T, kept)])
    indptr = np.cumsum([0, *map(len, kept)]).astype(index)
    return scipy.sparse.csr_matrix((data, indices, indptr), shape=(values.shape[1], n_features))


def begin(n_outputs: int, n_features: int, coef: Any, intercept: Any) -> tuple[Any, np.ndarray]:
    """The parameters to start from: those given, or zeros; see settling.begin.

    Returns
    -------
    coef : CSR of shape (n_outputs, n_features), float64
    intercept : ndarray of shape (n_outputs,), float64

    Raises
    ------
    DataError
        If a given one has another shape.
    """
    start = scipy.sparse.csr_matrix((n_outputs, n_features)) if coef is None else coef
    if not scipy.sparse.issparse(start):
        start = np.asarray(start, np.float64)
        start = scipy.sparse.csr_matrix(start.reshape(1, -1) if n_outputs == 1 else start)
    offset = np.zeros(n_outputs) if intercept is None else np.array(intercept, np.float64).reshape(-1)
    needed = (n_outputs, n_features), (n_outputs,)
    for name, given, shape in zip(("coef_init", "intercept_init"), (start, offset), needed):
        if given.shape != shape:
            raise DataError(
                f"Provided {name} does not match dataset. It has shape {given.shape}, and {shape} is needed."
            )
    return start.astype(np.float64), offset


class SparseLine:
    """Decision values of a block, see predictions.Line; no array has the length of n_features.

    Parameters
    ----------
    coef : CSR of shape (n_outputs, n_features)
    intercept : ndarray of shape (n_outputs,)
    """

    def __init__(self, coef: Any, intercept: np.ndarray):
        self.coef = coef
        self.intercept = intercept
        self._found: Any = None

    def __reduce__(self) -> Any:
        return SparseLine, (self.coef, self.intercept)

    @property
    def n_outputs(self) -> int:
        """Rows of the coefficients."""
        return int(self.coef.shape[0])

    def __call__(self, X: Any) -> np.ndarray:
        scores = self.scores(X)
        return scores[:, 0] if self.n_outputs == 1 else scores

    def scores(self, X: Any) -> np.ndarray:
        """Decision values of shape (n_rows, n_outputs), of X's dtype."""
        keys, table, numbers = self._by_key()
        dtype = np.result_type(X.dtype, self.coef.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            if hasattr(X, "indptr"):
                scores = np.empty((X.shape[0], self.n_outputs))
                indices = numbers.look_up(np.ascontiguousarray(X.indices))
                data, _, indptr = kernels.layouts.csr_parts(X)
                kernels.gradient_csr.scores(data, indices, indptr, table, self.intercept.astype(np.float64), scores)
            else:
                scores = X[:, keys] @ table[:-1] + self.intercept
        if not np.isfinite(scores).all():
            refuse_not_finite(X)
        return scores.astype(dtype, copy=False)

    def _by_key(self) -> tuple[np.ndarray, np.ndarray, Any]:
        """The columns that have coefficients, those, with a row of zeros for all others, and the columns' numbers."""
        if self._found is None:
            keys, values = rows_of(self.coef)
            numbers = kernels.columns.ColumnNumbers()
            numbers.number(keys)
            self._found = keys, np.concatenate([values, np.zeros((1, self.n_outputs))]), numbers
        return self._found
