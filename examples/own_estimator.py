"""
An estimator of one's own
=========================

Gaussian naive Bayes as a scikit-learn estimator for NumPy arrays, dataframes and Dask collections: rounds below, the
base class of dparallel's estimators above. A fit is one round. Each shard answers with count, mean and squared
deviations of each class's rows, which are merged exactly, so neither chunks nor workers show in the result.

The page :doc:`../adding_an_estimator` goes through it part by part.
"""

from dataclasses import dataclass
from functools import reduce
from numbers import Real

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.base import ClassifierMixin
from sklearn.naive_bayes import GaussianNB
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from dparallel.blocks.block import Block
from dparallel.errors import DataError
from dparallel.estimator import ParallelEstimator
from dparallel.estimators.checks import check_number
from dparallel.estimators.sgd.linear import one_column
from dparallel.kernels.ruler import blame
from dparallel.moments import Moments, measure_block
from dparallel.rounds import open_rounds


def measure_classes(shard, state):
    """The partial: a dict of label to the Moments of its rows in this shard. It needs no state."""
    found = {}
    for block in shard.blocks:
        check_classification_targets(block.y)
        labels, codes = np.unique(block.y, return_inverse=True)
        for number, label in enumerate(labels.tolist()):
            mine = codes == number
            weights = None if block.sample_weight is None else block.sample_weight[mine]
            part = measure_block(Block(block.X[mine], sample_weight=weights, index=block.index))
            found = merge_classes(found, {label: part})
    return found


def merge_classes(a, b):
    """The combine: moments of the rows of both, label by label; changes neither."""
    return {
        label: a[label].merge(b[label]) if label in a and label in b else a.get(label, b.get(label))
        for label in [*a, *(label for label in b if label not in a)]
    }


class ParallelGaussianNB(ClassifierMixin, ParallelEstimator):
    """Naive Bayes of columns that are normal in each class, exact, in one round over the data.

    A count and two numbers per class and column come back from each shard; rows stay where they are.

    Parameters
    ----------
    var_smoothing : float, default=1e-9
        Added to all variances, times the largest variance of a column.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    class_count_, class_prior_ : ndarray of shape (n_classes,), float64, weights of the rows, and their shares
    theta_, var_ : ndarray of shape (n_classes, n_features), float64, means and variances
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    Notes
    -----
    Moments are merged as in Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (1983).
    """

    def __init__(self, *, var_smoothing=1e-9):
        self.var_smoothing = var_smoothing

    def fit(self, X, y, sample_weight=None):
        """Measure the columns of each class; arguments as for dparallel's other classifiers.

        Raises
        ------
        DataError
            If X holds NaN or infinity, or no row has a weight.
        """
        check_number(self, "var_smoothing", Real, 0)
        blocks = self._gather(X, one_column(y), sample_weight)
        with open_rounds(blocks) as rounds:
            found = rounds.reduce(measure_classes, merge_classes)
        found = {label: moments for label, moments in sorted(found.items()) if moments.weight > 0}
        if not found:
            raise DataError("No row of X has a weight above 0. Give at least one row a weight.")
        whole = reduce(Moments.merge, found.values())
        self.classes_ = np.array(list(found))
        self.class_count_ = np.array([moments.weight for moments in found.values()])
        self.class_prior_ = self.class_count_ / whole.weight
        self.theta_ = np.array([moments.mean for moments in found.values()])
        self.var_ = np.array([moments.variance for moments in found.values()])
        self.var_ += self.var_smoothing * whole.variance.max()
        return self

    def predict(self, X):
        """Likeliest class of each row: ndarray of shape (n_rows,); a lazy Dask array or series for Dask input."""
        return self._apply(X, self._posterior(labels=True), dtype=self._fitted_classes().dtype)

    def predict_proba(self, X):
        """Probability of each class: shape (n_rows, n_classes), float64; lazy for Dask input."""
        columns = self._fitted_classes().tolist()
        return self._apply(X, self._posterior(labels=False), dtype=np.float64, columns=columns)

    def _fitted_classes(self):
        check_is_fitted(self)
        return self.classes_

    def _posterior(self, *, labels):
        check_is_fitted(self)
        return Posterior(self.classes_ if labels else None, self.class_prior_, self.theta_, self.var_)


@dataclass(frozen=True)
class Posterior:
    """What is done to a block of rows; it travels with each task, so it holds no data but the model."""

    classes: np.ndarray | None
    prior: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def __call__(self, X):
        if not np.isfinite(X).all():
            raise DataError(blame(X))
        constant = np.log(self.prior) - 0.5 * np.log(2 * np.pi * self.variances).sum(axis=1)
        squares = [((X - m) ** 2 / v).sum(axis=1) for m, v in zip(self.means, self.variances)]
        joint = constant - 0.5 * np.array(squares, np.float64).reshape(len(self.means), len(X)).T
        if self.classes is not None:
            return self.classes[joint.argmax(axis=1)]
        chances = np.exp(joint - joint.max(axis=1, keepdims=True, initial=-np.inf))
        return chances / chances.sum(axis=1, keepdims=True)


def main():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=100_000)
    X = rng.normal(size=(len(y), 8)) * np.array([1.0, 2.0, 0.5])[y, None] + y[:, None]
    theirs = GaussianNB().fit(X, y)
    here = ParallelGaussianNB().fit(X, y)
    with LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster, Client(cluster):
        rows, labels = da.from_array(X, chunks=(12_500, 8)), da.from_array(y, chunks=12_500)
        there = ParallelGaussianNB().fit(rows, labels)
        lazy = there.predict(rows)  # nothing is computed yet
        print(lazy)
        right = float((lazy == labels).mean().compute())
    for name, model in (("in this process", here), ("on two workers", there)):
        off = max(np.abs(model.theta_ - theirs.theta_).max(), np.abs(model.var_ / theirs.var_ - 1).max())
        print(f"{name}: means and variances differ from scikit-learn's by {off:.1e} at most")
    print(f"accuracy {right:.4f}, scikit-learn's {theirs.score(X, y):.4f}")


if __name__ == "__main__":
    main()
