"""How the rows lie: the coordinates in which steps are taken, and how long a step may be there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.moments import Moments
from dparallel.pools import one_thread
from dparallel.rounds import Rounds

_SAMPLED_ROWS = 512  # of a shard: from fewer the largest eigenvalue comes out too high, and steps too short
_SAMPLED_VALUES = 1 << 20
_STAGED_VALUES = 1 << 18
_FEW_FEATURES = 256  # so many that all eigenvalues are found, in some milliseconds
_BITS = 12
_NOTHING = 1e-9  # an eigenvalue that is 0 but for rounding, in units of the largest
_ROWS_OF_A_BLOCK = 128
_ITERATIONS = 20
_MARGIN = 1.2  # what so few iterations may miss
_ALIKE = 16.0  # columns whose squares differ by no more are of similar size
_DOUBT = 10.0  # rows; a batch of partial_fit of about so many says little about the spread of the rows to come


@dataclass(frozen=True)
class Geometry:
    """Coordinates for steps, and the curvature in them.

    Parameters
    ----------
    metric : ndarray of shape (n_features,), float64; None for X's own coordinates. Dense: 1 / variance of the columns,
        and 0 for constant ones. CSR: 1 / mean square of the stored values
    shift : ndarray of shape (n_features,), float64, mean of the columns; None for rows that are not shifted
    squared_norm : float, mean of weight * (squared norm of the row + 1 for the intercept) in these coordinates
    top : float, largest eigenvalue of the mean of weight * row * row'
    middle : float, the median of its eigenvalues that are not 0; 0 where there are too many to find it
    tail : float, mean of the squared norms, each weighed by itself: far above squared_norm where few rows are long; 0
        where it was not asked for
    """

    metric: np.ndarray | None
    shift: np.ndarray | None
    squared_norm: float
    top: float = 0.0
    middle: float = 0.0
    tail: float = 0.0

    @classmethod
    def of_samples(
        cls,
        squared_norm: float,
        top: float,
        middle: float,
        n_sampled: float,
        tail: float,
        metric: np.ndarray | None = None,
        shift: np.ndarray | None = None,
    ) -> Geometry:
        """The geometry where top and middle are of the sum over so many rows."""
        n_sampled = max(1.0, n_sampled)
        found = (squared_norm, _MARGIN * top / n_sampled, middle / n_sampled, tail)
        return cls(metric, shift, *(float(coarse(number)) for number in found))

    def bend(self, batch_size: int) -> float:
        """The curvature that a step of a minibatch meets, for a loss whose second derivative is 1.

        Notes
        -----
        Jain, Kakade, Kidambi, Netrapalli and Sidford, "Parallelizing stochastic gradient descent for least squares
        regression" (JMLR 2018): the longest step is about 1 / (top + squared_norm / batch_size).
        """
        return self.top + max(self.tail, self.squared_norm) / batch_size

    def settling_time(self, batch_size: int) -> float:
        """About how many of the longest steps it takes in a direction of middling eigenvalue; 0 where unknown."""
        return self.bend(batch_size) / self.middle if self.middle > 0 else 0.0


def lie(
    rounds: Rounds,
    moments: Moments,
    stored: np.ndarray | None,
    *,
    fit_intercept: bool,
    scaled: bool,
    is_batch: bool,
    is_quadratic: bool,
) -> Geometry:
    """Find the geometry of rows; one round over a few rows of each shard.

    Parameters
    ----------
    moments : Moments of all rows seen so far
    stored : ndarray of shape (n_features,), int64, how many values of each column are stored; None for dense rows
    fit_intercept : bool; without an intercept rows are not shifted
    scaled : bool, whether to measure columns by their spread
    is_batch : bool, whether these rows are one batch of many
    is_quadratic : bool, whether the loss grows with the square of the score: then long rows take long steps, and
        another round over all rows tells how long they are
    """
    metric, shift = None, None
    if scaled and stored is None:
        metric, shift = _coordinates(moments, fit_intercept, is_batch)
    elif scaled and stored is not None:
        metric = _sizes_of_stored(moments, stored)
    n_rows = max(1, moments.n_rows)
    from_shift = moments.mean if shift is None else moments.mean - shift
    squares = moments.deviation + moments.weight * from_shift**2
    squared_norm = float(squares.sum() if metric is None else squares @ metric) / n_rows
    squared_norm += moments.weight / n_rows if fit_intercept else 0.0
    state = metric, shift, fit_intercept
    top, middle, n_sampled = (float(number) for number in rounds.reduce(_eigenvalues_of_shard, np.add, state))
    squares, fourth_powers = rounds.reduce(_tail_of_shard, np.add, state) if is_quadratic else (0.0, 0.0)
    tail = float(fourth_powers / squares) if squares > 0 else 0.0
    return Geometry.of_samples(
        squared_norm, top, middle, n_sampled, tail, None if metric is None else coarse(metric), shift
    )


def coarse(values: Any) -> Any:
    """Numbers rounded to a few bits: the last ones depend on chunks, and on where arrays happen to lie in memory."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2.0**_BITS) * 2.0**-_BITS, exponent)


