"""Where a fit runs: the data decide, and whatever cannot work is refused with a remedy."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import joblib
import pytest
from distributed import Client, LocalCluster

from dparallel import place
from dparallel.errors import PlaceError, WorkerVersionError


@pytest.fixture(scope="module")
def client():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


def kind_of_place(is_dask):
    with place.find(is_dask) as found:
        return type(found).__name__, getattr(found, "n_threads", None), getattr(found, "in_task", None)


def test_dask_data_go_to_the_active_client_and_other_data_stay(client):
    assert kind_of_place(True) == ("Cluster", None, False)
    assert kind_of_place(False) == ("Local", place.count_threads(), None)


def test_dasks_configuration_overrules_the_client(client):
    with dask.config.set(scheduler="threads"):
        assert kind_of_place(True)[0] == "Local"
    with dask.config.set(scheduler="synchronous"):
        assert kind_of_place(True) == ("Local", 1, None)
        assert kind_of_place(False) == ("Local", 1, None)
    with dask.config.set(num_workers=1):
        assert place.count_threads() == 1


def test_inside_a_task_numpy_stays_on_its_thread_and_dask_goes_to_the_cluster(client):
    assert client.submit(kind_of_place, False, pure=False).result() == ("Local", 1, None)
    assert client.submit(kind_of_place, True, pure=False).result() == ("Cluster", None, True)


def test_no_client_and_no_distributed_are_fine():
    code = (
        "import sys; from dparallel import place\n"
        "with place.find(True) as found: assert type(found) is place.Local\n"
        "assert 'distributed' not in sys.modules and 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_asynchronous_client_is_refused_with_the_remedy():
    async def fit():
        async with Client(processes=False, asynchronous=True, dashboard_address=":0", n_workers=1):
            with place.find(True):
                pass

    with pytest.raises(PlaceError, match="asynchronous=False"):
        asyncio.run(fit())


def test_threads_respect_joblib(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    count = joblib.delayed(place.count_threads)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        assert joblib.Parallel(2)([count(), count()]) == [1, 1]
    assert joblib.Parallel(2, backend="threading")([count(), count()]) == [1, 1]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_threads_respect_the_environment(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    assert place.count_threads() == 1


def test_what_a_nanny_sets_for_its_worker_does_not_bind_this_process(client, monkeypatch):
    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert place.count_threads() == joblib.cpu_count()


def test_workers_of_another_version_are_named(client, monkeypatch):
    def set_version(version):
        import dparallel

        dparallel.__version__, before = version, dparallel.__version__
        return before

    bad, _ = sorted(client.nthreads())
    mine = client.run(set_version, "0.0.1", workers=[bad])[bad]
    monkeypatch.setattr(place, "_checked", {})
    with pytest.raises(WorkerVersionError, match=f"{bad}: has dparallel 0.0.1"), place.find(True):
        pass
    client.run(set_version, mine, workers=[bad])
    assert kind_of_place(True)[0] == "Cluster"


def test_workers_without_dparallel_are_named(client, monkeypatch):
    def hide(name, path):
        kept = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] == name}
        sys.modules[name] = None  # an import fails
        return list(kept)

    bad, _ = sorted(client.nthreads())
    client.run(hide, "dparallel", None, workers=[bad])
    monkeypatch.setattr(place, "_checked", {})
    with pytest.raises(WorkerVersionError, match=f"worker {bad}: .*dparallel"), place.find(True):
        pass
    client.run(lambda: sys.modules.pop("dparallel") and None, workers=[bad])
    assert kind_of_place(True)[0] == "Cluster"


def test_a_worker_that_dies_before_it_answers_is_not_taken_for_one_of_another_version(client, monkeypatch):
    pids = client.run(os.getpid)
    bad = sorted(pids)[0]
    monkeypatch.setattr(place, "_checked", {})
    os.kill(pids[bad], signal.SIGKILL)
    assert kind_of_place(True)[0] == "Cluster"
    assert bad not in place._checked[client]
    client.wait_for_workers(2, timeout=30)


def test_threads_return_results_in_order_and_raise_the_first_error():
    started = threading.Barrier(2, timeout=10)

    def wait_for_the_other(value):
        started.wait()
        return value

    with ThreadPoolExecutor(1) as pool:
        calls = [lambda: wait_for_the_other(1), lambda: wait_for_the_other(2)]
        assert place.run_threads(calls, pool) == [1, 2]
        with pytest.raises(ZeroDivisionError):
            place.run_threads([lambda: 1, lambda: 1 / 0, lambda: 1], pool)
    assert place.run_threads([lambda: 1, lambda: 2]) == [1, 2]
