"""Where progress is drawn: a terminal, with rich or without, a notebook, or a log."""

from __future__ import annotations

import html
import shutil
import sys
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from dparallel.observe.lines import Line

MOST_LINES = 12
BAR = 24  # characters


class Screen(Protocol):
    """Draws lines again and again.

    Attributes
    ----------
    every_s : float, seconds between two drawings
    """

    every_s: float

    def draw(self, lines: Sequence[Line], now: float) -> None:
        """Show how the lines are now."""

    def close(self, lines: Sequence[Line], now: float) -> None:
        """Show how they were at the end, and leave that standing."""


def choose(display: str, file: TextIO | None) -> Screen | None:
    """The screen for a kind of display, or for "auto" the best there is; None where nobody would look."""
    file = file or sys.stderr
    if display == "auto":
        if in_notebook():
            return NotebookScreen()
        if not file.isatty():
            return None
        display = "rich" if has_rich() else "plain"
    kinds: dict[str, Any] = {"rich": RichScreen, "plain": PlainScreen, "log": LogScreen}
    return NotebookScreen() if display == "notebook" else kinds[display](file)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def has_rich() -> bool:
    """Whether rich can be imported."""
    try:
        import rich  # noqa: F401
    except ImportError:
        return False
    return True


def shown(lines: Sequence[Line]) -> tuple[list[Line], int]:
    """The lines there is room for, the running ones before all others, and how many are left out."""
    n_out = len(lines) - MOST_LINES
    if n_out <= 0:
        return list(lines), 0
    ended = [i for i, line in enumerate(lines) if line.ended is not None and line.depth]
    out = set(ended[:n_out])
    return [line for i, line in enumerate(lines) if i not in out][-MOST_LINES:], n_out


def as_text(line: Line, now: float) -> str:
    """A line without colours, the bar included."""
    parts = ["  " * line.depth + line.name]
    if line.total and line.ended is None:
        full = min(BAR, BAR * line.done // line.total)
        parts.append("[" + "#" * full + "." * (BAR - full) + "]")
    return "  ".join([*parts, *filter(None, [line.count, *line.figures(now)])])


class PlainScreen:
    """The line of the terminal that is written over, for what runs innermost; lines that have ended stay.

    Parameters
    ----------
    file : text stream
    """

    every_s = 0.1

    def __init__(self, file: TextIO):
        self._file = file
        self._width = 0
        self._printed: set[int] = set()

    def draw(self, lines: Sequence[Line], now: float) -> None:
        """Write over the last line."""
        for line in lines:
            if line.ended is not None and id(line) not in self._printed:
                self._printed.add(id(line))
                self._write(as_text(line, now))
                self._file.write("\n")
                self._width = 0
        running = [line for line in lines if line.ended is None]
        if running:
            self._write(as_text(running[-1], now))
        self._file.flush()

    def close(self, lines: Sequence[Line], now: float) -> None:
        """Write what has ended."""
        self.draw(lines, now)

    def _write(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        text = text[:room]
        self._file.write("\r" + text.ljust(self._width))
        self._width = len(text)


class LogScreen:
    """A line every few seconds, for logs.

    Parameters
    ----------
    file : text stream
    """

    every_s = 5.0

    def __init__(self, file: TextIO):
        self._file = file
        self._printed: set[int] = set()

    def draw(self, lines: Sequence[Line], now: float) -> None:
        """Print what runs and what has ended since."""
        for line in lines:
            if id(line) not in self._printed:
                print(as_text(line, now), file=self._file, flush=True)
            if line.ended is not None:
                self._printed.add(id(line))

    def close(self, lines: Sequence[Line], now: float) -> None:
        """Print what has ended since."""
        self.draw(lines, now)


class RichScreen:
    """Bars in a terminal, drawn by rich.

    Parameters
    ----------
    file : text stream, or a console of rich's
    """

    every_s = 0.1

    def __init__(self, file: Any):
        from rich.console import Console
        from rich.live import Live

        console = file if isinstance(file, Console) else Console(file=file)
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._live.start()

    def draw(self, lines: Sequence[Line], now: float) -> None:
        """Draw all lines anew."""
        self._live.update(rich_table(lines, now), refresh=True)

    def close(self, lines: Sequence[Line], now: float) -> None:
        """Draw them for the last time."""
        self.draw(lines, now)
        self._live.stop()


def rich_table(lines: Sequence[Line], now: float) -> Any:
    """What rich draws for some lines."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    lines, n_out = shown(lines)
    texts = [["  " * line.depth + line.name, line.count, *line.figures(now)] for line in lines]
    table = Table.grid(padding=(0, 2))
    for column, cells in enumerate(zip(*texts, strict=True)):
        if column == 1:
            table.add_column(width=BAR)
        # where there is no room the reason to stop, which comes last, is cut and nothing else
        width = max(map(len, cells)) if column < len(texts[0]) - 1 else None
        table.add_column(no_wrap=True, overflow="ellipsis", min_width=width)
    if n_out:
        table.add_row(Text(f"and {n_out} that have ended", style="dim"))
    for line, row in zip(lines, texts, strict=True):
        has_ended = line.ended is not None
        known = line.total or (1 if has_ended else None)
        done = (known or 0) if has_ended and line.outcome != "failed" else min(line.done, known or line.done)
        bar = ProgressBar(total=known, completed=done, width=BAR, pulse=known is None, animation_time=now)
        styles = ("bold", "cyan", "magenta", "yellow", "green", "red" if line.outcome == "failed" else "dim")
        name, *rest = (Text(text, style=style) for text, style in zip(row, styles, strict=True))
        table.add_row(name, bar, *rest)
    return table


class NotebookScreen:
    """An output of a notebook's cell that is replaced again and again."""

    every_s = 0.25

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, lines: Sequence[Line], now: float) -> None:
        """Replace the output."""
        from IPython.display import display

        content = {"text/html": as_html(lines, now), "text/plain": "\n".join(as_text(line, now) for line in lines)}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def close(self, lines: Sequence[Line], now: float) -> None:
        """Replace it for the last time."""
        self.draw(lines, now)


def as_html(lines: Sequence[Line], now: float) -> str:
    """The lines as a table with progress bars."""
    lines, n_out = shown(lines)
    rows = [f"<tr><td colspan=6>and {n_out} that have ended</td></tr>"] if n_out else []
    for line in lines:
        maximum = line.total or 1
        value = maximum if line.ended is not None and line.outcome != "failed" else min(line.done, maximum)
        state = "" if line.total is None and line.ended is None else f' value="{value}" max="{maximum}"'
        texts = [line.name, line.count, *line.figures(now)]
        cells = [f'<td style="text-align: left; white-space: nowrap">{html.escape(text)}</td>' for text in texts]
        cells[0] = cells[0].replace("left", f"left; padding-left: {line.depth}.5em", 1)
        rows.append(f"<tr>{cells[0]}<td><progress{state}></progress></td>{''.join(cells[1:])}</tr>")
    return f"<table>{''.join(rows)}</table>"
