"""After growth: thresholds half-way between the values that a node really has, and impurities of the last leaves.

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
class Settle:
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
            part = self.look(shard, held, state)
            shard.scratch.commit((state.run, state.round), held)
        return part

    def look(self, shard: Shard, held: HeldRows, state: GrowthState) -> Settled:
        """What the shard's rows tell; all steps have been taken."""
        found = kernels.boundaries.Boundaries(self.feature, self.left, self.children, state.coding.bins.n_values)
        if len(self.feature):
            self._walk(shard, held, found)
        return Settled(found.highest, found.lowest, add_second(held, state))

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


def open_questions(state: GrowthState, tree: TreeArrays) -> Settle | None:
    """What growth has left open about the nodes: the partial that finds it out, or None where there is nothing.

    Parameters
    ----------
    tree : TreeArrays, whose first nodes are the frontier's
    """
    frontier: Any = state.frontier
    fresh = frontier.nodes.impurity[frontier.fresh]
    coarse = _coarse(frontier, tree)
    if not len(coarse) and not (state.second is not None and np.isnan(fresh).any()):
        return None
    n_walked = len(tree) if len(coarse) else 0
    children = np.column_stack([tree.left_child, tree.right_child])
    return Settle(tree.feature[:n_walked], tree.left[:n_walked], children[:n_walked])


def _coarse(frontier: Any, tree: TreeArrays) -> np.ndarray:
    """Nodes whose thresholds the codes do not tell."""
    bins, categorical = frontier.task.bins, frontier.task.categorical
    split = np.flatnonzero((tree.left_child >= 0) & np.isfinite(tree.threshold))
    coarse = split[~bins.exact[tree.feature[split]]]
    return coarse if categorical is None else coarse[~categorical[tree.feature[coarse]]]


def settled(state: GrowthState, tree: TreeArrays, found: Settled | None) -> TreeArrays:
    """The tree with its thresholds and impurities; found : what Settle brought of all shards, None if not asked."""
    if found is None:
        return tree
    frontier: Any = state.frontier
    coarse, threshold, impurity = _coarse(frontier, tree), tree.threshold.copy(), tree.impurity.copy()
    threshold[coarse] = found.highest[coarse].astype(np.float64) / 2.0 + found.lowest[coarse].astype(np.float64) / 2.0
    impurity[frontier.fresh] = frontier.learn_second(found.second).nodes.impurity[frontier.fresh]
    return replace(tree, threshold=threshold, impurity=impurity)
