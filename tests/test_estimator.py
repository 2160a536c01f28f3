"""What every estimator inherits, shown with one that computes column means."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from sklearn.base import TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from dparallel.errors import AlignmentError, DataError, DataKindError
from dparallel.estimator import ParallelEstimator

rng = np.random.default_rng(0)
ROWS = rng.normal(size=(60, 5))


def finite(X):
    """Refuse what a kernel would refuse."""
    if not np.isfinite(X).all():
        raise DataError("Input X contains NaN or infinity (inf).")
    return X


def subtract(means):
    return lambda X: finite(X) - means.astype(X.dtype)


class Centring(TransformerMixin, ParallelEstimator):
    """Subtracts the weighted mean of every column."""

    def __init__(self, keep_offsets=False):
        self.keep_offsets = keep_offsets

    def fit(self, X, y=None, sample_weight=None):
        blocks = self._gather(X, sample_weight=sample_weight)
        made = [blocks.local] if blocks.local else dask.get(blocks.graph, list(blocks.keys))
        weights = [np.ones(b.n_rows) if b.sample_weight is None else b.sample_weight for b in made]
        total = sum(w.sum() for w in weights)
        self.mean_ = sum(w @ finite(b.X) for b, w in zip(made, weights)) / total
        if self.keep_offsets:
            self.offsets_ = self.transform(X)
        return self

    def transform(self, X):
        # a method is asked before fit as well, so the function is made only when the check has passed
        check_is_fitted(self)
        names = [f"centred{number}" for number in range(self.n_features_in_)]
        dtype = "float32" if getattr(X, "dtype", None) == np.float32 else "float64"
        return self._apply(X, subtract(self.mean_), dtype=dtype, columns=names)


class Centre(Centring):
    """Subtracts the mean of y, for want of an algorithm that needs y."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def fit(self, X, y=None):
        blocks = self._gather(X, y)
        made = [blocks.local] if blocks.local else dask.get(blocks.graph, list(blocks.keys))
        self.mean_ = np.mean(np.concatenate([block.y for block in made])) * np.ones(self.n_features_in_)
        return self


@parametrize_with_checks([Centring()])
def test_scikit_learns_checks_hold(estimator, check):
    check(estimator)


DASK = [da.from_array(ROWS, chunks=(25, 2)), da.from_array(ROWS, chunks=(60, 5))]


@pytest.mark.parametrize("X", DASK)
def test_dask_arrays_set_the_number_of_features_and_no_names(X):
    model = Centring().fit(X)
    assert model.n_features_in_ == 5 and not hasattr(model, "feature_names_in_")
    np.testing.assert_allclose(model.mean_, ROWS.mean(axis=0))
    centred = model.transform(X)
    assert isinstance(centred, da.Array) and centred.chunks[0] == X.chunks[0]
    np.testing.assert_allclose(centred.compute(), model.transform(ROWS))


def test_weights_and_repetition_agree_whatever_the_kind():
    weights = rng.integers(0, 4, 60)
    wanted = Centring().fit(np.repeat(ROWS, weights, axis=0)).mean_
    for X in (ROWS, *DASK):
        np.testing.assert_allclose(Centring().fit(X, sample_weight=weights).mean_, wanted)


@pytest.mark.parametrize("make", [np.asarray, da.from_array])
def test_another_number_of_features_is_refused_in_the_words_of_scikit_learn(make):
    model = Centring().fit(ROWS[:, :3])
    with pytest.raises(ValueError, match="X has 2 features, but Centring is expecting 3 features as input"):
        model.transform(make(ROWS[:, :2]))


@pytest.mark.parametrize("make", [np.asarray, da.from_array])
def test_predicting_before_fit_is_refused(make):
    with pytest.raises(NotFittedError):
        Centring()._apply(make(ROWS), np.sum, dtype=float)


def frames():
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    df = pd.DataFrame(ROWS, columns=list("abcde"))
    return df, dd.from_pandas(df, npartitions=3)


