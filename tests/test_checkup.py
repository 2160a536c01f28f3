"""dparallel.check: what hurts on a real cluster is found, named and never raised."""

import os
import re

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

import dparallel
from dparallel.blocks.budget import shard_budget, worker_budget
from dparallel.checkup import Finding, Report, checking
from dparallel.checkup.cluster import memory, replicas, threads, versions
from dparallel.errors import PlaceError
from tests.clusters import separate_processes


@pytest.fixture(scope="module")
def client():
    n_cores = os.cpu_count() or 1
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "memory_limit": "800MB"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        assert n_cores > 1 or pytest.skip("two workers need two processors")
        yield client


def topics(report, severity=None):
    return [finding.topic for finding in report if severity in (None, finding.severity)]


def one(report, topic):
    found = [finding for finding in report if finding.topic == topic]
    assert len(found) == 1, str(report)
    return found[0]


# whole clusters


def test_nothing_hurts_on_a_decent_cluster(client):
    report = dparallel.check(client, X=da.zeros((400_000, 10), chunks=(50_000, 10)))
    assert report and report.ok, str(report)
    assert topics(report) == ["replicas"] and "one host" in report.findings[0].found
    assert re.match(r"Looked at tcp://.*: 2 workers with 2 threads on 1 host\. Found: 1 note\.", str(report))


def test_active_client_is_found(client):
    assert dparallel.check().summary == dparallel.check(client).summary


@pytest.mark.parametrize(
    "X, words",
    [
        (da.zeros((100_000, 10), chunks=(100_000, 10)), "1 blocks of rows for 2 threads"),
        (da.zeros((100_000, 10), chunks=(100, 10)), "1000 blocks of rows, of 8 kB each"),
        (da.zeros((200_000_000, 2), chunks=(50_000_000, 2)), "largest block of X takes 800 MB.* 800 MB for each"),
        (da.zeros((20_000_000, 10), chunks=(1_000_000, 10)), "X takes 1.6 GB, and a fit may keep [0-9.]+ MB"),
    ],
)
def test_chunks_that_hurt_are_found_and_nothing_is_computed(client, X, words):
    report = dparallel.check(client, X=X)
    assert re.search(words, str(report)) and "chunks" in topics(report, "warning") and not report.ok


def test_data_of_this_process_and_unknown_sizes_are_told_of(client):
    here = one(dparallel.check(client, X=np.zeros((3, 2))), "chunks")
    assert here.severity == "note" and "no worker" in here.harm
    unknown = da.zeros((100, 2), chunks=(10, 2))
    unknown = unknown[unknown[:, 0] == 0]
    assert "not known" in one(dparallel.check(client, X=unknown), "chunks").found


@pytest.mark.parametrize("X", [da.zeros(()), da.zeros((0, 2)), dask.delayed(1), da.zeros(7), "x", [[1.0]], object()])
def test_no_kind_of_data_raises(client, X):
    assert "chunks" in topics(dparallel.check(client, X=X))


def test_dataframe_is_looked_at_by_its_partitions(client):
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(pd.DataFrame({"a": np.zeros(10)}), npartitions=1)
    assert "1 blocks of rows for 2 threads" in one(dparallel.check(client, X=frame), "chunks").found


def test_persisting_that_is_off_is_told_of(client):
    with dask.config.set({"dparallel.persist": False}):
        report = dparallel.check(client, X=da.zeros((400_000, 10), chunks=(50_000, 10)))
    assert "dparallel.persist is off" in one(report, "chunks").found


