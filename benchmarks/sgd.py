"""Time how long linear classifiers take to come near the least log loss, beside scikit-learn, dask-ml and Spark.

Every peer is fitted from nothing with 1, 2, 3... epochs or iterations, and each whole fit is timed: looking at the
rows, starting the store, training. The loss of the training rows is measured afterwards. The first fit whose loss is
at most 1.01 times the optimum counts. It is then repeated, the peers one after another, so that a slow minute of the
machine meets all; seconds are the median of the repetitions. Where a fit that is not deterministic misses the bar, that
repetition goes on with one epoch more until a fit gets there. Not timed: bringing the data into memory, starting a
cluster, and a first small fit (it compiles).

The SGDClassifier of scikit-learn depends on its rates, so five settings compete and the best counts. dparallel is
measured as it comes, and with a penalty as small as theirs. The rows are drawn from a logistic model, standardised;
"power" says how correlated the columns are, see data.two_classes. The optimum is found by LogisticRegression first.

Three more tables tell what second copies of the parameters cost a fit on the cluster; what staleness does, on two cores
that are free and on two of which one is busy with something else; and how well a9a is learnt, if it is in the folder
DPARALLEL_DATA, or in ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.data import data_folder, load_a9a, log_loss, two_classes
from benchmarks.linear import PEERS, Peer, Problem, Processes, quiet
from benchmarks.peers import open_for, present
from benchmarks.results import Lines, Report
from benchmarks.store_settings import measure_replicas, measure_staleness
from dparallel import AsyncSGDClassifier

SEED = 21
BAR = 1.01
A9A_SEEDS = 5
QUICK_EPOCHS = 3
COMPARISONS = (  # ours; theirs, of which the fastest counts: names of peers or families
    ("dparallel threads", ("scikit-learn SGDClassifier, optimal",)),  # as it comes, too
    ("dparallel threads", ("scikit-learn SGDClassifier",)),
    ("dparallel threads", ("scikit-learn LogisticRegression",)),
    ("dparallel 2 processes", ("scikit-learn SGDClassifier",)),
    ("dparallel 2 processes", ("dask-ml Incremental", "dask-ml LogisticRegression")),
    ("dparallel 2 processes", ("Spark local[2]",)),
    ("dparallel 2 processes", ("dparallel threads",)),
)


@dataclass(frozen=True)
class Case:
    """Rows to draw; see data.two_classes."""

    n_rows: int
    n_features: int
    power: float
    slope: float
    flipped: float
    dtype: str = "float64"

    def __str__(self) -> str:
        return f"{self.n_rows // 1000}k x {self.n_features} {self.dtype}, power {self.power:g}, slope {self.slope:g}"

    def shrink(self) -> Case:
        """Return a case of the same columns that takes no time."""
        return replace(self, n_rows=self.n_rows // 100)

    def make(self, folder: Path) -> Problem:
        """Draw the rows, write them to a file as well, and find the optimum."""
        X, y = two_classes(
            self.n_rows, self.n_features, self.power, self.slope, self.flipped, SEED, np.dtype(self.dtype)
        )
        path = folder / "rows.npy"
        np.save(path, X)
        exact = X.astype(np.float64, copy=False)
        model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(exact, y)
        return Problem(X, y, path, log_loss(X, y, model.coef_[0], model.intercept_[0]))


CASES = {
    "correlated": Case(900_000, 100, 1.0, 4.0, 0.05),
    "single": Case(900_000, 100, 1.0, 4.0, 0.05, "float32"),
    "independent": Case(900_000, 100, 0.0, 2.0, 0.0),
    "hard": Case(900_000, 100, 2.0, 6.0, 0.0),
}


@dataclass
class Climb:
    """The fits of one peer to one problem.

    Parameters
    ----------
    peer : Peer
    rows : what the peer holds
    problem : Problem
    patience : float, seconds; a fit that takes longer is the last
    most : int, epochs of the longest fit
    fits : list of (epochs, seconds, loss / optimum), in the order in which they were made
    bar : int, epochs of the shortest fit that reaches the bar; None where none does
    times : seconds of the repetitions, each to the bar
    """

    peer: Peer
    rows: Any
    problem: Problem
    patience: float
    most: int
    fits: list[tuple[int, float, float]] = field(default_factory=list)
    bar: int | None = None
    times: list[float] = field(default_factory=list)

    def fit(self, n_epochs: int) -> bool:
        """Fit once and note it; return whether it reached the bar."""
        gc.collect()
        with quiet():
            started = time.perf_counter()
            coef, intercept = self.peer.fit(self.rows, n_epochs)
            seconds = time.perf_counter() - started
            loss = log_loss(self.problem.X, self.problem.y, coef, intercept) / self.problem.optimum
        self.fits.append((n_epochs, seconds, loss))
        say(f"{self.peer.name}: {n_epochs} epochs, {seconds:.2f} s, {loss:.4f} x optimum")
        return loss <= BAR

    def find_bar(self) -> None:
        """Fit with more and more epochs until one gets there, then with fewer, and go on a little for the curve."""
        low = 0
        for n_epochs in budgets(self.most):
            if self.fit(n_epochs):
                self.bar = n_epochs
                break
            low = n_epochs
            if self.fits[-1][1] > self.patience:
                return
        if self.bar is None:
            return
        while self.bar - low > max(1, self.bar // 20):
            middle = (low + self.bar) // 2
            if self.fit(middle):
                self.bar = middle
            else:
                low = middle
        for n_epochs in sorted({self.bar + 1, 2 * self.bar, max(4, self.bar)} - {fit[0] for fit in self.fits}):
            if self.fits[-1][1] < self.patience / 4:
                self.fit(n_epochs)

    def repeat(self) -> None:
        """Time a fit to the bar once more."""
        if self.bar is None:
            return
        n_epochs = self.bar
        while n_epochs <= 2 * self.bar:
            if self.fit(n_epochs):
                self.times.append(self.fits[-1][1])
                return
            n_epochs += 1

    def curve(self) -> dict[int, tuple[float, float]]:
        """Medians of (seconds, loss) by epochs."""
        return {
            n: tuple(statistics.median(fit[i] for fit in self.fits if fit[0] == n) for i in (1, 2))
            for n in sorted({fit[0] for fit in self.fits})
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=" ".join(CASES))
    names = [name for name in PEERS if not name.startswith("averaging")]
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="PEER", help=" ".join(names))
    parser.add_argument("--repeats", type=int, default=3, help="repetitions per peer and case (default: 3)")
    parser.add_argument("--patience", type=float, default=30, help="longest fit that is followed by others (seconds)")
    parser.add_argument("--skip-spark", action="store_true", help="do without Spark")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all cases, then second copies and a9a."""
    chosen = [PEERS[name] for name in options.peers if not (options.skip_spark and name == "spark")]
    peers = present(chosen, report)
    with open_for(peers):
        for name in options.cases:
            case = CASES[name].shrink() if options.quick else CASES[name]
            with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
                say(f"{case}: drawing rows")
                problem = case.make(Path(folder))
                climbs = measure_case(case, problem, peers, Path(folder), options, report)
                tell(report, case, climbs)
                if any(peer.family == Processes.family for peer in peers):
                    copies = report.tables.setdefault("Second copies", [])
                    copies += measure_replicas(case, problem, options) if name == options.cases[0] else []
                    report.tables.setdefault("Staleness", []).extend(measure_staleness(case, problem, options))
    measure_a9a(options, report)


