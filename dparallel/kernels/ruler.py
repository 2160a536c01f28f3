"""Distances of blocks, dense or CSR, to centres: the one place that chooses between the dense and the sparse loops."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dparallel.errors import DataError
from dparallel.kernels import distances, lanes, lloyd, lloyd_csr, moments
from dparallel.kernels.layouts import csr_parts, is_csr, layout, readable

_NO_WEIGHTS = np.empty(0)
_LARGEST_GAP = 1e38  # in float32 it must not become infinite
_LABELS_ONLY = (np.empty((0, 0)), np.empty((0, 0)), np.empty(0, np.int64))


@dataclass(frozen=True)
class Frame:
    """The coordinates that rows are measured in: (row - shift) * scale, or row / |row| when unit.

    shift : ndarray of shape (n_features,), float64; zeros for CSR rows and for unit
    scale : float, a power of two, so that scaling rounds nothing
    unit : bool
    """

    shift: np.ndarray
    scale: float = 1.0
    unit: bool = False

    def enter(self, points):
        """Bring points of shape (n, n_features) from the data's coordinates into the frame, in float64."""
        points = np.asarray(points, dtype=np.float64)
        if not self.unit:
            return (points - self.shift) * self.scale
        largest = np.abs(points).max(axis=1, keepdims=True, initial=0.0)
        points = np.divide(points, largest, out=np.zeros_like(points), where=largest > 0)  # else squares may overflow
        norms = np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
        return np.divide(points, norms, out=points, where=norms > 0)

    def leave(self, points):
        """Bring points from the frame back into the data's coordinates, in float64."""
        return points.copy() if self.unit else points / self.scale + self.shift


@dataclass(frozen=True)
class Motion:
    """How far the centres moved, for carrying bounds over the movement; float32, see `lloyd.doubtful`."""

    moved: np.ndarray
    others: np.ndarray
    gap: np.ndarray
    margin: tuple[float, float]


class Held:
    """What is remembered of a block's rows between rounds: labels, and bounds when wanted."""

    __slots__ = ("labels", "lower", "upper")

    def __init__(self, n_rows, bounded):
        self.labels = np.zeros(n_rows, np.int32)
        self.upper = np.empty(n_rows if bounded else 0, np.float32)
        self.lower = np.empty(n_rows if bounded else 0, np.float32)


