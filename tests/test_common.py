"""scikit-learn's own checks for every public estimator, on numpy and, where a check is about data, on Dask arrays."""

import uuid

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

from dparallel import (
    AsyncSGDClassifier,
    AsyncSGDRegressor,
    LocalSGDClassifier,
    LocalSGDRegressor,
    ParallelDecisionTree,
    ParallelDecisionTreeRegressor,
    ParallelKMeans,
    ParallelLogisticRegression,
    ParallelOneHotEncoder,
    ParallelOrdinalEncoder,
    ParallelRidge,
    ParallelSimpleImputer,
    ParallelStandardScaler,
)

ESTIMATORS = [
    ParallelKMeans(),
    ParallelStandardScaler(),
    ParallelSimpleImputer(),
    ParallelOneHotEncoder(),
    ParallelOrdinalEncoder(),
    AsyncSGDClassifier(),
    AsyncSGDClassifier("log_loss"),
    AsyncSGDRegressor(),
    LocalSGDClassifier("log_loss"),
    LocalSGDRegressor(),
    ParallelDecisionTree(),
    ParallelDecisionTree(exact_rows=50),
    ParallelDecisionTreeRegressor(),
    ParallelLogisticRegression(),
    ParallelRidge(),
]

_DRAWS = (
    "first centres are drawn from numbers that belong to rows, so a repeated row draws other centres than one "
    "of weight 2; sklearn.cluster.KMeans fails this check, too (from a given init both agree: test_kmeans_parity)"
)


_STEPS = (
    "a row of weight 2 moves the parameters once, twice as far, which is not what two rows do; "
    "sklearn.linear_model.SGDClassifier and SGDRegressor fail this check, too"
)


def expected_failures(estimator):
    stochastic = (AsyncSGDClassifier, AsyncSGDRegressor, LocalSGDClassifier, LocalSGDRegressor)
    if not isinstance(estimator, (ParallelKMeans, *stochastic)):
        return {}
    why = _DRAWS if isinstance(estimator, ParallelKMeans) else _STEPS
    return {
        "check_sample_weight_equivalence_on_dense_data": why,
        "check_sample_weight_equivalence_on_sparse_data": why,
    }


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


