"""
Clicks in the format of Criteo's challenge, hashed to 16 million columns
========================================================================

A click log has a line per advertisement that was shown: whether it was clicked, 13 whole numbers and 26 categories,
separated by tabs, some of them missing. Here a sample is made up, a file per block. Each block is read and hashed by
scikit-learn's ``FeatureHasher`` on a worker: a number becomes a category by its logarithm.

Of the 16 million columns some tens of thousands occur. ``AsyncSGDClassifier`` keeps their coefficients in a sparse
table of the parameter store, so nobody holds a vector of 16 million numbers, and ``coef_`` is a sparse matrix. With
``learning_rate="ftrl"`` each coefficient has a rate of its own, and L1 leaves out those that say little.
"""

import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import scipy.sparse
from distributed import Client, LocalCluster
from sklearn.feature_extraction import FeatureHasher

from dparallel import AsyncSGDClassifier
from dparallel.metrics import log_loss, roc_auc_score

N_BLOCKS, N_ROWS, N_COLUMNS = 7, 3000, 2**24
N_NUMBERS, N_CATEGORIES = 13, 26


def write_block(path, number):
    """Make up one file: ids follow a power law, and some of them are clicked more than others."""
    rng = np.random.default_rng([7, number])
    numbers = rng.geometric(0.02, (N_ROWS, N_NUMBERS)) - 1
    ids = rng.zipf(1.3, (N_ROWS, N_CATEGORIES)).clip(max=10**6)
    taste = np.sin(ids * np.arange(1, N_CATEGORIES + 1)).sum(axis=1)  # what an id does to the odds
    odds = -1.0 + 0.6 * taste + 0.4 * (np.log1p(numbers[:, 0]) - 3)
    clicked = rng.random(N_ROWS) < 1 / (1 + np.exp(-odds))
    with path.open("w") as file:
        for label, row, categories in zip(clicked, numbers, ids):
            known = [str(value) if value else "" for value in row]  # an empty field is a missing one
            file.write("\t".join([str(int(label)), *known, *(f"{value:08x}" for value in categories)]) + "\n")


def read_block(path):
    """The rows of a file as CSR of N_COLUMNS columns, and their labels."""
    labels, words = [], []
    for line in path.read_text().splitlines():
        label, *fields = line.split("\t")
        labels.append(int(label))
        numbers = [f"{i}<{int(x).bit_length()}" for i, x in enumerate(fields[:N_NUMBERS]) if x]
        words.append(numbers + [f"{i}={x}" for i, x in enumerate(fields[N_NUMBERS:]) if x])
    return FeatureHasher(N_COLUMNS, input_type="string").transform(words), np.array(labels)


def as_arrays(paths):
    """The files as Dask arrays, of which nothing has been read yet."""
    blocks = [dask.delayed(read_block)(path) for path in paths]
    meta = scipy.sparse.csr_matrix((0, N_COLUMNS))
    X = [da.from_delayed(block[0], (N_ROWS, N_COLUMNS), float, meta=meta) for block in blocks]
    y = [da.from_delayed(block[1], (N_ROWS,), np.int64) for block in blocks]
    return da.concatenate(X), da.concatenate(y)


def main():
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
    ):
        paths = [Path(folder) / f"day_{number}.tsv" for number in range(N_BLOCKS)]
        for number, path in enumerate(paths):
            write_block(path, number)
        X, y = dask.persist(*as_arrays(paths[:-1]))
        X_next, y_next = dask.persist(*as_arrays(paths[-1:]))  # the next day
        print("L1      coefficients  log loss  area under the curve")
        for alpha in (0.0, 1e-5, 1e-4, 1e-3):
            model = AsyncSGDClassifier(
                "log_loss", learning_rate="ftrl", penalty="l1", alpha=alpha, max_iter=3, tol=None, random_state=0
            ).fit(X, y)
            chances = model.predict_proba(X_next)[:, 1]  # lazy
            loss, area = log_loss(y_next, model.predict_proba(X_next)), roc_auc_score(y_next, chances)
            print(f"{alpha:<7g} {model.coef_.nnz:12d}  {loss:8.4f}  {area:.4f}")
        print("coef_:", type(model.coef_).__name__, "of shape", model.coef_.shape)


if __name__ == "__main__":
    main()
