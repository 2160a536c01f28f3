"""Time the fits of preprocessing steps beside those of scikit-learn, dask-ml and Spark, on the same rows.

Only fit is timed: transform is a pass over the rows that Dask runs as part of what comes next. "off by" is the largest
difference of what was learnt (means and scales, fillings, numbers of categories) from what scikit-learn learnt, as a
share of the largest number. Not timed: bringing the rows into memory, starting a cluster or a JVM, a first fit.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from benchmarks import race
from benchmarks.peers import N_PROCESSES, persisted, spark_table
from benchmarks.race import PROCESSES, THREADS, Race, Runner
from benchmarks.results import Report
from dparallel import ParallelOneHotEncoder, ParallelOrdinalEncoder, ParallelSimpleImputer, ParallelStandardScaler

SEED = 24
Learnt = Callable[[Any], np.ndarray]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--cases", nargs="+", choices=STEPS, default=list(STEPS), metavar="CASE", help=" ".join(STEPS))
    race.add_options(parser)


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all cases."""
    for name in options.cases:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
            race.run_all([make(name, 200 if options.quick else 1, Path(folder))], options, report)


def make(name: str, shrink: int, folder: Path) -> Race:
    """Draw the rows of a case."""
    draw, theirs, runners, learnt = STEPS[name]
    X = draw(shrink)
    path = folder / "rows.npy"
    np.save(path, X)
    truth = learnt(theirs().fit(X))
    rows = {
        "nothing": partial(nullcontext, X),
        "cluster": partial(persisted, path, X),
        "spark": partial(spark_table, path, X),
    }

    def judge(model: Any) -> float:
        found = model if isinstance(model, np.ndarray) else learnt(model)
        return float(np.abs(found - truth).max() / np.abs(truth).max())

    return Race(f"{name}, {len(X) / 1000:g}k x {X.shape[1]}", runners, rows, judge, "off by")


def numbers(shrink: int) -> np.ndarray:
    """Draw normal columns of different means and scales."""
    random = np.random.default_rng(SEED)
    X = random.standard_normal((1_000_000 // shrink, 50))
    return X * random.uniform(0.1, 10.0, 50) + random.uniform(-10.0, 10.0, 50)


def numbers_with_holes(shrink: int) -> np.ndarray:
    """Draw the same, a tenth of them missing."""
    X = numbers(shrink)
    X[np.random.default_rng(SEED).random(X.shape) < 0.1] = np.nan
    return X


def categories(shrink: int) -> np.ndarray:
    """Draw columns of whole numbers below 1000."""
    return np.random.default_rng(SEED).integers(0, 1000, (1_000_000 // shrink, 6))


def moments(model: Any) -> np.ndarray:
    """Return what a scaler has learnt."""
    return np.concatenate([model.mean_, model.scale_])


def fillings(model: Any) -> np.ndarray:
    """Return what an imputer has learnt."""
    return np.asarray(model.statistics_)


def all_categories(model: Any) -> np.ndarray:
    """Return what an encoder has learnt."""
    return np.concatenate([np.asarray(column) for column in model.categories_])


def from_dask_ml(module: str, name: str, **settings: Any) -> Runner:
    """A step of dask-ml's."""

    def fit(X: Any) -> Any:
        return getattr(import_module(f"dask_ml.{module}"), name)(**settings).fit(X)

    return Runner(f"dask-ml {name}, {N_PROCESSES} processes", fit, "cluster", "dask_ml")


def spark_scaler(table: Any) -> np.ndarray:
    """Fit Spark's StandardScaler, which divides by n - 1."""
    from pyspark.ml.feature import StandardScaler as SparkScaler

    model = SparkScaler(inputCol="features", outputCol="scaled", withMean=True).fit(table)
    n_rows = table.count()
    return np.concatenate([model.mean.toArray(), model.std.toArray() * np.sqrt((n_rows - 1) / n_rows)])


def runners_of(ours: Any, theirs: Any, *others: Runner) -> list[Runner]:
    """Ours in threads and on the cluster, scikit-learn's, and others."""
    fit = lambda X: ours().fit(X)  # noqa: E731
    return [
        Runner(THREADS, fit),
        Runner(PROCESSES, fit, "cluster"),
        Runner("scikit-learn", lambda X: theirs().fit(X)),
        *others,
    ]


STEPS: dict[str, tuple[Any, Any, list[Runner], Learnt]] = {
    "standard scaler": (
        numbers,
        StandardScaler,
        runners_of(
            ParallelStandardScaler,
            StandardScaler,
            from_dask_ml("preprocessing", "StandardScaler"),
            Runner("Spark local[2]", spark_scaler, "spark"),
        ),
        moments,
    ),
    "imputer": (
        numbers_with_holes,
        SimpleImputer,
        runners_of(ParallelSimpleImputer, SimpleImputer, from_dask_ml("impute", "SimpleImputer")),
        fillings,
    ),
    "one-hot encoder": (
        categories,
        OneHotEncoder,
        runners_of(ParallelOneHotEncoder, OneHotEncoder, from_dask_ml("preprocessing", "OneHotEncoder")),
        all_categories,
    ),
    "ordinal encoder": (
        categories,
        OrdinalEncoder,
        runners_of(ParallelOrdinalEncoder, OrdinalEncoder),
        all_categories,
    ),
}
