"""Measure what a round of k-means costs beside its arithmetic, by chunks and by worker processes.

The data are so small that the arithmetic takes about a millisecond. "ms per round" is the median of the rounds after
the first, over all repetitions, "first round" that of the first; "fit" is the whole fit: looking at the rows, the
rounds, the inertia.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from distributed import wait

from benchmarks.cluster import open_cluster
from benchmarks.data import draw_rows, gauss_mixture, rows_of_file
from benchmarks.results import Lines, Report
from dparallel import ParallelKMeans

SHAPE = (51_200, 10)
N_CLUSTERS = 16
SEED = 30


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="worker processes (default: 1 2 4)")
    parser.add_argument("--chunks", type=int, nargs="+", default=[8, 128, 512], help="(default: 8 128 512)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds per fit (default: 20)")
    parser.add_argument("--repeats", type=int, default=3, help="fits per figure (default: 3)")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure threads, then one cluster per number of workers."""
    workers, chunks = ([2], [4, 16]) if options.quick else (options.workers, options.chunks)
    X = gauss_mixture(*SHAPE, N_CLUSTERS, 1.0, SEED)
    centres = draw_rows(X, N_CLUSTERS, [SEED, 1])
    table = report.tables.setdefault("Overhead", [])
    series: dict[str, tuple[list[int], list[float]]] = {}
    report.figure = Lines(series, "chunks", "ms per round", log=True)

    def fit(rows: Any) -> ParallelKMeans:
        return ParallelKMeans(N_CLUSTERS, init=centres, tol=0, max_iter=options.rounds).fit(rows)

    table.append({"where": "threads", "chunks": 1, **measure(lambda: fit(X), options.repeats)})
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, X)
        for n_workers in workers:
            where = f"{n_workers} process" + "es" * (n_workers > 1)
            x, y = series.setdefault(where, ([], []))
            with open_cluster(n_workers):
                for n_chunks in chunks:
                    rows = rows_of_file(path, SHAPE, n_chunks).persist()
                    wait(rows)
                    figures = measure(lambda rows=rows: fit(rows), options.repeats)
                    table.append({"where": where, "chunks": n_chunks, **figures})
                    x.append(n_chunks)
                    y.append(figures["ms per round"])


def measure(fit: Callable[[], ParallelKMeans], repeats: int) -> dict[str, float]:
    """Fit once to compile, then as often as asked."""
    fit()
    firsts, others, wholes = [], [], []
    for _ in range(repeats):
        started = time.perf_counter()
        history = fit().history_
        wholes.append(time.perf_counter() - started)
        firsts.append(history[0].seconds)
        others.extend(record.seconds for record in history[1:])
    return {
        "ms per round": 1e3 * statistics.median(others),
        "first round, ms": 1e3 * statistics.median(firsts),
        "fit, ms": 1e3 * statistics.median(wholes),
        "rounds": len(history),
        "bytes moved per round": history[-1].bytes_moved,
    }
