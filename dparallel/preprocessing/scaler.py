"""ParallelStandardScaler: scikit-learn's StandardScaler for data in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from dparallel import kernels
from dparallel.errors import DataError
from dparallel.estimator import ParallelEstimator
from dparallel.moments import Moments, measure_shard
from dparallel.observe.callbacks import CallbackSupport
from dparallel.observe.fits import observed_as_one
from dparallel.rounds import reduce_once

_NOT_CENTRED = (
    "Cannot center sparse matrices: X is sparse and with_mean=True would make it dense. Pass with_mean=False."
)


class ParallelStandardScaler(CallbackSupport, OneToOneFeatureMixin, TransformerMixin, ParallelEstimator):
    """Subtract each column's mean and divide by its standard deviation, in one round over the data.

    Two numbers per column and a count come back from each shard; rows stay where they are. A Dask collection is
    transformed lazily.

    Parameters
    ----------
    copy : bool, default=True
        Accepted because scikit-learn's StandardScaler has it; X is never changed.
    with_mean : bool, default=True
        Subtract the mean; CSR data need with_mean=False, since they would become dense.
    with_std : bool, default=True
        Divide by the standard deviation.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), float64, or None where neither mean nor deviation is wanted
    var_ : ndarray of shape (n_features,), float64, or None if not with_std
    scale_ : ndarray of shape (n_features,), float64, or None if not with_std; 1 for constant columns
    n_samples_seen_ : int, or float where rows have weights; the sum of the weights
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.preprocessing.StandardScaler : the same in one process. It turns Dask data into numpy arrays.

    Notes
    -----
    Moments are merged as in Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (1983).

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel import ParallelStandardScaler
    >>> X = da.from_array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]], chunks=(2, 2))
    >>> scaler = ParallelStandardScaler().fit(X)
    >>> scaler.mean_
    array([2., 1.])
    >>> scaler.transform(X).compute()
    array([[-1.22474487,  0.        ],
           [ 0.        ,  0.        ],
           [ 1.22474487,  0.        ]])
    """

    _reads_sparse = True

    def __init__(self, *, copy=True, with_mean=True, with_std=True):
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std

    @observed_as_one
    def fit(self, X, y=None, sample_weight=None):
        """Find mean and standard deviation of every column.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
        y : ignored
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X holds NaN or infinity, no weight, or is sparse while with_mean.
        """
        self._forget()
        return self.partial_fit(X, y, sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        """Take the rows of one more batch into account; arguments as for fit.

        Returns
        -------
        self
        """
        first = not hasattr(self, "n_samples_seen_")
        blocks = self._gather(X, sample_weight=sample_weight, reset=first)
        self._refuse_centring(blocks.is_sparse)
        found = reduce_once(blocks, measure_shard, Moments.merge, blocks.n_features)
        if not found.weight > 0:
            raise DataError("Sample weights must contain at least one non-zero number.")
        self._publish(found if first else self._moments.merge(found), weighted=blocks.weighted)
        return self

    def transform(self, X, copy=None):
        """Scale X.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
        copy : accepted as scikit-learn does; X is never changed

        Returns
        -------
        scaled : of X's kind, with its columns' names; ndarray for local input; lazy for Dask input
        """
        check_is_fitted(self)
        shift = self.mean_ if self.with_mean else None
        return self._rescale(X, _Rescale(shift, self.scale_, inverse=False))

    def inverse_transform(self, X, copy=None):
        """Undo transform; arguments and result as for transform."""
        check_is_fitted(self)
        shift = self.mean_ if self.with_mean else None
        return self._rescale(X, _Rescale(shift, self.scale_, inverse=True))

    def to_sklearn(self):
        """Return a fitted sklearn.preprocessing.StandardScaler that scales the same, on data without dparallel.

        Returns
        -------
        model : sklearn.preprocessing.StandardScaler
        """
        check_is_fitted(self)
        model = StandardScaler(**self.get_params())
        for name in ("n_samples_seen_", "mean_", "var_", "scale_", "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                value = getattr(self, name)
                setattr(model, name, value.copy() if isinstance(value, np.ndarray) else value)
        return model

    def _rescale(self, X, rescale):
        columns = self.get_feature_names_out()
        return self._apply(X, rescale, dtype=None, columns=columns, accept_sparse=True, keep_sparse=True)

    def _refuse_centring(self, sparse):
        if sparse and self.with_mean:
            raise DataError(_NOT_CENTRED)

    def _forget(self):
        for name in ("n_samples_seen_", "mean_", "var_", "scale_", "_moments"):
            self.__dict__.pop(name, None)

    def _publish(self, moments, *, weighted):
        self._moments = moments
        self.n_samples_seen_ = moments.weight if weighted else moments.n_rows
        self.mean_ = moments.mean if self.with_mean or self.with_std else None
        self.var_ = moments.variance if self.with_std else None
        self.scale_ = _scale(moments) if self.with_std else None

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_samples_seen_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.with_mean
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _scale(moments):
    """Standard deviations, and 1 where a column is constant up to rounding, as scikit-learn decides it."""
    variance = moments.variance
    rounding = np.finfo(np.float64).eps
    noise = moments.weight * rounding * variance + (moments.weight * moments.mean * rounding) ** 2
    return np.where(variance <= noise, 1.0, np.sqrt(variance))


@dataclass(frozen=True)
class _Rescale:
    """A block moved and scaled, or moved back; float32 stays float32."""

    shift: np.ndarray | None
    scale: np.ndarray | None
    inverse: bool

    def __call__(self, X: Any) -> Any:
        _refuse_not_finite(X)
        if hasattr(X, "indptr"):
            return self._rescale_csr(X)
        result = X.astype(X.dtype)  # a copy
        if self.inverse:
            if self.scale is not None:
                result *= self.scale.astype(X.dtype)
            return result if self.shift is None else np.add(result, self.shift, out=result, casting="same_kind")
        if self.shift is not None:
            np.subtract(result, self.shift, out=result, casting="same_kind")
        if self.scale is not None:
            np.divide(result, self.scale, out=result, casting="same_kind")
        return result

    def _rescale_csr(self, X: Any) -> Any:
        if self.shift is not None:
            raise DataError(_NOT_CENTRED)
        result = X.copy()
        if self.scale is not None:
            factors = self.scale if self.inverse else 1.0 / self.scale
            result.data *= factors[result.indices].astype(X.dtype)
        return result


def _refuse_not_finite(X: Any) -> None:
    values = X.data if hasattr(X, "indptr") else X
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(values.sum())  # a sum is cheaper than a look at every value, and NaN shows in it
    if not finite and not np.isfinite(values).all():
        raise DataError(kernels.ruler.blame(X))
