"""Labels of any dtype: which classes there are, how heavy they are, and the numbers that the kernels are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.errors import DataError

_SHOWN = 10
_NEAR = 1024  # whole numbers that lie no farther apart
_AT_ONCE = 8192  # rows


@dataclass(frozen=True)
class LabelSummary:
    """What a pass over some labels found.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), sorted
    weights : ndarray of shape (n_classes,), float64, sum of the rows' weights
    strange : ndarray of a few labels that are no classes, such as 0.5, else of shape (0,)
    """

    classes: np.ndarray
    weights: np.ndarray
    strange: np.ndarray

    def merge(self, other: LabelSummary) -> LabelSummary:
        """The summary of both sets of rows; one without rows says nothing about the dtype."""
        if not len(self.classes) and not len(self.strange):
            return other
        if not len(other.classes) and not len(other.strange):
            return self
        classes, place = _unique(np.concatenate([self.classes, other.classes]))
        weights = np.bincount(place, np.concatenate([self.weights, other.weights]), minlength=len(classes))
        strange = np.concatenate([self.strange, other.strange])[:_SHOWN] if len(other.strange) else self.strange
        return LabelSummary(classes, weights, strange)

    def over(self, classes: np.ndarray) -> LabelSummary:
        """The summary in terms of other classes, among which these must be.

        Raises
        ------
        DataError
            If they are not.
        """
        weights = np.zeros(len(classes))
        weights[Labels(classes).encode(self.classes)] = self.weights
        return LabelSummary(classes, weights, self.strange)


def refuse_strange(summary: LabelSummary) -> None:
    """Raise for labels that are no classes, in scikit-learn's words."""
    if not len(summary.strange):
        return
    from sklearn.utils.multiclass import check_classification_targets

    if np.isnan(summary.strange).any():
        raise DataError("Input y contains NaN.")
    if np.isinf(summary.strange).any():
        raise DataError("Input y contains infinity or a value too large for dtype('float64').")
    check_classification_targets(summary.strange)


def summarise_labels(y: Any, sample_weight: np.ndarray | None) -> LabelSummary:
    """Find the classes of one block; y : ndarray of shape (n_rows,) of any dtype."""
    y = flat(y)
    nothing = np.zeros(0)
    if y.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            strange = y[~(y == np.floor(y)) | np.isinf(y)][:_SHOWN]
        if len(strange):
            # as many values as rows, perhaps: not to be carried around
            return LabelSummary(y[:0], nothing, strange)
    if _are_near(y):
        return LabelSummary(*_weigh_near(y, sample_weight), y[:0])
    classes, place = _unique(y)
    return LabelSummary(classes, np.bincount(place, sample_weight, minlength=len(classes)).astype(float), y[:0])


def _are_near(labels: np.ndarray) -> bool:
    """Whether they are whole numbers close together, so that to count is faster than to sort."""
    return labels.dtype.kind in "iu" and labels.size > 0 and int(labels.max()) - int(labels.min()) < _NEAR


