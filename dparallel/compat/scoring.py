"""scikit-learn's scorers."""

from sklearn.metrics._scorer import _Scorer


def block_scorer(score_func, sign, kwargs, response_method, respond):
    """Make a scorer of scikit-learn that takes Dask responses of estimators into the form that metrics read.

    Parameters
    ----------
    score_func : callable (y_true, y_pred, **kwargs) -> float
    sign : 1 or -1
    kwargs : dict, arguments of score_func
    response_method : str, or list or tuple of str in the order of preference
    respond : picklable callable (estimator, response_method, X, pos_label) -> response, instead of scikit-learn's own
        for an X that it wants; it returns None for any other
    """
    return _BlockScorer(score_func, sign, dict(kwargs), response_method, respond)


class _BlockScorer(_Scorer):
    def __init__(self, score_func, sign, kwargs, response_method, respond):
        super().__init__(score_func, sign, kwargs, response_method)
        self._respond = respond

    def _score(self, method_caller, estimator, X, y_true, **kwargs):
        def call(estimator, response_method, X, pos_label):
            found = self._respond(estimator, response_method, X, pos_label)
            return method_caller(estimator, response_method, X, pos_label=pos_label) if found is None else found

        return super()._score(call, estimator, X, y_true, **kwargs)
