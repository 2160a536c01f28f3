"""The round after growth: thresholds half-way between the values that a node really has, impurities of the last leaves.

What crosses the network: the splits to each worker, and two float32 per node back from each shard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.estimators.decision_tree.frontier import Frontier
from dparallel.estimators.decision_tree.growth import GrowthState, add_second
from dparallel.estimators.decision_tree.held import HeldRows, hold
from dparallel.estimators.decision_tree.rows import dense_pieces, used


@dataclass(frozen=True)
class Settled:
    """What the round brings.

    Parameters
    ----------
    highest, lowest : ndarray of shape (n_nodes,), float32, see kernels.boundaries.Boundaries
    second : see growth.Part
    """

    highest: np.ndarray
    lowest: np.ndarray
    second: np.ndarray

    def add(self, other: Settled) -> Settled:
        """What the round brings of both sets of rows."""
        return Settled(
            np.maximum(self.highest, other.highest),
            np.minimum(self.lowest, other.lowest),
            self.second + other.second,
        )

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.highest.nbytes + self.lowest.nbytes + self.second.nbytes


@dataclass(frozen=True)
class _Settle:
    """Partial: walk a shard's rows down the tree.

    feature, left, children : of the tree's nodes, see kernels.boundaries.Boundaries; feature is of shape (0,) where no
    threshold needs to be found
    """

    feature: np.ndarray
    left: np.ndarray
    children: np.ndarray

    def __call__(self, shard: Shard, state: GrowthState) -> Settled:
        with shard.scratch.borrow((state.run, state.round - 1)) as content:
            held: HeldRows = hold(shard, state.coding) if content is None else content
            held.take(state.steps)
            bins = state.coding.bins
            found = kernels.boundaries.Boundaries(self.feature, self.left, self.children, bins.n_values)
            if len(self.feature):
                self._walk(shard, held, found)
            part = Settled(found.highest, found.lowest, add_second(held, state))
            shard.scratch.commit((state.run, state.round), held)
        return part

    def _walk(self, shard: Shard, held: HeldRows, found: Any) -> None:
        weight, before = held.coded.rows.weight, 0
        for block in shard.blocks:
            rows = used(block)
            for start, X in dense_pieces(rows.X):
                X = kernels.layouts.readable(X)
                own = slice(before + start, before + start + X.shape[0])
                take = None if not weight.size else weight[own] != 0
                found.scan(kernels.layouts.layout(X), held.codes[own], take)
            before += rows.n_rows


def settle(rounds: Any, state: GrowthState) -> GrowthState:
    """Find what growth has left open about the nodes, in one round, or in none where nothing is.

    Returns
    -------
    state : GrowthState, for a further round
    """
    frontier: Any = state.frontier
    nodes, bins, categorical = frontier.nodes, frontier.task.bins, frontier.task.categorical
    feature = nodes.feature
    split = np.flatnonzero((nodes.left_child >= 0) & np.isfinite(nodes.threshold))
    coarse = split[~bins.exact[feature[split]]]
    if categorical is not None:
        coarse = coarse[~categorical[feature[coarse]]]
    open_ = state.second is not None and np.isnan(nodes.impurity).any()
    if not len(coarse) and not open_:
        return state
    children = np.column_stack([nodes.left_child, nodes.right_child])
    walked = np.where(nodes.left_child >= 0, feature, -1) if len(coarse) else feature[:0]
    partial = _Settle(walked, nodes.left[: len(walked)], children[: len(walked)])
    found = rounds.reduce(partial, Settled.add, state)
    threshold = found.highest[coarse].astype(np.float64) / 2.0 + found.lowest[coarse].astype(np.float64) / 2.0
    return replace(state, round=state.round + 1, frontier=_filled(frontier, coarse, threshold, found.second))


def _filled(frontier: Frontier, coarse: np.ndarray, threshold: np.ndarray, second: np.ndarray) -> Frontier:
    known = replace(frontier, nodes=frontier.nodes.put(coarse, threshold=threshold))
    return known.learn_second(second)
