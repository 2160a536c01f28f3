"""Imputer and encoders: scikit-learn's results, whatever the blocks, and lazy between steps."""

import pickle

import dask
import dask.array as da
import dask.bag
import numpy as np
import pytest
import scipy.sparse
import sklearn.impute
import sklearn.preprocessing as theirs
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline

from dparallel import (
    ParallelDecisionTree,
    ParallelOneHotEncoder,
    ParallelOrdinalEncoder,
    ParallelSimpleImputer,
    ParallelStandardScaler,
)
from dparallel.errors import DataError, DataKindError
from tests.test_metrics import unknown
from tests.versions import before

CUTS = [(120,), (0, 50, 0, 60, 10, 0), (1, 119)]
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def cut(values, cuts):
    return unknown(da.from_array(values, chunks=(cuts, values.shape[1])))


def holes(missing=np.nan, dtype=float, empty=False):
    X = RANDOM.integers(0, 5, size=(120, 4)).astype(dtype) + RANDOM.random((120, 4)).round(1).astype(dtype) + 1
    X[:, :3][RANDOM.random((120, 3)) < 0.2] = missing
    if empty:
        X[:, 1] = missing
    return X


@pytest.mark.parametrize("cuts", [None, *CUTS])
@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.parametrize("options", [{}, {"add_indicator": True}, {"missing_values": 0.0}, {"fill_value": 7}])
def test_numbers_are_filled_in_as_scikit_learn_does(cuts, strategy, options):
    X = holes(options.get("missing_values", np.nan))
    given = X if cuts is None else cut(X, cuts)
    ours = ParallelSimpleImputer(strategy=strategy, **options).fit(given)
    other = sklearn.impute.SimpleImputer(strategy=strategy, **options).fit(X)
    np.testing.assert_allclose(ours.statistics_, other.statistics_.astype(float), rtol=1e-12)
    result = ours.transform(given)
    assert isinstance(result, np.ndarray if cuts is None else da.Array)
    for found in (dask.compute(result)[0], ours.to_sklearn().transform(X)):
        np.testing.assert_allclose(found, other.transform(X), rtol=1e-12)
    np.testing.assert_array_equal(ours.get_feature_names_out(), other.get_feature_names_out())


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_columns_without_a_number_are_left_out_or_kept(keep, strategy):
    if strategy == "constant" and not keep and before(1, 8):
        pytest.skip("scikit-learn 1.8 has changed what becomes of columns without a number")
    X = holes(empty=True)
    options = {"strategy": strategy, "keep_empty_features": keep, "fill_value": 3 if strategy == "constant" else None}
    ours = ParallelSimpleImputer(**options).fit(cut(X, CUTS[1]))
    other = sklearn.impute.SimpleImputer(**options).fit(X)
    np.testing.assert_allclose(ours.transform(cut(X, CUTS[2])).compute(), other.transform(X), rtol=1e-12)
    np.testing.assert_array_equal(ours.get_feature_names_out(), other.get_feature_names_out())


def test_float32_stays():
    X = holes(dtype=np.float32)
    for given in (X, cut(X, CUTS[1])):
        result = ParallelSimpleImputer().fit(given).transform(given)
        assert result.dtype == np.float32 == dask.compute(result)[0].dtype


def test_infinity_and_unmeant_nan_are_refused():
    X = holes()
    with pytest.raises(DataError, match="NaN"):
        ParallelSimpleImputer(missing_values=0).fit(cut(X, CUTS[1]))
    X[3, 3] = np.inf
    with pytest.raises(DataError, match="infinity"):
        ParallelSimpleImputer().fit(cut(X, CUTS[1]))
    with pytest.raises(ValueError, match="strategy='mode'"):
        ParallelSimpleImputer(strategy="mode").fit(X)


def table():
    X = np.empty((120, 3), object)
    X[:, 0] = RANDOM.choice(["red", "green", "blue"], 120)
    X[:, 1] = RANDOM.choice(["a", "b", None], 120)
    X[:, 2] = RANDOM.integers(4, size=120).astype(str)
    return X


INPUTS = {
    "objects": table(),
    "strings": table()[:, [0, 2]].astype(str),
    "whole": RANDOM.integers(-3, 3, size=(120, 2)),
    "floats": np.where(RANDOM.random((120, 2)) < 0.1, np.nan, RANDOM.integers(3, size=(120, 2))),
}


@pytest.mark.parametrize("cuts", [None, *CUTS])
@pytest.mark.parametrize("X", INPUTS.values(), ids=INPUTS.keys())
def test_categories_are_encoded_as_scikit_learn_does(X, cuts):
    given = X if cuts is None else cut(X, cuts)
    encoders = [
        (ParallelOrdinalEncoder, theirs.OrdinalEncoder, {}),
        (ParallelOrdinalEncoder, theirs.OrdinalEncoder, {"dtype": np.float32, "encoded_missing_value": -1}),
        (ParallelOneHotEncoder, theirs.OneHotEncoder, {}),
        (ParallelOneHotEncoder, theirs.OneHotEncoder, {"sparse_output": False, "drop": "first"}),
        (ParallelOneHotEncoder, theirs.OneHotEncoder, {"handle_unknown": "ignore", "dtype": np.int8}),
    ]
    for kind, other, options in encoders:
        ours, expected = kind(**options).fit(given), other(**options).fit(X)
        for found, wanted in zip(ours.categories_, expected.categories_, strict=True):
            assert found.dtype == wanted.dtype and found.tolist()[:-1] == wanted.tolist()[:-1]
            assert str(found[-1]) == str(wanted[-1])  # perhaps NaN
        wanted = dense(expected.transform(X))
        result = ours.transform(given)
        assert cuts is None or isinstance(result, da.Array)
        for found in (dask.compute(result)[0], ours.to_sklearn().transform(X), ours.fit_transform(given)):
            found = dask.compute(found)[0]
            np.testing.assert_array_equal(dense(found), wanted)
            assert found.dtype == wanted.dtype
            assert scipy.sparse.issparse(found) == (getattr(ours, "sparse_output", False))


