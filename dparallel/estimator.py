"""What all estimators share: the checks of X, the way in and the way out."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from dparallel import compat
from dparallel.blocks import outputs
from dparallel.blocks.dask_arrays import is_dask
from dparallel.blocks.gate import admit, to_blocks
from dparallel.observe.repr import fit_block


class ParallelEstimator(compat.ShowsMoreHtml, BaseEstimator):
    """Base of all estimators. scikit-learn's mixins go to its left.

    A fitted attribute that is a Dask collection, such as ``labels_`` after a fit on Dask data, is left out of pickles,
    because its graph may hold the training rows.
    """

    # whether fit and predict read CSR; an estimator where that depends on its parameters passes accept_sparse itself
    _reads_sparse = False

    def _gather(self, X, y=None, sample_weight=None, *, reset=True, accept_sparse=None):
        """Turn X, y and sample_weight into blocks, and set or check n_features_in_ and feature_names_in_.

        Parameters
        ----------
        X : array-like, dataframe, sparse matrix, Dask array or Dask dataframe of shape (n_rows, n_features)
        y : array-like, Dask array or Dask series of shape (n_rows,) or (n_rows, n_outputs), or None
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), a number, or None
        reset : bool, True in fit and in the first partial_fit, else False
        accept_sparse : bool, or None for what the class says

        Returns
        -------
        blocks : Blocks

        Raises
        ------
        ValueError, TypeError
            scikit-learn's own for local data, and the same messages for Dask data; AlignmentError.
        """
        given = self._admit(X, y, reset=reset, accept_sparse=accept_sparse)
        return to_blocks(given, y, sample_weight)

    def _apply(self, X, function, *, dtype, columns=None, accept_sparse=None, keep_sparse=False, gives_sparse=False):
        """Check that this estimator is fitted and that X fits it, then apply a function block by block.

        Parameters
        ----------
        X : array-like, dataframe, sparse matrix, Dask array or Dask dataframe of shape (n_rows, n_features)
        function, dtype, columns, keep_sparse, gives_sparse : see `blocks.outputs.apply_to`
        accept_sparse : bool, or None for what the class says

        Returns
        -------
        results : ndarray, Dask array, Dask series or Dask dataframe, as X is; lazy where X is

        Raises
        ------
        NotFittedError
            Before fit.
        ValueError, TypeError
            scikit-learn's own for local data, and the same messages for Dask data.
        """
        check_is_fitted(self)
        given = self._admit(X, reset=False, accept_sparse=accept_sparse)
        options = {"keep_sparse": keep_sparse, "gives_sparse": gives_sparse}
        return outputs.apply_to(given, function, dtype=dtype, columns=columns, **options)

    def _admit(self, X, y=None, *, reset, accept_sparse):
        reads_sparse = self._reads_sparse if accept_sparse is None else accept_sparse
        given = admit(X, accept_sparse=reads_sparse, owner=type(self).__name__)
        # y=None would be checked against the estimator's tags, which is fit's affair only
        targets = {"y": y} if reset and (y is not None or get_tags(self).target_tags.required) else {}
        validate_data(self, _stand_in(given), reset=reset, skip_check_array=True, **targets)
        return given

    def __getstate__(self):
        return {
            name: value for name, value in super().__getstate__().items() if not (name.endswith("_") and is_dask(value))
        }

    def _more_html(self):
        return fit_block(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._reads_sparse
        return tags


def _stand_in(given):
    """Something small, or local anyway, by which scikit-learn can check the names and the number of columns."""
    if given.kind == "dask.dataframe":
        from dparallel.blocks.dataframes import empty_frame

        return empty_frame(given.X)
    if given.kind == "dask.array":
        return np.empty((0, given.form.n_features))
    return given.source
