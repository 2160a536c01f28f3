"""cross_val_score and cross_validate: scikit-learn's, for Dask data of any kind."""

from __future__ import annotations

import numpy as np
import sklearn.model_selection

from dparallel.blocks.dask_arrays import is_dask
from dparallel.model_selection.rows import prepare
from dparallel.model_selection.search import resolve_scoring


def cross_validate(
    estimator,
    X,
    y=None,
    *,
    groups=None,
    scoring=None,
    cv=None,
    n_jobs=None,
    verbose=0,
    params=None,
    pre_dispatch="2*n_jobs",
    return_train_score=False,
    return_estimator=False,
    error_score=np.nan,
):
    """Fit on each training set and score on the test set; as sklearn.model_selection.cross_validate.

    Parameters
    ----------
    estimator : with fit and score, or what scoring asks for
    X : Dask array or dataframe of shape (n_rows, n_features), blocks of any lengths, known or not; or array-like
    y, groups : Dask array or series, or array-like, of shape (n_rows,), or None
    scoring, cv : as in GridSearchCV
    params : dict of arguments of fit, such as sample_weight, or None; Dask collections and sample_weight are cut like X
    n_jobs, verbose, pre_dispatch, return_train_score, return_estimator, error_score
        As in scikit-learn.

    Returns
    -------
    results : dict of str to ndarray of shape (n_splits,)

    Raises
    ------
    AlignmentError
        If what belongs to the rows cannot be paired with X.
    """
    options = {
        "n_jobs": n_jobs,
        "verbose": verbose,
        "pre_dispatch": pre_dispatch,
        "return_train_score": return_train_score,
        "return_estimator": return_estimator,
        "error_score": error_score,
    }
    validate = sklearn.model_selection.cross_validate
    if not is_dask(X):
        return validate(estimator, X, y, groups=groups, scoring=scoring, cv=cv, params=params, **options)
    with prepare(estimator, X, y, dict(params or {}), groups, cv) as data:
        scorers = resolve_scoring(scoring)
        return validate(estimator, data.X, data.y, scoring=scorers, cv=data.folds, params=data.params, **options)


def cross_val_score(
    estimator,
    X,
    y=None,
    *,
    groups=None,
    scoring=None,
    cv=None,
    n_jobs=None,
    verbose=0,
    params=None,
    pre_dispatch="2*n_jobs",
    error_score=np.nan,
):
    """Score on each test set what was fitted on its training set; as sklearn.model_selection.cross_val_score.

    Parameters
    ----------
    scoring : str, callable or None; as in GridSearchCV

    Returns
    -------
    scores : ndarray of shape (n_splits,), float64

    See Also
    --------
    cross_validate : the other parameters, and the errors

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel import ParallelKMeans
    >>> from dparallel.model_selection import cross_val_score
    >>> X = da.random.default_rng(0).normal(size=(300, 2), chunks=(100, 2))
    >>> cross_val_score(ParallelKMeans(n_clusters=2, random_state=0), X, cv=3).shape
    (3,)
    """
    if scoring is not None and not isinstance(scoring, str) and not callable(scoring):
        raise ValueError(f"cross_val_score computes one score, and scoring is {scoring!r}. Use cross_validate.")
    found = cross_validate(
        estimator,
        X,
        y,
        groups=groups,
        scoring=scoring,
        cv=cv,
        n_jobs=n_jobs,
        verbose=verbose,
        params=params,
        pre_dispatch=pre_dispatch,
        error_score=error_score,
    )
    return found["test_score"]
