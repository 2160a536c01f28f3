"""Metrics of predicted probabilities: one pass, from which a small table of losses comes back.

Which column of the probabilities belongs to a label is known only once all labels are. So a block tells, for each label
that it holds and for each column, what the loss would be if that column were the label's: n_classes squared numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.metrics

from dparallel.blocks.dask_arrays import is_dask
from dparallel.blocks.reducing import reduce_rows
from dparallel.errors import DataError, warn
from dparallel.metrics.tallies import distinct, refuse_numbers, together, vector


@dataclass(frozen=True)
class LossTable:
    """Losses of some rows, by label and by the column that may be the label's.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), the labels that occur, sorted
    losses : ndarray of shape (n_classes, n_columns), float64, weighted sums
    weight : float, of all rows
    one_column : bool, whether the probabilities came as one column, that of the greater label
    sums_to_one : bool, whether the probabilities of each row do
    """

    classes: np.ndarray
    losses: np.ndarray
    weight: float
    one_column: bool
    sums_to_one: bool

    def merge(self, other: LossTable) -> LossTable:
        """The losses of both sets of rows."""
        classes, at = distinct(together(self.classes, other.classes))
        losses = np.zeros((len(classes), self.losses.shape[1]))
        np.add.at(losses, at, np.concatenate([self.losses, other.losses]))
        sums_to_one = self.sums_to_one and other.sums_to_one
        return LossTable(classes, losses, self.weight + other.weight, self.one_column, sums_to_one)

    def total(self, columns: np.ndarray) -> float:
        """The loss of all rows; columns : ndarray of shape (n_classes,), int, each label's column."""
        return float(self.losses[np.arange(len(self.classes)), columns].sum())


@dataclass(frozen=True)
class Tabulate:
    """The losses of one block.

    Parameters
    ----------
    loss : callable (p) -> losses, both ndarray of shape (n_rows, n_columns): for each row and column, what the row
        loses if the column is its label's
    """

    loss: Any

    def __call__(self, y_true: np.ndarray, y_proba: np.ndarray, sample_weight: np.ndarray | None = None) -> LossTable:
        truth = vector("y_true", y_true)
        refuse_numbers("y_true", truth)
        p = y_proba.astype(np.float32 if y_proba.dtype == np.float32 else np.float64, copy=False)
        p = p[:, None] if p.ndim == 1 else p
        _refuse_no_probabilities(p)
        one_column = p.shape[1] == 1
        if one_column:
            p = np.concatenate([1 - p, p], axis=1)
        weights = np.ones(len(p)) if sample_weight is None else sample_weight
        classes, at = distinct(truth)
        losses = self.loss(p)
        table = np.stack([np.bincount(at, weights * column, minlength=len(classes)) for column in losses.T], axis=1)
        return LossTable(classes, table, float(weights.sum()), one_column, one_column or _sum_to_one(p))


def _sum_to_one(p: np.ndarray) -> bool:
    """Whether the probabilities of each row do, up to rounding."""
    return bool(np.isclose(p.sum(axis=1), 1, rtol=np.sqrt(np.finfo(p.dtype.char).eps), atol=0).all())


def logarithm(p: np.ndarray) -> np.ndarray:
    """Minus the logarithm of each probability, moved from 0 and 1 by the dtype's epsilon as scikit-learn does."""
    epsilon = float(np.finfo(p.dtype.char).eps)
    return -np.log(np.clip(p, epsilon, 1 - epsilon))


def squares(p: np.ndarray) -> np.ndarray:
    """Squared distance of each row from the corner of each column."""
    # 1 - 2 p + |p|^2 would lose what is small
    others = [np.delete(p, column, axis=1) for column in range(p.shape[1])]
    return np.stack([(1 - p[:, c]) ** 2 + (rest**2).sum(axis=1) for c, rest in enumerate(others)], axis=1)


def _refuse_no_probabilities(p: np.ndarray) -> None:
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(
            f"y_proba contains values that are no probabilities: from {p.min()} to {p.max()}, and 0 to 1 is needed. "
            "Give what predict_proba returns."
        )