@dataclass(frozen=True)
class Ruler:
    """Centres in a frame, ready to be measured against.

    centres : ndarray of shape (n_clusters, n_features), float64, in the frame
    """

    frame: Frame
    centres: np.ndarray

    @cached_property
    def norms(self):
        return np.einsum("ij,ij->i", self.centres, self.centres)

    @cached_property
    def reach(self):
        return float(np.sqrt(self.norms.max()))

    @cached_property
    def _packed(self):
        with np.errstate(over="ignore"):  # what overflows float32 is measured in float64
            single = lanes.pack_centres(self.centres, np.float32)
        return *single, *lanes.pack_centres(self.centres, np.float64), self.reach

    @cached_property
    def _columns(self):
        return np.ascontiguousarray(self.centres.T), 0.5 * self.norms

    @cached_property
    def _dense_frame(self):
        return self.frame.shift, self.frame.scale, self.frame.unit

    def motion_from(self, before):
        """Measure how far the centres moved from an earlier place, and how far they lie apart.

        before : ndarray of shape (n_clusters, n_features), or None when they have not moved
        """
        n_clusters, n_features = self.centres.shape
        moved = np.zeros(n_clusters) if before is None else np.sqrt(((self.centres - before) ** 2).sum(axis=1))
        moved *= 1 + 1e-6
        others = np.full(n_clusters, moved.max())
        if n_clusters > 1:
            farthest = moved.argmax()
            others[farthest] = np.delete(moved, farthest).max()
        root = np.sqrt(n_features + 4)
        # (l - u)^2 must exceed what float64 rounding can hide in a comparison of squared distances
        margin = (1e-7 * root * self.reach, 3e-7 * root)
        single = np.float32
        with np.errstate(over="ignore"):  # an infinite movement settles nothing
            return Motion(moved.astype(single), others.astype(single), self._gap().astype(single), margin)

    def _gap(self):
        """Half the distance from each centre to the nearest other one, rounded down."""
        n_clusters, n_features = self.centres.shape
        if n_clusters == 1 or n_clusters**2 * n_features > 1e8:  # beyond, it costs more than it spares
            return np.zeros(n_clusters)
        squares = self.norms[:, None] + self.norms - 2.0 * self.centres @ self.centres.T
        np.fill_diagonal(squares, np.inf)
        rounding = 1e-14 * (n_features + 4) * self.reach**2
        gap = 0.5 * (1 - 1e-6) * np.sqrt(np.maximum(squares.min(axis=1) - rounding, 0.0))
        return np.minimum(gap, _LARGEST_GAP)

    def assign(self, X, weights, held, motion, *, first, totals=_LABELS_ONLY):
        """Bring held and totals up to date with these centres, see `lloyd.assign`; returns (n_changed, n_measured).

        motion : Motion from the centres that held belongs to, or None to measure every row

        Raises
        ------
        DataError
            If the distances of a row are not finite.
        """
        X = readable(X)
        weights = _NO_WEIGHTS if weights is None else weights
        motion_given = self._no_motion if motion is None else motion
        moves = (motion_given.moved, motion_given.others, motion_given.gap, motion_given.margin)
        rows = (held.labels, held.upper, held.lower)
        bounded = motion is not None and held.upper.size > 0
        if is_csr(X):
            columns, half_norms = self._columns
            changed, measured, bad = lloyd_csr.assign(
                *csr_parts(X), weights, self.frame.scale, self.frame.unit, columns, half_norms, self.reach,
                moves, rows, first, bounded, totals,
            )  # fmt: skip
        else:
            changed, measured, bad = lloyd.assign(
                *layout(X), weights, self._dense_frame, self._packed, moves, rows, first, bounded, totals
            )
        if bad >= 0:
            raise DataError(blame(X, int(bad)))
        return changed, measured

    @cached_property
    def _no_motion(self):
        nothing = np.empty(0, np.float32)
        return Motion(nothing, nothing, nothing, (0.0, 0.0))

    def labels(self, X):
        """Number of each row's nearest centre, int32."""
        held = Held(X.shape[0], False)
        self.assign(X, None, held, None, first=True)
        return held.labels

    def squared_distances(self, X, labels):
        """Squared distance, in the frame, of each row to the centre of its label: float64 of shape (n_rows,)."""
        X, result = readable(X), np.empty(labels.size)
        if is_csr(X):
            frame = self.frame
            lloyd_csr.squared_distances(
                *csr_parts(X), frame.scale, frame.unit, self.centres, self.norms, labels, result
            )
        else:
            distances.squared_distances(*layout(X), self._dense_frame, self.centres, labels, result)
        return result

    def distances(self, X):
        """Distance, in the frame, of each row to each centre: float64 of shape (n_rows, n_clusters)."""
        if not is_csr(X):
            X, result = readable(X), np.empty((X.shape[0], self.centres.shape[0]))
            distances.all_distances(*layout(X), self._dense_frame, self.centres, result)
            return result
        columns = []
        for number in range(self.centres.shape[0]):
            columns.append(np.sqrt(self.squared_distances(X, np.full(X.shape[0], number, np.int32))))
        return np.stack(columns, axis=1)


def block_moments(X, weights):
    """Weight, mean and squared deviations of a block's columns, see `moments.dense`.

    Raises
    ------
    DataError
        If X holds NaN or infinity.
    """
    X = readable(X)
    weights = _NO_WEIGHTS if weights is None else weights
    mean, deviation = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    if is_csr(X):
        total = moments.csr(*csr_parts(X), weights, mean, deviation)
    else:
        total = moments.dense(*layout(X), X.shape[0], weights, mean, deviation)
    if not np.isfinite(mean).all():
        raise DataError(blame(X))
    return total, mean, deviation


def blame(X, row=None):
    """Say in words which value of a block is not finite; row is where to look when every value is."""
    values = X.data if is_csr(X) else X
    bad = ~np.isfinite(values)
    if not bad.any():
        where = "" if row is None else f" at row {row}"
        return (
            f"Input X contains values so large{where} that their squares overflow. "
            "dparallel measures in float64: scale X down first."
        )
    at = np.argwhere(bad)[0]
    value = values[tuple(at)]
    row = int(np.searchsorted(X.indptr, at[0], side="right") - 1) if is_csr(X) else int(at[0])
    column = int(X.indices[at[0]]) if is_csr(X) else int(at[1])
    name = "NaN" if np.isnan(value) else "infinity"
    if np.isnan(values).any():
        name = "NaN"
    return f"Input X contains {name}, for instance at row {row}, column {column}. Drop such rows or impute them first."


def dense_rows(X, rows):
    """A few rows of a block as a dense float64 array of shape (len(rows), n_features)."""
    chosen = X[rows]
    return np.asarray(chosen.toarray() if is_csr(X) else chosen, dtype=np.float64)


def blank_rows(X):
    """Which rows of a block are all zeros: bool of shape (n_rows,)."""
    if is_csr(X):
        return np.asarray(abs(X).sum(axis=1)).ravel() == 0
    return ~X.any(axis=1)
