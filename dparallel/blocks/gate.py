"""The way in: any supported input becomes aligned row blocks, after metadata checks only."""

from __future__ import annotations

import uuid

import dask.array as da
import numpy as np
from dask.core import flatten
from dask.utils import ensure_dict

from dparallel import compat
from dparallel.blocks.align import paired, single_weight
from dparallel.blocks.block import Block, Blocks
from dparallel.blocks.dask_arrays import admit_array, is_dask, is_partitioned, row_counts
from dparallel.blocks.given import Given
from dparallel.blocks.local import admit_local, local_blocks
from dparallel.blocks.matrix import check_length, joined, to_matrix, to_values, to_weights
from dparallel.errors import DataError, DataKindError

__all__ = ["Block", "Blocks", "Given", "admit", "gather", "to_blocks"]


def gather(X, y=None, sample_weight=None, *, accept_sparse=False, owner="ParallelKMeans"):
    """Turn X, y and sample_weight into aligned row blocks without computing or reading anything.

    Parameters
    ----------
    X : array-like, dataframe, sparse matrix, Dask array or Dask dataframe of shape (n_rows, n_features)
    y : array-like, Dask array or Dask series of shape (n_rows,) or (n_rows, n_outputs), any dtype, or None
    sample_weight : array-like, Dask array or Dask series of shape (n_rows,), a number for all rows, or None
    accept_sparse : bool, whether the estimator reads CSR
    owner : str, the estimator's name for messages

    Returns
    -------
    blocks : Blocks

    Raises
    ------
    DataError, a ValueError
        For shapes and values that no algorithm can use. NaN and infinity in X are left to the first pass over the rows.
    AlignmentError, a ValueError
        If y or sample_weight cannot be paired with X.
    DataKindError, a TypeError
        For kinds of data that dparallel does not read.
    """
    return to_blocks(admit(X, accept_sparse=accept_sparse, owner=owner), y, sample_weight)


def admit(X, *, accept_sparse=False, owner="ParallelKMeans"):
    """Look at the metadata of X alone; see `gather` for the parameters.

    Returns
    -------
    given : Given
    """
    if not is_dask(X):
        return admit_local(X, accept_sparse, owner)
    if isinstance(X, da.Array):
        return admit_array(X, accept_sparse, owner)
    if is_partitioned(X):
        from dparallel.blocks import dataframes

        if dataframes.is_frame(X):
            return dataframes.admit_frame(X, owner)
        if dataframes.is_series(X):
            raise DataError(
                f"Expected a 2-dimensional container but got {type(X)} instead. "
                "Reshape your data: pass a DataFrame containing "
                "a single column (i.e. single feature) instead, such as X.to_frame()."
            )
    raise DataKindError(
        f"X is a Dask collection of type {type(X).__name__}. dparallel reads Dask arrays and Dask dataframes. "
        "Give its .data if it is an xarray object, or convert it with dask.array.from_delayed or to_dataframe()."
    )


def to_blocks(given, y=None, sample_weight=None):
    """Put y and sample_weight beside an admitted X; see `gather` for the parameters.

    Parameters
    ----------
    given : Given

    Returns
    -------
    blocks : Blocks
    """
    if given.is_local:
        return local_blocks(given, y, sample_weight)
    number = single_weight(sample_weight)
    sample_weight = sample_weight if number is None else None
    rows = _rows(given, alone=y is None and sample_weight is None)
    y = None if y is None else paired("y", y, rows, given.source)
    weights = number if sample_weight is None else paired("sample_weight", sample_weight, rows, given.source)
    graph, keys = _block_tasks(given.form, rows, y, weights)
    return Blocks(
        kind=given.kind,
        n_features=given.form.n_features,
        feature_names=given.feature_names,
        dtype=given.form.dtype,
        is_sparse=given.form.is_sparse,
        rows=row_counts(rows),
        weighted=weights is not None,
        graph=graph,
        keys=keys,
        source=given.source,
    )


def make_block(rows, y, weights, position, form):
    """Make one block; runs in a task.

    Parameters
    ----------
    rows : list of the chunks of columns of one block of X, of any type
    y, weights : the blocks beside it, or None; a y of two dimensions is a list like rows, and weights may be one number
    position : tuple of one int, the block's number
    form : Form

    Returns
    -------
    block : Block

    Raises
    ------
    AlignmentError, DataError, DataKindError
        Naming the block.
    """
    index = int(position[0])
    X = to_matrix(joined(rows), form, index)
    n_rows = X.shape[0]
    if y is not None:
        y = to_values(joined(y))
        check_length("y", y, n_rows, index)
    if weights is not None:
        weights = to_weights(weights, n_rows, index)
    return Block(X, y, weights, index)


def _rows(given, alone):
    """The rows of a Dask X as a Dask array, in the blocks that the user sees unless X is alone."""
    if given.kind == "dask.array":
        return given.X
    from dparallel.blocks import dataframes

    return dataframes.rows_of(given.X, as_read=alone)


def _block_tasks(form, rows, y, weights):
    """Add one task per block to the graphs of X, y and weights, then let Dask cull and fuse them."""
    blocks = da.blockwise(
        make_block,
        "i",
        rows,
        "ij",
        y,
        None if y is None else "ik"[: y.ndim],
        weights,
        "i" if isinstance(weights, da.Array) else None,
        compat.block_numbers(rows),
        "i",
        form=form,
        # a name of its own: two fits of the same data at once must not share tasks that one of them releases
        name=f"dparallel-block-{uuid.uuid4().hex}",
        dtype=object,
        meta=np.empty(0, dtype=object),
        align_arrays=False,
        concatenate=None,
    )
    keys = blocks.__dask_keys__()
    graph = ensure_dict(blocks.__dask_optimize__(blocks.__dask_graph__(), keys))
    return graph, tuple(flatten(keys))