def _coordinates(moments: Moments, fit_intercept: bool, is_batch: bool) -> tuple[np.ndarray, np.ndarray]:
    """Metric and shift."""
    trust = moments.n_rows / (moments.n_rows + _DOUBT) if is_batch else 1.0
    shift = trust * moments.mean if fit_intercept else np.zeros_like(moments.mean)
    steps = np.ldexp(1.0, np.maximum(np.frexp(np.sqrt(moments.variance))[1] - _BITS, -1000))
    shift = np.where(moments.variance > 0, np.round(shift / steps) * steps, shift)
    spread = moments.variance + (moments.mean - shift) ** 2
    # a constant column's variance is rounding
    varies = spread > (8 * np.finfo(float).eps * np.abs(moments.mean)) ** 2 * max(1, moments.n_rows)
    return np.divide(1.0, spread, out=np.zeros_like(spread), where=varies), shift


def _sizes_of_stored(moments: Moments, stored: np.ndarray) -> np.ndarray | None:
    """Metric of CSR rows, None where their columns are of similar size: steps in X's coordinates are faster.

    How rare a column is does not count: where all stored values are 1, no column needs longer steps.
    """
    squares = moments.deviation + moments.weight * moments.mean**2
    weights = stored * (moments.weight / max(1, moments.n_rows))
    metric = np.divide(weights, squares, out=np.zeros_like(squares), where=squares > 0)
    present = metric[metric > 0]
    if not present.size or present.max() <= _ALIKE * present.min():
        return None
    return metric


def _eigenvalues_of_shard(shard: Shard, state: tuple[np.ndarray | None, np.ndarray | None, bool]) -> np.ndarray:
    """Partial: the largest and the median eigenvalue of the sum of row * row' over some rows, and their number."""
    with one_thread("blas"):
        return _eigenvalues(shard, state)


