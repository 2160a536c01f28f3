"""Whoever fits k-means: dparallel in its ways, scikit-learn, dask-ml and Spark, behind one interface."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from distributed import wait
from sklearn.cluster import KMeans

from benchmarks.cluster import open_cluster
from benchmarks.data import rows_of_file
from benchmarks.results import Report
from dparallel import ParallelKMeans

N_PROCESSES = 2
N_CHUNKS = 8


@dataclass(frozen=True)
class Problem:
    """One fit that all peers make, with tol=0.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float64
    path : Path of an .npy file with the same rows
    centres : ndarray of shape (n_clusters, n_features), the first centres of the peers that do not seed
    max_iter : int
    seed : int, for the peers that seed by themselves
    """

    X: np.ndarray
    path: Path
    centres: np.ndarray
    max_iter: int
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """Where a fit ended: centres of shape (n_clusters, n_features), and the rounds it took."""

    centres: np.ndarray
    n_rounds: int


class Peer:
    """Someone who fits k-means.

    Attributes
    ----------
    name : str
    needs : "nothing", "cluster" or "spark", what must be open (see OPENERS)
    seeds : bool, whether the fit finds its first centres itself, by k-means‖, in the time that is measured
    """

    name = ""
    needs = "nothing"
    seeds = False

    def why_not(self) -> str | None:
        """Return what is missing to run this peer, in words."""

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        """Bring the rows to where the peer wants them, in memory; this is not timed."""
        return nullcontext(problem.X)

    def fit(self, rows: Any, problem: Problem) -> Answer:
        """Fit what hold gave; this is timed."""
        raise NotImplementedError


class ScikitLearn(Peer):
    """scikit-learn's KMeans with algorithm "lloyd" or "elkan", in all threads of this machine."""

    def __init__(self, algorithm: str):
        self.name = f"scikit-learn {algorithm}"
        self.algorithm = algorithm

    def fit(self, rows: Any, problem: Problem) -> Answer:
        model = KMeans(
            len(problem.centres),
            init=problem.centres,
            n_init=1,
            max_iter=problem.max_iter,
            tol=0,
            algorithm=self.algorithm,
        ).fit(rows)
        return Answer(model.cluster_centers_, model.n_iter_)


class Threads(Peer):
    """dparallel on the NumPy array, in all threads of this machine."""

    name = "dparallel threads"

    def fit(self, rows: Any, problem: Problem) -> Answer:
        init = "k-means||" if self.seeds else problem.centres
        model = ParallelKMeans(
            len(problem.centres), init=init, max_iter=problem.max_iter, tol=0, random_state=problem.seed
        ).fit(rows)
        return Answer(model.cluster_centers_, model.n_iter_)


class OnCluster(Threads):
    """dparallel on a persisted Dask array, on two worker processes."""

    needs = "cluster"

    def __init__(self, n_chunks: int, *, seeds: bool = False):
        self.name = f"dparallel {N_PROCESSES} processes, " + ("k-means‖" if seeds else f"{n_chunks} chunks")
        self.n_chunks = n_chunks
        self.seeds = seeds

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        return persisted(problem.path, problem.X, self.n_chunks)


class DaskMl(Peer):
    """dask-ml's KMeans on a persisted Dask array, on the same cluster."""

    name = f"dask-ml {N_PROCESSES} processes, k-means‖"
    needs = "cluster"
    seeds = True

    def why_not(self) -> str | None:
        return None if find_spec("dask_ml") else "dask-ml is not installed"

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        return persisted(problem.path, problem.X)

    def fit(self, rows: Any, problem: Problem) -> Answer:
        from dask_ml.cluster import KMeans as DaskKMeans

        model = DaskKMeans(len(problem.centres), max_iter=problem.max_iter, tol=0, random_state=problem.seed).fit(rows)
        return Answer(model.cluster_centers_, model.n_iter_)


class Spark(Peer):
    """Spark MLlib's KMeans on a cached DataFrame of vectors, in one JVM with two threads."""

    name = "Spark local[2], k-means‖"
    needs = "spark"
    seeds = True

    def why_not(self) -> str | None:
        return spark_is_missing()

    def hold(self, problem: Problem) -> AbstractContextManager[Any]:
        return spark_table(problem.path, problem.X)

    def fit(self, rows: Any, problem: Problem) -> Answer:
        from pyspark.ml.clustering import KMeans as SparkKMeans

        model = SparkKMeans(
            k=len(problem.centres), initMode="k-means||", maxIter=problem.max_iter, tol=0.0, seed=problem.seed
        ).fit(rows)
        return Answer(np.array(model.clusterCenters()), model.summary.numIter)


