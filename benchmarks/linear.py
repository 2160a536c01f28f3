"""Whoever fits a logistic model: dparallel in its ways, scikit-learn, dask-ml and Spark, behind one interface."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, SGDClassifier

from benchmarks.peers import N_PROCESSES, on_workers, spark_is_missing, spark_table
from dparallel import AsyncSGDClassifier, LocalSGDClassifier

# scikit-learn's SGD depends on its rates, so it is given several, and the best of them counts
RATES: dict[str, dict[str, Any]] = {
    "optimal": {},
    "invscaling 0.1": {"learning_rate": "invscaling", "eta0": 0.1, "power_t": 0.25, "alpha": 1e-7},
    "invscaling 0.01": {"learning_rate": "invscaling", "eta0": 0.01, "power_t": 0.25, "alpha": 1e-7},
    "constant 0.01": {"learning_rate": "constant", "eta0": 0.01, "alpha": 1e-7},
    "constant 0.001": {"learning_rate": "constant", "eta0": 0.001, "alpha": 1e-7},
}
FREE = 1e-7  # an alpha that leaves the optimum where it is


@dataclass(frozen=True)
class Problem:
    """Rows of two classes.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,), int64, 0 or 1
    path : Path of an .npy file with the same rows
    optimum : float, the least mean log loss
    """

    X: np.ndarray
    y: np.ndarray
    path: Path
    optimum: float


Answer = tuple[np.ndarray, float]  # coefficients of shape (n_features,), and the intercept


class Peer:
    """Someone who fits a logistic model, in as many epochs or iterations as asked.

    Attributes
    ----------
    name : str
    family : str, peers of one family are the same program with other settings
    needs : "nothing", "cluster" or "spark", what must be open
    most : int, epochs or iterations after which it is not waited for
    """

    name = ""
    family = ""
    needs = "nothing"
    most = 32

    def why_not(self) -> str | None:
        """Return what is missing to run this peer, in words."""

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        """Bring the rows to where the peer wants them, in memory; this is not timed."""
        return nullcontext((problem.X, problem.y))

    def fit(self, rows: Any, n_epochs: int) -> Answer:
        """Fit what hold gave, from nothing; this is timed."""
        raise NotImplementedError


class OnCluster(Peer):
    """A peer that is given Dask arrays in the memory of two worker processes."""

    needs = "cluster"

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        return on_workers(problem.path, problem.X, problem.y)


class Threads(Peer):
    """dparallel on NumPy arrays, in all threads of this machine."""

    family = "dparallel threads"
    kind: Any = AsyncSGDClassifier

    def __init__(self, **settings: Any):
        said = ", ".join(f"{name}={value}" for name, value in settings.items())
        self.name = f"{self.family}, {said}" if said else self.family
        self.settings = settings

    def fit(self, rows: Any, n_epochs: int) -> Answer:
        model = self.kind("log_loss", max_iter=n_epochs, tol=None, random_state=0, **self.settings)
        return answer(model.fit(*rows))


class Processes(Threads):
    """dparallel on Dask arrays."""

    family = f"dparallel {N_PROCESSES} processes"
    needs = "cluster"
    hold = OnCluster.hold


class AveragingThreads(Threads):
    """Parameter averaging on NumPy arrays."""

    family = "dparallel averaging, threads"
    kind = LocalSGDClassifier


class AveragingProcesses(Processes):
    """Parameter averaging on Dask arrays."""

    family = f"dparallel averaging, {N_PROCESSES} processes"
    kind = LocalSGDClassifier


class Stochastic(Peer):
    """scikit-learn's SGDClassifier."""

    family = "scikit-learn SGDClassifier"

    def __init__(self, rate: str):
        self.name = f"{self.family}, {rate}"
        self.rate = rate

    def fit(self, rows: Any, n_epochs: int) -> Answer:
        return answer(
            SGDClassifier("log_loss", max_iter=n_epochs, tol=None, random_state=0, **RATES[self.rate]).fit(*rows)
        )


