"""What linear classifiers by SGD share: scikit-learn's methods of SGDClassifier, on rows in this process or on Dask."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from dparallel.errors import DataError
from dparallel.estimators.sgd.classes import Labels, refuse_strange, summarise_labels, weigh_classes
from dparallel.estimators.sgd.linear import SGDLinear, copy_fit, score_blocks, shared_parameters
from dparallel.estimators.sgd.parameters import LOSSES
from dparallel.estimators.sgd.predictions import Predict, Probabilities, count_right
from dparallel.observe.fits import observed


def _knows_chances(model):
    if model.loss not in ("log_loss", "modified_huber"):
        raise AttributeError(f"probability estimates are not available for loss={model.loss!r}")
    return True


class LinearClassifier(ClassifierMixin, SGDLinear):
    """Base of AsyncSGDClassifier and LocalSGDClassifier, which say how their parameters come together."""

    _losses = LOSSES

    @observed
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None):
        """Learn from the rows until the stopping rule is met.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
        y : array-like, Dask array or Dask series of shape (n_rows,)
            Labels of any dtype.
        coef_init : array-like of shape (n_outputs, n_features), or None
            To start from, in place of zeros; n_outputs is 1 for two classes, else the number of classes.
        intercept_init : array-like of shape (n_outputs,), or None
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None
            Multiplied with class_weight.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X holds NaN or infinity, y a single class, or no row a weight; if the parameters leave the range of
            numbers.
        AlignmentError
            If X, y and sample_weight cannot be paired.
        StoreUnavailable, ClusterLostError, DataLostError
            If the cluster dies, or data that cannot be rebuilt are lost with a worker.
        """
        return self._fit(X, y, coef_init, intercept_init, sample_weight)

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Learn from one more batch of rows, in one epoch.

        Parameters
        ----------
        X, y, sample_weight : as for fit
        classes : array-like of shape (n_classes,), or None
            All classes that any batch will show; needed at the first call.

        Returns
        -------
        self
        """
        self._check_parameters(partial=True)
        return self._partial_fit(X, y, sample_weight, self._check_classes(classes))

    def predict(self, X):
        """Class of each row.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)

        Returns
        -------
        labels : ndarray of shape (n_rows,), of the dtype of ``classes_``; a lazy Dask array or series for Dask input
        """
        return self._apply(X, self._model(), dtype=self.classes_.dtype)

    def decision_function(self, X):
        """Decision values: signed, 0 on the border between two classes; the highest wins among more.

        Returns
        -------
        scores : ndarray of shape (n_rows,) for two classes, else (n_rows, n_classes), of X's dtype; lazy for Dask input
        """
        line = self._line()
        columns = None if line.n_outputs == 1 else self.classes_.tolist()
        return self._apply(X, line, dtype=None, columns=columns)

    @available_if(_knows_chances)
    def predict_proba(self, X):
        """Probability of each class, for loss="log_loss" and loss="modified_huber".

        Returns
        -------
        probabilities : ndarray of shape (n_rows, n_classes), of X's dtype, in the order of ``classes_``; lazy for Dask
            input
        """
        return self._chances(X, log=False)

    @available_if(_knows_chances)
    def predict_log_proba(self, X):
        """Logarithm of predict_proba; for loss="modified_huber" it may be -inf."""
        return self._chances(X, log=True)

    def _chances(self, X, *, log):
        chances = Probabilities(self._line(), self.loss, log)
        return self._apply(X, chances, dtype=None, columns=self.classes_.tolist())

    def score(self, X, y, sample_weight=None):
        """Accuracy, computed at once, where the data are.

        Parameters
        ----------
        X, y, sample_weight : as for fit

        Returns
        -------
        score : float
        """
        right, weight = score_blocks(self, X, y, sample_weight, count_right, np.add)
        return float(right / weight)

    def to_sklearn(self):
        """Return a fitted scikit-learn model with these coefficients, and the same probabilities to 1e-12.

        Returns
        -------
        model : sklearn.linear_model.SGDClassifier; LogisticRegression for loss="log_loss" and more than two classes,
            since there the probabilities are coupled
        """
        check_is_fitted(self)
        if self.loss == "log_loss" and len(self.classes_) > 2:
            model = LogisticRegression(max_iter=self.max_iter, fit_intercept=self.fit_intercept)
            return copy_fit(self, model, n_iter_=np.array([self.n_iter_], np.int32))
        return copy_fit(self, SGDClassifier(**shared_parameters(self, SGDClassifier)), t_=self.t_)

    def _summarise(self):
        return summarise_labels

    def _model(self):
        return Predict(self._line(), self.classes_)

    def _targets(self, found, classes):
        summary = found.target
        refuse_strange(summary)
        if classes is None:
            classes = summary.classes
        if len(classes) < 2:
            raise DataError(
                f"The number of classes has to be greater than one; got {len(classes)} class. Give rows of two classes."
            )
        labels = Labels(classes, weigh_classes(self.class_weight, summary.over(classes)))
        self.classes_ = classes
        return labels

    def _check_classes(self, classes):
        known = getattr(self, "classes_", None)
        if classes is None:
            if known is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return known
        classes = np.unique(classes)
        if known is not None and not np.array_equal(known, classes):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}. "
                "Name all classes at the first call."
            )
        return classes

    def _attributes(self, found, dtype):
        return {**super()._attributes(found, dtype), "classes_": self.classes_}
