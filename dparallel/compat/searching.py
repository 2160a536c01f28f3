"""scikit-learn's searches over parameters."""


def check_refit(search, scoring):
    """Raise scikit-learn's ValueError where several metrics are scored and refit names none of them."""
    if isinstance(scoring, dict):
        search._check_refit_for_multimetric(scoring)


def best_candidate(search, results, is_multimetric):
    """Choose a candidate as the search's refit says.

    Parameters
    ----------
    search : GridSearchCV or RandomizedSearchCV
    results : dict, its cv_results_
    is_multimetric : bool

    Returns
    -------
    index : int
    score : float, or None where refit is a function
    """
    metric = search.refit if is_multimetric else "score"
    index = search._select_best_index(search.refit, metric, results)
    return index, None if callable(search.refit) else results[f"mean_test_{metric}"][index]


def fit_arguments(search, params):
    """Those of the arguments of a search's fit that its estimator is fitted with, as metadata routing says."""
    return search._get_routed_params_for_fit(params).estimator.fit
