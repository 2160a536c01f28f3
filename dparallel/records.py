"""What a fit tells about itself: one plain record per round, and the protocol of those who listen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

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
    """

    round: int
    objective: float | None
    change: float | None
    seconds: float
    bytes_moved: int

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
    for name, given in numbers.items():
        if given is not None or name not in ("objective", "change"):
            as_finite(given)
    return kind(**numbers)


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


class Audience:
    """Those who listen to one fit, told together.

    Parameters
    ----------
    listeners : objects with the methods of Listener
    """

    def __init__(self, listeners: Sequence[Listener]):
        self._listeners = tuple(listeners)

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
