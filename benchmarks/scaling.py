"""Measure what a round costs on this machine, predict rounds with 1 to 8 processes, and measure them beside it.

First the constants: nanoseconds per row of each algorithm, on one core and while all cores compute, in this process;
and of a cluster of two worker processes a round, a task, a call of the parameter store, and bytes per second. From
these the model of benchmarks/cost_model.py predicts the seconds of a round (k-means: Lloyd; tree: a level; logistic
regression: an iteration; AsyncSGD: an epoch) with 1, 2, 4 and 8 worker processes of one thread. All of them share the
cores of this machine, and so does the model. At last it tells what clusters with a core for each worker should take, by
the same constants.

With --report FILE the tables are written as reStructuredText, and the figure beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import joblib
import numpy as np
from distributed import Client, wait

from benchmarks.cluster import open_cluster
from benchmarks.cost_model import Constants, Work, best_n_workers, predict
from benchmarks.data import draw_rows, rows_of_file, two_classes
from benchmarks.linear import quiet
from benchmarks.results import Report, describe_machine, draw, format_rst
from dparallel import (
    AsyncSGDClassifier,
    ParallelDecisionTree,
    ParallelKMeans,
    ParallelLogisticRegression,
    ParameterStore,
)
from dparallel.blocks.gate import gather
from dparallel.rounds import open_rounds

SHAPE, QUICK_SHAPE = (300_000, 100), (20_000, 10)
N_CLUSTERS, DEPTH, BINS = 32, 7, 255
BATCH_SIZE, PUSH_EVERY = 32, 512
STEP_S = 0.1  # the longest step that push_every="auto" makes
WORKERS = (1, 2, 4, 8)
LARGE_ROWS, LARGE_WORKERS = 1_000_000_000, (16, 64, 256, 1000)
FEW_TASKS, MANY_TASKS = 16, 128
PAYLOAD = 4_000_000  # numbers of 8 bytes


@dataclass(frozen=True)
class Case:
    """An algorithm that is measured.

    Parameters
    ----------
    name : str
    make : callable () -> estimator, anew for each fit
    state_bytes, part_bytes : float, a shard's share of a round; for AsyncSGD a pull and a push
    step_rows : int or None, as of Work
    """

    name: str
    make: Callable[[], Any]
    state_bytes: float
    part_bytes: float
    step_rows: int | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS), help="processes (default: 1 2 4 8)")
    parser.add_argument("--repeats", type=int, default=2, help="fits per figure (default: 2)")
    parser.add_argument("--report", type=Path, help="file for the tables in reStructuredText; the figure beside it")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure constants, predict, measure, extrapolate."""
    shape = QUICK_SHAPE if options.quick else SHAPE
    workers = [2] if options.quick else options.workers
    repeats = 1 if options.quick else options.repeats
    X, y = two_classes(*shape, 1.0, 4.0, 0.05, seed=40)
    cases = make_cases(X, 2 if options.quick else 5)
    with quiet():
        works = [measure_rows(case, X, y, repeats) for case in cases]
        constants = measure_constants(5 if options.quick else 30, shape[1])
        report.tables["Constants"] = tell_constants(constants, works)
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
            path = Path(folder) / "rows.npy"
            np.save(path, X)
            found = {n: measure_cluster(n, cases, path, y, X.shape, repeats) for n in workers}
    report.tables["Seconds per pass"] = compare(works, constants, found)
    report.tables["Large clusters"] = extrapolate(works, constants)
    report.figure = PredictedAndMeasured("Seconds per pass")
    if options.report:
        write_report(report, options.report)


def make_cases(X: np.ndarray, n_rounds: int) -> list[Case]:
    """The algorithms, with what crosses the network in a round of theirs."""
    d = X.shape[1]
    centres = draw_rows(X, N_CLUSTERS, 41)
    histograms = [max(1, 2 ** (level - 1)) * d * BINS * 2 * 4 for level in range(DEPTH)]
    sgd = {"loss": "log_loss", "batch_size": BATCH_SIZE, "push_every": PUSH_EVERY, "random_state": 0}
    kmeans = {"init": centres, "tol": 0, "algorithm": "lloyd"}
    return [
        Case(
            "k-means",
            lambda: ParallelKMeans(N_CLUSTERS, max_iter=n_rounds, **kmeans),
            16 * N_CLUSTERS * d,
            16 * N_CLUSTERS * (d + 1),
        ),
        Case("tree", lambda: ParallelDecisionTree(max_depth=DEPTH), 4 * d * BINS, statistics.mean(histograms)),
        Case("logistic regression", lambda: ParallelLogisticRegression(tol=1e-8), 8 * (d + 1), 8 * (d + 1)),
        Case(
            "AsyncSGD",
            lambda: AsyncSGDClassifier(max_iter=n_rounds, tol=None, **sgd),
            8 * (d + 1),
            8 * (d + 1),
            BATCH_SIZE * PUSH_EVERY,
        ),
    ]