def test_separate_processes_with_wrong_settings_are_told_of(tmp_path):
    """Workers of another dparallel and another numba, without nannies and limits, with threads of BLAS for all."""
    (tmp_path / "dparallel").mkdir()
    (tmp_path / "dparallel" / "__init__.py").write_text("__version__ = '77.0'\n")
    installed = tmp_path / "numba-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n")
    environment = {"PYTHONPATH": str(tmp_path), "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "0.2"}
    environment["PYTHONSAFEPATH"] = "1"  # or the folder that this runs in is searched first
    environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "5")
    options = ("--no-nanny", "--memory-limit", "900GB")  # Dask takes all there is
    with separate_processes(2, 64, worker_options=options, environment=environment) as (client, _):
        report = dparallel.check(client)
    text = str(report)
    assert topics(report, "error") == ["versions"] and "77.0 on tcp://127.0.0.1" in text
    assert re.search(r"numba is not the same everywhere: .* in this process; 0\.1 in tcp://127", text)
    assert re.search(r"2 workers run 128 tasks at once, and there are \d+ processors", text)
    assert re.search(r"BLAS starts up to [2-5] threads in each of 128 tasks: \d+ threads for", text)
    assert re.search("2 workers may use .* together, and there are", text) and "spills to disk at 20%" in text
    assert "2 of 2 workers have no nanny" in text and "2 workers run on one host" in text
    assert not report.ok and set(topics(report)) == {"versions", "threads", "memory", "nannies", "replicas"}


def test_workers_without_dparallel_are_named_and_can_be_asked(tmp_path):
    (tmp_path / "dparallel.py").write_text("raise ImportError('not here')\n")
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    options = ("--no-nanny", "--memory-limit", "0")
    with separate_processes(1, worker_options=options, environment=environment) as (client, _):
        report = dparallel.check(client)
    assert "1 of 1 workers lack dparallel" in one(report, "versions").found
    assert "no memory limit" in one(report, "memory").found


def test_cluster_without_workers_is_told_of():
    with separate_processes(0) as (client, _):
        report = dparallel.check(client)
        assert topics(report, "error") == ["workers"] and "no worker" in one(report, "workers").found
    closed = dparallel.check(client)
    assert "client is closed" in one(closed, "client").found


@pytest.mark.slow
def test_scheduler_that_died_is_told_of(monkeypatch):
    monkeypatch.setattr(checking, "TIMEOUT_S", 2.0)
    with separate_processes(1) as (client, processes):
        processes[0].kill()
        report = dparallel.check(client)
        assert topics(report, "error") in (["workers"], ["client"]), str(report)


def test_worker_that_does_not_answer_is_told_of_in_time(client, monkeypatch):
    monkeypatch.setattr(checking, "TIMEOUT_S", 1e-4)
    report = dparallel.check(client)
    assert topics(report, "error") == ["workers"] and "did not answer within 0.0001 s" in str(report)


def test_asynchronous_client_is_told_of():
    async def look():
        async with Client(processes=False, asynchronous=True, dashboard_address=":0") as client:
            return dparallel.check(client), dparallel.check()

    import asyncio

    for report in asyncio.run(look()):
        assert topics(report) == ["client"] and "asynchronous" in report.findings[0].found and not report


def test_what_is_no_client_is_refused():
    with pytest.raises(PlaceError, match=r"given a Array.*check\(X=\.\.\.\)"):
        dparallel.check(da.zeros((3, 2)))


def test_no_client_is_a_note():
    with dask.config.set(scheduler="threads"):
        report = dparallel.check()
    assert topics(report) == ["client"] and report.ok


# rules, on answers as processes give them

ANSWER = {
    "versions": {"python": "3.12.1", "dask": "2026.1", "numpy": "2.1", "dparallel": "1.0", "pandas": None},
    "host": "a",
    "n_cores": 4,
    "blas_threads": 1,
    "memory_bytes": 8e9,
    "limit_bytes": 4e9,
    "used_bytes": 1e8,
    "target": 0.6,
    "spill": 0.7,
    "pause": 0.8,
}


def answers(*changes):
    return {f"tcp://{number}": {**ANSWER, **change} for number, change in enumerate(changes)}


def of(**changes):
    return {"versions": {**ANSWER["versions"], **changes}}


