"""Time how long exact logistic regression takes to come to the optimum, beside scikit-learn, dask-ml and Spark.

Every peer is fitted from nothing with more and more iterations, until the mean log loss of the training rows is at most
1 + gap times the optimum; that fit is then repeated, the peers one after another. Seconds are medians of wall-clock
time, and of the processor time of this process for peers that compute in it. Not timed: bringing the data into memory,
starting a cluster, and a first small fit (it compiles). There is no penalty, or next to none.

A second table tells what tiles cost: the same fit with columns together and in chunks, to tol, on the cluster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from distributed import wait

from benchmarks.data import log_loss
from benchmarks.linear import PEERS as OTHERS
from benchmarks.linear import Answer, OnCluster, Peer, Problem, answer, quiet
from benchmarks.peers import N_PROCESSES, open_for, present
from benchmarks.results import Bars, Report
from benchmarks.sgd import CASES, budgets, say, warm_up
from dparallel import ParallelLogisticRegression

GAP = 1e-6
GRIDS = ((4, 1), (1, 4), (2, 2))
COMPARISONS = (
    ("dparallel threads", "scikit-learn"),
    (f"dparallel {N_PROCESSES} processes", "dask-ml"),
    (f"dparallel {N_PROCESSES} processes", "Spark"),
)


class Threads(Peer):
    """dparallel on NumPy arrays, in all threads of this machine."""

    name = family = "dparallel threads"
    most = 512

    def fit(self, rows: Any, n_epochs: int) -> Answer:
        return answer(ParallelLogisticRegression(C=np.inf, max_iter=n_epochs, tol=1e-12).fit(*rows))


class Processes(Threads):
    """dparallel on Dask arrays of row chunks."""

    name = family = f"dparallel {N_PROCESSES} processes"
    needs = "cluster"
    hold = OnCluster.hold


PEERS: dict[str, Peer] = {
    "threads": Threads(),
    "processes": Processes(),
    "lbfgs": OTHERS["logistic-lbfgs"],
    **{name: peer for name, peer in OTHERS.items() if name.startswith("dask-")},
    "spark": OTHERS["spark"],
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    cases = list(CASES)[:3]
    parser.add_argument(
        "--cases", nargs="+", choices=cases, default=["correlated"], metavar="CASE", help=" ".join(cases)
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=" ".join(PEERS))
    parser.add_argument("--repeats", type=int, default=3, help="repetitions per peer and case (default: 3)")
    parser.add_argument("--patience", type=float, default=60, help="longest fit that is followed by others (seconds)")
    parser.add_argument("--gap", type=float, default=GAP, help=f"share of the optimum that is left (default: {GAP})")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all cases, then tiles."""
    peers = present((PEERS[name] for name in options.peers), report)
    title = f"Time to 1 + {options.gap:g} x the least log loss"
    with open_for(peers):
        for name in options.cases:
            case = CASES[name].shrink() if options.quick else CASES[name]
            with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
                say(f"{case}: drawing rows")
                problem = case.make(Path(folder))
                rows = list(measure(str(case), problem, peers, Path(folder), options, report))
                report.tables.setdefault(title, []).extend(rows)
                if any(peer.needs == "cluster" for peer in peers):
                    report.tables.setdefault("Tiles", []).extend(measure_tiles(str(case), problem))
        report.tables["Ratios of seconds"] = compare(report.tables[title])
        report.figure = Bars(title, "case", "who", "seconds") if report.tables[title] else None


def measure(
    case: str, problem: Problem, peers: Sequence[Peer], folder: Path, options: argparse.Namespace, report: Report
) -> Iterator[dict[str, Any]]:
    """Find the fewest iterations of each peer that get there, and time them."""
    for peer in peers:
        try:
            warm_up(peer, problem, folder)
            with peer.hold(problem) as rows:
                found = climb(peer, rows, problem, options)
        except Exception as error:  # a peer that fails must not take the others' figures with it
            report.note(f"{peer.name} failed at {case}: {type(error).__name__}: {error}")
            continue
        if found["seconds"] is None:
            above = f"but {found['excess']:.1e} above"
            report.note(f"{peer.name} is not there at {case} when a fit takes {options.patience:g} s, {above}.")
        else:
            yield {"case": case, "who": peer.name, "family": peer.family, **found}


def climb(peer: Peer, rows: Any, problem: Problem, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and iterations of one peer; None where it does not get there."""
    reached, excess = None, float("inf")
    for n_epochs in budgets(peer.most):
        seconds, _, found = fit(peer, rows, problem, n_epochs)
        excess = min(excess, found)
        if found <= options.gap or options.quick:
            reached = n_epochs
        if reached is not None or seconds > options.patience:
            break
    if reached is None:
        return {"seconds": None, "processor seconds": None, "iterations": None, "excess": excess}
    times = [fit(peer, rows, problem, reached) for _ in range(options.repeats)]
    seconds, cpu = (statistics.median(time[i] for time in times) for i in (0, 1))
    processor = cpu if peer.needs == "nothing" else None
    return {"seconds": seconds, "processor seconds": processor, "iterations": reached, "excess": excess}


def fit(peer: Peer, rows: Any, problem: Problem, n_epochs: int) -> tuple[float, float, float]:
    """Seconds, processor seconds, and by which share of the optimum the loss exceeds it."""
    with quiet():
        started, used = time.perf_counter(), time.process_time()
        coef, intercept = peer.fit(rows, n_epochs)
        seconds, processor = time.perf_counter() - started, time.process_time() - used
    excess = log_loss(problem.X, problem.y, coef, intercept) / problem.optimum - 1.0
    say(f"{peer.name}: {n_epochs} iterations, {seconds:.2f} s, {excess:.2e} above the optimum")
    return seconds, processor, excess


@contextmanager
def tiled(problem: Problem, grid: tuple[int, int]) -> Iterator[Any]:
    """The rows in tiles in the memory of the workers."""
    chunks = tuple(-(-size // n) for size, n in zip(problem.X.shape, grid, strict=True))
    X = da.from_array(np.load(problem.path, mmap_mode="r"), chunks=chunks, name=False).persist()
    wait(X)
    yield X


def measure_tiles(case: str, problem: Problem) -> Iterator[dict[str, Any]]:
    """Fit to tol with the columns together and apart."""
    for grid in GRIDS:
        with tiled(problem, grid) as X, quiet():
            started = time.perf_counter()
            model = ParallelLogisticRegression(tol=1e-6, max_iter=500).fit(X, problem.y)
            seconds = time.perf_counter() - started
        yield {
            "case": case,
            "tiles": f"{grid[0]} x {grid[1]}",
            "seconds": seconds,
            "iterations": int(model.n_iter_[0]),
            "seconds per iteration": seconds / max(1, int(model.n_iter_[0])),
        }


def compare(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Divide ours by the fastest of theirs."""
    ratios = []
    for case in dict.fromkeys(row["case"] for row in table):
        known = {row["who"]: row["seconds"] for row in table if row["case"] == case}
        for ours, theirs in COMPARISONS:
            others = {who: seconds for who, seconds in known.items() if who.startswith(theirs)}
            if ours in known and others:
                fastest = min(others, key=others.__getitem__)
                ratio = known[ours] / others[fastest]
                ratios.append({"case": case, "ours": ours, "the fastest of theirs": fastest, "ratio": ratio})
    return ratios
