"""map_reduce gives what a plain loop gives, wherever it runs and whatever dies."""

import gc
import gzip
import operator
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from decimal import Decimal
from fractions import Fraction
from itertools import chain

import dask
import dask.bag
import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

import dparallel
from benchmarks.text import write_text
from dparallel import map_reduce
from dparallel.errors import DataError, DataKindError, MapReduceError
from dparallel.mapreduce import Counters, Fold, partition_of, tasks
from dparallel.mapreduce.garbage import NEW_CONTAINERS, seldom_searched

LINES = [["to be or not to be", "that is the question"], [], ["to sleep to dream"], ["the rest is silence"]]
ALL_LINES = [line for part in LINES for line in part]


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def threads():
    with dask.config.set(scheduler="threads"):
        yield


def words(line):
    for word in line.split():
        yield word, 1


def documents(line):
    document, *rest = line.split()
    for word in rest:
        yield word, document


def total(word, counts):
    return sum(counts)


def listed(key, values):
    return list(values)


def distinct(word, found):
    return sorted(set(found))


def count_plainly(lines):
    return Counter(word for line in lines for word in line.split())


def index_plainly(lines):
    index = defaultdict(set)
    for line in lines:
        document, *rest = line.split()
        for word in rest:
            index[word].add(document)
    return {word: sorted(found) for word, found in index.items()}


def all_lines(path):
    return path.read_text(encoding="utf-8").splitlines()


# what it computes


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("combiner", [None, total])
@pytest.mark.parametrize("n_reducers", [1, 3, "auto"])
def test_word_count_is_that_of_a_plain_loop(scheduler, combiner, n_reducers):
    result = map_reduce(LINES, words, total, combiner=combiner, n_reducers=n_reducers)
    assert result.npartitions == (4 if n_reducers == "auto" else n_reducers)
    found = result.compute(scheduler=scheduler)
    assert len(found) == len(dict(found))
    assert dict(found) == count_plainly(ALL_LINES)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(-3, 3) | st.booleans() | st.sampled_from([0.0, -0.0, 1.0]), st.integers()))
    ),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
)
def test_values_of_equal_keys_meet_in_the_order_of_the_source(parts, n_reducers, sort, small):
    expected = defaultdict(list)
    for key, value in chain.from_iterable(parts):
        expected[key].append(value)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(tasks, "FIRST_RECORDS", 1)
            patch.setattr(tasks, "PAIRS_AT_ONCE", 1)
        result = map_reduce(parts or [[]], lambda pair: [pair], listed, n_reducers=n_reducers, sort=sort)
        assert dict(result.compute(scheduler="sync")) == expected


@given(st.lists(st.lists(st.text("ab ", max_size=8), max_size=6), min_size=1, max_size=4), st.integers(1, 50))
def test_combining_early_and_often_changes_nothing(parts, pairs_at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "FIRST_RECORDS", 1)
        patch.setattr(tasks, "PAIRS_AT_ONCE", pairs_at_once)
        result = map_reduce(parts, words, total, combiner=total)
        assert dict(result.compute(scheduler="sync")) == count_plainly(chain.from_iterable(parts))


def test_keys_are_sorted_within_a_partition():
    result = map_reduce([range(100), range(50, 200)], lambda n: [(n * 7 % 101, n)], listed, n_reducers=3)
    parts = dask.compute(*result.to_delayed(), scheduler="sync")
    assert len(parts) == 3 and all(parts)
    for part in parts:
        assert [key for key, _ in part] == sorted(key for key, _ in part)


def test_unsorted_keys_come_in_the_order_of_the_source():
    found = map_reduce([["b a"], ["c a"]], words, total, n_reducers=1, sort=False).compute(scheduler="sync")
    assert found == [("b", 1), ("a", 2), ("c", 1)]


def test_a_partitioner_chooses_the_partition_of_any_hashable_key():
    def mapper(n):
        yield frozenset([n % 4]), n

    result = map_reduce(
        [range(8), range(8, 16)], mapper, total, n_reducers=2, partitioner=lambda key, n: min(key) % n, sort=False
    )
    even, odd = dask.compute(*result.to_delayed(), scheduler="sync")
    assert {min(key) for key, _ in even} == {0, 2} and {min(key) for key, _ in odd} == {1, 3}


