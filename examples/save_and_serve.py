"""
Train on Dask data, serve without Dask
======================================

A pipeline learns on a Dask array in chunks. ``to_sklearn()`` turns its steps into scikit-learn's own models, which are
saved with skops, a format that runs no code when it is loaded, and exported to ONNX, which other languages read. Both
give the same predictions as the pipeline. Where skops, skl2onnx or onnxruntime is not installed, that part is left out.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import dask.array as da
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.pipeline import Pipeline, make_pipeline

from dparallel import ParallelLogisticRegression, ParallelSimpleImputer, ParallelStandardScaler


def main():
    data = load_breast_cancer()
    rows = data.data.astype(np.float32)
    X = da.from_array(rows, chunks=(150, rows.shape[1]))
    y = da.from_array(data.target_names[data.target], chunks=150)
    steps = [("fill", ParallelSimpleImputer()), ("scale", ParallelStandardScaler())]
    model = Pipeline([*steps, ("learn", ParallelLogisticRegression())]).fit(X, y)
    wanted, chances = model.predict(X).compute(), model.predict_proba(X).compute()
    print(f"{len(rows)} rows in {X.numblocks[0]} chunks, {(wanted == y.compute()).mean():.3f} of the labels right")

    plain = make_pipeline(*(step.to_sklearn() for _, step in model.steps))
    print("as scikit-learn's:", ", ".join(type(step).__name__ for _, step in plain.steps))
    print(f"same labels: {(plain.predict(rows) == wanted).all()}")
    with tempfile.TemporaryDirectory() as folder:
        save(plain, rows, wanted, Path(folder) / "model.skops")
    export(plain, rows, wanted, chances)


def save(plain, rows, wanted, path):
    """Save with skops, look at what the file asks to be trusted, and load it."""
    if not find_spec("skops"):
        print("Nothing saved: skops is not installed.")
        return
    import skops.io

    skops.io.dump(plain, path)
    asked = skops.io.get_untrusted_types(file=path)
    print(f"skops: {path.stat().st_size} bytes, asks to trust {asked or 'nothing'}")
    loaded = skops.io.load(path, trusted=[name for name in asked if name == "numpy.dtype"])
    print(f"same labels: {(loaded.predict(rows) == wanted).all()}")


def export(plain, rows, wanted, chances):
    """Export to ONNX and compute with onnxruntime."""
    if not (find_spec("skl2onnx") and find_spec("onnxruntime")):
        print("Nothing exported: skl2onnx or onnxruntime is not installed.")
        return
    import onnxruntime
    import skl2onnx

    onnx = skl2onnx.to_onnx(plain, rows[:1], options={"zipmap": False})
    session = onnxruntime.InferenceSession(onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    labels, found = session.run(None, {session.get_inputs()[0].name: rows})
    print(f"ONNX: {len(onnx.SerializeToString())} bytes")
    print(f"same labels: {(labels == wanted).all()}, chances differ by at most {np.abs(found - chances).max():.1e}")


if __name__ == "__main__":
    main()
