"""Time to a held-out log loss on hashed clicks and a9a, beside scikit-learn's SGDClassifier and Vowpal Wabbit.

Every peer is tried with a few learning rates, and for ever more epochs; what counts is the shortest time of any that
comes within 0.2 % of the least loss that a peer has reached. dparallel runs on two processes of one thread whose memory
holds the rows, and its times are those of a whole fit: survey, opening the store, coefficients back at the client. The
peers' are those of their epochs alone: scikit-learn's on CSR in memory, Vowpal Wabbit's from its cache file.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.sparse
from distributed import wait
from sklearn.linear_model import SGDClassifier

from benchmarks.clicks_data import click_block
from benchmarks.cluster import open_cluster
from benchmarks.data import data_folder, load_a9a
from benchmarks.race import is_ours
from benchmarks.results import Lines, Report
from dparallel import AsyncSGDClassifier

WITHIN = 1.002  # of the least loss of scikit-learn and Vowpal Wabbit
N_WORKERS, N_BLOCKS = 2, 20
COMPRESSIONS = (None, "fp16", ("top_k", 0.1), ("top_k", 0.01))


@dataclass(frozen=True)
class Case:
    """Rows to learn from and rows to measure on; alpha : strength of the L2 penalty of all peers."""

    name: str
    X: Any
    y: np.ndarray
    X_held: Any
    y_held: np.ndarray
    alpha: float

    @property
    def is_small(self) -> bool:
        """Whether an epoch takes milliseconds."""
        return self.X.nnz < 5e6

    def loss(self, scores: np.ndarray) -> float:
        """Mean log loss of the held-out rows."""
        return float(np.logaddexp(0.0, (1 - 2 * self.y_held) * scores).mean())


@dataclass(frozen=True)
class Try:
    """What one peer with one setting reached: seconds and losses after each number of epochs."""

    peer: str
    setting: str
    seconds: list[float]
    losses: list[float]

    def time_to(self, target: float) -> float | None:
        """Seconds until the loss was there."""
        return min((s for s, loss in zip(self.seconds, self.losses) if loss <= target), default=None)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="clicks to learn from (default: 1000000)")
    parser.add_argument("--features", type=int, default=10_000_000, help="columns of the clicks (default: 10000000)")
    parser.add_argument("--repeats", type=int, default=3, help="fits per figure, of which the median (default: 3)")
    parser.add_argument("--epochs", type=int, default=8, help="most epochs of scikit-learn (default: 8)")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all cases."""
    n_rows, n_features, n_repeats, n_epochs = options.rows, options.features, options.repeats, options.epochs
    if options.quick:
        n_rows, n_features, n_repeats, n_epochs = 4000, 100_000, 1, 1
    report.tables["Time to the loss"] = []
    tries: dict[str, list[Try]] = {}
    with open_cluster(N_WORKERS) as client:
        for case in make_cases(n_rows, n_features, report):
            found = tries.setdefault(case.name, [])
            X, y = on_workers(client, case, N_BLOCKS)
            found += list(try_ours(case, X, y, n_repeats, n_epochs if case.is_small else min(n_epochs, 2)))
            if case.is_small:
                found += list(try_ours(case, case.X, case.y, n_repeats, n_epochs, "dparallel, threads"))
            found += list(try_sklearn(case, n_epochs))
            found += list(try_vowpal(case, min(n_epochs, 3), report))
            report.tables["Time to the loss"] += compare(case, found)
            report.tables[f"Loss against bytes, {case.name}"] = measure_bytes(case, X, y)
            del X, y
            gc.collect()
    series = {f"{t.peer}, {t.setting}": (t.seconds, t.losses) for t in tries[next(iter(tries))]}
    report.figure = Lines(series, "seconds", "held-out log loss", log=True)


