"""ParallelOneHotEncoder and ParallelOrdinalEncoder: scikit-learn's encoders for data in blocks.

A pass finds the distinct values of every column. scikit-learn's own fit is given these in place of the rows, and its
own transform runs in each block, so categories, unknown and missing values are its affair.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import scipy.sparse
import sklearn.preprocessing
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from dparallel import compat
from dparallel.blocks.dask_arrays import is_dask, is_partitioned
from dparallel.blocks.matrix import joined
from dparallel.blocks.reducing import reduce_rows
from dparallel.errors import DataError, DataKindError
from dparallel.observe.callbacks import CallbackSupport
from dparallel.observe.fits import observed_as_one


class _EncodesBlocks(CallbackSupport, BaseEstimator):
    """Mixin to the left of an encoder of scikit-learn's."""

    @observed_as_one
    def fit(self, X, y=None):
        """Find the categories of every column, in one pass; its distinct values come to the client.

        Parameters
        ----------
        X : Dask array or dataframe, or array-like or dataframe, of shape (n_rows, n_features), of any dtypes
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        DataError
            If min_frequency or max_categories is given for Dask data, or X is not of two dimensions.
        DataKindError
            If X is a Dask collection of another kind.
        """
        if not is_dask(X):
            return super().fit(X, y)
        _refuse_kind(X)
        if self.min_frequency is not None or self.max_categories is not None:
            raise DataError(
                f"min_frequency={self.min_frequency} and max_categories={self.max_categories} need the frequencies of "
                "categories, and of Dask data only the categories are found. Leave both out, or fit on a sample in "
                "memory."
            )
        values = reduce_rows({"X": X}, find_categories, merge_categories, as_given=True)
        return super().fit(_table(X, values))

    def fit_transform(self, X, y=None):
        """Fit, then transform; see both."""
        return super().fit_transform(X, y) if not is_dask(X) else self.fit(X, y).transform(X)

    def transform(self, X):
        """Encode X.

        Parameters
        ----------
        X : as in fit

        Returns
        -------
        encoded : as scikit-learn returns for data in memory; lazy for Dask input: a Dask array of a Dask array, a Dask
            dataframe of a Dask dataframe, or for sparse_output=True a Dask array of CSR blocks
        """
        if not is_dask(X):
            return super().transform(X)
        check_is_fitted(self)
        _refuse_kind(X)
        validate_data(self, _stand_in(X), reset=False, skip_check_array=True)
        columns = self.get_feature_names_out()
        sparse = getattr(self, "sparse_output", False)
        if is_partitioned(X) and not sparse:
            return _encode_partitions(X, self.to_sklearn(), columns, self.dtype)
        return _encode_blocks(X, self.to_sklearn(), len(columns), self.dtype, sparse)

    def _plain(self, kind: Any) -> Any:
        check_is_fitted(self)
        model = kind(**self.get_params(deep=False))
        model.__dict__.update(self.__dict__)
        return model


class ParallelOneHotEncoder(_EncodesBlocks, sklearn.preprocessing.OneHotEncoder):
    """One column of zeros and ones for each category of each column; as sklearn.preprocessing.OneHotEncoder.

    Parameters
    ----------
    categories, drop, sparse_output, dtype, handle_unknown, feature_name_combiner
        As in scikit-learn. For a Dask dataframe to give a dataframe, choose sparse_output=False.
    min_frequency, max_categories : only for data in memory

    Attributes
    ----------
    categories_ : list of ndarray, the categories of each column, sorted
    drop_idx_ : ndarray of shape (n_features,), or None
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.preprocessing.OneHotEncoder : the same in one process, to which data in memory are passed on

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel import ParallelOneHotEncoder
    >>> X = da.from_array([["red"], ["blue"], ["red"]], chunks=(2, 1))
    >>> encoder = ParallelOneHotEncoder(sparse_output=False).fit(X)
    >>> encoder.categories_[0].tolist()
    ['blue', 'red']
    >>> encoder.transform(X).compute()
    array([[0., 1.],
           [1., 0.],
           [0., 1.]])
    """

    def to_sklearn(self):
        """Return a fitted sklearn.preprocessing.OneHotEncoder that encodes the same."""
        return self._plain(sklearn.preprocessing.OneHotEncoder)


