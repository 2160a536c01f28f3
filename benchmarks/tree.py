"""Time one decision tree beside scikit-learn, HistGradientBoosting, LightGBM, XGBoost and Spark, on the same data.

Everyone grows one tree of the same depth, all its leaves allowed, binning included; the boosters with one iteration
and a learning rate of 1. Rows are independent normal columns of float32 with two classes that depend on four of them.
Accuracy is that on rows held out (Spark's on 2000 of them). Not timed: bringing the rows into memory, starting a
cluster or a JVM, and a first fit of a few rows (it compiles). The fits of one repetition follow one another, so that a
slow minute of the machine meets all; seconds are the median. Memory is watched in one fit more: how far the process, or
the worker that grew most, went beyond what it had before the fit.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from benchmarks.growers import PEERS, Peer, Problem
from benchmarks.linear import quiet
from benchmarks.memory import Watch
from benchmarks.peers import open_for, present
from benchmarks.results import Bars, Report, spread_out

SEED = 22
HELD_OUT = 100_000
COMPARISONS = (  # ours, theirs
    ("dparallel threads", "LightGBM, 1 tree"),
    ("dparallel threads", "scikit-learn exact"),
    ("dparallel threads", "HistGradientBoosting, 1 iteration"),
    ("dparallel threads", "XGBoost, 1 tree"),
    ("dparallel 2 processes", "LightGBM Dask, 1 tree, 2 processes"),
    ("dparallel 2 processes", "XGBoost Dask, 1 tree, 2 processes"),
    ("dparallel 2 processes", "Spark local[2]"),
)


@dataclass(frozen=True)
class Case:
    """Rows to draw, and the depth of the tree."""

    n_rows: int
    n_features: int
    depth: int

    def __str__(self) -> str:
        rows = f"{self.n_rows / 1e3:g}k" if self.n_rows < 1_000_000 else f"{self.n_rows / 1e6:g}M"
        return f"{rows} x {self.n_features}, depth {self.depth}"

    def shrink(self) -> Case:
        """Return a case of the same columns that takes no time."""
        return Case(self.n_rows // 200, self.n_features, min(self.depth, 4))

    def make(self, folder: Path) -> Problem:
        """Draw the rows and write them to a file as well."""
        random = np.random.default_rng(SEED)
        n_held_out = min(HELD_OUT, self.n_rows)
        X = random.standard_normal((self.n_rows + n_held_out, self.n_features), np.float32)
        noise = random.standard_normal(len(X), np.float32)
        y = (X[:, 0] * X[:, 1] + X[:, 2] + 0.5 * X[:, 3] ** 2 + noise > 0.5).astype(np.int64)
        rows, held_out = (X[: self.n_rows], y[: self.n_rows]), (X[self.n_rows :], y[self.n_rows :])
        path = folder / "rows.npy"
        np.save(path, rows[0])
        return Problem(*rows, held_out, path, self.depth)


CASES = {
    "higgs-like": Case(1_600_000, 28, 10),
    "shallow": Case(1_600_000, 28, 5),
    "wide": Case(100_000, 300, 8),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=" ".join(CASES))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=" ".join(PEERS))
    parser.add_argument("--repeats", type=int, default=3, help="fits per peer and case (default: 3)")
    parser.add_argument(
        "--patience", type=float, default=30, help="a fit that took longer is not repeated (seconds; default: 30)"
    )


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all cases and compare."""
    peers = present((PEERS[name] for name in options.peers), report)
    with open_for(peers):
        for name in options.cases:
            case = CASES[name].shrink() if options.quick else CASES[name]
            with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
                rows = measure_case(case, peers, Path(folder), options, report)
            fits = report.tables.setdefault("Whole fits", [])
            fits.extend(rows)
            report.tables["Seconds"] = spread_out(fits, "case", "who", "seconds")
            report.tables["Ratios of seconds"] = compare(fits)
            report.figure = Bars("Whole fits", group="case", bar="who", value="seconds")


