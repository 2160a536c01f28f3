"""First centres: k-means‖, k-means++ and random rows, each drawn from numbers that belong to the rows.

A draw is fixed by the seed and a row's global number (`kernels.draws`), so it is the same however the rows are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.estimators.kmeans.candidates import Candidates, recluster
from dparallel.moments import naming
from dparallel.rounds import Rounds

_MAX_EXTRA_ROUNDS = 20


@dataclass(frozen=True)
class SeedState:
    """What the shards need to know to measure the rows against new candidates.

    run : str, round : int, the stamp of the scratch
    frame : kernels.ruler.Frame
    candidates : ndarray of shape (n_candidates, n_features), float64, in the frame: all so far
    n_fresh : int, how many of them, the last, have not been measured yet
    keys : tuple of numpy.uint64, one for each independent draw (see `kernels.draws.key`)
    expected : float, how many rows each draw is to find
    """

    run: str
    round: int
    frame: Any
    candidates: np.ndarray
    n_fresh: int
    keys: tuple[Any, ...]
    expected: float


@dataclass(frozen=True)
class Draw:
    """What a round of drawing finds.

    cost : float, weighted sum of the rows' squared distances to the nearest candidate
    rank : ndarray of shape (n_drawn,), float64: lower is drawn earlier
    trial : ndarray of shape (n_drawn,), int64: which of several independent draws the row belongs to
    rows : ndarray of shape (n_drawn, n_features), float64, in the data's coordinates
    """

    cost: float
    rank: np.ndarray
    trial: np.ndarray
    rows: np.ndarray

    def keep(self, wanted: np.ndarray) -> Draw:
        return Draw(self.cost, self.rank[wanted], self.trial[wanted], self.rows[wanted])

    def append(self, other: Draw) -> Draw:
        return Draw(
            self.cost + other.cost,
            np.concatenate([self.rank, other.rank]),
            np.concatenate([self.trial, other.trial]),
            np.concatenate([self.rows, other.rows]),
        )


def _measured(shard: Shard, state: SeedState, content: Any) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
    """Each block with its rows' squared distance to the nearest candidate, and that candidate's number."""
    n_known = len(state.candidates) - state.n_fresh
    start = n_known if content is not None else 0
    ruler = kernels.ruler.Ruler(state.frame, state.candidates[start:]) if len(state.candidates) > start else None
    for number, block in enumerate(shard.blocks):
        if content is not None:
            squares, nearest = content[number]
        else:
            squares, nearest = np.full(block.n_rows, np.inf), np.zeros(block.n_rows, np.int32)
        if ruler is not None:
            with naming(block):
                labels = ruler.labels(block.X)
            fresh = ruler.squared_distances(block.X, labels)
            closer = fresh < squares
            squares = np.where(closer, fresh, squares)
            nearest = np.where(closer, labels + np.int32(start), nearest)
        yield block, squares, nearest


def _weights(block: Block) -> np.ndarray:
    return np.empty(0) if block.sample_weight is None else block.sample_weight


def _mass(block: Block, squares: np.ndarray) -> np.ndarray:
    """What a row's chance to be drawn is proportional to; without any candidate its weight alone."""
    squares = np.where(np.isfinite(squares), squares, 1.0)
    return squares if block.sample_weight is None else squares * block.sample_weight


def oversample_shard(shard: Shard, state: SeedState) -> Draw:
    """Partial of a k-means‖ round: measure against the fresh candidates, draw rows in proportion to their cost.

    A row is drawn where its number lies under expected * cost / total cost. The total is not known yet, but the shard's
    part of it is less: rows are listed by that, with the total at which each would drop out, and `_drop_late` thins
    the list as parts are combined. So one round does what the paper does in two.
    """
    kept = []
    draw = Draw(0.0, np.empty(0), np.empty(0, np.int64), np.empty((0, state.candidates.shape[1])))
    with shard.scratch.borrow((state.run, state.round - 1)) as content:
        start = shard.offset or 0
        for block, squares, nearest in _measured(shard, state, content):
            kept.append((squares, nearest))
            cost = float(_mass(block, squares).sum())
            draw = _drop_late(draw.append(_oversample(block, squares, start, draw.cost + cost, cost, state)), state)
            start += block.n_rows
        shard.scratch.commit((state.run, state.round), kept)
    return draw


