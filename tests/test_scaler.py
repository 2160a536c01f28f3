"""ParallelStandardScaler against scikit-learn's StandardScaler."""

import pickle

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from dparallel import ParallelStandardScaler
from tests import datasets, twins

rng = np.random.default_rng(0)
X = rng.normal(size=(600, 5)) * [1.0, 1e-3, 1e3, 1.0, 1.0] + [0.0, 5.0, -1e3, 1.0, 0.0]
X[:, 3] = 7.1  # a constant column
WEIGHTS = rng.choice([0.0, 1.0, 2.5], 600)
SWITCHES = [(True, True), (True, False), (False, True), (False, False)]


def assert_same_attributes(ours, theirs, rtol=1e-10):
    for name in ("mean_", "var_", "scale_"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-18, err_msg=name)
    assert ours.n_features_in_ == theirs.n_features_in_


@pytest.mark.parametrize("with_mean, with_std", SWITCHES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("layout", twins.LAYOUTS)
def test_dense_rows_are_scaled_as_by_scikit_learn(with_mean, with_std, weighted, layout):
    weights = WEIGHTS if weighted else None
    ours = ParallelStandardScaler(with_mean=with_mean, with_std=with_std)
    theirs = StandardScaler(with_mean=with_mean, with_std=with_std).fit(X, sample_weight=weights)
    given_rows = twins.lay_out(X, layout)
    result = ours.fit_transform(given_rows, sample_weight=weights)
    assert_same_attributes(ours, theirs)
    np.testing.assert_allclose(result, theirs.transform(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.inverse_transform(result), X, rtol=1e-12, atol=1e-12)
    assert (given_rows == X).all()
    assert ours.n_samples_seen_ == (WEIGHTS.sum() if weighted else 600)


@pytest.mark.parametrize("with_std", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_csr_rows_are_scaled_and_stay_sparse(with_std, weighted, dtype):
    rows = datasets.sparse_counts().astype(dtype)
    before = rows.copy()
    weights = WEIGHTS if weighted else None
    ours = ParallelStandardScaler(with_mean=False, with_std=with_std).fit(rows, sample_weight=weights)
    theirs = StandardScaler(with_mean=False, with_std=with_std).fit(rows, sample_weight=weights)
    np.testing.assert_allclose(ours.var_ if with_std else 0, theirs.var_ if with_std else 0, rtol=1e-6)
    result, expected = ours.transform(rows), theirs.transform(rows)
    assert scipy.sparse.issparse(result) and result.dtype == dtype and result.nnz == expected.nnz
    np.testing.assert_allclose(result.toarray(), expected.toarray(), rtol=1e-5 if dtype == np.float32 else 1e-10)
    np.testing.assert_allclose(ours.inverse_transform(result).toarray(), rows.toarray(), rtol=1e-5)
    assert (rows != before).nnz == 0


@pytest.mark.parametrize("call", ["fit", "transform", "inverse_transform"])
def test_csr_rows_are_not_centred(call):
    rows = datasets.sparse_counts()
    scaler = ParallelStandardScaler() if call == "fit" else ParallelStandardScaler().fit(rows.toarray())
    with pytest.raises(ValueError, match=r"[Cc]enter sparse matrices"):
        getattr(scaler, call)(rows)


def test_float32_stays_float32_with_float64_inside():
    rows = (1e4 + rng.normal(size=(5000, 3))).astype(np.float32)
    scaler = ParallelStandardScaler().fit(rows)
    assert scaler.mean_.dtype == np.float64
    np.testing.assert_allclose(scaler.mean_, rows.astype(np.float64).mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(scaler.var_, rows.astype(np.float64).var(axis=0), rtol=1e-10)
    result = scaler.transform(rows)
    assert result.dtype == np.float32
    exact = (rows.astype(np.float64) - scaler.mean_) / scaler.scale_
    np.testing.assert_allclose(result, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6, 1e8])
def test_an_offset_does_not_blur_the_deviation(offset):
    rows = rng.integers(0, 1000, (4000, 3)) / 8.0
    scaler = ParallelStandardScaler().fit(rows + offset)
    np.testing.assert_allclose(scaler.var_, rows.var(axis=0), rtol=1e-9)
    np.testing.assert_allclose(scaler.transform(rows + offset), StandardScaler().fit_transform(rows), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.1, 1e8 + 0.1, -1e-12, 1e15])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_constant_column_is_not_divided(value, weighted):
    rows = np.column_stack([np.full(600, value), X[:, 0]])
    scaler = ParallelStandardScaler().fit(rows, sample_weight=WEIGHTS if weighted else None)
    assert scaler.scale_[0] == 1
    np.testing.assert_allclose(scaler.transform(rows)[:, 0], 0, atol=1e-12 * abs(value))


@given(cuts=st.lists(st.integers(1, 599), min_size=1, max_size=6, unique=True), weighted=st.booleans())
def test_batches_add_up_to_one_fit(cuts, weighted):
    weights = WEIGHTS + 0.5
    batched, theirs = ParallelStandardScaler(), StandardScaler()
    edges = [0, *sorted(cuts), 600]
    for low, high in zip(edges, edges[1:]):
        part = weights[low:high] if weighted else None
        batched.partial_fit(X[low:high], sample_weight=part)
        theirs.partial_fit(X[low:high], sample_weight=part)
    assert_same_attributes(batched, theirs, rtol=1e-9)
    assert_same_attributes(batched, ParallelStandardScaler().fit(X, sample_weight=weights if weighted else None))
    np.testing.assert_allclose(batched.n_samples_seen_, weights.sum() if weighted else 600)


def test_fit_forgets_earlier_batches():
    scaler = ParallelStandardScaler().partial_fit(X * 100).fit(X)
    assert_same_attributes(scaler, ParallelStandardScaler().fit(X))


@pytest.mark.parametrize("cuts", [600, 100, (1, 0, 598, 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_dask_rows_in_any_chunks_are_scaled_the_same(cuts, weighted):
    rows = da.from_array(X, chunks=(cuts, 2))
    weights = da.from_array(WEIGHTS, chunks=(cuts,)) if weighted else None
    scaler = ParallelStandardScaler().fit(rows, sample_weight=weights)
    assert_same_attributes(scaler, ParallelStandardScaler().fit(X, sample_weight=WEIGHTS if weighted else None))
    result = scaler.transform(rows)
    assert isinstance(result, da.Array) and result.chunks[0] == rows.chunks[0]
    np.testing.assert_allclose(result.compute(), scaler.transform(X), rtol=1e-14)
    np.testing.assert_allclose(scaler.inverse_transform(result).compute(), X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
def test_a_value_that_is_not_finite_is_named(value, make):
    bad = X.copy()
    bad[300, 2] = value
    fitted = ParallelStandardScaler(with_mean=False).fit(X)
    for method in (clone(fitted).fit, fitted.partial_fit, fitted.transform, fitted.inverse_transform):
        with pytest.raises(ValueError, match=r"(NaN|infinity), for instance at row 300, column 2"):
            method(make(bad))


def test_a_value_that_is_not_finite_is_named_when_dask_rows_are_computed():
    bad = X.copy()
    bad[300, 2] = np.nan
    lazy = ParallelStandardScaler().fit(X).transform(da.from_array(bad, chunks=(200, 5)))
    with pytest.raises(ValueError, match=r"NaN, for instance at row 100, column 2"):
        lazy.compute()


@pytest.mark.parametrize("weights", [np.zeros(600), -np.ones(600), np.ones(5), np.full(600, np.inf)])
def test_weights_that_cannot_be_meant_are_refused(weights):
    with pytest.raises(ValueError, match=r"weight"):
        ParallelStandardScaler().fit(X, sample_weight=weights)


def test_before_fit_every_method_says_so_and_a_failed_fit_leaves_nothing():
    scaler = ParallelStandardScaler().fit(X)
    with pytest.raises(ValueError, match="NaN"):
        scaler.fit(np.full((3, 5), np.nan))
    for model in (scaler, clone(scaler), ParallelStandardScaler()):
        for method in (model.transform, model.inverse_transform):
            with pytest.raises(NotFittedError):
                method(X)


def test_dataframes_keep_their_columns_and_index():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcde"), index=np.arange(600) * 3)
    scaler = ParallelStandardScaler().set_output(transform="pandas").fit(frame)
    result = scaler.transform(frame)
    assert list(result.columns) == list("abcde") and (result.index == frame.index).all()
    assert list(scaler.get_feature_names_out()) == list("abcde")
    np.testing.assert_allclose(result, StandardScaler().fit_transform(X), atol=1e-9)


def test_a_pickled_scaler_scales_the_same():
    scaler = ParallelStandardScaler().fit(da.from_array(X, chunks=(100, 5)))
    dump = pickle.dumps(scaler)
    assert len(dump) < 4096
    assert (pickle.loads(dump).transform(X) == scaler.transform(X)).all()
