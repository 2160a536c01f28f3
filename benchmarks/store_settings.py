"""What the settings of the parameter store do to fits of AsyncSGDClassifier on the cluster."""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask

from benchmarks.data import log_loss
from benchmarks.linear import Problem, Processes, quiet

REPLICA_EPOCHS = 10
STALENESS_EPOCHS = 4
QUICK_EPOCHS = 2
STALENESSES: tuple[int | None, ...] = (None, 0, 1, 3)


def measure_replicas(case: Any, problem: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time fits on the cluster with one copy of the parameters and with two, in turn."""
    n_epochs = QUICK_EPOCHS if options.quick else REPLICA_EPOCHS
    peer = Processes()
    times: dict[int, list[float]] = {0: [], 1: []}
    with peer.hold(problem) as rows:
        for _ in range(2 * options.repeats):
            for replicas, mine in times.items():
                with dask.config.set({"dparallel.store.replicas": replicas}):
                    mine.append(timed(peer, rows, n_epochs)[0])
    alone = statistics.median(times[0])
    return [
        {
            "case": str(case),
            "replicas": replicas,
            "epochs": n_epochs,
            "seconds": statistics.median(mine),
            "/ one copy": statistics.median(mine) / alone,
            "all seconds": mine,
        }
        for replicas, mine in times.items()
    ]


def measure_staleness(case: Any, problem: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time fits of a few epochs and measure their loss, by staleness, on free cores and beside another program."""
    n_epochs = QUICK_EPOCHS if options.quick else STALENESS_EPOCHS
    table = []
    with Processes().hold(problem) as rows:
        for others in (0, 1):
            found: dict[int | None, list[tuple[float, float]]] = {staleness: [] for staleness in STALENESSES}
            with busy(others):
                for _ in range(options.repeats):
                    for staleness, mine in found.items():
                        seconds, answer = timed(Processes(staleness=staleness), rows, n_epochs)
                        mine.append((seconds, log_loss(problem.X, problem.y, *answer) / problem.optimum))
            table += [
                {
                    "case": str(case),
                    "busy cores": others,
                    "staleness": "None" if staleness is None else str(staleness),
                    "epochs": n_epochs,
                    "seconds": statistics.median(seconds for seconds, _ in mine),
                    "loss / optimum": statistics.median(loss for _, loss in mine),
                    "all seconds": [seconds for seconds, _ in mine],
                    "all losses": [loss for _, loss in mine],
                }
                for staleness, mine in found.items()
            ]
    return table


def timed(peer: Processes, rows: Any, n_epochs: int) -> tuple[float, Any]:
    """Fit once; returns the seconds, and what was learnt."""
    gc.collect()
    with quiet():
        started = time.perf_counter()
        answer = peer.fit(rows, n_epochs)
        return time.perf_counter() - started, answer


@contextmanager
def busy(n_cores: int) -> Iterator[None]:
    """Let programs compete for the cores, each for as much as one core."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_cores)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
