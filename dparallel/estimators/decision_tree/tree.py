"""The grown tree as arrays in scikit-learn's order of nodes, whatever the order in which they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from dparallel.estimators.decision_tree.nodes import SPLIT, Nodes

_NONE = -1


@dataclass(frozen=True)
class TreeArrays:
    """A tree; a child's number is larger than its parent's.

    Parameters
    ----------
    left_child, right_child : int64, -1 for leaves
    feature : int64, -1 for leaves; threshold : float64; missing_left : bool
    left : uint64 of shape (n_nodes, 4), codes that go left as bits
    statistics : int64 of shape (n_nodes, n_statistics), see kernels.histogram
    impurity : float64; lower, upper : float64, bounds of the values
    depth : int64, 0 for the root
    improvement : float64, decrease of the impurity of the whole tree by a split, 0 for leaves
    """

    left_child: np.ndarray
    right_child: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    statistics: np.ndarray
    impurity: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    depth: np.ndarray
    improvement: np.ndarray

    def __len__(self) -> int:
        return len(self.feature)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    def select(self, order: np.ndarray) -> TreeArrays:
        """The nodes of a tree that are listed, in that order; the children of those that are not leaves among them."""
        number = np.full(len(self), _NONE, np.int64)
        number[order] = np.arange(len(order))
        parts = {field.name: getattr(self, field.name)[order] for field in fields(self)}
        for name in ("left_child", "right_child"):
            child = parts[name]
            parts[name] = np.where(child >= 0, number[child], _NONE)
        return TreeArrays(**parts)


def of_nodes(nodes: Nodes, order: np.ndarray | None) -> TreeArrays:
    """What growth has found, in the order in which nodes were made.

    Parameters
    ----------
    order : ndarray of int32, the nodes that are split, or None for all that have children
    """
    split = np.zeros(len(nodes), bool)
    split[np.flatnonzero(nodes.status == SPLIT) if order is None else order] = True
    return TreeArrays(
        left_child=np.where(split, nodes.left_child, _NONE).astype(np.int64),
        right_child=np.where(split, nodes.right_child, _NONE).astype(np.int64),
        feature=np.where(split, nodes.feature, _NONE).astype(np.int64),
        threshold=np.where(split, nodes.threshold, np.nan),
        missing_left=split & nodes.missing_left,
        left=np.where(split[:, None], nodes.left, 0).astype(np.uint64),
        statistics=nodes.statistics,
        impurity=nodes.impurity,
        lower=nodes.lower,
        upper=nodes.upper,
        depth=nodes.depth.astype(np.int64),
        improvement=np.where(split, nodes.improvement, 0.0),
    )


def graft(tree: TreeArrays, subtrees: Mapping[int, TreeArrays]) -> TreeArrays:
    """Put subtrees in the place of leaves; the rest of each goes behind the nodes there are."""
    parts: dict[str, list[np.ndarray]] = {field.name: [getattr(tree, field.name).copy()] for field in fields(tree)}
    n_nodes = len(tree)
    for leaf, subtree in subtrees.items():
        number = np.concatenate([[leaf], n_nodes + np.arange(len(subtree) - 1)])
        for name, pieces in parts.items():
            values = getattr(subtree, name)
            if name in ("left_child", "right_child"):
                values = np.where(values >= 0, number[values], _NONE)
            elif name == "depth":
                values = values + tree.depth[leaf]
            pieces[0][leaf] = values[0]
            pieces.append(values[1:])
        n_nodes += len(subtree) - 1
    return TreeArrays(**{name: np.concatenate(pieces) for name, pieces in parts.items()})


def depth_first(tree: TreeArrays) -> TreeArrays:
    """Number the nodes as scikit-learn's depth-first growth does: a node, all below its left child, then its right."""
    order, waiting = [], [0]
    left, right = tree.left_child.tolist(), tree.right_child.tolist()
    while waiting:
        node = waiting.pop()
        order.append(node)
        if left[node] >= 0:
            waiting += (right[node], left[node])
    return tree.select(np.array(order))


def best_first(tree: TreeArrays, order: np.ndarray) -> TreeArrays:
    """Number the nodes as scikit-learn's best-first growth does: children get their numbers when a node is split."""
    children = np.column_stack([tree.left_child[order], tree.right_child[order]]).reshape(-1)
    return tree.select(np.concatenate([[0], children]).astype(np.int64))
