"""What the parallel trees refuse, and in which words."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import NotFittedError

from dparallel import ParallelDecisionTree, ParallelDecisionTreeRegressor
from dparallel.errors import AlignmentError, DataError
from tests import trees
from tests.trees import Y3, YR, X, both

FITTED = ParallelDecisionTree(max_depth=5).fit(X, Y3)


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_depth": 0},
        {"max_depth": 1.5},
        {"min_samples_split": 1},
        {"min_samples_split": 1.5},
        {"min_samples_leaf": 0},
        {"min_samples_leaf": 1.0},
        {"min_weight_fraction_leaf": 0.6},
        {"max_features": 0},
        {"max_features": "auto"},
        {"max_leaf_nodes": 1},
        {"min_impurity_decrease": -0.1},
        {"ccp_alpha": -1.0},
        {"random_state": "zero"},
        {"criterion": "gain"},
    ],
    ids=str,
)
@both
def test_parameters_are_refused_in_scikit_learns_words(Tree, y, parameters):
    (name,) = parameters
    with pytest.raises(ValueError) as theirs:
        Tree._sklearn_class(**parameters).fit(X, y)
    with pytest.raises(ValueError) as ours:
        Tree(**parameters).fit(X, y)
    if name != "criterion":
        assert str(ours.value) == str(theirs.value).replace(Tree._sklearn_class.__name__, Tree.__name__)
    assert f"The {name!r} parameter of {Tree.__name__} must be" in str(ours.value)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"max_bins": 1}, r"'max_bins' parameter .* must be an int in the range \[2, 255\]"),
        ({"max_bins": 256}, r"'max_bins' parameter .* must be an int in the range \[2, 255\]"),
        ({"exact_rows": -1}, "'exact_rows' parameter"),
        ({"categorical_features": "all"}, "'categorical_features' parameter"),
        ({"class_weight": "even"}, "'class_weight' parameter"),
        ({"class_weight": {5: 1.0}}, "classes"),
        ({"exact_rows": 10, "max_leaf_nodes": 5}, "exact_rows=10 and max_leaf_nodes=5 were given"),
        ({"monotonic_cst": [1, 0]}, "monotonic_cst has shape 2 but the input data X has 6 features"),
        ({"monotonic_cst": [2, 0, 0, 0, 0, 0]}, "must be None or an array-like of -1, 0 or 1"),
        ({"monotonic_cst": [1, 0, 0, 0, 0, 0]}, "not supported with multiclass classification"),
    ],
)
def test_what_cannot_be_meant_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        ParallelDecisionTree(**parameters).fit(X, Y3)


def test_targets_that_cannot_be_learned_are_refused():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        ParallelDecisionTree().fit(X, YR)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        ParallelDecisionTree().fit(X, np.where(Y3 > 0, np.nan, 1.0))
    with pytest.raises(ValueError, match="Input y contains infinity"):
        ParallelDecisionTreeRegressor().fit(X, np.where(Y3 > 0, np.inf, 1.0))
    with pytest.raises(ValueError, match="y should be a 1d array"):
        ParallelDecisionTreeRegressor().fit(X, np.column_stack([YR, YR]))
    with pytest.raises(ValueError, match="negative which is not allowed for Poisson"):
        ParallelDecisionTreeRegressor(criterion="poisson").fit(X, YR)
    with pytest.raises(ValueError, match="Sum of y is not positive"):
        ParallelDecisionTreeRegressor(criterion="poisson").fit(X, np.zeros(len(X)))


def test_rows_that_cannot_be_read_are_refused():
    bad = X.copy()
    bad[17, 3] = np.inf
    message = r"Input X contains infinity or a value too large for dtype\('float32'\)"
    with pytest.raises(DataError, match=message):
        ParallelDecisionTree().fit(bad, Y3)
    for method in (FITTED.predict, FITTED.predict_proba, FITTED.apply, FITTED.decision_path):
        with pytest.raises(DataError, match=message):
            method(bad)
    hollow = scipy.sparse.csr_matrix(np.where(np.abs(X) < 1, np.nan, X))
    with pytest.raises(DataError, match="Input X contains NaN"):
        ParallelDecisionTree().fit(hollow, Y3)
    with pytest.raises(DataError, match="Input X contains NaN"):
        FITTED.predict(hollow)
    with pytest.raises(AlignmentError):
        ParallelDecisionTree().fit(X, Y3[:-1])
    with pytest.raises(DataError, match="must contain at least one non-zero number"):
        ParallelDecisionTree().fit(X, Y3, np.zeros(len(X)))
    with pytest.raises(ValueError, match="X has 5 features, but ParallelDecisionTree is expecting 6"):
        FITTED.predict(X[:, :5])


@both
def test_nothing_is_predicted_before_fit(Tree, y):
    model = Tree()
    for ask in (model.predict, model.apply, model.decision_path):
        with pytest.raises(NotFittedError):
            ask(X)
    for ask in (model.get_depth, model.get_n_leaves, model.to_sklearn, lambda: model.feature_importances_):
        with pytest.raises(NotFittedError):
            ask()


def test_no_warning_is_given_on_ordinary_data():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ParallelDecisionTree(max_depth=3).fit(X, Y3).predict(X)
        ParallelDecisionTreeRegressor(max_depth=3, exact_rows=50).fit(trees.missing(X), YR).predict(X)
        ParallelDecisionTree(max_depth=3).fit(X, Y3).predict_log_proba(X)