def test_python_may_differ_in_its_last_number_alone():
    assert not list(versions(ANSWER, ANSWER, answers(of(python="3.12.9"), {})))
    (found,) = versions(ANSWER, ANSWER, answers(of(python="3.11.9"), {}))
    assert found.severity == "error" and "3.11.9 in tcp://0" in found.found


def test_scheduler_is_asked_for_dask_alone():
    assert not list(versions(ANSWER, {**ANSWER, **of(numpy="1.0")}, answers({})))
    (found,) = versions(ANSWER, {**ANSWER, **of(dask="2024.1")}, answers({}))
    assert "2024.1 in the scheduler" in found.found and found.severity == "warning"


def test_packages_that_this_process_lacks_do_not_matter():
    assert not list(versions(ANSWER, None, answers(of(pandas="2.0"), {})))


def test_threads_are_counted_by_host():
    hosts = answers({}, {"host": "b"})
    assert not list(threads(hosts, dict.fromkeys(hosts, 4)))
    same = answers({}, {})
    (found,) = threads(same, dict.fromkeys(same, 4))
    assert "On a 2 workers run 8 tasks" in found.found and "2 threads each" in found.remedy
    blas = answers({"blas_threads": 4})
    (found,) = threads(blas, dict.fromkeys(blas, 2))
    assert "8 threads for 4 processors" in found.found
    unknown = answers({"blas_threads": None})
    assert not list(threads(unknown, dict.fromkeys(unknown, 4)))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"target": 0.2}, "spills to disk at 20%"),
        ({"target": False, "spill": 0.3}, "spills to disk at 30%"),
        ({"pause": 0.5}, "pause at 50%"),
        ({"target": False, "spill": False}, "do not spill"),
        ({"used_bytes": 2.3e9}, "hold so much already"),
        ({"limit_bytes": 9e9}, "may use 9 GB together, and there are 8 GB"),
        ({"limit_bytes": None}, "no memory limit"),
    ],
)
def test_memory_that_will_not_do_is_found(change, words):
    (found,) = memory(answers(change))
    assert words in found.found


def test_memory_that_will_do_is_not_found():
    assert not list(memory(answers({}, {})))
    assert not list(memory(answers({"pause": False, "target": False})))


def test_replicas_need_two_workers_and_better_two_hosts():
    assert [found.severity for found in replicas(answers({}))] == ["warning"]
    assert [found.severity for found in replicas(answers({}, {}))] == ["note"]
    assert not list(replicas(answers({}, {"host": "b"})))


def test_budget_of_a_worker_is_what_a_fit_takes(client):
    def both():
        from distributed import get_worker

        worker = get_worker()
        limit, used = worker.memory_manager.memory_limit, worker.monitor.get_process_memory()
        return shard_budget(0.4, 1), worker_budget(0.4, limit, used, 0.6)

    found, wanted = client.submit(both).result()
    assert abs(found - wanted) < 0.3 * wanted  # libraries that are yet to be loaded, and what was taken meanwhile


# reports


def test_report_reads_well_and_escapes_what_it_shows():
    findings = [
        Finding("note", "memory", "<b>", "why", "do"),
        Finding("error", "client", "It is & was.", "why", "do"),
        Finding("warning", "chunks", "found", "why", "do"),
    ]
    report = Report("Looked at <it>.", findings)
    assert [finding.severity for finding in report] == ["error", "warning", "note"] and len(report) == 3
    assert str(report).splitlines()[:2] == [
        "Looked at <it>. Found: 1 error, 1 warning, 1 note.",
        "ERROR (client): It is & was.",
    ]
    shown = report._repr_html_()
    assert "&lt;b&gt;" in shown and "It is &amp; was." in shown and "Looked at &lt;it&gt;" in shown
    assert repr(report) == str(report) and not report
    empty = Report("Looked.", [])
    assert empty and str(empty) == "Looked. Nothing would hurt." and "<table" not in empty._repr_html_()
