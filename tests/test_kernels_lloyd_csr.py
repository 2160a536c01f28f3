"""The CSR Lloyd kernel against the dense one and against plain numpy."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from dparallel.errors import DataError
from dparallel.kernels.ruler import Frame, Held, Ruler
from tests import twins
from tests.test_kernels_lloyd import assert_totals, plain_frame, run

DTYPES = [np.float32, np.float64]
rng = np.random.default_rng(11)


def sparse_rows(random, n_rows, n_features, density, dtype, index_dtype=np.int32):
    dense = random.normal(size=(n_rows, n_features)) * (random.random((n_rows, n_features)) < density)
    X = scipy.sparse.csr_matrix(dense.astype(dtype))
    X.indices, X.indptr = X.indices.astype(index_dtype), X.indptr.astype(index_dtype)
    return X


@given(
    n_rows=st.integers(0, 200),
    n_features=st.integers(1, 70),
    n_clusters=st.one_of(st.integers(1, 70), st.sampled_from([4, 32, 64])),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    dtype=st.sampled_from(DTYPES),
    bounded=st.booleans(),
    unit=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_labels_are_nearest_and_totals_exact(n_rows, n_features, n_clusters, density, dtype, bounded, unit, seed):
    random = np.random.default_rng(seed)
    X = sparse_rows(random, n_rows, n_features, density, dtype)
    frame = Frame(np.zeros(n_features), 1.0 if unit else 2.0, unit)
    rows = frame.enter(X.toarray())
    weights = random.choice([0.0, 0.5, 3.0], n_rows)
    places = [frame.enter(random.normal(size=(n_clusters, n_features)))]
    for step in (1.0, 0.05, 0.0):
        places.append(places[-1] + step * random.normal(size=(n_clusters, n_features)))
    labels = np.zeros(n_rows, np.int32)
    for number, (held, sums, changed, _) in enumerate(run(X, weights, frame, places, bounded=bounded)):
        twins.assert_nearest(held.labels, rows, places[number])
        assert changed == (n_rows if number == 0 else (held.labels != labels).sum())
        labels, totals = held.labels.copy(), sums
    if not unit:
        assert_totals(totals, rows, weights, labels)
    else:
        expected = np.zeros((n_clusters, n_features))
        np.add.at(expected, labels, weights[:, None] * rows)
        np.testing.assert_allclose(totals[0][:, :-1], expected, rtol=1e-12, atol=1e-12)


@given(n_clusters=st.integers(1, 66), bounded=st.booleans(), seed=st.integers(0, 10**6))
def test_ties_go_to_the_lower_number_and_dense_rows_agree(n_clusters, bounded, seed):
    random = np.random.default_rng(seed)
    dense = random.integers(-2, 3, (150, 6)).astype(float)
    places = [random.integers(-2, 3, (n_clusters, 6)).astype(float) for _ in range(3)]
    sparse = run(scipy.sparse.csr_matrix(dense), None, plain_frame(6), places, bounded=bounded)
    for number, (a, b) in enumerate(zip(sparse, run(dense, None, plain_frame(6), places, bounded=bounded))):
        expected = twins.squared_distances(dense, places[number]).argmin(axis=1)
        assert (a[0].labels == expected).all() and (b[0].labels == expected).all()
        assert (a[1][0] == b[1][0]).all() and (a[1][2] == b[1][2]).all()


@given(
    n_clusters=st.integers(1, 66),
    step=st.sampled_from([1e-9, 1e-4, 1e-2, 0.3]),
    unit=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_bounds_carried_over_many_movements_never_keep_a_wrong_centre(n_clusters, step, unit, seed):
    random = np.random.default_rng(seed)
    X = sparse_rows(random, 300, 30, 0.2, np.float64)
    frame = Frame(np.zeros(30), 1.0, unit)
    places = [frame.enter(X[random.integers(300, size=n_clusters)].toarray())]
    for _ in range(12):
        places.append(frame.enter(places[-1] + step * random.normal(size=places[0].shape)))
    for a, b in zip(run(X, None, frame, places, bounded=False), run(X, None, frame, places, bounded=True)):
        assert (a[0].labels == b[0].labels).all() and a[2] == b[2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_distances_are_those_of_the_dense_kernel(dtype, index_dtype):
    X = sparse_rows(rng, 400, 25, 0.2, dtype, index_dtype)
    ruler = Ruler(Frame(np.zeros(25), 0.5), rng.normal(size=(11, 25)))
    np.testing.assert_allclose(ruler.distances(X), ruler.distances(X.toarray()), rtol=1e-12)
    assert (ruler.labels(X) == ruler.labels(X.toarray())).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 63, 4096, 4999])
@pytest.mark.parametrize("unit", [False, True])
def test_a_value_that_is_not_finite_is_blamed_where_it_stands(value, row, unit):
    X = sparse_rows(rng, 5000, 9, 0.0, np.float64).tolil()
    X[row, 7] = value
    X[4999, 2] = 1.0
    name = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(DataError, match=f"{name}, for instance at row {row}, column 7"):
        Ruler(Frame(np.zeros(9), 1.0, unit), np.eye(9)).labels(X.tocsr())


def test_read_only_rows_and_weights_are_read():
    X, weights = sparse_rows(rng, 60, 8, 0.3, np.float64), rng.random(60)
    for array in (X.data, X.indices, X.indptr, weights):
        array.flags.writeable = False
    ruler, held = Ruler(plain_frame(8), np.eye(8)), Held(60, True)
    totals = (np.zeros((8, 9)), np.zeros((8, 9)), np.zeros(8, np.int64))
    ruler.assign(X, weights, held, ruler.motion_from(None), first=True, totals=totals)
    np.testing.assert_allclose(totals[0][:, -1].sum(), weights.sum())


def test_explicit_zeros_count_as_zeros():
    X = scipy.sparse.csr_matrix((np.array([0.0, 2.0, 0.0]), np.array([0, 1, 1]), np.array([0, 2, 3])), shape=(2, 3))
    ruler = Ruler(plain_frame(3), np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    assert ruler.labels(X).tolist() == [0, 1]
    np.testing.assert_allclose(ruler.distances(X), [[0, 2], [2, 0]])
