"""The way in for Dask dataframes; imports pandas and dask.dataframe, so it is loaded only when one is given."""

from __future__ import annotations

import uuid

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict

from dparallel import compat
from dparallel.blocks.given import Given, check_not_empty
from dparallel.blocks.matrix import Form
from dparallel.errors import DataError, DataKindError


def is_frame(collection):
    """Whether a Dask collection is a dataframe, not a series."""
    return isinstance(collection, dd.DataFrame)


def is_series(collection):
    """Whether a Dask collection is a series or an index."""
    return isinstance(collection, (dd.Series, dd.Index))


def admit_frame(X, owner):
    """Read the metadata of a Dask dataframe.

    Parameters
    ----------
    X : dask.dataframe.DataFrame of numeric or boolean columns, of numpy's, pandas' nullable or Arrow's dtypes
    owner : str, the estimator's name for messages

    Returns
    -------
    given : Given; the form is float32 only if all columns are float32

    Raises
    ------
    DataError
        If X has no columns, or complex ones.
    DataKindError
        If X has columns that are not numbers; the message names them.
    """
    check_not_empty(None, len(X.columns), owner)
    dtypes = list(X.dtypes)
    _check_columns(X.columns, dtypes)
    # pandas' nullable and Arrow dtypes tell numpy's by numpy_dtype
    all_float32 = all(getattr(dtype, "numpy_dtype", dtype) == np.float32 for dtype in dtypes)
    dtype = np.dtype(np.float32 if all_float32 else np.float64)
    form = Form(len(dtypes), dtype, False, tuple(X.columns))
    return Given("dask.dataframe", X, X, form, compat.feature_names(empty_frame(X)), owner)


def empty_frame(X):
    """A pandas dataframe without rows that has the column labels of a Dask dataframe."""
    return pd.DataFrame(columns=X.columns)


def rows_of(collection, *, as_read=False):
    """Turn a dataframe or series into a Dask array whose blocks are its pandas partitions, of unknown lengths.

    Parameters
    ----------
    collection : dask.dataframe.DataFrame or Series
    as_read : bool
        Whether Dask may join partitions while it reads, which it does when few of the columns are needed. Blocks
        that are to be paired with those of another collection must stay as they are.

    Returns
    -------
    rows : dask.array.Array of shape (nan,) or (nan, n_columns) with a single chunk of columns. Its tasks give pandas
        objects, so only a function that expects them may be applied to it.

    Raises
    ------
    DataError
        If the graph lacks some of the partitions, as after a persist() that joined partitions (Dask 2026.8).
    """
    # both project the columns; optimize() also joins partitions and fuses, and fusing is left to the array's optimizer
    frame = collection.optimize() if as_read else collection.simplify()
    graph, sources = ensure_dict(frame.__dask_graph__()), frame.__dask_keys__()
    if not all(key in graph for key in sources):
        raise DataError(
            f"The dataframe has {len(sources)} partitions, and its graph makes only some of them. "
            "Dask loses partitions when it "
            "persists columns selected from files. Call persist() before the columns are selected, or leave it out."
        )
    columns = (0,) if is_frame(collection) else ()
    name = f"dparallel-rows-{uuid.uuid4().hex}"
    tasks = {(name, number, *columns): (_same, key) for number, key in enumerate(sources)}
    frame_name = f"{name}-frame"
    layers = HighLevelGraph({frame_name: graph, name: tasks}, {frame_name: set(), name: {frame_name}})
    chunks = ((np.nan,) * len(sources), (len(collection.columns),))[: 1 + len(columns)]
    return da.Array(layers, name, chunks, dtype=np.float64)


def known_divisions(collection):
    """The divisions of a dataframe or series, None where unknown or for anything else."""
    return collection.divisions if getattr(collection, "known_divisions", False) else None


def _same(partition):
    return partition


def _check_columns(columns, dtypes):
    kinds = [getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes]
    complex_columns = [str(name) for name, kind in zip(columns, kinds, strict=True) if kind.kind == "c"]
    if complex_columns:
        raise DataError(
            f"Complex data not supported: the columns {', '.join(complex_columns)} are complex, and dparallel "
            "computes with "
            "real numbers. Give their real or imaginary parts."
        )
    good = [pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype) for dtype in dtypes]
    if not all(good):
        others = [f"{name!r} ({dtype})" for name, dtype, ok in zip(columns, dtypes, good, strict=True) if not ok]
        raise DataKindError(
            f"X has columns that are not numbers: {', '.join(others)}. dparallel needs numeric or boolean columns. "
            "Leave them out, as in X.drop(columns=[...]), or encode them as numbers first."
        )