def test_the_source_may_be_a_bag_arrays_or_one_partition():
    bag = dask.bag.from_sequence(ALL_LINES, npartitions=3).map(str.upper)
    assert dict(map_reduce(bag, words, total).compute(scheduler="sync"))["TO"] == 4
    arrays = [np.arange(6).reshape(3, 2), np.ones((1, 2), int)]
    assert map_reduce(arrays, lambda row: [(0, int(row.sum()))], total).compute(scheduler="sync") == [(0, 17)]
    tricky = [[("sum", 1), (sum, (1, 2))]]  # neither a key nor a task of Dask
    assert map_reduce(tricky, lambda pair: [(0, pair)], listed).compute(scheduler="sync") == [(0, tricky[0])]


def test_text_is_read_by_path_glob_and_list_and_from_compressed_files(tmp_path):
    for number, part in enumerate(LINES):
        (tmp_path / f"{number}.txt").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
    with gzip.open(tmp_path / "more.gz", "wt", encoding="utf-8") as file:
        file.write("to be\n")
    plain = count_plainly(ALL_LINES)
    paths = [tmp_path / f"{number}.txt" for number in (0, 2, 3)]
    for source in (str(tmp_path / "*.txt"), paths, [str(path) for path in paths]):
        assert dict(map_reduce(source, words, total).compute(scheduler="sync")) == plain
    both = map_reduce([paths[0], tmp_path / "more.gz"], words, total).compute(scheduler="sync")
    assert dict(both) == count_plainly([*LINES[0], "to be"])


def test_the_result_is_a_lazy_bag(threads):
    calls = []

    def mapper(line):
        calls.append(line)
        return [(word, 1) for word in line.split()]

    result = map_reduce(LINES, mapper, total, combiner=total)
    often = result.filter(lambda pair: pair[1] > 1).pluck(0)
    assert isinstance(result, dask.bag.Bag) and not calls
    assert sorted(often.compute()) == ["be", "is", "the", "to"]
    assert dict(result.persist().compute()) == dict(result.compute())


# counters


def test_counters_tell_records_pairs_and_keys(threads):
    result = map_reduce([["a a b", "a"], [], ["b c"]], words, total, combiner=total)
    pairs, counters = dask.compute(result, result.counters)
    assert counters == Counters(n_records=3, n_pairs=6, n_combined=4, n_keys=3)
    assert dict(pairs) == {"a": 3, "b": 2, "c": 1}
    without = map_reduce([["a a b", "a"], [], ["b c"]], words, total)
    assert without.counters.compute() == Counters(n_records=3, n_pairs=6, n_combined=6, n_keys=3)


def test_counters_survive_persist_and_pickle(threads):
    result = map_reduce(LINES, words, total)
    held, counters = dask.persist(result, result.counters)
    assert counters.compute().n_keys == len(held.compute())
    assert pickle.loads(pickle.dumps(held)).counters.compute() == counters.compute()


def test_a_task_that_runs_twice_gives_the_same(threads):
    job = tasks.Job(words, total, None, partition_of, 2, True)
    parts = [job.map(i, part) for i, part in enumerate(LINES)]
    for j in range(2):
        buckets = [part[j] for part in parts]
        assert job.reduce(j, buckets) == job.reduce(j, buckets)
    assert [job.map(i, part) for i, part in enumerate(LINES)] == parts


# keys


@pytest.mark.parametrize(
    "keys",
    [
        (1, 1.0, True, np.int64(1), np.float32(1), Fraction(1), Decimal(1), 1 + 0j),
        (0, 0.0, -0.0, False),
        (2**70, float(2**70)),
        ("a", np.str_("a")),
        ((1, ("x", None)), (True, ("x", None)), (1.0, (np.str_("x"), None))),
    ],
)
def test_equal_keys_share_a_partition(keys):
    assert len(set(keys)) == 1
    for n in (1, 2, 7, 1000):
        assert len({partition_of(key, n) for key in keys}) == 1


def test_hashes_do_not_depend_on_the_process():
    keys = ["word", "ü\ud800", b"word", 1, -1, 2**80, 0.1, 1e308, True, None, ("a", 1, (None, b"")), (), ""]
    program = f"from dparallel.mapreduce import partition_of; print([partition_of(key, 10**9) for key in {keys!r}])"
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4294967295")
    }
    assert answers == {f"{[partition_of(key, 10**9) for key in keys]}\n"}


