"""GridSearchCV and RandomizedSearchCV: scikit-learn's, for Dask data of any kind."""

from __future__ import annotations

import time
from typing import Any

import sklearn.model_selection
from sklearn.base import BaseEstimator, clone

from dparallel.blocks.dask_arrays import is_dask
from dparallel.compat import searching
from dparallel.metrics.scorers import get_scorer
from dparallel.model_selection.rows import Data, prepare


class _SearchesBlocks(BaseEstimator):
    """Mixin to the left of a search of scikit-learn's, which does all but to hold, cut and score Dask data."""

    def fit(self, X, y=None, **params):
        """Fit every candidate on every training set, score it on the test set, and fit the best on all rows.

        Parameters
        ----------
        X : Dask array or dataframe of shape (n_rows, n_features), blocks of any lengths, known or not; or array-like
        y : Dask array or series, or array-like, of shape (n_rows,) or (n_rows, n_outputs), or None
        **params : arguments of the estimator's fit, the scorer and the splitter, such as sample_weight and groups; Dask
            collections, sample_weight and groups are cut like X

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            If what belongs to the rows cannot be paired with X.
        DataError
            If scoring names no scorer, or folds cannot be made.
        """
        if not is_dask(X):
            return super().fit(X, y, **params)
        scoring = resolve_scoring(self.scoring)
        searching.check_refit(self, scoring)
        groups = params.pop("groups", None)
        with prepare(self.estimator, X, y, params, groups, self.cv) as data:
            inner = clone(self).set_params(scoring=scoring, cv=data.folds, refit=False)
            super(_SearchesBlocks, inner).fit(data.X, data.y, **data.params)
            self._publish(inner)
            if self.refit:
                self._refit(data)
        return self

    def _publish(self, inner: Any) -> None:
        for name in ("cv_results_", "n_splits_", "multimetric_", "scorer_"):
            setattr(self, name, getattr(inner, name))
        if self.refit or not self.multimetric_:
            self.best_index_, score = searching.best_candidate(self, self.cv_results_, self.multimetric_)
            self.best_params_ = self.cv_results_["params"][self.best_index_]
            if score is not None:
                self.best_score_ = score

    def _refit(self, data: Data) -> None:
        X, y, params = data.whole
        model = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        arguments = searching.fit_arguments(self, params)
        started = time.time()
        self.best_estimator_ = model.fit(X, **arguments) if y is None else model.fit(X, y, **arguments)
        self.refit_time_ = time.time() - started
        if hasattr(model, "feature_names_in_"):
            self.feature_names_in_ = model.feature_names_in_


class GridSearchCV(_SearchesBlocks, sklearn.model_selection.GridSearchCV):
    """scikit-learn's GridSearchCV for Dask arrays and dataframes, blocks of unknown lengths included.

    X and y are computed once and kept on the workers while the search runs, if they fit into the share of memory
    (``dparallel.memory-share``; ``dparallel.persist`` switches it off). With dparallel's splitters, which an int means,
    nothing that grows with the rows comes to the client.

    Parameters
    ----------
    estimator, param_grid, n_jobs, refit, verbose, pre_dispatch, error_score, return_train_score
        As in sklearn.model_selection.GridSearchCV.
    scoring : str, callable, list, tuple, dict or None, default=None
        Names are those of dparallel.metrics.get_scorer_names(), computed block by block. None: the estimator's score.
    cv : int, splitter, iterable or None, default=None
        An int means dparallel's StratifiedKFold for classifiers and KFold else; None means 5. Without shuffle both make
        the folds that scikit-learn makes of the same rows in memory. scikit-learn's splitters bring row numbers to the
        client, and those that stratify bring y.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, \
    multimetric_, classes_, n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : to which data in memory are passed on as they are

    Examples
    --------
    >>> import dask.array as da
    >>> from dparallel import ParallelDecisionTree
    >>> from dparallel.model_selection import GridSearchCV
    >>> X = da.random.default_rng(0).normal(size=(200, 3), chunks=(50, 3))
    >>> search = GridSearchCV(ParallelDecisionTree(random_state=0), {"max_depth": [1, 4]}, scoring="accuracy", cv=3)
    >>> search.fit(X, X[:, 0] * X[:, 1] > 0).best_params_
    {'max_depth': 4}
    """


class RandomizedSearchCV(_SearchesBlocks, sklearn.model_selection.RandomizedSearchCV):
    """scikit-learn's RandomizedSearchCV for Dask arrays and dataframes, blocks of unknown lengths included.

    Parameters
    ----------
    estimator, param_distributions, n_iter, random_state and the others
        As in sklearn.model_selection.RandomizedSearchCV; for scoring and cv see GridSearchCV.

    See Also
    --------
    GridSearchCV : what is kept where, and what crosses the network
    """


def resolve_scoring(scoring: Any) -> Any:
    """Scorers that compute block by block, in place of names.

    Parameters
    ----------
    scoring : str, callable, list, tuple or set of str, dict of str to str or callable, or None

    Returns
    -------
    scoring : None, callable, or dict of str to callable
    """
    if scoring is None or callable(scoring):
        return scoring
    if isinstance(scoring, str):
        return get_scorer(scoring)
    if isinstance(scoring, dict):
        return {name: get_scorer(scorer) for name, scorer in scoring.items()}
    return {name: get_scorer(name) for name in scoring}
