"""Whoever grows one decision tree: dparallel in its ways, scikit-learn, LightGBM, XGBoost and Spark, one interface."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

from benchmarks.peers import N_PROCESSES, on_workers, spark_is_missing, spark_table
from dparallel import ParallelDecisionTree

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Problem:
    """Rows of two classes, and the depth of the tree.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32
    y : ndarray of shape (n_rows,), int64, 0 or 1
    held_out : the same of other rows
    path : Path of an .npy file with the rows of X
    depth : int
    """

    X: np.ndarray
    y: np.ndarray
    held_out: tuple[np.ndarray, np.ndarray]
    path: Path
    depth: int


class Peer:
    """Someone who grows a tree.

    Attributes
    ----------
    name : str
    needs : "nothing", "cluster" or "spark", what must be open
    package : str, what must be installed, or ""
    """

    name = ""
    needs = "nothing"
    package = ""

    def why_not(self) -> str | None:
        """Return what is missing to run this peer, in words."""
        return None if not self.package or find_spec(self.package) else f"{self.package} is not installed"

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        """Bring the rows to where the peer wants them, in memory; this is not timed."""
        return nullcontext((problem.X, problem.y))

    def fit(self, rows: Any, depth: int) -> Any:
        """Grow a tree on what hold gave, binning included; this is timed."""
        raise NotImplementedError

    def predictor(self, model: Any) -> Predict:
        """Return a function that predicts labels of NumPy rows."""
        return model.predict


class OnCluster(Peer):
    """A peer that is given Dask arrays in the memory of two worker processes."""

    needs = "cluster"

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        return on_workers(problem.path, problem.X, problem.y)


class Threads(Peer):
    """dparallel on NumPy arrays, in all threads of this machine."""

    name = "dparallel threads"

    def fit(self, rows: Any, depth: int) -> Any:
        return ParallelDecisionTree(max_depth=depth).fit(*rows)


class Processes(OnCluster):
    """dparallel on Dask arrays."""

    name = f"dparallel {N_PROCESSES} processes"

    def fit(self, rows: Any, depth: int) -> Any:
        return ParallelDecisionTree(max_depth=depth).fit(*rows)


class ScikitLearn(Peer):
    """scikit-learn's exact tree, one thread."""

    name = "scikit-learn exact"

    def fit(self, rows: Any, depth: int) -> Any:
        return DecisionTreeClassifier(max_depth=depth, random_state=0).fit(*rows)


class HistGradient(Peer):
    """scikit-learn's HistGradientBoosting with one iteration."""

    name = "HistGradientBoosting, 1 iteration"

    def fit(self, rows: Any, depth: int) -> Any:
        limits = {"max_depth": depth, "max_leaf_nodes": 2**depth, "min_samples_leaf": 1}
        return HistGradientBoostingClassifier(max_iter=1, learning_rate=1.0, early_stopping=False, **limits).fit(*rows)


class LightGBM(Peer):
    """LightGBM with one tree."""

    name = "LightGBM, 1 tree"
    package = "lightgbm"

    def fit(self, rows: Any, depth: int) -> Any:
        from lightgbm import LGBMClassifier

        return LGBMClassifier(**light_settings(depth), n_jobs=N_PROCESSES).fit(*rows)


class DaskLightGBM(OnCluster):
    """LightGBM's Dask class with one tree."""

    name = f"LightGBM Dask, 1 tree, {N_PROCESSES} processes"
    package = "lightgbm"

    def fit(self, rows: Any, depth: int) -> Any:
        from lightgbm import DaskLGBMClassifier

        return DaskLGBMClassifier(**light_settings(depth), client=Client.current()).fit(*rows)

    def predictor(self, model: Any) -> Predict:
        return model.to_local().predict


class XGBoost(Peer):
    """XGBoost's histogram method with one tree."""

    name = "XGBoost, 1 tree"
    package = "xgboost"

    def fit(self, rows: Any, depth: int) -> Any:
        from xgboost import XGBClassifier

        return XGBClassifier(**boost_settings(depth), n_jobs=N_PROCESSES).fit(*rows)


class DaskXGBoost(OnCluster):
    """XGBoost's Dask class with one tree."""

    name = f"XGBoost Dask, 1 tree, {N_PROCESSES} processes"
    package = "xgboost"

    def fit(self, rows: Any, depth: int) -> Any:
        from xgboost.dask import DaskXGBClassifier

        model = DaskXGBClassifier(**boost_settings(depth))
        model.client = Client.current()
        return model.fit(*rows)

    def predictor(self, model: Any) -> Predict:
        return lambda X: (model.get_booster().inplace_predict(X) > 0.5).astype(int)


class Spark(Peer):
    """Spark MLlib's DecisionTreeClassifier with 255 bins on a cached DataFrame, in one JVM with two threads."""

    name = "Spark local[2]"
    needs = "spark"

    def why_not(self) -> str | None:
        return spark_is_missing()

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        return spark_table(problem.path, problem.X, label=problem.y.astype(np.float64))

    def fit(self, rows: Any, depth: int) -> Any:
        from pyspark.ml.classification import DecisionTreeClassifier as SparkTree

        model = SparkTree(maxDepth=depth, maxBins=255, maxMemoryInMB=1024).fit(rows)
        return model, model.toDebugString  # the fit is lazy no longer

    def predictor(self, model: Any) -> Predict:
        root = model[0]._call_java("rootNode")
        return lambda X: np.array([walk(root, row) for row in X[:2000].astype(np.float64)])


def walk(node: Any, row: np.ndarray) -> float:
    """Predict one row with a tree of Spark's."""
    while node.subtreeDepth() > 0:
        split = node.split()
        node = node.leftChild() if row[split.featureIndex()] <= split.threshold() else node.rightChild()
    return float(node.prediction())


def light_settings(depth: int) -> dict[str, Any]:
    """One tree of LightGBM that may have all leaves of its depth."""
    limits = {"max_depth": depth, "num_leaves": 2**depth, "min_child_samples": 1, "min_child_weight": 0.0}
    return {"n_estimators": 1, "learning_rate": 1.0, "verbose": -1, **limits}


def boost_settings(depth: int) -> dict[str, Any]:
    """One tree of XGBoost that may have all leaves of its depth."""
    limits = {"max_depth": depth, "min_child_weight": 0.0, "reg_lambda": 0.0}
    return {"n_estimators": 1, "learning_rate": 1.0, "tree_method": "hist", "max_bin": 256, **limits}


PEERS: dict[str, Peer] = {
    "threads": Threads(),
    "processes": Processes(),
    "sklearn": ScikitLearn(),
    "hist": HistGradient(),
    "lightgbm": LightGBM(),
    "lightgbm-dask": DaskLightGBM(),
    "xgboost": XGBoost(),
    "xgboost-dask": DaskXGBoost(),
    "spark": Spark(),
}