@pytest.mark.parametrize("keys", [range(0, 8000, 8), [f"w{i}" for i in range(1000)], [(i, i % 3) for i in range(1000)]])
@pytest.mark.parametrize("n", [2, 8, 10])
def test_keys_spread_over_the_partitions(keys, n):
    counts = np.bincount([partition_of(key, n) for key in keys], minlength=n)
    assert counts.min() > 0.6 * 1000 / n and counts.max() < 1.5 * 1000 / n


@pytest.mark.parametrize("key, error", [(frozenset(), DataKindError), ((1, object), DataKindError)])
def test_other_keys_are_refused_with_the_remedy(key, error):
    with pytest.raises(error, match=r"In partition 0 of the source.*give map_reduce a partitioner"):
        map_reduce([[0]], lambda record: [(key, 1)], total).compute(scheduler="sync")


@pytest.mark.parametrize("key", [float("nan"), ("a", float("nan"))])
def test_nan_is_refused(key):
    with pytest.raises(DataError, match="NaN"):
        map_reduce([[0]], lambda record: [(key, 1)], total).compute(scheduler="sync")


def test_keys_without_an_order_are_an_error_with_the_remedy():
    mixed = map_reduce([[1, "a"]], lambda key: [(key, 1)], total)
    with pytest.raises(DataKindError, match="sort=False"):
        mixed.compute(scheduler="sync")
    unsorted = map_reduce([[1, "a"]], lambda key: [(key, 1)], total, sort=False)
    assert dict(unsorted.compute(scheduler="sync")) == {1: 1, "a": 1}


# what the user's functions raise


def failing(line):
    if "fail" in line:
        raise LookupError("no such word")
    yield line, 1


def is_blamed(error, *texts):
    assert all(text in str(error.value) for text in texts), str(error.value)
    return error.value


def test_the_mapper_s_error_names_partition_and_record_and_its_cause():
    result = map_reduce([["a"], ["b"] * 2000 + ["fail", "c"]], failing, total)
    with pytest.raises(MapReduceError) as error:
        result.compute(scheduler="sync")
    blamed = is_blamed(error, "mapper failed at record 2000 of partition 1, 'fail'", "LookupError", "test_mapreduce.py")
    assert blamed.partition == 1 and isinstance(blamed.__cause__, LookupError)


def test_an_error_crosses_processes_with_its_cause(client):
    class Own(Exception):
        def __init__(self, what, why):
            super().__init__(f"{what} because {why}")  # cannot be built again from its args

    class Locked(Exception):
        def __init__(self):
            super().__init__("locked")
            self.lock = threading.Lock()  # cannot be pickled

    def own(line):
        raise Own(line, "so")

    def locked(line):
        raise Locked

    with pytest.raises(MapReduceError, match="partition 1, 'fail'") as error:
        map_reduce([["a"], ["fail"]], failing, total).compute()
    assert isinstance(error.value.__cause__, LookupError)
    for mapper, message in ((own, "Own: a because so"), (locked, "Locked: locked")):
        with pytest.raises(MapReduceError, match=message) as error:
            map_reduce([["a"]], mapper, total).compute()
        assert message.partition(": ")[2] in str(error.value.__cause__)


@pytest.mark.parametrize("mapper", [lambda line: [line], lambda line: [([], 1)], lambda line: None])
def test_a_mapper_that_yields_no_pairs_is_told_so(mapper):
    with pytest.raises(MapReduceError, match="yielded no pair of a hashable key and a value, at record 0"):
        map_reduce([["abc"]], mapper, total).compute(scheduler="sync")


def test_an_error_of_the_source_is_not_the_mapper_s():
    with pytest.raises(ZeroDivisionError):
        map_reduce(dask.bag.from_sequence([1, 0]).map(lambda n: 1 / n), words, total).compute(scheduler="sync")


@pytest.mark.parametrize("n_values", [8, 300])
def test_values_that_are_combined_early_keep_their_order_and_grow_in_bounds(n_values):
    longest = []

    def join(key, lists):
        longest.append(len(lists))
        return [item for part in lists for item in part]

    records = [[(n % 3, [n]) for n in range(3 * n_values)]]
    [found] = map_reduce(records, lambda pair: [pair], join, combiner=join, n_reducers=1).to_delayed()
    pairs = dict(found.compute(scheduler="sync"))
    assert pairs == {key: list(range(key, 3 * n_values, 3)) for key in range(3)}
    assert max(longest) <= 65