def seconds_per_pass(case: Case, X: Any, y: Any, repeats: int) -> float:
    """The median round of some fits; the first fit, which may compile, and the first round of each do not count."""
    seconds: list[float] = []
    for number in range(repeats + 1):
        history = case.make().fit(X, y).history_
        if number:
            seconds.extend(record.seconds for record in history[1:] if record.seconds > 0)
    # the levels of a tree differ, so their mean is what a level takes
    return statistics.mean(seconds) if case.name == "tree" else statistics.median(seconds)


def measure_rows(case: Case, X: np.ndarray, y: np.ndarray, repeats: int) -> Work:
    """Fit in this process on one thread, and on all."""
    n_cores = joblib.cpu_count()
    passes = {}
    for n_threads in (1, n_cores):
        say(f"{case.name}: {n_threads} of {n_cores} threads of this process")
        with dask.config.set(num_workers=n_threads):
            passes[n_threads] = seconds_per_pass(case, X, y, repeats)
    row_s, busy_row_s = passes[1] / len(X), passes[n_cores] * n_cores / len(X)
    return Work(case.name, len(X), row_s, busy_row_s, case.state_bytes, case.part_bytes, case.step_rows)


def measure_constants(repeats: int, n_features: int) -> Constants:
    """Measure an otherwise idle cluster of two processes; medians."""
    say("constants of a cluster of two processes")
    with open_cluster(2) as client:
        task_s = measure_task(client, repeats)
        rows = da.zeros((2, 1), chunks=(1, 1))
        with open_rounds(gather(rows)) as rounds:
            times = [time_call(lambda: rounds.reduce(nothing, add, 0)) for _ in range(repeats)]
        # a round of two tasks: what is left when these are taken off
        round_s = max(statistics.median(times) - 2 * task_s, 0.0)
        bytes_per_s = measure_bandwidth(client, repeats)
        call_s = measure_call(client, repeats, n_features)
    return Constants(round_s, task_s, call_s, bytes_per_s, joblib.cpu_count())


def nothing(shard: Any, state: Any) -> int:
    """A partial that does not look at its rows."""
    return 0


def add(a: Any, b: Any) -> Any:
    """A combine."""
    return a + b


