"""The way in for Dask arrays: what their metadata say, and nothing computed."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
from dask.base import is_dask_collection

from dparallel import compat
from dparallel.blocks.given import Given, check_not_empty
from dparallel.blocks.matrix import Form
from dparallel.errors import DataError, DataKindError


def is_dask(data):
    """Whether data are a Dask collection of any kind."""
    # Dask's own function builds the graph of a dataframe to tell
    return isinstance(data, da.Array) or is_partitioned(data) or is_dask_collection(data)


def is_partitioned(data):
    """Whether data are a Dask dataframe, series or index, without importing dask.dataframe."""
    # asked of the type: a pandas dataframe may have a column of that name
    return hasattr(type(data), "divisions")


def admit_array(X, accept_sparse, owner):
    """Read the metadata of a Dask array.

    Parameters
    ----------
    X : dask.array.Array of shape (n_rows, n_features), any chunks, lengths of row chunks may be unknown
    accept_sparse : bool
    owner : str, the estimator's name for messages

    Returns
    -------
    given : Given

    Raises
    ------
    DataError
        If X is not of two dimensions, known to be empty, complex, or of an unknown number of columns.
    DataKindError
        If X is sparse and the estimator reads dense blocks only, or its dtype holds no numbers.
    """
    _check_dimensions(X, owner)
    is_sparse = _is_sparse(X)
    if is_sparse and not accept_sparse:
        raise DataKindError(
            "Sparse data was passed for X, but dense data is required. "
            "Use '.toarray()' to convert to a dense numpy array, "
            "here X.map_blocks(lambda block: block.toarray())."
        )
    n_features = X.shape[1]
    if math.isnan(n_features):
        raise DataError(
            f"X has an unknown number of columns (chunks {X.chunks[1]}), and {owner} needs it. "
            "Call X.compute_chunk_sizes() first."
        )
    check_not_empty(None if math.isnan(X.shape[0]) else X.shape[0], n_features, owner)
    form = Form(int(n_features), computed_dtype(X.dtype), is_sparse)
    return Given("dask.array", X, X, form, None, owner)


def row_counts(array):
    """The lengths of a Dask array's row chunks, a tuple of int, None where unknown."""
    return tuple(None if math.isnan(rows) else int(rows) for rows in array.chunks[0])


def computed_dtype(dtype):
    """The dtype in which numbers of the given dtype are computed: float32 stays, all others become float64.

    Raises
    ------
    DataError
        For complex numbers, in scikit-learn's words.
    DataKindError
        For strings, dates and anything else that is not a number. Objects pass: each block tries to convert its own.
    """
    if dtype.kind == "c":
        raise DataError(
            f"Complex data not supported: X has dtype {dtype}, and dparallel computes with real numbers. "
            "Give X.real, X.imag or abs(X)."
        )
    if dtype.kind not in "biufO":
        raise DataKindError(
            f"X has dtype {dtype}, and dparallel computes with numbers. "
            "Convert X first, for instance with X.astype('float64')."
        )
    return np.dtype(np.float32) if dtype == np.float32 else np.dtype(np.float64)


def _is_sparse(X):
    # scipy.sparse, cupyx and sparse.COO have tocsr, no dense array has
    return hasattr(compat.empty_like(X), "tocsr")


def _check_dimensions(X, owner):
    if X.ndim > 2:
        raise DataError(f"Found array with dim {X.ndim}, while dim <= 2 is required by {owner}.")
    if X.ndim < 2:
        what = "1D array" if X.ndim else "scalar array"
        raise DataError(
            f"Expected 2D array, got {what} instead:\narray={X}.\n"
            "Reshape your data either using array.reshape(-1, 1) if your data has a single feature "
            "or array.reshape(1, -1) if it contains a single sample."
        )