class ParallelOrdinalEncoder(_EncodesBlocks, sklearn.preprocessing.OrdinalEncoder):
    """The number of each value's category in place of the value; as sklearn.preprocessing.OrdinalEncoder.

    Parameters
    ----------
    categories, dtype, handle_unknown, unknown_value, encoded_missing_value
        As in scikit-learn.
    min_frequency, max_categories : only for data in memory

    Attributes
    ----------
    categories_ : list of ndarray, the categories of each column, sorted
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.preprocessing.OrdinalEncoder : the same in one process, to which data in memory are passed on

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel import ParallelOrdinalEncoder
    >>> X = da.from_array([["red"], ["blue"], ["red"]], chunks=(2, 1))
    >>> ParallelOrdinalEncoder().fit(X).transform(X).compute()
    array([[1.],
           [0.],
           [1.]])
    """

    def to_sklearn(self):
        """Return a fitted sklearn.preprocessing.OrdinalEncoder that encodes the same."""
        return self._plain(sklearn.preprocessing.OrdinalEncoder)


def find_categories(X: Any) -> list[np.ndarray]:
    """The distinct values of each column of one block, an ndarray or a pandas dataframe."""
    if hasattr(X, "iloc"):
        return [np.asarray(X.iloc[:, column].drop_duplicates(), dtype=object) for column in range(X.shape[1])]
    return [_distinct(column) for column in np.asarray(X).T]


def merge_categories(first: list[np.ndarray], second: list[np.ndarray]) -> list[np.ndarray]:
    """The distinct values of both."""
    return [_distinct(np.concatenate(both)) for both in zip(first, second, strict=True)]


def _distinct(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "O":
        return np.unique(values)
    # NaN differs from itself, and values of several types cannot be sorted
    found = list(dict.fromkeys(np.nan if value != value else value for value in values.tolist()))
    result = np.empty(len(found), object)
    result[:] = found
    return result


def _table(X: Any, values: list[np.ndarray]) -> Any:
    """Rows in which every value of every column occurs, of the kind of X's blocks."""
    height = max(len(column) for column in values)
    columns = [np.concatenate([column, np.repeat(column[:1], height - len(column))]) for column in values]
    if not is_partitioned(X):
        return np.stack(columns, axis=1)
    import pandas as pd

    meta = compat.empty_like(X)
    series = [pd.Series(column).astype(dtype) for column, dtype in zip(columns, meta.dtypes, strict=True)]
    frame = pd.concat(series, axis=1)
    frame.columns = meta.columns
    return frame


def _stand_in(X: Any) -> Any:
    """Something without rows by which scikit-learn checks names and number of columns."""
    return compat.empty_like(X) if is_partitioned(X) else np.empty((0, X.shape[1]))


def _encode_partitions(X: Any, encoder: Any, columns: np.ndarray, dtype: Any) -> Any:
    import pandas as pd

    meta = pd.DataFrame(np.empty((0, len(columns)), dtype), columns=columns, index=compat.empty_like(X).index)
    return X.map_partitions(_encode_partition, encoder, columns, meta=meta, enforce_metadata=False)


def _encode_partition(frame: Any, encoder: Any, columns: np.ndarray) -> Any:
    import pandas as pd

    return pd.DataFrame(_encode(frame, encoder, len(columns)), columns=columns, index=frame.index)


def _encode_blocks(X: Any, encoder: Any, n_columns: int, dtype: Any, sparse: bool) -> da.Array:
    rows = X
    if is_partitioned(X):
        from dparallel.blocks.dataframes import rows_of

        rows = rows_of(X)
    meta = np.empty((0, n_columns), dtype)
    return da.blockwise(
        _encode_block,
        "ik",
        rows,
        "ij",
        encoder=encoder,
        n_columns=n_columns,
        new_axes={"k": n_columns},
        token="dparallel-encode",
        dtype=dtype,
        meta=scipy.sparse.csr_matrix(meta) if sparse else meta,
        concatenate=None,
    )


def _encode_block(rows: Any, encoder: Any, n_columns: int) -> Any:
    return _encode(joined(rows), encoder, n_columns)


def _encode(rows: Any, encoder: Any, n_columns: int) -> Any:
    if rows.shape[0]:
        return encoder.transform(rows)
    empty = np.empty((0, n_columns), encoder.dtype)
    return scipy.sparse.csr_matrix(empty) if getattr(encoder, "sparse_output", False) else empty


def _refuse_kind(X: Any) -> None:
    if not isinstance(X, da.Array) and not is_partitioned(X):
        raise DataKindError(
            f"X is a Dask collection of type {type(X).__name__}. dparallel reads Dask arrays and Dask dataframes. "
            "Convert it to one of these."
        )
    if X.ndim != 2:
        raise DataError(
            f"Expected 2D array, got {X.ndim}D array instead. Reshape your data: X.to_frame() of a series, or "
            "X.reshape(-1, 1) of an array, if it has a single feature."
        )
