"""The way in for data that this process already holds: arrays, lists, dataframes and sparse matrices."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from sklearn.utils.validation import check_array

from dparallel import compat
from dparallel.blocks.block import Block, Blocks, aligned
from dparallel.blocks.dask_arrays import is_dask
from dparallel.blocks.given import Given
from dparallel.blocks.matrix import Form, filled, plain_csr, to_values, to_weights
from dparallel.errors import AlignmentError, DataError


def admit_local(X, accept_sparse, owner):
    """Check local data as scikit-learn does, but let NaN and infinity pass: the first pass over the rows finds them.

    Parameters
    ----------
    X : array-like, dataframe or sparse matrix of shape (n_rows, n_features)
    accept_sparse : bool
    owner : str, the estimator's name for messages

    Returns
    -------
    given : Given; its X is the user's array itself where that is float32 or float64 at aligned addresses, in whatever
        memory order

    Raises
    ------
    TypeError, ValueError
        scikit-learn's own, in its words.
    """
    matrix = check_array(
        filled(X),
        accept_sparse="csr" if accept_sparse else False,
        dtype=[np.float64, np.float32],
        ensure_all_finite=False,
        estimator=owner,
        input_name="X",
    )
    is_sparse = scipy.sparse.issparse(matrix)
    matrix = aligned(plain_csr(matrix) if is_sparse else matrix)  # what Dask has computed came over a network
    kind = "csr" if is_sparse else "pandas" if hasattr(X, "columns") else "numpy"
    form = Form(int(matrix.shape[1]), matrix.dtype, is_sparse)
    return Given(kind, X, matrix, form, compat.feature_names(X), owner)


def local_blocks(given, y, sample_weight):
    """Make the one block of local data.

    Parameters
    ----------
    given : Given, of local data
    y : array-like of shape (n_rows,) or (n_rows, n_outputs), or None
    sample_weight : array-like of shape (n_rows,), a number, or None

    Returns
    -------
    blocks : Blocks with `local` set

    Raises
    ------
    AlignmentError
        If lengths differ, or y or sample_weight are Dask collections.
    DataError
        If a weight is NaN, infinite or negative, or all weights are zero.
    """
    n_rows = int(given.X.shape[0])
    block = Block(given.X, _local_y(y, n_rows), _local_weights(sample_weight, n_rows)).aligned()
    return Blocks(
        kind=given.kind,
        n_features=given.form.n_features,
        feature_names=given.feature_names,
        dtype=given.form.dtype,
        is_sparse=given.form.is_sparse,
        rows=(n_rows,),
        weighted=block.sample_weight is not None,
        local=block,
        source=given.source,
    )


def _local_y(y, n_rows):
    if y is None:
        return None
    _refuse_dask("y", y)
    y = check_array(y, dtype=None, ensure_2d=False, ensure_all_finite=False, ensure_min_samples=0, input_name="y")
    if np.ndim(y) == 0 or y.shape[0] != n_rows:
        raise AlignmentError(
            f"Found input variables with inconsistent numbers of samples: [{n_rows}, {y.shape[0] if y.ndim else 1}]. "
            "Give one y for each row of X."
        )
    return y


def _local_weights(sample_weight, n_rows):
    if sample_weight is None:
        return None
    _refuse_dask("sample_weight", sample_weight)
    sample_weight = to_values(sample_weight)
    if sample_weight.ndim > 1:
        raise DataError(
            f"Sample weights must be 1D array or scalar, got {sample_weight.ndim}D array. "
            f"Expected either a scalar value or a 1D array of length {n_rows}."
        )
    if sample_weight.ndim == 1 and len(sample_weight) != n_rows:
        raise AlignmentError(
            f"sample_weight.shape == ({len(sample_weight)},), expected ({n_rows},)! Give one weight for each row of X."
        )
    weights = to_weights(sample_weight, n_rows)
    if not weights.any():
        raise DataError("Sample weights must contain at least one non-zero number.")
    return weights


def _refuse_dask(name, values):
    if is_dask(values):
        raise AlignmentError(
            f"X is in memory, and {name} is a Dask collection ({type(values).__name__}). dparallel computes where X "
            f"is. Call {name}.compute(), or give X as a Dask collection too."
        )
