"""Who watches a fit: what was asked for with `with`, in Dask's config, or on a client."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import dask

from dparallel.observe.callbacks import FitCallbacks, managed_by_callbacks
from dparallel.observe.printing import PrintRounds
from dparallel.records import Listener


@dataclass(frozen=True)
class FitInfo:
    """What is known of a fit when it begins.

    Parameters
    ----------
    name : str, of the estimator's class
    n_starts : int
    max_rounds : int or None, of each start
    """

    name: str
    n_starts: int
    max_rounds: int | None


class FitView(Protocol):
    """One fit, as one watcher sees it."""

    def listener(self) -> Listener:
        """Return the listener of one start's rounds, asked for when the start begins."""

    def close(self, error: BaseException | None) -> None:
        """Called once when the fit has ended, with what it raised."""


class Watcher(Protocol):
    """Something that watches fits."""

    def watch(self, info: FitInfo, estimator: Any) -> FitView | None:
        """Begin to watch a fit; None where there is nothing to watch it for."""


_active: list[Watcher] = []
_CONFIGURED = {
    "dparallel.progress": "dparallel.observe.progress",
    "dparallel.dashboard": "dparallel.observe.dashboards",
}
_lock = threading.Lock()
_opened: ContextVar[list[FitObservers] | None] = ContextVar("dparallel_fits", default=None)


def add_watcher(watcher: Watcher) -> None:
    """Show a watcher all fits that begin in this process from now on."""
    with _lock:
        _active.append(watcher)


def remove_watcher(watcher: Watcher) -> None:
    """Show it no more."""
    with _lock:
        _active.remove(watcher)


def _watchers() -> list[Watcher]:
    """Those who watch a fit that begins now, because of `with`, or because Dask's config asks for them."""
    with _lock:
        found = list(_active)
    for setting, module in _CONFIGURED.items():
        if dask.config.get(setting, False):
            always = import_module(module).ALWAYS
            found += [] if always in found else [always]
    return found


class FitObservers:
    """All who watch one fit: scikit-learn's callbacks, progress displays, the dashboard, and verbose.

    Parameters
    ----------
    estimator : estimator whose fit is decorated by `observed`
    X, y, sample_weight : as given to fit
    n_starts : int; max_rounds : int, of each start, or None where nobody knows
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, *, n_starts: int, max_rounds: int | None):
        self._callbacks = FitCallbacks(estimator, X, y, sample_weight, n_starts=n_starts, max_rounds=max_rounds)
        self._printer = type(estimator).__name__ if getattr(estimator, "verbose", 0) else None
        self._views: list[FitView] = []
        opened = _opened.get()
        if opened is not None:
            opened.append(self)
            info = FitInfo(type(estimator).__name__, n_starts, max_rounds)
            views = (watcher.watch(info, estimator) for watcher in _watchers())
            self._views = [view for view in views if view is not None]

    def listeners(self, publish: Callable[[Any], dict[str, Any]]) -> list[Listener]:
        """What to hand to the loop that runs one start.

        publish : from a state the attributes that make the estimator fitted
        """
        printers: list[Listener] = [] if self._printer is None else [PrintRounds(self._printer)]
        return [*self._callbacks.listeners(publish), *(view.listener() for view in self._views), *printers]

    def end(self) -> None:
        """Say that the estimator is fitted."""
        self._callbacks.end()

    def close(self, error: BaseException | None) -> None:
        """Say that fit returns, or raises an error."""
        for view in self._views:
            view.close(error)


def observed(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate fit, so that all who watch it hear of its end, whatever it is."""
    managed = managed_by_callbacks(fit)

    @functools.wraps(fit)
    def watched(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        opened: list[FitObservers] = []
        token = _opened.set(opened)
        error: BaseException | None = None
        try:
            return managed(estimator, *args, **kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            _opened.reset(token)
            for observers in opened:
                observers.close(error)

    return watched


def observed_as_one(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a fit without rounds, such as a scaler's, so that those who watch see it begin and end."""

    @functools.wraps(fit)
    def whole(estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        observers = FitObservers(estimator, X, y, sample_weight, n_starts=1, max_rounds=0)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        result = fit(estimator, X, y, **weights)
        observers.end()
        return result

    return observed(whole)