def _oversample(block: Block, squares: np.ndarray, start: int, total: float, cost: float, state: SeedState) -> Draw:
    chosen, rank = np.empty(block.n_rows, np.int64), np.empty(block.n_rows)
    count = 0
    if total > 0:
        rate = state.expected / total
        count = kernels.draws.oversample(state.keys[0], start, squares, _weights(block), rate, chosen, rank)
    rows = kernels.ruler.dense_rows(block.X, chosen[:count])
    return Draw(cost, rank[:count], np.zeros(count, np.int64), rows)


def _drop_late(draw: Draw, state: SeedState) -> Draw:
    """Keep the rows that the cost known so far still lets in."""
    return draw.keep(draw.rank * draw.cost < state.expected)


@dataclass(frozen=True)
class _Thin:
    """Combine two draws of a k-means‖ round."""

    state: SeedState

    def __call__(self, a: Draw, b: Draw) -> Draw:
        return _drop_late(a.append(b), self.state)


def race_shard(shard: Shard, state: SeedState) -> Draw:
    """Partial: measure against the fresh candidates, and per key draw the rows that come first in a race.

    expected winners per key, without replacement; a row's speed is its weight times its squared distance.
    """
    n_winners = int(state.expected)
    kept = []
    total = Draw(0.0, np.empty(0), np.empty(0, np.int64), np.empty((0, state.candidates.shape[1])))
    with shard.scratch.borrow((state.run, state.round - 1)) as content:
        start = shard.offset or 0
        for block, squares, nearest in _measured(shard, state, content):
            kept.append((squares, nearest))
            mass = _mass(block, squares)
            found = Draw(float(mass.sum()), total.rank[:0], total.trial[:0], total.rows[:0])
            for trial, key in enumerate(state.keys):
                chosen, time = np.full(n_winners, -1, np.int64), np.full(n_winners, np.inf)
                kernels.draws.race(key, start, mass, chosen, time)
                arrived = time < np.inf
                rows = kernels.ruler.dense_rows(block.X, chosen[arrived] - start)
                found = found.append(Draw(0.0, time[arrived], np.full(arrived.sum(), trial), rows))
            total = first_of_each(total, found, n_winners)
            start += block.n_rows
        shard.scratch.commit((state.run, state.round), kept)
    return total


def first_of_each(a: Draw, b: Draw, n_winners: int) -> Draw:
    """The earliest n_winners of each trial, in order of trial and arrival."""
    both = a.append(b)
    order = np.lexsort((both.rank, both.trial))
    both = both.keep(order)
    _, starts = np.unique(both.trial, return_index=True)
    place = np.arange(both.trial.size) - np.repeat(starts, np.diff(np.append(starts, both.trial.size)))
    return both.keep(place < n_winners)


@dataclass(frozen=True)
class _First:
    """Combine two draws of a race."""

    n_winners: int

    def __call__(self, a: Draw, b: Draw) -> Draw:
        return first_of_each(a, b, self.n_winners)


def count_shard(shard: Shard, state: SeedState) -> np.ndarray:
    """Partial after the last k-means‖ round: the weight of the rows nearest to each candidate."""
    counts = np.zeros(len(state.candidates))
    with shard.scratch.borrow((state.run, state.round - 1)) as content:
        for block, _, nearest in _measured(shard, state, content):
            counts += np.bincount(nearest, block.sample_weight, minlength=counts.size)
    return counts


def potential_shard(shard: Shard, state: SeedState) -> np.ndarray:
    """Partial of k-means++: what the cost would be with each fresh candidate alone; the scratch stays as it was."""
    n_known = len(state.candidates) - state.n_fresh
    known = SeedState(state.run, state.round, state.frame, state.candidates[:n_known], 0, (), 0.0)
    ruler = kernels.ruler.Ruler(state.frame, state.candidates[n_known:])
    potentials = np.zeros(state.n_fresh)
    kept = []
    with shard.scratch.borrow((state.run, state.round - 1)) as content:
        for block, squares, nearest in _measured(shard, known, content):
            kept.append((squares, nearest))
            for trial in range(state.n_fresh):
                distances = ruler.squared_distances(block.X, np.full(block.n_rows, trial, np.int32))
                costs = np.minimum(squares, distances)
                potentials[trial] += costs.sum() if block.sample_weight is None else costs @ block.sample_weight
        shard.scratch.commit((state.run, state.round - 1), kept)
    return potentials