def dense(values):
    return values.toarray() if scipy.sparse.issparse(values) else np.asarray(values)


def test_dataframes_are_encoded_to_dataframes_or_sparse_blocks():
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    frame = pandas.DataFrame(table(), columns=["colour", "letter", "digit"], index=np.arange(120) * 2)
    frame = frame.assign(kind=pandas.Categorical(RANDOM.choice(["x", "y"], 120), ["y", "x", "z"]))
    frame = frame.assign(letter=frame.letter.fillna("c"), size=RANDOM.integers(3, size=120))
    lazy = dd.from_pandas(frame, npartitions=4)
    lazy = lazy[lazy["size"] < 3]
    expected = theirs.OneHotEncoder(sparse_output=False).fit(frame)
    ours = ParallelOneHotEncoder(sparse_output=False).fit(lazy)
    result = ours.transform(lazy)
    assert isinstance(result, dd.DataFrame) and list(ours.feature_names_in_) == list(frame.columns)
    assert list(result.columns) == list(expected.get_feature_names_out())
    np.testing.assert_array_equal(result.compute(), expected.transform(frame))
    assert (result.compute().index == frame.index).all()
    sparse = ParallelOneHotEncoder().fit(lazy).transform(lazy)
    assert isinstance(sparse, da.Array)
    np.testing.assert_array_equal(sparse.compute().toarray(), expected.transform(frame))
    ordinal = ParallelOrdinalEncoder().fit(lazy).transform(lazy)
    np.testing.assert_array_equal(ordinal.compute(), theirs.OrdinalEncoder().fit_transform(frame))
    filled = ParallelSimpleImputer().fit_transform(lazy[["size"]])
    assert isinstance(filled, dd.DataFrame) and list(filled.columns) == ["size"]
    with pytest.raises(ValueError, match="feature names"):
        ours.transform(lazy.rename(columns={"size": "length"}))


def test_an_unknown_category_is_an_error_when_it_is_computed_or_a_row_of_zeros():
    X = cut(INPUTS["strings"], CUTS[1])
    other = da.from_array(np.array([["violet", "1"]]), chunks=1)
    lazy = ParallelOneHotEncoder().fit(X).transform(other)
    with pytest.raises(ValueError, match="unknown categories"):
        lazy.compute()
    ignoring = ParallelOneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(X)
    assert ignoring.transform(other).compute()[0, :3].sum() == 0


def test_what_cannot_be_encoded_is_refused():
    X = cut(INPUTS["strings"], CUTS[1])
    for error, words, act in [
        (DataError, "min_frequency=2", lambda: ParallelOneHotEncoder(min_frequency=2).fit(X)),
        (DataError, "2D array", lambda: ParallelOrdinalEncoder().fit(X[:, 0])),
        (DataKindError, "Bag", lambda: ParallelOrdinalEncoder().fit(dask.bag.from_sequence([1]))),
        (NotFittedError, "not fitted", lambda: ParallelOrdinalEncoder().transform(X)),
        (NotFittedError, "not fitted", lambda: ParallelSimpleImputer().transform(X)),
        (ValueError, "2 features", lambda: ParallelOrdinalEncoder().fit(X).transform(X[:, :1])),
        (ValueError, "unknown categories", lambda: ParallelOneHotEncoder(categories=[["red"], ["1"]]).fit(X)),
    ]:
        with pytest.raises(error, match=words):
            act()


@pytest.mark.parametrize("model", [ParallelSimpleImputer(), ParallelOrdinalEncoder(), ParallelOneHotEncoder()])
def test_fitted_ones_are_small_and_pickle(model):
    X = cut(INPUTS["whole"].astype(float), CUTS[1])
    fitted = clone(model).fit(X)
    dump = pickle.dumps(fitted)
    assert len(dump) < 4096
    first, second = (each.transform(X).compute() for each in (fitted, pickle.loads(dump)))
    np.testing.assert_array_equal(dense(first), dense(second))


def test_steps_of_a_pipeline_stay_lazy():
    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"][0])
        return holes()[:30]

    X = da.map_blocks(block, chunks=((30,) * 4, 4), dtype=float, meta=np.empty((0, 0)))
    steps = Pipeline([("fill", ParallelSimpleImputer()), ("scale", ParallelStandardScaler())]).fit(X)
    read.clear()
    lazy = steps.transform(X)
    assert not read
    assert np.isfinite(lazy.compute()).all()
    encoded = Pipeline([("encode", ParallelOneHotEncoder()), ("tree", ParallelDecisionTree(random_state=0))])
    rows = cut(INPUTS["strings"], CUTS[0])
    y = unknown(da.from_array((INPUTS["strings"][:, 0] == "red").astype(int), chunks=120))
    assert encoded.fit(rows, y).score(rows, y) == 1.0
