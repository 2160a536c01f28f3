"""What the classifier and the regressor share."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from dparallel.errors import warn
from dparallel.estimator import ParallelEstimator
from dparallel.estimators.decision_tree.categories import Categories, find_categorical
from dparallel.estimators.decision_tree.fitting import Grown, Plan, grow, grown_so_far
from dparallel.estimators.decision_tree.held import SCRATCH_BYTES_PER_ROW
from dparallel.estimators.decision_tree.parameters import count_features, find_constraint, find_limits, refuse_together
from dparallel.estimators.decision_tree.paths import Indicators, Leaves, Paths
from dparallel.estimators.decision_tree.publishing import Published, importances, prune, publish, with_thresholds
from dparallel.observe.callbacks import CallbackSupport
from dparallel.observe.fits import FitObservers, observed
from dparallel.rounds import open_rounds

_SHARED = ("n_features_in_", "feature_names_in_", "n_outputs_", "max_features_", "classes_", "n_classes_")


class ParallelTree(CallbackSupport, ParallelEstimator):
    """Base of the parallel trees; a class of scikit-learn goes to its right."""

    _reads_sparse = True
    splitter = "best"  # no parameter: scikit-learn 1.7's tags look at it

    @observed
    def fit(self, X, y, sample_weight=None, check_input=True):
        """Grow the tree.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
            NaN is a missing value. float64 is rounded to float32, as scikit-learn does.
        y : array-like, Dask array or Dask series of shape (n_rows,)
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None
            A row of weight 2 counts as two rows, one of weight 0 not at all; min_samples_leaf and min_samples_split
            count rows.
        check_input : accepted because scikit-learn's trees have it, and not used

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X holds infinity, y holds NaN or what is no target, or there is no weight.
        AlignmentError
            If X, y and sample_weight cannot be paired.
        ClusterLostError, DataLostError
            If the cluster dies, or data that cannot be rebuilt are lost with a worker.
        """
        self._validate_params()
        refuse_together(self)
        if getattr(y, "ndim", 1) == 2 and y.shape[1] == 1:
            warn(
                "A column-vector y was passed when a 1d array was expected. "
                "Please change the shape of y to (n_samples,), for example using ravel().",
                DataConversionWarning,
            )
        self._categories = Categories() if self.categorical_features is None else Categories.found_in(X)
        encoded = self._categories.encode(X)
        blocks = self._gather(encoded, y, sample_weight)
        plan = self._plan(X, blocks.n_features)
        scratch = SCRATCH_BYTES_PER_ROW + blocks.n_features
        observers = FitObservers(self, X, y, sample_weight, n_starts=1, max_rounds=None)
        listeners = observers.listeners(lambda state: self._attributes(grown_so_far(state), plan))
        with open_rounds(blocks, scratch_bytes_per_row=scratch, in_any_order=True) as rounds:
            grown = grow(rounds, plan, listeners)
        for name, value in self._attributes(grown, plan).items():
            setattr(self, name, value)
        observers.end()
        return self

    def _plan(self, X, n_features):
        names = getattr(self, "feature_names_in_", None)
        columns = getattr(X, "columns", None)
        categorical = find_categorical(self.categorical_features, n_features, names, self._categories, columns)
        return Plan(
            criterion=self.criterion,
            has_classes=self._has_classes,
            max_bins=self.max_bins,
            max_features=count_features(self.max_features, n_features),
            class_weight=getattr(self, "class_weight", None),
            categorical=categorical,
            limits=partial(find_limits, self),
            constraint=partial(find_constraint, self.monotonic_cst, n_features, categorical=categorical),
            seed=int(check_random_state(self.random_state).randint(0, 2**62, dtype=np.int64)),
        )

    def _attributes(self, grown: Grown, plan: Plan) -> dict[str, Any]:
        """What makes the estimator a fitted one."""
        shift = getattr(grown.targets, "shift", 0.0)
        published = publish(grown.arrays, grown.rules, grown.bins, plan.categorical, shift=shift, bounded=grown.bounded)
        published = prune(published, max(grown.rules.n_classes, 1), self.ccp_alpha)
        found: dict[str, Any] = {"classes_": grown.targets.classes, "n_classes_": grown.rules.n_classes}
        return (found if plan.has_classes else {}) | {
            "tree_": published.tree,
            "category_tests_": published.subsets,
            "is_categorical_": plan.categorical,
            "n_outputs_": 1,
            "max_features_": plan.max_features,
            "history_": grown.history,
            "n_rounds_": grown.n_rounds,
        }

    @property
    def split_names_(self):
        """Names of the columns that the tree tests: the features, and then the tests of categories."""
        check_is_fitted(self)
        names = list(getattr(self, "feature_names_in_", [f"x[{i}]" for i in range(self.n_features_in_)]))
        return names + [f"{names[test.feature]} not in {self._shown(test)}" for test in self.category_tests_]

    def _shown(self, test):
        columns = list(getattr(self, "feature_names_in_", ()))
        label = columns[test.feature] if columns else None
        known = self._categories.of_column.get(label)
        return [known[int(value)] if known is not None else float(value) for value in test.left]

    @property
    def feature_importances_(self):
        """Share of each feature in the decrease of impurity: float64 of shape (n_features,), with sum 1, or all 0."""
        check_is_fitted(self)
        return importances(self._published, self.n_features_in_)

    def apply(self, X):
        """Number of the leaf that each row falls into.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)

        Returns
        -------
        leaves : ndarray of shape (n_rows,), int64; a lazy Dask array or series for Dask input
        """
        return self._apply_function(X, Leaves, dtype=np.int64)

    def decision_path(self, X):
        """Which nodes each row goes through.

        Returns
        -------
        indicator : CSR matrix of shape (n_rows, n_nodes), int64, 1 for the nodes that a row goes through; for a Dask
            array a lazy Dask array of CSR blocks
        """
        check_is_fitted(self)
        nodes = range(self.tree_.node_count)
        return self._apply_function(X, Indicators, dtype=np.int64, columns=nodes, gives_sparse=True)

    def to_sklearn(self):
        """Return a fitted tree of scikit-learn's own class that predicts the same, on data without dparallel.

        Returns
        -------
        model : sklearn.tree.DecisionTreeClassifier or DecisionTreeRegressor

        Raises
        ------
        ValueError
            If a split on categories cannot be written as a threshold on their numbers.
        """
        check_is_fitted(self)
        base = self._sklearn_class
        own = self.get_params(deep=False)
        model = base(**{name: own[name] for name in base().get_params() if name in own})
        if own["criterion"] == "friedman_mse":
            model.set_params(criterion="squared_error")  # the same, and scikit-learn's name for it from 1.11 on
        for name in _SHARED:
            if hasattr(self, name):
                setattr(model, name, getattr(self, name))
        model.tree_ = with_thresholds(self._published, self.n_features_in_)
        return model

    @property
    def _published(self):
        return Published(self.tree_, self.category_tests_)

    def _apply_function(self, X, function, *table: Any, **options: Any):
        """Apply a function of the tree's paths block by block."""
        check_is_fitted(self)
        X = self._categories.encode(X)
        return self._apply(X, function(Paths(self.tree_, self.category_tests_), *table), **options)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = False
        return tags
