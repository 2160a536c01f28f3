"""LocalSGDClassifier and LocalSGDRegressor: a fit that was broken off goes on from its checkpoint, to the same bits."""

import os
import signal
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from dparallel import AsyncSGDClassifier, LocalSGDClassifier, LocalSGDRegressor, checkpoint
from dparallel.errors import CheckpointError, DataError
from dparallel.workers.saving import Saving
from tests.hostile import exchanged, hostile, save

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(500, 4))
Y = (X[:, 0] + RANDOM.normal(size=500) > 0).astype(int)
SETTINGS = {"loss": "log_loss", "random_state": 0, "tol": None, "max_iter": 8}
WAYS = {
    "plain": {},
    "momentum and average": {"optimizer": "momentum", "average": True},
    "early stopping without a seed": {"early_stopping": True, "random_state": None, "tol": 1e-9},
    "long intervals": {"sync_every": 300, "batch_size": 2},
    "every step": {"sync_every": 1, "learning_rate": "adaptive", "eta0": 0.1},
}


def break_off(model, after=3):
    """Fit until so many epochs were saved, and keep the file."""
    with pytest.MonkeyPatch.context() as patch, dask.config.set({"dparallel.checkpoint-every": "0s"}):
        write, saved = Saving.write, []

        def write_or_stop(saving, state):
            write(saving, state)
            saved.append(1)
            if len(saved) == after:
                raise KeyboardInterrupt

        patch.setattr(Saving, "write", write_or_stop)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y)


def same(found, wanted):
    np.testing.assert_array_equal(found.coef_, wanted.coef_)
    np.testing.assert_array_equal(found.intercept_, wanted.intercept_)
    assert found.n_iter_ == wanted.n_iter_ and found.t_ == wanted.t_ and found.sync_every_ == wanted.sync_every_
    told = [(r.round, r.objective, r.change, r.interval, r.n_averages, r.drift) for r in wanted.history_]
    assert [(r.round, r.objective, r.change, r.interval, r.n_averages, r.drift) for r in found.history_] == told


@pytest.mark.parametrize("way", WAYS)
def test_fit_goes_on_to_the_same_bits(tmp_path, way):
    options = {**SETTINGS, **WAYS[way], "checkpoint": tmp_path / "fit"}
    with dask.config.set(num_workers=2):
        whole = LocalSGDClassifier(**options).fit(X, Y)
        assert not options["checkpoint"].exists()
        break_off(LocalSGDClassifier(**options), after=2)
        assert options["checkpoint"].exists()
        same(LocalSGDClassifier(**options).fit(X, Y), whole)
    assert not options["checkpoint"].exists()


def test_fit_goes_on_with_another_number_of_threads(tmp_path):
    options = {**SETTINGS, "checkpoint": tmp_path / "fit"}
    with dask.config.set(num_workers=2):
        whole = LocalSGDClassifier(**options).fit(X, Y)
        break_off(LocalSGDClassifier(**options))
    with dask.config.set(num_workers=1):
        same(LocalSGDClassifier(**options).fit(X, Y), whole)


PROGRAM = """
import sys, dask, numpy
from dparallel import LocalSGDRegressor
rows = numpy.load(sys.argv[1])
if __name__ == "__main__":
    dask.config.set({"num_workers": 2, "dparallel.checkpoint-every": "0s"})
    LocalSGDRegressor(random_state=0, tol=None, max_iter=400, verbose=1, checkpoint=sys.argv[2]).fit(rows, rows[:, 0])
"""


