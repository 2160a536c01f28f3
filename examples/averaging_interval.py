"""
How often to average
====================

Two worker processes train a logistic model by parameter averaging, with different intervals between averages: first on
rows in random order, then on the same rows sorted by their class, so that each worker knows one class only. A picture
shows the mean log loss against what had to cross the network. In random order rare averages cost nothing. Sorted, each
worker alone moves all rows into its own class, and only frequent averages come near the optimum.

At the end there is a picture, if matplotlib is installed.
"""

import logging
import tempfile
from importlib.util import find_spec
from pathlib import Path

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dparallel import LocalSGDClassifier

N_ROWS, N_FEATURES, N_CHUNKS, N_EPOCHS = 40_000, 20, 8, 4
INTERVALS = (4, 16, 64, 256, "auto", None)


def draw_rows():
    random = np.random.default_rng(0)
    X = random.normal(size=(N_ROWS, N_FEATURES))
    return X, (random.random(N_ROWS) < 1 / (1 + np.exp(-X @ np.linspace(-1, 1, N_FEATURES)))).astype(int)


def measure(X, y, least):
    """Fit with every interval; return kilobytes moved and the loss beside the least there is."""
    height = N_ROWS // N_CHUNKS
    rows, labels = da.from_array(X, chunks=(height, N_FEATURES)), da.from_array(y, chunks=height)
    found = {}
    for interval in INTERVALS:
        model = LocalSGDClassifier("log_loss", sync_every=interval, max_iter=N_EPOCHS, tol=None, random_state=0)
        model.fit(rows, labels)
        moved = sum(record.bytes_moved for record in model.history_) / 1000
        found[interval] = moved, log_loss(y, model.predict_proba(X)) / least
        averages = sum(record.n_averages for record in model.history_)
        print(f"{interval!s:>5} {averages:9} {moved:8.0f} {model.history_[-1].drift:7.2f} {found[interval][1]:9.4f}")
    return found


def main():
    X, y = draw_rows()
    least = log_loss(y, LogisticRegression(C=np.inf).fit(X, y).predict_proba(X))
    order = np.argsort(y, kind="stable")
    found = {}
    settings = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": logging.ERROR}
    with LocalCluster(2, **settings) as cluster, Client(cluster):
        for name, rows in (("random order", np.arange(N_ROWS)), ("sorted by class", order)):
            print(f"\n{name}\nevery  averages  kB sent   drift  loss / least")
            found[name] = measure(X[rows], y[rows], least)
    draw(found)


def draw(found):
    """Draw loss against bytes."""
    if not find_spec("matplotlib"):
        print("No picture: matplotlib is not installed.")
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, points in found.items():
        fixed = sorted(place for interval, place in points.items() if interval != "auto")
        [line] = axes.loglog(*zip(*((moved, loss - 1) for moved, loss in fixed)), marker="o", label=name)
        axes.plot(points["auto"][0], points["auto"][1] - 1, "*", markersize=14, color=line.get_color())
    axes.set(xlabel='kB that crossed the network (the star is "auto")', ylabel="log loss above the least, as a share")
    axes.legend()
    path = Path(tempfile.gettempdir()) / "dparallel-averaging.png"
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
