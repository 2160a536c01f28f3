"""Measure the parameter store: latency of a pull, throughput of pushes, and how soon it answers after a death.

Two worker processes of one thread. "raw actor" is the least that Dask itself can do: an actor on the same worker that
returns the array it holds, by a plain or an async method, and unlike the store without copying it, without a second
copy of it, and without surviving anything. "from a task" is a task on the other worker; "from the client" is this
process, which reaches workers through the scheduler. Calls of all kinds follow one another in rounds, so that a slow
minute meets all.

For recovery the process that holds the only shard gets SIGKILL, and a pull is sent at once: "first pull" is the time
from the signal to its answer. The next one is killed when the store has its second copy again. Throughput is that of
a thread which pushes without pause; it is back when as many pushes went through in half a second as 90 % of the rate
before.

A sparse table is filled with random keys of a billion, on one worker process with the slots of ftrl, and read again.
"payload" is keys and rows, there and back; "pushed again" is the same list of keys once more.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dask
import numpy as np
from distributed import Client

from benchmarks.cluster import MANY_KILLS, open_cluster
from benchmarks.results import Lines, Report
from benchmarks.store_sparse import measure_compression, measure_tables
from dparallel import ParameterStore

SMALL, LARGE = 100, 1_000_000  # numbers of 8 bytes
BATCH = 16
SETTLED_S = 60.0  # how long to wait at most until a shard has its second copy again
WINDOW_S = 0.5
BEFORE_S, AFTER_S = 2.0, 8.0


class RawActor:
    """An actor that returns and takes an array, and does nothing else."""

    def __init__(self, n: int):
        self.values = np.zeros(n)

    def pull(self) -> np.ndarray:
        """Return the array, from the worker's thread for actors."""
        return self.values

    async def pull_async(self) -> np.ndarray:
        """Return the array, from the worker's event loop."""
        return self.values


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--calls", type=int, default=500, help="small calls per figure and round (default: 500)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys of a sparse table (default: 1000000)")
    parser.add_argument("--kills", type=int, default=20, help="processes killed (default: 20)")
    parser.add_argument("--streams", type=int, default=5, help="of them under a stream of pushes (default: 5)")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure calls on one cluster, deaths on another."""
    n_calls, n_rounds, n_kills, n_streams = options.calls, options.rounds, options.kills, options.streams
    if options.quick:
        n_calls, n_rounds, n_kills, n_streams = 10, 1, 1, 1
    with open_cluster(2) as client:
        latency = report.tables.setdefault("Latency of a pull", [])
        for n in (SMALL, LARGE):
            latency.extend(measure_latency(client, n, max(5, n_calls // (1 if n == SMALL else 10)), n_rounds))
        throughput = report.tables.setdefault("Throughput of pushes", [])
        for n in (SMALL, LARGE):
            throughput.extend(measure_pushes(client, n, max(5, n_calls // (1 if n == SMALL else 10)), n_rounds))
    report.tables["Sparse tables"] = measure_tables(2000 if options.quick else options.keys)
    report.tables["Compression"] = measure_compression(20 if options.quick else 2000)
    with dask.config.set(MANY_KILLS), open_cluster(2):
        report.tables["Recovery"] = [measure_recovery(replicas, n_kills) for replicas in (1, 0)]
        series, rows = measure_streams(n_streams)
    report.tables["Throughput after a death"] = rows
    report.figure = Lines(series, "seconds since SIGKILL", "pushes per second")


@contextmanager
def open_store(n: int, replicas: int, **settings: Any) -> Iterator[tuple[ParameterStore, str, str]]:
    """Open a store of n zeros; yields it with the addresses of the worker that serves it and of the other one."""
    with ParameterStore({"w": n}, optimizer="add", n_shards=1, replicas=replicas, **settings) as store:
        (primary,) = store.stats().primaries
        (other,) = set(Client.current().nthreads()) - {primary}
        yield store, primary, other


def measure_latency(client: Client, n: int, n_calls: int, n_rounds: int) -> list[dict[str, Any]]:
    """Time pulls and raw calls from a task and from here, in turn."""
    times: dict[tuple[str, str], list[float]] = {}
    with open_store(n, replicas=1) as (store, primary, other):
        actor = client.submit(RawActor, n, actor=True, workers=[primary]).result()
        calls = {"pull": store.handle().pull, "raw actor, plain": RawCall(actor, "pull")}
        calls["raw actor, async"] = RawCall(actor, "pull_async")
        for call in calls.values():
            client.submit(time_calls, call, 3, workers=[other], pure=False).result()
        for _ in range(n_rounds):
            for name, call in calls.items():
                there = client.submit(time_calls, call, n_calls, workers=[other], pure=False).result()
                times.setdefault(("from a task", name), []).extend(there)
                times.setdefault(("from the client", name), []).extend(time_calls(call, n_calls))
        del calls, actor
    rows = []
    for (where, name), found in times.items():
        raw = statistics.median(times[where, "raw actor, plain"])
        rows.append(
            {
                "what": name,
                "where": where,
                "MB": n * 8 / 1e6,
                "p50, ms": 1e3 * statistics.median(found),
                "p99, ms": 1e3 * float(np.quantile(found, 0.99)),
                "p50 / raw actor, plain": statistics.median(found) / raw,
                "calls": len(found),
            }
        )
    return rows


class RawCall:
    """Calls a method of an actor and waits; travels to tasks with it."""

    def __init__(self, actor: Any, method: str):
        self.actor = actor
        self.method = method

    def __call__(self) -> np.ndarray:
        return getattr(self.actor, self.method)().result()


def time_calls(call: Callable[[], Any], n_calls: int) -> list[float]:
    """Return the seconds of each of some calls."""
    times = []
    for _ in range(n_calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def measure_pushes(client: Client, n: int, n_calls: int, n_rounds: int) -> list[dict[str, Any]]:
    """Time pushes from a task on the other worker, with one copy and with two, one by one and several per message."""
    rows = []
    for replicas in (0, 1):
        with open_store(n, replicas) as (store, _, other):
            ways = {"one by one": push_each} | ({f"{BATCH} at a time": push_batches} if n == SMALL else {})
            for way, function in ways.items():
                rates = [
                    client.submit(function, store.handle(), n, n_calls, workers=[other], pure=False).result()
                    for _ in range(n_rounds + 1)
                ][1:]
                rate = statistics.median(rates)
                rows.append(
                    {
                        "MB": n * 8 / 1e6,
                        "replicas": replicas,
                        "how": way,
                        "pushes per s": rate,
                        "MB per s": rate * n * 8 / 1e6,
                        "all rates": rates,
                    }
                )
    return rows


def push_each(handle: Any, n: int, n_calls: int) -> float:
    """Push so often, each when the last was acknowledged; return pushes per second."""
    update = {"w": np.ones(n)}
    started = time.perf_counter()
    for _ in range(n_calls):
        handle.push(update)
    return n_calls / (time.perf_counter() - started)


def push_batches(handle: Any, n: int, n_calls: int) -> float:
    """The same with several updates in one message."""
    from dparallel.store.layout import FullUpdate

    update = {"w": np.ones(n)}
    name = f"batches of {time.time_ns()}"
    started = time.perf_counter()
    for number in range(n_calls):
        handle.exchange([FullUpdate((name, BATCH * number + i), update, None) for i in range(BATCH)], ())
    return BATCH * n_calls / (time.perf_counter() - started)


def measure_recovery(replicas: int, n_kills: int) -> dict[str, Any]:
    """Kill whoever holds the shard, again and again, and time the first answer; count what was lost of the pushes."""
    times, n_pushed = [], 0
    with open_store(SMALL, replicas) as (store, _, _):
        handle = store.handle()
        for number in range(n_kills):
            for _ in range(10):
                handle.push({"w": np.ones(SMALL)})
            n_pushed += 10
            if not replicas:
                time.sleep(1.5)  # a snapshot is taken every second
            pid = serving_process(store)
            started = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            values = handle.pull("w")
            times.append(time.perf_counter() - started)
            say(f"replicas={replicas}: kill {number + 1}, {times[-1]:.3f} s")
            lost = n_pushed - int(values[0])
            settle(store, replicas)
        failovers, restores = store.stats().failovers, store.stats().restores
    return {
        "replicas": replicas,
        "kills": n_kills,
        "first pull, median, s": statistics.median(times),
        "95th percentile, s": float(np.quantile(times, 0.95)),
        "slowest, s": max(times),
        "failovers": failovers,
        "restores": restores,
        "pushes lost": lost,
        "of": n_pushed,
        "all seconds": times,
    }


def measure_streams(n_kills: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Kill the serving process under a stream of pushes; return the lines to draw, and when the rate was back."""
    series, rows = {}, []
    with open_store(SMALL, replicas=1) as (store, _, _):
        for number in range(n_kills):
            settle(store, 1)
            stream = Stream(store.handle())
            with stream:
                time.sleep(BEFORE_S)
                killed = time.perf_counter()
                os.kill(serving_process(store), signal.SIGKILL)
                time.sleep(AFTER_S)
            before, times = stream.rate(killed - BEFORE_S / 2, killed), stream.times
            back = time_until_back([t - killed for t in times], 0.9 * before)
            gaps = np.diff([t for t in times if t > killed - 0.5])
            rows.append(
                {
                    "kill": number + 1,
                    "pushes per s before": before,
                    "longest pause, s": float(gaps.max()),
                    "back to 90 % after, s": back,
                    "calls that failed": stream.n_failed,
                }
            )
            edges = np.arange(-BEFORE_S, AFTER_S, 0.25)
            counts = np.histogram(np.array(times) - killed, np.append(edges, AFTER_S))[0]
            series[f"kill {number + 1}"] = (edges.tolist(), (counts / 0.25).tolist())
    return series, rows


