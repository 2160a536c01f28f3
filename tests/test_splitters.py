"""Splits of data in blocks: scikit-learn's folds, or a function of seed and row number, whatever the blocks."""

import dask
import dask.array as da
import numpy as np
import pytest
import sklearn.model_selection as theirs
from hypothesis import given, settings
from hypothesis import strategies as st

from dparallel.errors import AlignmentError, DataError, DataKindError
from dparallel.model_selection import (
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    parts,
    select,
    train_test_split,
)
from dparallel.model_selection.rules import Listed, shuffled
from tests.test_metrics import unknown
from tests.versions import since

CUTS = [(97,), (0, 40, 0, 50, 7, 0), (1, 95, 1), (10,) * 9 + (7,)]
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.choice(["ant", "bee", "cat"], 97, p=[0.6, 0.3, 0.1])
GROUPS = RANDOM.integers(20, size=97) ** 2


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def cut(values, cuts, known=False):
    array = da.from_array(values, chunks=(cuts, *values.shape[1:]))
    return array if known else unknown(array)


def selected(splitter, cuts, known=False, **about):
    """The row numbers of each split, by selecting them from blocks."""
    X = cut(np.arange(97), cuts, known)
    about = {name: cut(values, cuts, known) for name, values in about.items()}
    return [[select(X, part).compute() for part in pair] for pair in splitter.parts(X, **about)]


def assert_same_splits(ours, theirs):
    assert len(ours) == len(theirs)
    for pair, other in zip(ours, theirs):
        for rows, expected in zip(pair, other):
            np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("n_splits", [2, 5])
def test_folds_without_shuffle_are_scikit_learns(cuts, n_splits, known):
    X = np.zeros(97)
    assert_same_splits(selected(KFold(n_splits), cuts, known), list(theirs.KFold(n_splits).split(X)))
    for labels in (LABELS, (LABELS == "ant").astype(int), LABELS == "bee"):
        expected = list(theirs.StratifiedKFold(n_splits).split(X, labels))
        assert_same_splits(selected(StratifiedKFold(n_splits), cuts, known, y=labels), expected)


