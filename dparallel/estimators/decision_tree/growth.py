"""Rounds of growth: workers split the rows of nodes and add up histograms, the driver chooses splits.

What crosses the network per round: the splits so far and the bins to each worker, and from each worker the histograms
of the smaller of each two siblings, n_slots * n_statistics numbers of 4 bytes, or 8 where these do not hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.estimators.decision_tree.frontier import Frontier
from dparallel.estimators.decision_tree.held import Coding, HeldRows, Step, hold
from dparallel.estimators.decision_tree.travelling import put_together, take_apart
from dparallel.rounds import Algorithm, Rounds


@dataclass(frozen=True)
class GrowthState:
    """Where a tree is.

    Parameters
    ----------
    run : str, names this fit, so that no other fit's scratch is taken for its own
    round : int, rounds done
    coding : Coding
    steps : tuple of Step, taken so far
    build : ndarray of int32, places of the live nodes whose histograms the next round brings
    has_fresh : bool, whether the next round is the first one after a step, or of all
    second : "squares", "deviance" or None, what is added up over the rows of new nodes beside the histograms
    limb : int, see kernels.fixed_point.squares
    frontier : Frontier, the driver's; it does not travel
    """

    run: str
    round: int
    coding: Coding
    steps: tuple[Step, ...]
    build: np.ndarray
    has_fresh: bool
    second: str | None
    limb: int
    frontier: Frontier | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"frontier": None}


@dataclass(frozen=True)
class Part:
    """What a round brings.

    Parameters
    ----------
    histograms : ndarray of shape (n_built, n_slots, n_statistics), int32 or int64
    second : ndarray of shape (n_fresh, 3) or (n_fresh, 1), int64, of shape (0, 1) where not asked for
    low, high : ndarray of shape (n_slots,), float32, extreme values of the bins, of shape (0,) after the first round
    moved_bytes : int, in how many bytes it came from another process, 0 where it did not
    """

    histograms: np.ndarray
    second: np.ndarray
    low: np.ndarray
    high: np.ndarray
    moved_bytes: int = 0

    def add(self, other: Part) -> Part:
        """What a round brings of both sets of rows."""
        return Part(
            self.histograms + other.histograms,
            self.second + other.second,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def __sizeof__(self) -> int:
        # Dask's workers, and the record of what was moved, account for a part by this
        arrays = (self.histograms, self.second, self.low, self.high)
        return object.__sizeof__(self) + (self.moved_bytes or sum(array.nbytes for array in arrays))

    def __reduce__(self) -> Any:
        return _received, (take_apart(self.histograms), self.second, self.low, self.high)


def _received(histograms: list[np.ndarray], second: np.ndarray, low: np.ndarray, high: np.ndarray) -> Part:
    """A part that has travelled."""
    moved_bytes = sum(array.nbytes for array in (*histograms, second, low, high))
    return Part(put_together(histograms, 3), second, low, high, moved_bytes)


def grow_shard(shard: Shard, state: GrowthState) -> Part:
    """Partial: split the rows of nodes as the last step says, and add up histograms."""
    with shard.scratch.borrow((state.run, state.round - 1)) as content:
        held: HeldRows = hold(shard, state.coding) if content is None else content
        held.take(state.steps)
        part = Part(_histograms(held, state), add_second(held, state), *_extremes(held, state))
        shard.scratch.commit((state.run, state.round), held)
    return part


def _histograms(held: HeldRows, state: GrowthState) -> np.ndarray:
    histogram, targets, bins = kernels.histogram, state.coding.targets, state.coding.bins
    counted = len(targets.classes) > 0 and not targets.weighted
    shape = (
        len(state.build),
        int(bins.starts[-1]),
        histogram.n_statistics(len(targets.classes), targets.weighted),
    )
    result = np.empty(shape, np.int32 if counted else np.int64)
    first, last = held.first[state.build], held.last[state.build]
    histogram.build(held.codes, bins.starts, held.coded.rows, held.order, first, last, result)
    return result


def add_second(held: HeldRows, state: GrowthState) -> np.ndarray:
    """What impurities need beside the histograms: sums over the rows of the nodes that the last step made."""
    fixed_point, coded = kernels.fixed_point, held.coded
    if state.second is None or not state.has_fresh:
        return np.empty((0, 1), np.int64)
    if state.second == "deviance":
        return fixed_point.sums(coded.second, held.order, *held.fresh)[:, None]
    return fixed_point.squares(coded.rows.moment, coded.target, state.limb, held.order, *held.fresh)


def _extremes(held: HeldRows, state: GrowthState) -> tuple[np.ndarray, np.ndarray]:
    return (held.low, held.high) if state.round == 0 else (held.low[:0], held.high[:0])


@dataclass(frozen=True)
class Growth(Algorithm):
    """Grows a tree step by step: level by level, or the best nodes first."""

    def partial(self, shard: Shard, state: GrowthState) -> Part:
        """See grow_shard."""
        return grow_shard(shard, state)

    def combine(self, a: Part, b: Part) -> Part:
        """See Part.add."""
        return a.add(b)

    def update(self, state: GrowthState, total: Part) -> GrowthState:
        """Choose splits, and what to look at next."""
        assert state.frontier is not None  # only on a worker
        frontier = state.frontier.learn(total)
        steps = state.steps if frontier.step is None else (*state.steps, frontier.step)
        return GrowthState(
            state.run,
            state.round + 1,
            state.coding,
            steps,
            frontier.build,
            frontier.step is not None,
            state.second,
            state.limb,
            frontier,
        )

    def done(self, old: GrowthState, new: GrowthState) -> str | None:
        assert new.frontier is not None
        return new.frontier.reason

    def objective(self, state: GrowthState) -> float | None:
        return None if state.frontier is None else state.frontier.impurity


class CountedRounds:
    """Rounds that are counted, and whose parts each worker adds up before they travel.

    Attributes
    ----------
    n_rounds : int, rounds so far
    """

    def __init__(self, rounds: Rounds):
        self._rounds = rounds
        self.n_rounds = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rounds, name)

    def reduce(self, partial: Any, combine: Any, state: Any = None) -> Any:
        """See Rounds.reduce."""
        self.n_rounds += 1
        return self._rounds.reduce(partial, combine, state, per_worker=True)