def test_dask_dataframes_set_and_check_feature_names_as_pandas_does():
    df, ddf = frames()
    for fitted in (df, ddf):
        model = Centring().fit(fitted)
        assert model.feature_names_in_.tolist() == list("abcde") and model.n_features_in_ == 5
        assert model.feature_names_in_.dtype == object
        for X in (df, ddf):
            model.transform(X)
            with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
                model.transform(X[list("bacde")])
            with pytest.raises(ValueError, match=r"unseen at fit time:\n- z\nFeature names seen at fit time, yet now"):
                model.transform(X.rename(columns={"a": "z"}))
        for X in (ROWS, DASK[0]):
            with pytest.warns(UserWarning, match="X does not have valid feature names, but Centring was fitted with"):
                model.transform(X)
            assert not hasattr(clone(model).fit(X), "feature_names_in_")
            with pytest.warns(UserWarning, match="X has feature names, but Centring was fitted without"):
                Centring().fit(X).transform(ddf)


def test_a_dask_dataframe_is_transformed_into_one():
    df, ddf = frames()
    out = Centring().fit(ddf).transform(ddf)
    assert list(out.columns) == [f"centred{number}" for number in range(5)] and out.divisions == ddf.divisions
    np.testing.assert_allclose(out.compute(), Centring().fit_transform(df))


def test_mixed_column_labels_are_refused_in_the_words_of_scikit_learn():
    df, _ = frames()
    dd = pytest.importorskip("dask.dataframe")
    df.columns = ["a", "b", 2, 3, 4]
    with pytest.raises(TypeError, match="Feature names are only supported if all input features have string names"):
        Centring().fit(dd.from_pandas(df, npartitions=2))


def test_refitting_forgets_names_and_widths():
    _, ddf = frames()
    model = Centring().fit(ddf).fit(DASK[0][:, :2])
    assert model.n_features_in_ == 2 and not hasattr(model, "feature_names_in_")


def test_a_missing_y_is_refused_where_it_is_required():
    for X in (ROWS, *DASK):
        with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
            Centre().fit(X)
        Centre().fit(X, np.arange(60)).transform(X)
        with pytest.raises(AlignmentError):
            Centre().fit(X, np.arange(59))


def test_sparse_data_are_refused_by_an_estimator_that_does_not_read_them():
    sparse = scipy.sparse.csr_matrix(ROWS)
    for X in (sparse, DASK[0].map_blocks(scipy.sparse.csr_matrix)):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            Centring().fit(X)
        with pytest.raises(TypeError, match="Sparse data was passed"):
            Centring().fit(ROWS).transform(X)


def test_lazy_attributes_stay_out_of_pickles_and_others_stay_in():
    model = Centring(keep_offsets=True).fit(da.from_array(np.tile(ROWS, (500, 1)), chunks=(5000, 5)))
    assert isinstance(model.offsets_, da.Array)
    small = pickle.dumps(model)
    assert len(small) < 4000
    again = pickle.loads(small)
    assert not hasattr(again, "offsets_") and hasattr(model, "offsets_")
    np.testing.assert_allclose(again.transform(ROWS), model.transform(ROWS))
    local = pickle.loads(pickle.dumps(Centring(keep_offsets=True).fit(ROWS)))
    np.testing.assert_allclose(local.offsets_, ROWS - ROWS.mean(axis=0))


def test_fitting_a_dask_array_never_turns_it_into_numpy(monkeypatch):
    def forbidden(self, *args, **kwargs):
        raise AssertionError("X was turned into an ndarray")

    monkeypatch.setattr(da.Array, "__array__", forbidden)
    monkeypatch.setattr(da.Array, "compute", forbidden)
    for X in DASK:
        Centring().fit(X).transform(X)


def test_other_dask_collections_are_refused():
    bag = pytest.importorskip("dask.bag")
    for X in (bag.from_sequence([1, 2]), dask.delayed(ROWS)):
        with pytest.raises(DataKindError, match="dparallel reads Dask arrays and Dask dataframes"):
            Centring().fit(X)
