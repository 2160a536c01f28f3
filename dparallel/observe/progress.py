"""Progress bars: rounds, objective, rate and time left of every fit, in a terminal, a notebook or a log."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO
from uuid import uuid4

from dparallel import compat
from dparallel.errors import DataError
from dparallel.observe.fits import FitInfo, add_watcher, remove_watcher
from dparallel.observe.lines import Key, Lines, found_in
from dparallel.observe.screens import Screen, choose
from dparallel.records import RoundRecord

_CANDIDATE = "candidate-split-evaluation"  # what scikit-learn's searches call one fit
DISPLAYS = ("auto", "rich", "plain", "notebook", "log")


class Progress:
    """Shows how far fits are: rounds, objective, rate, and the time that is left at most.

    Three ways lead to it. As a context manager it shows every fit that begins inside, with any release of
    scikit-learn. As a callback, from scikit-learn 1.9, it is set on an estimator, a Pipeline or a search and shows
    them with all that they fit. ``dask.config.set({"dparallel.progress": True})`` shows every fit.

    Parameters
    ----------
    display : {"auto", "rich", "plain", "notebook", "log"}, default="auto"
        "auto": a notebook's output; on a terminal bars by rich where it is installed, else a plain line; elsewhere
        nothing. "log": a line every 5 seconds.
    file : text stream or None, default=None
        Where a terminal or log is; None: standard error.
    max_propagation_depth : int or None, default=None
        As a callback: how many levels of estimators inside others are shown; None for all.

    Raises
    ------
    DataError
        If display is none of these.

    Notes
    -----
    Other threads draw; a fit only notes down its figures. A callback that was pickled into another process of the same
    machine, as joblib does for a search, goes on to show what happens there; on other machines it is silent.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from dparallel import ParallelKMeans
    >>> from dparallel.observe import Progress
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> log = io.StringIO()
    >>> with Progress(display="log", file=log):
    ...     model = ParallelKMeans(2, random_state=0).fit(X)
    >>> print(log.getvalue().splitlines()[-1])
    ParallelKMeans  round 1/300  objective 32  ... s  The centres moved less than the tolerance.
    """

    def __init__(self, *, display: str = "auto", file: TextIO | None = None, max_propagation_depth: int | None = None):
        if display not in DISPLAYS:
            raise DataError(f"display={display!r} is none of {', '.join(map(repr, DISPLAYS))}. Give one of these.")
        self.display = display
        self.file = file
        self.max_propagation_depth = max_propagation_depth
        self._doors: dict[str, Any] = {}  # of the outermost task's uuid: how other processes reach this one
        self._show: _Show | None = _Show(display, file)

    def __getstate__(self) -> dict[str, Any]:
        # what arrives in another process reaches the display here through its door, and opens none of its own
        return {**self.__dict__, "file": None, "_show": None}

    # As a context manager

    def __enter__(self) -> Progress:
        add_watcher(self)
        return self

    def __exit__(self, *error: Any) -> None:
        remove_watcher(self)

    def watch(self, info: FitInfo, estimator: Any) -> _FitProgress | None:
        """Show a fit; None where a callback shows it already."""
        callbacks: Sequence[Any] = getattr(estimator, "_skl_callbacks", None) or ()
        if any(isinstance(callback, Progress) for callback in callbacks):
            return None
        return None if self._show is None else _FitProgress(self._show, info)

    # As a callback of scikit-learn's

    def setup(self, estimator: Any, context: Any) -> None:
        """Open the display for one call of the outermost fit."""
        if self._show is None:
            return  # a copy in another process, on an estimator that was fitted only there
        self._show.open()
        self._doors[str(context.root_uuid)] = compat.open_door(self._show.take)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Begin a line, unless it is a task without parts inside another."""
        is_leaf = context.max_subtasks == 0 and context.parent is not None and context.source_estimator_name is None
        if not is_leaf:
            self._send(context, "begin", _path(context), _name(context), context.max_subtasks or None)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """End the line of a task, and count it in the one above."""
        path, record = _path(context), getattr(context, "record", None)
        if context.max_subtasks != 0 or context.parent is None or context.source_estimator_name is not None:
            self._send(context, "end", path, getattr(context, "stop_reason", "done"))
        if len(path) > 1:
            self._send(
                context, "advance", path[:-1], _unit(context, record), {} if record is None else found_in(record)
            )

    def teardown(self, estimator: Any, context: Any) -> None:
        """Close the display."""
        door = self._doors.pop(str(context.root_uuid), None)
        if door is not None and self._show is not None:
            compat.close_door(door)
            self._show.close((str(context.root_uuid),))

    def _send(self, context: Any, *message: Any) -> None:
        door = self._doors.get(str(context.root_uuid))
        if door is not None:
            with suppress(OSError, EOFError):  # another machine, or a display that is closed
                compat.knock(door, message)