def _start(run: str, frame: Any, n_features: int, keys: tuple[Any, ...], expected: float) -> SeedState:
    return SeedState(run, 0, frame, np.empty((0, n_features)), 0, keys, expected)


def random_rows(rounds: Rounds, frame: Any, n_features: int, n_clusters: int, seed: int, run: str) -> np.ndarray:
    """Draw n_clusters rows in proportion to their weight, without replacement; one round.

    Returns
    -------
    rows : ndarray of shape (at most n_clusters, n_features), float64, in the data's coordinates; fewer where fewer rows
        have a weight
    """
    state = _start(run, frame, n_features, (kernels.draws.key(seed, "random"),), n_clusters)
    return rounds.reduce(race_shard, _First(n_clusters), state).rows


def scalable(
    rounds: Rounds, frame: Any, n_features: int, n_clusters: int, seed: int, run: str, *, factor: float, n_rounds: int
) -> np.ndarray:
    """k-means‖: oversample in a few rounds, weigh the candidates, cluster them.

    Parameters
    ----------
    factor : float, rows expected per round = factor * n_clusters
    n_rounds : int; more are run while there are fewer candidates than clusters

    Returns
    -------
    centres : ndarray of shape (at most n_clusters, n_features), float64, in the data's coordinates

    Notes
    -----
    Bahmani et al., "Scalable k-means++" (VLDB 2012), Algorithm 2, with the re-clustering by weighted greedy k-means++
    and weighted Lloyd.
    """
    rows = random_rows(rounds, frame, n_features, 1, seed, run + "-first")
    found = Candidates(frame, rows)
    state = _start(run, frame, n_features, (), factor * n_clusters)
    number = 0
    while number < n_rounds or (len(found.rows) < n_clusters and number < n_rounds + _MAX_EXTRA_ROUNDS):
        key = kernels.draws.key(seed, "scalable", number)
        state = SeedState(run, number, frame, found.points, found.n_fresh, (key,), state.expected)
        draw = rounds.reduce(oversample_shard, _Thin(state), state)
        number += 1
        if draw.cost == 0.0:
            break
        found = found.add(draw.rows)
    state = SeedState(run, number, frame, found.points, found.n_fresh, (), 0.0)
    weights = rounds.reduce(count_shard, np.add, state)
    return recluster(found, weights, n_clusters, seed)


def greedy(rounds: Rounds, frame: Any, n_features: int, n_clusters: int, seed: int, run: str) -> np.ndarray:
    """Greedy k-means++: each centre is the best of 2 + log(n_clusters) rows drawn by cost; two rounds per centre.

    Returns
    -------
    centres : ndarray of shape (at most n_clusters, n_features), float64, in the data's coordinates

    Notes
    -----
    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding" (2007), with their greedy refinement.
    """
    n_trials = 2 + int(np.log(n_clusters))
    found = Candidates(frame, random_rows(rounds, frame, n_features, 1, seed, run + "-first"))
    for number in range(n_clusters - 1):
        keys = tuple(kernels.draws.key(seed, "greedy", number * n_trials + trial) for trial in range(n_trials))
        state = SeedState(run, number, frame, found.points, found.n_fresh, keys, 1)
        draw = rounds.reduce(race_shard, _First(1), state)
        if not draw.cost > 0.0:
            break
        tried = np.concatenate([found.points, frame.enter(draw.rows)])
        trial_state = SeedState(run, number + 1, frame, tried, len(draw.rows), (), 0.0)
        potentials = rounds.reduce(potential_shard, np.add, trial_state)
        found = found.add(draw.rows[[int(np.argmin(potentials))]])
    return found.rows
