"""Labels of classes in blocks: counted, and turned into numbers; small integers without sorting them."""

from __future__ import annotations

import numpy as np

from dparallel.estimators.sgd.classes import Labels, LabelSummary, flat, summarise_labels

_COUNTED_RANGE = 1 << 16  # integer labels of a smaller range are counted without sorting


def count_labels(y: np.ndarray) -> LabelSummary:
    """Find the classes of one block and count their rows; y : ndarray of shape (n_rows,) of any dtype."""
    y = flat(y)
    low = _counted_from(y)
    if low is None:
        return summarise_labels(y, None)
    counts = np.bincount(y.astype(np.int64) - low)
    classes = np.flatnonzero(counts)
    return LabelSummary((classes + low).astype(y.dtype), counts[classes].astype(float), y[:0])


def encode(classes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Numbers of labels among the classes, of shape (n_rows,), int64.

    Raises
    ------
    DataError
        For a label that is none of the classes.
    """
    y = flat(y)
    low = _counted_from(y)
    if low is None or classes.dtype.kind not in "biu":
        return Labels(classes).encode(y)
    codes = np.full(int(y.max()) - low + 1, -1)
    known = classes.astype(np.int64) - low
    within = (known >= 0) & (known < len(codes))
    codes[known[within]] = np.flatnonzero(within)
    found = codes[y.astype(np.int64) - low]
    return found if (found >= 0).all() else Labels(classes).encode(y)


def _counted_from(y: np.ndarray) -> int | None:
    """The lowest of integer labels that may be counted without sorting; None for other labels."""
    if y.dtype.kind not in "biu" or not len(y):
        return None
    low, high = int(y.min()), int(y.max())
    return low if high - low < _COUNTED_RANGE and high < 2**62 else None
