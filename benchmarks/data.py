"""The rows that are measured on: generated mixtures and classes, the data of the k-means|| paper, and a9a."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from sklearn.datasets import load_svmlight_file
from sklearn.metrics import pairwise_distances_argmin

ROOT = Path(__file__).resolve().parent.parent
KDD_COLUMNS = [column for column in range(41) if column not in (1, 2, 3)]  # those three are words; 41 is the label


def gauss_mixture(n_rows: int, n_features: int, n_clusters: int, spread: float, seed: Any) -> np.ndarray:
    """Draw GaussMixture of Bahmani et al. (VLDB 2012): equal weights, unit variance about each centre.

    Parameters
    ----------
    spread : float, R of the paper: the standard deviation, in every column, of the centres about the origin
    seed : int or sequence of int

    Returns
    -------
    X : ndarray of shape (n_rows, n_features), float64
    """
    random = np.random.default_rng(seed)
    centres = random.normal(scale=spread, size=(n_clusters, n_features))
    X = random.standard_normal((n_rows, n_features))
    X += centres[random.integers(n_clusters, size=n_rows)]
    return X


def draw_rows(X: np.ndarray, n_rows: int, seed: Any) -> np.ndarray:
    """Draw different rows of X, as first centres that all peers share."""
    return X[np.random.default_rng(seed).choice(len(X), n_rows, replace=False)]


def inertia(X: np.ndarray, centres: np.ndarray, rows_at_once: int = 50_000) -> float:
    """Sum the squared distances of the rows to their nearest centres, by the same code for all peers."""
    total = 0.0
    for start in range(0, len(X), rows_at_once):
        rows = X[start : start + rows_at_once]
        total += float(np.square(rows - centres[pairwise_distances_argmin(rows, centres)]).sum())
    return total


def two_classes(
    n_rows: int, n_features: int, power: float, slope: float, flipped: float, seed: Any, dtype: Any = np.float64
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of two classes from a logistic model.

    Parameters
    ----------
    power : float; the variance of the rows along their j-th principal direction is about j ** -power: 0 gives
        independent columns, 1 and 2 ever more correlated ones
    slope : float, standard deviation of the rows' log odds
    flipped : float, share of the labels that are turned round
    seed : int or sequence of int

    Returns
    -------
    X : ndarray of shape (n_rows, n_features); columns have mean 0 and variance 1
    y : ndarray of shape (n_rows,), int64, 0 or 1
    """
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(random.standard_normal((n_features, n_features)))[0]
    mixing = np.arange(1, n_features + 1.0)[:, None] ** (-power / 2) * directions
    mixing /= np.sqrt(np.square(mixing).sum(axis=0))
    odds = random.standard_normal(n_features)
    odds *= slope / np.linalg.norm(mixing @ odds)
    X, y = np.empty((n_rows, n_features), dtype), np.empty(n_rows, np.int64)
    for start in range(0, n_rows, 50_000):
        part = slice(start, min(start + 50_000, n_rows))
        rows = random.standard_normal((part.stop - start, n_features)) @ mixing
        y[part] = random.random(len(rows)) < 1.0 / (1.0 + np.exp(-0.3 - rows @ odds))
        y[part] ^= random.random(len(rows)) < flipped
        X[part] = rows
    return X, y


def log_loss(X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: float) -> float:
    """Return the mean logistic loss of rows of classes 0 and 1, by the same code for all peers."""
    total = 0.0
    for start in range(0, len(X), 50_000):
        rows = slice(start, start + 50_000)
        total += float(np.logaddexp(0.0, (1 - 2 * y[rows]) * (X[rows] @ coef + intercept)).sum())
    return total / len(X)


def load_rows(path: str, start: int, stop: int) -> np.ndarray:
    """Read the rows [start, stop) of an .npy file into memory."""
    return np.array(np.load(path, mmap_mode="r")[start:stop])


def rows_of_file(path: Path, shape: Sequence[int], n_chunks: int, dtype: Any = np.float64) -> da.Array:
    """Return the rows of an .npy file as a lazy Dask array whose chunks read their own rows."""
    load = dask.delayed(load_rows)
    cuts = [shape[0] * i // n_chunks for i in range(n_chunks + 1)]
    return da.concatenate(
        [
            da.from_delayed(load(str(path), start, stop), (stop - start, shape[1]), dtype)
            for start, stop in zip(cuts, cuts[1:])
        ]
    )


def data_folder() -> Path | None:
    """Return the folder of downloaded data: DPARALLEL_DATA, or ../shared/data beside this repository, or None."""
    named = os.environ.get("DPARALLEL_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def load_spam(folder: Path) -> np.ndarray:
    """Read spambase: all 58 columns, the label among them, as in the paper."""
    return np.loadtxt(folder / "spambase.data.gz", delimiter=",", skiprows=1)


def load_kdd(folder: Path) -> np.ndarray:
    """Read the 38 columns of numbers of KDD Cup 1999, 10 %."""
    return np.loadtxt(folder / "kddcup.data_10_percent.gz", delimiter=",", usecols=KDD_COLUMNS)


def load_a9a(folder: Path) -> tuple[Any, np.ndarray, Any, np.ndarray]:
    """Read a9a: the training rows as CSR, their labels, the held-out rows, their labels."""
    rows = []
    for name in ("a9a.gz", "a9a.t.gz"):
        X, y = load_svmlight_file(str(folder / name), n_features=123)
        rows += [X, y]
    return tuple(rows)
