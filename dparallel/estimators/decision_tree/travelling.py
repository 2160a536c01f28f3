"""Integers as they travel: in four bytes each where these hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LIMIT = 1 << 31


def narrow(values: np.ndarray) -> np.ndarray:
    """The same integers as int32 if they all are in its range, else as they are, contiguous."""
    fits = values.max(initial=0) < _LIMIT and values.min(initial=0) >= -_LIMIT
    return np.ascontiguousarray(values, np.int32 if fits else None)


def take_apart(table: np.ndarray) -> list[np.ndarray]:
    """The columns of an int64 table, each narrow: what counts rows travels in half the bytes; int32 stays one piece.

    Parameters
    ----------
    table : ndarray of shape (..., n_columns), int32 or int64
    """
    if table.dtype == np.int32:
        return [table]
    return [narrow(table[..., column]) for column in range(table.shape[-1])]


def put_together(pieces: Sequence[np.ndarray], n_dimensions: int) -> np.ndarray:
    """Undo take_apart; n_dimensions : int, of the table."""
    if pieces[0].ndim == n_dimensions:
        return pieces[0]
    table = np.empty((*pieces[0].shape, len(pieces)), np.int64)
    for column, piece in enumerate(pieces):
        table[..., column] = piece
    return table
