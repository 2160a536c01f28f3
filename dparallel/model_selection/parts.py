"""Parts of the data, such as the rows of a fold: a rule for each block, and how many rows it chooses there."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict

from dparallel.blocks.dask_arrays import is_partitioned, row_counts
from dparallel.blocks.matrix import to_values
from dparallel.blocks.reducing import compute
from dparallel.errors import AlignmentError
from dparallel.metrics.tallies import vector
from dparallel.model_selection.rules import Listed


@dataclass(frozen=True)
class Part:
    """Some rows of data whose blocks have known lengths.

    Parameters
    ----------
    rules : tuple, of each block: callable (n_rows, values) -> bool mask or row numbers
    lengths : tuple of int, rows of each block
    counts : tuple of int, chosen rows of each block
    values : dask.array.Array of shape (n_rows,) that the rules are about, such as y, or None
    """

    rules: tuple[Any, ...]
    lengths: tuple[int, ...]
    counts: tuple[int, ...]
    values: da.Array | None = None


def make_parts(rules: Sequence[Sequence[Any]], lengths: Sequence[int], values: da.Array | None = None) -> list[Part]:
    """Make parts of rules, counting rows where the rules themselves cannot: one number per rule crosses the network.

    Parameters
    ----------
    rules : of each part the rules of all blocks
    lengths : rows of each block
    values : dask.array.Array with blocks of these lengths, or None
    """
    counts = [[rule.count(n) for rule, n in zip(own, lengths, strict=True)] for own in rules]
    unknown = [i for i in range(len(lengths)) if any(own[i] is None for own in counts)]
    if unknown:
        graph, keys = _value_tasks(values)
        name = f"dparallel-count-{uuid.uuid4().hex}"
        graph |= {
            (name, i): (_count, [own[i] for own in rules], lengths[i], keys[i] if keys else None) for i in unknown
        }
        found = compute(graph, [(name, i) for i in unknown])
        for i, numbers in zip(unknown, found, strict=True):
            for own, number in zip(counts, numbers, strict=True):
                own[i] = number
    return [
        Part(tuple(own), tuple(lengths), tuple(numbers), values) for own, numbers in zip(rules, counts, strict=True)
    ]


def listed(rows: Any, lengths: Sequence[int]) -> Part:
    """The part of some row numbers, or of a mask, in memory; within a block rows keep the order that is given."""
    rows = np.asarray(rows)
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    ends = np.cumsum(lengths)
    block = np.searchsorted(ends, rows, side="right")
    starts = ends - np.asarray(lengths)
    rules = tuple(Listed(rows[block == i] - starts[i]) for i in range(len(lengths)))
    return Part(rules, tuple(lengths), tuple(len(rule.rows) for rule in rules))


def numbers_of(part: Part) -> np.ndarray:
    """The chosen rows' global numbers, ascending, brought to the client: ndarray of shape (n_chosen,), int64."""
    graph, keys = _value_tasks(part.values)
    name = f"dparallel-rows-{uuid.uuid4().hex}"
    tasks = [(name, i) for i in range(len(part.rules))]
    graph |= {
        task: (_chosen, part.rules[i], part.lengths[i], keys[i] if keys else None) for i, task in enumerate(tasks)
    }
    starts = np.cumsum((0, *part.lengths))
    return np.concatenate([start + rows for start, rows in zip(starts, compute(graph, tasks))]).astype(np.int64)


def select(collection: Any, part: Part) -> Any:
    """The rows of a part, lazily; blocks of which no row is chosen are left out and not read.

    Parameters
    ----------
    collection : Dask array, series or dataframe whose blocks are those of the part
    part : Part

    Returns
    -------
    rows : Dask collection of the same kind; an array with chunks of known lengths

    Raises
    ------
    AlignmentError
        If the collection has another number of blocks.
    """
    n_blocks = collection.npartitions if is_partitioned(collection) else collection.numblocks[0]
    if n_blocks != len(part.lengths):
        raise AlignmentError(
            f"The part is of data of {len(part.lengths)} blocks, and this collection has {n_blocks}. Split collections "
            "together, or build them from the same one."
        )
    kept = [i for i, count in enumerate(part.counts) if count] or [0]
    if is_partitioned(collection):
        return _select_partitions(collection, part, kept)
    return _select_blocks(collection, part, kept)


