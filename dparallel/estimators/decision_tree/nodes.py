"""The nodes of a growing tree, as the driver knows them: one array per property, one entry per node."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

# what a node is
OPEN, READY, SPLIT, LEAF, PARKED = range(5)  # waits for its histogram; has a split; is split; is none; finished later


@dataclass(frozen=True)
class Nodes:
    """Nodes in the order in which they were made; a node's number is its place here.

    Parameters
    ----------
    status : uint8, OPEN, READY, SPLIT, LEAF or PARKED
    depth : int32, 0 for the root; split_level : int32, number of the step that split a node, -1 where none did
    left_child, right_child : int32, -1 where there is none
    key : uint64, from which the features that a node looks at are drawn
    statistics : int64 of shape (n_nodes, n_statistics), see kernels.histogram
    rows : int64; weight, impurity : float64, in the data's units
    lower, upper : float64, bounds of the values below a node, where there are monotonic constraints
    feature : int32, -1 where no split was found; threshold : float64; missing_left : bool
    left : uint64 of shape (n_nodes, 4), codes that go left as bits
    left_statistics : int64 of shape (n_nodes, n_statistics); improvement, middle : float64; see kernels.splits.Splits
    """

    status: np.ndarray
    depth: np.ndarray
    split_level: np.ndarray
    left_child: np.ndarray
    right_child: np.ndarray
    key: np.ndarray
    statistics: np.ndarray
    rows: np.ndarray
    weight: np.ndarray
    impurity: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    left_statistics: np.ndarray
    improvement: np.ndarray
    middle: np.ndarray

    @classmethod
    def blank(cls, n_nodes: int, n_statistics: int) -> Nodes:
        """New nodes that nothing is known of."""
        integers, floats = np.full(n_nodes, -1, np.int32), np.full(n_nodes, np.nan)
        table = np.zeros((n_nodes, n_statistics), np.int64)
        return cls(
            status=np.full(n_nodes, OPEN, np.uint8),
            depth=np.zeros(n_nodes, np.int32),
            split_level=integers.copy(),
            left_child=integers,
            right_child=integers.copy(),
            key=np.zeros(n_nodes, np.uint64),
            statistics=table,
            rows=np.zeros(n_nodes, np.int64),
            weight=floats,
            impurity=floats.copy(),
            lower=np.full(n_nodes, -np.inf),
            upper=np.full(n_nodes, np.inf),
            feature=integers.copy(),
            threshold=floats.copy(),
            missing_left=np.zeros(n_nodes, bool),
            left=np.zeros((n_nodes, 4), np.uint64),
            left_statistics=table.copy(),
            improvement=np.zeros(n_nodes),
            middle=floats.copy(),
        )

    def __len__(self) -> int:
        return len(self.status)

    def append(self, other: Nodes) -> Nodes:
        """These nodes and then others."""
        return Nodes(
            *(np.concatenate([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self))
        )

    def put(self, at: np.ndarray, **values: Any) -> Nodes:
        """These nodes with some properties of those at `at` replaced."""
        changed = {name: getattr(self, name).copy() for name in values}
        for name, value in values.items():
            changed[name][at] = value
        return replace(self, **changed)

    def children(self, parents: np.ndarray) -> np.ndarray:
        """Numbers of the children of some nodes, left and right in turn."""
        return np.column_stack([self.left_child[parents], self.right_child[parents]]).reshape(-1)
