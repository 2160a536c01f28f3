"""ParallelDecisionTreeRegressor: scikit-learn's DecisionTreeRegressor for data in blocks."""

from __future__ import annotations

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.validation import check_is_fitted

from dparallel import compat
from dparallel.errors import warn
from dparallel.estimators.decision_tree.base import ParallelTree
from dparallel.estimators.decision_tree.paths import Paths, Values
from dparallel.estimators.decision_tree.scoring import r2

_CRITERIA = ("squared_error", "friedman_mse", "poisson")


class ParallelDecisionTreeRegressor(ParallelTree, DecisionTreeRegressor):
    """A decision tree for numbers, on arrays in this process and on Dask collections where they are.

    Grown as ParallelDecisionTree is, which also describes the parameters and attributes that are not listed here. From
    each worker come three numbers per bin at most: rows, weight, and weight times target.

    Parameters
    ----------
    criterion : {"squared_error", "friedman_mse", "poisson"}, default="squared_error"
        What splits make small. "friedman_mse" ranks splits as "squared_error" does, as in scikit-learn since 1.9;
        "poisson" wants targets of 0 or more.
    max_depth, min_samples_split, min_samples_leaf, min_weight_fraction_leaf, max_features, random_state,
    max_leaf_nodes, min_impurity_decrease, ccp_alpha, max_bins, categorical_features, exact_rows
        See ParallelDecisionTree. Subsets of categories are ordered by the mean of the targets, which finds the best.
    monotonic_cst : array-like of int of shape (n_features,) or None, default=None
        1 where the prediction must not fall as the feature rises, -1 where it must not rise, 0 elsewhere.

    Attributes
    ----------
    tree_ : sklearn.tree._tree.Tree
    history_ : list of LevelRecord, one per level

    See Also
    --------
    sklearn.tree.DecisionTreeRegressor : the same in one process.
    ParallelDecisionTree : a tree for classes.

    Notes
    -----
    Targets are rounded to fixed point once: to 46 bits of the largest, or fewer where more than 2**15 rows would let
    sums leave 61 bits. Integers of so many bits are exact. What all targets have in common is subtracted first.

    Examples
    --------
    >>> import numpy as np
    >>> from dparallel import ParallelDecisionTreeRegressor
    >>> X = np.arange(6.0)[:, None]
    >>> model = ParallelDecisionTreeRegressor(max_depth=1).fit(X, [1.0, 2, 3, 11, 12, 13])
    >>> model.predict([[0.0], [9.0]])
    array([ 2., 12.])
    """

    _parameter_constraints = compat.tree_constraints(DecisionTreeRegressor, _CRITERIA)
    _sklearn_class = DecisionTreeRegressor
    _has_classes = False

    def __init__(
        self,
        *,
        criterion="squared_error",
        max_depth=None,
        min_samples_split=2,
        min_samples_leaf=1,
        min_weight_fraction_leaf=0.0,
        max_features=None,
        random_state=None,
        max_leaf_nodes=None,
        min_impurity_decrease=0.0,
        ccp_alpha=0.0,
        monotonic_cst=None,
        max_bins=255,
        categorical_features=None,
        exact_rows=0,
    ):
        self.criterion = criterion
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.min_weight_fraction_leaf = min_weight_fraction_leaf
        self.max_features = max_features
        self.random_state = random_state
        self.max_leaf_nodes = max_leaf_nodes
        self.min_impurity_decrease = min_impurity_decrease
        self.ccp_alpha = ccp_alpha
        self.monotonic_cst = monotonic_cst
        self.max_bins = max_bins
        self.categorical_features = categorical_features
        self.exact_rows = exact_rows

    def predict(self, X, check_input=True):
        """Predict the mean of the targets in each row's leaf.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
        check_input : accepted because scikit-learn's trees have it, and not used

        Returns
        -------
        y : ndarray of shape (n_rows,), float64; a lazy Dask array or series for Dask input
        """
        check_is_fitted(self)
        return self._apply_function(X, Values, self._means(), dtype=np.float64)

    def score(self, X, y, sample_weight=None):
        """R², the share of the targets' variance that is predicted.

        Returns
        -------
        r2 : float, computed at once, where the data are
        """
        check_is_fitted(self)
        blocks = self._gather(self._categories.encode(X), y, sample_weight, reset=False)
        predict = Values(Paths(self.tree_, self.category_tests_), self._means())
        found = r2(blocks, predict, float(self._means()[0]))
        if np.isnan(found):
            warn("R^2 score is not well-defined with less than two samples.", UndefinedMetricWarning)
        return found

    def _means(self):
        return self.tree_.value[:, 0, 0].copy()
