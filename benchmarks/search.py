"""Search hyperparameters of pipelines on Dask data, and tell what a search costs beside its fits.

GridSearchCV of dparallel.model_selection over a Pipeline of ParallelStandardScaler and each estimator, on an array in
the memory of two worker processes. "of its fits" divides the seconds of the whole search, scores included, by the sum
of the seconds of its fits, the last one with the best parameters included. "MB received" is all that reached the
client. The same search on the computed data, in this process, finds its best parameters for comparison.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask.array as da
import numpy as np
from dask.sizeof import sizeof
from distributed import Client, wait
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from benchmarks.cluster import open_cluster
from benchmarks.peers import N_CHUNKS, N_PROCESSES
from benchmarks.results import Report
from dparallel import (
    AsyncSGDClassifier,
    LocalSGDClassifier,
    ParallelDecisionTree,
    ParallelKMeans,
    ParallelLogisticRegression,
    ParallelStandardScaler,
)
from dparallel.model_selection import GridSearchCV

SEED = 25
N_FEATURES = 10
ALPHAS = [1e-5, 0.01, 0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]

SEARCHES: dict[str, tuple[Any, dict[str, list[Any]], int]] = {  # the estimator, its grid, the number of folds
    "AsyncSGD": (AsyncSGDClassifier("log_loss", random_state=0), {"model__alpha": ALPHAS}, 5),
    "LocalSGD": (LocalSGDClassifier("log_loss", random_state=0), {"model__alpha": ALPHAS[::4]}, 3),
    "logistic": (ParallelLogisticRegression(), {"model__C": [1e-6, 1e-4, 1.0]}, 3),
    "tree": (ParallelDecisionTree(random_state=0), {"model__max_depth": [2, 4, 6]}, 3),
    "k-means": (ParallelKMeans(random_state=0, max_iter=10), {"model__n_clusters": [2, 3, 4]}, 3),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    names = list(SEARCHES)
    parser.add_argument("--models", nargs="+", choices=names, default=names, metavar="MODEL", help=" ".join(names))
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the data (default: 1000000)")


def run(options: argparse.Namespace, report: Report) -> None:
    """Search for every model."""
    n_rows = 20_000 if options.quick else options.rows
    with open_cluster(N_PROCESSES), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X, y = rows(n_rows)
        for name in options.models:
            model, grid, n_folds = SEARCHES[name]
            pipeline = Pipeline([("scale", ParallelStandardScaler()), ("model", model)])
            pipeline.fit(X[:2000], y[:2000])  # compiles
            scoring = "neg_log_loss" if hasattr(model, "alpha") else None  # a penalty hardly changes who is right
            row = measure(GridSearchCV(pipeline, grid, cv=n_folds, scoring=scoring), X, y)
            report.tables.setdefault("Searches", []).append({"model": name, "rows": n_rows, **row})
            print(report.tables["Searches"][-1], flush=True)


def rows(n_rows: int) -> tuple[Any, Any]:
    """Two classes in the memory of the workers; X of shape (n_rows, N_FEATURES), float64."""
    state = da.random.default_rng(SEED)
    X = state.normal(size=(n_rows, N_FEATURES), chunks=(-(-n_rows // N_CHUNKS), N_FEATURES)).persist()
    y = (X[:, 0] * X[:, 1] + X[:, 2] + 0.5 * state.normal(size=n_rows, chunks=X.chunks[:1]) > 0).astype(int).persist()
    wait([X, y])
    return X, y


def measure(search: Any, X: Any, y: Any) -> dict[str, Any]:
    """Search on the cluster, and on the computed data here."""
    with received() as n_bytes:
        started = time.perf_counter()
        found = clone(search).fit(X, y)
        seconds = time.perf_counter() - started
    results = found.cv_results_
    fits = results["mean_fit_time"].sum() * found.n_splits_ + found.refit_time_
    here = clone(search).fit(*map(np.asarray, (X, y)))
    return {
        "candidates x folds": f"{len(results['params'])} x {found.n_splits_}",
        "seconds": seconds,
        "of its fits": seconds / fits,
        "scores, seconds": results["mean_score_time"].sum() * found.n_splits_,
        "MB received": n_bytes[0] / 1e6,
        "MB of X": X.nbytes / 1e6,
        "best": str(found.best_params_),
        "best here": str(here.best_params_),
        "score": found.best_score_,
        "score here": here.best_score_,
    }


@contextmanager
def received() -> Iterator[list[int]]:
    """Count the bytes of everything that this client gathers."""
    n_bytes, gather = [0], Client._gather

    async def counting(client: Any, futures: Any, *arguments: Any, **options: Any) -> Any:
        found = await gather(client, futures, *arguments, **options)
        n_bytes[0] += sum(map(sizeof, found)) if isinstance(found, list) else sizeof(found)
        return found

    Client._gather = counting
    try:
        yield n_bytes
    finally:
        Client._gather = gather
