"""X as the gate understood it, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.blocks.matrix import Form
from dparallel.errors import DataError


@dataclass(frozen=True, eq=False, slots=True)
class Given:
    """What the user gave as X, and what its metadata say.

    Parameters
    ----------
    kind : "numpy", "pandas", "csr", "dask.array" or "dask.dataframe"
    source : the user's X
    X : for local input the matrix of shape (n_rows, n_features) in its form; for Dask input the user's X
    form : Form, what every block is brought to
    feature_names : ndarray of str of shape (n_features,), dtype object, or None
    owner : str, the estimator's name for messages
    """

    kind: str
    source: Any
    X: Any
    form: Form
    feature_names: np.ndarray | None
    owner: str

    @property
    def is_local(self) -> bool:
        """Whether X is in this process already."""
        return not self.kind.startswith("dask.")


def check_not_empty(n_rows, n_features, owner):
    """Raise DataError, in scikit-learn's words, for a Dask collection that is known to hold no rows or no columns.

    Parameters
    ----------
    n_rows : int or None where unknown
    n_features : int
    owner : str, the estimator's name
    """
    for count, noun in ((n_rows, "sample(s)"), (n_features, "feature(s)")):
        if count == 0:
            shape = ("unknown" if n_rows is None else n_rows, n_features)
            raise DataError(
                f"Found array with 0 {noun} (shape=({shape[0]}, {shape[1]})) while a minimum of 1 is required by "
                f"{owner}."
            )
