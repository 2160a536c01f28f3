"""Time the fits of several programs in turn, on the same rows, and tell how good each result is."""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from benchmarks.linear import quiet
from benchmarks.peers import N_PROCESSES, open_for, present, spark_is_missing
from benchmarks.results import Bars, Report

THREADS, PROCESSES = "dparallel threads", f"dparallel {N_PROCESSES} processes"


@dataclass(frozen=True)
class Runner:
    """Someone who fits.

    Parameters
    ----------
    name : str
    fit : function of rows, timed; what it returns is judged
    needs : "nothing", "cluster" or "spark", what must be open, and which rows it is given
    package : str, what must be installed, or ""
    """

    name: str
    fit: Callable[[Any], Any]
    needs: str = "nothing"
    package: str = ""

    def why_not(self) -> str | None:
        """Return what is missing to run this one, in words."""
        if self.needs == "spark":
            return spark_is_missing()
        return None if not self.package or find_spec(self.package) else f"{self.package} is not installed"


@dataclass(frozen=True)
class Race:
    """Rows, and who fits them.

    Parameters
    ----------
    name : str
    runners : sequence of Runner
    rows : dict of needs -> function without arguments: a context that holds the rows where these runners want them
    judge : function of what a fit returned, a number
    column : str, what the number is
    """

    name: str
    runners: Sequence[Runner]
    rows: Mapping[str, Callable[[], AbstractContextManager[Any]]]
    judge: Callable[[Any], float]
    column: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen for all races."""
    parser.add_argument("--repeats", type=int, default=3, help="fits of each after the first (default: 3)")
    parser.add_argument("--patience", type=float, default=30, help="a fit that took longer is not repeated (seconds)")
    parser.add_argument("--skip-spark", action="store_true", help="do without Spark")


def run_all(races: Iterable[Race], options: argparse.Namespace, report: Report) -> None:
    """Run races and put them into the report, with what ours take of the time of each other."""
    for race in races:
        runners = present((r for r in race.runners if r.needs != "spark" or not options.skip_spark), report)
        with open_for(runners), quiet():
            table = report.tables.setdefault("Whole fits", [])
            table += run(race, runners, options, report)
        report.tables["Ratios of seconds"] = compare(table)
        report.figure = Bars("Whole fits", group="case", bar="who", value="seconds")


def run(race: Race, runners: Sequence[Runner], options: argparse.Namespace, report: Report) -> list[dict[str, Any]]:
    """Fit once to compile and to judge, then in turn; return a row for each that came through."""
    times: dict[Runner, list[float]] = {runner: [] for runner in runners}
    found: dict[Runner, float] = {}
    with ExitStack() as held:
        rows = {needs: held.enter_context(race.rows[needs]()) for needs in {runner.needs for runner in runners}}
        for repetition in range(options.repeats + 1):
            for runner in list(times):
                if repetition > 1 and max(times[runner]) > options.patience:
                    continue
                try:
                    gc.collect()
                    started = time.perf_counter()
                    answer = runner.fit(rows[runner.needs])
                    seconds = time.perf_counter() - started
                    found[runner] = race.judge(answer)
                except Exception as error:  # one that fails must not take the others' figures with it
                    report.note(f"{runner.name} failed at {race.name}: {type(error).__name__}: {error}")
                    del times[runner]
                    continue
                print(f"{race.name}: {runner.name} {seconds:.2f} s", file=sys.stderr, flush=True)
                if repetition:
                    times[runner].append(seconds)
    return [
        {
            "case": race.name,
            "who": runner.name,
            "seconds": statistics.median(seconds),
            race.column: found[runner],
            "all seconds": seconds,
        }
        for runner, seconds in times.items()
    ]


def compare(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Divide our seconds by those of everyone else who computes in the same place: this process, or several."""
    return [
        {
            "case": ours["case"],
            "ours": ours["who"],
            "theirs": theirs["who"],
            "seconds, ours / theirs": ours["seconds"] / theirs["seconds"],
        }
        for ours in table
        for theirs in table
        if ours["case"] == theirs["case"]
        and is_ours(ours["who"])
        and not is_ours(theirs["who"])
        and is_distributed(ours["who"]) == is_distributed(theirs["who"])
    ]


def is_ours(name: str) -> bool:
    """Whether a name in a table is one of ours."""
    return name.startswith("dparallel")


def is_distributed(name: str) -> bool:
    """Whether a name in a table computes in several processes, or in a JVM."""
    return any(word in name for word in ("processes", "dask", "Dask", "Spark"))
