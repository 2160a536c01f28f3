"""What map_reduce reads: any source becomes a Dask bag, and nothing is computed."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import dask.bag
from fsspec import open_files

from dparallel.errors import DataError, DataKindError

BLOCK = "32 MiB"  # of text per partition: about a second of work for Python


def to_bag(source: Any) -> dask.bag.Bag:
    """Return a lazy bag of records.

    Parameters
    ----------
    source : Dask bag; list of partitions, each a sequence of records; or path or glob of text files, or a list of these

    Raises
    ------
    DataKindError
        If it is none of these.
    DataError
        If it is empty, or no such file is there.
    """
    if isinstance(source, dask.bag.Bag):
        return source
    if isinstance(source, (str, os.PathLike)):
        return read_lines([source])
    if not isinstance(source, (list, tuple)):
        raise DataKindError(
            f"source is a {type(source).__name__}. Give a Dask bag, a list of partitions (each a list of records), or "
            "paths of text files."
        )
    if not source:
        raise DataError("source is an empty list. Give one partition or path at least; a partition may be empty.")
    n_paths = sum(isinstance(part, (str, os.PathLike)) for part in source)
    if n_paths == len(source):
        return read_lines(source)
    for number, part in enumerate(source):
        if not is_partition(part):
            raise DataKindError(
                f"Item {number} of source is a {type(part).__name__}, and a list of partitions holds sequences of "
                "records. Give [records] if source itself is the records."
            )
    return in_partitions(source)


def is_partition(part: Any) -> bool:
    """Whether it is a sequence of records; a str or bytes, a sequence of characters, is not meant."""
    if isinstance(part, (str, bytes, Mapping)):
        return False
    return isinstance(part, Sequence) or (hasattr(part, "__array__") and getattr(part, "ndim", 0) > 0)


def itself(part: Any) -> Any:
    """Return a partition."""
    return part


def read_lines(paths: Sequence[str | os.PathLike[str]]) -> dask.bag.Bag:
    """Return a bag of the lines of text files, in blocks where files are not compressed."""
    names = [os.fspath(path) for path in paths]
    try:
        is_compressed = any(file.compression for file in open_files(names, compression="infer"))
        blocks = dask.bag.read_text(names, blocksize=None if is_compressed else BLOCK, collection=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"No text can be read from {', '.join(names[:5])}: {error}. Give paths or globs of files that are there, "
            "or a bag from dask.bag.read_text with options of your own."
        ) from error
    return in_partitions([Lines(block) for block in blocks])


@dataclass(frozen=True)
class Lines:
    """Lines of a block of a file, read where they are mapped.

    As a list that is a task's result they might be taken to another worker, which sends them line by line, for 15 s.

    Parameters
    ----------
    block : dask Delayed of a list of lines
    """

    block: Any

    def __iter__(self) -> Iterator[str]:
        return iter(self.block.compute(scheduler="sync"))


def in_partitions(parts: Sequence[Any]) -> dask.bag.Bag:
    """Return a bag of these partitions."""
    name = f"mapreduce-records-{uuid4().hex}"
    # bare lists in a graph would be searched for keys and tasks
    graph = {(name, i): (functools.partial(itself, part),) for i, part in enumerate(parts)}
    return dask.bag.Bag(graph, name, len(parts))
