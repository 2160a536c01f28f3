"""The parallel trees on categorical features: subsets, unknown and missing categories, category dtypes."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.tree import (
    export_text,
)

from dparallel import ParallelDecisionTree, ParallelDecisionTreeRegressor
from dparallel.errors import DataError
from tests import trees


@pytest.mark.parametrize("exact_rows", [0, 1000])
@pytest.mark.parametrize("given", [[1], [False, True], np.array([1])])
def test_categories_are_split_into_the_best_subsets(given, exact_rows):
    rows, score = trees.categories()
    model = ParallelDecisionTreeRegressor(max_depth=1, categorical_features=given, exact_rows=exact_rows).fit(
        rows, score
    )
    means = np.array([score[rows[:, 1] == value].mean() for value in np.unique(rows[:, 1])])
    best = np.inf
    for i in range(1, 12):
        low = np.isin(rows[:, 1], np.unique(rows[:, 1])[np.argsort(means)[:i]])
        best = min(best, score[low].var() * low.mean() + score[~low].var() * (~low).mean())
    assert trees.leaf_impurity(model) == pytest.approx(best)
    (test,) = model.category_tests_
    assert test.feature == 1 and sorted([*test.left, *test.right]) == np.unique(rows[:, 1]).tolist()
    assert np.argmax(model.feature_importances_) == 1 and model.feature_importances_.sum() == pytest.approx(1)


@pytest.mark.parametrize("exact_rows", [0, 1000])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_unknown_categories_go_where_missing_ones_go(exact_rows, n_classes):
    rows, score = trees.categories()
    y = np.digitize(score, np.quantile(score, np.arange(1, n_classes) / n_classes))
    model = ParallelDecisionTree(max_depth=5, categorical_features=[1], exact_rows=exact_rows).fit(rows, y)
    unknown, missing = rows.copy(), rows.copy()
    unknown[:, 1], missing[:, 1] = 1234.5, np.nan
    np.testing.assert_array_equal(model.apply(unknown), model.apply(missing))
    plain = ParallelDecisionTree(max_depth=5).fit(rows, y)
    assert model.score(rows, y) > plain.score(rows, y)
    for sparse in (rows, scipy.sparse.csr_matrix(rows)):
        np.testing.assert_array_equal(model.predict(sparse), model.predict(rows))


def test_missing_categories_are_a_category_of_their_own():
    rows, score = trees.categories()
    rows[rows[:, 1] == 4, 1] = np.nan
    model = ParallelDecisionTreeRegressor(max_depth=4, categorical_features=[1]).fit(rows, score)
    filled = np.where(np.isnan(rows), 4.0, rows)
    peer = ParallelDecisionTreeRegressor(max_depth=4, categorical_features=[1]).fit(filled, score)
    np.testing.assert_allclose(model.predict(rows), peer.predict(filled))


def test_to_sklearn_writes_subsets_as_thresholds_where_it_can():
    rows = np.column_stack([np.arange(300) % 3 * 1.0, np.arange(300.0)])
    for y in (rows[:, 0] > 1, rows[:, 0] < 1, rows[:, 0] < 2):
        model = ParallelDecisionTree(categorical_features=[0]).fit(rows, y)
        np.testing.assert_array_equal(model.to_sklearn().predict(rows), y)
        assert model.to_sklearn().tree_.n_features == 2
    model = ParallelDecisionTree(categorical_features=[0]).fit(rows, rows[:, 0] == 1)
    with pytest.raises(ValueError, match=r"one of the categories \[.*\] and not one of .* No threshold does that"):
        model.to_sklearn()


def test_category_dtypes_are_found_in_dataframes():
    pd = pytest.importorskip("pandas")
    rows, score = trees.categories()
    names = np.array(list("abcdefghijkl"))[((rows[:, 1] + 3) / 7).astype(int)]
    frame = pd.DataFrame({"plain": rows[:, 0], "kind": pd.Categorical(names)})
    model = ParallelDecisionTreeRegressor(max_depth=4, categorical_features="from_dtype").fit(frame, score)
    peer = ParallelDecisionTreeRegressor(max_depth=4, categorical_features=["kind"]).fit(frame, score)
    other = ParallelDecisionTreeRegressor(max_depth=4, categorical_features=[1]).fit(rows, score)
    np.testing.assert_array_equal(model.predict(frame), other.predict(rows))
    np.testing.assert_array_equal(peer.predict(frame), other.predict(rows))
    shuffled = frame.assign(kind=pd.Categorical(names, categories=list("lkjihgfedcbaz")))
    np.testing.assert_array_equal(model.predict(shuffled), model.predict(frame))
    assert model.score(shuffled, score) == model.score(frame, score)
    assert any("kind not in ['" in name for name in model.split_names_)
    assert "kind not in" in export_text(model, feature_names=model.split_names_)
    text = frame.assign(kind=names)
    with pytest.raises(ValueError, match="could not convert string to float"):
        ParallelDecisionTreeRegressor().fit(text, score)


@pytest.mark.parametrize(
    "given, message",
    [
        ([0.5], "must be an array-like of bool, int or str, got: float64"),
        ([True], r"must have shape \(n_features,\), got: \(1,\)"),
        ([2], r"must be in \[0, n_features - 1\]"),
        ([-1], r"must be in \[0, n_features - 1\]"),
        (["a"], "without feature names"),
    ],
)
def test_categorical_features_that_cannot_be_meant_are_refused(given, message):
    rows, score = trees.categories()
    with pytest.raises(ValueError, match=message):
        ParallelDecisionTreeRegressor(categorical_features=given).fit(rows, score)


def test_more_categories_than_bins_are_refused():
    rows = np.arange(600.0).reshape(300, 2)
    with pytest.raises(DataError, match=r"more than max_bins=255 categories each: 1\. Raise max_bins"):
        ParallelDecisionTree(categorical_features=[1]).fit(rows, np.arange(300) % 2)
    with pytest.raises(ValueError, match="Categorical features cannot have monotonic constraints"):
        ParallelDecisionTree(categorical_features=[1], monotonic_cst=[0, 1]).fit(rows[:99], np.arange(99) % 2)
