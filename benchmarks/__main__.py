"""Measure dparallel: `python -m benchmarks COMMAND`, or without a command for the list of them."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks import (
    averaging,
    clicks,
    everything,
    kmeans,
    logistic,
    mapreduce,
    memory,
    overhead,
    preprocessing,
    regression,
    scaling,
    search,
    seeding,
    sgd,
    staleness,
    store,
    tree,
)
from benchmarks.results import Report, publish

COMMANDS = {
    "kmeans": kmeans,
    "seeding": seeding,
    "overhead": overhead,
    "memory": memory,
    "scaling": scaling,
    "sgd": sgd,
    "averaging": averaging,
    "store": store,
    "clicks": clicks,
    "staleness": staleness,
    "tree": tree,
    "logistic": logistic,
    "regression": regression,
    "preprocessing": preprocessing,
    "search": search,
    "mapreduce": mapreduce,
    "all": everything,
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; each module adds its own options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure dparallel.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        what = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=what, description=module.__doc__)
        command.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
        command.add_argument(
            "--output",
            type=Path,
            default=Path(__file__).resolve().parent / "results",
            help="folder for the JSON file and the plot (default: benchmarks/results)",
        )
        module.add_options(command)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark, print its tables, and save them; what was measured is saved even when it breaks off."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    report = Report(options.command, vars(options))
    try:
        COMMANDS[options.command].run(options, report)
    finally:
        publish(report, options.output)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary folders and processes are cleaned up
    sys.exit(main())