def _weigh_near(labels: np.ndarray, sample_weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The classes among such labels, and the weight of each; a part at a time, for which there is room in the cache."""
    low = labels.min()
    width = int(labels.max()) - int(low) + 1
    weights, counts = np.zeros(width), np.zeros(width, np.int64)
    for start in range(0, len(labels), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        part = labels[rows]
        wide = part if part.dtype.kind == "u" else part.astype(np.int64)  # differences of narrow numbers overflow
        offsets = (wide - wide.dtype.type(low)).astype(np.int64)
        counts += np.bincount(offsets, minlength=width)
        if sample_weight is not None:
            weights += np.bincount(offsets, sample_weight[rows], minlength=width)
    found = np.flatnonzero(counts)
    origin = np.uint64(low) if labels.dtype.kind == "u" else np.int64(low)
    classes = (found.astype(origin.dtype) + origin).astype(labels.dtype)
    return classes, (counts if sample_weight is None else weights)[found].astype(float)


def flat(y: Any) -> np.ndarray:
    """A column as a vector.

    Raises
    ------
    DataError
        For several columns, in scikit-learn's words.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise DataError(f"y should be a 1d array, got an array of shape {y.shape} instead. Give one target per row.")
    return y


def _unique(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes among some labels, sorted, and the number of each label's class."""
    try:
        classes, place = np.unique(labels, return_inverse=True)
    except TypeError:
        kinds = sorted({type(label).__name__ for label in labels.tolist()})
        raise DataError(
            f"y holds labels of several types: {', '.join(kinds)}. They must be uniformly strings or numbers. "
            "Convert y to one type."
        ) from None
    return classes, place.reshape(-1)


@dataclass(frozen=True)
class Labels:
    """The classes of a fit, and how they are shown to the kernels.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), sorted, at least two
    class_weight : ndarray of shape (n_classes,), float64, or None where all are 1
    """

    classes: np.ndarray
    class_weight: np.ndarray | None = None

    @property
    def n_outputs(self) -> int:
        """Rows of the coefficients: one for two classes, else one per class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Numbers of the classes, of shape (n_rows,), int64.

        Raises
        ------
        DataError
            For a label that is none of the classes.
        """
        y = flat(y)
        try:
            if len(self.classes) == 2:  # two looks are faster than a search
                second = np.asarray(y == self.classes[1])
                place, known = second.astype(np.int64), second | np.asarray(y == self.classes[0])
            else:
                place = np.searchsorted(self.classes, y)
                place[place == len(self.classes)] = 0
                known = np.asarray(self.classes[place] == y)
        except TypeError:
            known, place = np.zeros(len(y), bool), np.zeros(len(y), np.int64)
        if not known.all():
            unknown = list(dict.fromkeys(y[~known].tolist()))[:_SHOWN]
            raise DataError(
                f"y contains labels that are not among the classes: {unknown!r}. Known are {self.classes.tolist()!r}. "
                "Name all labels in `classes` at the first call of partial_fit."
            )
        return place

    def targets(self, y: np.ndarray) -> np.ndarray:
        """What the kernels learn, of shape (n_rows,), float64: -1 or 1 for two classes, else the class's number."""
        codes = self.encode(y).astype(np.float64)
        return 2.0 * codes - 1.0 if self.n_outputs == 1 else codes

    def weigh(self, targets: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
        """Weights of rows, of shape (n_rows,), float64, or (0,) where all are 1."""
        if self.class_weight is None:
            return np.empty(0) if sample_weight is None else sample_weight
        weights = self.class_weight[self.numbers(targets)]
        return weights if sample_weight is None else weights * sample_weight

    def mean_weight(self, summary: LabelSummary) -> float:
        """Mean of the class weights over the rows."""
        if self.class_weight is None or not summary.weights.sum() > 0:
            return 1.0
        return float(self.class_weight @ summary.over(self.classes).weights / summary.weights.sum())

    def numbers(self, targets: np.ndarray) -> np.ndarray:
        """The classes' numbers, of shape (n_rows,), int64."""
        return (targets > 0).astype(np.int64) if self.n_outputs == 1 else targets.astype(np.int64)

    def groups(self, targets: np.ndarray) -> tuple[np.ndarray, int]:
        """Group of each row, and how many there are: each should appear among the rows that are held out."""
        return self.numbers(targets), len(self.classes)

    def measure(self, targets: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Sums for `score`: weight of the rows that are predicted rightly, and of all.

        Parameters
        ----------
        scores : ndarray of shape (n_rows, n_outputs)
        weights : ndarray of shape (n_rows,)
        """
        found = (scores[:, 0] > 0).astype(np.int64) if self.n_outputs == 1 else scores.argmax(axis=1)
        return np.array([weights[found == self.numbers(targets)].sum(), weights.sum()])

    def score(self, sums: np.ndarray) -> float:
        """Accuracy, from the sums of `measure`."""
        return float(sums[0] / sums[1])


def balanced(summary: LabelSummary) -> np.ndarray:
    """Weights that give each class the same sum: of shape (n_classes,), float64; 1 where nothing is weighed up."""
    total = summary.weights.sum()
    known = summary.weights > 0
    return np.divide(total, len(summary.classes) * summary.weights, out=np.ones(len(known)), where=known)


def weigh_classes(class_weight: Any, summary: LabelSummary) -> np.ndarray | None:
    """Turn the parameter class_weight into one weight per class, or None where all are 1.

    Raises
    ------
    ValueError
        scikit-learn's own for a dict that names other classes.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        return balanced(summary)
    from sklearn.utils import compute_class_weight

    return compute_class_weight(class_weight, classes=summary.classes, y=summary.classes).astype(np.float64)
