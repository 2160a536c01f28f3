"""Compare the quality of k-means‖ with k-means++ and with the figures of its paper.

dparallel seeds by k-means‖ (oversampling factor 2, 5 rounds), scikit-learn by greedy k-means++. The seed cost is the
inertia under the first centres, the final cost the inertia after Lloyd's rounds; both are medians over the seeds.
"Paper" is seed/final of Bahmani et al., "Scalable k-means++" (VLDB 2012); its figures for KDD are for all of the data.
Spam and KDD are read from the folder DPARALLEL_DATA, or from ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus

from benchmarks.data import data_folder, gauss_mixture, inertia, load_kdd, load_spam
from benchmarks.results import Bars, Report
from dparallel import ParallelKMeans

KDD_SEEDS = 3
PAPER = {
    ("k-means‖", "GaussMixture R=1", 50): "17/14",
    ("k-means‖", "GaussMixture R=10", 50): "27/25",
    ("k-means‖", "GaussMixture R=100", 50): "16/15",
    ("k-means++", "GaussMixture R=1", 50): "23/14",
    ("k-means++", "GaussMixture R=10", 50): "62/31",
    ("k-means++", "GaussMixture R=100", 50): "30/15",
    ("k-means‖", "Spam", 20): "-/234",
    ("k-means‖", "Spam", 50): "-/66",
    ("k-means‖", "Spam", 100): "-/24",
}


@dataclass(frozen=True)
class Task:
    """Rows to cluster, and the unit in which their cost is told."""

    data: str
    X: np.ndarray
    n_clusters: int
    max_iter: int
    unit: float
    n_seeds: int


@dataclass(frozen=True)
class Trial:
    """What one seed gave."""

    seed_cost: float
    final_cost: float
    n_rounds: int
    seconds: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument(
        "--seeds", type=int, default=11, help=f"seeds per figure (default: 11; KDD: {KDD_SEEDS} at most)"
    )


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all tasks."""
    rows = report.tables.setdefault("Costs", [])
    report.figure = Bars("Costs", group="task", bar="method", value="final")
    for task in tasks(options, report):
        for method, seed_and_fit in METHODS.items():
            rows.append(measure(task, method, seed_and_fit))
            print(f"{rows[-1]['task']}: {method} {rows[-1]['final']:.4g}", file=sys.stderr, flush=True)


def tasks(options: argparse.Namespace, report: Report) -> Iterator[Task]:
    """Yield what to cluster, one data set in memory at a time."""
    n_seeds, step, name = (2, 20, "a 20th of ") if options.quick else (options.seeds, 1, "")
    for spread in (1, 10, 100):
        X = gauss_mixture(10_000 // step, 15, 50, spread, seed=spread)
        yield Task(f"{name}GaussMixture R={spread}", X, 50, 300, 1e4, n_seeds)
    folder = data_folder()
    if folder is None:
        report.note("Spam and KDD are skipped: set DPARALLEL_DATA to the folder that holds them.")
        return
    X = load_spam(folder)[::step]
    for n_clusters in (20, 50, 100):
        yield Task(f"{name}Spam", X, n_clusters, 300, 1e5, n_seeds)
    if not options.quick:
        X = load_kdd(folder)
        for n_clusters in (50, 100):
            yield Task("KDD 10 %", X, n_clusters, 20, 1e10, min(n_seeds, KDD_SEEDS))


def measure(task: Task, method: str, seed_and_fit: Any) -> dict[str, Any]:
    """Run all seeds of one method and return its row."""
    trials = [seed_and_fit(task, seed) for seed in range(task.n_seeds)]
    finals = [trial.final_cost / task.unit for trial in trials]
    return {
        "task": f"{task.data}, k={task.n_clusters}",
        "method": method,
        "unit": f"{task.unit:.0e}",
        "seed": statistics.median(trial.seed_cost / task.unit for trial in trials),
        "final": statistics.median(finals),
        "worst final": max(finals),
        "paper": PAPER.get((method.rpartition(" ")[2], task.data, task.n_clusters)),
        "mean rounds": statistics.mean(trial.n_rounds for trial in trials),
        "seconds": statistics.median(trial.seconds for trial in trials),
        "seeds": task.n_seeds,
        "all finals": finals,
    }


def scalable(task: Task, seed: int) -> Trial:
    """dparallel with k-means‖; the record of its first round tells the cost of the first centres."""
    started = time.perf_counter()
    model = ParallelKMeans(
        task.n_clusters,
        init="k-means||",
        oversampling_factor=2.0,
        init_rounds=5,
        max_iter=task.max_iter,
        random_state=seed,
    ).fit(task.X)
    seconds = time.perf_counter() - started
    return Trial(model.history_[0].objective, inertia(task.X, model.cluster_centers_), model.n_iter_, seconds)


def plus_plus(task: Task, seed: int) -> Trial:
    """scikit-learn with its greedy k-means++."""
    started = time.perf_counter()
    centres, _ = kmeans_plusplus(task.X, task.n_clusters, random_state=seed)
    model = KMeans(task.n_clusters, init=centres, n_init=1, max_iter=task.max_iter).fit(task.X)
    seconds = time.perf_counter() - started
    return Trial(inertia(task.X, centres), inertia(task.X, model.cluster_centers_), model.n_iter_, seconds)


METHODS = {"dparallel k-means‖": scalable, "scikit-learn k-means++": plus_plus}