def _select_blocks(array: da.Array, part: Part, kept: Sequence[int]) -> da.Array:
    name = f"dparallel-take-{uuid.uuid4().hex}"
    others = np.ndindex(*array.numblocks[1:])
    layer = {
        (name, to, *at): (
            _take, (array.name, i, *at), part.rules[i], part.lengths[i], _key_of(part.values, i)
        )
        for at in others
        for to, i in enumerate(kept)
    }  # fmt: skip
    sources = [array] if part.values is None else [array, part.values]
    graph = HighLevelGraph.from_collections(name, layer, dependencies=sources)
    chunks = (tuple(part.counts[i] for i in kept), *array.chunks[1:])
    return da.Array(graph, name, chunks, meta=array._meta)


def _select_partitions(frame: Any, part: Part, kept: Sequence[int]) -> Any:
    import dask.dataframe as dd

    graph, keys = tasks_of(frame)
    values, value_keys = _value_tasks(part.values)
    name = f"dparallel-take-{uuid.uuid4().hex}"
    names = [(name, to) for to in range(len(kept))]
    graph = graph | values
    for task, i in zip(names, kept, strict=True):
        graph[task] = (_take, keys[i], part.rules[i], part.lengths[i], value_keys[i] if value_keys else None)
    return dd.from_graph(graph, frame._meta, (None,) * (len(kept) + 1), names, name)


def tasks_of(collection: Any) -> tuple[dict[Hashable, Any], list[Hashable]]:
    """The graph of a Dask collection, optimised but with all its blocks, and what tasks name these by, in row order."""
    if is_partitioned(collection):
        frame = collection.simplify()  # optimize() also joins partitions
        given, keys = ensure_dict(frame.__dask_graph__()), list(frame.__dask_keys__())
        graph = given
    else:
        given, keys = ensure_dict(collection.__dask_graph__()), list(flatten(collection.__dask_keys__()))
        graph = ensure_dict(collection.__dask_optimize__(collection.__dask_graph__(), keys))
    # of a block that is a future under its own key, optimisation leaves nothing
    return graph, [key if key in graph else given[key] for key in keys]


def with_lengths(array: da.Array, lengths: Sequence[int]) -> da.Array:
    """The same Dask array, its blocks of known lengths."""
    if None not in row_counts(array):
        return array
    return da.Array(array.dask, array.name, (tuple(lengths), *array.chunks[1:]), meta=array._meta)


def count_lengths(collection: Any) -> tuple[int, ...]:
    """Rows of each block of a Dask collection: where unknown they are counted, one number per block."""
    if not is_partitioned(collection) and None not in row_counts(collection):
        return tuple(int(rows) for rows in collection.chunks[0])
    if not is_partitioned(collection) and collection.ndim > 1:
        collection = collection[:, :1]
    graph, keys = tasks_of(collection)
    name = f"dparallel-length-{uuid.uuid4().hex}"
    tasks = [(name, i) for i in range(len(keys))]
    graph |= {task: (_length, key) for task, key in zip(tasks, keys, strict=True)}
    return tuple(compute(graph, tasks))


def _value_tasks(values: da.Array | None) -> tuple[dict[Hashable, Any], list[Hashable]]:
    return ({}, []) if values is None else tasks_of(values)


def _key_of(values: da.Array | None, i: int) -> Any:
    return None if values is None else (values.name, i, *(0,) * (values.ndim - 1))


def _length(block: Any) -> int:
    return int(block.shape[0])


def _chosen(rule: Any, n_rows: int, values: Any) -> np.ndarray:
    rows = np.asarray(rule(n_rows, None if values is None else vector("y", to_values(values))))
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def _count(rules: Sequence[Any], n_rows: int, values: Any) -> list[int]:
    return [len(_chosen(rule, n_rows, values)) for rule in rules]


def _take(block: Any, rule: Any, n_rows: int, values: Any) -> Any:
    if block.shape[0] != n_rows:
        raise AlignmentError(
            f"A block has {block.shape[0]} rows, and {n_rows} were counted. Are the blocks of these data the same each "
            "time they are computed? Split collections together, or build them from the same one."
        )
    rows = _as_slice(_chosen(rule, n_rows, values))
    if isinstance(rows, slice) and rows == slice(0, n_rows):
        return block
    return block.iloc[rows] if hasattr(block, "iloc") else block[rows]


def _as_slice(rows: np.ndarray) -> np.ndarray | slice:
    """Row numbers that follow each other as a slice, which copies nothing."""
    n = len(rows)
    if n and rows[-1] - rows[0] == n - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[0]) + n)
    return rows
