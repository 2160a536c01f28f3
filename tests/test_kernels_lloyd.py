"""The dense Lloyd kernel against plain numpy."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dparallel.errors import DataError
from dparallel.kernels.ruler import Frame, Held, Ruler
from tests import twins

DTYPES = [np.float32, np.float64]
rng = np.random.default_rng(7)


def plain_frame(n_features):
    return Frame(np.zeros(n_features))


def fresh(n_clusters, n_features):
    shape = (n_clusters, n_features + 1)
    return np.zeros(shape), np.zeros(shape), np.zeros(n_clusters, np.int64)


def run(X, weights, frame, places, *, bounded):
    """Assign X to one set of centres after the other; yields the held state and totals after each."""
    held, totals, before = Held(X.shape[0], bounded), fresh(*places[0].shape), None
    for number, centres in enumerate(places):
        ruler = Ruler(frame, centres)
        motion = ruler.motion_from(before) if bounded else None
        changed, measured = ruler.assign(X, weights, held, motion, first=number == 0, totals=totals)
        before = centres
        yield held, totals, changed, measured


def assert_totals(totals, rows, weights, labels):
    sums, rest, members = totals
    expected = twins.exact_sums(rows, weights, labels, len(members))
    largest = np.abs(rows).max(initial=1.0) * weights.max(initial=1.0)
    for j in range(len(members)):
        for column, value in enumerate(expected[j]):
            found = Fraction(float(sums[j, column])) + Fraction(float(rest[j, column]))
            assert abs(found - value) <= Fraction(float(largest)) * len(rows) ** 2 * Fraction(1, 2**100)
    assert members.tolist() == [int(((labels == j) & (weights > 0)).sum()) for j in range(len(members))]


@given(
    n_rows=st.one_of(st.integers(0, 300), st.sampled_from([31, 32, 33, 63, 64, 65, 127, 128, 129])),
    n_features=st.integers(1, 70),
    n_clusters=st.one_of(st.integers(1, 70), st.sampled_from([3, 4, 5, 31, 32, 33, 63, 64, 65])),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(twins.LAYOUTS),
    bounded=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 10**6),
)
@example(0, 3, 2, np.float64, "C", True, True, 0)
@example(1, 1, 1, np.float32, "reversed", True, False, 0)
def test_labels_are_nearest_and_totals_exact(n_rows, n_features, n_clusters, dtype, layout, bounded, weighted, seed):
    random = np.random.default_rng(seed)
    values = (random.normal(size=(n_rows, n_features)) * random.choice([0.1, 1, 30])).astype(dtype)
    X = twins.lay_out(values, layout)
    frame = Frame(random.normal(size=n_features), 0.5)
    rows = (values.astype(np.float64) - frame.shift) * frame.scale
    weights = random.choice([0.0, 0.3, 1.0, 7.5], n_rows) if weighted else None
    places = [random.normal(size=(n_clusters, n_features)) * 3]
    for step in (1.0, 0.1, 0.01, 0.0):
        places.append(places[-1] + step * random.normal(size=(n_clusters, n_features)))
    labels = np.zeros(n_rows, np.int32)
    for number, (held, sums, changed, measured) in enumerate(run(X, weights, frame, places, bounded=bounded)):
        twins.assert_nearest(held.labels, rows, places[number])
        assert changed == (n_rows if number == 0 else (held.labels != labels).sum())
        assert measured <= n_rows
        labels, totals = held.labels.copy(), sums
    assert_totals(totals, rows, np.ones(n_rows) if weights is None else weights, labels)


@given(
    n_features=st.integers(1, 12),
    n_clusters=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    bounded=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_ties_go_to_the_lower_number(n_features, n_clusters, dtype, bounded, seed):
    random = np.random.default_rng(seed)
    X = random.integers(-4, 5, (200, n_features)).astype(dtype)
    places = [random.integers(-4, 5, (n_clusters, n_features)).astype(float) for _ in range(3)]
    places += [np.repeat(places[0][: -(-n_clusters // 2)], 2, axis=0)[:n_clusters], places[2]]
    for number, (held, *_) in enumerate(run(X, None, plain_frame(n_features), places, bounded=bounded)):
        assert (held.labels == twins.squared_distances(X, places[number]).argmin(axis=1)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6, 1e8])
def test_rows_far_from_the_origin_are_told_apart_as_near_it(dtype, offset):
    values = (offset + rng.normal(size=(5000, 6)) * max(1.0, offset * 1e-6)).astype(dtype)
    frame = Frame(values[0].astype(np.float64))
    centres = frame.enter(values[:20])
    twins.assert_nearest(Ruler(frame, centres).labels(values), frame.enter(values), centres)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [-30, -15, 0, 15, 30])
def test_labels_do_not_depend_on_the_scale_of_the_data(dtype, exponent):
    values = (rng.normal(size=(3000, 5)) * 10.0**exponent).astype(dtype)
    frame = Frame(np.zeros(5), 2.0 ** -np.round(exponent * np.log2(10)))
    centres = frame.enter(values[:30])
    twins.assert_nearest(Ruler(frame, centres).labels(values), frame.enter(values), centres)


@pytest.mark.parametrize("exponent", [-30, -15, 15, 30])
def test_labels_are_right_in_a_frame_that_does_not_fit_the_data(exponent):
    X = rng.normal(size=(2000, 5)) * 10.0**exponent
    places = [X[:30], X[30:60], X[30:60] * 1.001]
    for bounded in (False, True):
        for number, (held, *_) in enumerate(run(X, None, plain_frame(5), places, bounded=bounded)):
            twins.assert_nearest(held.labels, X, places[number])


def test_columns_of_very_different_size_are_measured_in_float64():
    X = np.column_stack([1e9 * rng.standard_t(1, 3000), 1e-3 * rng.normal(size=3000), rng.lognormal(0, 4, 3000)])
    places = [X[:40], X[:40] * 1.0001, X[40:80]]
    plain = [held.labels.copy() for held, *_ in run(X, None, plain_frame(3), places, bounded=False)]
    bound = [held.labels.copy() for held, *_ in run(X, None, plain_frame(3), places, bounded=True)]
    for number, centres in enumerate(places):
        twins.assert_nearest(plain[number], X, centres)
        assert (plain[number] == bound[number]).all()


@given(
    n_features=st.integers(1, 40),
    n_clusters=st.integers(1, 66),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["blobs", "cloud", "heavy", "grid", "line"]),
    step=st.sampled_from([1e-9, 1e-4, 1e-2, 0.3]),
    seed=st.integers(0, 10**6),
)
def test_bounds_carried_over_many_movements_never_keep_a_wrong_centre(n_features, n_clusters, dtype, kind, step, seed):
    random = np.random.default_rng(seed)
    shape = (400, n_features)
    X = {
        "blobs": lambda: (
            10 * random.normal(size=(7, n_features))[random.integers(7, size=400)] + random.normal(size=shape)
        ),
        "cloud": lambda: random.normal(size=shape),
        "heavy": lambda: random.standard_t(1, shape) * 10.0 ** random.integers(-3, 4, n_features),
        "grid": lambda: random.integers(-2, 3, shape).astype(float),
        "line": lambda: np.outer(random.normal(size=400), random.normal(size=n_features)),
    }[kind]().astype(dtype)
    places = [X[random.integers(400, size=n_clusters)].astype(np.float64)]
    for _ in range(15):
        move = step * random.normal(size=places[0].shape) * (random.random((n_clusters, 1)) < 0.5)
        places.append(places[-1] + move * np.abs(places[0]).mean())
    frame = plain_frame(n_features)
    plain = run(X, None, frame, places, bounded=False)
    bound = run(X, None, frame, places, bounded=True)
    for (a, totals_a, changed_a, _), (b, totals_b, changed_b, _) in zip(plain, bound):
        assert (a.labels == b.labels).all()
        assert changed_a == changed_b
        assert (totals_a[2] == totals_b[2]).all()
    assert (totals_a[0] + totals_a[1] == totals_b[0] + totals_b[1]).all()


def test_bounds_spare_most_measurements_once_centres_rest():
    X = np.concatenate([centre + rng.normal(size=(500, 4)) for centre in 50 * rng.normal(size=(8, 4))])
    centres = X[::500].copy()
    *_, (_, _, changed, measured) = run(X, None, plain_frame(4), [centres] * 3, bounded=True)
    assert changed == 0 and measured < 100


def test_sums_are_exact_after_rows_of_very_different_size_came_and_went():
    X = np.array([[1e16], [1.0], [-1e16], [2.0**-30], [1e9], [1e-3]])
    places = [np.array([[-1e16], [1e16]]), np.array([[0.0], [1e16]]), np.array([[-1e16], [1.0]])]
    for held, totals, *_ in run(X, np.array([1.0, 3.0, 0.1, 7.0, 0.0, 0.7]), plain_frame(1), places, bounded=True):
        assert_totals(totals, X, np.array([1.0, 3.0, 0.1, 7.0, 0.0, 0.7]), held.labels)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row, column", [(0, 0), (63, 2), (64, 0), (4095, 1), (4096, 2), (4999, 2)])
def test_a_value_that_is_not_finite_is_blamed_where_it_stands(dtype, value, row, column):
    X = np.ones((5000, 3), dtype)
    X[row, column] = value
    name = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(DataError, match=f"{name}, for instance at row {row}, column {column}"):
        Ruler(plain_frame(3), np.eye(3)).labels(X)


def test_a_row_that_turns_bad_between_rounds_is_found_when_it_is_measured():
    X = rng.normal(size=(100, 3))
    held, first = Held(100, True), Ruler(plain_frame(3), X[:5])
    first.assign(X, None, held, first.motion_from(None), first=True)
    X[50] = np.nan
    moved = Ruler(plain_frame(3), X[5:10])
    with pytest.raises(DataError, match="row 50, column 0"):
        moved.assign(X, None, held, moved.motion_from(first.centres), first=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_rows_are_compared_by_direction(dtype):
    X = rng.normal(size=(700, 9)).astype(dtype)
    X[5] = 0
    frame = Frame(np.zeros(9), 1.0, True)
    centres = frame.enter(rng.normal(size=(13, 9)))
    rows = frame.enter(X)
    ruler = Ruler(frame, centres)
    labels = ruler.labels(X)
    twins.assert_nearest(labels, rows, centres)
    assert labels[5] in np.flatnonzero(np.isclose(ruler.norms, ruler.norms.min()))
    np.testing.assert_allclose(
        ruler.squared_distances(X, labels), ((rows - centres[labels]) ** 2).sum(axis=1), rtol=1e-13
    )


@given(
    n_rows=st.integers(0, 200),
    n_features=st.integers(1, 70),
    n_clusters=st.integers(1, 20),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(twins.LAYOUTS),
    seed=st.integers(0, 10**6),
)
def test_distances_are_those_of_long_double(n_rows, n_features, n_clusters, dtype, layout, seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=(n_rows, n_features)).astype(dtype)
    frame = Frame(random.normal(size=n_features), 4.0)
    ruler = Ruler(frame, random.normal(size=(n_clusters, n_features)))
    expected = twins.squared_distances((values.astype(np.float64) - frame.shift) * 4.0, ruler.centres).astype(float)
    X = twins.lay_out(values, layout)
    np.testing.assert_allclose(ruler.distances(X), np.sqrt(expected), rtol=1e-13)
    labels = random.integers(n_clusters, size=n_rows).astype(np.int32)
    np.testing.assert_allclose(ruler.squared_distances(X, labels), expected[np.arange(n_rows), labels], rtol=1e-13)


def test_a_row_on_its_centre_is_at_distance_zero():
    X = 1e8 + rng.normal(size=(50, 7))
    frame = Frame(X[0].copy(), 0.25)
    ruler = Ruler(frame, frame.enter(X))
    assert (ruler.squared_distances(X, np.arange(50, dtype=np.int32)) == 0).all()


def test_rows_share_no_bits_with_their_neighbours():
    X = rng.normal(size=(5000, 17))
    ruler = Ruler(plain_frame(17), rng.normal(size=(23, 17)))
    held, alone = Held(5000, True), Held(1, True)
    ruler.assign(X, None, held, ruler.motion_from(None), first=True)
    for row in (0, 1, 77, 4095, 4096, 4999):
        ruler.assign(X[row : row + 1], None, alone, ruler.motion_from(None), first=True)
        assert alone.labels[0] == held.labels[row]