def test_fit_whose_process_was_killed_goes_on_to_the_same_bits(tmp_path):
    np.save(tmp_path / "rows.npy", X)
    path = tmp_path / "fit"
    command = [sys.executable, "-u", "-c", PROGRAM, str(tmp_path / "rows.npy"), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for _ in range(8):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    saved = checkpoint.read(path)[1]["course"]["n_epochs"]
    assert 1 <= saved < 400 and [name for name in os.listdir(tmp_path) if name.endswith("fit")] == ["fit"]
    options = {"random_state": 0, "tol": None, "max_iter": 400}
    with dask.config.set(num_workers=2):
        same(
            LocalSGDRegressor(**options, checkpoint=path).fit(X, X[:, 0]), LocalSGDRegressor(**options).fit(X, X[:, 0])
        )


@pytest.mark.slow
def test_fit_on_a_cluster_goes_on_with_other_workers_to_the_same_bits(tmp_path):
    lazy, labels = da.from_array(X, chunks=(100, 4)), da.from_array(Y, chunks=100)
    options = {**SETTINGS, "checkpoint": tmp_path / "fit"}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        whole = LocalSGDClassifier(**options).fit(lazy, labels)
        with pytest.MonkeyPatch.context() as patch, dask.config.set({"dparallel.checkpoint-every": "0s"}):
            patch.setattr(Saving, "remove", lambda saving: None)
            LocalSGDClassifier(**{**options, "max_iter": 4}).fit(lazy, labels)
    with LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        same(LocalSGDClassifier(**options).fit(lazy, labels), whole)


def test_checkpoint_of_another_fit_is_refused(tmp_path):
    options = {**SETTINGS, "checkpoint": tmp_path / "fit"}
    break_off(LocalSGDClassifier(**options))
    with pytest.raises(CheckpointError, match=r"alpha was '0.0001' and is '0.1'"):
        LocalSGDClassifier(**options, alpha=0.1).fit(X, Y)
    with pytest.raises(CheckpointError, match="n_rows was '500' and is '400'"):
        LocalSGDClassifier(**options).fit(X[:400], Y[:400])
    with pytest.raises(CheckpointError, match="estimator was 'LocalSGDClassifier' and is 'AsyncSGDClassifier'"):
        AsyncSGDClassifier(**options).fit(X, Y)


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"checkpoint": 3}, TypeError, "path of a file"),
        ({"checkpoint": "fit", "sync_every": None}, ValueError, "averaged once.*sync_every='auto'"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        LocalSGDClassifier(**given).fit(X, Y)


def test_partial_fit_neither_reads_nor_writes_it(tmp_path):
    LocalSGDClassifier(checkpoint=tmp_path / "fit").partial_fit(X, Y, classes=[0, 1])
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "fit"
    options = {**SETTINGS, "checkpoint": path, "average": True, "optimizer": "adam"}
    with dask.config.set(num_workers=2):
        break_off(LocalSGDClassifier(**options))
    return options, checkpoint.read(path)


LIES = {
    "epochs": (("course", "n_epochs"), 10**12),
    "interval": (("course", "interval"), 10**12),
    "judge": (("course", "judge"), {"best": "x", "n_idle": 0, "factor": 1.0}),
    "factor": (("course", "judge", "factor"), 0),
    "history": (("course", "history"), []),
    "record": (("course", "history", 0, "drift"), "x"),
    "optimizer": (("columns", "optimizers", 0, 1, "name"), "sgd"),
    "partitions": (("fingerprint", "n_partitions"), 10**12),
    "no columns": (("columns",), [[]]),
}


@pytest.mark.parametrize("name", LIES)
def test_checkpoint_that_lies_is_refused(saved, name):
    options, (arrays, document) = saved
    place, value = LIES[name]
    save(options["checkpoint"], arrays, exchanged(document, place, value))
    with pytest.raises(CheckpointError, match=r"fit is no checkpoint of dparallel, or it is damaged.*delete this one"):
        LocalSGDClassifier(**options).fit(X, Y)


def resume_or_refuse(saved, data):
    options, content = saved
    save(options["checkpoint"], *data.draw(hostile(*content)))
    try:
        model = LocalSGDClassifier(**options).fit(X, Y)
    except CheckpointError as error:
        said = str(error)
        assert str(options["checkpoint"]) in said and len(said) < 2000
    except DataError as error:
        assert "overflow" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(model.coef_).all()


@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@settings(max_examples=15)
def test_fit_goes_on_from_an_exchanged_checkpoint_or_tells_what_is_wrong(saved, data):
    resume_or_refuse(saved, data)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@settings(max_examples=3000)
def test_fit_goes_on_from_any_exchanged_checkpoint_or_tells_what_is_wrong(saved, data):
    resume_or_refuse(saved, data)
