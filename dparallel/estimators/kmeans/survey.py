"""The first pass of k-means: is every value finite, how many rows are there, and how far do they spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.moments import Moments, measure_block
from dparallel.rounds import Rounds

_SHIFT_BITS = 8


@dataclass(frozen=True)
class Survey:
    """What is known of the rows before any centre is.

    plain : Moments of all rows, each counted once
    weighted : Moments with the rows' weights
    blank : float, weight of the rows that are all zeros; 0 unless they were looked for
    """

    plain: Moments
    weighted: Moments
    blank: float = 0.0

    def merge(self, other: Survey) -> Survey:
        return Survey(self.plain.merge(other.plain), self.weighted.merge(other.weighted), self.blank + other.blank)


def survey(rounds: Rounds, n_features: int, *, unit: bool) -> Survey:
    """Look at all rows, in one round.

    Raises
    ------
    DataError
        If a value is NaN or infinite, or so large that squares overflow; if every weight is 0.
    """
    found: Survey = rounds.reduce(_partial, Survey.merge, (n_features, unit))
    if found.plain.n_rows and not found.weighted.weight > 0:
        raise DataError("Sample weights must contain at least one non-zero number.")
    if not np.isfinite(found.plain.deviation).all():
        raise DataError(
            "Input X contains values whose squares overflow float64. k-means measures squared distances: scale X down."
        )
    return found


def _partial(shard: Shard, state: tuple[int, bool]) -> Survey:
    n_features, unit = state
    nothing = Moments(0, 0.0, np.zeros(n_features), np.zeros(n_features))
    total = Survey(nothing, nothing)
    for block in shard.blocks:
        plain = measure_block(block, weighted=False)
        weighted = plain if block.sample_weight is None else measure_block(block)
        total = total.merge(Survey(plain, weighted, _blank_weight(block) if unit else 0.0))
    return total


def _blank_weight(block: Block) -> float:
    """Weight of a block's rows of zeros."""
    blank = kernels.ruler.blank_rows(block.X)
    return float(blank.sum() if block.sample_weight is None else block.sample_weight[blank].sum())


def choose_frame(found: Survey, *, unit: bool, sparse: bool) -> Any:
    """Choose coordinates in which rows lie around the origin at distances of about 1.

    The shift is the mean rounded to a few bits of the spread, so that chunking, which changes the mean's last bits,
    does not change the frame. CSR rows and unit rows are not shifted.
    """
    n_features = found.plain.mean.size
    if unit:
        return kernels.ruler.Frame(np.zeros(n_features), 1.0, True)
    variance = found.plain.variance
    if sparse:
        variance = variance + found.plain.mean**2
    spread = np.sqrt(variance.mean()) if n_features else 0.0
    exponent = int(np.clip(np.frexp(spread)[1], -500, 500)) if spread > 0 else 0
    if sparse:
        return kernels.ruler.Frame(np.zeros(n_features), 2.0**-exponent, False)
    mean = found.plain.mean
    steps = np.ldexp(1.0, np.maximum(np.frexp(np.sqrt(variance))[1] - _SHIFT_BITS, -1000))
    shift = np.where(variance > 0, np.round(mean / steps) * steps, mean)
    return kernels.ruler.Frame(shift, 2.0**-exponent, False)


def squares_about_origin(found: Survey, frame: Any) -> float:
    """Weighted sum of squared norms of all rows, in the frame."""
    if frame.unit:  # rows of zeros count as of norm 1, so that their cosine distance comes out as 1
        return found.weighted.weight
    moments = found.weighted
    return float((moments.deviation + moments.weight * (moments.mean - frame.shift) ** 2).sum() * frame.scale**2)
