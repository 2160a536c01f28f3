"""How many rows of each class there are in each block: what stratified and grouped splits are made of."""

from __future__ import annotations

from dataclasses import dataclass
from operator import add
from typing import Any

import dask.array as da
import numpy as np

from dparallel import kernels
from dparallel.blocks.reducing import reduce_rows
from dparallel.metrics.tallies import distinct, refuse_numbers, vector
from dparallel.model_selection.rules import ClassPlaces


@dataclass(frozen=True)
class Strata:
    """The classes, or groups, of all rows.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), sorted
    order : ndarray of shape (n_classes,), int64: the classes' numbers in the order in which they first appear
    counts : ndarray of shape (n_blocks, n_classes), int64
    present : list of ndarray, the classes of each block, sorted
    """

    classes: np.ndarray
    order: np.ndarray
    counts: np.ndarray
    present: list[np.ndarray]

    @property
    def totals(self) -> np.ndarray:
        """Rows of each class: ndarray of shape (n_classes,), int64."""
        return self.counts.sum(axis=0)

    def folds(self, n_splits: int) -> np.ndarray:
        """Where folds end among the rows of each class, as scikit-learn's StratifiedKFold shares them out.

        Returns
        -------
        edges : ndarray of shape (n_splits + 1, n_classes), int64

        Notes
        -----
        Rows sorted by class, in the order of first appearance, are dealt to the folds one by one.
        """
        ends = np.cumsum(self.totals[self.order])
        starts = np.concatenate([[0], ends[:-1]])
        fold = np.arange(n_splits)[:, None]
        dealt = (ends - 1 - fold) // n_splits - (starts - 1 - fold) // n_splits
        edges = np.zeros((n_splits + 1, len(self.classes)), np.int64)
        edges[1:, self.order] = np.cumsum(dealt, axis=0)
        return edges

    def keys(self, seed: int | None) -> list[np.uint64] | None:
        """Keys of the classes' permutations, None for none."""
        return None if seed is None else [kernels.draws.key(seed, "stratum", c) for c in range(len(self.classes))]

    def rules(self, low: np.ndarray, high: np.ndarray, keys: Any, inverted: bool) -> list[ClassPlaces]:
        """The rule of each block for the rows from place low to high of each class; of shape (n_classes,)."""
        before = np.cumsum(self.counts, axis=0) - self.counts
        rules = []
        for block, classes in enumerate(self.present):
            at = np.searchsorted(self.classes, classes)
            own = None if keys is None else [keys[c] for c in at]
            edges = self.counts[block, at], before[block, at], self.totals[at], low[at], high[at]
            rules.append(ClassPlaces(classes, *edges, own, inverted))
        return rules


def find_strata(values: da.Array) -> Strata:
    """Count the rows of each class in each block, in one pass.

    Parameters
    ----------
    values : dask.array.Array of shape (n_rows,), labels of any dtype

    Raises
    ------
    DataError
        For several columns, numbers that are no labels, and labels of several types.
    """
    found = reduce_rows({"y": values, "block": _numbers_beside(values)}, _count_classes, add)
    classes, at = distinct(np.concatenate([own for _, own, _, _ in found]))
    counts = np.zeros((values.numblocks[0], len(classes)), np.int64)
    present = [classes[:0]] * values.numblocks[0]
    seen: dict[int, None] = {}
    start = 0
    for block, own, sizes, order in found:
        numbers = at[start : start + len(own)]
        start += len(own)
        counts[block, numbers] = sizes
        present[block] = own
        seen |= dict.fromkeys(numbers[order].tolist())
    return Strata(classes, np.array(list(seen), np.int64), counts, present)


def _numbers_beside(values: da.Array) -> da.Array:
    """The number of each row's block: blocks without rows tell nothing, so the others have to say which they are."""
    return values.map_blocks(_fill, dtype=np.int64, meta=np.empty(0, np.int64), drop_axis=list(range(1, values.ndim)))


def _fill(block: Any, block_info: Any = None) -> np.ndarray:
    return np.full(block.shape[0], block_info[0]["chunk-location"][0])


def _count_classes(y: np.ndarray, block: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Number, classes, their rows, and their numbers in the order of appearance: of one block."""
    labels = vector("y", y)
    refuse_numbers("y", labels)
    classes, at = distinct(labels)
    first = np.full(len(classes), len(labels))
    np.minimum.at(first, at, np.arange(len(labels)))
    return [(int(block[0]), classes, np.bincount(at, minlength=len(classes)), np.argsort(first))]


def largest_remainders(totals: np.ndarray, n_draws: int) -> np.ndarray:
    """Share n_draws rows out to classes in proportion to their sizes: ndarray of shape (n_classes,), int64."""
    sizes = np.asarray(totals, np.float64)
    exact = sizes / sizes.sum() * n_draws
    shares = np.floor(exact).astype(np.int64)
    missing = n_draws - shares.sum()
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    return shares
