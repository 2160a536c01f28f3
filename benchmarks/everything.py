"""Run the benchmarks one after another, each in a process of its own, and put what they found into one report.

The report is a Markdown page with plots beside it: what was measured and how, every table, and first of all the cases
in which somebody else was faster. Whoever is not installed is left out, and the page says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.data import ROOT
from benchmarks.race import is_distributed, is_ours
from benchmarks.results import Report, describe_machine, format_table

Table = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Stage:
    """One benchmark of the report.

    Parameters
    ----------
    command : str
    title : str, its heading
    options : its command line, chosen so that all stages together take less than half an hour on two cores
    quality : str, the column that tells how good a result is, or "" if all give the same one
    """

    command: str
    title: str
    options: tuple[str, ...] = ()
    quality: str = ""


STAGES = (
    Stage(
        "kmeans", "k-means", ("--cases", "short", "separated", "narrow", "--repeats", "3", "--patience", "5"), "inertia"
    ),
    Stage("tree", "Decision trees", ("--cases", "higgs-like", "wide", "--repeats", "3", "--patience", "5"), "accuracy"),
    Stage("logistic", "Logistic regression to the optimum", ("--patience", "5"), "excess"),
    Stage(
        "sgd",
        "SGD for classification",
        ("--cases", "correlated", "independent", "--patience", "3", "--skip-spark"),
        "best loss",
    ),
    Stage(
        "averaging", "Parameter averaging", ("--cases", "correlated", "--repeats", "1", "--patience", "3"), "best loss"
    ),
    Stage("regression", "Regression", ("--patience", "5"), "R²"),
    Stage("preprocessing", "Preprocessing", (), "off by"),
    Stage("search", "Searches"),
    Stage("mapreduce", "MapReduce", ("--megabytes", "60", "--repeats", "1")),
    Stage("store", "The parameter store", ("--rounds", "2", "--kills", "6", "--streams", "2")),
    Stage("overhead", "What a round costs"),
)

INTRODUCTION = """\
One run of `python -m benchmarks all --report docs/benchmarks.md`, which writes this page. Seconds are medians of whole
fits on the same rows in the same run; every section says what was measured, and how good the results are stands beside
their seconds. Read ratios, not seconds: the machine is small and shared."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    names = [stage.command for stage in STAGES]
    parser.add_argument("--report", type=Path, help="the Markdown file; plots go to images/ beside it")
    parser.add_argument("--stages", nargs="+", choices=names, default=names, metavar="NAME", help=" ".join(names))


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the stages; one that fails leaves the others their pages."""
    stages = [stage for stage in STAGES if stage.command in options.stages]
    found = {}
    for stage in stages:
        started = time.perf_counter()
        code = run_stage(stage, options)
        row = {"stage": stage.command, "seconds": time.perf_counter() - started, "exit code": code}
        report.tables.setdefault("Stages", []).append(row)
        path = options.output / f"{stage.command}.json"
        if code:
            report.note(f"`python -m benchmarks {stage.command}` failed with exit code {code}.")
        elif path.exists():
            found[stage] = json.loads(path.read_text(encoding="utf-8"))
    report.tables["Faster than ours"] = [row for stage, saved in found.items() for row in losses(stage, saved)]
    if options.report:
        write(options.report, options.output, found, report)


def run_stage(stage: Stage, options: argparse.Namespace) -> int:
    """Run a benchmark in a process of its own, so that no JVM or cluster is left beside the next one."""
    (options.output / f"{stage.command}.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks", stage.command, *stage.options, "--output", str(options.output)]
    print(f"\n{' '.join(command[1:])}", flush=True)
    return subprocess.run([*command, *(["--quick"] if options.quick else [])], cwd=ROOT, check=False).returncode


def losses(stage: Stage, saved: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each peer that was faster than ours in the same place: one process, or several."""
    for title, table in saved["tables"].items():
        if not {"case", "who", "seconds"} <= table[0].keys() or title.startswith("Curves"):
            continue
        rows = [row for row in table if row["seconds"] is not None]
        for place in (False, True):
            for case in dict.fromkeys(row["case"] for row in rows):
                here = [row for row in rows if row["case"] == case and is_distributed(row["who"]) == place]
                ours = min((row for row in here if is_ours(row["who"])), key=lambda row: row["seconds"], default=None)
                for theirs in here:
                    if ours and not is_ours(theirs["who"]) and theirs["seconds"] < ours["seconds"]:
                        yield loss(stage, ours, theirs)


def loss(stage: Stage, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that tells by how much theirs was faster, and how good both results are."""
    return {
        "benchmark": stage.title,
        "case": ours["case"],
        "ours": ours["who"],
        "theirs": theirs["who"],
        "ours / theirs": ours["seconds"] / theirs["seconds"],
        "quality": stage.quality,
        "quality, ours": ours.get(stage.quality),
        "quality, theirs": theirs.get(stage.quality),
    }


def write(path: Path, folder: Path, found: Mapping[Stage, Mapping[str, Any]], report: Report) -> None:
    """Write the page and copy the plots."""
    images = path.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    lines = [*opening(report)]
    for stage, saved in found.items():
        lines += section(stage, saved)
        picture = folder / f"{stage.command}.png"
        if picture.exists():
            (images / f"benchmark_{stage.command}.png").write_bytes(picture.read_bytes())
            lines += [f"![{stage.title}](images/benchmark_{stage.command}.png)", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    print(f"Saved {path}")


def opening(report: Report) -> Iterator[str]:
    """Yield the lines before the first benchmark: the machine, and where we lose."""
    yield "# Benchmarks"
    yield ""
    yield INTRODUCTION
    yield ""
    yield from (f"- {line}" for line in describe_machine().values())
    yield f"- {time.strftime('%Y-%m-%d', time.gmtime())}"
    yield from (f"- {note}" for note in report.notes)
    yield ""
    yield "## Where others are faster"
    yield ""
    lost = report.tables["Faster than ours"]
    yield format_table(lost) if lost else "In no case of this run."
    yield ""


def section(stage: Stage, saved: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one benchmark, before its plot."""
    said = import_module(f"benchmarks.{stage.command}").__doc__ or ""
    yield f"## {stage.title}"
    yield ""
    yield f"`{' '.join(['python -m benchmarks', stage.command, *stage.options])}`"
    yield ""
    yield said.strip()
    yield ""
    yield from (f"- {note}" for note in saved["notes"])
    for title, table in saved["tables"].items():
        if title not in ("Seconds", "Curves"):  # the same figures once more, or too many to read
            yield f"\n### {title}\n\n{format_table(table)}\n"
