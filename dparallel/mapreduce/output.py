"""The result of a job: a Dask bag that can be counted and written to files."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any

import dask
from dask.bag import Bag, Item
from dask.highlevelgraph import HighLevelGraph

from dparallel import place
from dparallel.checkpoint import flush_folder
from dparallel.compat import worker_threads
from dparallel.errors import ClusterLostError, DataError, DataKindError, OutputExistsError
from dparallel.mapreduce.tasks import Counters, Results, shorten

SCRATCH = "_temporary-"
CLAIM, SUCCESS = "_committing", "_SUCCESS"
TICK_S = 1.0
ANSWER_S = 7.0  # a scheduler that is silent for so long is taken for dead


class ReducedBag(Bag):
    """A lazy Dask bag of (key, result) pairs.

    Parameters
    ----------
    dsk : HighLevelGraph
    name : str
    npartitions : int
    counters : dask.bag.Item or None

    Attributes
    ----------
    counters : dask.bag.Item of Counters, lazy; None for bags that were made from this one
        ``dask.compute(bag, bag.counters)`` computes both in one go, and ``dask.persist`` holds both.
    """

    def __init__(self, dsk: Any, name: str, npartitions: int, counters: Item | None = None):
        super().__init__(dsk, name, npartitions)
        self.counters = counters

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.dask, self.name, self.npartitions, self.counters)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dask, self.name, self.npartitions, self.counters = state

    def __dask_postcompute__(self) -> tuple[Callable[[Iterable[Any]], Results], tuple[()]]:
        return concatenate, ()

    def _rebuild(self, dsk: Any, *, rename: dict[str, str] | None = None) -> ReducedBag:
        return ReducedBag(dsk, (rename or {}).get(self.name, self.name), self.npartitions, self.counters)

    def to_files(
        self, folder: str | os.PathLike[str], *, line: Callable[[Any, Any], str] | None = None
    ) -> Counters | None:
        """Compute the bag and write each partition to a file of its own, part-00000 and so on.

        Parameters
        ----------
        folder : str or Path
            Made where it is missing. Workers must reach it under the same path.
        line : function (key, result) -> str, optional
            Returns a line without its end. Without one: key, tab, result, both by str.

        Returns
        -------
        counters : Counters, or None where the bag has none

        Raises
        ------
        OutputExistsError
            If the folder holds anything, be it finished output or not; nothing is overwritten.
        DataError
            If a line holds a line break, or a key a tab. Give a function `line` that escapes them.
        ClusterLostError
            If the cluster dies, or has no worker for longer than dparallel.timeouts.workers.
        MapReduceError, DataKindError
            As map_reduce.

        Notes
        -----
        Files are UTF-8. Each is written under a temporary name in a folder _temporary-..., brought to the disk and
        renamed, so that a task that runs twice leaves one file. When all are whole, they are moved into the folder, and
        an empty file _SUCCESS is made last. After an error none of them is there.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise DataKindError(f"folder is a {type(folder).__name__}. Give a path.")
        if line is not None and not callable(line):
            raise DataKindError(f"line is {line!r}. Give a function or None.")
        target = Path(os.path.abspath(os.fspath(folder)))
        refuse_what_is_there(target)
        scratch = target / f"{SCRATCH}{secrets.token_hex(8)}"
        scratch.mkdir(parents=True)
        try:
            counters = self._write(scratch, line or tab_separated)
            commit(scratch, target, self.npartitions)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return counters

    def _write(self, scratch: Path, line: Callable[[Any, Any], str]) -> Counters | None:
        """Compute this bag and write its files into scratch."""
        name = f"mapreduce-write-{scratch.name.removeprefix(SCRATCH)}"
        write = functools.partial(write_part, scratch=str(scratch), line=line)
        layer = {(name, i): (write, i, (self.name, i)) for i in range(self.npartitions)}
        parts = Bag(HighLevelGraph.from_collections(name, layer, dependencies=[self]), name, self.npartitions)
        wanted = [parts] if self.counters is None else [parts, self.counters]
        with place.find(is_dask=True) as where:
            results = compute_on(where.client, wanted) if isinstance(where, place.Cluster) else dask.compute(*wanted)
        return None if self.counters is None else results[1]


