"""map_reduce: one graph of map tasks, buckets and reduce tasks."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Hashable, Iterable
from typing import Any
from uuid import uuid4

from dask.bag import Bag, Item
from dask.highlevelgraph import HighLevelGraph

from dparallel.errors import DataError, DataKindError
from dparallel.mapreduce.folding import Fold
from dparallel.mapreduce.output import ReducedBag
from dparallel.mapreduce.partitioning import partition_of
from dparallel.mapreduce.sources import to_bag
from dparallel.mapreduce.tasks import Counters, Job

MOST_REDUCERS = 64  # with "auto": there is a bucket, which is a task, for each partition and reducer


def map_reduce(
    source: Any,
    mapper: Callable[[Any], Iterable[tuple[Hashable, Any]]],
    reducer: Callable[[Hashable, list[Any]], Any],
    *,
    combiner: Callable[[Hashable, list[Any]], Any] | None = None,
    n_reducers: int | str = "auto",
    partitioner: Callable[[Hashable, int], int] | None = None,
    sort: bool = True,
) -> ReducedBag:
    """Map records to (key, value) pairs and reduce the values of each key, lazily.

    Parameters
    ----------
    source : Dask bag, list of partitions, path, or list of paths
        A partition is a sequence of records (list, tuple, range, array). Paths are those of text files, or globs; a
        record is then a line with its line end. Files are read in blocks of 32 MiB, compressed ones as a whole.
    mapper : function (record) -> iterable of (key, value)
        Most often a generator function. Keys are hashable.
    reducer : function (key, values) -> result
        Called once for each key; values is a list in the order of the source. It returns one result, does not yield,
        and does not change the values themselves. A `Fold` takes in one value at a time, which is quicker.
    combiner : function (key, values) -> value, optional
        Called where records are mapped, on values of one key, zero or more times, and also on what it returned before.
        What it returns takes the place of the values, so it must not matter how often it was called. Often the
        reducer itself, as it is without asking where the reducer is a `Fold`.
    n_reducers : int or "auto"
        Number of partitions of the result. "auto" is that of the source, 64 at most.
    partitioner : function (key, n_reducers) -> int, optional
        Chooses the partition of the result; equal keys must get the same in every process. Without one, keys are str,
        bytes, numbers, None and tuples of these, and a hash of them decides that does not depend on the process.
    sort : bool
        Whether keys are sorted within each partition of the result. Otherwise they come in the order of the source.

    Returns
    -------
    bag : ReducedBag, a lazy Dask bag of (key, result) pairs
        Its attribute `counters` is a lazy dask.bag.Item of `dparallel.mapreduce.Counters`, and its method `to_files`
        writes it.

    Raises
    ------
    DataKindError
        If an argument is of the wrong kind. While computing: if a key is, or if keys cannot be sorted.
    DataError
        If source is empty or its files are missing, or n_reducers is less than 1. While computing: if a key is NaN.
    MapReduceError
        While computing: if one of the functions fails. It names the partition and the record or key, and its cause is
        what the function raised.

    Notes
    -----
    Over the network go the buckets: for each partition of the source and each reducer a dict of what the combiner left.
    A worker's death makes Dask compute again what was lost with it, and no more; the counters stay right, since they
    belong to the results of tasks. All that one reducer gets, and all that a map task yields where there is no
    combiner, must fit into a worker's memory.

    Keys that are equal meet, as in a dict: 1, 1.0 and True are one key.

    References
    ----------
    J. Dean, S. Ghemawat: MapReduce: simplified data processing on large clusters. OSDI 2004.

    Examples
    --------
    >>> from dparallel import map_reduce
    >>> def words(line):
    ...     for word in line.split():
    ...         yield word, 1
    >>> def total(word, counts):
    ...     return sum(counts)
    >>> lines = [["to be or not"], ["to be"]]  # two partitions
    >>> counts = map_reduce(lines, words, total, combiner=total, n_reducers=1)
    >>> counts.compute(scheduler="threads")
    [('be', 2), ('not', 1), ('or', 1), ('to', 2)]
    >>> counts.counters.compute(scheduler="threads")
    Counters(n_records=2, n_pairs=6, n_combined=6, n_keys=4)
    """
    check_functions(mapper, reducer, combiner, partitioner)
    if not isinstance(sort, bool):
        raise DataKindError(f"sort is {sort!r}. Give True or False.")
    check_number(n_reducers)
    if combiner is None and isinstance(reducer, Fold):
        combiner = reducer
    bag = to_bag(source)
    n = min(bag.npartitions, MOST_REDUCERS) if n_reducers == "auto" else int(n_reducers)
    return build(bag, Job(mapper, reducer, combiner, partitioner or partition_of, n, sort))


def check_functions(mapper: Any, reducer: Any, combiner: Any, partitioner: Any) -> None:
    """Refuse what cannot be called, and a reducer or combiner that yields."""
    for name, function, optional in (
        ("mapper", mapper, False),
        ("reducer", reducer, False),
        ("combiner", combiner, True),
        ("partitioner", partitioner, True),
    ):
        if not callable(function) and not (optional and function is None):
            raise DataKindError(f"{name} is {function!r}. Give a function{' or None' if optional else ''}.")
        if name != "mapper" and inspect.isgeneratorfunction(function):
            raise DataKindError(f"{name} yields, and must return one value. Only the mapper yields.")


def check_number(n_reducers: Any) -> None:
    """Refuse a number of reducers that is none."""
    if isinstance(n_reducers, str) and n_reducers == "auto":
        return
    if isinstance(n_reducers, bool) or not hasattr(n_reducers, "__index__"):
        raise DataKindError(f'n_reducers is {n_reducers!r}. Give a number or "auto".')
    if n_reducers < 1:
        raise DataError(f"n_reducers is {n_reducers}. Give 1 or more.")


def build(bag: Bag, job: Job) -> ReducedBag:
    """Return the result as a bag whose graph stands on that of the source."""
    token = uuid4().hex  # not a hash of the functions: those need not be the same because their names are
    maps, reduced, results = f"map-{token}", f"reduce-{token}", f"mapreduce-{token}"
    # a name that Dask's scheduler knows to be quick, so that no bucket is carried away to be cut out elsewhere
    buckets = f"split-shuffle-{token}"
    n_maps, n = bag.npartitions, job.n_reducers
    layers: dict[str, dict[Any, Any]] = {
        maps: {(maps, i): (job.map, i, (bag.name, i)) for i in range(n_maps)},
        buckets: {(buckets, i, j): (operator.getitem, (maps, i), j) for i in range(n_maps) for j in range(n + 1)},
        reduced: {(reduced, j): (job.reduce, j, [(buckets, i, j) for i in range(n_maps)]) for j in range(n)},
        results: {(results, j): (operator.getitem, (reduced, j), 0) for j in range(n)},
    }
    graph = HighLevelGraph.from_collections(maps, layers[maps], dependencies=[bag])
    for below, name in ((maps, buckets), (buckets, reduced), (reduced, results)):
        graph = stack(graph, name, layers[name], {below})
    counts = f"mapreduce-counters-{token}"
    parts = [(buckets, i, n) for i in range(n_maps)], [(operator.getitem, (reduced, j), 1) for j in range(n)]
    counters = Item(stack(graph, counts, {counts: (total, *parts)}, {buckets, reduced}), counts)
    return ReducedBag(graph, results, n, counters)


def stack(graph: HighLevelGraph, name: str, layer: dict[Any, Any], below: set[str]) -> HighLevelGraph:
    """Return a graph with one layer more."""
    return HighLevelGraph({**graph.layers, name: layer}, {**graph.dependencies, name: below})


def total(maps: list[Counters], reduces: list[Counters]) -> Counters:
    """Add up the counters of all tasks."""
    return functools.reduce(operator.add, [*maps, *reduces])
