"""What a worker keeps of a shard while a tree grows: codes, targets, and the rows in the order of the tree's nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.estimators.decision_tree.rows import dense_pieces, used
from dparallel.estimators.decision_tree.targets import Coded

SCRATCH_BYTES_PER_ROW = 32  # beside a byte per column: target, weight, moment, and place in the order


@dataclass(frozen=True)
class Coding:
    """How blocks become codes; travels.

    Parameters
    ----------
    bins : kernels.binning.Bins
    targets : ClassTargets or NumberTargets
    """

    bins: Any
    targets: Any


@dataclass(frozen=True)
class Step:
    """Splits of some nodes, and the nodes that are live afterwards.

    A node is live while a worker keeps its rows together: it is split, or looked at, or finished later. Live nodes have
    places, from 0. After a step these are the places of those that were not split, in their order, and then the
    children of those that were, left and right in turn; of all these the step keeps some.

    Parameters
    ----------
    places : ndarray of shape (n_splits,), int32, ascending, the nodes that are split
    feature : ndarray of shape (n_splits,), int32
    left : ndarray of shape (n_splits, 4), uint64, codes that go left as bits
    keep : ndarray of shape (n_kept,), int32, ascending
    """

    places: np.ndarray
    feature: np.ndarray
    left: np.ndarray
    keep: np.ndarray


@dataclass
class HeldRows:
    """The rows of a shard that take part.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_features), uint8
    coded : Coded
    order : ndarray of int32, rows grouped by live node
    first, last : ndarray of shape (n_live,), int64; the rows of live node i are order[first[i]:last[i]], in the order
        of the data
    n_steps : int, steps that were taken
    low, high : ndarray of shape (n_slots,), float32, extreme values of each bin in the shard
    fresh : tuple of first and last of the children of the last step, the root's before the first
    """

    codes: np.ndarray
    coded: Coded
    order: np.ndarray
    first: np.ndarray
    last: np.ndarray
    n_steps: int
    low: np.ndarray
    high: np.ndarray
    fresh: tuple[np.ndarray, np.ndarray]

    def take(self, steps: Sequence[Step]) -> None:
        """Take the steps that were not taken yet, of all steps so far."""
        for step in steps[self.n_steps :]:
            first, last = self.first[step.places], self.last[step.places]
            counts = kernels.histogram.partition(self.codes, self.order, first, last, step.feature, step.left)
            middle = first + counts
            self.fresh = _in_turn(first, middle), _in_turn(middle, last)
            self.first = np.concatenate([np.delete(self.first, step.places), self.fresh[0]])[step.keep]
            self.last = np.concatenate([np.delete(self.last, step.places), self.fresh[1]])[step.keep]
            self.n_steps += 1


def _in_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.column_stack([a, b]).reshape(-1)


def hold(shard: Shard, coding: Coding) -> HeldRows:
    """Code all rows of a shard, in one pass."""
    coder = kernels.binning.Coder(coding.bins)
    n_features = len(coding.bins.n_values)
    n_expected = shard.n_rows
    codes = None if n_expected is None else np.empty((n_expected, n_features), np.uint8)
    pieces: list[np.ndarray] = []
    parts: list[Coded] = []
    n_rows = 0
    for block in shard.blocks:
        rows = used(block)
        own = np.empty((rows.n_rows, n_features), np.uint8) if codes is None else codes[n_rows : n_rows + rows.n_rows]
        _code(coder, rows, own)
        if codes is None:
            pieces.append(own)
        parts.append(coding.targets.code(rows.y, rows.sample_weight))
        n_rows += rows.n_rows
    codes = np.concatenate(pieces) if codes is None else codes[:n_rows]
    coded = Coded.joined(parts)
    weight = coded.rows.weight
    order = kernels.histogram.all_rows(n_rows if not weight.size or weight.all() else weight != 0)
    root = np.zeros(1, np.int64), np.full(1, len(order))
    return HeldRows(codes, coded, order, *root, 0, coder.low, coder.high, root)


def _code(coder: Any, rows: Block, codes: np.ndarray) -> None:
    for start, X in dense_pieces(rows.X):
        coder.code(X, codes[start : start + X.shape[0]])
