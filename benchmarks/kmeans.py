"""Time whole fits of k-means beside scikit-learn, dask-ml and Spark, on the same data in one run.

All fits have tol=0. Those without "k-means‖" in their name begin with the same first centres, different rows of the
data drawn at random, so they do the same rounds to the same answer; the others find their own, in the time measured.
The data are mixtures of Gaussians of unit variance, whose centres are spread with the standard deviation R that is
stated: with R=1 they overlap. Bringing the data into memory, starting a cluster, and a first fit of a few rows (it
compiles) are not timed. The fits of one repetition follow one another, so that a slow minute of the machine meets
all; seconds are the median.
"""

from __future__ import annotations

import argparse
import gc
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

from benchmarks.data import draw_rows, gauss_mixture, inertia
from benchmarks.peers import PEERS, Answer, Peer, Problem, open_for, present
from benchmarks.results import Bars, Report, geometric_mean, spread_out

SEED = 20
SCIKIT_LEARN = ("scikit-learn lloyd", "scikit-learn elkan")
COMPARISONS = (  # ours, theirs (the fastest of them counts)
    ("dparallel threads", SCIKIT_LEARN),
    ("dparallel 2 processes, 8 chunks", SCIKIT_LEARN),
    ("dparallel 2 processes, 128 chunks", ("dparallel 2 processes, 8 chunks",)),
    ("dparallel 2 processes, k-means‖", ("dask-ml 2 processes, k-means‖",)),
    ("dparallel 2 processes, k-means‖", ("Spark local[2], k-means‖",)),
)


@dataclass(frozen=True)
class Case:
    """Data and what to fit; spread is R, see data.gauss_mixture."""

    n_rows: int
    n_features: int
    n_clusters: int
    max_iter: int
    spread: float

    def __str__(self) -> str:
        rows = f"{self.n_rows // 1000}k" if self.n_rows < 1_000_000 else f"{self.n_rows // 1_000_000}M"
        return f"{rows} x {self.n_features}, R={self.spread:g}, k={self.n_clusters}, {self.max_iter} rounds"

    def shrink(self) -> Case:
        """Return a case of the same columns that takes no time."""
        return Case(self.n_rows // 250, self.n_features, 6, self.max_iter // 10, self.spread)

    def make(self, folder: Path) -> Problem:
        """Draw the rows, which depend on the shape but not on the rounds, and write them to a file as well."""
        X = gauss_mixture(self.n_rows, self.n_features, self.n_clusters, self.spread, SEED)
        path = folder / "rows.npy"
        np.save(path, X)
        return Problem(X, path, draw_rows(X, self.n_clusters, [SEED, 1]), self.max_iter)


CASES = {
    "short": Case(1_000_000, 20, 50, 20, 1.0),
    "long": Case(1_000_000, 20, 50, 100, 1.0),
    "separated": Case(1_000_000, 20, 50, 100, 10.0),
    "wide": Case(400_000, 50, 200, 50, 1.0),
    "narrow": Case(1_000_000, 4, 16, 50, 1.0),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=" ".join(CASES))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=" ".join(PEERS))
    parser.add_argument("--repeats", type=int, default=3, help="fits per peer and case (default: 3)")
    parser.add_argument(
        "--patience", type=float, default=60, help="a fit that took longer is not repeated (seconds; default: 60)"
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
    times: dict[str, list[float]] = {peer.name: [] for peer in peers}
    answers: dict[str, Answer] = {}
    with ExitStack() as held:
        ready = {}
        for peer in peers:
            warm_up(peer, problem, folder)
            ready[peer] = held.enter_context(peer.hold(problem))
        for _ in range(options.repeats):
            for peer in list(ready):
                if times[peer.name] and max(times[peer.name]) > options.patience:
                    continue
                try:
                    answers[peer.name] = fit(peer, ready[peer], problem, times[peer.name])
                except Exception as error:  # a peer that fails must not take the others' figures with it
                    report.note(f"{peer.name} failed at {case}: {type(error).__name__}: {error}")
                    del ready[peer]
                    answers.pop(peer.name, None)
                else:
                    print(f"{case}: {peer.name} {times[peer.name][-1]:.2f} s", file=sys.stderr, flush=True)
    return tabulate(case, problem, [peer for peer in peers if peer.name in answers], times, answers)


def warm_up(peer: Peer, problem: Problem, folder: Path) -> None:
    """Fit the first rows, so that what is compiled at a first call is compiled."""
    X = problem.X[: max(1000, 10 * len(problem.centres))]
    path = folder / "first_rows.npy"
    np.save(path, X)
    small = Problem(X, path, X[: len(problem.centres)], max_iter=2)
    with peer.hold(small) as rows:
        peer.fit(rows, small)


def fit(peer: Peer, rows: Any, problem: Problem, times: list[float]) -> Answer:
    """Fit once and note the seconds."""
    gc.collect()
    started = time.perf_counter()
    answer = peer.fit(rows, problem)
    times.append(time.perf_counter() - started)
    return answer


def tabulate(
    case: Case, problem: Problem, peers: Sequence[Peer], times: dict[str, list[float]], answers: dict[str, Answer]
) -> list[dict[str, Any]]:
    """Put one case into rows; differences of centres are relative to the largest number among scikit-learn's."""
    medians = {peer.name: statistics.median(times[peer.name]) for peer in peers}
    fastest = min((medians[name] for name in SCIKIT_LEARN if name in medians), default=None)
    truth = next((answers[name].centres for name in SCIKIT_LEARN if name in answers), None)
    rows = []
    for peer in peers:
        answer = answers[peer.name]
        comparable = truth is not None and not peer.seeds
        rows.append(
            {
                "case": str(case),
                "who": peer.name,
                "seconds": medians[peer.name],
                "/ scikit-learn": medians[peer.name] / fastest if fastest else None,
                "rounds": int(answer.n_rounds),
                "inertia": inertia(problem.X, answer.centres),
                "centres off by": np.abs(answer.centres - truth).max() / np.abs(truth).max() if comparable else None,
                "all seconds": times[peer.name],
            }
        )
    return rows


def compare(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Summarise over the cases: geometric mean and worst case of ours / the fastest of theirs."""
    seconds = {(row["case"], row["who"]): row["seconds"] for row in rows}
    cases = list(dict.fromkeys(row["case"] for row in rows))
    summary = []
    for ours, theirs in COMPARISONS:
        ratios = {}
        for case in cases:
            others = [seconds[case, name] for name in theirs if (case, name) in seconds]
            if others and (case, ours) in seconds:
                ratios[case] = seconds[case, ours] / min(others)
        if ratios:
            worst = max(ratios, key=ratios.__getitem__)
            summary.append(
                {
                    "ours": ours,
                    "theirs": "faster of scikit-learn's two" if theirs == SCIKIT_LEARN else theirs[0],
                    "geometric mean": geometric_mean(ratios.values()),
                    "worst": ratios[worst],
                    "worst case": worst,
                    "cases": len(ratios),
                }
            )
    return summary
