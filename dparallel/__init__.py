"""Machine learning that runs where the data already is, on any Dask cluster, behind scikit-learn's interface."""

import importlib

__version__ = "0.1.0.dev0"

_PUBLIC = {
    "AsyncSGDClassifier": "dparallel.estimators.sgd",
    "AsyncSGDRegressor": "dparallel.estimators.sgd",
    "LocalSGDClassifier": "dparallel.estimators.local_sgd",
    "LocalSGDRegressor": "dparallel.estimators.local_sgd",
    "ParallelDecisionTree": "dparallel.estimators.decision_tree",
    "ParallelDecisionTreeClassifier": "dparallel.estimators.decision_tree",
    "ParallelDecisionTreeRegressor": "dparallel.estimators.decision_tree",
    "ParallelKMeans": "dparallel.estimators.kmeans",
    "ParallelLogisticRegression": "dparallel.estimators.linear",
    "ParallelRidge": "dparallel.estimators.linear",
    "ParallelOneHotEncoder": "dparallel.preprocessing.encoders",
    "ParallelOrdinalEncoder": "dparallel.preprocessing.encoders",
    "ParallelSimpleImputer": "dparallel.preprocessing.imputer",
    "ParallelStandardScaler": "dparallel.preprocessing.scaler",
    "ParameterStore": "dparallel.store",
    "SparseTable": "dparallel.store",
    "check": "dparallel.checkup",
    "map_reduce": "dparallel.mapreduce",
}

__all__ = [
    "AsyncSGDClassifier",
    "AsyncSGDRegressor",
    "LocalSGDClassifier",
    "LocalSGDRegressor",
    "ParallelDecisionTree",
    "ParallelDecisionTreeClassifier",
    "ParallelDecisionTreeRegressor",
    "ParallelKMeans",
    "ParallelLogisticRegression",
    "ParallelOneHotEncoder",
    "ParallelOrdinalEncoder",
    "ParallelRidge",
    "ParallelSimpleImputer",
    "ParallelStandardScaler",
    "ParameterStore",
    "SparseTable",
    "__version__",
    "check",
    "map_reduce",
]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
