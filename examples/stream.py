"""
An endless stream of blocks
===========================

Models learn from blocks of rows that come one after another, each seen once, by ``partial_fit`` in a plain loop. Before
a block is learnt from, the models predict it: the share of right answers so far is the *prequential* accuracy, an
honest one, since every row is predicted before it is known. Beside them stands a model that was fitted to the first
blocks and left alone, which shows that the stream drifts.

The stream is that of electricity prices in New South Wales (elec, 45,312 half-hours: has the price risen?) if the
folder named by DPARALLEL_DATA holds it. Otherwise it is drawn, with a border between the classes that turns slowly, and
has no end; the loop breaks it off. Memory does not grow with the number of blocks.

At the end there is a picture, if matplotlib is installed.
"""

import gzip
import itertools
import os
import resource
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dparallel import AsyncSGDClassifier, LocalSGDClassifier

N_ROWS = 336  # of a block: a week of half-hours
N_FIRST = 10  # blocks that the model is fitted to that is left alone
N_BLOCKS = 134


def read_elec(path):
    """Yield blocks of the file, reading no further than asked."""
    with gzip.open(path, "rt") as file:
        next(file)  # names of the columns
        while lines := list(itertools.islice(file, N_ROWS)):
            rows = np.loadtxt(lines, delimiter=",", ndmin=2)
            yield rows[:, :-1], rows[:, -1].astype(int)


def draw_stream():
    """Yield blocks without end, in which what matters changes."""
    random = np.random.default_rng(0)
    for number in itertools.count():
        X = random.normal(size=(N_ROWS, 6))
        angle = 2 * np.pi * number / 200
        yield X, (np.cos(angle) * X[:, 0] + np.sin(angle) * X[:, 1] + 0.3 * random.normal(size=N_ROWS) > 0).astype(int)


def follow(stream):
    """Predict, then learn, block by block; returns right answers of each model by block."""
    models = {
        "asynchronous SGD": AsyncSGDClassifier("log_loss", random_state=0),
        "parameter averaging": LocalSGDClassifier("log_loss", random_state=0),
        "constant rate": AsyncSGDClassifier("log_loss", learning_rate="constant", random_state=0),
    }
    first, left_alone = [], AsyncSGDClassifier("log_loss", random_state=0)
    right = {name: [] for name in (*models, "left alone")}
    for number, (X, y) in enumerate(stream):
        for name, model in models.items():
            if number >= N_FIRST:
                right[name].append(np.mean(model.predict(X) == y))
            model.partial_fit(X, y, classes=[0, 1])
        if number < N_FIRST:
            first.append((X, y))
        else:
            if number == N_FIRST:
                left_alone.fit(*(np.concatenate(parts) for parts in zip(*first)))
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            right["left alone"].append(np.mean(left_alone.predict(X) == y))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(f"{number + 1} blocks of {N_ROWS} rows; memory grew by {grown:.1f} MB after block {N_FIRST}")
    return {name: np.cumsum(found) / np.arange(1, len(found) + 1) for name, found in right.items()}


def main():
    path = Path(os.environ.get("DPARALLEL_DATA", "")) / "elec.csv.gz"
    name, stream = ("elec", read_elec(path)) if path.exists() else ("a drawn stream", draw_stream())
    curves = follow(itertools.islice(stream, N_BLOCKS))
    print(f"prequential accuracy on {name}:")
    for model, curve in curves.items():
        print(f"  {model:<20} {curve[-1]:.3f}")
    draw(curves, name)


def draw(curves, name):
    """Draw the share of right answers so far."""
    if not find_spec("matplotlib"):
        print("No picture: matplotlib is not installed.")
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for model, curve in curves.items():
        axes.plot(np.arange(N_FIRST, N_FIRST + len(curve)), curve, label=model, alpha=0.8)
    axes.set(xlabel=f"blocks of {N_ROWS} rows", ylabel="right so far, as a share")
    axes.set_title(f"Prequential accuracy, {name}")
    axes.legend()
    picture = Path(tempfile.gettempdir()) / "dparallel-stream.png"
    figure.savefig(picture, dpi=110)
    print(f"picture: {picture}")


if __name__ == "__main__":
    main()
