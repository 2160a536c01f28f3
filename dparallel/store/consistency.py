"""Which steps were applied, and which may start: pure Python, no arrays."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from dparallel.checkpoint import as_whole
from dparallel.errors import ConsistencyError, StoreError

Step = tuple[int | str, int]

# Handles that push without a step: the newest so many are remembered. A push that is sent again after so many other
# handles have pushed would be applied twice.
N_HANDLES = 10_000
# Ranges of clocks that were passed over, per partition: the newest so many are still accepted late.
N_GAPS = 100


def as_step(step: Any) -> Step:
    """Return a step as (partition, clock) of plain Python kinds.

    Raises
    ------
    StoreError
        If it is no pair of a partition (an int, or a str for a handle's own counting) and a clock of at least 0.
    """
    try:
        partition, clock = step
        if type(partition) is not int and type(partition) is not str:
            partition = operator.index(partition)
        clock = operator.index(clock)
    except (TypeError, ValueError):
        raise StoreError(f"step={step!r} is no pair of whole numbers. Give step=(partition, clock).") from None
    if clock < 0 or (type(partition) is int and partition < 0):
        raise StoreError(f"step={step!r} has a negative number. Partitions and clocks count from 0.")
    return partition, clock


class Clocks:
    """The applied steps of every partition, and who may start which step.

    Parameters
    ----------
    staleness : int or None; a step of clock c may start once every partition has completed c - staleness steps.
        None lets every step start.
    n_partitions : int or None; needed with a staleness

    Notes
    -----
    With a staleness a partition's steps come in order, each once it may start; anything else is refused, so the store
    never has to trust that callers have waited. Without, they may come in any order and with gaps: a clock that was
    passed over is still new when it comes late.

    Nothing here raises once it has begun to change, and `record` changes without a call in between: Python handles
    signals at calls, so Ctrl-C cannot leave it half done.
    """

    def __init__(self, staleness: int | None = None, n_partitions: int | None = None):
        self.staleness = _whole_number("staleness", staleness, 0)
        self.n_partitions = _whole_number("n_partitions", n_partitions, 1)
        if self.staleness is not None and self.n_partitions is None:
            raise StoreError(
                f"staleness={staleness} compares the partitions' clocks, so the store must know how many there are. "
                "Give n_partitions, or staleness=None."
            )
        self._next: dict[int, int] = dict.fromkeys(range(self.n_partitions or 0), 0)
        self._finished: frozenset[int] = frozenset()
        self._unfinished = frozenset(self._next)
        self._handles: dict[str, int] = {}
        self._gaps: dict[int | str, tuple[tuple[int, int], ...]] = {}
        self._slowest: int | None = 0  # None: to be computed

    def is_new(self, step: Step) -> bool:
        """Tell whether a step (as from `as_step`) has not been recorded yet.

        Raises
        ------
        ConsistencyError
            If the step may not come now.
        StoreError
            If there is no such partition.
        """
        partition, clock = step
        if isinstance(partition, str):
            return self._is_new_of_handle(partition, clock)
        upcoming = self._next.get(partition)
        if upcoming is None:
            self.check_partition(partition)
            upcoming = 0
        if clock < upcoming:
            return partition in self._gaps and _lies_in(self._gaps[partition], clock)
        if self.staleness is not None:
            self._check_order(partition, clock, upcoming)
        return True

    def record(self, step: Step) -> None:
        """Remember a step that is_new has found new."""
        partition, clock = step
        if isinstance(partition, str):
            self._record_of_handle(partition, clock)
            return
        upcoming = self._next.get(partition, 0)
        if clock != upcoming:
            self._gaps[partition] = _changed_gaps(self._gaps.get(partition, ()), clock, upcoming)
        if clock >= upcoming:
            self._next[partition] = clock + 1
            if upcoming == self._slowest or self.staleness is None:
                self._slowest = None

    @property
    def unfinished(self) -> frozenset[int]:
        """Partitions that others wait for, of those that were told or have come."""
        return frozenset(self._next) - self._finished if self.n_partitions is None else self._unfinished

    @property
    def slowest(self) -> int:
        """Steps completed by the slowest partition that is not finished; once all are, by the fastest."""
        if self._slowest is None:
            waited_for = [clock for partition, clock in self._next.items() if partition not in self._finished]
            self._slowest = min(waited_for) if waited_for else max(self._next.values(), default=0)
        return self._slowest

    def may_start(self, clock: int) -> bool:
        """Tell whether a step of this clock may start."""
        return self.staleness is None or clock - self.slowest <= self.staleness or not self.unfinished

    def finish(self, partition: int) -> None:
        """Let nobody wait for this partition any more; again is the same as once.

        Raises
        ------
        StoreError
            If there is no such partition.
        """
        self.check_partition(partition)
        finished = self._finished | {partition}
        unfinished = self._unfinished - {partition}
        upcoming = self._next.get(partition, 0)
        self._next[partition] = upcoming
        self._finished = finished
        self._unfinished = unfinished
        self._slowest = None

    def check_partition(self, partition: int) -> None:
        """Raise StoreError if there is no such partition."""
        if self.n_partitions is not None and not 0 <= partition < self.n_partitions:
            raise StoreError(
                f"There is no partition {partition}: the store has n_partitions={self.n_partitions}, counted from 0."
            )

    def progress(self) -> dict[int, int]:
        """Return the clock of each partition's next step."""
        return self._next.copy()

    def state(self) -> dict[str, Any]:
        """Return all that is remembered, as plain lists and numbers, for JSON."""
        return {
            "staleness": self.staleness,
            "n_partitions": self.n_partitions,
            "next": [list(item) for item in self._next.items()],
            "handles": [list(item) for item in self._handles.items()],
            "finished": sorted(self._finished),
            "gaps": [[key, [list(gap) for gap in gaps]] for key, gaps in self._gaps.items() if gaps],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Clocks:
        """Return the clocks that `state` described."""
        staleness, n_partitions = state["staleness"], state["n_partitions"]
        upcoming = {as_whole(partition): as_whole(clock) for partition, clock in state["next"]}
        # before as much is allocated as that number asks for
        if n_partitions is not None and (type(n_partitions) is not int or len(upcoming) != n_partitions):
            raise ValueError("the clocks are not those of so many partitions")
        clocks = cls(staleness, n_partitions)
        for partition in upcoming:
            clocks.check_partition(partition)
        clocks._next.update(upcoming)
        clocks._handles.update((_text(handle), as_whole(clock)) for handle, clock in state["handles"])
        clocks._finished = frozenset(map(as_whole, state["finished"]))
        if not clocks._finished <= clocks._next.keys():
            raise ValueError("a partition is finished that is unknown")
        clocks._unfinished -= clocks._finished
        clocks._gaps.update((_counter(key), _as_gaps(gaps)) for key, gaps in state["gaps"])
        clocks._slowest = None
        return clocks

    def _is_new_of_handle(self, handle: str, clock: int) -> bool:
        if self.staleness is not None:
            raise ConsistencyError(
                f"The store has staleness={self.staleness}, so it must know whose step a push is. "
                "Give step=(partition, clock)."
            )
        return clock >= self._handles.get(handle, 0) or _lies_in(self._gaps.get(handle, ()), clock)

    def _check_order(self, partition: int, clock: int, upcoming: int) -> None:
        if clock == upcoming and self.may_start(clock) and partition not in self._finished:
            return
        if partition in self._finished:
            reason = f"the partition was finished after {upcoming} steps"
        elif clock > upcoming:
            reason = f"the next step of the partition is {upcoming}, and with a staleness steps come in order"
        else:
            reason = (
                f"the slowest partition has completed {self.slowest} steps, and staleness={self.staleness}. "
                f"Pull with clock={clock} before the step: that waits until it may start"
            )
        raise ConsistencyError(f"Step {clock} of partition {partition} may not come now: {reason}.")

    def _record_of_handle(self, handle: str, clock: int) -> None:
        """Remember a push that a handle counted itself, and that the handle is the newest."""
        upcoming = self._handles.get(handle, 0)
        oldest = next(iter(self._handles)) if len(self._handles) >= N_HANDLES else None
        if clock != upcoming:
            self._gaps[handle] = _changed_gaps(self._gaps.get(handle, ()), clock, upcoming)
        if handle in self._handles:
            del self._handles[handle]
        elif oldest is not None:
            del self._handles[oldest]
            if oldest in self._gaps:
                del self._gaps[oldest]
        self._handles[handle] = clock + 1 if clock >= upcoming else upcoming


def _whole_number(name: str, given: Any, least: int) -> int | None:
    if given is None:
        return None
    try:
        number = operator.index(given)
    except TypeError:
        number = least - 1
    if number < least:
        raise StoreError(f"{name}={given!r} must be None or a whole number of at least {least}.")
    return number


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError("the name of a handle is no text")
    return given


def _counter(given: Any) -> int | str:
    return given if isinstance(given, str) else as_whole(given)


def _as_gaps(given: Any) -> tuple[tuple[int, int], ...]:
    return tuple((as_whole(low), as_whole(high, low + 1)) for low, high in given)


def _lies_in(gaps: tuple[tuple[int, int], ...], clock: int) -> bool:
    return any(low <= clock < high for low, high in gaps)


def _changed_gaps(gaps: tuple[tuple[int, int], ...], clock: int, upcoming: int) -> tuple[tuple[int, int], ...]:
    """Return the gaps [low, high) after `clock` came when `upcoming` was next: one more, or one less or split."""
    if clock > upcoming:
        return (*gaps, (upcoming, clock))[-N_GAPS:]
    pieces = []
    for low, high in gaps:
        pieces += [(low, clock), (clock + 1, high)] if low <= clock < high else [(low, high)]
    return tuple(piece for piece in pieces if piece[0] < piece[1])
