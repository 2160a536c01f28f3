"""Fit k-means to more rows than the workers' memory holds, and watch the memory of all processes.

Files of about 64 MB are written to a temporary folder, fitted by two worker processes as a Dask array that reads a file
per chunk, and deleted. Every read is logged, so the table tells how often each file was read. The client's process also
holds Dask's scheduler; its growth is its peak over what it had just before the fit. Reading files that the system has
in its page cache costs less than reading from a disk.
"""

from __future__ import annotations

import argparse
import collections
import os
import statistics
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil

from benchmarks.cluster import open_cluster
from benchmarks.results import Lines, Report
from dparallel import ParallelKMeans

N_FEATURES = 20
N_CLUSTERS = 20
N_WORKERS = 2
SAMPLE_EVERY_S = 0.1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--gigabytes", type=float, default=6.0, help="size of the data (default: 6)")
    parser.add_argument("--limit", type=float, default=1.5, help="gigabytes of memory per worker (default: 1.5)")
    parser.add_argument("--rounds", type=int, default=5, help="Lloyd's rounds after seeding (default: 5)")
    parser.add_argument("--folder", type=Path, help="where to write the files (default: the system's temporary folder)")


def run(options: argparse.Namespace, report: Report) -> None:
    """Write, fit under watch, and count."""
    data_bytes, file_bytes = (20e6, 1e6) if options.quick else (options.gigabytes * 1e9, 64e6)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.folder) as folder:
        paths = write_files(Path(folder), data_bytes, file_bytes)
        log = Path(folder) / "reads.log"
        rows = array_of_files(paths, log)
        with open_cluster(N_WORKERS, memory_limit=int(options.limit * 1e9)) as client, Watch() as watch:
            workers = set(client.run(os.getpid).values())
            started = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = ParallelKMeans(N_CLUSTERS, max_iter=options.rounds, tol=0, random_state=0).fit(rows)
            seconds = time.perf_counter() - started
            spilled_bytes = sum(client.run(spilled).values())
            n_restarted = len(set(client.run(os.getpid).values()) - workers)
        counts = collections.Counter(log.read_text().split())
        sizes = {str(i): path.stat().st_size for i, path in enumerate(paths)}
    for sentence in dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught):
        report.note(sentence)
    report.tables["Memory"] = as_rows(
        {
            "data, GB": sum(sizes.values()) / 1e9,
            "limit of each of 2 workers, GB": options.limit,
            "client grew by at most, MB": watch.growth(os.getpid()) / 1e6,
            "worker's peak, GB": max(watch.peaks[pid] for pid in workers if pid in watch.peaks) / 1e9,
            "workers restarted": n_restarted,
            "spilled to disk by Dask, GB": spilled_bytes / 1e9,
            "fit, s": seconds,
            "rounds": model.n_iter_,
            "last round, s": model.history_[-1].seconds,
            **count_reads(counts, sizes),
            "inertia": model.inertia_,
        }
    )
    report.figure = Lines(watch.series(workers), "seconds", "resident memory, GB")


def write_files(folder: Path, data_bytes: float, file_bytes: float) -> list[Path]:
    """Write a mixture of Gaussians as .npy files of float64."""
    n_rows = int(file_bytes / 8 / N_FEATURES)
    paths = [folder / f"{i}.npy" for i in range(max(1, round(data_bytes / (n_rows * 8 * N_FEATURES))))]
    centres = np.random.default_rng(0).normal(scale=3, size=(N_CLUSTERS, N_FEATURES))
    for i, path in enumerate(paths):
        random = np.random.default_rng([1, i])
        X = random.standard_normal((n_rows, N_FEATURES))
        X += centres[random.integers(N_CLUSTERS, size=n_rows)]
        np.save(path, X)
    return paths


def read_file(path: str, log: str, number: int) -> np.ndarray:
    """Read one file and write a line that tells so; appended lines of several processes do not mix."""
    with open(log, "a") as lines:
        lines.write(f"{number}\n")
    return np.load(path)


def array_of_files(paths: list[Path], log: Path) -> da.Array:
    """Return a lazy Dask array with one chunk per file."""
    shape = np.load(paths[0], mmap_mode="r").shape
    read = dask.delayed(read_file)
    return da.concatenate(
        [da.from_delayed(read(str(path), str(log), i), shape, np.float64) for i, path in enumerate(paths)]
    )


def spilled(dask_worker: Any) -> float:
    """Return the bytes that a worker has written to disk since it started, because memory was short."""
    return getattr(dask_worker.data, "cumulative_metrics", {}).get(("disk-write", "bytes"), 0.0)


def count_reads(counts: dict[str, int], sizes: dict[str, int]) -> dict[str, Any]:
    """Tell passes and bytes: a file that was read only once stayed in a worker's memory."""
    return {
        "reads of a file, fewest": min(counts.values()),
        "reads of a file, median": statistics.median(counts.values()),
        "reads of a file, most": max(counts.values()),
        "files kept in memory, GB": sum(sizes[name] for name, count in counts.items() if count == 1) / 1e9,
        "read per round, GB": sum(sizes[name] for name, count in counts.items() if count > 1) / 1e9,
        "read in all, GB": sum(sizes[name] * count for name, count in counts.items()) / 1e9,
    }


def as_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a table of two columns."""
    return [{"figure": name, "value": value} for name, value in figures.items()]


class Watch:
    """Looks at the resident memory of this process and of all its children, from a thread, while the block runs.

    Attributes
    ----------
    samples : list of (seconds, {pid: bytes})
    peaks : dict of pid -> bytes
    """

    def __init__(self) -> None:
        self.samples: list[tuple[float, dict[int, int]]] = []
        self.peaks: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._started = time.perf_counter()
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self._sample()

    def _sample(self) -> None:
        me = psutil.Process()
        found = {}
        for process in [me, *me.children(recursive=True)]:
            try:
                found[process.pid] = process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.samples.append((time.perf_counter() - self._started, found))
        self.peaks = {pid: max(found.get(pid, 0), self.peaks.get(pid, 0)) for pid in {*found, *self.peaks}}

    def growth(self, pid: int) -> int:
        """Return by how many bytes a process grew at most since the first sample."""
        return self.peaks[pid] - self.samples[0][1][pid]

    def series(self, workers: set[int]) -> dict[str, tuple[list[float], list[float]]]:
        """Return the lines of the plot, in GB."""
        seconds = [second for second, _ in self.samples]
        names = {os.getpid(): "client and scheduler"} | {pid: f"worker {i}" for i, pid in enumerate(sorted(workers))}
        return {name: (seconds, [found.get(pid, 0) / 1e9 for _, found in self.samples]) for pid, name in names.items()}
