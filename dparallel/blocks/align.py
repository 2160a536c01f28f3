"""y and sample_weight beside a Dask X: Dask arrays with the same row blocks, or a refusal before any work."""

from __future__ import annotations

import dask.array as da
import numpy as np

from dparallel.blocks.dask_arrays import is_dask, is_partitioned, row_counts
from dparallel.blocks.matrix import to_weights
from dparallel.errors import AlignmentError, DataError, DataKindError


def single_weight(sample_weight):
    """Return the one weight that is given for all rows, as a float, or None where weights are of another form.

    Raises
    ------
    DataError
        If it is 0, negative or not finite: one number can be checked before any work.
    """
    if sample_weight is None or is_dask(sample_weight) or np.ndim(sample_weight) > 0:
        return None
    number = float(to_weights(sample_weight, 1)[0])
    if number == 0:
        raise DataError("Sample weights must contain at least one non-zero number.")
    return number


def paired(name, values, X, source, reference="X"):
    """Cut y or sample_weight into the row blocks of X.

    Parameters
    ----------
    name : "y" or "sample_weight", for messages
    values : array-like, Dask array or Dask series of shape (n_rows,), for y also (n_rows, n_outputs)
    X : dask.array.Array of the rows of X
    source : the user's X, of which X was made
    reference : what messages call X

    Returns
    -------
    values : dask.array.Array with as many row blocks as X. Where lengths are unknown each block's task must still
        compare them.

    Raises
    ------
    AlignmentError
        If the lengths differ, or are not known where they must be.
    DataError
        If values has more dimensions than it may have.
    DataKindError
        If values is a Dask collection of another kind.
    """
    if not is_dask(values):
        return _cut_local(name, values, X, reference)
    values = _as_array(name, values, source, reference)
    _check_dimensions(name, values.ndim)
    wanted, found = row_counts(X), row_counts(values)
    if None not in wanted and None not in found:
        _check_total(name, sum(wanted), sum(found), reference)
        return values.rechunk({0: wanted})
    if len(wanted) != len(found):
        known = "unknown" if None in wanted else "known"
        raise AlignmentError(
            f"{reference} has {known} row counts ({len(wanted)} blocks), and {name} has {len(found)} blocks. dparallel "
            f"pairs them block by block. Build {reference} and {name} from the same collection, or call "
            "compute_chunk_sizes() on both."
        )
    return values


def _cut_local(name, values, X, reference):
    values = np.asarray(values)
    _check_dimensions(name, values.ndim)
    rows = row_counts(X)
    if None in rows:
        raise AlignmentError(
            f"{reference} has unknown row counts ({len(rows)} blocks), and {name} is an array of {values.shape[0]} "
            f"rows in memory. dparallel pairs them row by row. Take {name} from the same collection as {reference}, or "
            f"give {reference} as a Dask array with known chunks, for instance by "
            f"{reference}.to_dask_array(lengths=True) or {reference}.compute_chunk_sizes()."
        )
    _check_total(name, sum(rows), values.shape[0], reference)
    # without a name Dask would hash all the values
    return da.from_array(values, chunks=(rows, *values.shape[1:]), name=False)


def _as_array(name, values, source, reference):
    if isinstance(values, da.Array):
        return values
    if is_partitioned(values):
        from dparallel.blocks import dataframes

        if dataframes.is_frame(values) or dataframes.is_series(values):
            given, own = dataframes.known_divisions(source), dataframes.known_divisions(values)
            if given is not None and own is not None and given != own:
                raise AlignmentError(
                    f"{reference} has the divisions {given}, and {name} has {own}. dparallel pairs them partition by "
                    f"partition. Take {name} from the same dataframe as {reference}, or call "
                    f"{name}.repartition(divisions={reference}.divisions)."
                )
            return dataframes.rows_of(values)
    raise DataKindError(
        f"{name} is a Dask collection of type {type(values).__name__}. dparallel reads Dask arrays, series and "
        "dataframes. Convert it to one of these."
    )


def _check_dimensions(name, n_dimensions):
    if name == "sample_weight" and n_dimensions != 1:
        raise DataError(
            f"Sample weights must be 1D array or scalar, got {n_dimensions}D array. "
            "Give one weight for each row of X, as a series or an array of one dimension."
        )
    if n_dimensions not in (1, 2):
        raise DataError(
            f"{name} has {n_dimensions} dimensions, and 1 or 2 are needed. Give one {name} for each row of X."
        )


def _check_total(name, wanted, found, reference):
    if wanted != found:
        raise AlignmentError(
            f"{reference} has {wanted} rows, and {name} has {found}. dparallel pairs them row by row. "
            f"Give one {name} for each row of {reference}."
        )
