"""Lloyd's rounds: workers give rows to their nearest centre, the driver moves each centre to the mean of its rows.

What crosses the network per round: the centres and how far they moved to each worker, and from each shard
2 * n_clusters * (n_features + 1) float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.estimators.kmeans.relocation import farthest_rows, merge_farthest
from dparallel.moments import naming
from dparallel.rounds import Algorithm, Rounds


@dataclass(frozen=True)
class LloydState:
    """Where the centres are; all in the frame.

    run : str, names this run of rounds, so that no other run's scratch is taken for its own
    round : int, rounds done
    frame : kernels.ruler.Frame
    centres : ndarray of shape (n_clusters, n_features), float64
    before : the centres of the round before, from which lost scratch is rebuilt; None at first
    motion : kernels.ruler.Motion from before to centres; None when no bounds are kept
    objective : float or None, weighted sum of squared distances to the centres of the round before
    moved : float, sum of squared movements of the centres
    n_changed : int, rows whose label changed in the round before
    n_measured : int, rows whose distances were measured in the round before
    counts : ndarray of shape (n_clusters,), weight of each centre's rows
    """

    run: str
    round: int
    frame: Any
    centres: np.ndarray
    before: np.ndarray | None = None
    motion: Any = None
    objective: float | None = None
    moved: float = np.inf
    n_changed: int = 0
    n_measured: int = 0
    counts: np.ndarray | None = None


@dataclass(frozen=True)
class Totals:
    """The rows of each centre, summed exactly: see `kernels.lloyd.assign`, and its inertia when asked for."""

    sums: np.ndarray
    rest: np.ndarray
    members: np.ndarray
    n_changed: int = 0
    n_measured: int = 0
    inertia: float = 0.0
    labels: list[np.ndarray] = field(default_factory=list)

    def add(self, other: Totals) -> Totals:
        """Totals of both sets of rows; nothing is rounded away, so order does not matter."""
        sums = self.sums + other.sums
        part = sums - self.sums
        lost = (self.sums - (sums - part)) + (other.sums - part)
        return Totals(
            sums,
            self.rest + other.rest + lost,
            self.members + other.members,
            self.n_changed + other.n_changed,
            self.n_measured + other.n_measured,
            self.inertia + other.inertia,
            self.labels + other.labels,
        )


@dataclass
class _Content:
    """What a shard keeps between rounds."""

    held: list[Any]
    totals: tuple[np.ndarray, np.ndarray, np.ndarray]


def assign_shard(shard: Shard, state: LloydState) -> Totals:
    """Partial of a round: the totals of a shard's rows under the state's centres."""
    n_changed = n_measured = 0
    kept = []
    with shard.scratch.borrow((state.run, state.round - 1)) as content:
        sums, rest, members = _fresh_totals(state) if content is None else (part.copy() for part in content.totals)
        for step in _advance(shard, state, content, (sums, rest, members)):
            n_changed += step.n_changed
            n_measured += step.n_measured
            kept.append(step.held)
        shard.scratch.commit((state.run, state.round), _Content(kept, (sums, rest, members)))
    return Totals(sums, rest, members, n_changed, n_measured)


@dataclass(frozen=True)
class Finish:
    """Partial after the last round: inertia, and labels when asked for, under the centres that will be published."""

    with_labels: bool

    def __call__(self, shard: Shard, state: LloydState) -> Totals:
        inertia = 0.0
        labels = []
        ruler = kernels.ruler.Ruler(state.frame, state.centres)
        with shard.scratch.borrow((state.run, state.round - 1)) as content:
            sums, rest, members = _fresh_totals(state) if content is None else content.totals
            for step in _advance(shard, state, content, (sums, rest, members)):
                block = step.block
                squares = ruler.squared_distances(block.X, step.held.labels)
                inertia += float(squares.sum() if block.sample_weight is None else squares @ block.sample_weight)
                labels.append(step.held.labels)
        return Totals(sums, rest, members, inertia=inertia, labels=labels if self.with_labels else [])


def _fresh_totals(state: LloydState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_clusters, n_features = state.centres.shape
    shape = (n_clusters, n_features + 1)
    return np.zeros(shape), np.zeros(shape), np.zeros(n_clusters, np.int64)


@dataclass(frozen=True)
class _Step:
    """A block brought to this round."""

    block: Block
    held: Any
    n_changed: int
    n_measured: int


def _advance(shard: Shard, state: LloydState, content: _Content | None, totals: Any) -> Iterator[_Step]:
    """Bring every block of a shard from the round before to this one, and totals with it, in place.

    Without content of the round before, a block's rows are first given to that round's centres again, so that the count
    of changed labels is the same as if nothing had been lost.
    """
    ruler = kernels.ruler.Ruler(state.frame, state.centres)
    earlier = None if state.before is None else kernels.ruler.Ruler(state.frame, state.before)
    for number, block in enumerate(shard.blocks):
        weights = block.sample_weight
        with naming(block):
            if content is not None:
                held = content.held[number]
            else:
                held = kernels.ruler.Held(block.n_rows, state.motion is not None)
                if earlier is not None:
                    earlier.assign(block.X, weights, held, None, first=True, totals=totals)
            first = content is None and earlier is None
            yield _Step(block, held, *ruler.assign(block.X, weights, held, state.motion, first=first, totals=totals))


@dataclass(frozen=True)
class Lloyd(Algorithm):
    """Lloyd's algorithm (1982), with Hamerly's bounds (2010) when bounded.

    rounds : Rounds, for the extra round that a centre without rows needs
    bounded : bool
    tolerance : float, stop when the squared movements of the centres sum to no more, in the frame
    squares : float, weighted sum of the rows' squared norms, in the frame
    """

    rounds: Rounds | None
    bounded: bool
    tolerance: float
    squares: float

    def __getstate__(self) -> dict[str, Any]:
        # the partial travels with its algorithm; the rounds belong to the driver
        return self.__dict__ | {"rounds": None}

    def partial(self, shard: Shard, state: LloydState) -> Totals:
        """See assign_shard."""
        return assign_shard(shard, state)

    def combine(self, a: Totals, b: Totals) -> Totals:
        """See Totals.add."""
        return a.add(b)

    def start(self, run: str, frame: Any, centres: np.ndarray) -> LloydState:
        """The state before the first round."""
        ruler = kernels.ruler.Ruler(frame, centres)
        return LloydState(run, 0, frame, centres, motion=ruler.motion_from(None) if self.bounded else None)

    def update(self, state: LloydState, total: Totals) -> LloydState:
        """Move each centre to the mean of its rows; one without rows takes the place of the farthest row."""
        sums = total.sums + total.rest
        sums[total.members == 0] = 0.0
        counts = sums[:, -1].copy()
        sums = sums[:, :-1]
        norms = np.einsum("ij,ij->i", state.centres, state.centres)
        objective = float(self.squares - 2.0 * (state.centres * sums).sum() + counts @ norms)
        empty = np.flatnonzero(total.members == 0)
        if empty.size:
            self._relocate(state, empty, sums, counts, total.members.copy())
        centres = _means(state, sums, counts)
        ruler = kernels.ruler.Ruler(state.frame, centres)
        return replace(
            state,
            round=state.round + 1,
            centres=centres,
            before=state.centres,
            motion=ruler.motion_from(state.centres) if self.bounded else None,
            objective=max(objective, 0.0),
            moved=float(((centres - state.centres) ** 2).sum()),
            n_changed=total.n_changed,
            n_measured=total.n_measured,
            counts=counts,
        )

    def _relocate(
        self, state: LloydState, empty: np.ndarray, sums: np.ndarray, counts: np.ndarray, members: np.ndarray
    ) -> None:
        """Give empty centres the rows farthest from their own, as scikit-learn does; the arrays change in place."""
        assert self.rounds is not None  # only on a worker
        _, found = self.rounds.reduce(farthest_rows, merge_farthest, (state.frame, state.centres, empty.size))
        for centre, row in zip(empty, found, strict=False):
            if not row.distance > 0.0:
                break
            members[row.label] -= 1
            if members[row.label] == 0:  # what subtraction would leave is rounding, and no weight
                sums[row.label], counts[row.label] = 0.0, 0.0
            else:
                sums[row.label] -= row.weight * row.point
                counts[row.label] -= row.weight
            sums[centre] = row.weight * row.point
            counts[centre] = row.weight

    def done(self, old: LloydState, new: LloydState) -> str | None:
        if new.n_changed == 0 and old.round > 0:
            return "No row changed its centre."
        if new.moved <= self.tolerance:
            return "The centres moved less than the tolerance."
        return None

    def objective(self, state: LloydState) -> float | None:
        if state.objective is None:
            return None
        return state.objective / 2.0 if state.frame.unit else state.objective / state.frame.scale**2

    def change(self, state: LloydState) -> float | None:
        return float(np.sqrt(state.moved)) / state.frame.scale


def _means(state: LloydState, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means of the rows, or their directions for unit rows; a centre without any stays where it is."""
    divisor = np.sqrt(np.einsum("ij,ij->i", sums, sums)) if state.frame.unit else counts
    divisor = np.where(counts > 0, divisor, 0.0)[:, None]
    return np.divide(sums, divisor, out=state.centres.copy(), where=divisor > 0)
