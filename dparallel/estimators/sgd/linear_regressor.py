"""What linear regression by SGD shares: scikit-learn's methods of SGDRegressor, on rows in this process or on Dask."""

from __future__ import annotations

from sklearn.base import RegressorMixin
from sklearn.linear_model import SGDRegressor
from sklearn.utils.validation import check_is_fitted

from dparallel.estimators.sgd.linear import SGDLinear, copy_fit, score_blocks, shared_parameters
from dparallel.estimators.sgd.numbers import Numbers, r_squared, summarise_numbers
from dparallel.estimators.sgd.parameters import REGRESSION_LOSSES
from dparallel.estimators.sgd.predictions import Errors, measure_errors
from dparallel.observe.fits import observed


class LinearRegressor(RegressorMixin, SGDLinear):
    """Base of AsyncSGDRegressor and LocalSGDRegressor, which say how their parameters come together."""

    _losses = REGRESSION_LOSSES

    @observed
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None):
        """Learn from the rows until the stopping rule is met.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
        y : array-like, Dask array or Dask series of shape (n_rows,)
        coef_init : array-like of shape (n_features,), or None
            To start from, in place of zeros.
        intercept_init : array-like of shape (1,), or None
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X or y hold NaN or infinity, or no row a weight; if the parameters leave the range of numbers.
        AlignmentError
            If X, y and sample_weight cannot be paired.
        StoreUnavailable, ClusterLostError, DataLostError
            If the cluster dies, or data that cannot be rebuilt are lost with a worker.
        """
        return self._fit(X, y, coef_init, intercept_init, sample_weight)

    def partial_fit(self, X, y, sample_weight=None):
        """Learn from one more batch of rows, in one epoch; arguments as for fit.

        Returns
        -------
        self
        """
        self._check_parameters(partial=True)
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X):
        """Predict the target of each row.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)

        Returns
        -------
        y : ndarray of shape (n_rows,), of X's dtype; a lazy Dask array or series for Dask input
        """
        return self._apply(X, self._line(), dtype=None)

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination R², computed at once, where the data are.

        Parameters
        ----------
        X, y, sample_weight : as for fit

        Returns
        -------
        score : float
        """
        found = score_blocks(self, X, y, sample_weight, measure_errors, Errors.merge)
        return r_squared(found.targets, found.squares, found.n_rows)

    def to_sklearn(self):
        """Return a fitted sklearn.linear_model.SGDRegressor with these coefficients.

        Returns
        -------
        model : sklearn.linear_model.SGDRegressor
        """
        check_is_fitted(self)
        return copy_fit(self, SGDRegressor(**shared_parameters(self, SGDRegressor)), t_=self.t_)

    def _summarise(self):
        return summarise_numbers

    def _model(self):
        return self._line()

    def _targets(self, found, classes):
        return Numbers(found.target.mean)

    def _attributes(self, found, dtype):
        return {"coef_": found[0][0].astype(dtype), "intercept_": found[1].astype(dtype)}
