"""ParallelLogisticRegression: scikit-learn's LogisticRegression for data in blocks or tiles."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from dparallel.errors import DataError
from dparallel.estimators.checks import check_number, check_switch
from dparallel.estimators.linear.base import ParallelLinear
from dparallel.estimators.linear.fitting import Task
from dparallel.estimators.linear.lbfgs import Rule
from dparallel.estimators.linear.losses import Logistic, Objective, Softmax
from dparallel.estimators.sgd.classes import Labels, refuse_strange, summarise_labels, weigh_classes
from dparallel.estimators.sgd.linear import copy_fit, one_column, shared_parameters
from dparallel.estimators.sgd.predictions import Predict, Probabilities, count_right
from dparallel.observe.fits import observed


class ParallelLogisticRegression(ClassifierMixin, ParallelLinear):
    """Logistic regression with an L2 penalty, exact, on arrays in this process and on Dask collections where they are.

    Chunks of rows are data parallelism: per iteration the coefficients travel to each worker and a gradient back.
    Chunks of columns are model parallelism: coefficients and all vectors of the solver stay with the columns, in
    slices, and the rows' scores and residuals travel. Both together are hybrid parallelism.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty, as in scikit-learn; np.inf for none.
    tol : float, default=1e-4
        Stop when no derivative of the mean loss and penalty is larger, the columns being measured from their means.
    fit_intercept : bool, default=True
        The intercept bears no penalty.
    class_weight : dict, "balanced" or None, default=None
        Multiplied with the weights of a class's rows.
    max_iter : int, default=100
        Most iterations of the solver.
    verbose : int, default=0
        Print a line per iteration.
    warm_start : bool, default=False
        Start fit from the coefficients of the fit before, where they have the right shape.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) for two classes, else (n_classes, n_features), of the data's dtype
    intercept_ : ndarray of shape (1,) or (n_classes,), of the data's dtype
    classes_ : ndarray of shape (n_classes,)
    n_iter_ : ndarray of shape (1,), int32, iterations run
    history_ : list of RoundRecord, one per iteration; objective is that of scikit-learn divided by C times the rows'
        weight, change the largest derivative
    stop_reason_ : str, why the last iteration was the last
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.linear_model.LogisticRegression : the same in one process.

    Notes
    -----
    L-BFGS in the form of Chen, Wang and Zhou, "Large-scale L-BFGS using MapReduce" (NIPS 2014), which needs inner
    products only, in coordinates in which the objective bends about alike in all directions: by the Hessian where
    columns are few and together, which makes it Newton's method, and else by the diagonal of the first one. Those of
    the optimum do not depend on it.

    Examples
    --------
    >>> import numpy as np
    >>> from dparallel import ParallelLogisticRegression
    >>> X = np.array([[-1.0, -1.0], [-2.0, -1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> model = ParallelLogisticRegression().fit(X, ["left", "left", "right", "right"])
    >>> model.predict([[-0.8, -1.0]])
    array(['left'], dtype='<U5')
    >>> model.predict_proba(X).argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """

    def __init__(
        self,
        *,
        C=1.0,
        tol=1e-4,
        fit_intercept=True,
        class_weight=None,
        max_iter=100,
        verbose=0,
        warm_start=False,
    ):
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start

    @observed
    def fit(self, X, y, sample_weight=None):
        """Find the coefficients.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
            On a cluster the chunks of a Dask array's columns are kept apart. To have them joined, which is faster where
            the coefficients are small, give ``X.rechunk({1: -1})``.
        y : array-like, Dask array or Dask series of shape (n_rows,)
            Labels of any dtype.
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X holds NaN or infinity, y a single class, or no row a weight.
        AlignmentError
            If X, y and sample_weight cannot be paired.
        ClusterLostError, DataLostError
            If the cluster dies, or data that cannot be rebuilt are lost with a worker.
        """
        self._check()
        solution = self._solve(X, one_column(y), sample_weight, summarise_labels, self._settle, self.max_iter)
        self.n_iter_ = np.array([solution.outcome.n_iter], np.int32)
        return self

    def _check(self):
        check_number(self, "max_iter", Integral, 0)
        check_number(self, "tol", Real, 0)
        check_switch(self, "fit_intercept")
        check_switch(self, "warm_start")
        if not (isinstance(self.C, Real) and float(self.C) > 0):
            raise ValueError(f"C was given {self.C!r}. It must be a number greater than 0, or np.inf for no penalty.")

    def _settle(self, summary, weight):
        refuse_strange(summary)
        classes = summary.classes
        if len(classes) < 2:
            raise DataError(
                f"The number of classes has to be greater than one; got {len(classes)} class. Give rows of two classes."
            )
        labels = Labels(classes, weigh_classes(self.class_weight, summary))
        total = weight * labels.mean_weight(summary)
        if not total > 0:
            raise DataError("All rows have weight 0 by class_weight. Give a class with rows a weight.")
        start = self._start(classes, labels.n_outputs)
        self.classes_ = classes
        loss = Logistic(1) if labels.n_outputs == 1 else Softmax(labels.n_outputs)
        objective = Objective(loss, np.full(labels.n_outputs, 1.0 / self.C), 1.0 / total, bool(self.fit_intercept))
        return Task(labels, objective, Rule(self.tol, 0.0, self.max_iter), *start)

    def _start(self, classes, n_outputs):
        """What a fit before has found, if it is asked for and fits."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None, None
        if self.coef_.shape != (n_outputs, self.n_features_in_) or not np.array_equal(self.classes_, classes):
            return None, None
        return self.coef_, self.intercept_ if self.fit_intercept else np.zeros(n_outputs)

    def _attributes(self, found, dtype):
        return {**super()._attributes(found, dtype), "classes_": self.classes_}

    def predict(self, X):
        """Class of each row.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)

        Returns
        -------
        labels : ndarray of shape (n_rows,), of the dtype of ``classes_``; a lazy Dask array or series for Dask input
        """
        check_is_fitted(self)
        return self._evaluate(X, self._model, dtype=self.classes_.dtype)

    def decision_function(self, X):
        """Decision values: signed, 0 on the border between two classes; the highest wins among more.

        Returns
        -------
        scores : ndarray of shape (n_rows,) for two classes, else (n_rows, n_classes), of X's dtype; lazy for Dask input
        """
        columns = None if self._n_outputs == 1 else self.classes_.tolist()
        return self._evaluate(X, _itself, dtype=None, columns=columns)

    def predict_proba(self, X):
        """Probability of each class.

        Returns
        -------
        probabilities : ndarray of shape (n_rows, n_classes), of X's dtype, in the order of ``classes_``; lazy for Dask
            input
        """
        return self._chances(X, log=False)

    def predict_log_proba(self, X):
        """Logarithm of predict_proba."""
        return self._chances(X, log=True)

    def _chances(self, X, *, log):
        check_is_fitted(self)

        def chances(line):
            return Probabilities(line, "log_loss", log)

        return self._evaluate(X, chances, dtype=None, columns=self.classes_.tolist())

    def score(self, X, y, sample_weight=None):
        """Accuracy, computed at once, where the data are.

        Parameters
        ----------
        X, y, sample_weight : as for fit

        Returns
        -------
        score : float
        """
        right, weight = self._score(X, y, sample_weight, count_right, np.add)
        return float(right / weight)

    def to_sklearn(self):
        """Return a fitted scikit-learn model with these coefficients, which predicts the same.

        Returns
        -------
        model : sklearn.linear_model.LogisticRegression
        """
        self._line()
        return copy_fit(self, LogisticRegression(**shared_parameters(self, LogisticRegression)), coef_=self.coef_)

    def _model(self, line=None):
        return Predict(self._line() if line is None else line, self.classes_)


def _itself(line):
    return line
