"""partial_fit against numpy and against scikit-learn's MiniBatchKMeans."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.cluster import MiniBatchKMeans

from dparallel import ParallelKMeans
from tests import datasets, twins
from tests.test_kmeans_parity import first_rows

X = datasets.gauss_mixture(10)[:3000]
INIT = first_rows(X, 12)
BATCHES = np.split(X, 10)


@pytest.mark.parametrize("make, offset", [(np.asarray, 0.0), (np.asarray, 1e6), (scipy.sparse.csr_matrix, 0.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_centres_move_by_their_share_of_all_weight_seen(make, weighted, offset):
    model = ParallelKMeans(12, init=INIT + offset)
    centres, counts = INIT, np.zeros(12)
    random = np.random.default_rng(0)
    for batch in BATCHES:
        weights = random.choice([0.0, 1.0, 2.5], len(batch)) if weighted else np.ones(len(batch))
        model.partial_fit(make(batch + offset), sample_weight=weights if weighted else None)
        centres, counts = twins.minibatch_step(batch, weights, centres, counts)
        np.testing.assert_allclose(model.cluster_centers_ - offset, centres, rtol=1e-10, atol=1e-9 if offset else 1e-12)
        np.testing.assert_allclose(model.counts_, counts)
    assert model.n_iter_ == 10


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batches_lead_where_scikit_learns_lead(weighted, dtype):
    # reassignment_ratio=0: no random reassignment of small centres, which dparallel has not
    theirs = MiniBatchKMeans(12, init=INIT, n_init=1, reassignment_ratio=0.0)
    ours = ParallelKMeans(12, init=INIT)
    random = np.random.default_rng(0)
    for batch in BATCHES:
        weights = random.integers(0, 3, len(batch)).astype(float) if weighted else None
        ours.partial_fit(batch.astype(dtype), sample_weight=weights)
        theirs.partial_fit(batch.astype(dtype), sample_weight=weights)
        tight = 1e-9 if dtype == np.float64 else 1e-4
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=tight, atol=tight)
        assert ours.cluster_centers_.dtype == dtype
        np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=tight)
        assert (ours.labels_ == theirs.labels_).all()


def test_a_centre_without_rows_in_the_batch_keeps_its_bits():
    far = np.vstack([INIT, np.full((1, 15), 1e5 / 3)])
    model = ParallelKMeans(13, init=far)
    for batch in BATCHES[:3]:
        before = far if not hasattr(model, "cluster_centers_") else model.cluster_centers_
        model.partial_fit(batch)
        assert (model.cluster_centers_[12] == before[12]).all() or before is far
        assert model.counts_[12] == 0


def test_one_batch_of_all_rows_is_one_round_of_lloyd():
    streamed = ParallelKMeans(12, init=INIT).partial_fit(X)
    fitted = ParallelKMeans(12, init=INIT, max_iter=1, tol=0).fit(X)
    np.testing.assert_allclose(streamed.cluster_centers_, fitted.cluster_centers_, rtol=1e-12)
    np.testing.assert_allclose(streamed.inertia_, fitted.inertia_, rtol=1e-12)
    assert (streamed.labels_ == fitted.labels_).all()


def test_partial_fit_after_fit_goes_on_from_its_centres_and_counts():
    model = ParallelKMeans(12, init=INIT).fit(X)
    centres, counts = twins.minibatch_step(X[:100], np.ones(100), model.cluster_centers_, model.counts_)
    model.partial_fit(X[:100])
    np.testing.assert_allclose(model.cluster_centers_, centres, rtol=1e-10)
    np.testing.assert_allclose(model.counts_, counts)


def test_fit_after_partial_fit_starts_anew():
    model = ParallelKMeans(12, init=INIT)
    streamed = model.partial_fit(BATCHES[0]).fit(X)
    fresh = ParallelKMeans(12, init=INIT).fit(X)
    assert (streamed.cluster_centers_ == fresh.cluster_centers_).all() and streamed.n_iter_ == fresh.n_iter_


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
def test_the_first_batch_is_seeded_as_a_fit_is(init):
    model = ParallelKMeans(12, init=init, random_state=0).partial_fit(X[:500])
    distances = twins.squared_distances(X[:500], model.cluster_centers_)
    assert len(set(distances.argmin(axis=1))) == 12
    with pytest.raises(ValueError, match="n_samples=5 should be >= n_clusters=12"):
        ParallelKMeans(12, init=init).partial_fit(X[:5])


def test_a_later_batch_may_be_smaller_than_the_number_of_clusters():
    model = ParallelKMeans(12, init=INIT).partial_fit(X[:500])
    assert model.partial_fit(X[500:501]).counts_.sum() == 501
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :3])


def test_cosine_batches_keep_centres_of_norm_one():
    model = ParallelKMeans(12, init=INIT, metric="cosine")
    for batch in BATCHES:
        model.partial_fit(batch)
    np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1, rtol=1e-12)
    assert -model.score(X) < -ParallelKMeans(12, init=INIT, metric="cosine").partial_fit(BATCHES[0]).score(X) * 1.05


def test_a_batch_that_is_refused_changes_nothing():
    model = ParallelKMeans(12, init=INIT).partial_fit(BATCHES[0])
    before = model.cluster_centers_.copy()
    bad = BATCHES[1].copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="row 7, column 2"):
        model.partial_fit(bad)
    assert (model.cluster_centers_ == before).all() and model.n_iter_ == 1
    fresh = ParallelKMeans(12, init=INIT)
    with pytest.raises(ValueError, match="row 7, column 2"):
        fresh.partial_fit(bad)
    assert not hasattr(fresh, "cluster_centers_")
