"""Listeners: what a running fit shows. Nothing here changes what is computed."""

import importlib

_PUBLIC = {
    "Progress": "dparallel.observe.progress",
    "dashboard": "dparallel.observe.dashboards",
}

__all__ = ["Progress", "dashboard"]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
