"""Pipelines and searches over AsyncSGDClassifier on Dask arrays, and what many fits leave behind."""

import gc
import os
import threading

import dask
import dask.array as da
import joblib
import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from dparallel import AsyncSGDClassifier, ParallelStandardScaler
from tests.spying import Spy


@pytest.fixture(scope="module")
def client():
    with (
        # Dask remembers the last 1000 messages to each worker, blocks in them included: not what a fit leaves behind
        dask.config.set({"distributed.admin.low-level-log-length": 10}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


def problem(n_rows, n_chunks=8):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_rows, 20)) * np.linspace(1, 50, 20)
    y = (X[:, 0] + 0.02 * X[:, 19] + 0.3 * random.normal(size=n_rows) > 0).astype(int)
    chunk = n_rows // n_chunks
    return da.from_array(X, chunks=(chunk, 20)), da.from_array(y, chunks=chunk)


@pytest.mark.parametrize("backend", ["n_jobs=1", "dask"])
def test_grid_search_of_a_pipeline_leaves_the_rows_on_the_workers(client, monkeypatch, backend):
    X, y = (part.persist() for part in problem(16_000))
    model = AsyncSGDClassifier(loss="log_loss", max_iter=5, tol=None, random_state=0)
    search = GridSearchCV(
        Pipeline([("scale", ParallelStandardScaler()), ("model", model)]), {"model__alpha": [1e-4, 10.0]}, cv=2
    )
    spy = Spy(monkeypatch)
    if backend == "dask":
        with joblib.parallel_config("dask"):
            search.fit(X, y)
    else:
        search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert all(isinstance(score, float) for score in scores)
    assert search.best_params_ == {"model__alpha": 1e-4} and search.best_score_ > 0.9
    assert spy.received < X.nbytes / 4


def test_a_scaler_and_a_model_in_a_pipeline_predict_lazily(client):
    X, y = problem(4000)
    pipeline = Pipeline([("scale", ParallelStandardScaler()), ("model", AsyncSGDClassifier(random_state=0))]).fit(X, y)
    labels = pipeline.predict(X)
    assert isinstance(labels, da.Array) and labels.chunks == y.chunks
    assert (labels == y).mean().compute() > 0.9


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_fifty_fits_in_a_row_do_not_grow_memory(client, where):
    X, y = problem(4000)
    if where == "threads":
        X, y = X.compute(), y.compute()

    def used(dask_worker=None):
        gc.collect()
        return psutil.Process(os.getpid()).memory_info().rss

    def total():
        return used() + sum(client.run(used).values())

    def fit(n_fits):
        for _ in range(n_fits):
            AsyncSGDClassifier(loss="log_loss", max_iter=3, tol=None).fit(X, y)

    fit(10)  # until caches and pools are full
    before, threads = total(), threading.active_count()
    fit(50)
    assert total() - before < 30e6
    assert threading.active_count() <= threads