def test_a_combiner_that_fails_while_records_are_mapped_is_blamed_and_not_the_mapper():
    def fail(key, values):
        raise LookupError("no")

    with pytest.raises(MapReduceError, match="combiner failed at key 'a' in partition 0: LookupError: no"):
        map_reduce([["a " * 20]], words, total, combiner=fail).compute(scheduler="sync")


def test_combiner_reducer_and_partitioner_are_blamed_by_key():
    def fail(*_):
        raise LookupError("no")

    sources = {
        "combiner failed at key 'a' in partition 0": {"combiner": fail},
        "partitioner failed at key 'a' of partition 0": {"partitioner": fail},
        "number from 0 to 0": {"partitioner": lambda key, n: n},
    }
    for message, options in sources.items():
        with pytest.raises(MapReduceError, match=message):
            map_reduce([["a a"]], words, total, **options).compute(scheduler="sync")
    with pytest.raises(MapReduceError, match="reducer failed at key 'a' in output partition 0"):
        map_reduce([["a a"]], words, fail).compute(scheduler="sync")
    with pytest.raises(MapReduceError, match="must return one result"):
        map_reduce([["a a"]], words, lambda key, values: (value for value in values)).compute(scheduler="sync")


# pairs of values at a time


def append(left, right):
    left += right  # changes a list in place
    return left


@given(
    partitions=st.lists(st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=30), min_size=1, max_size=4),
    n_reducers=st.integers(1, 3),
    combiner=st.sampled_from([None, "fold", "all values"]),
)
def test_a_fold_is_what_functools_reduce_makes_of_the_values_in_order(partitions, n_reducers, combiner):
    shared = [7]  # one object for all keys: to change it would be seen

    def mapper(record):
        return [(key, shared if key == 0 else [key, place]) for place, key in enumerate(record)]

    kept = {"fold": Fold(append), "all values": lambda key, lists: [item for part in lists for item in part]}
    result = map_reduce(partitions, mapper, Fold(append), combiner=kept.get(combiner), n_reducers=n_reducers)
    pairs, counters = dask.compute(result, result.counters, scheduler="sync")
    expected = {}
    for record in chain(*partitions):
        for key, value in mapper(record):
            expected[key] = expected.get(key, []) + value
    assert dict(pairs) == expected and len(pairs) == len(expected) and shared == [7]
    assert counters.n_pairs == sum(len(record) for record in chain(*partitions))
    again = dask.compute(result, scheduler="sync")[0]
    assert again == pairs


def test_what_a_fold_is_given_stays_as_it_was():
    values = [[1], [2], [3]]
    assert Fold(append)("key", values) == [1, 2, 3] and values == [[1], [2], [3]]
    assert Fold(append)("key", values[:1]) is values[0]


def test_a_fold_that_fails_is_blamed_by_key_and_the_mapper_by_record():
    def some(line):
        for word in line.split():
            yield word, None if word == "x" else 1

    with pytest.raises(MapReduceError, match="combiner failed at key 'x' in partition 1: TypeError"):
        map_reduce([["a a"], ["a x x"]], some, Fold(operator.add)).compute(scheduler="sync")
    with pytest.raises(MapReduceError, match="reducer failed at key 'x' in output partition 0: TypeError"):
        map_reduce([["x"], ["x"]], some, Fold(operator.add), n_reducers=1).compute(scheduler="sync")
    mappers = {
        "mapper failed at record 1 of partition 0, 'b'": lambda line: [(line, 1 / (line == "a"))],
        r"or yielded no pair .* at record 1 of partition 0, 'b'": lambda line: [(line, 1)] if line == "a" else 3,
    }
    for message, mapper in mappers.items():
        with pytest.raises(MapReduceError, match=message):
            map_reduce([["a", "b"]], mapper, Fold(operator.add)).compute(scheduler="sync")
    with pytest.raises(DataKindError, match="function is 'sum'"):
        Fold("sum")