def measure_case(
    case: Case, problem: Problem, peers: Sequence[Peer], folder: Path, options: argparse.Namespace, report: Report
) -> list[Climb]:
    """Find every peer's bar, then repeat the fits in turn."""
    climbs = []
    with ExitStack() as held:
        rows: dict[Any, Any] = {}  # peers of one family share what they hold

        def attempt(peer: Peer, what: Any) -> bool:
            try:
                what()
            except Exception as error:  # a peer that fails must not take the others' figures with it
                report.note(f"{peer.name} failed at {case}: {type(error).__name__}: {error}")
                return False
            return True

        for peer in peers:
            if type(peer).hold not in rows:
                rows[type(peer).hold] = held.enter_context(peer.hold(problem))
            most = min(peer.most, QUICK_EPOCHS) if options.quick else peer.most
            climb = Climb(peer, rows[type(peer).hold], problem, options.patience, most)
            if attempt(peer, lambda peer=peer: warm_up(peer, problem, folder)) and attempt(peer, climb.find_bar):
                climbs.append(climb)
        for _ in range(options.repeats):
            climbs = [climb for climb in climbs if attempt(climb.peer, climb.repeat)]
    return climbs


def warm_up(peer: Peer, problem: Problem, folder: Path) -> None:
    """Fit the first rows, so that what is compiled at a first call is compiled."""
    path = folder / "first_rows.npy"
    np.save(path, problem.X[:2000])
    small = Problem(problem.X[:2000], problem.y[:2000], path, problem.optimum)
    with peer.hold(small) as rows, quiet():
        peer.fit(rows, 1)


