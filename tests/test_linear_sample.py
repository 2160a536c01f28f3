"""The Hessian of a sample: that of all rows where it is all of them, and made like it where it is not."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import scipy.special
from sklearn.linear_model import LogisticRegression

from dparallel import ParallelLogisticRegression
from dparallel.estimators.linear.rows import RowLandscape
from dparallel.estimators.linear.sample import Sample
from dparallel.pools import one_thread

rng = np.random.default_rng(0)


def plain(X, centre, bend):
    rows = np.column_stack([X - centre, np.ones(len(X))])
    return rows.T @ (rows * bend[:, None])


@pytest.mark.parametrize("make", [np.asarray, scipy.sparse.csr_matrix], ids=["dense", "csr"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_sample_of_all_rows_is_their_hessian_whatever_the_order(make, weighted):
    X, centre = rng.normal(size=(300, 4)) * [1, 10, 0.1, 1], rng.normal(size=4)
    weights = rng.random(300) if weighted else None
    bend = rng.random(300) * (1 if weights is None else weights)
    mean_squares = np.full(4, 7.0)  # not needed
    total = Sample.nothing(4)
    for rows in (slice(100, 300), slice(0, 100)):
        part = Sample.nothing(4)
        part.take(make(X[rows]), centre, bend[rows], None if weights is None else weights[rows])
        part.stand_for(bend[rows], None if weights is None else weights[rows])
        total = total.merge(part)
    np.testing.assert_allclose(total.calibrated(mean_squares), plain(X, centre, bend), rtol=1e-12, atol=1e-12)


def test_a_sample_is_stretched_to_the_squares_of_all_rows():
    X, bend = rng.normal(size=(4000, 3)) * [1, 100, 0.01], rng.random(4000)
    X[::2, 1] *= 3  # the sample has twice as many of them as there are
    sample = Sample.nothing(3)
    chosen = np.concatenate([np.arange(0, 2000, 2), np.arange(1, 1000, 2)])
    sample.take(X[chosen], np.zeros(3), bend[chosen], None)
    sample.stand_for(bend, None)
    found, expected = sample.calibrated((X**2).mean(axis=0)), plain(X, np.zeros(3), bend)
    np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=0.1)


def test_a_column_that_the_sample_misses_bends_as_much_as_rows_do_on_average():
    X, bend = rng.normal(size=(1000, 3)), rng.random(1000)
    X[:, 1] = 0
    X[999, 1] = 5
    sample = Sample.nothing(3)
    sample.take(X[:500], np.zeros(3), bend[:500], None)
    sample.stand_for(bend, None)
    found = sample.calibrated((X**2).mean(axis=0))
    assert found[1, 1] == pytest.approx(25 * bend[:500].mean())
    np.testing.assert_array_equal(found[1, [0, 2, 3]], 0)


def test_nothing_at_all_is_no_hessian():
    np.testing.assert_array_equal(Sample.nothing(2).calibrated(np.zeros(2)), np.zeros((3, 3)))


@pytest.mark.parametrize("class_weight", ["balanced", {False: 0.01, True: 20.0}])
def test_weights_of_classes_lead_to_the_optimum_of_scikit_learn(class_weight):
    X, y = rare_columns(60_000)
    model = ParallelLogisticRegression(C=1.0, tol=1e-12, max_iter=80, class_weight=class_weight).fit(X, y)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000, solver="newton-cholesky", class_weight=class_weight)
    with one_thread("blas"):  # two would spin beside another test
        theirs.fit(X, y)
    np.testing.assert_allclose(model.coef_, theirs.coef_, rtol=1e-5, atol=1e-5)
    assert model.n_iter_[0] <= 40


def rare_columns(n_rows):
    """Numbers beside indicators of which some are set in a handful of rows, and rows sorted by their labels."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n_rows, 40))
    X[:, 4:12] = rng.random((n_rows, 8)) < np.array([0.5, 0.1, 1e-2, 1e-3, 3e-4, 3e-4, 1e-4, 1e-4])
    X[:, 3] = rng.standard_t(2, size=n_rows) * 30
    y = rng.random(n_rows) < scipy.special.expit(X[:, :12] @ rng.normal(size=12))
    order = np.argsort(y, kind="stable")
    return X[order], y[order]


@pytest.mark.parametrize("n_chunks", [None, 7])
def test_rare_columns_heavy_tails_and_sorted_labels_lead_to_the_optimum_of_scikit_learn(monkeypatch, n_chunks):
    chosen = []
    choose = RowLandscape._choose_sample
    monkeypatch.setattr(RowLandscape, "_choose_sample", lambda self: chosen.append(choose(self)) or chosen[-1])
    X, y = rare_columns(120_000)
    given = X, y
    if n_chunks is not None:
        given = (da.from_array(each, chunks=(len(each) // n_chunks, *each.shape[1:])) for each in given)
    model = ParallelLogisticRegression(C=1.0, tol=1e-9, max_iter=60).fit(*given)
    (every, is_beside) = chosen[0]
    assert every > 3 and is_beside  # a sample it was
    with one_thread("blas"):
        expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000, solver="newton-cholesky").fit(X, y)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-5, atol=1e-5)
    assert model.n_iter_[0] <= 20  # Newton's method takes 15


@pytest.mark.parametrize(("n_rows", "n_columns", "every", "is_beside"), [
    (900_000, 100, 14, True),  # 600 rows for each column
    (200_000, 100, 10, True),  # fewer, so that they cost no more than half a pass
    (50_000, 100, 4, False),  # 100 for each column, in rounds of their own
    (5_000, 100, 1, False),  # all
    (900_000, 25, 1, False),  # all, since they cost little
    (10**7, 2000, 1, False),  # a diagonal
])  # fmt: skip
def test_how_many_rows_a_sample_has_depends_on_what_they_cost(n_rows, n_columns, every, is_beside):
    class Loss:
        is_quadratic = False

    class Some:
        pass

    landscape = RowLandscape.__new__(RowLandscape)
    landscape.rounds, landscape.reading = Some(), Some()
    landscape.rounds.n_rows, landscape.reading.objective = n_rows, Some()
    landscape.reading.objective.loss = Loss()
    landscape.parameters = np.zeros((n_columns + 1, 1))
    assert landscape._choose_sample() == (every, is_beside)
    Loss.is_quadratic = True
    assert landscape._choose_sample() == (1, False)
