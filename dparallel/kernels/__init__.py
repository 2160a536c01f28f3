"""Compiled loops on plain arrays: no Dask, no scikit-learn. A submodule, and numba with it, loads when first used."""

import importlib

_MODULES = (
    "binning",
    "boundaries",
    "cart",
    "columns",
    "criteria",
    "distances",
    "draws",
    "feature_draws",
    "fixed_point",
    "gradient",
    "gradient_csr",
    "gradient_dense",
    "histogram",
    "key_index",
    "lanes",
    "layouts",
    "leader",
    "lloyd",
    "lloyd_csr",
    "losses",
    "moments",
    "passive",
    "permutation",
    "quantile",
    "ruler",
    "sorting",
    "splits",
    "tiles",
)


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