def concatenate(parts: Iterable[Iterable[Any]]) -> Results:
    """Return all partitions as one list."""
    return Results(chain.from_iterable(parts))


def write_part(number: int, pairs: Iterable[Any], scratch: str, line: Callable[[Any, Any], str]) -> list[str]:
    """Write one file that is whole or not there, and return its name."""
    name = f"part-{number:05d}"
    temporary = Path(scratch, f".{name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            for pair in pairs:
                if type(pair) is not tuple or len(pair) != 2:  # a str of two letters would pass for a pair
                    raise DataError(f"{shorten(pair)} is no (key, result) pair. Write this bag by to_textfiles.")
                text = line(*pair)
                if "\n" in text or "\r" in text:
                    raise DataError(
                        f"The line of {shorten(pair)} in output partition {number} holds a line break: "
                        f"{shorten(text)}. Give to_files a function `line` that escapes it."
                    )
                file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, Path(scratch, name))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return [name]


def tab_separated(key: Any, result: Any) -> str:
    """Return key, tab, result."""
    text = str(key)
    if "\t" in text:
        raise DataError(f"The key {shorten(key)} holds a tab. Give to_files a function `line` that escapes it.")
    return f"{text}\t{result}"


def refuse_what_is_there(target: Path) -> None:
    """Raise OutputExistsError if a folder holds anything but temporary folders of other runs."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise OutputExistsError(f"{target} is a file. Give the path of a folder.")
    found = sorted(path.name for path in target.iterdir() if not path.name.startswith(SCRATCH))
    if SUCCESS in found:
        raise OutputExistsError(f"{target} holds finished output. Delete it, or give another folder.")
    if found:
        raise OutputExistsError(
            f"{target} is not empty: it holds {', '.join(found[:5])}. Give an empty folder, or one that is not there."
        )


def commit(scratch: Path, target: Path, n_parts: int) -> None:
    """Move the finished files to where they belong; a file that only one run can make keeps others away."""
    names = [f"part-{number:05d}" for number in range(n_parts)]
    refuse_what_is_there(target)
    try:
        (target / CLAIM).touch(exist_ok=False)
    except FileExistsError as error:
        raise OutputExistsError(f"Another run is writing to {target}. Give another folder.") from error
    for name in names:
        os.rename(scratch / name, target / name)
    flush_folder(target)
    os.rename(target / CLAIM, target / SUCCESS)
    flush_folder(target)


def compute_on(client: Any, collections: list[Any]) -> list[Any]:
    """Compute on a cluster, with an error that has a name if it dies.

    Raises
    ------
    ClusterLostError
    """
    from distributed import KilledWorker, wait

    patience_s = dask.utils.parse_timedelta(dask.config.get("dparallel.timeouts.workers", "60s"))
    futures = client.compute(collections)
    last_seen = monotonic()
    try:
        while True:
            with suppress(TimeoutError):
                wait(futures, timeout=TICK_S)
            for future in futures:
                if future.status == "error":
                    future.result(timeout=ANSWER_S)  # raises what the task raised, though others still run
            if all(future.status == "finished" for future in futures):
                with suppress(TimeoutError):
                    return [future.result(timeout=TICK_S) for future in futures]
            if worker_threads(client, ANSWER_S):
                last_seen = monotonic()
            if monotonic() - last_seen > patience_s:
                raise ClusterLostError(
                    f"The cluster {client!r} has had no worker for {patience_s:g} s. Start workers, or let dparallel "
                    "wait longer by dask.config.set({'dparallel.timeouts.workers': '10 minutes'})."
                )
    except KilledWorker as error:
        raise ClusterLostError(
            f"{error.allowed_failures + 1} workers died one after another while they ran the same task ({error.task!r}"
            "), most often because they ran out of memory. Give workers more memory, use more partitions or "
            "reducers, or allow more deaths by Dask's distributed.scheduler.allowed-failures."
        ) from error
    except (CancelledError, ConnectionError) as error:
        raise ClusterLostError(
            f"The connection to the Dask scheduler was lost ({client!r}), or the tasks were cancelled. Start a "
            "cluster, open a new Client and write again."
        ) from error
    finally:
        if client.status == "running":
            client.cancel(futures)
