"""What a fit tells about itself: a record per level of the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.estimators.decision_tree.nodes import SPLIT
from dparallel.records import RoundRecord


@dataclass(frozen=True, slots=True)
class LevelRecord(RoundRecord):
    """What was done for one level of a tree, or one batch of best-first growth.

    Parameters
    ----------
    round : int, number of the level, counted from 1
    objective : float, impurity of the leaves after its splits, weighted by their share of the rows
    change : float, by how much its splits made that smaller
    seconds : float; bytes_moved : int, of all its rounds together
    n_splits : int, nodes of the level that were split
    n_rounds : int, more than 1 where its histograms did not fit into memory at once

    The last record is that of the nodes that were finished exactly, where there are such.
    """

    n_splits: int
    n_rounds: int


def of_finish(history: Sequence[LevelRecord], subtrees: Any, seconds: float, bytes_moved: int) -> LevelRecord:
    """The record of the round in which small nodes were finished; subtrees : TreeArrays of each."""
    change = float(sum(tree.improvement.sum() for tree in subtrees))
    n_splits = sum(int((tree.left_child >= 0).sum()) for tree in subtrees)
    last = history[-1]
    objective = None if last.objective is None else last.objective - change
    return LevelRecord(last.round + 1, objective, change, seconds, bytes_moved, n_splits, 1)


def by_level(history: Sequence[RoundRecord], frontier: Any) -> list[LevelRecord]:
    """Put the records of rounds together; frontier : Frontier, the last one."""
    nodes, levels = frontier.nodes, np.array(frontier.levels)
    split = nodes.status == SPLIT
    if frontier.order is not None:
        split = np.isin(np.arange(len(nodes)), frontier.order)
    impurity = float(nodes.impurity[0])
    records = []
    for level in range(int(levels.max(initial=0)) + 1):
        own = [record for record, number in zip(history, levels) if number == level]
        here = split & (nodes.split_level == level)
        change = float(nodes.improvement[here].sum())
        impurity -= change
        records.append(
            LevelRecord(
                level + 1,
                impurity,
                change,
                sum(record.seconds for record in own),
                sum(record.bytes_moved for record in own),
                int(here.sum()),
                len(own),
            )
        )
    return records