def time_call(call: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure_task(client: Client, repeats: int) -> float:
    """Seconds of each further task that is submitted and gathered with others."""

    def submit(n_tasks: int) -> Any:
        return client.gather([client.submit(add, i, 1, pure=False) for i in range(n_tasks)])

    submit(FEW_TASKS)
    few, many = (
        statistics.median(time_call(lambda n=n: submit(n)) for _ in range(repeats)) for n in (FEW_TASKS, MANY_TASKS)
    )
    return max(many - few, 0.0) / (MANY_TASKS - FEW_TASKS)


def measure_bandwidth(client: Client, repeats: int) -> float:
    """Bytes per second from a worker to this process, which go through the scheduler, in a message of 32 MB."""
    times = []
    for number in range(max(2, repeats // 5)):
        small, large = (client.submit(np.full, n, float(number), pure=False) for n in (1, PAYLOAD))
        wait([small, large])
        times.append(time_call(large.result) - time_call(small.result))
    return 8 * PAYLOAD / max(statistics.median(times), 1e-3)


def measure_call(client: Client, repeats: int, n_features: int) -> float:
    """Seconds of a push and pull from a task on the worker that does not hold the store's shard."""
    values = {"coef": n_features + 1}
    with ParameterStore(values, optimizer="add", n_shards=1) as store:
        (primary,) = store.stats().primaries
        (other,) = set(client.nthreads()) - {primary}
        arguments = (store.handle(), n_features + 1, 10 * repeats)
        times = client.submit(time_exchanges, *arguments, workers=[other], pure=False).result()
    return statistics.median(times)


def time_exchanges(handle: Any, n: int, n_calls: int) -> list[float]:
    """Return the seconds of each of some calls that push and pull."""
    update = {"coef": np.ones(n)}
    return [time_call(lambda: handle.pushpull(update, "coef")) for _ in range(n_calls)]


def measure_cluster(
    n_workers: int, cases: Sequence[Case], path: Path, y: np.ndarray, shape: Sequence[int], repeats: int
) -> dict[str, float]:
    """Seconds per pass of every case, on so many processes of one thread."""
    with open_cluster(n_workers):
        X = rows_of_file(path, shape, 2 * n_workers).persist()
        labels = da.from_array(y, chunks=(X.chunks[0],)).persist()
        wait([X, labels])
        found = {}
        for case in cases:
            say(f"{case.name}: {n_workers} processes")
            found[case.name] = seconds_per_pass(case, X, labels, repeats)
    return found


def tell_constants(constants: Constants, works: Sequence[Work]) -> list[dict[str, Any]]:
    """A row per constant."""
    rows = [
        {"constant": "a round beside its tasks, ms", "value": 1e3 * constants.round_s},
        {"constant": "a task, ms", "value": 1e3 * constants.task_s},
        {"constant": "a push with a pull, ms", "value": 1e3 * constants.call_s},
        {"constant": "from a worker to the client, MB/s", "value": constants.bytes_per_s / 1e6},
        {"constant": "cores", "value": constants.n_cores},
    ]
    for work in works:
        rows.append({"constant": f"{work.name}: a row on one core, ns", "value": 1e9 * work.row_s})
        rows.append({"constant": f"{work.name}: the same while all compute, ns", "value": 1e9 * work.busy_row_s})
    return rows


def compare(works: Sequence[Work], constants: Constants, found: dict[int, dict[str, float]]) -> list[dict[str, Any]]:
    """A row per algorithm and number of processes."""
    rows = []
    for work in works:
        for n_workers, measured in found.items():
            predicted = predict(work, constants, n_workers)
            rows.append(
                {
                    "algorithm": work.name,
                    "processes": n_workers,
                    "predicted, ms": 1e3 * predicted,
                    "measured, ms": 1e3 * measured[work.name],
                    "measured / predicted": measured[work.name] / predicted,
                }
            )
    return rows


def extrapolate(works: Sequence[Work], constants: Constants) -> list[dict[str, Any]]:
    """A row per algorithm and size of a cluster in which each worker has a core."""
    rows = []
    for work in works:
        steps = {} if work.step_rows is None else {"step_rows": max(1, int(STEP_S / work.busy_row_s))}
        large = replace(work, n_rows=LARGE_ROWS, row_s=work.busy_row_s, **steps)
        alone = large.n_rows * large.row_s
        for n_workers in LARGE_WORKERS:
            seconds = predict(large, replace(constants, n_cores=n_workers), n_workers)
            rows.append(
                {
                    "algorithm": work.name,
                    "workers": n_workers,
                    "seconds": seconds,
                    "of the arithmetic alone": alone / n_workers / seconds,
                    "fastest with, workers": round(best_n_workers(large, constants)),
                }
            )
    return rows


@dataclass(frozen=True)
class PredictedAndMeasured:
    """A line per algorithm for what was predicted, and dots of its colour for what was measured."""

    table: str

    def draw(self, axes: Any, report: Report) -> None:
        """Draw on logarithmic axes."""
        rows = report.tables[self.table]
        for number, name in enumerate(dict.fromkeys(row["algorithm"] for row in rows)):
            mine = [row for row in rows if row["algorithm"] == name]
            processes, colour = [row["processes"] for row in mine], f"C{number}"
            axes.plot(processes, [row["predicted, ms"] for row in mine], color=colour, label=f"{name}, predicted")
            axes.plot(processes, [row["measured, ms"] for row in mine], "o", color=colour, label=f"{name}, measured")
        axes.set(xscale="log", yscale="log", xlabel="worker processes", ylabel="ms per pass")
        axes.set_xticks(sorted({row["processes"] for row in rows}), minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.legend(fontsize="small", ncols=2)


def write_report(report: Report, path: Path) -> None:
    """Write the tables as reStructuredText, and the figure under the same name beside it."""
    lines = [f"*{describe_machine()[key]}.*" for key in ("processors", "versions")]
    parts = ["\n\n".join(lines)] + [f"**{title}**\n\n{format_rst(rows)}" for title, rows in report.tables.items()]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if find_spec("matplotlib"):
        draw(report, path.with_suffix(".png"))
    say(f"Wrote {path}")


def say(line: str) -> None:
    """Tell how far the measurement is, on the side."""
    print(line, file=sys.stderr, flush=True)
