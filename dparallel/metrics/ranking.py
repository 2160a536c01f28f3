"""Metrics of scores by which rows are ranked: exact, ties and weights included.

Each block sends its distinct pairs of label and score with the sum of their weights, 24 bytes each, to a worker that
brings together what is the same; the last of these computes the metric, and the client receives one number. So one
worker holds 24 bytes for each distinct pair of all blocks: few for a tree, whose rows share the scores of its leaves,
and one per row where all scores differ. With more than two classes it holds all rows of scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.metrics

from dparallel.blocks.dask_arrays import is_dask
from dparallel.blocks.reducing import reduce_rows
from dparallel.metrics.tallies import Tally, tally_scores


@dataclass(frozen=True)
class _Finish:
    """Computes a metric of scikit-learn on the worker that holds the whole tally."""

    name: str
    options: dict[str, Any]

    def __call__(self, tally: Tally) -> Any:
        counted = tally.weighted or tally.found.ndim == 1
        options = self.options | ({"sample_weight": tally.weights} if counted else {})
        return getattr(sklearn.metrics, self.name)(tally.truth, tally.found, **options)


def _of_scores(name, y_true, y_score, sample_weight, **options):
    if not any(map(is_dask, (y_true, y_score, sample_weight))):
        return getattr(sklearn.metrics, name)(y_true, y_score, sample_weight=sample_weight, **options)
    columns = {"y_true": y_true, "y_score": y_score, "sample_weight": sample_weight}
    found = reduce_rows(columns, tally_scores, Tally.merge, _Finish(name, options))
    return float(found) if np.ndim(found) == 0 else found


def roc_auc_score(
    y_true, y_score, *, average="macro", sample_weight=None, max_fpr=None, multi_class="raise", labels=None
):
    """Area under the curve of true over false positives; as sklearn.metrics.roc_auc_score.

    Parameters
    ----------
    y_true : Dask array or series, or array-like, of shape (n_rows,), labels of any dtype
    y_score : Dask array, series or dataframe, or array-like, of shape (n_rows,) for two classes, the scores of the
        greater label; else (n_rows, n_classes)
    average : {"micro", "macro", "weighted"} or None, default="macro"; for more than two classes
    sample_weight : Dask array or series, or array-like, of shape (n_rows,), or None; not for multi_class="ovo"
    max_fpr : float in (0, 1], or None; for two classes, the largest share of false positives that counts
    multi_class : {"raise", "ovr", "ovo"}, default="raise"; each class against the rest, or each pair
    labels : array-like of shape (n_classes,), sorted, or None for those that occur; for more than two classes

    Returns
    -------
    score : float, or ndarray of shape (n_classes,) for multi_class="ovr" and average=None

    Raises
    ------
    AlignmentError
        If the three cannot be paired row by row.
    DataError
        For scores that are not finite, negative weights, or no rows at all.
    ValueError
        scikit-learn's own, for instance for three classes and multi_class="raise".

    Notes
    -----
    Exact. The module says what crosses the network: distinct pairs of label and score, between workers.

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel.metrics import roc_auc_score
    >>> roc_auc_score(da.from_array([0, 0, 1, 1], chunks=2), da.from_array([0.1, 0.4, 0.35, 0.8], chunks=2))
    0.75
    """
    given = {"average": average, "max_fpr": max_fpr, "multi_class": multi_class, "labels": labels}
    return _of_scores("roc_auc_score", y_true, y_score, sample_weight, **given)


def average_precision_score(y_true, y_score, *, average="macro", pos_label=1, sample_weight=None):
    """Precision averaged over the steps of recall; as sklearn.metrics.average_precision_score.

    Parameters
    ----------
    y_score : Dask array or series, or array-like, of shape (n_rows,) for two classes; else (n_rows, n_classes)
    pos_label : label, default=1; of two classes the one that the scores rank

    See Also
    --------
    roc_auc_score : the other parameters, the errors, and what crosses the network
    """
    options = {"average": average, "pos_label": pos_label}
    return _of_scores("average_precision_score", y_true, y_score, sample_weight, **options)