class Logistic(Peer):
    """scikit-learn's LogisticRegression, without a penalty."""

    family = "scikit-learn LogisticRegression"
    most = 512

    def __init__(self, solver: str):
        self.name = f"{self.family}, {solver}"
        self.solver = solver

    def fit(self, rows: Any, n_epochs: int) -> Answer:
        return answer(LogisticRegression(C=np.inf, solver=self.solver, max_iter=n_epochs, tol=1e-12).fit(*rows))


class Incremental(OnCluster):
    """dask-ml's Incremental around scikit-learn's SGDClassifier, an epoch per call of partial_fit."""

    family = "dask-ml Incremental"

    def __init__(self, rate: str):
        self.name = f"{self.family}, {rate}"
        self.rate = rate

    def why_not(self) -> str | None:
        return None if find_spec("dask_ml") else "dask-ml is not installed"

    def fit(self, rows: Any, n_epochs: int) -> Answer:
        from dask_ml.wrappers import Incremental as Wrapper

        model = Wrapper(SGDClassifier("log_loss", random_state=0, **RATES[self.rate]), random_state=0)
        for _ in range(n_epochs):
            model.partial_fit(*rows, classes=[0, 1])
        return answer(model.estimator_)


class DaskLogistic(OnCluster):
    """dask-ml's LogisticRegression, with next to no penalty."""

    family = "dask-ml LogisticRegression"
    most = 512

    def __init__(self, solver: str):
        self.name = f"{self.family}, {solver}"
        self.solver = solver

    def why_not(self) -> str | None:
        return None if find_spec("dask_ml") else "dask-ml is not installed"

    def fit(self, rows: Any, n_epochs: int) -> Answer:
        from dask_ml.linear_model import LogisticRegression as DaskModel

        return answer(DaskModel(solver=self.solver, C=1e9, max_iter=n_epochs, tol=1e-12).fit(*rows))


class Spark(Peer):
    """Spark MLlib's LogisticRegression on a cached DataFrame, in one JVM with two threads."""

    name = family = "Spark local[2]"
    needs = "spark"
    most = 512

    def why_not(self) -> str | None:
        return spark_is_missing()

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        return spark_table(problem.path, problem.X, label=problem.y.astype(np.float64))

    def fit(self, rows: Any, n_epochs: int) -> Answer:
        from pyspark.ml.classification import LogisticRegression as SparkModel

        model = SparkModel(maxIter=n_epochs, regParam=0.0, tol=0.0, family="binomial").fit(rows)
        return model.coefficients.toArray(), float(model.intercept)


def answer(model: Any) -> Answer:
    """Return what a fitted linear model of two classes has learnt."""
    return np.ravel(model.coef_).astype(np.float64), float(np.ravel(model.intercept_)[0])


@contextmanager
def quiet() -> Iterator[None]:
    """Let nobody warn that so few epochs do not converge: that is meant."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


PEERS: dict[str, Peer] = {
    "threads": Threads(),
    "threads-free": Threads(alpha=FREE),
    "processes": Processes(),
    "processes-free": Processes(alpha=FREE),
    **{f"processes-{s}": Processes(staleness=s) for s in (0, 1, 3)},
    "averaging-threads": AveragingThreads(),
    "averaging-processes": AveragingProcesses(),
    **{f"sgd-{rate.replace(' ', '-')}": Stochastic(rate) for rate in RATES},
    "logistic-lbfgs": Logistic("lbfgs"),
    "logistic-newton": Logistic("newton-cholesky"),
    **{f"incremental-{rate.replace(' ', '-')}": Incremental(rate) for rate in RATES},
    **{f"dask-{solver}": DaskLogistic(solver) for solver in ("admm", "newton", "lbfgs", "gradient_descent")},
    "spark": Spark(),
}
