"""Data of a search, computed once and kept in the memory of the workers while it runs, if they fit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import dask
import dask.array as da
import dask.threaded
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.sizeof import sizeof
from dask.utils import ensure_dict

from dparallel import compat
from dparallel.blocks.budget import cluster_limit, memory_share, shard_budget
from dparallel.blocks.dask_arrays import is_partitioned
from dparallel.errors import StreamingWarning, warn
from dparallel.model_selection.parts import tasks_of
from dparallel.place import Cluster, Local


def hold(collections: Sequence[Any], place: Cluster | Local) -> list[Any]:
    """Compute Dask collections and keep their blocks, each read once, if all fit into the share of memory.

    Parameters
    ----------
    collections : Dask arrays, series and dataframes with the same number of blocks
    place : Cluster or Local; where there is a cluster, blocks stay on its workers

    Returns
    -------
    collections : of the same kinds, blocks and names; their memory is free again when they are forgotten
        If they do not fit, the collections as they were given, and a StreamingWarning says so.

    Notes
    -----
    Where sizes cannot be known, the first block of each tells: it is computed, and kept.
    """
    if memory_share() == 0.0 or all(_is_held(each) for each in collections):
        return list(collections)
    graph, keys = _together(collections)
    names = [key for own in keys for key in own]
    get = _getter(graph, place)
    first = get([own[0] for own in keys])
    size = _expected_bytes(collections, first, place)
    budget = _budget(place)
    if budget is not None and size > budget:
        warn(
            f"X and y take about {size / 1e9:.2f} GB, and {budget / 1e9:.2f} GB of the memory may hold them, so they "
            "are read again in every fit. Add workers or memory, or raise dparallel.memory-share in Dask's "
            "configuration.",
            StreamingWarning,
        )
        return list(collections)
    found = get(names)
    _wait(list(found.values()), place)
    return [_made_of(each, {key: found[key] for key in own}) for each, own in zip(collections, keys)]


def _together(collections: Sequence[Any]) -> tuple[dict[Hashable, Any], list[list[Hashable]]]:
    """One graph for all, in which arrays that are made of the same blocks share them, and the keys of each."""
    graph: dict[Hashable, Any] = {}
    arrays = [each for each in collections if not is_partitioned(each)]
    if arrays:
        wanted = [each.__dask_keys__() for each in arrays]
        merged = HighLevelGraph.merge(*(each.__dask_graph__() for each in arrays))
        graph |= ensure_dict(da.Array.__dask_optimize__(merged, wanted))
    keys = []
    for each in collections:
        if is_partitioned(each):
            frame = each.simplify()  # optimize() also joins partitions
            graph |= ensure_dict(frame.__dask_graph__())
            keys.append(list(frame.__dask_keys__()))
        else:
            keys.append(list(flatten(each.__dask_keys__())))
    return graph, keys


def _getter(graph: dict[Hashable, Any], place: Cluster | Local) -> Callable[[list[Hashable]], dict[Hashable, Any]]:
    """A function that computes keys of a graph, each once however often it is called."""
    known: dict[Hashable, Any] = {}

    def get(keys: list[Hashable]) -> dict[Hashable, Any]:
        new = [key for key in keys if key not in known]
        if isinstance(place, Cluster):
            # the scheduler computes no key that is there
            known.update(zip(new, place.client.get(graph, new, sync=False), strict=True))
        else:
            tasks = dict(graph) | known
            known.update(zip(new, dask.threaded.get(tasks, new, num_workers=place.n_threads), strict=True))
        return {key: known[key] for key in keys}

    return get


def _expected_bytes(collections: Sequence[Any], first: dict[Hashable, Any], place: Cluster | Local) -> int:
    n_blocks = [each.npartitions for each in collections]
    if isinstance(place, Cluster):
        _wait(list(first.values()), place)
        sizes = place.client.nbytes([value.key for value in first.values()], summary=False)
        measured = [sizes.get(value.key, 0) for value in first.values()]
    else:
        measured = [sizeof(value) for value in first.values()]
    total = 0
    for each, blocks, size in zip(collections, n_blocks, measured, strict=True):
        known = getattr(each, "nbytes", None) if isinstance(each, da.Array) else None
        total += int(known) if known is not None and known == known else size * blocks
    return total


def _budget(place: Cluster | Local) -> int | None:
    """Bytes that may be held, None for any number."""
    if not isinstance(place, Cluster):
        return shard_budget(memory_share(), 1)
    limit = cluster_limit(place.client)
    return None if limit is None else int(memory_share() / place.count_fits() * limit)


def _wait(values: list[Any], place: Cluster | Local) -> None:
    if isinstance(place, Cluster):
        from distributed import wait

        wait(values)
        for value in values:
            if value.status != "finished":
                value.result()  # raises what the task raised


def _is_held(collection: Any) -> bool:
    """Whether a collection is nothing but futures or data already."""
    tasks, futures = compat.task_graph(tasks_of(collection)[0])
    return all(key in futures or compat.is_plain_data(task) for key, task in tasks.items())


def _made_of(collection: Any, found: dict[Hashable, Any]) -> Any:
    if is_partitioned(collection):
        import dask.dataframe as dd

        keys: list[Any] = list(found)
        return dd.from_graph(found, collection._meta, collection.divisions, keys, keys[0][0])
    return da.Array(found, collection.name, collection.chunks, meta=collection._meta)
