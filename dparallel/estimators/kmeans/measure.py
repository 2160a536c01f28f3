"""Fitted centres as functions of a block: what predict, transform and score send to the data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.moments import naming


@dataclass(frozen=True)
class Centres:
    """Published centres, ready to be measured against.

    points : ndarray of shape (n_clusters, n_features), in the data's coordinates
    unit : bool, whether rows are compared by direction
    """

    points: np.ndarray
    unit: bool

    def ruler(self, sparse: bool) -> Any:
        """A ruler whose frame is taken from the centres: their mean is the origin, their spread the unit."""
        return self._sparse_ruler if sparse else self._dense_ruler

    @cached_property
    def _dense_ruler(self) -> Any:
        return self._make(np.zeros(self.points.shape[1]) if self.unit else self.points.mean(axis=0, dtype=np.float64))

    @cached_property
    def _sparse_ruler(self) -> Any:
        return self._make(np.zeros(self.points.shape[1]))

    def _make(self, shift: np.ndarray) -> Any:
        spread = float(np.sqrt(np.mean((self.points - shift) ** 2)))
        exponent = int(np.clip(np.frexp(spread)[1], -500, 500)) if spread > 0 and not self.unit else 0
        frame = kernels.ruler.Frame(shift, 2.0**-exponent, self.unit)
        return kernels.ruler.Ruler(frame, frame.enter(self.points))

    def __getstate__(self) -> dict[str, Any]:
        return {"points": self.points, "unit": self.unit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True)
class Predict:
    """A block's labels: int32 of shape (n_rows,)."""

    centres: Centres

    def __call__(self, X: Any) -> np.ndarray:
        return self.centres.ruler(kernels.ruler.is_csr(X)).labels(X)


@dataclass(frozen=True)
class Label:
    """A block's labels under centres in the frame of the fit, not yet rounded to the data's dtype."""

    frame: Any
    centres: np.ndarray

    def __call__(self, X: Any) -> np.ndarray:
        return kernels.ruler.Ruler(self.frame, self.centres).labels(X)


@dataclass(frozen=True)
class Transform:
    """A block's distances to the centres: Euclidean, or 1 - cosine; float64 of shape (n_rows, n_clusters)."""

    centres: Centres

    def __call__(self, X: Any) -> np.ndarray:
        ruler = self.centres.ruler(kernels.ruler.is_csr(X))
        distances = ruler.distances(X)
        if not np.isfinite(distances).all():
            ruler.labels(X)  # says which value is to blame
        if not self.centres.unit:
            return distances / ruler.frame.scale
        cosine = 0.5 * distances**2
        cosine[kernels.ruler.blank_rows(X)] = 1.0
        return cosine


def inertia_shard(shard: Shard, centres: Centres) -> float:
    """Partial: weighted sum of the shard's squared distances to the nearest centre, or of 1 - cosine."""
    total = 0.0
    for block in shard.blocks:
        ruler = centres.ruler(kernels.ruler.is_csr(block.X))
        with naming(block):
            labels = ruler.labels(block.X)
        costs = ruler.squared_distances(block.X, labels)
        if centres.unit:
            costs *= 0.5
            costs[kernels.ruler.blank_rows(block.X)] = 1.0
        else:
            costs /= ruler.frame.scale**2
        total += float(costs.sum() if block.sample_weight is None else costs @ block.sample_weight)
    return total
