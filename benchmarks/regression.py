"""Time regressors beside those of scikit-learn, dask-ml, LightGBM, XGBoost and Spark, on the same rows.

Three cases: ridge regression to the optimum, SGD as it comes, and one tree of depth 8 with all its leaves allowed.
The rows are normal columns, the target is a linear function of them, for trees a crooked one, and noise. R² is that on
rows held out (of Spark's tree on 2000 of them). Not timed: bringing the rows into memory, starting a cluster or a JVM,
and a first fit of everyone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from sklearn.linear_model import Ridge, SGDRegressor
from sklearn.metrics import r2_score
from sklearn.tree import DecisionTreeRegressor

from benchmarks import race
from benchmarks.growers import boost_settings, light_settings, walk
from benchmarks.peers import N_PROCESSES, on_workers, spark_table
from benchmarks.race import PROCESSES, THREADS, Race, Runner
from benchmarks.results import Report
from dparallel import AsyncSGDRegressor, LocalSGDRegressor, ParallelDecisionTreeRegressor, ParallelRidge

SEED = 23
DEPTH = 8
SIZES = {"ridge": (1_000_000, 50), "SGD": (1_000_000, 50), "tree": (1_000_000, 28)}
HELD_OUT = 50_000

Predict = Callable[[np.ndarray], np.ndarray]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--cases", nargs="+", choices=SIZES, default=list(SIZES), metavar="CASE", help=" ".join(SIZES))
    race.add_options(parser)


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all cases."""
    for name in options.cases:
        n_rows, n_features = SIZES[name]
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
            found = make(name, n_rows // 200 if options.quick else n_rows, n_features, Path(folder))
            race.run_all([found], options, report)


def make(name: str, n_rows: int, n_features: int, folder: Path) -> Race:
    """Draw the rows of a case."""
    random = np.random.default_rng(SEED)
    X = random.standard_normal((n_rows + HELD_OUT, n_features), np.float32)
    y = X @ random.standard_normal(n_features) / np.sqrt(n_features)
    if name == "tree":
        y = X[:, 0] * X[:, 1] + X[:, 2] + 0.5 * X[:, 3] ** 2
    y += random.standard_normal(len(X))
    if name != "tree":
        X = X.astype(np.float64)
    path = folder / "rows.npy"
    np.save(path, X[:n_rows])
    rows = {
        "nothing": partial(nullcontext, (X[:n_rows], y[:n_rows])),
        "cluster": partial(on_workers, path, X[:n_rows], y[:n_rows]),
        "spark": partial(in_spark, path, X[:n_rows], y[:n_rows]),
    }
    held_out = X[n_rows:], y[n_rows:]

    def judge(predict: Predict) -> float:
        found = predict(held_out[0])
        return float(r2_score(held_out[1][: len(found)], found))

    size = f"{n_rows / 1000:g}k x {n_features}"
    return Race(f"{name}, {size}", RUNNERS[name], rows, judge, "R²")


def in_spark(path: Path, X: np.ndarray, y: np.ndarray) -> AbstractContextManager[Any]:
    """Hold rows and targets in the memory of Spark."""
    return spark_table(path, X, label=y.astype(np.float64))


def ordinary(make_model: Callable[[], Any]) -> Callable[[Any], Predict]:
    """Fit a model with scikit-learn's interface."""
    return lambda rows: make_model().fit(*rows).predict


def dask_linear(rows: Any) -> Predict:
    """Fit dask-ml's LinearRegression with the solver that is fastest on these rows, and next to no penalty."""
    from dask_ml.linear_model import LinearRegression

    model = LinearRegression(solver="newton", C=1e9).fit(*rows)
    return lambda X: X @ model.coef_ + model.intercept_


def spark_linear(table: Any) -> Predict:
    """Fit Spark's LinearRegression by its normal equations."""
    from pyspark.ml.regression import LinearRegression

    model = LinearRegression(regParam=1e-6, elasticNetParam=0.0, solver="normal").fit(table)
    coef, intercept = model.coefficients.toArray(), model.intercept
    return lambda X: X @ coef + intercept


def spark_tree(table: Any) -> Predict:
    """Grow Spark's tree; it predicts 2000 rows, one after another."""
    from pyspark.ml.regression import DecisionTreeRegressor as SparkTree

    model = SparkTree(maxDepth=DEPTH, maxBins=255, maxMemoryInMB=1024).fit(table)
    root = model._call_java("rootNode")
    return lambda X: np.array([walk(root, row) for row in X[:2000].astype(np.float64)])


def light(rows: Any) -> Predict:
    """Grow one tree of LightGBM's in this process."""
    from lightgbm import LGBMRegressor

    return LGBMRegressor(**light_settings(DEPTH), n_jobs=N_PROCESSES).fit(*rows).predict


def light_on_dask(rows: Any) -> Predict:
    """Grow one tree of LightGBM's on the cluster."""
    from lightgbm import DaskLGBMRegressor

    return DaskLGBMRegressor(**light_settings(DEPTH), client=Client.current()).fit(*rows).to_local().predict


def boost(rows: Any) -> Predict:
    """Grow one tree of XGBoost's in this process."""
    from xgboost import XGBRegressor

    return XGBRegressor(**boost_settings(DEPTH), n_jobs=N_PROCESSES).fit(*rows).predict


def boost_on_dask(rows: Any) -> Predict:
    """Grow one tree of XGBoost's on the cluster."""
    from xgboost.dask import DaskXGBRegressor

    model = DaskXGBRegressor(**boost_settings(DEPTH))
    model.client = Client.current()
    booster = model.fit(*rows).get_booster()
    return lambda X: booster.inplace_predict(X)


def both(kind: Any, name: str = "", **settings: Any) -> list[Runner]:
    """One of our estimators, in threads and on the cluster."""
    fit = ordinary(lambda: kind(**settings))
    return [Runner(THREADS + name, fit), Runner(PROCESSES + name, fit, "cluster")]


RUNNERS: dict[str, list[Runner]] = {
    "ridge": [
        *both(ParallelRidge, alpha=1.0),
        Runner("scikit-learn Ridge", ordinary(lambda: Ridge(alpha=1.0))),
        Runner("dask-ml LinearRegression newton, 2 processes", dask_linear, "cluster", "dask_ml"),
        Runner("Spark local[2]", spark_linear, "spark"),
    ],
    "SGD": [
        *both(AsyncSGDRegressor, random_state=0),
        *both(LocalSGDRegressor, ", averaging", random_state=0),
        Runner("scikit-learn SGDRegressor", ordinary(lambda: SGDRegressor(random_state=0))),
    ],
    "tree": [
        *both(ParallelDecisionTreeRegressor, max_depth=DEPTH),
        Runner("scikit-learn exact", ordinary(lambda: DecisionTreeRegressor(max_depth=DEPTH, random_state=0))),
        Runner("LightGBM, 1 tree", light, package="lightgbm"),
        Runner("LightGBM Dask, 1 tree, 2 processes", light_on_dask, "cluster", "lightgbm"),
        Runner("XGBoost, 1 tree", boost, package="xgboost"),
        Runner("XGBoost Dask, 1 tree, 2 processes", boost_on_dask, "cluster", "xgboost"),
        Runner("Spark local[2]", spark_tree, "spark"),
    ],
}
