"""Adaptive scaling during fits: workers come and are sent away, and the result is the same."""

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dparallel import AsyncSGDClassifier, ParallelKMeans
from tests.clusters import until

pytest.importorskip("sklearn.callback", reason="epochs and rounds are told by scikit-learn's callbacks, from 1.9")

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(4000, 5)) + RANDOM.integers(0, 4, size=(4000, 1))
X = da.from_array(ROWS, chunks=(500, 5))
Y = da.from_array((ROWS[:, 0] > 1).astype(int), chunks=500)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


class Scaler:
    """A callback that lets the cluster adapt to another number of workers when some rounds begin, and waits for it."""

    def __init__(self, client, plan):
        self.client = client
        self.plan = plan
        self.seen = []

    def setup(self, estimator, context):
        self.n_begun = 0

    def on_fit_task_begin(self, estimator, context):
        self.n_begun += 1
        wanted = self.plan.get(self.n_begun)
        if wanted is not None:
            self.client.cluster.adapt(minimum=wanted, maximum=wanted, interval="50ms", wait_count=1)
            until(lambda: len(self.client.scheduler_info()["workers"]) == wanted, 60)
            self.seen.append(wanted)

    def on_fit_task_end(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(ParallelKMeans(n_clusters=4, random_state=0, max_iter=12, tol=0.0), id="rounds"),
        pytest.param(
            AsyncSGDClassifier(loss="log_loss", random_state=0, max_iter=12, tol=None, staleness=0), id="store"
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::dparallel.errors.StoreWarning")  # one worker holds no second copies
def test_fit_is_the_same_while_the_cluster_adapts(client, model):
    given = (X,) if isinstance(model, ParallelKMeans) else (X, Y)
    steady = type(model)(**model.get_params()).fit(*given)
    scaler = Scaler(client, {4: 1, 7: 2})
    adapted = type(model)(**model.get_params()).set_callbacks(scaler).fit(*given)
    assert scaler.seen == [1, 2]
    name = "cluster_centers_" if isinstance(model, ParallelKMeans) else "coef_"
    np.testing.assert_allclose(getattr(adapted, name), getattr(steady, name), rtol=1e-10)
    assert adapted.n_iter_ == steady.n_iter_
