"""Linear models by local stochastic gradient descent, whose parameters are averaged from time to time."""

import importlib
from typing import Any

_MODULES = {
    "LocalSGDClassifier": "dparallel.estimators.local_sgd.classifier",
    "LocalSGDRegressor": "dparallel.estimators.local_sgd.regressor",
}

__all__ = ["LocalSGDClassifier", "LocalSGDRegressor"]


def __getattr__(name: str) -> Any:
    # workers import the rounds, and not the classes, which need scikit-learn
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
