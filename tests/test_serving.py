"""Saving and serving: every estimator's to_sklearn() goes through skops and ONNX with the same predictions."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline, make_pipeline

import dparallel
from dparallel import (
    AsyncSGDClassifier,
    AsyncSGDRegressor,
    LocalSGDClassifier,
    LocalSGDRegressor,
    ParallelDecisionTree,
    ParallelDecisionTreeClassifier,
    ParallelDecisionTreeRegressor,
    ParallelKMeans,
    ParallelLogisticRegression,
    ParallelOneHotEncoder,
    ParallelOrdinalEncoder,
    ParallelRidge,
    ParallelSimpleImputer,
    ParallelStandardScaler,
)

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 5)).astype(np.float32)
TWO = np.where(X[:, 0] + 0.3 * X[:, 1] > 0, "yes", "no")
THREE = np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.5])
TARGET = X @ np.arange(5.0) + 1.0
HOLES = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X).astype(np.float32)
KINDS = RANDOM.integers(0, 4, size=(400, 2)).astype(np.float32)
QUICK = {"random_state": 0, "max_iter": 20, "tol": None}

CLASSIFIERS = {
    "tree": (ParallelDecisionTreeClassifier(max_depth=6), THREE),
    "tree of two": (ParallelDecisionTree(max_depth=6), TWO),
    "exact tree": (ParallelDecisionTreeClassifier(max_depth=4, ccp_alpha=0.01), THREE),
    "asynchronous": (AsyncSGDClassifier(loss="log_loss", **QUICK), TWO),
    "asynchronous of three": (AsyncSGDClassifier(loss="log_loss", **QUICK), THREE),
    "asynchronous hinge": (AsyncSGDClassifier(loss="hinge", **QUICK), THREE),
    "modified huber": (AsyncSGDClassifier(loss="modified_huber", **QUICK), TWO),
    "averaged": (LocalSGDClassifier(loss="log_loss", **QUICK), TWO),
    "averaged of three": (LocalSGDClassifier(loss="log_loss", **QUICK), THREE),
    "logistic": (ParallelLogisticRegression(), TWO),
    "logistic of three": (ParallelLogisticRegression(), THREE),
}
REGRESSORS = {
    "tree": ParallelDecisionTreeRegressor(max_depth=6),
    "asynchronous": AsyncSGDRegressor(**QUICK),
    "averaged": LocalSGDRegressor(**QUICK),
    "ridge": ParallelRidge(),
}
TRANSFORMERS = {
    "scaler": (ParallelStandardScaler(), X),
    "scaler of deviations": (ParallelStandardScaler(with_mean=False), X),
    "scaler of means": (ParallelStandardScaler(with_std=False), X),
    "imputer": (ParallelSimpleImputer(), HOLES),
    "imputer of medians": (ParallelSimpleImputer(strategy="median"), HOLES),
    "ordinal": (ParallelOrdinalEncoder(), KINDS),
    "one-hot": (ParallelOneHotEncoder(sparse_output=False), KINDS),
}


def fitted():
    for name, (model, y) in CLASSIFIERS.items():
        yield f"{name} classifier", model, (X, y)
    for name, model in REGRESSORS.items():
        yield f"{name} regressor", model, (X, TARGET)
    for name, (model, given) in TRANSFORMERS.items():
        yield name, model, (given,)
    yield "k-means", ParallelKMeans(n_clusters=4, random_state=0), (X,)
    yield "cosine k-means", ParallelKMeans(n_clusters=4, random_state=0, metric="cosine"), (X,)


FITTED = {name: (model, data) for name, model, data in fitted()}


@pytest.fixture(scope="module")
def models():
    """Each model, fitted, and scikit-learn's in its place."""
    found = {name: (model.fit(*data), data[0]) for name, (model, data) in FITTED.items()}
    return {name: (model, model.to_sklearn(), rows) for name, (model, rows) in found.items()}


def answers(model, rows):
    names = ("predict", "predict_proba", "decision_function", "transform")
    return {name: np.asarray(getattr(model, name)(rows)) for name in names if hasattr(model, name)}


def same(found, wanted, atol=1e-12):
    if wanted.dtype.kind in "fc":
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=atol)
    else:
        np.testing.assert_array_equal(found, wanted)


def test_every_estimator_is_served_here():
    public = {getattr(dparallel, name) for name in dparallel.__all__ if name != "__version__"}
    estimators = {kind for kind in public if isinstance(kind, type) and issubclass(kind, BaseEstimator)}
    assert estimators == {type(model) for model, _ in FITTED.values()}


@pytest.mark.parametrize("name", FITTED)
def test_model_of_scikit_learn_says_the_same(models, name):
    model, plain, rows = models[name]
    assert type(plain).__module__.startswith("sklearn.")
    wanted = answers(model, rows)
    for method, found in answers(plain, rows).items():
        if not (name == "cosine k-means" and method == "transform"):  # Euclidean distances, as documented
            same(found, wanted[method], atol=1e-6)


