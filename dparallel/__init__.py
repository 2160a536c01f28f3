"""Machine learning that runs where the data already is, on any Dask cluster, behind scikit-learn's interface."""

import importlib

__version__ = "0.1.0.dev0"

_PUBLIC = {
    "ParallelKMeans": "dparallel.estimators.kmeans",
    "ParallelStandardScaler": "dparallel.preprocessing.scaler",
}

__all__ = ["ParallelKMeans", "ParallelStandardScaler", "__version__"]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
