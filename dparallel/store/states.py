"""The states of all shards as one, for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dparallel.errors import CheckpointError
from dparallel.store.layout import Layout
from dparallel.store.optimizers import Optimizer
from dparallel.store.shard import ParameterShard


def pack(
    layout: Layout, states: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the states of all shards as one set of arrays and one document, for a file. See unpack."""
    arrays = {f"{number}/{key}": array for number, (held, _) in enumerate(states) for key, array in held.items()}
    return arrays, {"layout": layout.as_dict(), "shards": [dict(document) for _, document in states]}


def unpack(
    arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]
) -> tuple[Layout, list[tuple[dict[str, np.ndarray], dict[str, Any]]]]:
    """Return what pack was given.

    Raises
    ------
    CheckpointError
        If this is no store's.
    """
    try:
        layout = Layout.from_dict(document["layout"])
        documents = document["shards"]
        if len(documents) != layout.n_shards:
            raise ValueError(f"{len(documents)} shards, and a layout of {layout.n_shards}")
    except Exception as error:  # a document may hold anything
        raise CheckpointError(f"The snapshot holds no parameter store: {error!r}.") from error
    states: list[tuple[dict[str, np.ndarray], dict[str, Any]]] = [({}, described) for described in documents]
    for key, array in arrays.items():
        number, _, rest = key.partition("/")
        if number.isdecimal() and int(number) < len(states):
            states[int(number)][0][rest] = array
    for shard, (held, described) in enumerate(states):
        _check_shard(layout, shard, held, described)
    return layout, states


def _check_shard(layout: Layout, number: int, held: Mapping[str, np.ndarray], described: Any) -> None:
    """Refuse a shard that has not what the layout says."""
    for name, shape, cuts in zip(layout.names, layout.shapes, layout.cuts):
        low, high = cuts[number], cuts[number + 1]
        values = held.get(f"values/{name}")
        if name in layout.tables:
            fits = f"keys/{name}" in held and values is not None and values.shape[1:] == (shape[1:] or (1,))
        else:
            fits = values is not None and values.shape == (high - low,)
        if not fits:
            raise CheckpointError(f"The snapshot lacks {name!r} from {low} to {high}, which its layout names.")
    try:
        named = [entry[0] for key in ("optimizers", "tables") for entry in described.get(key, ())]
    except (LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The snapshot does not describe its shard {number}: {error!r}.") from error
    if sorted(map(str, named)) != sorted(layout.names):
        raise CheckpointError(f"Shard {number} of the snapshot has other arrays than its layout names.")


def check_store(
    arrays: Mapping[str, np.ndarray],
    document: Mapping[str, Any],
    values: Mapping[str, Any],
    optimizers: Mapping[str, Optimizer],
    *,
    staleness: int | None,
    n_partitions: int,
    clock: int,
    n_ahead: int,
) -> None:
    """Refuse a store that is not that of a training which has come to a clock.

    Parameters
    ----------
    arrays, document : as from pack
    values, optimizers : what the training's store begins with, by name: arrays and SparseTables
    staleness, n_partitions : of that store
    clock : int, which all partitions have completed
    n_ahead : int, how many clocks a partition may have gone on

    Raises
    ------
    CheckpointError, ValueError
        If it is another's, or none.
    """
    layout, states = unpack(arrays, document)
    if dict(zip(layout.names, layout.shapes)) != {name: array.shape for name, array in values.items()}:
        raise ValueError(f"its store holds {dict(zip(layout.names, layout.shapes))}, not what this fit learns")
    wanted = {name: optimizer.as_dict() for name, optimizer in optimizers.items()}
    for held, described in states:
        progress = ParameterShard.from_state(held, described).progress()
        if (described["clocks"]["staleness"], len(progress)) != (staleness, n_partitions):
            raise ValueError("its store has another staleness, or other partitions")
        tables = {name: optimizer for name, _, optimizer in described.get("tables", ())}
        if dict(described["optimizers"]) | tables != wanted:
            raise ValueError("its store has other optimizers")
        if described["pending"] or described["clocks"]["finished"]:
            raise ValueError("its store waits for updates, or for some partitions no more, as at no end of an epoch")
        if not all(clock <= reached <= clock + n_ahead for reached in progress.values()):
            raise ValueError(f"the clocks of its store are not those of an epoch that ended at {clock}")
