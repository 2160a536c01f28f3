"""Which rows of sparse tables the steps of a lane read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dparallel.store.rows import places_among


class Read:
    """The rows that steps read which are computed from the same parameters.

    Parameters
    ----------
    parts : dict of partition to dict of name to keys, int64; all of the same tables, or of none

    Attributes
    ----------
    keys : dict of name to keys of all partitions, as an exchange is given them; None where there are no tables
    """

    def __init__(self, parts: Mapping[int, Mapping[str, np.ndarray]]):
        self._parts = parts
        names = next(iter(parts.values()), {})
        self.keys = {name: np.concatenate([part[name] for part in parts.values()]) for name in names} or None

    def of(self, partition: int, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return what one partition reads of what was pulled."""
        if self.keys is None or len(self._parts) == 1:
            return parameters
        own = dict(parameters)
        for name in self.keys:
            start = 0
            for other, part in self._parts.items():
                if other == partition:
                    own[name] = parameters[name][start : start + len(part[name])]
                start += len(part[name])
        return own

    def counted_in(self, name: str, values: np.ndarray, update: Any, factor: float) -> np.ndarray:
        """Return what was pulled with factor * update added to it."""
        if self.keys is None or name not in self.keys:
            return values + factor * update
        keys, rows = update
        places = places_among(keys, self.keys[name])
        known = places >= 0
        values = values.copy()
        values[known] += factor * rows[places[known]]
        return values
