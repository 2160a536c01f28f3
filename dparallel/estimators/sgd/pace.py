"""How many rows make a minibatch, and how many minibatches a step: from shapes, never from clocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ENTRIES_PER_SECOND = 4e8  # of X, times the rows of the coefficients: about what a core does, there and back
_ROWS_PER_SECOND = 2e7
_LARGEST_BATCH = 32
_LEAST_BATCHES = 128  # of an epoch: on few rows, larger minibatches would hardly move the parameters
# a step: a look at a store in this process costs some 0.1 ms, and one over a network some milliseconds
_SHORT_S, _LONG_S = 0.001, 0.01
_SHORT_REMOTE_S, _LONG_REMOTE_S = 0.02, 0.1
_SPARSE_ENTRIES_PER_SECOND = 5e7
_COLUMNS_PER_ENTRY = 0.1  # of a partition's rows
_COLUMNS_PER_SECOND = 2e6  # pulled and pushed
_LEAST_STEPS = 8  # of a partition in an epoch, as far as that leaves steps long enough: the others should hear of it


@dataclass(frozen=True)
class Pace:
    """How much is done between two looks at the store.

    Parameters
    ----------
    batch_size : int, rows of a minibatch
    push_every : int, minibatches of a step
    row_seconds : float, about how long a row takes
    """

    batch_size: int
    push_every: int
    row_seconds: float = 1e-7


def choose_pace(
    batch_size: int | str,
    push_every: int | str,
    *,
    n_rows: int,
    n_partitions: int,
    entries: int,
    n_outputs: int,
    is_local: bool,
) -> Pace:
    """Settle what is left to "auto".

    Parameters
    ----------
    n_rows : int, rows of all partitions; entries : int, their stored values
    n_outputs : int, rows of the coefficients
    is_local : bool, whether the store is in this process
    """
    row_seconds = entries / max(1, n_rows) * n_outputs / _ENTRIES_PER_SECOND + 1.0 / _ROWS_PER_SECOND
    if isinstance(batch_size, str):
        batch_size = max(1, min(_LARGEST_BATCH, n_rows // _LEAST_BATCHES))
    if isinstance(push_every, str):
        short, long = (_SHORT_S, _LONG_S) if is_local else (_SHORT_REMOTE_S, _LONG_REMOTE_S)
        epoch = n_rows / n_partitions * row_seconds
        wanted = long if n_partitions == 1 else min(max(epoch / _LEAST_STEPS, short), long)
        push_every = int(wanted / (row_seconds * batch_size))
    return Pace(int(batch_size), max(1, int(push_every)), row_seconds)


def choose_sparse_pace(
    batch_size: int | str,
    push_every: int | str,
    *,
    n_rows: int,
    n_longest: int,
    entries: int,
    n_outputs: int,
    n_features: int,
    is_local: bool,
) -> Pace:
    """Settle what is left to "auto" where a look at the store costs in proportion to the columns of the step's rows.

    Parameters
    ----------
    n_longest : int, rows of the longest partition
    n_features : int, columns; the others as of choose_pace

    Notes
    -----
    Of hashed ids a step has about a tenth as many columns as values, and each of them costs as much as many values. So
    where columns are many there are few steps.
    """
    row_seconds = entries / max(1, n_rows) * n_outputs / _SPARSE_ENTRIES_PER_SECOND + 1.0 / _ROWS_PER_SECOND
    if isinstance(batch_size, str):
        batch_size = max(1, min(_LARGEST_BATCH, n_rows // _LEAST_BATCHES))
    if isinstance(push_every, str):
        columns = min(n_features, entries / max(1, n_rows) * n_longest * _COLUMNS_PER_ENTRY)
        look = (_SHORT_S if is_local else _SHORT_REMOTE_S) / 4 + columns * n_outputs / _COLUMNS_PER_SECOND
        n_steps = min(max(n_longest * row_seconds / look, 1.0), _LEAST_STEPS)
        push_every = int(np.ceil(-(-n_longest // batch_size) / np.floor(n_steps)))
    return Pace(int(batch_size), max(1, int(push_every)), row_seconds)
