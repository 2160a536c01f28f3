"""What a fit tells about itself: one plain record per round, and the protocol of those who listen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from dparallel.checkpoint import as_finite

Record = TypeVar("Record", bound="RoundRecord")


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What one round did.

    Parameters
    ----------
    round : int, counted from 1
    objective : float or None, what the algorithm makes small, in its own units
    change : float or None, how far the state moved, in the units of the algorithm's tolerance
    seconds : float, from sending the state to having the new one
    bytes_moved : int, state sent plus partial results received; 0 where nothing left the process
    seconds_by_worker : dict of str to float, how long each worker computed: its slowest thread. By address, or "thread
        0", ... in this process; empty where nobody measured. Two records that differ here only are equal.
    """

    unit: ClassVar[str] = "round"  # what a record counts, for those who show it

    round: int
    objective: float | None
    change: float | None
    seconds: float
    bytes_moved: int
    seconds_by_worker: dict[str, float] = field(default_factory=dict, kw_only=True, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as a dict of plain numbers, for JSON or a DataFrame."""
        return asdict(self)


def read_record(kind: type[Record], described: Mapping[str, Any]) -> Record:
    """Return the record that as_dict described; a ValueError or TypeError where it holds anything but its numbers.

    Parameters
    ----------
    kind : RoundRecord, or a dataclass that adds numbers to it
    described : dict; objective and change may be None
    """
    numbers = dict(described)
    by_worker = {str(worker): as_finite(seconds) for worker, seconds in numbers.pop("seconds_by_worker", {}).items()}
    for name, given in numbers.items():
        if given is not None or name not in ("objective", "change"):
            as_finite(given)
    return kind(**numbers, seconds_by_worker=by_worker)


def add_seconds(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add up what each worker took, over rounds that followed each other."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


class Listener(Protocol):
    """Something told about a fit while it runs, always from the driver's own thread."""

    def on_start(self, state: Any) -> None:
        """Called once before the first round, with the first state."""

    def on_round_start(self, number: int, state: Any) -> None:
        """Called before every round, with its number, counted from 1, and the state that it starts from."""

    def on_round(self, record: RoundRecord, state: Any) -> bool | None:
        """Called after every round, with the state that the round led to; true asks to stop."""

    def on_stop(self, reason: str, state: Any) -> None:
        """Called once after the last round, with the reason in words; not called when the fit fails."""


@runtime_checkable
class StoreListener(Protocol):
    """A listener that also looks at the parameter store of a fit that has one."""

    def on_store(self, stats: Callable[[], Any]) -> None:
        """Called before on_start with a function that returns StoreStats, in any thread, until the fit has ended."""


class Audience:
    """Those who listen to one fit, told together.

    Parameters
    ----------
    listeners : objects with the methods of Listener
    """

    def __init__(self, listeners: Sequence[Listener]):
        self._listeners = tuple(listeners)

    def show_store(self, stats: Callable[[], Any]) -> None:
        """Tell those who look at it of the fit's parameter store."""
        for listener in self._listeners:
            if isinstance(listener, StoreListener):
                listener.on_store(stats)

    def start(self, state: Any) -> None:
        """Tell that the fit starts."""
        for listener in self._listeners:
            listener.on_start(state)

    def start_round(self, number: int, state: Any) -> None:
        """Tell that a round starts."""
        for listener in self._listeners:
            listener.on_round_start(number, state)

    def end_round(self, record: RoundRecord, state: Any) -> str | None:
        """Tell all of a round; returns why to stop, as a sentence, if one of them asks for that."""
        asked = [listener.on_round(record, state) for listener in self._listeners]
        return "A listener asked to stop." if any(asked) else None

    def stop(self, reason: str, state: Any) -> None:
        """Tell that the fit has ended."""
        for listener in self._listeners:
            listener.on_stop(reason, state)
