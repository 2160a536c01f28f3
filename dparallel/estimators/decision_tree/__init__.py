"""Decision trees grown level by level from histograms, and given back as scikit-learn's own trees."""

import importlib
from typing import Any

_MODULES = {
    "ParallelDecisionTree": "dparallel.estimators.decision_tree.classifier",
    "ParallelDecisionTreeClassifier": "dparallel.estimators.decision_tree.classifier",
    "ParallelDecisionTreeRegressor": "dparallel.estimators.decision_tree.regressor",
}

__all__ = ["ParallelDecisionTree", "ParallelDecisionTreeClassifier", "ParallelDecisionTreeRegressor"]


def __getattr__(name: str) -> Any:
    # workers import the steps, and not the classes, which need scikit-learn
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
