"""The rows that are measured on: generated mixtures, and the two data sets of the k-means|| paper."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
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


def load_rows(path: str, start: int, stop: int) -> np.ndarray:
    """Read the rows [start, stop) of an .npy file into memory."""
    return np.array(np.load(path, mmap_mode="r")[start:stop])


def rows_of_file(path: Path, shape: Sequence[int], n_chunks: int) -> da.Array:
    """Return the rows of an .npy file of float64 as a lazy Dask array whose chunks read their own rows."""
    load = dask.delayed(load_rows)
    cuts = [shape[0] * i // n_chunks for i in range(n_chunks + 1)]
    return da.concatenate(
        [
            da.from_delayed(load(str(path), start, stop), (stop - start, shape[1]), np.float64)
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
