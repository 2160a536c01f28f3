"""ParallelKMeans in this process against scikit-learn's Lloyd, from the same first centres."""

import functools
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from dparallel import ParallelKMeans
from tests import datasets, twins

ALGORITHMS = ["lloyd", "bounded"]
CASES = {
    "digits": (datasets.digits, 10),
    "spambase": (datasets.spambase, 20),
    "MNIST 10k": (datasets.mnist, 10),
    "GaussMixture R=1": (lambda: datasets.gauss_mixture(1), 50),
    "GaussMixture R=10": (lambda: datasets.gauss_mixture(10), 50),
}


def first_rows(X, n_clusters, seed=3):
    """Distinct rows as first centres, moved a little: where whole numbers tie, scikit-learn's rounding decides."""
    random = np.random.default_rng(seed)
    rows = X[np.sort(random.permutation(X.shape[0])[: 3 * n_clusters])]
    rows = np.unique(rows.toarray() if scipy.sparse.issparse(rows) else rows, axis=0)[:n_clusters]
    return rows + 1e-3 * random.normal(size=rows.shape)


@functools.cache
def theirs(case, sparse):
    X, n_clusters = load(case, sparse)
    return KMeans(n_clusters, init=first_rows(X, n_clusters), n_init=1, tol=0, algorithm="lloyd").fit(X)


def load(case, sparse):
    make, n_clusters = CASES[case]
    return (scipy.sparse.csr_matrix(make()) if sparse else make()), n_clusters


def assert_same(ours, other, *, centres=1e-8, inertia=1e-10):
    size = np.abs(other.cluster_centers_).max()
    np.testing.assert_allclose(ours.cluster_centers_, other.cluster_centers_, rtol=centres, atol=centres * size)
    assert (ours.labels_ == other.labels_).all()
    np.testing.assert_allclose(ours.inertia_, other.inertia_, rtol=inertia)
    assert abs(ours.n_iter_ - other.n_iter_) <= 1
    assert len(ours.history_) == ours.n_iter_


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case, sparse", [*((case, False) for case in CASES), ("digits", True), ("spambase", True)])
def test_centres_labels_inertia_and_rounds_are_those_of_scikit_learn(case, sparse, algorithm):
    X, n_clusters = load(case, sparse)
    model = ParallelKMeans(n_clusters, init=first_rows(X, n_clusters), tol=0, algorithm=algorithm).fit(X)
    assert_same(model, theirs(case, sparse))


def test_a_sparse_fit_on_mnist_is_the_dense_one():
    X = datasets.mnist()[:3000]
    options = {"init": first_rows(X, 10), "tol": 0}
    assert_same(ParallelKMeans(10, **options).fit(scipy.sparse.csr_matrix(X)), ParallelKMeans(10, **options).fit(X))


@pytest.mark.parametrize("case", ["digits", "spambase", "GaussMixture R=10"])
def test_bounded_and_lloyd_give_the_same_bits(case):
    X, n_clusters = load(case, False)
    init = first_rows(X, n_clusters)
    a, b = (ParallelKMeans(n_clusters, init=init, tol=0, algorithm=name).fit(X) for name in ALGORITHMS)
    assert (a.cluster_centers_ == b.cluster_centers_).all() and (a.labels_ == b.labels_).all()
    assert a.inertia_ == b.inertia_ and a.n_iter_ == b.n_iter_


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "CSR"])
def test_integer_weights_are_repetition(algorithm, sparse):
    X = datasets.sparse_counts() if sparse else datasets.gauss_mixture(10)[:1500]
    weights = np.random.default_rng(1).integers(0, 4, X.shape[0])
    init = first_rows(X, 12)
    options = {"n_clusters": 12, "init": init, "tol": 0, "algorithm": algorithm}
    weighted = ParallelKMeans(**options).fit(X, sample_weight=weights)
    repeated = ParallelKMeans(**options).fit(X[np.repeat(np.arange(X.shape[0]), weights)])
    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-10, atol=1e-10)
    assert (np.repeat(weighted.labels_, weights) == repeated.labels_).all()
    np.testing.assert_allclose(weighted.inertia_, repeated.inertia_, rtol=1e-10)
    np.testing.assert_allclose(weighted.counts_, repeated.counts_, rtol=1e-13)
    assert_same(weighted, KMeans(12, init=init, n_init=1, tol=0).fit(X, sample_weight=weights))


@pytest.mark.parametrize("case", ["digits", "GaussMixture R=10"])
def test_float32_is_as_good_as_scikit_learns(case):
    X, n_clusters = load(case, False)
    X = X.astype(np.float32)
    init = first_rows(X, n_clusters)
    ours = ParallelKMeans(n_clusters, init=init, tol=0).fit(X)
    other = KMeans(n_clusters, init=init, n_init=1, tol=0).fit(X.astype(np.float64))
    assert ours.cluster_centers_.dtype == np.float32
    np.testing.assert_allclose(ours.cluster_centers_, other.cluster_centers_, rtol=1e-5, atol=1e-5)
    assert (ours.labels_ == other.labels_).all()
    np.testing.assert_allclose(ours.inertia_, other.inertia_, rtol=1e-10)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6, 1e8])
