"""Linear models by asynchronous stochastic gradient descent on a parameter store."""

import importlib
from typing import Any

_MODULES = {
    "AsyncSGDClassifier": "dparallel.estimators.sgd.classifier",
    "AsyncSGDRegressor": "dparallel.estimators.sgd.regressor",
}

__all__ = ["AsyncSGDClassifier", "AsyncSGDRegressor"]


def __getattr__(name: str) -> Any:
    # workers import the steps, and not the classes, which need scikit-learn
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
