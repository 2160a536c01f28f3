"""One block of rows, in whatever type it comes, as a plain matrix; runs inside the tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from dparallel.errors import AlignmentError, DataError, DataKindError

_NUMBERS = "biuf"


@dataclass(frozen=True, slots=True)
class Form:
    """What every block of X is brought to.

    Parameters
    ----------
    n_features : int
    dtype : float32 or float64
    is_sparse : bool, CSR or ndarray
    columns : the labels that every partition of a dataframe must have, in this order, else None
    """

    n_features: int
    dtype: np.dtype
    is_sparse: bool = False
    columns: tuple[Any, ...] | None = None


def joined(parts):
    """Put the chunks of columns of one block side by side, without a copy if there is one only.

    Parameters
    ----------
    parts : list of arrays or matrices of shape (n_rows, n_columns), or a single one, which is returned as it is
    """
    if not isinstance(parts, list):
        return parts
    if len(parts) == 1:
        return parts[0]
    parts = [_on_host(part) for part in parts]
    if any(hasattr(part, "tocsr") for part in parts):
        return scipy.sparse.hstack(parts, format="csr")
    return np.ma.hstack(parts) if any(isinstance(part, np.ma.MaskedArray) for part in parts) else np.hstack(parts)


def to_matrix(rows, form, index=None):
    """Bring one block of X into its form, without a copy where it has it already.

    Parameters
    ----------
    rows : ndarray, scipy.sparse matrix, pandas DataFrame or an array of a GPU, of shape (n_rows, n_features)
    form : Form
    index : int, the block's number for messages, or None

    Returns
    -------
    X : ndarray or CSR of shape (n_rows, n_features), dtype form.dtype; CSR without duplicates

    Raises
    ------
    DataError
        If the block has another width or other columns, or values that are not numbers.
    DataKindError
        If the block is sparse and was not announced so, or of a dtype that holds no real numbers.
    """
    rows = _on_host(rows)
    _check_shape(rows, form, index)
    if hasattr(rows, "iloc"):
        return _from_frame(rows, form, index)
    if hasattr(rows, "tocsr"):
        return _from_sparse(rows, form, index)
    X = _from_dense(rows, form, index)
    return scipy.sparse.csr_matrix(X) if form.is_sparse else X


def plain_csr(X):
    """Return X itself if it has no duplicate entries, else a copy in which they are added up."""
    if X.has_canonical_format:
        return X
    X = X.copy()
    X.sum_duplicates()
    return X


def filled(X):
    """Return masked numbers as a float ndarray with NaN where they are masked, anything else as it is."""
    if not isinstance(X, np.ma.MaskedArray) or X.dtype.kind not in _NUMBERS:
        return X
    return np.ma.filled(X.astype(np.float32 if X.dtype == np.float32 else np.float64), np.nan)


def to_values(values):
    """Bring one block of y into an ndarray of any dtype; missing numbers become NaN.

    Parameters
    ----------
    values : array-like of shape (n_rows,) or (n_rows, n_outputs), pandas Series or DataFrame, or an array of a GPU
    """
    values = _on_host(values)
    kind = getattr(getattr(values, "dtype", None), "kind", None)
    # numpy's own dtypes stay; pandas' nullable and Arrow numbers would become objects
    if hasattr(values, "iloc") and not isinstance(values.dtypes, np.dtype) and kind is not None and kind in _NUMBERS:
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values)


def to_weights(values, n_rows, index=None):
    """Bring one block of sample_weight into float64 and check it.

    Parameters
    ----------
    values : array-like of shape (n_rows,), or a number for all rows
    n_rows : int, the rows of X in the same block
    index : int, the block's number for messages, or None

    Returns
    -------
    sample_weight : ndarray of shape (n_rows,), float64, C-contiguous

    Raises
    ------
    AlignmentError
        If the lengths differ.
    DataError
        If a weight is NaN, infinite or negative.
    """
    where = "" if index is None else f" of block {index}"
    if np.ndim(values) == 0:
        weights = np.full(n_rows, values, dtype=np.float64)
    else:
        weights = np.ascontiguousarray(to_values(values), dtype=np.float64)
        check_length("sample_weight", weights, n_rows, index)
    if not np.isfinite(weights).all():
        raise DataError(
            f"The sample_weight{where} contains NaN or infinity. Weights are finite numbers. "
            "Give a weight of 0 to leave a row out."
        )
    if (weights < 0).any():
        raise DataError(
            f"Negative values in data passed to `sample_weight`{where}. Weights are 0 or more. "
            "Give a weight of 0 to leave a row out."
        )
    return weights


def check_length(name, values, n_rows, index, reference="X"):
    """Raise AlignmentError if a block of y or sample_weight has another length than the block of X, the reference."""
    if values.shape[0] != n_rows:
        raise AlignmentError(
            f"Block {index} of {reference} has {n_rows} rows, and block {index} of {name} has {values.shape[0]}. "
            f"dparallel pairs them block by block. Build {reference} and {name} from the same collection."
        )


def block_name(index):
    """What messages call a block."""
    return "A block of X" if index is None else f"Block {index} of X"


def _on_host(rows):
    # cupy and cupyx have get(), which copies to the host; a dataframe's get() means something else
    if isinstance(rows, np.ndarray) or hasattr(rows, "iloc") or not hasattr(rows, "get"):
        return rows
    return rows.get()


def _check_shape(rows, form, index):
    shape = np.shape(rows)
    if len(shape) != 2 or shape[1] != form.n_features:
        raise DataError(
            f"{block_name(index)} has shape {tuple(shape)}, and X announces {form.n_features} features in every block. "
            "Check the function that makes the blocks."
        )


def _from_frame(rows, form, index):
    if form.columns is not None and tuple(rows.columns) != form.columns:
        raise DataError(
            f"{block_name(index)} has the columns {list(rows.columns)}, and the dataframe announces "
            f"{list(form.columns)}. "
            "Make every partition with the same columns in the same order."
        )
    try:
        return rows.to_numpy(dtype=form.dtype, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{block_name(index)} holds values that are not numbers ({error}), and the dataframe announces numbers. "
            "Convert the columns first, for instance with dask.dataframe.to_numeric."
        ) from error


def _from_sparse(rows, form, index):
    if not form.is_sparse:
        raise DataKindError(
            f"{block_name(index)} is sparse, and X announces dense blocks. "
            "Pass meta=scipy.sparse.csr_matrix((0, n_features)) where the blocks are made, for instance to map_blocks."
        )
    X = rows.tocsr()
    _check_dtype(X.dtype, index)
    return plain_csr(X if X.dtype == form.dtype else X.astype(form.dtype))


def _from_dense(rows, form, index):
    X = np.asarray(filled(rows))
    if X.dtype.kind == "O":
        X = _from_objects(X, index)
    _check_dtype(X.dtype, index)
    return X.astype(form.dtype, copy=False)


def _from_objects(X, index):
    try:
        return X.astype(np.float64)
    except (TypeError, ValueError) as error:
        kind = DataKindError if isinstance(error, TypeError) else DataError
        raise kind(
            f"{block_name(index)} holds objects that are not numbers: {error}. dparallel reads numbers only. "
            "Convert X first."
        ) from error


def _check_dtype(dtype, index):
    if dtype.kind not in _NUMBERS:
        raise DataKindError(
            f"{block_name(index)} has dtype {dtype}. dparallel reads real numbers only. "
            "Convert X to float64 or float32 first."
        )
