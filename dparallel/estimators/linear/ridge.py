"""ParallelRidge: scikit-learn's Ridge for data in blocks or tiles."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.linear_model import Ridge

from dparallel.errors import DataError
from dparallel.estimators.checks import check_number, check_switch
from dparallel.estimators.linear.base import ParallelLinear
from dparallel.estimators.linear.fitting import Task
from dparallel.estimators.linear.lbfgs import Rule
from dparallel.estimators.linear.losses import Objective, Squares
from dparallel.estimators.linear.targets import Table, TableErrors, TableLine, measure_table, summarise_table
from dparallel.estimators.sgd.linear import copy_fit, shared_parameters
from dparallel.observe.fits import observed

_MOST = 1000
_EXACT = 1e-12


class ParallelRidge(MultiOutputMixin, RegressorMixin, ParallelLinear):
    """Least squares with an L2 penalty, exact, on arrays in this process and on Dask collections where they are.

    Chunks of rows are data parallelism: per iteration the coefficients travel to each worker and a gradient back.
    Chunks of columns are model parallelism: coefficients and all vectors of the solver stay with the columns, in
    slices, and the rows' predictions and residuals travel. Both together are hybrid parallelism.

    Parameters
    ----------
    alpha : float or array-like of shape (n_targets,), default=1.0
        Strength of the penalty, as in scikit-learn.
    fit_intercept : bool, default=True
        The intercept bears no penalty.
    max_iter : int or None, default=None
        Most iterations of the solver; None for 1000.
    tol : float, default=1e-4
        Stop when the gradient has shrunk to this share of that at the start, in the solver's coordinates. Chunks should
        not show in the result, so 1e-9 at most is taken, and 1e-12 where columns are together.
    verbose : int, default=0
        Print a line per iteration.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,), or (n_targets, n_features) for a y of two dimensions, of the data's dtype
    intercept_ : float, or ndarray of shape (n_targets,)
    n_iter_ : int, iterations run
    history_ : list of RoundRecord, one per iteration; objective is half of scikit-learn's divided by the rows' weight,
        change the largest derivative
    stop_reason_ : str, why the last iteration was the last
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.linear_model.Ridge : the same in one process.

    Notes
    -----
    The solver of `ParallelLogisticRegression`: for few columns that are together it takes X'X, as the normal equations
    do, and else it goes along conjugate directions. With alpha=0 and columns that depend on each other there are many
    optima, and it may find another one than scikit-learn.

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel import ParallelRidge
    >>> X = da.from_array([[0.0], [1.0], [2.0], [3.0]] * 50, chunks=(100, 1))
    >>> model = ParallelRidge(alpha=1e-9).fit(X, 2.0 * X[:, 0] + 1.0)
    >>> model.coef_.round(6).tolist(), round(float(model.intercept_), 6)
    ([2.0], 1.0)
    >>> model.predict(X)
    dask.array<dparallel-apply, shape=(200,), dtype=float64, chunksize=(100,), chunktype=numpy.ndarray>
    """

    def __init__(self, alpha=1.0, *, fit_intercept=True, max_iter=None, tol=1e-4, verbose=0):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose

    @observed
    def fit(self, X, y, sample_weight=None):
        """Find the coefficients.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
            On a cluster the chunks of a Dask array's columns are kept apart. To have them joined, which is faster where
            the coefficients are small, give ``X.rechunk({1: -1})``.
        y : array-like, Dask array, Dask series or dataframe of shape (n_rows,) or (n_rows, n_targets)
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X or y hold NaN or infinity, or no row has a weight.
        AlignmentError
            If X, y and sample_weight cannot be paired.
        ClusterLostError, DataLostError
            If the cluster dies, or data that cannot be rebuilt are lost with a worker.
        """
        self._check()
        solution = self._solve(X, y, sample_weight, summarise_table, self._settle, self._most())
        self.n_iter_ = solution.outcome.n_iter
        return self

    def _check(self):
        check_number(self, "tol", Real, 0)
        check_switch(self, "fit_intercept")
        if self.max_iter is not None:
            check_number(self, "max_iter", Integral, 1)
        alpha = np.asarray(self.alpha)
        if alpha.ndim > 1 or alpha.dtype.kind not in "iuf" or not (alpha >= 0).all() or not np.isfinite(alpha).all():
            raise ValueError(f"alpha was given {self.alpha!r}. It must be a number of at least 0, or one per target.")

    def _most(self):
        return _MOST if self.max_iter is None else int(self.max_iter)

    def _settle(self, summary, weight):
        n_targets = len(summary.columns)
        alpha = np.asarray(self.alpha, np.float64)
        if alpha.ndim and len(alpha) not in (1, n_targets):
            raise DataError(
                "Number of targets and number of penalties do not correspond: "
                f"{len(alpha)} != {n_targets}. Give one alpha, or one for each target."
            )
        self._is_flat = summary.is_flat
        penalties = np.array(np.broadcast_to(alpha, n_targets))
        objective = Objective(Squares(n_targets), penalties, 1.0 / weight, bool(self.fit_intercept))
        # a step that is exact along its direction makes L-BFGS the method of conjugate gradients
        return Task(Table(n_targets), objective, Rule(0.0, min(self.tol, _EXACT), self._most(), curvature=0.1))

    def _shaped(self, coef):
        return coef[0] if self._is_flat else coef

    def predict(self, X):
        """Predict the targets of each row.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)

        Returns
        -------
        y : ndarray of shape (n_rows,), or (n_rows, n_targets) as y was in fit, of X's dtype; lazy for Dask input
        """
        columns = None if self._n_outputs == 1 and self._is_flat else range(self._n_outputs)
        return self._evaluate(X, self._model if columns is None else TableLine, dtype=None, columns=columns)

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination R², for several targets their mean, computed at once, where the data are.

        Parameters
        ----------
        X, y, sample_weight : as for fit

        Returns
        -------
        score : float
        """
        return self._score(X, y, sample_weight, measure_table, TableErrors.merge).r_squared()

    def to_sklearn(self):
        """Return a fitted scikit-learn model with these coefficients, which predicts the same.

        Returns
        -------
        model : sklearn.linear_model.Ridge
        """
        self._line()
        return copy_fit(self, Ridge(**shared_parameters(self, Ridge)), coef_=self.coef_, n_iter_=None)

    def _model(self, line=None):
        return self._line() if line is None else line
