"""The round after growth: thresholds half-way between the values that a node really has, impurities of the last leaves.

What crosses the network: the splits to each worker, and two float32 per node back from each shard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.estimators.decision_tree.growth import GrowthState, add_second
from dparallel.estimators.decision_tree.held import HeldRows, hold
from dparallel.estimators.decision_tree.rows import dense_pieces, used
from dparallel.estimators.decision_tree.tree import TreeArrays


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


def settle(rounds: Any, state: GrowthState, tree: TreeArrays) -> tuple[TreeArrays, GrowthState]:
    """Find what growth has left open about the nodes, in one round, or in none where nothing is.

    Parameters
    ----------
    tree : TreeArrays, whose first nodes are the frontier's

    Returns
    -------
    tree : TreeArrays, with its thresholds and impurities
    state : GrowthState, for a further round
    """
    frontier: Any = state.frontier
    bins, categorical = frontier.task.bins, frontier.task.categorical
    split = np.flatnonzero((tree.left_child >= 0) & np.isfinite(tree.threshold))
    coarse = split[~bins.exact[tree.feature[split]]]
    if categorical is not None:
        coarse = coarse[~categorical[tree.feature[coarse]]]
    fresh = frontier.fresh
    is_open = state.second is not None and np.isnan(frontier.nodes.impurity[fresh]).any()
    if not len(coarse) and not is_open:
        return tree, state
    n_walked = len(tree) if len(coarse) else 0
    children = np.column_stack([tree.left_child, tree.right_child])
    found = rounds.reduce(
        _Settle(tree.feature[:n_walked], tree.left[:n_walked], children[:n_walked]), Settled.add, state
    )
    threshold, impurity = tree.threshold.copy(), tree.impurity.copy()
    threshold[coarse] = found.highest[coarse].astype(np.float64) / 2.0 + found.lowest[coarse].astype(np.float64) / 2.0
    frontier = frontier.learn_second(found.second)
    impurity[fresh] = frontier.nodes.impurity[fresh]
    settled = replace(tree, threshold=threshold, impurity=impurity)
    return settled, replace(state, round=state.round + 1, frontier=frontier)