def measure_case(
    case: Case, peers: Sequence[Peer], folder: Path, options: argparse.Namespace, report: Report
) -> list[dict[str, Any]]:
    """Fit one case with all peers and return a row of the table for each that came through."""
    problem = case.make(folder)
    times: dict[Peer, list[float]] = {peer: [] for peer in peers}
    rows: dict[Peer, dict[str, Any]] = {}
    with ExitStack() as held, quiet():
        ready = {}
        for peer in peers:
            warm_up(peer, problem, folder)
            ready[peer] = held.enter_context(peer.hold(problem))
        for repetition in range(options.repeats):
            for peer in list(ready):
                if times[peer] and max(times[peer]) > options.patience:
                    continue
                try:
                    model, seconds = fit(peer, ready[peer], problem.depth)
                    times[peer].append(seconds)
                    if repetition == 0:
                        rows[peer] = describe(case, peer, model, ready[peer], problem, options.patience)
                        add_levels(case, peer, model, report)
                except Exception as error:  # a peer that fails must not take the others' figures with it
                    report.note(f"{peer.name} failed at {case}: {type(error).__name__}: {error}")
                    del ready[peer]
                    rows.pop(peer, None)
                else:
                    print(f"{case}: {peer.name} {times[peer][-1]:.2f} s", file=sys.stderr, flush=True)
    medians = {peer: {"seconds": statistics.median(times[peer]), "all seconds": times[peer]} for peer in rows}
    return [rows[peer] | medians[peer] for peer in rows]


def warm_up(peer: Peer, problem: Problem, folder: Path) -> None:
    """Fit the first rows, so that what is compiled at a first call is compiled."""
    X, y = problem.X[:4000], problem.y[:4000]
    path = folder / "first_rows.npy"
    np.save(path, X)
    small = Problem(X, y, (X, y), path, 2)
    with peer.hold(small) as rows:
        peer.predictor(peer.fit(rows, 2))(X)


def fit(peer: Peer, rows: Any, depth: int) -> tuple[Any, float]:
    """Fit once and return the model and the seconds."""
    gc.collect()
    started = time.perf_counter()
    model = peer.fit(rows, depth)
    return model, time.perf_counter() - started


def describe(case: Case, peer: Peer, model: Any, rows: Any, problem: Problem, patience: float) -> dict[str, Any]:
    """Put what a fit led to into a row: accuracy on rows held out, rounds, and memory, for which it is fitted again."""
    X, y = problem.held_out
    found = peer.predictor(model)(X)
    memory = None if peer.needs == "spark" else measure_memory(peer, rows, problem.depth)
    return {
        "case": str(case),
        "who": peer.name,
        "seconds": None,
        "accuracy": float((found == y[: len(found)]).mean()),
        "rounds": getattr(model, "n_rounds_", None),
        "memory, MB": memory,
        "all seconds": [],
    }


def measure_memory(peer: Peer, rows: Any, depth: int) -> float:
    """Return by how many MB this process, or the worker that grew most, went beyond what it had before the fit."""
    pids = [os.getpid()]
    if peer.needs == "cluster":
        pids = list(Client.current().run(os.getpid).values())
    gc.collect()
    with Watch() as watch:
        peer.fit(rows, depth)
    return max(watch.growth(pid) for pid in pids) / 1e6


def add_levels(case: Case, peer: Peer, model: Any, report: Report) -> None:
    """Add to the table of what each level of our tree moved."""
    if peer.needs != "cluster" or not hasattr(model, "history_"):
        return
    table = report.tables.setdefault("Levels of dparallel's tree on 2 processes", [])
    for record in model.history_:
        table.append(
            {
                "case": str(case),
                "level": record.round,
                "nodes split": record.n_splits,
                "rounds": record.n_rounds,  # 0 where the level was finished in the round of one above it
                "seconds": record.seconds,
                "MB moved": record.bytes_moved / 1e6,
                "impurity": record.objective,
            }
        )


def compare(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Divide our seconds by theirs, and subtract their accuracy from ours."""
    found = {(row["case"], row["who"]): row for row in rows}
    cases = list(dict.fromkeys(row["case"] for row in rows))
    return [
        {
            "case": case,
            "ours": ours,
            "theirs": theirs,
            "seconds, ours / theirs": found[case, ours]["seconds"] / found[case, theirs]["seconds"],
            "accuracy, ours - theirs": found[case, ours]["accuracy"] - found[case, theirs]["accuracy"],
        }
        for case in cases
        for ours, theirs in COMPARISONS
        if (case, ours) in found and (case, theirs) in found
    ]
