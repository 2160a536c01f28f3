"""scikit-learn's estimators, callbacks and trees."""

import contextlib


def feature_names(frame):
    """The column names of a dataframe as scikit-learn reads them: ndarray of str, dtype object, or None."""
    from sklearn.utils.validation import _get_feature_names

    return _get_feature_names(frame)


def fitted_kmeans(model):
    """Build a fitted sklearn.cluster.KMeans from a fitted ParallelKMeans."""
    from sklearn.cluster import KMeans
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    result = KMeans(
        n_clusters=model.n_clusters, max_iter=model.max_iter, tol=model.tol, n_init=1, random_state=model.random_state
    )
    result.cluster_centers_ = model.cluster_centers_.copy()
    for name in ("inertia_", "n_iter_", "n_features_in_", "feature_names_in_"):
        if hasattr(model, name):
            setattr(result, name, getattr(model, name))
    result._n_features_out = model.cluster_centers_.shape[0]
    result._n_threads = _openmp_effective_n_threads()
    return result


def callback_support():
    """Return scikit-learn's callback mixin and its decorator of fit, or idle stand-ins before its version 1.9."""
    try:
        from sklearn.callback import CallbackSupportMixin, with_callbacks
    except ImportError:
        return type("CallbackSupportMixin", (), {}), lambda method: method
    return CallbackSupportMixin, with_callbacks


def open_door(take):
    """Let callbacks that were pickled into other processes of this machine talk to a function here.

    Returns
    -------
    door : what they need to know, picklable
    """
    from sklearn.callback._transport import open_listener

    return open_listener(take)


def knock(door, message):
    """Pass a message on to the function behind a door, at once where that is in this process.

    Raises
    ------
    OSError, EOFError
        If it cannot be reached.
    """
    from sklearn.callback._transport import send

    send(door, message)


def close_door(door):
    """Undo open_door."""
    from sklearn.callback._transport import close_listener

    close_listener(door)


class ShowsMoreHtml:
    """Mixin to the left of BaseEstimator: what scikit-learn shows of an estimator in HTML, and more below it."""

    def _html_repr(self):
        # BaseEstimator's _repr_html_ and _repr_mimebundle_ both call this
        from sklearn.utils import estimator_html_repr

        return estimator_html_repr(self) + self._more_html()

    def _more_html(self):
        """Return HTML."""
        raise NotImplementedError


def start_callbacks(estimator, n_subtasks):
    """Open the context of an estimator's callbacks when fit begins; None when it has none or scikit-learn is older."""
    if not hasattr(estimator, "_init_callback_context"):
        return None
    if not getattr(estimator, "_skl_callbacks", None) and not hasattr(estimator, "_parent_callback_ctx"):
        return None
    return estimator._init_callback_context(max_subtasks=n_subtasks)


def tree_from_arrays(n_features, n_classes, max_depth, nodes, values):
    """Build a real sklearn.tree._tree.Tree.

    Parameters
    ----------
    n_features : int; n_classes : int, 1 for regression; max_depth : int, depth of the deepest leaf
    nodes : dict of arrays of shape (n_nodes,): left_child, right_child (negative for leaves), feature, threshold,
        impurity, n_node_samples, weighted_n_node_samples, missing_go_to_left
    values : ndarray of shape (n_nodes, 1, n_classes), float64

    Notes
    -----
    The layout of a node is read from scikit-learn and filled by name: it differs between releases.
    """
    import numpy as np
    from sklearn.tree._tree import NODE_DTYPE, TREE_LEAF, TREE_UNDEFINED, Tree

    table = np.zeros(len(values), NODE_DTYPE)
    leaf = nodes["left_child"] < 0
    outside = dict.fromkeys(("left_child", "right_child"), TREE_LEAF)
    outside |= dict.fromkeys(("feature", "threshold"), TREE_UNDEFINED) | {"missing_go_to_left": 0}
    for name, column in nodes.items():
        _field(table, name)[:] = np.where(leaf, outside[name], column) if name in outside else column
    tree = Tree(n_features, np.array([n_classes], np.intp), 1)
    values = np.ascontiguousarray(values, np.float64)
    tree.__setstate__({"max_depth": max_depth, "node_count": len(values), "nodes": table, "values": values})
    return tree


def _field(table, name):
    """A field of a structured array by its name, wherever it is nested."""
    if name in table.dtype.names:
        return table[name]
    inner = [part for part in table.dtype.names if table.dtype[part].names]
    for part in inner:
        with contextlib.suppress(KeyError):
            return _field(table[part], name)
    raise KeyError(name)


def pruned_tree(tree, n_features, n_classes, ccp_alpha):
    """Prune a Tree by minimal cost-complexity with scikit-learn's own function; n_classes : 1 for regression."""
    import numpy as np
    from sklearn.tree._tree import Tree, _build_pruned_tree_ccp

    result = Tree(n_features, np.array([n_classes], np.intp), 1)
    _build_pruned_tree_ccp(result, tree, ccp_alpha)
    return result


def tree_constraints(base, criteria):
    """What BaseEstimator checks the parameters of a parallel tree by: those of scikit-learn's class and three more."""
    from numbers import Integral

    from sklearn.utils._param_validation import Interval, StrOptions

    constraints = {name: value for name, value in base._parameter_constraints.items() if name != "splitter"}
    constraints["criterion"] = [StrOptions(set(criteria))]
    constraints["max_bins"] = [Interval(Integral, 2, 255, closed="both")]
    constraints["categorical_features"] = ["array-like", StrOptions({"from_dtype"}), None]
    constraints["exact_rows"] = [Interval(Integral, 0, None, closed="left")]
    if "class_weight" in constraints:
        constraints["class_weight"] = [dict, StrOptions({"balanced"}), None]
    return constraints
