"""Click data that are made up: rows of hashed categories whose ids follow power laws, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

N_FIELDS = 30
LEAST_IDS, MOST_IDS = 10.0, 3e6  # of a field
POWER = 1.15  # the i-th most frequent id of a field is seen about i ** -POWER times as often as the first
LOG_ODDS = -1.2
SPREAD = 0.35  # standard deviation of what an id adds to the log odds
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def click_block(n_rows: int, n_features: int, seed: Any) -> tuple[Any, np.ndarray]:
    """Draw clicks from a logistic model of hashed ids.

    Parameters
    ----------
    n_features : int, columns that the ids are hashed to
    seed : int or sequence of int, another one for each block

    Returns
    -------
    X : CSR of shape (n_rows, n_features), float64, N_FIELDS ones a row; ids of one hash are added up
    y : ndarray of shape (n_rows,), int64, 0 or 1
    """
    random = np.random.default_rng(seed)
    n_ids = np.geomspace(LEAST_IDS, MOST_IDS, N_FIELDS)
    # a power law cut off at n_ids, by the inverse of its distribution function
    share = random.random((n_rows, N_FIELDS))
    ranks = ((n_ids ** (1.0 - POWER) - 1.0) * share + 1.0) ** (1.0 / (1.0 - POWER))
    ids = ranks.astype(np.uint64) * np.uint64(N_FIELDS) + np.arange(N_FIELDS, dtype=np.uint64)
    hashed = _mixed(ids)
    odds = LOG_ODDS + SPREAD * _normal(hashed).sum(axis=1)
    y = (random.random(n_rows) < 1.0 / (1.0 + np.exp(-odds))).astype(np.int64)
    columns = (hashed % np.uint64(n_features)).astype(np.int32).ravel()
    indptr = np.arange(n_rows + 1, dtype=np.int32) * N_FIELDS
    X = scipy.sparse.csr_matrix((np.ones(columns.size), columns, indptr), shape=(n_rows, n_features))
    X.sum_duplicates()
    return X, y


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Hash whole numbers (the finaliser of splitmix64)."""
    numbers = (numbers + np.uint64(1)) * _MULTIPLIER
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _normal(hashed: np.ndarray) -> np.ndarray:
    """About normal numbers, by their hash alone: the sum of four uniform ones."""
    parts = [(hashed >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4)]
    return (sum(part / 65536.0 for part in parts) - 2.0) * np.sqrt(3.0)