def test_buckets_and_results_travel_with_whatever_they_hold():
    class Local:
        def __eq__(self, other):
            return True

    for made in (tasks.Bucket({"a": {1, 2}, "b": Local()}), tasks.Results([("a", {1, 2}), ("b", Local())])):
        found = pickle.loads(pickle.dumps(made))
        assert type(found) is type(made) and found == made
    before = gc.get_threshold()
    packed = pickle.dumps(tasks.Results((key, [key]) for key in range(100_000)))
    n_searches = sum(stat["collections"] for stat in gc.get_stats())
    assert len(pickle.loads(packed)) == 100_000
    assert sum(stat["collections"] for stat in gc.get_stats()) - n_searches < 10  # of some 300 for so many lists
    assert gc.get_threshold() == before


# arguments


def yielding(key, values):
    yield sum(values)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"source": 3}, DataKindError, "Give a Dask bag"),
        ({"source": {"a": 1}}, DataKindError, "Give a Dask bag"),
        ({"source": []}, DataError, "empty list"),
        ({"source": [1, 2]}, DataKindError, r"Give \[records\]"),
        ({"source": [["a"], "b"]}, DataKindError, "Item 1 of source is a str"),
        ({"source": "nowhere/*.txt"}, DataError, "nowhere"),
        ({"source": ["nowhere.txt"]}, DataError, "nowhere"),
        ({"mapper": None}, DataKindError, "mapper is None"),
        ({"reducer": 1}, DataKindError, "reducer is 1"),
        ({"reducer": yielding}, DataKindError, "reducer yields"),
        ({"combiner": "sum"}, DataKindError, "combiner is 'sum'"),
        ({"combiner": yielding}, DataKindError, "combiner yields"),
        ({"partitioner": 0}, DataKindError, "partitioner is 0"),
        ({"n_reducers": 0}, DataError, "Give 1 or more"),
        ({"n_reducers": True}, DataKindError, "n_reducers is True"),
        ({"n_reducers": 1.5}, DataKindError, "n_reducers is 1.5"),
        ({"n_reducers": "many"}, DataKindError, '"auto"'),
        ({"sort": None}, DataKindError, "sort is None"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(change, error, message):
    given = {"source": [["a"]], "mapper": words, "reducer": total, **change}
    with pytest.raises(error, match=message):
        map_reduce(given.pop("source"), given.pop("mapper"), given.pop("reducer"), **given)


def test_map_reduce_is_public():
    assert dparallel.map_reduce is map_reduce


def test_the_search_for_garbage_is_as_before_afterwards():
    before = gc.get_threshold()
    with seldom_searched(), seldom_searched():
        assert gc.get_threshold()[0] >= NEW_CONTAINERS
    assert gc.get_threshold() == before
    with pytest.raises(MapReduceError):
        map_reduce([["fail"]], failing, total).compute(scheduler="sync")
    assert gc.get_threshold() == before


# on a cluster


@pytest.mark.parametrize("megabytes", [0.3, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_word_count_and_inverted_index_of_zipf_text_on_a_cluster(client, tmp_path, monkeypatch, megabytes):
    path = tmp_path / "text"
    write_text(path, int(megabytes * 1e6), seed=0)
    if megabytes < 1:
        monkeypatch.setattr("dparallel.mapreduce.sources.BLOCK", 50_000)
    lines = all_lines(path)
    result = map_reduce(path, words, total, combiner=total)
    pairs, counters = dask.compute(result, result.counters)
    plain = count_plainly(lines)
    assert dict(pairs) == plain
    assert result.npartitions > 4 and counters.n_combined < counters.n_pairs
    assert (counters.n_records, counters.n_pairs, counters.n_keys) == (len(lines), plain.total(), len(plain))
    assert dict(map_reduce(path, documents, distinct).compute()) == index_plainly(lines)


def test_a_program_s_own_functions_reach_the_workers(tmp_path):
    program = """
from distributed import Client, LocalCluster
from dparallel import map_reduce

def words(line):
    for word in line.split():
        yield word, len(line)

def longest(word, lengths):
    return max(lengths)

if __name__ == "__main__":
    result = map_reduce([["a b"], ["a"]], words, longest)
    print(sorted(result.compute()))  # Dask's processes
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(1, **options) as cluster, Client(cluster):
        print(sorted(result.compute()))
"""
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "[('a', 3), ('b', 3)]\n" * 2, done.stderr
