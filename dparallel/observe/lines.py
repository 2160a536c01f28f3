"""What a progress display says: a line per fit, per start of a fit, and per step of what runs several fits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

Key = tuple[Hashable, ...]  # the way from the outermost task to this one


@dataclass
class Line:
    """One task whose parts are counted.

    Parameters
    ----------
    name : str
    total : int or None, parts there are at most; None where nobody knows
    depth : int, of nesting
    unit : str, what is counted
    done : int
    objective : float or None, of the last round
    updates_per_s : float or None, of the last epoch of asynchronous training
    started : float, ended : float or None, seconds of a monotonic clock
    outcome : str, why it ended
    """

    name: str
    total: int | None
    depth: int = 0
    unit: str = "round"
    done: int = 0
    objective: float | None = None
    updates_per_s: float | None = None
    started: float = 0.0
    ended: float | None = None
    outcome: str = ""
    children: dict[Hashable, Line] = field(default_factory=dict)

    @property
    def count(self) -> str:
        """How many parts are done, in words."""
        if not self.done:
            return "" if self.ended is not None or self.total is None else f"0/{self.total}"
        return f"{self.unit} {self.done}" + ("" if self.total is None else f"/{self.total}")

    def figures(self, now: float) -> list[str]:
        """Objective, rate, time, and why it ended, each as a short text that may be empty."""
        objective = "" if self.objective is None else f"objective {self.objective:.6g}"
        return [objective, self._rate(now), self._time(now), self.outcome]

    def _rate(self, now: float) -> str:
        if self.updates_per_s is not None:
            return f"{self.updates_per_s:,.0f} updates/s"
        seconds = (self.ended or now) - self.started
        if not self.done or seconds <= 0:
            return ""
        rate = self.done / seconds
        return f"{rate:.3g} {self.unit}s/s" if rate >= 1 else f"{1 / rate:.3g} s/{self.unit}"

    def _time(self, now: float) -> str:
        if self.ended is not None:
            return duration(self.ended - self.started)
        elapsed = now - self.started
        if self.total is None or not self.done:
            return duration(elapsed)
        # a fit may converge before its last round, so that what is left is never more than this
        return f"at most {duration(elapsed / self.done * (self.total - self.done))} left"

    def walk(self) -> Iterator[Line]:
        """This line and those below it, from above."""
        yield self
        for child in self.children.values():
            yield from child.walk()


def duration(seconds: float) -> str:
    """Write a duration as a person would.

    >>> duration(0.25), duration(75), duration(3700)
    ('0.2 s', '1:15', '1:01:40')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Lines:
    """All lines of a display; may be told of them in any thread.

    Parameters
    ----------
    clock : function that returns seconds
    """

    def __init__(self, clock: Callable[[], float] = monotonic):
        self.clock = clock
        self._roots: dict[Hashable, Line] = {}
        self._lock = threading.Lock()

    def begin(self, key: Key, name: str, total: int | None) -> None:
        """Begin a line, below the one that its key goes through."""
        with self._lock:
            above = self._roots if len(key) == 1 else self._children(key[:-1])
            if above is not None:
                above[key[-1]] = Line(name, total, depth=len(key) - 1, started=self.clock())

    def advance(self, key: Key, unit: str, found: dict[str, Any]) -> None:
        """Count one more part of a line; found : what to show of it."""
        with self._lock:
            line = self._find(key)
            if line is None:
                return
            line.done = max(line.done + 1, found.get("number", 0))
            line.unit = unit
            line.objective = found.get("objective", line.objective)
            line.updates_per_s = found.get("updates_per_s", line.updates_per_s)

    def end(self, key: Key, outcome: str) -> None:
        """End a line and what still runs below it."""
        with self._lock:
            line = self._find(key)
            for each in [] if line is None else line.walk():
                if each.ended is None:
                    each.ended, each.outcome = self.clock(), outcome

    def show(self) -> list[Line]:
        """All lines, each after the one that it is part of."""
        with self._lock:
            return [line for root in self._roots.values() for line in root.walk()]

    def forget(self) -> None:
        """Drop all lines."""
        with self._lock:
            self._roots = {}

    def _find(self, key: Key) -> Line | None:
        line = self._roots.get(key[0]) if key else None
        for part in key[1:]:
            line = None if line is None else line.children.get(part)
        return line

    def _children(self, key: Key) -> dict[Hashable, Line] | None:
        line = self._find(key)
        return None if line is None else line.children


def found_in(record: Any) -> dict[str, Any]:
    """What a line shows of a RoundRecord, as plain data."""
    found: dict[str, Any] = {"number": record.round}
    if record.objective is not None:
        found["objective"] = float(record.objective)
    n_updates = getattr(record, "n_updates", 0)
    if n_updates and record.seconds > 0:
        found["updates_per_s"] = n_updates / record.seconds
    return found
