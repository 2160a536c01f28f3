"""Logistic and ridge regression, exact, on rows and on tiles of rows and columns."""

import importlib
from typing import Any

_MODULES = {
    "ParallelLogisticRegression": "dparallel.estimators.linear.logistic",
    "ParallelRidge": "dparallel.estimators.linear.ridge",
}

__all__ = ["ParallelLogisticRegression", "ParallelRidge"]


def __getattr__(name: str) -> Any:
    # workers import the steps, and not the classes, which need scikit-learn
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
