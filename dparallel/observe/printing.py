"""A line per round in the terminal."""

from __future__ import annotations

from typing import Any

from dparallel.records import RoundRecord


class PrintRounds:
    """Prints each round's objective, change and seconds, and at the end the reason to stop.

    Parameters
    ----------
    name : str, printed before every line
    """

    def __init__(self, name: str):
        self.name = name

    def on_start(self, state: Any) -> None:
        """Nothing to say yet."""

    def on_round_start(self, number: int, state: Any) -> None:
        """Nothing to say yet."""

    def on_round(self, record: RoundRecord, state: Any) -> None:
        """Print one line."""
        parts = [f"{self.name} round {record.round}:"]
        if record.objective is not None:
            parts.append(f"objective {record.objective:.9g},")
        if record.change is not None:
            parts.append(f"change {record.change:.3g},")
        print(*parts, f"{record.seconds:.3f} s", flush=True)

    def on_stop(self, reason: str, state: Any) -> None:
        """Print the reason."""
        print(f"{self.name}: {reason}", flush=True)
