"""The states of all shards as one, for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dparallel.errors import CheckpointError
from dparallel.store.layout import Layout


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
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"The snapshot holds no parameter store: {error!r}.") from error
    states: list[tuple[dict[str, np.ndarray], dict[str, Any]]] = [({}, described) for described in documents]
    for key, array in arrays.items():
        number, _, rest = key.partition("/")
        if number.isdecimal() and int(number) < len(states):
            states[int(number)][0][rest] = array
    for name, cuts in zip(layout.names, layout.cuts):
        for (held, _), low, high in zip(states, cuts, cuts[1:]):
            if name in layout.tables and f"keys/{name}" in held and f"values/{name}" in held:
                continue
            if f"values/{name}" not in held or held[f"values/{name}"].shape != (high - low,):
                raise CheckpointError(f"The snapshot lacks {name!r} from {low} to {high}, which its layout names.")
    return layout, states
