"""Spherical k-means: ParallelKMeans(metric="cosine") against a few lines of numpy."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.metrics.pairwise import cosine_distances

from dparallel import ParallelKMeans
from tests import datasets, twins

ALGORITHMS = ["lloyd", "bounded"]


def rows_in_directions(seed=0, n_rows=1200):
    random = np.random.default_rng(seed)
    directions = random.normal(size=(9, 12))[random.integers(9, size=n_rows)]
    return (directions + 0.5 * random.normal(size=(n_rows, 12))) * random.exponential(size=(n_rows, 1)) * 100


def first_rows(X, n_clusters):
    return X[np.random.default_rng(1).permutation(len(X))[:n_clusters]]


X = rows_in_directions()
INIT = first_rows(X, 9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("make", [np.asarray, np.asfortranarray, scipy.sparse.csr_matrix])
def test_centres_labels_and_inertia_are_those_of_plain_numpy(make, algorithm):
    model = ParallelKMeans(9, init=INIT, metric="cosine", tol=0, algorithm=algorithm).fit(make(X))
    centres, labels, inertia, n_rounds = twins.spherical_kmeans(X, INIT, 300)
    np.testing.assert_allclose(model.cluster_centers_, centres, rtol=1e-9, atol=1e-12)
    assert (model.labels_ == labels).all() and model.n_iter_ == n_rounds
    np.testing.assert_allclose(model.inertia_, inertia, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(model.history_[-1].objective, inertia, rtol=1e-9)


def test_float32_stays_float32_and_gives_the_same_labels():
    a = ParallelKMeans(9, init=INIT, metric="cosine", tol=0).fit(X.astype(np.float32))
    b = ParallelKMeans(9, init=INIT, metric="cosine", tol=0).fit(X)
    assert a.cluster_centers_.dtype == np.float32 and (a.labels_ == b.labels_).all()
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, atol=1e-6)


def test_the_length_of_rows_does_not_matter():
    lengths = 10.0 ** np.random.default_rng(2).integers(-20, 20, (len(X), 1))
    a = ParallelKMeans(9, init=INIT, metric="cosine", tol=0).fit(X)
    b = ParallelKMeans(9, init=INIT, metric="cosine", tol=0).fit(X * lengths)
    assert (a.labels_ == b.labels_).all()
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
def test_predict_transform_and_score_measure_one_minus_cosine(make):
    model = ParallelKMeans(9, metric="cosine", random_state=0).fit(make(X))
    distances = cosine_distances(X, model.cluster_centers_)
    np.testing.assert_allclose(model.transform(make(X)), distances, rtol=1e-9, atol=1e-12)
    assert (model.predict(make(X)) == distances.argmin(axis=1)).all()
    np.testing.assert_allclose(model.score(make(X)), -distances.min(axis=1).sum(), rtol=1e-10)
    assert (model.to_sklearn().predict(X / np.linalg.norm(X, axis=1, keepdims=True)) == model.labels_).all()


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_row_of_zeros_is_at_distance_one_and_moves_no_centre(make, weighted):
    weights = np.random.default_rng(0).integers(1, 4, len(X)) if weighted else np.ones(len(X))
    options = {"n_clusters": 9, "init": INIT, "metric": "cosine", "tol": 0}
    plain = ParallelKMeans(**options).fit(make(X), sample_weight=weights)
    blank = make(np.vstack([X, np.zeros((3, 12))]))
    extra = np.append(weights, [2.0, 2.0, 2.0])
    model = ParallelKMeans(**options).fit(blank, sample_weight=extra)
    np.testing.assert_allclose(model.cluster_centers_, plain.cluster_centers_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.inertia_, plain.inertia_ + 6, rtol=1e-10)
    np.testing.assert_allclose(model.score(blank, sample_weight=extra), -model.inertia_, rtol=1e-10)
    assert (model.transform(blank)[-3:] == 1).all()


def test_integer_weights_are_repetition():
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    a = ParallelKMeans(9, init=INIT, metric="cosine", tol=0).fit(X, sample_weight=weights)
    b = ParallelKMeans(9, init=INIT, metric="cosine", tol=0).fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(a.cluster_centers_, b.cluster_centers_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(a.inertia_, b.inertia_, rtol=1e-10)


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
def test_seeding_compares_directions(init):
    model = ParallelKMeans(9, init=init, n_init=3, metric="cosine", random_state=1).fit(X)
    best = min(twins.spherical_kmeans(X, first_rows(rows_in_directions(), 9), 300)[2], 1e9)
    assert model.inertia_ <= 1.2 * best
    scaled = X * 10.0 ** np.random.default_rng(2).integers(-3, 3, (len(X), 1))
    again = ParallelKMeans(9, init=init, n_init=3, metric="cosine", random_state=1).fit(scaled)
    np.testing.assert_allclose(again.inertia_, model.inertia_, rtol=1e-9)


def test_documents_are_clustered_without_becoming_dense(monkeypatch):
    counts = datasets.sparse_counts(n_rows=2000, n_features=300)
    for name in ("toarray", "todense"):
        whole = getattr(scipy.sparse.csr_matrix, name)

        def few_rows_only(self, *args, whole=whole, **kwargs):
            assert self.shape[0] <= 200
            return whole(self, *args, **kwargs)

        monkeypatch.setattr(scipy.sparse.csr_matrix, name, few_rows_only)
    model = ParallelKMeans(5, metric="cosine", random_state=0).fit(counts)
    assert model.transform(counts).shape == (2000, 5) and np.isfinite(model.inertia_)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170, 1e300])
@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix])
def test_rows_of_any_length_have_a_direction(size, make):
    model = ParallelKMeans(9, init=INIT, metric="cosine").fit(X)
    assert (model.predict(make(X / 1e3 * size)) == model.labels_).all()