def _path(context: Any) -> Key:
    """The numbers of tasks from the outermost to this one, the first being its uuid."""
    path: list[Any] = []
    while context.parent is not None:
        path.append(context.task_id)
        context = context.parent
    return (str(context.root_uuid), *reversed(path))


def _name(context: Any) -> str:
    """What a line is called: the estimator, or the part of it, and which of several."""
    number, within = (
        context.task_id + 1 if isinstance(context.task_id, int) else context.task_id,
        context.source_task_name,
    )
    if context.parent is None or (within or "").startswith("fit-"):  # the outermost, or a step of a Pipeline
        return str(context.estimator_name)
    if within is None:
        return "search" if context.task_name == "search" else f"{_words(context.task_name)} {number}"
    return f"{context.estimator_name}, {f'fit {number}' if within == _CANDIDATE else _words(within)}"


def _words(task_name: str) -> str:
    return task_name.replace("-", " ")


def _unit(context: Any, record: Any) -> str:
    if record is not None:
        return str(record.unit)
    return "fit" if (context.source_task_name or context.task_name) == _CANDIDATE else "step"


class _FitProgress:
    """One fit on a display, shown through the loop's own listeners."""

    def __init__(self, show: _Show, info: FitInfo):
        self._show = show
        self._info = info
        self._key: Key = (uuid4().hex,)
        self._n_starts = 0
        self._reason = "done"
        show.open()
        is_nested = info.n_starts > 1
        show.lines.begin(self._key, info.name, info.n_starts if is_nested else info.max_rounds or None)

    def listener(self) -> _StartProgress:
        """The listener of the next start."""
        self._n_starts += 1
        if self._info.n_starts == 1:
            return _StartProgress(self, self._show.lines, self._key)
        key = (*self._key, self._n_starts)
        self._show.lines.begin(key, f"start {self._n_starts}", self._info.max_rounds)
        return _StartProgress(self, self._show.lines, key)

    def stopped(self, key: Key, reason: str) -> None:
        """A start has ended."""
        if key == self._key:
            self._reason = reason  # the line ends with the fit, which may still have things to do
        else:
            self._show.lines.end(key, reason)
            self._show.lines.advance(self._key, "start", {})

    def close(self, error: BaseException | None) -> None:
        """End the fit's line."""
        self._show.lines.end(self._key, self._reason if error is None else "failed")
        self._show.close(self._key)


class _StartProgress:
    """Listener of one start's rounds."""

    def __init__(self, fit: _FitProgress, lines: Lines, key: Key):
        self._fit = fit
        self._lines = lines
        self._key = key

    def on_start(self, state: Any) -> None:
        """The line has begun with the fit."""

    def on_round_start(self, number: int, state: Any) -> None:
        """Nothing to show yet."""

    def on_round(self, record: RoundRecord, state: Any) -> None:
        """Count the round."""
        self._lines.advance(self._key, record.unit, found_in(record))

    def on_stop(self, reason: str, state: Any) -> None:
        """Note the reason."""
        self._fit.stopped(self._key, reason)


class _Show:
    """The display while fits run; a thread draws it."""

    def __init__(self, display: str, file: TextIO | None):
        self.lines = Lines()
        self._choice = (display, file)
        self._n_open = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._drawer: threading.Thread | None = None

    def open(self) -> None:
        """Begin to draw, if nobody has."""
        with self._lock:
            self._n_open += 1
            if self._n_open > 1:
                return
            self.lines.forget()
            screen = choose(*self._choice)
            if screen is not None:
                self._ended = threading.Event()
                self._drawer = threading.Thread(
                    target=self._draw, args=(screen,), name="dparallel-progress", daemon=True
                )
                self._drawer.start()

    def close(self, key: Key) -> None:
        """End a fit's lines; draw for the last time if it was the last fit."""
        self.lines.end(key, "failed")  # those that have not ended yet
        with self._lock:
            self._n_open -= 1
            if self._n_open or self._drawer is None:
                return
            self._ended.set()
            self._drawer.join()
            self._drawer = None

    def take(self, message: tuple[Any, ...]) -> None:
        """What a callback says, here or in another process."""
        getattr(self.lines, message[0])(*message[1:])

    def _draw(self, screen: Screen) -> None:
        while not self._ended.wait(screen.every_s):
            screen.draw(self.lines.show(), self.lines.clock())
        screen.close(self.lines.show(), self.lines.clock())


ALWAYS = Progress()  # for the configuration
