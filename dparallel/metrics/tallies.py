"""Distinct rows and the sum of their weights: all that a metric needs to know of labels and scores.

A metric counts a row of weight 2 as two rows, so rows that are the same may be one row with the sum of their weights.
What is left is handed to scikit-learn's own function, which then decides about averages, missing classes and warnings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.errors import DataError

_TABLE_ROWS = 4096  # integers in a range of fewer are counted in a table


@dataclass(frozen=True)
class Tally:
    """Distinct pairs of a label and a prediction.

    Parameters
    ----------
    truth : ndarray of shape (n_pairs,), the labels
    found : ndarray of shape (n_pairs,), labels or scores, or (n_pairs, n_classes), scores
    weights : ndarray of shape (n_pairs,), float64 sums of weights, or int64 numbers of rows
    weighted : bool, whether rows have weights
    """

    truth: np.ndarray
    found: np.ndarray
    weights: np.ndarray
    weighted: bool

    def merge(self, other: Tally) -> Tally:
        """The tally of both sets of rows."""
        truth = together(self.truth, other.truth)
        found = together(self.found, other.found)
        return count(truth, found, np.concatenate([self.weights, other.weights]), self.weighted)


def tally_labels(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Tally:
    """Count the pairs of one block; all arrays of shape (n_rows,), labels of any dtype.

    Raises
    ------
    DataError
        For several columns, for numbers that are no labels, and for labels of several types.
    """
    truth, found = vector("y_true", y_true), vector("y_pred", y_pred)
    for name, labels in (("y_true", truth), ("y_pred", found)):
        refuse_numbers(name, labels)
    refuse_mixture(truth, found)
    return _first_count(truth, found, sample_weight)


def tally_scores(y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None = None) -> Tally:
    """Count the distinct rows of labels and scores of one block.

    Parameters
    ----------
    y_true : ndarray of shape (n_rows,)
    y_score : ndarray of shape (n_rows,), counted where it repeats; or (n_rows, n_classes), kept as it is
    """
    truth = vector("y_true", y_true)
    refuse_numbers("y_true", truth)
    y_score = y_score[:, 0] if y_score.ndim == 2 and y_score.shape[1] == 1 else y_score
    if not np.isfinite(y_score).all():
        raise DataError("Input y_score contains NaN or infinity. Scores are finite numbers.")
    return _first_count(truth, y_score, sample_weight)


def _first_count(truth: np.ndarray, found: np.ndarray, sample_weight: np.ndarray | None) -> Tally:
    weights = np.ones(len(truth), np.int64) if sample_weight is None else sample_weight
    return count(truth, found, weights, sample_weight is not None)


def count(truth: np.ndarray, found: np.ndarray, weights: np.ndarray, weighted: bool) -> Tally:
    """Bring rows together that are the same; rows of several scores stay as they are."""
    if found.ndim == 2:
        return Tally(truth, found, weights, weighted)
    classes, truth_at = distinct(truth)
    values, found_at = distinct(found)
    pairs, at = distinct(truth_at * len(values) + found_at)
    sums = np.bincount(at, weights, minlength=len(pairs))
    return Tally(
        classes[pairs // len(values)],
        values[pairs % len(values)],
        sums if weighted else sums.astype(np.int64),
        weighted,
    )


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted distinct values, and the number of each row's among them.

    Raises
    ------
    DataError
        If they cannot be sorted, being of several types.
    """
    if values.dtype.kind in "biu" and len(values):
        wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64)
        low = wide.min()
        if int(wide.max()) - int(low) < _TABLE_ROWS:  # to count is faster than to sort
            places = (wide - low).astype(np.int64)
            counts = np.bincount(places)
            found = (np.flatnonzero(counts).astype(wide.dtype) + low).astype(values.dtype)
            return found, (np.cumsum(counts > 0) - 1)[places]
    try:
        found, at = np.unique(values, return_inverse=True)
    except TypeError:
        kinds = sorted({type(value).__name__ for value in values.tolist()})
        raise DataError(
            f"Labels are of several types: {', '.join(kinds)}. They must be all strings or all numbers. "
            "Convert them to one type."
        ) from None
    return found, at.reshape(-1)


def together(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two blocks' labels as one array; strings and numbers do not become strings."""
    refuse_mixture(first, second)
    return np.concatenate([first, second])


def vector(name: str, values: np.ndarray) -> np.ndarray:
    """A column as a vector.

    Raises
    ------
    DataError
        For several columns.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"{name} should be a 1d array, got an array of shape {values.shape} instead. dparallel's metrics read one "
            "label per row. For several labels per row call the metric for each column."
        )
    return values


def refuse_numbers(name: str, labels: np.ndarray) -> None:
    """Raise DataError for numbers that are no labels: each row would be a class of its own."""
    if labels.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        strange = labels[~(labels == np.floor(labels)) | np.isinf(labels)]
    if len(strange):
        raise DataError(
            f"continuous is not supported: {name} holds {strange[0]}, and classes are whole numbers, strings or "
            "booleans. Use a metric of regression, or turn the scores into classes first."
        )


def refuse_mixture(first: np.ndarray, second: np.ndarray) -> None:
    """Raise DataError if one array holds strings and the other numbers."""
    if len(first) and len(second) and _holds_strings(first) != _holds_strings(second):
        raise DataError(
            "Mix of label input types (string and number): one of y_true and y_pred holds strings, the other numbers. "
            "Convert one of them."
        )


def _holds_strings(labels: Any) -> bool:
    return labels.dtype.kind in "USTO" and isinstance(labels.flat[0], (str, bytes))