def test_data_far_from_the_origin_are_clustered_as_near_it(offset, dtype, algorithm):
    X = (datasets.gauss_mixture(10)[:4000] + offset).astype(dtype)
    near = X.astype(np.float64) - offset  # what is left of the data in this dtype, exactly
    init = first_rows(near, 20)
    if len(init) < 20:
        pytest.skip("float32 holds fewer distinct rows than clusters this far out")
    expected = KMeans(20, init=init, n_init=1, tol=0).fit(near)
    model = ParallelKMeans(20, init=init + offset, tol=0, algorithm=algorithm).fit(X)
    spacing = np.spacing(dtype(max(offset, 100.0)))
    np.testing.assert_allclose(model.cluster_centers_ - offset, expected.cluster_centers_, rtol=0, atol=spacing)
    assert (model.labels_ == expected.labels_).all()
    np.testing.assert_allclose(model.inertia_, expected.inertia_, rtol=1e-8)


@pytest.mark.parametrize("tol", [0, 1e-6, 1e-4, 1e-2, 1e3])
@pytest.mark.parametrize("case", ["digits", "spambase", "GaussMixture R=1"])
def test_tol_stops_in_scikit_learns_round(case, tol):
    X, n_clusters = load(case, False)
    init = first_rows(X, n_clusters)
    ours = ParallelKMeans(n_clusters, init=init, tol=tol).fit(X)
    other = KMeans(n_clusters, init=init, n_init=1, tol=tol).fit(X)
    assert ours.n_iter_ == other.n_iter_
    assert_same(ours, other)


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_labels_and_inertia_at_the_limit_belong_to_the_published_centres(max_iter):
    X, n_clusters = load("digits", False)
    init = first_rows(X, n_clusters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = ParallelKMeans(n_clusters, init=init, max_iter=max_iter, tol=0).fit(X)
        other = KMeans(n_clusters, init=init, n_init=1, max_iter=max_iter, tol=0).fit(X)
    assert ours.n_iter_ == max_iter and "limit" in ours.stop_reason_
    assert_same(ours, other)
    assert (ours.labels_ == ours.predict(X)).all()


def far_away(X, n_clusters, n_far):
    init = first_rows(X, n_clusters)
    init[n_clusters - n_far :] = 1e4 * (1 + np.arange(n_far))[:, None]
    return init


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "CSR"])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_empty_centre_goes_where_scikit_learn_puts_it(sparse, weighted, algorithm):
    X = datasets.gauss_mixture(10)[:2000]
    weights = np.random.default_rng(0).integers(1, 4, 2000) if weighted else None
    X = scipy.sparse.csr_matrix(X) if sparse else X
    init = far_away(X, 10, 1)
    ours = ParallelKMeans(10, init=init, tol=0, algorithm=algorithm).fit(X, sample_weight=weights)
    assert_same(ours, KMeans(10, init=init, n_init=1, tol=0).fit(X, sample_weight=weights))


def test_several_empty_centres_take_the_farthest_rows_in_order():
    X = datasets.gauss_mixture(10)[:2000]
    init = far_away(X, 10, 4)
    ours = ParallelKMeans(10, init=init, tol=0, max_iter=1).fit(X)
    other = KMeans(10, init=init, n_init=1, tol=0, max_iter=1).fit(X)
    # scikit-learn leaves it to argpartition which empty centre takes which of these rows
    assert set(map(tuple, np.round(ours.cluster_centers_, 9))) == set(map(tuple, np.round(other.cluster_centers_, 9)))
    squares = twins.squared_distances(X, init).min(axis=1)
    np.testing.assert_allclose(ours.cluster_centers_[6:], X[np.argsort(-squares)[:4]], rtol=1e-12)


def test_a_centre_that_gives_away_all_its_rows_is_not_left_with_rounding():
    random = np.random.default_rng(0)
    X = random.normal(size=(52, 2))
    X[50:] += [1000.0, 0.0]
    init = np.array([[0.0, 0.0], [1200.0, 0.0], [1e5, 0.0], [2e5, 0.0]])
    for _ in range(50):
        weights = np.append(np.ones(50), random.random(2))
        with pytest.warns(ConvergenceWarning):
            model = ParallelKMeans(4, init=init, max_iter=1, tol=0).fit(X, sample_weight=weights)
        np.testing.assert_allclose(model.cluster_centers_[1], init[1], rtol=1e-12)
        assert model.counts_[1] == 0


@pytest.mark.parametrize("size", [1e6, 1e30, 1e100])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_how_far_away_an_empty_centre_started_does_not_matter(size):
    X = datasets.gauss_mixture(10)[:500]
    near, far = first_rows(X, 5), first_rows(X, 5)
    near[4], far[4] = 1e5, size
    assert_same(ParallelKMeans(5, init=far, tol=0).fit(X), ParallelKMeans(5, init=near, tol=0).fit(X))