def log_loss(y_true, y_proba, *, normalize=True, sample_weight=None, labels=None):
    """Mean of minus the logarithm of the probability of each row's label; as sklearn.metrics.log_loss.

    Parameters
    ----------
    y_true : Dask array or series, or array-like, of shape (n_rows,), labels of any dtype
    y_proba : Dask array or dataframe, or array-like, of shape (n_rows, n_classes), columns in the order of the sorted
        labels; or of shape (n_rows,), of the greater of two labels
    normalize : bool, default=True; False for the sum instead of the mean
    sample_weight : Dask array or series, or array-like, of shape (n_rows,), or None
    labels : array-like of shape (n_classes,), or None for those that occur

    Returns
    -------
    loss : float, computed at once, where the rows are

    Raises
    ------
    AlignmentError
        If the three cannot be paired row by row.
    DataError
        If the number of labels is not that of the columns, and for values that are no probabilities.

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel.metrics import log_loss
    >>> y = da.from_array(["ham", "spam", "spam", "ham"], chunks=2)
    >>> p = da.from_array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.65, 0.35]], chunks=(2, 2))
    >>> round(log_loss(y, p), 6)
    0.216162
    """
    if not any(map(is_dask, (y_true, y_proba, sample_weight))):
        given = {"normalize": normalize, "sample_weight": sample_weight, "labels": labels}
        return sklearn.metrics.log_loss(y_true, y_proba, **given)
    table = _table(y_true, y_proba, sample_weight, logarithm)
    _warn_if_far(table)
    total = table.total(_columns(table, labels))
    return total / table.weight if normalize else total


def brier_score_loss(y_true, y_proba, *, sample_weight=None, pos_label=None, labels=None, scale_by_half="auto"):
    """Mean squared distance of the probabilities from 0 and 1; as sklearn.metrics.brier_score_loss.

    Parameters
    ----------
    pos_label : label, or None; the one whose probability y_proba of shape (n_rows,) is: None for 1, or the greater
    scale_by_half : bool or "auto", default="auto"; whether to halve, "auto" for two classes only

    See Also
    --------
    log_loss : the other parameters, and the errors
    """
    if not any(map(is_dask, (y_true, y_proba, sample_weight))):
        given = {"sample_weight": sample_weight, "pos_label": pos_label, "labels": labels}
        return sklearn.metrics.brier_score_loss(y_true, y_proba, scale_by_half=scale_by_half, **given)
    table = _table(y_true, y_proba, sample_weight, squares)
    if table.one_column:
        columns = (table.classes == _positive(table.classes, pos_label)).astype(np.int64)
    else:
        _warn_if_far(table)
        columns = _columns(table, labels)
    half = table.losses.shape[1] < 3 if scale_by_half == "auto" else scale_by_half
    return table.total(columns) / table.weight * (0.5 if half else 1.0)


def _table(y_true, y_proba, sample_weight, loss):
    columns = {"y_true": y_true, "y_proba": y_proba, "sample_weight": sample_weight}
    return reduce_rows(columns, Tabulate(loss), LossTable.merge)


def _warn_if_far(table: LossTable) -> None:
    if not table.sums_to_one:
        warn("The y_prob values do not sum to one. Make sure to pass probabilities.", UserWarning)


def _columns(table: LossTable, labels: Any) -> np.ndarray:
    """The column of each label that occurs."""
    known = table.classes if labels is None else np.unique(np.asarray(labels))
    strange = table.classes[~np.isin(table.classes, known)]
    if len(strange):
        raise DataError(f"y_true contains values {set(strange.tolist())} not belonging to the passed labels {labels}.")
    n_columns = table.losses.shape[1]
    if len(known) != n_columns:
        raise DataError(
            f"y_true and y_proba contain different number of classes: {len(known)} vs {n_columns}. Classes found: "
            f"{known.tolist()}. Give the label of each column through the labels argument."
        )
    return np.searchsorted(known, table.classes)


def _positive(classes: np.ndarray, pos_label: Any) -> Any:
    """The label whose probability is given in one column."""
    if len(classes) > 2:
        raise DataError(
            f"y_true holds {len(classes)} labels, and one column of probabilities tells of two. Give a column for each."
        )
    if pos_label is not None:
        return pos_label
    if classes.dtype.kind in "OUS":
        raise DataError(f"y_true holds {classes.tolist()}, and pos_label is None. Say which label y_proba is of.")
    return 1 if set(classes.tolist()) in ({0, 1}, {-1, 1}, {0}, {-1}, {1}) else classes[-1]