def make_cases(n_rows: int, n_features: int, report: Report) -> Iterator[Case]:
    """Make the rows of each case."""
    per_block = -(-n_rows // N_BLOCKS)
    blocks = [click_block(per_block, n_features, (0, i)) for i in range(N_BLOCKS + 2)]
    X, y = scipy.sparse.vstack([X for X, _ in blocks], format="csr"), np.concatenate([y for _, y in blocks])
    n = per_block * N_BLOCKS
    yield Case("clicks", X[:n], y[:n], X[n:], y[n:], 1e-7)
    folder = data_folder()
    if folder is None:
        report.note("a9a was left out: set DPARALLEL_DATA to a folder that has it.")
        return
    X, y, X_held, y_held = load_a9a(folder)
    for rows in (X, X_held):  # scikit-learn's SGD takes no others
        rows.indices, rows.indptr = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    yield Case("a9a", X, (y > 0).astype(np.int64), X_held, (y_held > 0).astype(np.int64), 1e-5)


def on_workers(client: Any, case: Case, n_blocks: int) -> tuple[Any, Any]:
    """Return the rows as Dask arrays whose blocks lie in the workers' memory."""
    cuts = np.linspace(0, len(case.y), n_blocks + 1).astype(int)
    pieces = client.scatter([(case.X[low:high], case.y[low:high]) for low, high in zip(cuts, cuts[1:])])
    meta = scipy.sparse.csr_matrix((0, 0))
    part = dask.delayed(lambda piece, i: piece[i], pure=True)
    shapes = [(int(high - low), case.X.shape[1]) for low, high in zip(cuts, cuts[1:])]
    X = [da.from_delayed(part(piece, 0), shape, float, meta=meta) for piece, shape in zip(pieces, shapes)]
    y = [da.from_delayed(part(piece, 1), shape[:1], np.int64) for piece, shape in zip(pieces, shapes)]
    X, y = dask.persist(da.concatenate(X), da.concatenate(y))
    wait([X, y])
    return X, y


def try_ours(case: Case, X: Any, y: Any, n_repeats: int, n_epochs: int, peer: str = "dparallel") -> Iterator[Try]:
    """Fit with few rates, anew for each number of epochs."""
    settings: list[dict[str, Any]] = [{"learning_rate": "ftrl", "eta0": rate} for rate in (0.1, 0.15, 0.2)]
    settings += [{"learning_rate": "auto"}] if case.is_small else []
    for setting in settings:
        seconds, losses = [], []
        for epochs in range(1, n_epochs + 1):
            taken = []
            for i in range(n_repeats + (epochs == 1)):  # the first compiles
                model = AsyncSGDClassifier(
                    loss="log_loss", alpha=case.alpha, max_iter=epochs, tol=None, random_state=i, **setting
                )
                started = time.perf_counter()
                model.fit(X, y)
                taken.append(time.perf_counter() - started)
            seconds.append(float(np.median(taken[epochs == 1 :])))
            losses.append(case.loss(model.decision_function(case.X_held)))
        yield Try(peer, ", ".join(map(str, setting.values())), seconds, losses)


def try_sklearn(case: Case, n_epochs: int) -> Iterator[Try]:
    """One epoch of partial_fit after another, with few schedules; the fastest of those tried on a wider grid."""
    grid: list[tuple[str, float, float]] = [
        *(("invscaling", rate, 0.25) for rate in (0.1, 0.3)),
        ("constant", 0.01, 0.0),
    ]
    for kind, rate, power in grid:
        model = SGDClassifier(
            "log_loss", alpha=case.alpha, learning_rate=kind, eta0=rate, power_t=power, random_state=0
        )
        seconds, losses, total = [], [], 0.0
        for _ in range(n_epochs):
            started = time.perf_counter()
            model.partial_fit(case.X, case.y, classes=[0, 1])
            total += time.perf_counter() - started
            seconds.append(total)
            losses.append(case.loss(model.decision_function(case.X_held)))
        yield Try("scikit-learn", f"{kind}, {rate}", seconds, losses)


def try_vowpal(case: Case, n_epochs: int, report: Report) -> Iterator[Try]:
    """Passes over a cache file that is there already, anew for each number of passes."""
    if not find_spec("vowpalwabbit"):
        report.note("Vowpal Wabbit was left out: the package vowpalwabbit is not installed.")
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_vowpal(folder / "train", case.X, case.y)
        write_vowpal(folder / "held", case.X_held, case.y_held)
        bits = max(18, int(np.ceil(np.log2(case.X.shape[1]))))
        given = f"-d {folder / 'train'} -b {bits} --cache_file {folder / 'cache'} --loss_function logistic --quiet"
        run_vowpal(given)  # makes the cache file
        for rate in (0.25, 0.5):
            seconds, losses = [], []
            for epochs in range(1, n_epochs + 1):
                model = folder / "model"
                ways = f"--passes {epochs} --holdout_off -l {rate} -f {model}"
                seconds.append(run_vowpal(f"{given} {ways}"))
                run_vowpal(f"-d {folder / 'held'} -t -i {model} --quiet -r {folder / 'raw'}")
                lines = (folder / "raw").read_text().splitlines()
                losses.append(case.loss(np.array([float(line.split()[0].rpartition(":")[2]) for line in lines])))
            yield Try("Vowpal Wabbit", f"-l {rate}", seconds, losses)


def run_vowpal(arguments: str) -> float:
    """Run Vowpal Wabbit; return the seconds."""
    import vowpalwabbit

    started = time.perf_counter()
    vowpalwabbit.Workspace(arguments).finish()
    return time.perf_counter() - started


def write_vowpal(path: Path, X: Any, y: np.ndarray) -> None:
    """Write rows in Vowpal Wabbit's format, under their columns' numbers."""
    with path.open("w") as file:
        for i, (start, stop) in enumerate(zip(X.indptr, X.indptr[1:])):
            values = zip(X.indices[start:stop].tolist(), X.data[start:stop].tolist())
            words = " ".join(str(column) if value == 1 else f"{column}:{value:g}" for column, value in values)
            file.write(f"{1 if y[i] else -1} | {words}\n")


def compare(case: Case, tries: list[Try]) -> list[dict[str, Any]]:
    """Return a row for each peer and setting."""
    target = WITHIN * min(min(t.losses) for t in tries if not is_ours(t.peer))
    times = [t.time_to(target) for t in tries]
    others = [s for t, s in zip(tries, times) if s is not None and not is_ours(t.peer)]
    return [
        {
            "case": case.name,
            "peer": t.peer,
            "setting": t.setting,
            "least loss": min(t.losses),
            "target": target,
            "seconds": seconds,
            "/ fastest other": None if seconds is None else seconds / min(others),
            "epoch seconds": t.seconds,
            "epoch losses": t.losses,
        }
        for t, seconds in zip(tries, times)
    ]


def measure_bytes(case: Case, X: Any, y: Any) -> list[dict[str, Any]]:
    """Train with each compression on the workers: final loss, and bytes to the shards and from them."""
    rows: list[dict[str, Any]] = []
    for compression in COMPRESSIONS:
        for setting in [{"learning_rate": "ftrl"}, *([{"learning_rate": "auto"}] if case.is_small else [])]:
            model = AsyncSGDClassifier(
                loss="log_loss", alpha=case.alpha, max_iter=4, tol=None, random_state=0, compression=compression,
                **setting,
            ).fit(X, y)  # fmt: skip
            loss = case.loss(model.decision_function(case.X_held))
            plain = next((row["loss"] for row in rows if row["learning rate"] == setting["learning_rate"]), loss)
            rows.append(
                {
                    "learning rate": setting["learning_rate"],
                    "compression": "none" if compression is None else str(compression),
                    "loss": loss,
                    "/ none": loss / plain,
                    "MB in": model.store_stats_.bytes_in / 1e6,
                    "MB out": model.store_stats_.bytes_out / 1e6,
                }
            )
    return rows
