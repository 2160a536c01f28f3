"""ParallelDecisionTree: scikit-learn's DecisionTreeClassifier for data in blocks."""

from __future__ import annotations

import numpy as np
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted

from dparallel import compat
from dparallel.estimators.decision_tree.base import ParallelTree
from dparallel.estimators.decision_tree.paths import Paths, Values
from dparallel.estimators.decision_tree.scoring import accuracy


class ParallelDecisionTree(ParallelTree, DecisionTreeClassifier):
    """A decision tree for classification, on arrays in this process and on Dask collections where they are.

    It is grown level by level from histograms, and is a tree of scikit-learn's: exact CART where columns have at most
    max_bins values, by quantiles elsewhere. Per level the splits so far travel to each worker, and from each worker
    come the histograms of the smaller of each two siblings; rows stay where they are. Chunks, workers and their deaths
    do not change the tree by a bit.

    Parameters
    ----------
    criterion : {"gini", "entropy", "log_loss"}, default="gini"
        What splits make small; "entropy" and "log_loss" are the same.
    max_depth : int or None, default=None
        Most splits on the way to a leaf; None for no limit.
    min_samples_split : int or float, default=2
        Fewest rows of a node that is split; a float is a share of all rows.
    min_samples_leaf : int or float, default=1
        Fewest rows of a leaf; a float is a share of all rows.
    min_weight_fraction_leaf : float, default=0.0
        Least share of a leaf in the weight of all rows.
    max_features : int, float, {"sqrt", "log2"} or None, default=None
        How many features each node looks at; a float is a share of all, None means all. They are drawn by node and
        random_state alone; as in scikit-learn at least one that is not constant in the node is among them.
    random_state : int, RandomState or None, default=None
        Seeds the draws of features. Equal gains do not depend on it: they go to the lower feature, then to the lower
        threshold.
    max_leaf_nodes : int or None, default=None
        Most leaves. Then the node whose split gains most is split next, several at a time where that changes nothing.
    min_impurity_decrease : float, default=0.0
        Least decrease of the impurity by a split, weighted by the node's share of the rows.
    class_weight : dict, "balanced" or None, default=None
        Weights of classes, by label. "balanced" gives each class the same weight.
    ccp_alpha : float, default=0.0
        Complexity that minimal cost-complexity pruning charges for a leaf.
    monotonic_cst : array-like of int of shape (n_features,) or None, default=None
        1 where the share of the second of two classes must not fall as the feature rises, -1 where it must not rise,
        0 elsewhere.
    max_bins : int, default=255
        Columns of at most so many values are split exactly; others at quantiles, at most so many. From 2 to 255.
    categorical_features : "from_dtype", array-like of bool, int or str, or None, default=None
        Features whose values are names: they are split into subsets, ordered by the share of a class, which finds the
        best subset for two classes. "from_dtype" means dataframe columns of a category dtype. At most max_bins
        categories each. A category that fit did not see goes where missing values go.
    exact_rows : int, default=0
        Nodes of at most so many rows are finished on one worker by the raw values; their rows travel from worker to
        worker once. 0 for none. Excludes max_leaf_nodes.

    Attributes
    ----------
    tree_ : sklearn.tree._tree.Tree
        What a test of categories asks is a column of its own behind the features, see ``category_tests_`` and
        ``split_names_``.
    classes_ : ndarray of shape (n_classes,)
    n_classes_ : int
    feature_importances_ : ndarray of shape (n_features,)
    category_tests_ : tuple
        The subsets of categories that columns n_features, n_features + 1, ... of the tree stand for.
    split_names_ : list of str, names of the tree's columns, for export_text and plot_tree
    is_categorical_ : ndarray of bool of shape (n_features,), or None
    max_features_ : int
    n_outputs_ : int, 1
    history_ : list of LevelRecord, one per level
    n_rounds_ : int, rounds over the data: at most three more than levels, where histograms fit into memory
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.tree.DecisionTreeClassifier : the same in one process.
    ParallelDecisionTreeRegressor : a tree for numbers.

    Notes
    -----
    PLANET: Panda et al. (VLDB 2009). Order of categories: Fisher, "On grouping for maximum homogeneity" (1958); Breiman
    et al. (1984). Statistics are integers, weights in fixed point of 61 bits for the sum of all, so that no sum depends
    on its order. float64 is rounded to float32, as scikit-learn does; NaN is a missing value.
    ``dask.config.set({"dparallel.tree.histogram-bytes": "256 MiB"})`` limits the histograms of one round in a worker.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from sklearn.tree import export_text
    >>> from dparallel import ParallelDecisionTree
    >>> X = da.from_array(np.array([[0.0, 1], [1, 5], [2, 2], [3, 4], [4, 3], [5, np.nan]]), chunks=(2, 2))
    >>> y = da.from_array(np.array(["low", "low", "low", "high", "high", "high"]), chunks=2)
    >>> model = ParallelDecisionTree(max_depth=2).fit(X, y)
    >>> print(export_text(model))
    |--- feature_0 <= 2.50
    |   |--- class: low
    |--- feature_0 >  2.50
    |   |--- class: high
    >>> model.predict(X).compute()
    array(['low', 'low', 'low', 'high', 'high', 'high'], dtype='<U4')
    """

    _parameter_constraints = compat.tree_constraints(DecisionTreeClassifier, ("gini", "entropy", "log_loss"))
    _sklearn_class = DecisionTreeClassifier
    _has_classes = True

    def __init__(
        self,
        *,
        criterion="gini",
        max_depth=None,
        min_samples_split=2,
        min_samples_leaf=1,
        min_weight_fraction_leaf=0.0,
        max_features=None,
        random_state=None,
        max_leaf_nodes=None,
        min_impurity_decrease=0.0,
        class_weight=None,
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
        self.class_weight = class_weight
        self.ccp_alpha = ccp_alpha
        self.monotonic_cst = monotonic_cst
        self.max_bins = max_bins
        self.categorical_features = categorical_features
        self.exact_rows = exact_rows

    def predict(self, X, check_input=True):
        """Predict the class of each row: the most frequent one in its leaf, the first of several.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
        check_input : accepted because scikit-learn's trees have it, and not used

        Returns
        -------
        labels : ndarray of shape (n_rows,), of the classes' dtype; a lazy Dask array or series for Dask input
        """
        check_is_fitted(self)
        return self._apply_function(X, Values, self._labels(), dtype=self.classes_.dtype)

    def predict_proba(self, X, check_input=True):
        """Predict the shares of the classes: those in each row's leaf; arguments as for predict.

        Returns
        -------
        shares : ndarray of shape (n_rows, n_classes), float64; a lazy Dask array or dataframe for Dask input
        """
        check_is_fitted(self)
        return self._apply_function(X, Values, self._shares(), dtype=np.float64, columns=self.classes_)

    def predict_log_proba(self, X):
        """Logarithms of what predict_proba returns, minus infinity for a share of 0."""
        check_is_fitted(self)
        with np.errstate(divide="ignore"):
            logs = np.log(self._shares())
        return self._apply_function(X, Values, logs, dtype=np.float64, columns=self.classes_)

    def score(self, X, y, sample_weight=None):
        """Accuracy: the share of the rows, or of their weight, that is predicted rightly.

        Returns
        -------
        accuracy : float, computed at once, where the data are
        """
        check_is_fitted(self)
        blocks = self._gather(self._categories.encode(X), y, sample_weight, reset=False)
        predict = Values(Paths(self.tree_, self.category_tests_), self._labels())
        return accuracy(blocks, predict)

    def _shares(self):
        return self.tree_.value[:, 0, :].copy()

    def _labels(self):
        return self.classes_[self._shares().argmax(axis=1)]


ParallelDecisionTreeClassifier = ParallelDecisionTree
