"""The estimator that docs/adding_an_estimator.rst builds keeps what the page says of it."""

import importlib.util
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.utils.estimator_checks import parametrize_with_checks

from dparallel.errors import DataError

PATH = Path(__file__).resolve().parent.parent / "examples" / "own_estimator.py"


def load():
    """The example as a module that pickle finds again."""
    specification = importlib.util.spec_from_file_location("own_estimator", PATH)
    module = importlib.util.module_from_spec(specification)
    sys.modules["own_estimator"] = module
    specification.loader.exec_module(module)
    return module


ParallelGaussianNB = load().ParallelGaussianNB
rng = np.random.default_rng(0)
y = rng.integers(3, size=400)
X = rng.normal(size=(400, 5)) + y[:, None] + 1000.0


@parametrize_with_checks([ParallelGaussianNB()])
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("weights", [None, rng.choice([0.0, 1.0, 2.5], 400)])
def test_moments_and_predictions_are_those_of_scikit_learn(weights):
    ours, theirs = ParallelGaussianNB().fit(X, y, weights), GaussianNB().fit(X, y, weights)
    np.testing.assert_allclose(ours.theta_, theirs.theta_, rtol=1e-12)
    np.testing.assert_allclose(ours.var_, theirs.var_, rtol=1e-8)  # theirs smooths by variances without weights
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6, atol=1e-12)
    assert (ours.predict(X) == theirs.predict(X)).all()


@pytest.mark.parametrize("chunk", [400, 150, 7])
def test_result_does_not_depend_on_chunking_and_predictions_are_lazy(chunk):
    names = np.array(["a", "b", "c"])[y]
    rows, labels = da.from_array(X, chunks=(chunk, 5)), da.from_array(names, chunks=chunk)
    model, whole = ParallelGaussianNB().fit(rows, labels), ParallelGaussianNB().fit(X, names)
    np.testing.assert_allclose(model.theta_, whole.theta_, rtol=1e-12)
    np.testing.assert_allclose(model.var_, whole.var_, rtol=1e-10)
    predicted = model.predict(rows)
    assert isinstance(predicted, da.Array) and predicted.chunks[0] == rows.chunks[0]
    assert (predicted.compute() == whole.predict(X)).all()


def test_rows_without_any_weight_are_refused():
    with pytest.raises(DataError, match="weight"):
        ParallelGaussianNB().fit(X, y, np.zeros(400))
