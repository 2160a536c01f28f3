"""Pictures of fitted estimators with matplotlib, each drawn on an Axes that it returns.

They are functions and no Display classes as scikit-learn has: such a class keeps what was computed apart from how it is
drawn, and here history_, store_stats_ and the other fitted attributes do that already.
"""

import importlib

_PUBLIC = {
    "centres": "dparallel.plot.clusters",
    "objective": "dparallel.plot.fits",
    "silhouette": "dparallel.plot.clusters",
    "staleness": "dparallel.plot.fits",
    "traffic": "dparallel.plot.fits",
    "tree_growth": "dparallel.plot.fits",
    "worker_times": "dparallel.plot.fits",
}

__all__ = ["centres", "objective", "silhouette", "staleness", "traffic", "tree_growth", "worker_times"]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