# what skops asks to be trusted in scikit-learn's own models: plain data, of which no code is run
ASKED = {"DecisionTreeClassifier": "sklearn.tree._tree.Tree", "DecisionTreeRegressor": "sklearn.tree._tree.Tree"}
ASKED["SimpleImputer"] = "numpy.dtype"


@pytest.mark.parametrize("name", FITTED)
def test_skops_saves_it_and_asks_for_no_more_trust_than_for_scikit_learn(models, tmp_path, name):
    skops = pytest.importorskip("skops.io")
    _, plain, rows = models[name]
    skops.dump(plain, tmp_path / "model.skops")
    untrusted = skops.get_untrusted_types(file=tmp_path / "model.skops")
    theirs = type(plain)(**plain.get_params()).fit(*FITTED[name][1])
    assert set(untrusted) <= set(skops.get_untrusted_types(data=skops.dumps(theirs)))
    assert set(untrusted) <= {ASKED.get(type(plain).__name__)}
    loaded = skops.load(tmp_path / "model.skops", trusted=untrusted)
    wanted = answers(plain, rows)
    assert wanted
    for method, found in answers(loaded, rows).items():
        np.testing.assert_array_equal(found, wanted[method])
    assert repr(loaded.get_params()) == repr(plain.get_params())


@pytest.mark.slow
def test_skops_loads_where_dparallel_is_not_installed(models, tmp_path):
    skops = pytest.importorskip("skops.io")
    _, plain, rows = models["logistic classifier"]
    skops.dump(plain, tmp_path / "model.skops")
    np.save(tmp_path / "rows.npy", rows)
    program = (
        "import sys\nsys.modules['dparallel'] = None\nimport json, numpy, skops.io\n"
        "model = skops.io.load('model.skops')\n"
        "print(json.dumps(model.predict(numpy.load('rows.npy')).tolist()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == plain.predict(rows).tolist()


def session_of(plain, rows, **options):
    skl2onnx, onnxruntime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
    model = skl2onnx.to_onnx(plain, rows[:1], **options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda given: session.run(None, {session.get_inputs()[0].name: given})


@pytest.mark.parametrize("name", [name for name in FITTED if name.endswith("classifier")])
def test_onnx_gives_the_same_labels_and_chances(models, name):
    model, plain, rows = models[name]
    labels, chances = session_of(plain, rows, options={"zipmap": False})(rows)
    np.testing.assert_array_equal(labels, model.predict(rows))
    if hasattr(model, "predict_proba"):
        np.testing.assert_allclose(chances, model.predict_proba(rows), atol=2e-6)
    else:
        np.testing.assert_allclose(chances, model.decision_function(rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in FITTED if name.endswith("regressor")])
def test_onnx_gives_the_same_numbers(models, name):
    model, plain, rows = models[name]
    (found,) = session_of(plain, rows)(rows)
    np.testing.assert_allclose(found.ravel(), model.predict(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_onnx_transforms_the_same(models, name):
    model, plain, rows = models[name]
    (found,) = session_of(plain, rows)(rows)
    np.testing.assert_allclose(found, model.transform(rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["k-means", "cosine k-means"])
def test_onnx_gives_the_same_clusters(models, name):
    model, plain, rows = models[name]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True) if name == "cosine k-means" else rows
    labels, _ = session_of(plain, rows)(rows)
    np.testing.assert_array_equal(labels, model.predict(rows))


def test_pipeline_fitted_on_dask_data_is_served_as_one_model(tmp_path):
    lazy = da.from_array(HOLES, chunks=(100, 5))
    steps = [("fill", ParallelSimpleImputer()), ("scale", ParallelStandardScaler())]
    model = Pipeline([*steps, ("learn", ParallelLogisticRegression())]).fit(lazy, da.from_array(TWO, chunks=100))
    plain = make_pipeline(*(step.to_sklearn() for _, step in model.steps))
    wanted = model.predict(lazy).compute()
    np.testing.assert_array_equal(plain.predict(HOLES), wanted)
    labels, chances = session_of(plain, HOLES, options={"zipmap": False})(HOLES)
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_allclose(chances, model.predict_proba(lazy).compute(), atol=2e-6)


def test_code_of_the_page_on_serving_runs(tmp_path, monkeypatch):
    for name in ("skops", "skl2onnx", "onnxruntime"):
        pytest.importorskip(name)
    page = (Path(__file__).resolve().parent.parent / "docs" / "serving.rst").read_text()
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", page, flags=re.MULTILINE)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent("".join(blocks)), {})


@pytest.mark.parametrize("name", ["scaler", "imputer", "ridge regressor"])
def test_names_of_columns_are_kept(name):
    pd = pytest.importorskip("pandas")
    model, data = FITTED[name]
    frame = pd.DataFrame(data[0], columns=list("abcde"))
    plain = type(model)(**model.get_params()).fit(frame, *data[1:]).to_sklearn()
    assert plain.feature_names_in_.tolist() == list("abcde")
    skops = pytest.importorskip("skops.io")
    loaded = skops.loads(skops.dumps(plain), trusted=["numpy.dtype"])
    assert loaded.feature_names_in_.tolist() == list("abcde")
