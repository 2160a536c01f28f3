"""Compiled loops on plain arrays: no Dask, no scikit-learn. A submodule, and numba with it, loads when first used."""

import importlib

_MODULES = ("distances", "draws", "lanes", "lloyd", "lloyd_csr", "moments", "ruler")


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
