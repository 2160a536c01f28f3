"""What to_files leaves on disk: whole parts, each once, and _SUCCESS last, whatever dies."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import pytest
from distributed import Client, Event, LocalCluster

from benchmarks.text import write_text
from dparallel import map_reduce
from dparallel.errors import ClusterLostError, DataError, DataKindError, MapReduceError, OutputExistsError
from dparallel.mapreduce import output
from tests.clusters import MANY_KILLS, kill, separate_processes, settle, until
from tests.test_mapreduce import ALL_LINES, LINES, all_lines, count_plainly, failing, total, words


@pytest.fixture
def threads():
    with dask.config.set(scheduler="threads"):
        yield


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set(MANY_KILLS),
        LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def read(folder):
    """All lines of all parts, and the names of the files."""
    names = sorted(os.listdir(folder))
    return [line for name in names if name != "_SUCCESS" for line in all_lines(folder / name)], names


def test_parts_hold_the_sorted_lines_and_success_is_there(threads, tmp_path):
    result = map_reduce(LINES, words, total, combiner=total, n_reducers=3)
    counters = result.to_files(tmp_path / "new" / "out")
    lines, names = read(tmp_path / "new" / "out")
    assert names == ["_SUCCESS", "part-00000", "part-00001", "part-00002"]
    assert {word: int(count) for word, count in (line.split("\t") for line in lines)} == count_plainly(ALL_LINES)
    assert counters.n_records == 4 and counters.n_keys == len(lines)
    part = all_lines(tmp_path / "new" / "out" / "part-00001")
    assert part == sorted(part)


def test_lines_are_written_as_the_user_says(threads, tmp_path):
    result = map_reduce([["a", "a"]], lambda line: [(f"{line}\tb", "c\nd")], lambda key, values: values)
    with pytest.raises(DataError, match="holds a tab"):
        result.to_files(tmp_path / "out")
    with pytest.raises(DataError, match="holds a line break"):
        result.to_files(tmp_path / "out", line=lambda key, values: values[0])
    assert os.listdir(tmp_path / "out") == []
    result.to_files(tmp_path / "out", line=lambda key, values: f"{key!r} {values!r}")
    assert read(tmp_path / "out")[0] == [r"'a\tb' ['c\nd', 'c\nd']"]


def test_nothing_is_overwritten(threads, tmp_path):
    result = map_reduce(LINES, words, total)
    result.to_files(tmp_path / "out")
    before = read(tmp_path / "out")
    with pytest.raises(OutputExistsError, match="finished output"):
        result.to_files(tmp_path / "out")
    assert read(tmp_path / "out") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").write_text("mine")
    with pytest.raises(OutputExistsError, match="not empty: it holds notes"):
        result.to_files(tmp_path / "other")
    with pytest.raises(FileExistsError, match="is a file"):
        result.to_files(tmp_path / "other" / "notes")
    assert (tmp_path / "other" / "notes").read_text() == "mine"


def test_of_two_runs_one_writes(threads, tmp_path, monkeypatch):
    inner = map_reduce([["b"]], words, total)

    def meanwhile(key, values):
        if not (tmp_path / "_SUCCESS").exists():
            inner.to_files(tmp_path)
        return 1

    with pytest.raises(OutputExistsError), dask.config.set(scheduler="sync"):
        map_reduce([["a"]], words, meanwhile).to_files(tmp_path)
    assert read(tmp_path) == (["b\t1"], ["_SUCCESS", "part-00000"])


def test_an_error_leaves_no_parts(threads, tmp_path):
    with pytest.raises(MapReduceError, match="'fail'"):
        map_reduce([["a"], ["fail"]], failing, total).to_files(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_what_was_made_from_the_result_can_be_written_if_it_holds_pairs(threads, tmp_path):
    result = map_reduce(LINES, words, total)
    assert result.filter(lambda pair: pair[1] > 3).to_files(tmp_path / "often") is None
    assert read(tmp_path / "often")[0] == ["to\t4"]
    with pytest.raises(DataError, match="no \\(key, result\\) pair"):
        result.pluck(0).to_files(tmp_path / "words")


@pytest.mark.parametrize("arguments, message", [((3,), "folder is a int"), ((".", 3), "line is 3")])
def test_bad_arguments_are_refused(arguments, message):
    folder, *line = arguments
    with pytest.raises(DataKindError, match=message):
        map_reduce([["a"]], words, total).to_files(folder, line=line[0] if line else None)


def gated(signalled, go):
    """A mapper of words that waits at one line of the text, so that a test can kill in mid-run."""

    def mapper(record):
        number, line = record
        if number == 200:
            Event(signalled).set()
            Event(go).wait(timeout=60)
        return words(line)

    return mapper


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_killed_worker_costs_no_line_and_doubles_none(client, tmp_path, seed):
    settle(client, 2)
    write_text(tmp_path / "text", 200_000, seed)
    lines = all_lines(tmp_path / "text")
    records = list(enumerate(lines))
    parts = [records[i : i + 100] for i in range(0, len(records), 100)]
    started, go = f"started-{seed}", f"go-{seed}"
    result = map_reduce(parts, gated(started, go), total, combiner=total, n_reducers=5)
    pool = ThreadPoolExecutor(1)
    outcome = pool.submit(result.to_files, tmp_path / "out")
    pool.shutdown(wait=False)
    assert Event(started, client).wait(timeout=60)
    # the other worker has mapped some of the rest, or the one that waits is it
    until(lambda: any("map-" in str(key) for keys in client.has_what().values() for key in keys))
    pids = client.run(os.getpid)
    holders = {address: sum("map-" in str(key) for key in keys) for address, keys in client.has_what().items()}
    victim = max(holders, key=holders.get) if seed % 2 == 0 else min(holders, key=holders.get)
    kill(pids[victim])
    until(lambda: victim not in client.nthreads())
    Event(go, client).set()
    counters = outcome.result(timeout=100)
    written, names = read(tmp_path / "out")
    plain = count_plainly(lines)
    assert names == ["_SUCCESS", *(f"part-{number:05d}" for number in range(5))]
    assert len(written) == len(plain)
    assert {word: int(count) for word, count in (line.split("\t") for line in written)} == plain
    assert (counters.n_records, counters.n_pairs) == (len(lines), plain.total())
    assert counters.n_keys == len(plain)


def fail_at_once():
    raise OverflowError("no line")


def take_long():
    threading.Event().wait(4)  # longer than a look at the futures


def test_an_error_in_one_collection_is_raised_as_it_is_while_another_is_computed(client):
    settle(client, 2)
    with pytest.raises(OverflowError, match="no line"):
        output.compute_on(client, [dask.delayed(take_long)(), dask.delayed(fail_at_once)()])


def test_a_dead_scheduler_is_a_typed_error(tmp_path):
    with separate_processes(1) as (client, (scheduler, _)):
        entered = Event("entered", client)

        def slow(line):
            Event("entered").set()
            Event("never").wait(timeout=60)
            return words(line)

        killer = threading.Thread(target=lambda: (entered.wait(timeout=60), scheduler.kill()))
        killer.start()
        with pytest.raises(ClusterLostError):
            map_reduce(LINES, slow, total).to_files(tmp_path / "out")
        killer.join()
    assert os.listdir(tmp_path / "out") == []


def test_no_worker_for_too_long_is_a_typed_error(tmp_path):
    with separate_processes(1) as (client, (_, worker)), dask.config.set({"dparallel.timeouts.workers": "1s"}):
        worker.kill()
        until(lambda: not client.nthreads())
        with pytest.raises(ClusterLostError, match="no worker for 1 s"):
            map_reduce(LINES, words, total).to_files(tmp_path / "out")


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    def stop(*_):
        raise OSError("disk full")

    monkeypatch.setattr(output.os, "fsync", stop)
    with pytest.raises(OSError, match="disk full"):
        output.write_part(0, [("a", 1)], str(tmp_path), output.tab_separated)
    assert os.listdir(tmp_path) == []
