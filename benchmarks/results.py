"""What a benchmark found: tables that are printed, saved as JSON, and drawn."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np

PACKAGES = ("dparallel", "dask", "distributed", "numpy", "numba", "scikit-learn", "dask-ml", "pyspark", "vowpalwabbit")


class Figure(Protocol):
    """Something that can draw a report."""

    def draw(self, axes: Any, report: Report) -> None:
        """Draw on Matplotlib's axes."""


@dataclass
class Report:
    """What one run of a benchmark found; the benchmark fills it as it goes.

    Parameters
    ----------
    command : str
    options : dict, the command line
    tables : dict of title -> rows; a row is a dict of column -> value, and lists are saved but not printed
    notes : list of sentences
    figure : Figure or None
    """

    command: str
    options: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    figure: Figure | None = None

    def note(self, sentence: str) -> None:
        """Print a sentence now and keep it for the file."""
        print(sentence, flush=True)
        self.notes.append(sentence)


@dataclass(frozen=True)
class Bars:
    """A horizontal bar on a log scale per row of a table, in groups.

    Parameters
    ----------
    table : str, its title
    group, bar, value : str, columns
    """

    table: str
    group: str
    bar: str
    value: str

    def draw(self, axes: Any, report: Report) -> None:
        """Draw from top to bottom, each name of a bar in a colour of its own."""
        rows = report.tables[self.table]
        names = list(dict.fromkeys(row[self.bar] for row in rows))
        groups = list(dict.fromkeys(row[self.group] for row in rows))
        height = 0.85 / len(names)
        for i, name in enumerate(names):
            mine = [row for row in rows if row[self.bar] == name]
            places = [groups.index(row[self.group]) + (i - (len(names) - 1) / 2) * height for row in mine]
            axes.barh(places, [row[self.value] for row in mine], height, label=name)
        axes.set(xscale="log", xlabel=self.value, yticks=range(len(groups)), yticklabels=groups)
        axes.invert_yaxis()
        axes.legend(fontsize="small")


@dataclass(frozen=True)
class Lines:
    """A line per series.

    Parameters
    ----------
    series : dict of name -> (x, y)
    x, y : str, labels of the axes
    log : bool, whether both axes are logarithmic
    """

    series: dict[str, tuple[Sequence[float], Sequence[float]]]
    x: str
    y: str
    log: bool = False

    def draw(self, axes: Any, report: Report) -> None:
        """Draw all series on one pair of axes."""
        for name, (x, y) in self.series.items():
            axes.plot(x, y, label=name, marker="o" if self.log else "")
        scale = "log" if self.log else "linear"
        axes.set(xlabel=self.x, ylabel=self.y, xscale=scale, yscale=scale)
        axes.set_ylim(bottom=None if self.log else 0)
        axes.legend(fontsize="small")


def geometric_mean(values: Iterable[float]) -> float:
    """Return exp of the mean logarithm."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def spread_out(rows: Sequence[dict[str, Any]], row: str, column: str, value: str) -> list[dict[str, Any]]:
    """Return a table with a row per value of one column, a column per value of another, and None where nothing was."""
    found = {(line[row], line[column]): line[value] for line in rows}
    columns = list(dict.fromkeys(line[column] for line in rows))
    return [
        {row: name, **{other: found.get((name, other)) for other in columns}}
        for name in dict.fromkeys(line[row] for line in rows)
    ]


def publish(report: Report, folder: Path) -> None:
    """Print the tables, and save COMMAND.json and, where Matplotlib is installed, COMMAND.png in folder."""
    report.tables = {title: rows for title, rows in report.tables.items() if rows}
    if not report.tables:
        print("Nothing was measured.")
        return
    print("\n".join(describe_machine().values()))
    for title, rows in report.tables.items():
        print(f"\n{title}\n\n{format_table(rows)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.command}.json"
    path.write_text(json.dumps(as_json(report), indent=1, default=plain), encoding="utf-8")
    print(f"\nSaved {path}")
    if report.figure is None:
        return
    if find_spec("matplotlib"):
        picture = path.with_suffix(".png")
        draw(report, picture)
        print(f"Saved {picture}")
    else:
        print("No plot: matplotlib is not installed.")


def as_json(report: Report) -> dict[str, Any]:
    """Return all of a report but its figure, with the time and the machine."""
    return {
        "command": report.command,
        "options": report.options,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": describe_machine(),
        "notes": report.notes,
        "tables": report.tables,
    }


def plain(value: Any) -> Any:
    """Return what JSON does not know as a number or a string."""
    return value.item() if isinstance(value, np.generic) else str(value)


def describe_machine() -> dict[str, str]:
    """Return what the figures depend on: processors, system, versions."""
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processors": f"{joblib.cpu_count()} processors, {platform.machine()}, {platform.system()}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; columns whose values are lists are left out."""
    columns = [name for name in rows[0] if not isinstance(rows[0][name], list)]
    cells = [columns] + [[format_cell(row[name]) for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def format_rst(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a reStructuredText table; columns whose values are lists are left out."""
    columns = [name for name in rows[0] if not isinstance(rows[0][name], list)]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in [columns, *([format_cell(row[name]) for name in columns] for row in rows)]:
        lines += [f"   {' ' if i else '*'} - {cell}".rstrip() for i, cell in enumerate(cells)]
    return "\n".join(lines)


def format_cell(value: Any) -> str:
    """Return a value in a few characters, floats with four digits."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(report: Report, path: Path) -> None:
    """Save the figure of a report."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9, 7), layout="constrained")
    report.figure.draw(canvas.subplots(), report)
    canvas.savefig(path, dpi=120)