def _eigenvalues(shard: Shard, state: tuple[np.ndarray | None, np.ndarray | None, bool]) -> np.ndarray:
    parts = _samples(
        shard,
        lambda n: max(16, min(_SAMPLED_ROWS, _SAMPLED_VALUES // max(1, n))),
        lambda block, rows: _sample(block, rows, *state),
    )
    n_rows = sum(part.shape[0] for part in parts)
    if not parts:
        return np.zeros(3)
    if parts[0].shape[1] > _FEW_FEATURES:
        return np.array([_largest_eigenvalue(parts), 0.0, n_rows])
    return np.array([*_top_and_middle(parts), n_rows])


def _top_and_middle(parts: list[Any]) -> tuple[float, float]:
    """The largest and the median eigenvalue, of those that are not 0, of the sum of row * row'."""
    squares = sum(part.T @ part for part in parts)
    values = np.linalg.eigvalsh(squares.toarray() if hasattr(squares, "indptr") else squares)
    top = max(float(values[-1]), 0.0)
    return top, float(np.median(values[values > _NOTHING * top])) if top > 0 else 0.0


def _samples(shard: Shard, limit_of: Callable[[int], int], sample: Callable[[Any, np.ndarray], Any]) -> list[Any]:
    """What sample returns of some rows of each block, as many of a shard as limit_of says for n_features."""
    parts: list[Any] = []
    n_rows = 0
    for block in shard.blocks:
        limit = limit_of(block.X.shape[1])
        count = min(block.n_rows, limit - n_rows, max(_ROWS_OF_A_BLOCK, -(-limit // len(shard.blocks))))
        if count > 0:
            rows = np.linspace(0, block.n_rows - 1, count).astype(np.int64)
            parts.append(sample(block, rows))
            n_rows += count
        if n_rows >= limit:
            break
    return parts


def sparse_eigenvalues_of_shard(shard: Shard, fit_intercept: bool) -> np.ndarray:
    """Partial: the same of CSR rows, over the columns that the sampled rows have."""
    import scipy.sparse

    parts = _samples(shard, lambda n: _SAMPLED_ROWS, _sparse_sample)
    if not parts:
        return np.zeros(3)
    roots = np.concatenate([root for _, root in parts])
    rows = scipy.sparse.vstack([part for part, _ in parts], format="csr")
    columns, places = np.unique(rows.indices, return_inverse=True)
    n_features, shape = rows.shape[1] + fit_intercept, (rows.shape[0], len(columns))
    rows = scipy.sparse.csr_matrix((rows.data, places.reshape(-1), rows.indptr), shape=shape)
    if fit_intercept:
        rows = scipy.sparse.hstack([rows, scipy.sparse.csr_matrix(roots[:, None])], format="csr")
        columns = np.append(columns, n_features - 1)
    with one_thread("blas"):
        if n_features > _FEW_FEATURES:
            return np.array([_largest_eigenvalue([rows], columns), 0.0, rows.shape[0]])
        return np.array([*(_top_and_middle([rows]) if len(columns) else (0.0, 0.0)), rows.shape[0]])


def _sparse_sample(block: Any, rows: np.ndarray) -> tuple[Any, np.ndarray]:
    """Some CSR rows times the root of their weights, and these; scipy's products would take a vector of all columns."""
    chosen = block.X[rows].astype(np.float64)
    roots = np.ones(len(rows)) if block.sample_weight is None else np.sqrt(block.sample_weight[rows])
    chosen.data *= np.repeat(roots, np.diff(chosen.indptr))
    return chosen, roots


def sparse_tail_of_shard(shard: Shard, fit_intercept: bool) -> np.ndarray:
    """Partial: what _tail_of_shard returns, of CSR rows in their own coordinates."""
    total = np.zeros(2)
    for block in shard.blocks:
        owners = np.repeat(np.arange(block.n_rows), np.diff(block.X.indptr))
        squares = block.X.data.astype(np.float64) ** 2
        norms = np.bincount(owners, squares, minlength=block.n_rows) + float(fit_intercept)
        if block.sample_weight is not None:
            norms = norms * block.sample_weight
        total += [norms.sum(), norms @ norms]
    return total


def _sample(block: Any, rows: np.ndarray, metric: Any, shift: Any, fit_intercept: bool) -> Any:
    """Some rows in the coordinates of steps, times the root of their weights, with a column for the intercept."""
    chosen = block.X[rows].astype(np.float64)
    roots = np.ones(len(rows)) if block.sample_weight is None else np.sqrt(block.sample_weight[rows])
    if hasattr(chosen, "indptr"):
        import scipy.sparse

        if metric is not None:
            chosen = chosen @ scipy.sparse.diags(np.sqrt(metric))
        parts = [chosen, scipy.sparse.csr_matrix(np.ones((len(rows), 1)))] if fit_intercept else [chosen]
        return scipy.sparse.diags(roots) @ scipy.sparse.hstack(parts, format="csr")
    if metric is not None:
        chosen = (chosen - shift) * np.sqrt(metric)
    if fit_intercept:
        chosen = np.concatenate([chosen, np.ones((len(rows), 1))], axis=1)
    return chosen * roots[:, None]


def _tail_of_shard(shard: Shard, state: tuple[np.ndarray | None, np.ndarray | None, bool]) -> np.ndarray:
    """Partial: sums of weight * squared norm, and of the square of that, over all rows."""
    metric, shift, fit_intercept = state
    total = np.zeros(2)
    for block in shard.blocks:
        height = max(1, _STAGED_VALUES // max(1, block.X.shape[1]))
        for start in range(0, block.n_rows, height):
            rows = block.X[start : start + height].astype(np.float64)
            if hasattr(rows, "indptr"):
                rows.data **= 2
            else:
                rows -= 0.0 if shift is None else shift
                rows *= rows
            norms = np.asarray(rows @ (np.ones(rows.shape[1]) if metric is None else metric)) + float(fit_intercept)
            if block.sample_weight is not None:
                norms = norms * block.sample_weight[start : start + height]
            total += [norms.sum(), norms @ norms]
    return total


def _largest_eigenvalue(parts: list[Any], columns: np.ndarray | None = None) -> float:
    """Of the sum of row * row', by power iteration from a vector that no data are orthogonal to by design.

    columns : their numbers, None for all
    """
    vector = 1.0 + 0.1 * np.cos(np.arange(parts[0].shape[1]) if columns is None else columns)
    vector /= np.linalg.norm(vector)
    value = 0.0
    for _ in range(_ITERATIONS):
        vector = sum(part.T @ (part @ vector) for part in parts)
        value = float(np.linalg.norm(vector))
        if not 0 < value < np.inf:
            break
        vector /= value
    return value