class Stream:
    """A thread that pushes without pause while the block runs.

    Attributes
    ----------
    times : list of float, when each push was acknowledged, by perf_counter
    n_failed : int, pushes that raised
    """

    def __init__(self, handle: Any):
        self.times: list[float] = []
        self.n_failed = 0
        self._handle = handle
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._push, daemon=True)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _push(self) -> None:
        update = {"w": np.ones(SMALL)}
        while not self._stop.is_set():
            try:
                self._handle.push(update)
            except Exception:
                self.n_failed += 1
            else:
                self.times.append(time.perf_counter())

    def rate(self, start: float, stop: float) -> float:
        """Pushes per second between two times."""
        return sum(start <= t < stop for t in self.times) / (stop - start)


def time_until_back(times: Sequence[float], rate: float) -> float | None:
    """Return the end of the first window after 0 in which pushes came at this rate; None if there is none."""
    after = [t for t in times if t > 0]
    need = max(1, round(rate * WINDOW_S))
    return next((last for first, last in zip(after, after[need - 1 :]) if last - first <= WINDOW_S), None)


def serving_process(store: ParameterStore) -> int:
    """Return the number of the process that serves the only shard."""
    stats = store.stats()
    return stats.pids[stats.primaries[0]]


def settle(store: ParameterStore, replicas: int) -> None:
    """Wait until both workers are there again, and the shard has the copies that it should have."""
    until = time.perf_counter() + SETTLED_S
    while len(Client.current().nthreads()) < 2 or (replicas and None in store.stats().backups):
        if time.perf_counter() > until:
            raise TimeoutError(f"a worker, or the store's second copy, was not back {SETTLED_S:g} s after a death")
        time.sleep(0.1)


def say(line: str) -> None:
    """Tell how far the measurement is, on the side."""
    print(line, file=sys.stderr, flush=True)