@since(1, 9, "GroupKFold")
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("n_splits", [2, 5])
def test_folds_of_groups_are_scikit_learns(cuts, n_splits, known):
    X = np.zeros(97)
    expected = list(theirs.GroupKFold(n_splits).split(X, groups=GROUPS))
    assert_same_splits(selected(GroupKFold(n_splits), cuts, known, groups=GROUPS), expected)
    expected = list(theirs.GroupKFold(n_splits, shuffle=True, random_state=3).split(X, groups=GROUPS))
    assert_same_splits(selected(GroupKFold(n_splits, shuffle=True, random_state=3), cuts, groups=GROUPS), expected)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 97), max_size=5), st.integers(2, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_any_blocks_and_classes_give_scikit_learns_strata(edges, n_splits, n_classes, seed):
    edges = [0, *sorted(edges), 97]
    labels = np.random.default_rng(seed).integers(n_classes, size=97)
    cuts = tuple(high - low for low, high in zip(edges, edges[1:]))
    if n_splits <= np.bincount(labels).min():
        expected = list(theirs.StratifiedKFold(n_splits).split(labels, labels))
        assert_same_splits(selected(StratifiedKFold(n_splits), cuts, y=labels), expected)


SHUFFLED = [
    KFold(5, shuffle=True, random_state=1),
    StratifiedKFold(5, shuffle=True, random_state=1),
    ShuffleSplit(3, test_size=0.2, random_state=1),
    ShuffleSplit(3, test_size=10, train_size=0.5, random_state=1),
]


@pytest.mark.parametrize("splitter", SHUFFLED, ids=lambda splitter: type(splitter).__name__)
def test_shuffled_splits_do_not_depend_on_blocks_and_have_scikit_learns_sizes(splitter):
    about = {"y": LABELS} if isinstance(splitter, StratifiedKFold) else {}
    first = selected(splitter, CUTS[0], **about)
    for cuts in CUTS[1:]:
        assert_same_splits(selected(splitter, cuts, **about), first)
    expected = list(getattr(theirs, type(splitter).__name__)(**vars(splitter)).split(np.zeros(97), LABELS))
    for (train, test), (their_train, their_test) in zip(first, expected, strict=True):
        assert len(train) == len(their_train) and len(test) == len(their_test)
        assert not set(train) & set(test)
    if isinstance(splitter, (KFold, StratifiedKFold)):
        assert sorted(np.concatenate([test for _, test in first])) == list(range(97))
        assert any((np.diff(test) > 1).any() for _, test in first)
    assert_same_splits(selected(splitter, CUTS[1], **about), first)  # the same once more


def test_shuffled_strata_have_the_same_share_of_each_class():
    for train, test in selected(StratifiedKFold(5, shuffle=True, random_state=0), CUTS[1], y=LABELS):
        for label in ("ant", "bee", "cat"):
            assert abs((LABELS[test] == label).sum() - np.count_nonzero(label == LABELS) / 5) <= 1
        assert len(train) + len(test) == 97


@given(st.integers(1, 3000), st.integers(0, 2**63))
@settings(max_examples=30, deadline=None)
def test_a_shuffle_is_a_permutation(n, key):
    places = shuffled(np.arange(n), n, np.uint64(key))
    assert sorted(places) == list(range(n))


def test_a_shuffle_looks_random():
    """Chi-squared test of where the first tenth goes, over many keys."""
    counts = sum(
        np.bincount(shuffled(np.arange(10), 100, np.uint64(key * 7919)) // 10, minlength=10) for key in range(2000)
    )
    assert ((counts - 2000) ** 2 / 2000).sum() < 30  # 9 degrees of freedom: p = 0.0004


def test_blocks_without_chosen_rows_are_not_read():
    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"][0])
        return np.zeros(10)

    X = da.map_blocks(block, chunks=((10,) * 10,), dtype=float, meta=np.empty(0))
    _, test = KFold(5).parts(X)[1]
    rows = select(X, test)
    assert read == [] and rows.chunks == ((10, 10),)
    rows.compute()
    assert sorted(read) == [2, 3]


def test_whole_blocks_and_runs_of_rows_are_not_copied():
    block = np.arange(20.0).reshape(10, 2)
    for rows, run in ((range(10), slice(0, 10)), (range(3, 7), slice(3, 7)), ([9], slice(9, 10))):
        found = parts._take(block, Listed(np.array(rows)), 10, None)
        np.testing.assert_array_equal(found, block[run])
        assert np.shares_memory(found, block)
    for rows in ([3, 2], [1, 3, 3, 4], [2, 1, 3, 4], []):
        found = parts._take(block, Listed(np.array(rows, np.int64)), 10, None)
        np.testing.assert_array_equal(found, block[np.array(rows, np.int64)])


@pytest.mark.parametrize("make", [np.asarray, list])
def test_scikit_learns_searches_get_row_numbers_of_anything(make):
    X = make(np.zeros(97))
    assert_same_splits(list(KFold(3).split(X)), list(theirs.KFold(3).split(X)))
    assert_same_splits(list(StratifiedKFold(3).split(X, LABELS)), list(theirs.StratifiedKFold(3).split(X, LABELS)))
    assert KFold(3).get_n_splits() == 3


@since(1, 9, "GroupKFold")
def test_scikit_learns_searches_get_row_numbers_of_groups():
    lazy = cut(np.zeros(97), CUTS[1])
    ours = GroupKFold(3).split(lazy, groups=cut(GROUPS, CUTS[1]))
    assert_same_splits(list(ours), list(theirs.GroupKFold(3).split(np.zeros(97), groups=GROUPS)))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("sizes", [{}, {"test_size": 0.3}, {"train_size": 20, "test_size": 7}, {"train_size": 0.5}])
def test_train_test_split_has_scikit_learns_sizes_and_keeps_rows_together(cuts, sizes, known):
    X, y = np.arange(194).reshape(97, 2), np.arange(97)
    parts = train_test_split(cut(X, cuts, known), cut(y, cuts, known), random_state=0, **sizes)
    expected = theirs.train_test_split(X, y, random_state=0, **sizes)
    train, test, y_train, y_test = (part.compute() for part in parts)
    assert [len(part) for part in (train, test, y_train, y_test)] == [len(part) for part in expected]
    assert (train[:, 0] == 2 * y_train).all() and (test[:, 0] == 2 * y_test).all()
    assert not set(y_train) & set(y_test)
    again = train_test_split(cut(X, CUTS[1]), cut(y, CUTS[1]), random_state=0, **sizes)
    np.testing.assert_array_equal(again[3].compute(), y_test)
    in_order = train_test_split(cut(y, cuts, known), shuffle=False, **sizes)
    expected = theirs.train_test_split(y, shuffle=False, **sizes)
    for part, other in zip(in_order, expected):
        np.testing.assert_array_equal(part.compute(), other)


def test_train_test_split_of_strata_gives_both_sides_the_same_shares():
    y = cut(LABELS, CUTS[1])
    train, test = (part.compute() for part in train_test_split(y, test_size=0.25, stratify=y, random_state=0))
    for label in ("ant", "bee", "cat"):
        assert abs((test == label).sum() - 0.25 * np.count_nonzero(label == LABELS)) <= 1
    assert len(train) + len(test) == 97


def test_dataframes_are_split_lazily_and_keep_their_index():
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    frame = pandas.DataFrame({"a": np.arange(97.0), "y": LABELS}, index=np.arange(97) + 5)
    lazy = dd.from_pandas(frame, npartitions=6)
    lazy = lazy[lazy.a != 3]
    whole = lazy.compute()
    train, test, y_train, y_test = train_test_split(lazy, lazy.y, test_size=20, random_state=0)
    assert isinstance(test, dd.DataFrame) and isinstance(y_test, dd.Series)
    assert len(test) == 20 and len(train) == 76
    assert (test.compute().y == y_test.compute()).all() and (train.compute().index == y_train.compute().index).all()
    pd = theirs.StratifiedKFold(3).split(whole, whole.y)
    for (train, test), expected in zip(StratifiedKFold(3).parts(lazy, lazy.y), pd):
        pandas.testing.assert_frame_equal(select(lazy, train).compute(), whole.iloc[expected[0]])
        pandas.testing.assert_series_equal(select(lazy.y, test).compute(), whole.y.iloc[expected[1]])


@pytest.mark.parametrize(
    "error, words, act",
    [
        (DataError, "n_splits=98", lambda X: KFold(98).parts(X)),
        (ValueError, "n_splits=1", lambda X: KFold(1)),
        (TypeError, "Integral", lambda X: KFold(2.5)),
        (ValueError, "random_state", lambda X: KFold(2, random_state=0)),
        (DataError, "'y' parameter", lambda X: StratifiedKFold(2).parts(X)),
        (DataError, "'groups' parameter", lambda X: GroupKFold(2).parts(X)),
        (DataError, "continuous", lambda X: StratifiedKFold(2).parts(X, X / 2)),
        (DataError, "each class", lambda X: StratifiedKFold(60).parts(X, X)),
        (DataError, "number of groups: 1", lambda X: GroupKFold(2).parts(X, groups=X * 0)),
        (DataError, "test_size=98", lambda X: train_test_split(X, test_size=98)),
        (DataError, "test_size=1.5", lambda X: ShuffleSplit(test_size=1.5).parts(X)),
        (DataError, "shuffle=False", lambda X: train_test_split(X, stratify=X, shuffle=False)),
        (DataError, "sum of train_size", lambda X: train_test_split(X, test_size=0.6, train_size=0.6)),
        (DataKindError, "in memory", lambda X: train_test_split(X, np.zeros(97))),
        (AlignmentError, "2 blocks", lambda X: StratifiedKFold(2).parts(X, cut(np.arange(97), (50, 47)))),
        (AlignmentError, "has 2 blocks", lambda X: train_test_split(X, cut(np.arange(97), (50, 47)))),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_refused(error, words, act):
    with pytest.raises(error, match=words):
        act(cut(np.arange(97), CUTS[1]))


def test_a_class_with_few_rows_is_warned_of():
    with pytest.warns(UserWarning, match="least populated class in y has only 1"):
        StratifiedKFold(3).parts(cut(np.arange(97), (97,)), cut(np.array([0] * 96 + [1]), (97,)))


def test_blocks_that_change_between_reads_are_found_out():
    lengths = iter([5, 6])
    X = unknown(da.map_blocks(lambda: np.zeros(next(lengths)), chunks=((1,),), dtype=float, meta=np.empty(0)))
    train, _ = train_test_split(X, random_state=0)
    with pytest.raises(AlignmentError, match="6 rows, and 5 were counted"):
        train.compute()
