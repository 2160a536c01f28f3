"""One pass over a few aligned columns: a statistic of each block, merged as a tree where the blocks are.

What this adds to a graph is one task per block and one per sixteen statistics. Rounds, which hold the blocks and pass
over them again and again, would cost more than such a pass does.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import dask.array as da
import dask.threaded
import numpy as np
from dask.core import flatten
from dask.utils import ensure_dict

from dparallel import compat
from dparallel.blocks.align import paired
from dparallel.blocks.dask_arrays import is_dask, is_partitioned
from dparallel.blocks.loading import fused
from dparallel.blocks.matrix import check_length, joined, to_values, to_weights
from dparallel.errors import DataError, DataKindError
from dparallel.place import Cluster, find

FAN_IN = 16


def reduce_rows(
    columns: Mapping[str, Any],
    partial: Callable[..., Any],
    merge: Callable[[Any, Any], Any],
    finish: Callable[[Any], Any] | None = None,
    *,
    as_given: bool = False,
) -> Any:
    """Reduce aligned columns to one small result, in one pass.

    Parameters
    ----------
    columns : mapping of name to Dask array, series or dataframe, or array-like, of shape (n_rows,) or (n_rows, n)
        At least one is a Dask collection; the first of these says how the others are cut. Those that are None are left
        out. The one named sample_weight is checked as weights are.
    partial : picklable callable
        Called with the columns' blocks as keywords, ndarrays, returns a statistic, or None for a block that has nothing
        to tell. Blocks without rows are not shown to it.
    merge : picklable callable (statistic, statistic) -> statistic, associative; called in row order
    finish : picklable callable (statistic) -> result, where the last merge is, or None to fetch the statistic itself
    as_given : bool, whether partial is to see blocks as they are, pandas objects for instance, and not as ndarrays

    Returns
    -------
    result : all that leaves the workers

    Raises
    ------
    AlignmentError
        If the columns cannot be paired row by row.
    DataError
        If no block has anything to tell: there are no rows.
    DataKindError
        If a column is a Dask collection of another kind.
    """
    rows = align(columns)
    graph, keys = _block_tasks(rows, partial, as_given)
    graph = fused(graph, keys)
    final = _tree(graph, keys, merge, finish)
    found = compute(graph, [final])[0]
    if found is None:
        raise DataError("Found array with 0 sample(s): no block holds any row. Give at least one row.")
    return found


def align(columns: Mapping[str, Any]) -> dict[str, da.Array]:
    """Cut columns into the blocks of the first that is a Dask collection; see reduce_rows.

    Returns
    -------
    rows : dict of name to dask.array.Array, whose blocks may be pandas objects
    """
    present = {name: values for name, values in columns.items() if values is not None}
    name = next(name for name, values in present.items() if is_dask(values))
    source = present[name]
    rows = _rows(name, source)
    return {
        other: rows if values is source else paired(other, values, rows, source, reference=name)
        for other, values in present.items()
    }


def compute(graph: Mapping[Any, Any], keys: Sequence[Any]) -> list[Any]:
    """Compute some keys of a graph by the active client, or by threads of this process where there is none."""
    with find(is_dask=True) as place:
        if isinstance(place, Cluster):
            return list(place.client.get(graph, list(keys)))
        return list(dask.threaded.get(graph, list(keys), num_workers=place.n_threads))


def _rows(name: str, source: Any) -> da.Array:
    if isinstance(source, da.Array):
        return source
    if is_partitioned(source):
        from dparallel.blocks import dataframes

        return dataframes.rows_of(source)
    raise DataKindError(
        f"{name} is a Dask collection of type {type(source).__name__}. dparallel reads Dask arrays, series and "
        "dataframes. Convert it to one of these."
    )


def _block_tasks(
    rows: Mapping[str, da.Array], partial: Callable[..., Any], as_given: bool
) -> tuple[dict[Hashable, Any], list[Any]]:
    arguments: list[Any] = []
    for letter, array in zip("jklmnopq", rows.values()):  # widths differ, so each has an index of its own
        arguments += [array, f"i{letter}"[: array.ndim]]
    first = next(iter(rows.values()))
    blocks = da.blockwise(
        _apply,
        "i",
        *arguments,
        compat.block_numbers(first),
        "i",
        names=tuple(rows),
        partial=partial,
        convert=_as_given if as_given else to_values,
        name=f"dparallel-reduce-{uuid.uuid4().hex}",
        dtype=object,
        meta=np.empty(0, dtype=object),
        align_arrays=False,
        concatenate=None,
    )
    keys = blocks.__dask_keys__()
    return ensure_dict(blocks.__dask_optimize__(blocks.__dask_graph__(), keys)), list(flatten(keys))


def _as_given(block: Any) -> Any:
    return block


def _apply(*arguments: Any, names: tuple[str, ...], partial: Callable[..., Any], convert: Any) -> Any:
    """The statistic of one block."""
    *parts, position = arguments
    index = int(position[0])
    values = {name: convert(joined(part)) for name, part in zip(names, parts, strict=True)}
    n_rows = next(iter(values.values())).shape[0]
    for name, column in values.items():
        check_length(name, column, n_rows, index, names[0])
    if not n_rows:
        return None
    if "sample_weight" in values:
        values["sample_weight"] = to_weights(values["sample_weight"], n_rows, index)
    return partial(**values)


def _tree(graph: dict[Hashable, Any], keys: list[Any], merge: Any, finish: Any) -> Hashable:
    """Add tasks that merge the statistics, FAN_IN at a time; return the key of the last."""
    token = uuid.uuid4().hex
    level = 0
    while len(keys) > 1:
        groups = [keys[start : start + FAN_IN] for start in range(0, len(keys), FAN_IN)]
        names = [(f"dparallel-merge-{token}", level, i) for i in range(len(groups))]
        graph.update({name: (_merge_all, merge, group) for name, group in zip(names, groups, strict=True)})
        keys, level = names, level + 1
    if finish is None:
        return keys[0]
    final = (f"dparallel-finish-{token}", 0)
    graph[final] = (_finish, finish, keys[0])
    return final


def _merge_all(merge: Any, statistics: list[Any]) -> Any:
    total = None
    for statistic in statistics:
        if statistic is not None:
            total = statistic if total is None else merge(total, statistic)
    return total


def _finish(finish: Any, statistic: Any) -> Any:
    return None if statistic is None else finish(statistic)