class InBlocks:
    """Gives rows to an estimator as a Dask array of n_blocks x n_columns blocks, and computes what it returns."""

    n_blocks = n_columns = 1

    def _result(self, values):
        return values.compute(scheduler="sync") if isinstance(values, da.Array) else values

    def _lazy(self, values, like=None):
        whole = values if like is None else like
        if (
            values is None
            or not _turns_into_blocks(whole)
            or (np.ndim(values) == 0 and not scipy.sparse.issparse(values))
        ):
            return values
        height = -(-whole.shape[0] // self.n_blocks)
        if not scipy.sparse.issparse(values):
            values = np.asarray(values)
            return da.from_array(values, chunks=(height, *(self._width(size) for size in values.shape[1:])))
        rows = values.tocsr()
        sizes = height, self._width(rows.shape[1])
        chunks = da.core.normalize_chunks(sizes, rows.shape)
        name = f"rows-{uuid.uuid4().hex}"
        graph = {
            (name, i, j): rows[i * height :][: chunks[0][i], j * sizes[1] :][:, : chunks[1][j]]
            for i, j in np.ndindex(len(chunks[0]), len(chunks[1]))
        }
        return da.Array(graph, name, chunks, meta=rows[:0])

    def _width(self, n_features):
        return max(1, -(-n_features // self.n_columns))


class TransformsInBlocks(InBlocks):
    def fit(self, X, y=None, sample_weight=None):
        super().fit(self._lazy(X), y, sample_weight=self._lazy(sample_weight, like=X))
        return self._computed()

    def partial_fit(self, X, y=None, sample_weight=None):
        super().partial_fit(self._lazy(X), y, sample_weight=self._lazy(sample_weight, like=X))
        return self._computed()

    def fit_transform(self, X, y=None, **parameters):
        return self.fit(X, y, **parameters).transform(X)

    def transform(self, X):
        return self._result(super().transform(self._lazy(X)))

    def _computed(self):
        if hasattr(self, "labels_") and isinstance(self.labels_, da.Array):
            self.labels_ = self.labels_.compute(scheduler="sync")
        return self


def _as_array(X):
    """What is no array but turns into one, such as a dataframe, as that one."""
    is_array = isinstance(X, np.ndarray) or scipy.sparse.issparse(X)
    return np.asarray(X) if hasattr(X, "__array__") and not is_array else X


def _turns_into_blocks(X):
    """Whether rows are numbers in a matrix: the rest is refused as it is, by the same words."""
    if not (isinstance(X, np.ndarray) or scipy.sparse.issparse(X)):
        return False
    return X.ndim == 2 and X.shape[0] > 0 and X.dtype.kind in "biuf"


class KMeansInBlocks(TransformsInBlocks, ParallelKMeans):
    def fit_predict(self, X, y=None, sample_weight=None):
        return self.fit(X, y, sample_weight=sample_weight).labels_

    def predict(self, X):
        return self._result(super().predict(self._lazy(X)))

    def score(self, X, y=None, sample_weight=None):
        return super().score(self._lazy(X), y, sample_weight=self._lazy(sample_weight, like=X))


class KMeansInThreeBlocks(KMeansInBlocks):
    n_blocks = 3


class ScalerInBlocks(TransformsInBlocks, ParallelStandardScaler):
    def inverse_transform(self, X):
        return self._result(super().inverse_transform(self._lazy(X)))


class ScalerInThreeBlocks(ScalerInBlocks):
    n_blocks = 3


class ImputerInThreeBlocks(InBlocks, ParallelSimpleImputer):
    n_blocks = 3

    def fit(self, X, y=None):
        return super().fit(self._lazy(X), y)

    def transform(self, X):
        return self._result(super().transform(self._lazy(X)))


class LearnsInBlocks(InBlocks):
    """Where rows are cut otherwise, they are visited in another order: all that can be cut is, to compare fits."""

    def _lazy(self, values, like=None):
        return super()._lazy(_as_array(values), _as_array(like))

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(self._lazy(X), self._lazy(y, X), sample_weight=self._lazy(sample_weight, X))

    def predict(self, X):
        return self._result(super().predict(self._lazy(X)))

    def score(self, X, y, sample_weight=None):
        return super().score(self._lazy(X), self._lazy(y, X), self._lazy(sample_weight, X))


class StepsInBlocks(LearnsInBlocks):
    def partial_fit(self, X, y, sample_weight=None, **classes):
        rows, weights = self._lazy(X), self._lazy(sample_weight, X)
        return super().partial_fit(rows, self._lazy(y, X), sample_weight=weights, **classes)


class ClassifiesInBlocks(StepsInBlocks):
    def decision_function(self, X):
        return self._result(super().decision_function(self._lazy(X)))

    def predict_proba(self, X):
        return self._result(super().predict_proba(self._lazy(X)))


class ClassifierInBlocks(ClassifiesInBlocks, AsyncSGDClassifier):
    pass


class ClassifierInThreeBlocks(ClassifierInBlocks):
    n_blocks = 3


class LocalClassifierInThreeBlocks(ClassifiesInBlocks, LocalSGDClassifier):
    n_blocks = 3


class LocalRegressorInThreeBlocks(StepsInBlocks, LocalSGDRegressor):
    n_blocks = 3


class TreeInBlocks(LearnsInBlocks):
    def apply(self, X):
        return self._result(super().apply(self._lazy(X)))

    def decision_path(self, X):
        return self._result(super().decision_path(self._lazy(X)))


class ClassificationTreeInBlocks(TreeInBlocks, ParallelDecisionTree):
    def predict_proba(self, X):
        return self._result(super().predict_proba(self._lazy(X)))

    def predict_log_proba(self, X):
        return self._result(super().predict_log_proba(self._lazy(X)))


class ClassificationTreeInThreeBlocks(ClassificationTreeInBlocks):
    n_blocks = 3


class RegressionTreeInBlocks(TreeInBlocks, ParallelDecisionTreeRegressor):
    pass


class RegressionTreeInThreeBlocks(RegressionTreeInBlocks):
    n_blocks = 3


class LogisticInThreeBlocks(LearnsInBlocks, ParallelLogisticRegression):
    n_blocks = 3

    def decision_function(self, X):
        return self._result(super().decision_function(self._lazy(X)))

    def predict_proba(self, X):
        return self._result(super().predict_proba(self._lazy(X)))

    def predict_log_proba(self, X):
        return self._result(super().predict_log_proba(self._lazy(X)))


class RidgeInThreeBlocks(LearnsInBlocks, ParallelRidge):
    n_blocks = 3


class LogisticInTiles(LogisticInThreeBlocks):
    n_columns = 2


class RidgeInTiles(RidgeInThreeBlocks):
    n_columns = 2


class RegressorInBlocks(StepsInBlocks, AsyncSGDRegressor):
    pass


class RegressorInThreeBlocks(RegressorInBlocks):
    n_blocks = 3


@pytest.mark.parametrize(
    "estimator",
    [
        KMeansInBlocks(),
        KMeansInThreeBlocks(),
        ScalerInThreeBlocks(),
        RegressorInThreeBlocks(),
        RegressionTreeInThreeBlocks(),
        RidgeInTiles(),
    ],
)
@pytest.mark.parametrize("make", [np.asarray, np.asfortranarray, scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_rows_really_come_as_dask_blocks(estimator, make):
    X = np.arange(20.0).reshape(10, 2)
    lazy, weights = estimator._lazy(make(X)), estimator._lazy([1.0] * 10, like=make(X))
    for array in (lazy, weights):
        assert isinstance(array, da.Array) and array.numblocks[0] == estimator.n_blocks
    assert lazy.numblocks[1] == estimator.n_columns
    blocks = [list(row) for row in dask.compute(lazy.to_delayed().tolist(), scheduler="sync")[0]]
    is_sparse = make not in (np.asarray, np.asfortranarray)
    assert all(scipy.sparse.issparse(block) == is_sparse for row in blocks for block in row)
    assert ((scipy.sparse.block_array(blocks).toarray() if is_sparse else np.block(blocks)) == X).all()


# where several partitions do not go in step, the result depends on which thread is faster
IN_BLOCKS = [
    KMeansInBlocks(),
    KMeansInThreeBlocks(),
    ScalerInBlocks(),
    ScalerInThreeBlocks(),
    ImputerInThreeBlocks(),
    ClassifierInBlocks(loss="log_loss"),
    ClassifierInThreeBlocks(loss="log_loss", staleness=0),
    RegressorInBlocks(),
    RegressorInThreeBlocks(staleness=0),
    LocalClassifierInThreeBlocks("log_loss"),
    LocalRegressorInThreeBlocks(),
    ClassificationTreeInBlocks(),
    ClassificationTreeInThreeBlocks(),
    RegressionTreeInBlocks(),
    RegressionTreeInThreeBlocks(exact_rows=50),
    LogisticInThreeBlocks(),
    RidgeInThreeBlocks(),
    LogisticInTiles(),
    RidgeInTiles(),
]


@parametrize_with_checks(IN_BLOCKS, expected_failed_checks=expected_failures)
def test_it_is_one_on_dask_arrays_too(estimator, check):
    check(estimator)
