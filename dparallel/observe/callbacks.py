"""scikit-learn's callbacks (from 1.9), such as ProgressBar and ScoringMonitor, told about every round by the driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dparallel import compat
from dparallel.records import RoundRecord

CallbackSupport, managed_by_callbacks = compat.callback_support()


class FitCallbacks:
    """The callbacks of one fit: a task for the fit, one per start where there are several, and one per round.

    Parameters
    ----------
    estimator : estimator whose fit is decorated by `fits.observed`
    X, y, sample_weight : as given to fit; callbacks that score get them as they are, so Dask data stay lazy
    n_starts : int; max_rounds : int, of each start, or None where nobody knows
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, *, n_starts: int, max_rounds: int | None):
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        self._max_rounds = max_rounds
        self._nested = n_starts > 1
        self._root = compat.start_callbacks(estimator, n_starts if self._nested else max_rounds)
        self._begin(self._root, None)

    def listeners(self, publish: Callable[[Any], dict[str, Any]]) -> list[RoundCallbacks]:
        """What to hand to `rounds.iterate` for one start, empty without callbacks.

        publish : from a state the attributes that make the estimator fitted
        """
        if self._root is None:
            return []
        task = self._root
        if self._nested:
            task = self._root.subcontext(task_name="start", max_subtasks=self._max_rounds)
        return [RoundCallbacks(self, task, publish)]

    def end(self) -> None:
        """Say that the fit has ended."""
        self._end(self._root, {})

    def _begin(self, task: Any, attributes: Any) -> None:
        if task is not None:
            task.call_on_fit_task_begin(estimator=self._estimator, reconstruction_attributes=attributes, **self._data)

    def _end(self, task: Any, attributes: Any) -> bool:
        if task is None:
            return False
        return task.call_on_fit_task_end(estimator=self._estimator, reconstruction_attributes=attributes, **self._data)


class RoundCallbacks:
    """Listener of one start's rounds."""

    def __init__(self, fit: FitCallbacks, task: Any, publish: Callable[[Any], dict[str, Any]]):
        self._fit = fit
        self._task = task
        self._publish = publish
        self._round: Any = None
        self._n_begun = 0

    def on_start(self, state: Any) -> None:
        """Begin the start's task, where it is one of several."""
        if self._fit._nested:
            self._fit._begin(self._task, lambda: self._publish(state))

    def on_round_start(self, number: int, state: Any) -> None:
        """Begin a round's task; not again where a fit goes back to an earlier round, since tasks are counted."""
        if number <= self._n_begun:
            return
        self._n_begun = number
        self._round = self._task.subcontext(task_name="round")
        self._fit._begin(self._round, lambda: self._publish(state))

    def on_round(self, record: RoundRecord, state: Any) -> bool:
        """End a round's task, whose context then has the record; true when a callback asks to stop."""
        task, self._round = self._round, None
        if task is not None:
            task.record = record
        return self._fit._end(task, lambda: self._publish(state))

    def on_stop(self, reason: str, state: Any) -> None:
        """End the start's task, whose context then has the reason."""
        self._task.stop_reason = reason
        if self._fit._nested:
            self._fit._end(self._task, lambda: self._publish(state))
