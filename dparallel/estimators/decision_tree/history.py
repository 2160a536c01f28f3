"""What a fit tells about itself: a record per level of the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dparallel.estimators.decision_tree.tree import TreeArrays
from dparallel.records import RoundRecord, add_seconds


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
    n_rounds : int, more than 1 where its histograms did not fit into memory at once. The levels of nodes that were
        finished together share one round: the first of these levels has it, with its seconds and bytes.
    """

    unit: ClassVar[str] = "level"

    n_splits: int
    n_rounds: int


def by_level(
    history: Sequence[RoundRecord], frontier: Any, tree: TreeArrays, finish: tuple[float, int] = (0.0, 0)
) -> list[LevelRecord]:
    """Put the records of rounds together, a record per level of the tree.

    Parameters
    ----------
    history : records of the rounds of growth
    frontier : Frontier, the last one
    tree : TreeArrays, its first nodes being the frontier's
    finish : seconds and bytes of the round in which small nodes were finished; the first of its levels gets them
    """
    level = np.where(tree.left_child >= 0, tree.depth, -1)
    if frontier.order is not None:
        level[: len(frontier.nodes)] = np.where(level >= 0, frontier.nodes.split_level, -1)
    rounds, impurity = np.array(frontier.levels, int), float(tree.impurity[0])
    records = []
    for number in range(max(level.max(initial=0), rounds.max(initial=0)) + 1):
        own = [record for record, here in zip(history, rounds) if here == number]
        seconds, moved = (sum(r.seconds for r in own), sum(r.bytes_moved for r in own)) if own else finish
        n_rounds = len(own) or int(seconds > 0)
        finish = finish if own else (0.0, 0)
        change = float(tree.improvement[level == number].sum())
        impurity -= change
        n_splits = int((level == number).sum())
        workers = add_seconds(r.seconds_by_worker for r in own)
        records.append(
            LevelRecord(number + 1, impurity, change, seconds, moved, n_splits, n_rounds, seconds_by_worker=workers)
        )
    return records
