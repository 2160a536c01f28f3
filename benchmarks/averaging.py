"""Time parameter averaging beside asynchronous SGD and scikit-learn, and measure what the interval trades.

The first table is that of `python -m benchmarks sgd`: how long whole fits take until the log loss is at most 1.01 times
the least there is.

The second one fits a few epochs on two processes with different intervals between averages, once on rows as they come,
and once on rows sorted by their class, so that each process sees another one: there, replicas that run alone for long
settle far from the optimum. It tells seconds, bytes that crossed the network, and the loss.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import log_loss
from benchmarks.linear import PEERS, AveragingProcesses, AveragingThreads, Problem, Processes, Threads, answer, quiet
from benchmarks.peers import open_for
from benchmarks.results import Report
from benchmarks.sgd import CASES, measure_case, say, tell
from dparallel import LocalSGDClassifier

NAMES = [name for name in PEERS if name.startswith(("averaging", "sgd")) or name in ("threads", "processes")]
INTERVALS: tuple[int | str | None, ...] = (64, 512, 4096, "auto", None)
EPOCHS, QUICK_EPOCHS = 4, 2
COMPARISONS = (
    (AveragingThreads.family, ("scikit-learn SGDClassifier",)),
    (AveragingThreads.family, (Threads.family,)),
    (AveragingProcesses.family, ("scikit-learn SGDClassifier",)),
    (AveragingProcesses.family, (Processes.family,)),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    cases = list(CASES)
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases, metavar="CASE", help=" ".join(cases))
    parser.add_argument("--peers", nargs="+", choices=NAMES, default=NAMES, metavar="PEER", help=" ".join(NAMES))
    parser.add_argument("--repeats", type=int, default=3, help="repetitions per peer and case (default: 3)")
    parser.add_argument("--patience", type=float, default=30, help="longest fit that is followed by others (seconds)")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all cases."""
    peers = [PEERS[name] for name in options.peers]
    with open_for([*peers, AveragingProcesses()]):
        for name in options.cases:
            case = CASES[name].shrink() if options.quick else CASES[name]
            with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
                say(f"{case}: drawing rows")
                problem = case.make(Path(folder))
                climbs = measure_case(case, problem, peers, Path(folder), options, report)
                tell(report, case, climbs, COMPARISONS)
                for order, rows in (("as they come", problem), ("sorted by class", by_class(problem, Path(folder)))):
                    table = report.tables.setdefault("Intervals", [])
                    table += [{"case": str(case), "rows": order, **row} for row in measure_intervals(rows, options)]


def by_class(problem: Problem, folder: Path) -> Problem:
    """The same rows, one class after the other."""
    order = np.argsort(problem.y, kind="stable")
    path = folder / "rows_by_class.npy"
    np.save(path, problem.X[order])
    return replace(problem, X=problem.X[order], y=problem.y[order], path=path)


def measure_intervals(problem: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Fit a few epochs on the cluster with every interval, in turn."""
    n_epochs = QUICK_EPOCHS if options.quick else EPOCHS
    found: dict[Any, list[tuple[float, float, LocalSGDClassifier]]] = {interval: [] for interval in INTERVALS}
    with AveragingProcesses().hold(problem) as rows, quiet():
        for _ in range(options.repeats):
            for interval, fits in found.items():
                model = LocalSGDClassifier(
                    "log_loss", sync_every=interval, max_iter=n_epochs, tol=None, random_state=0
                ).fit(*rows)
                seconds = sum(record.seconds for record in model.history_)
                loss = log_loss(problem.X, problem.y, *answer(model)) / problem.optimum
                fits.append((seconds, loss, model))
    return [
        {
            "sync_every": str(interval),
            "last interval": fits[-1][2].sync_every_,
            "epochs": n_epochs,
            "averages": sum(record.n_averages for record in fits[-1][2].history_),
            "drift": fits[-1][2].history_[-1].drift,
            "kB moved": sum(record.bytes_moved for record in fits[-1][2].history_) / 1000,
            "seconds of rounds": statistics.median(seconds for seconds, _, _ in fits),
            "loss / optimum": statistics.median(loss for _, loss, _ in fits),
        }
        for interval, fits in found.items()
    ]