PEERS: dict[str, Peer] = {
    "sklearn-lloyd": ScikitLearn("lloyd"),
    "sklearn-elkan": ScikitLearn("elkan"),
    "threads": Threads(),
    "processes-8": OnCluster(N_CHUNKS),
    "processes-128": OnCluster(128),
    "processes-seeding": OnCluster(N_CHUNKS, seeds=True),
    "dask-ml": DaskMl(),
    "spark": Spark(),
}


@contextmanager
def on_workers(path: Path, X: np.ndarray, y: np.ndarray) -> Iterator[Any]:
    """Hold the rows of a file and their targets in the memory of the workers of the active client.

    Parameters
    ----------
    path : Path of an .npy file with the rows of X
    """
    rows = rows_of_file(path, X.shape, N_CHUNKS, X.dtype).persist()
    targets = da.from_array(y, chunks=(rows.chunks[0],)).persist()
    wait([rows, targets])
    yield rows, targets


@contextmanager
def persisted(path: Path, X: np.ndarray, n_chunks: int = N_CHUNKS) -> Iterator[Any]:
    """Hold the rows of a file, which are those of X, in the memory of the workers of the active client."""
    rows = rows_of_file(path, X.shape, n_chunks, X.dtype).persist()
    wait(rows)
    yield rows


@contextmanager
def spark_table(path: Path, X: np.ndarray, **columns: np.ndarray) -> Iterator[Any]:
    """Hold rows as a cached DataFrame of Spark's: a vector in "features", and other columns of numbers.

    Parameters
    ----------
    path : Path; the rows go through files beside it
    """
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import SparkSession

    folder = path.with_suffix(".parquet")
    write_parquet(X.astype(np.float64, copy=False), folder, **columns)
    table = SparkSession.active().read.parquet(str(folder)).repartition(N_CHUNKS)
    vectors = table.select(array_to_vector("features").alias("features"), *columns).cache()
    vectors.count()
    try:
        yield vectors
    finally:
        vectors.unpersist(blocking=True)
        shutil.rmtree(folder)


def write_parquet(X: np.ndarray, folder: Path, **columns: np.ndarray) -> None:
    """Write X as a column of lists, and others of numbers, in as many files as Dask gets chunks."""
    import pyarrow
    from pyarrow import parquet

    folder.mkdir()
    for i, part in enumerate(np.array_split(np.arange(len(X)), N_CHUNKS)):
        rows = X[part[0] : part[-1] + 1]
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * X.shape[1]
        lists = pyarrow.ListArray.from_arrays(offsets, rows.ravel())
        others = {name: column[part] for name, column in columns.items()}
        parquet.write_table(pyarrow.table({"features": lists, **others}), folder / f"{i}.parquet")


def spark_is_missing() -> str | None:
    """Return what Spark lacks here, in words."""
    lacking = [package for package in ("pyspark", "pyarrow") if not find_spec(package)]
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        lacking.append("java")
    return f"{' and '.join(lacking)} not installed" if lacking else None


@contextmanager
def open_spark() -> Iterator[Any]:
    """Start a JVM that talks to this machine only."""
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").appName("benchmarks")
    for key, value in {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "6g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()


OPENERS = {"cluster": lambda: open_cluster(N_PROCESSES), "spark": open_spark, "nothing": nullcontext}


def present(peers: Iterable[Any], report: Report) -> list[Any]:
    """Return the peers that can be run here; the report tells what the others lack."""
    found = []
    for peer in peers:
        missing = peer.why_not()
        if missing:
            report.note(f"{peer.name} is skipped: {missing}.")
        else:
            found.append(peer)
    return found


@contextmanager
def open_for(peers: Iterable[Any]) -> Iterator[None]:
    """Open what peers need, each thing once."""
    with ExitStack() as opened:
        for need in {peer.needs: None for peer in peers}:
            opened.enter_context(OPENERS[need]())
        yield
