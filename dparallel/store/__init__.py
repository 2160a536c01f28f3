"""The parameter store: named arrays that many tasks read and change at once."""

import importlib

_PUBLIC = {
    "Adagrad": "dparallel.store.optimizers",
    "Adam": "dparallel.store.optimizers",
    "Add": "dparallel.store.optimizers",
    "FTRL": "dparallel.store.optimizers",
    "Handle": "dparallel.store.handle",
    "Momentum": "dparallel.store.optimizers",
    "Nesterov": "dparallel.store.optimizers",
    "ParameterStore": "dparallel.store.parameter_store",
    "SGD": "dparallel.store.optimizers",
    "SparseTable": "dparallel.store.rows",
    "StoreStats": "dparallel.store.stats",
}

__all__ = [
    "FTRL",
    "SGD",
    "Adagrad",
    "Adam",
    "Add",
    "Handle",
    "Momentum",
    "Nesterov",
    "ParameterStore",
    "SparseTable",
    "StoreStats",
]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
