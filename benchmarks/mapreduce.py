"""Count words and build an inverted index: dparallel.map_reduce, Spark's reduceByKey and Dask's foldby.

The text is drawn anew: 300 MB of words that follow Zipf's law, in one file. All peers read
it, call the same Python mapper, and bring the result for all words to this process; their seconds hold all of that.
dparallel and Dask have two worker processes of one thread; Spark is local[2], so it has two Python processes beside its
JVM. Peers take turns; the first turn, on a small part of the text, starts their processes and is not told. Every result
is compared with that of a plain loop.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dask.bag

from benchmarks.peers import OPENERS, spark_is_missing
from benchmarks.results import Bars, Report
from benchmarks.text import write_text
from dparallel import map_reduce
from dparallel.mapreduce import Fold

MEGABYTE = 1_000_000
BLOCK = "32 MiB"  # as map_reduce and Spark


def words(line: str) -> Iterator[tuple[str, int]]:
    """Yield each word of a line with 1."""
    for word in line.split():
        yield word, 1


def total(word: str, counts: Iterable[int]) -> int:
    """Return how often a word was counted."""
    return sum(counts)


def documents(line: str) -> Iterator[tuple[str, set[int]]]:
    """Yield each word of a line with the number of its document, which the line begins with."""
    number, *rest = line.split()
    document = int(number)
    for word in rest:
        yield word, {document}


def union(word: str, found: Iterable[set[int]]) -> set[int]:
    """Return the documents that a word is in."""
    return set().union(*found)


def add(left: int, right: int) -> int:
    """Add counts, for Spark and Dask, which combine two values at a time."""
    return left + right


def merge(left: set[int], right: set[int]) -> set[int]:
    """Add documents to those on the left, without a copy."""
    left |= right
    return left


def count_words(path: Path) -> dict[str, int]:
    """Count words in a plain loop."""
    counts: Counter[str] = Counter()
    with open(path, encoding="utf-8") as file:
        for line in file:
            counts.update(line.split())
    return dict(counts)


def index_words(path: Path) -> dict[str, set[int]]:
    """Find the documents of each word in a plain loop."""
    index: dict[str, set[int]] = defaultdict(set)
    with open(path, encoding="utf-8") as file:
        for line in file:
            number, *rest = line.split()
            document = int(number)
            for word in rest:
                index[word].add(document)
    return dict(index)


TASKS: dict[str, tuple[Callable, Callable, Callable, Callable]] = {
    "word count": (words, total, add, count_words),  # mapper, reducer, the same for two values, plain loop
    "inverted index": (documents, union, merge, index_words),
}


def ours(path: Path, mapper: Callable, reducer: Callable, pairwise: Callable) -> dict[str, Any]:
    """dparallel, with the function that Spark and Dask are given."""
    return dict(map_reduce(path, mapper, Fold(pairwise)).compute())


def ours_by_key(path: Path, mapper: Callable, reducer: Callable, pairwise: Callable) -> dict[str, Any]:
    """dparallel with a reducer of all values of a key, which is the combiner, too."""
    return dict(map_reduce(path, mapper, reducer, combiner=reducer).compute())


def spark(path: Path, mapper: Callable, reducer: Callable, pairwise: Callable) -> dict[str, Any]:
    """Spark's reduceByKey."""
    from pyspark.sql import SparkSession

    lines = SparkSession.active().sparkContext.textFile(str(path))
    return lines.flatMap(mapper).reduceByKey(pairwise).collectAsMap()


def foldby(path: Path, mapper: Callable, reducer: Callable, pairwise: Callable) -> dict[str, Any]:
    """Dask's foldby on a bag of the pairs."""
    pairs = dask.bag.read_text(path, blocksize=BLOCK).map(mapper).flatten()

    def fold(left: tuple[str, Any], right: tuple[str, Any]) -> tuple[str, Any]:
        return left[0], pairwise(left[1], right[1])

    return {word: pair[1] for word, pair in pairs.foldby(0, fold).compute()}


PEERS: dict[str, tuple[str, str, Callable[..., dict[str, Any]]]] = {
    "ours": ("dparallel, 2 processes", "cluster", ours),
    "ours-by-key": ("dparallel, 2 processes, lists of values", "cluster", ours_by_key),
    "spark": ("Spark reduceByKey", "spark", spark),
    "foldby": ("Dask foldby", "cluster", foldby),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--megabytes", type=int, default=300, help="size of the text (default: 300)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs, the median is told (default: 3)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="default: all")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")


def run(options: argparse.Namespace, report: Report) -> None:
    """Time every peer on every task."""
    megabytes, repeats = (1, 1) if options.quick else (options.megabytes, options.repeats)
    peers = list(options.peers)
    missing = spark_is_missing() if "spark" in peers else None
    if missing:
        report.note(f"Spark is skipped: {missing}.")
        peers.remove("spark")
    rows = report.tables.setdefault("Seconds", [])
    report.figure = Bars("Seconds", group="case", bar="who", value="seconds")
    with tempfile.TemporaryDirectory(prefix="dparallel-") as folder:
        text, part = Path(folder, "text"), Path(folder, "part")
        write_text(text, megabytes * MEGABYTE, seed=0)
        write_text(part, MEGABYTE // 2, seed=1)
        for task in options.tasks:
            rows += measure(task, peers, text, part, repeats)
    if "ours" in peers and len(peers) > 1:
        report.tables["Ratios of seconds"] = compare(rows)


def measure(task: str, peers: list[str], text: Path, part: Path, repeats: int) -> list[dict[str, Any]]:
    """Run the peers in turns and return a row for each."""
    *functions, plainly = TASKS[task]
    expected = plainly(text)
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    correct = dict.fromkeys(peers, True)
    for turn in range(repeats):
        for name in peers:
            _, needs, compute = PEERS[name]
            with OPENERS[needs]():
                compute(part, *functions)
                started = time.perf_counter()
                found = compute(text, *functions)
                seconds[name].append(time.perf_counter() - started)
            correct[name] &= found == expected
            print(f"{task}, turn {turn}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return [
        {
            "case": task,
            "who": PEERS[name][0],
            "MB": round(text.stat().st_size / MEGABYTE),
            "keys": len(expected),
            "seconds": statistics.median(seconds[name]),
            "as a plain loop": correct[name],
            "all seconds": seconds[name],
        }
        for name in peers
    ]


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return dparallel's seconds as a share of each other's."""
    mine = {row["case"]: row["seconds"] for row in rows if row["who"] == PEERS["ours"][0]}
    return [
        {"case": row["case"], "dparallel / peer": mine[row["case"]] / row["seconds"], "peer": row["who"]}
        for row in rows
        if row["who"] != PEERS["ours"][0]
    ]
