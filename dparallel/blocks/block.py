"""A block of rows, and all the blocks of one fit: what every algorithm is given, whatever the user's data were."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of X, with the y and the sample_weight that belong to them.

    Parameters
    ----------
    X : ndarray or scipy.sparse CSR of shape (n_rows, n_features), float32 or float64; may be without rows, read-only or
        in any memory order
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs), any dtype, or None
    sample_weight : ndarray of shape (n_rows,), float64, finite and not negative, or None
    index : int, the block's number in the user's data
    """

    X: Any
    y: np.ndarray | None = None
    sample_weight: np.ndarray | None = None
    index: int = 0

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.X.shape[0])

    @property
    def nbytes(self) -> int:
        """The bytes held by X, y and sample_weight."""
        parts = (self.X.data, self.X.indices, self.X.indptr) if hasattr(self.X, "indptr") else (self.X,)
        return sum(int(part.nbytes) for part in (*parts, self.y, self.sample_weight) if part is not None)

    def aligned(self) -> Block:
        """This block, its arrays at addresses that compiled loops read without a copy.

        What came over a network lies wherever the message had it.
        """
        X, weights = aligned(self.X), self.sample_weight
        if X is self.X and (weights is None or weights.flags.aligned):
            return self
        return Block(X, self.y, None if weights is None else weights.copy(), self.index)

    def __sizeof__(self) -> int:
        # Dask's workers account for a block by this
        return self.nbytes + object.__sizeof__(self)


def aligned(X: Any) -> Any:
    """A matrix, ndarray or CSR, at addresses that compiled loops read without a copy: X itself where it is."""
    if not hasattr(X, "indptr"):
        return X if X.flags.aligned else X.copy()
    parts = (X.data, X.indices, X.indptr)
    if all(part.flags.aligned for part in parts):
        return X
    return type(X)(tuple(part if part.flags.aligned else part.copy() for part in parts), shape=X.shape, copy=False)


@dataclass(frozen=True, eq=False)
class Blocks:
    """X, y and sample_weight as aligned row blocks, of which nothing has been computed yet.

    Parameters
    ----------
    kind : "numpy", "pandas", "csr", "dask.array" or "dask.dataframe", what X was
    n_features : int
    feature_names : ndarray of str of shape (n_features,), dtype object, or None
    dtype : float32 or float64, the dtype of every block's X
    is_sparse : bool, whether every block's X is CSR
    rows : rows of each block, None where unknown
    weighted : bool, whether the blocks have a sample_weight
    local : the only block of a numpy, pandas or CSR input, else None
    graph : for Dask input a Dask graph, the user's included, in which keys[i] computes block i, else None
    keys : the keys of the blocks in row order, empty for local input
    source : the user's X; holding it keeps persisted data alive
    """

    kind: str
    n_features: int
    feature_names: np.ndarray | None
    dtype: np.dtype
    is_sparse: bool
    rows: tuple[int | None, ...]
    weighted: bool = False
    local: Block | None = None
    graph: Mapping[Hashable, Any] | None = None
    keys: tuple[Hashable, ...] = ()
    source: Any = None

    @property
    def n_blocks(self) -> int:
        """The number of blocks; 1 for local input."""
        return len(self.rows)

    @property
    def n_rows(self) -> int | None:
        """The number of rows, None if any block's is unknown."""
        known = [rows for rows in self.rows if rows is not None]
        return sum(known) if len(known) == len(self.rows) else None

    @property
    def is_dask(self) -> bool:
        """Whether the blocks are tasks of a Dask graph."""
        return self.graph is not None
