"""The way out: a function of one block becomes predictions of the same kind as X, lazy where X is."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.sparse

from dparallel import compat, place
from dparallel.blocks.gate import admit
from dparallel.blocks.matrix import Form, block_name, joined, to_matrix
from dparallel.errors import DataError, DataKindError

# cuts of local data lie at multiples of this, and a cut of fewer values is not worth a thread
_ROWS_PER_CUT = 1024
_VALUES_PER_CUT = 1 << 16


def apply(X, function, *, dtype, columns=None, accept_sparse=False, owner="ParallelKMeans"):
    """Apply a function to every block of rows and return the results in the kind of container that X is.

    Parameters
    ----------
    X : array-like, dataframe, sparse matrix, Dask array or Dask dataframe of shape (n_rows, n_features)
    function : picklable callable
        Takes a matrix of shape (n, n_features), ndarray or CSR, float32 or float64, which may have no rows, and returns
        an array of shape (n,) if columns is None, else (n, len(columns)).
    dtype : dtype of the results, or None for that of the blocks, float32 or float64
    columns : names of the results' columns, or None for one value per row
    accept_sparse : bool, whether function takes CSR
    owner : str, the estimator's name for messages

    Returns
    -------
    results : ndarray for local X, computed at once. For a Dask array a lazy Dask array with the same chunks of rows,
        for a Dask dataframe a lazy series or dataframe with the same index, partitions and divisions: nothing is
        computed or read until asked, and no client is needed.

    Raises
    ------
    DataError, DataKindError
        As `gate.admit` does.
    """
    return apply_to(admit(X, accept_sparse=accept_sparse, owner=owner), function, dtype=dtype, columns=columns)


def apply_to(given, function, *, dtype, columns=None, keep_sparse=False, gives_sparse=False):
    """Do what `apply` does for an X that was admitted already.

    Parameters
    ----------
    given : Given
    keep_sparse : bool, whether function returns CSR where it is given CSR; then the results are CSR too
    gives_sparse : bool, whether function returns CSR whatever it is given

    Raises
    ------
    DataKindError
        If the results are CSR and X is a Dask dataframe, which holds no such columns.
    """
    dtype = np.dtype(given.form.dtype if dtype is None else dtype)
    columns = None if columns is None else tuple(columns)
    step = _Step(given.form, dtype, columns, gives_sparse or (keep_sparse and given.form.is_sparse))
    if given.is_local:
        return _apply_here(given.X, function, step)
    # one key for the function, or each block's task would carry the whole model
    model = _Model(function)
    key = dask.delayed(model, name=f"dparallel-model-{uuid.uuid4().hex}", traverse=False)
    if given.kind == "dask.array":
        return _apply_to_array(given.X, key, step)
    if gives_sparse:
        raise DataKindError(
            "The results are sparse matrices, which a Dask dataframe cannot hold. Give X as a Dask array, for instance "
            "X.to_dask_array()."
        )
    return _apply_to_frame(given.X, compat.dataframe_argument(key, model), step)


@dataclass(frozen=True, slots=True)
class _Model:
    """Holds the function, so that Dask takes it as data and not as something to call."""

    function: Any


@dataclass(frozen=True, slots=True)
class _Step:
    """What each block's task has to know besides the function."""

    form: Form
    dtype: np.dtype
    columns: tuple[Any, ...] | None
    sparse: bool = False

    def shape(self, n_rows):
        """The shape of the results for so many rows."""
        return (n_rows,) if self.columns is None else (n_rows, len(self.columns))

    def results(self, function, X):
        """The checked results for one matrix."""
        results = function(X) if self.sparse else np.asarray(function(X))
        if results.shape != self.shape(X.shape[0]):
            raise DataError(
                f"The function returned shape {results.shape} for {X.shape[0]} rows, and {self.shape(X.shape[0])} is "
                "needed. Return one result for each row."
            )
        return results.astype(self.dtype, copy=False)


def _apply_here(X, function, step):
    """Apply to local data, in as many cuts as there are threads."""
    n_rows = X.shape[0]
    cuts = _cuts(n_rows, X.shape[1], place.count_threads())
    if len(cuts) == 1 or step.sparse:
        return step.results(function, X)
    results = np.empty(step.shape(n_rows), dtype=step.dtype)

    def fill(rows):
        results[rows] = step.results(function, _rows_of(X, rows))

    with ThreadPoolExecutor(len(cuts) - 1) as pool:
        place.run_threads([partial(fill, rows) for rows in cuts], pool)
    return results


def _cuts(n_rows, n_features, n_threads):
    """Cut rows into slices of similar height, at most one per thread."""
    n_cuts = min(n_threads, n_rows * n_features // _VALUES_PER_CUT, n_rows // _ROWS_PER_CUT)
    if n_cuts < 2:
        return [slice(0, n_rows)]
    height = -(-n_rows // (n_cuts * _ROWS_PER_CUT)) * _ROWS_PER_CUT
    return [slice(start, min(start + height, n_rows)) for start in range(0, n_rows, height)]


def _rows_of(X, rows):
    """Some rows of a matrix, without a copy of their values."""
    if not scipy.sparse.issparse(X):
        return X[rows]
    start, stop = X.indptr[rows.start], X.indptr[rows.stop]
    pointers = X.indptr[rows.start : rows.stop + 1] - start
    parts = (X.data[start:stop], X.indices[start:stop], pointers)
    return type(X)(parts, shape=(rows.stop - rows.start, X.shape[1]), copy=False)


def _apply_to_array(X, model, step):
    empty = np.empty(step.shape(0), dtype=step.dtype)
    if step.sparse:
        empty = scipy.sparse.csr_matrix(empty)
    outputs = "i" if step.columns is None else "ik"
    return da.blockwise(
        _array_task,
        outputs,
        X,
        "ij",
        compat.block_numbers(X),
        "i",
        model=model,
        step=step,
        new_axes=None if step.columns is None else {"k": len(step.columns)},
        token="dparallel-apply",
        dtype=step.dtype,
        meta=empty,
        align_arrays=False,
        concatenate=None,
    )


def _array_task(rows, position, model, step):
    """The results for one block of a Dask array, given as the list of its chunks of columns."""
    return _block_results(joined(rows), int(position[0]), model, step)


def _apply_to_frame(X, model, step):
    import pandas as pd

    index = compat.empty_like(X).index
    empty = np.empty(step.shape(0), dtype=step.dtype)
    meta = (
        pd.Series(empty, index=index)
        if step.columns is None
        else pd.DataFrame(empty, index=index, columns=step.columns)
    )
    return X.map_partitions(_partition_task, model, step, meta=meta, enforce_metadata=False)


def _partition_task(frame, model, step):
    """The results for one partition of a Dask dataframe, under its index."""
    import pandas as pd

    results = _block_results(frame, None, model, step)
    if step.columns is None:
        return pd.Series(results, index=frame.index)
    return pd.DataFrame(results, index=frame.index, columns=step.columns)


def _block_results(rows, index, model, step):
    X = to_matrix(rows, step.form, index)
    try:
        return step.results(model.function, X)
    except DataError as error:
        raise DataError(f"{block_name(index)}: {error}") from error