def budgets(most: int) -> Iterator[int]:
    """Yield 1, 2, 3, 4, 6, 9, 13... up to the most."""
    n_epochs = 1
    while n_epochs <= most:
        yield n_epochs
        n_epochs = max(n_epochs + 1, n_epochs * 3 // 2)


def tell(report: Report, case: Case, climbs: Sequence[Climb], comparisons: Sequence[Any] = COMPARISONS) -> None:
    """Put one case into the report's tables and its figure; comparisons as COMPARISONS."""
    name = str(case)
    table = report.tables.setdefault(f"Time to {BAR} x the least log loss", [])
    curves = report.tables.setdefault("Curves", [])
    for climb in climbs:
        curve = climb.curve()
        reached = bool(climb.times)
        table.append(
            {
                "case": name,
                "who": climb.peer.name,
                "seconds": statistics.median(climb.times) if reached else None,
                "epochs": climb.bar if reached else None,
                "best loss": min(loss for _, loss in curve.values()),
                "most epochs": max(curve),
                "family": climb.peer.family,
                "all seconds": climb.times,
            }
        )
        curves.append(
            {
                "case": name,
                "who": climb.peer.name,
                "points": len(curve),
                "epochs": list(curve),
                "seconds": [seconds for seconds, _ in curve.values()],
                "loss": [loss for _, loss in curve.values()],
            }
        )
    report.tables["Ratios of seconds"] = compare(table, comparisons)
    if report.figure is None:
        report.figure = draw_curves(climbs)


def draw_curves(climbs: Sequence[Climb]) -> Lines:
    """The best member of each family over time, for the figure."""
    series: dict[str, Any] = {}
    for family in dict.fromkeys(climb.peer.family for climb in climbs):
        mine = [climb for climb in climbs if climb.peer.family == family]
        best = min(mine, key=lambda climb: statistics.median(climb.times) if climb.times else np.inf)
        points = [(seconds, loss - 1) for seconds, loss in best.curve().values() if 1 < loss < 10]
        if points:
            series[best.peer.name] = tuple(zip(*points))
    return Lines(series, "seconds of a whole fit", "log loss above the optimum, as a share of it", log=True)


def compare(table: Sequence[dict[str, Any]], comparisons: Sequence[Any]) -> list[dict[str, Any]]:
    """Divide, per case, ours as it comes, and the best of ours, by the fastest of theirs."""
    ratios = []
    for case in dict.fromkeys(row["case"] for row in table):
        rows = [row for row in table if row["case"] == case and row["seconds"] is not None]
        for ours, theirs in comparisons:
            mine = {row["who"]: row["seconds"] for row in rows if row["family"] == ours}
            others = {row["who"]: row["seconds"] for row in rows if {row["family"], row["who"]} & {*theirs}}
            if mine and others:
                best, fastest = min(mine, key=mine.__getitem__), min(others, key=others.__getitem__)
                ratios.append(
                    {
                        "case": case,
                        "ours": ours,
                        "as it comes": mine[ours] / others[fastest] if ours in mine else None,
                        "best": mine[best] / others[fastest],
                        "which": best,
                        "theirs": theirs[0] if len(theirs) == 1 else "dask-ml",
                        "the fastest of them": fastest,
                    }
                )
    return ratios


def measure_a9a(options: argparse.Namespace, report: Report) -> None:
    """Compare accuracies on held-out rows of a9a; models are as they come."""
    folder = data_folder()
    if folder is None or not (folder / "a9a.gz").exists():
        report.note("a9a is skipped: set DPARALLEL_DATA to the folder that holds a9a.gz and a9a.t.gz.")
        return
    X, y, X_test, y_test = load_a9a(folder)
    if options.quick:
        X, y = X[::10], y[::10]
    with quiet():
        theirs = LogisticRegression(max_iter=1000).fit(X, y).score(X_test, y_test)
        models = [AsyncSGDClassifier("log_loss", random_state=seed) for seed in range(A9A_SEEDS)]
        started = time.perf_counter()
        ours = [model.fit(X, y).score(X_test, y_test) for model in models]
        seconds = (time.perf_counter() - started) / len(models)
    report.tables["a9a"] = [
        {
            "scikit-learn LogisticRegression": theirs,
            "dparallel, median": statistics.median(ours),
            "dparallel, worst": min(ours),
            "worst - theirs": min(ours) - theirs,
            "seeds": len(ours),
            "epochs": models[0].n_iter_,
            "seconds": seconds,
            "all accuracies": ours,
        }
    ]


def say(line: str) -> None:
    """Tell how far the measurement is, on the side."""
    with suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)
