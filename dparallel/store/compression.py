"""Updates in fewer bytes: in half precision, or the largest numbers alone, and the others with a later update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from dparallel.errors import StoreError
from dparallel.store.layout import FullUpdate, Layout
from dparallel.store.packed import Half, Picked
from dparallel.store.rows import Rows, summed

Values = np.ndarray | Rows


class HalfPrecision:
    """Each number with eleven binary digits, and a scale for all: a quarter of the bytes. Nothing is remembered."""

    def apply(self, update: Values, rest: Values | None) -> tuple[Any, None]:
        """Return an update of shape (n,), or Rows, as it travels; and no rest."""
        if isinstance(update, Rows):
            packed: Any = Half.of(update.values)
            return Rows(update.keys, packed), None
        return Half.of(update), None


class TopK:
    """The numbers, or rows, that are largest in magnitude: a share of an update; the others wait for a later one.

    Parameters
    ----------
    share : float above 0 and at most 1

    Notes
    -----
    With error feedback, as in Stich, Cordonnier and Jaggi (NeurIPS 2018).
    """

    def __init__(self, share: float):
        self.share = share

    def apply(self, update: Values, rest: Values | None) -> tuple[Any, Values]:
        """Return of an update of shape (n,), or Rows, and the rest of earlier ones, what travels and what is left."""
        values = _sum(rest, update)
        if isinstance(values, Rows) and isinstance(update, Rows):
            picked = self._largest(np.abs(values.values).max(axis=1, initial=0.0), len(update.keys))
            left = np.ones(len(values.keys), bool)
            left[picked] = False
            return Rows(values.keys[picked], values.values[picked]), Rows(values.keys[left], values.values[left])
        array = np.asarray(values)
        picked = self._largest(np.abs(array), array.size)
        left_out = array.copy()
        left_out[picked] = 0.0
        places = picked.astype(np.uint32 if array.size < 2**32 else np.int64)
        return Picked(places, array[picked], array.size), left_out

    def _largest(self, sizes: np.ndarray, n_given: int) -> np.ndarray:
        n = math.ceil(self.share * n_given)
        if n >= len(sizes):
            return np.arange(len(sizes))
        return np.sort(np.argpartition(sizes, len(sizes) - n)[len(sizes) - n :])


class Step(NamedTuple):
    """What the compression of one update did to what its partition had left out: (before, after) by name."""

    partition: int | str
    rests: dict[str, tuple[Values | None, Values]]


class Residuals:
    """What compressed updates have left out, for each partition whose steps this process has pushed.

    Notes
    -----
    It is added to the next update of the same partition, so all of it arrives, somewhat later. It is kept in this
    process alone: if that dies, or the partition goes on elsewhere, it is not there.
    """

    def __init__(self) -> None:
        self._rests: dict[int | str, dict[str, Values]] = {}
        self._lock = Lock()

    def compress(self, updates: Sequence[FullUpdate], layout: Layout, how: Compression) -> tuple[list[Any], list[Step]]:
        """Return updates as they travel, and what happened to the rests."""
        found, steps = [], []
        for update in updates:
            checked = layout.checked({name: given for name, given in update.values.items() if name in how})
            with self._lock:
                rests = self._rests.setdefault(update.step[0], {})
                values, changed = dict(update.values), {}
                for name in checked:
                    before = rests.get(name)
                    values[name], after = how[name].apply(checked[name], before)
                    if after is not None:
                        changed[name] = before, after
                        rests[name] = after
            found.append(replace(update, values=values))
            steps.append(Step(update.step[0], changed))
        return found, steps

    def take_back(self, steps: Sequence[Step]) -> None:
        """Let it be as if these updates had not been compressed: they will be pushed again."""
        with self._lock:
            for partition, changed in reversed(steps):
                rests = self._rests[partition]
                for name, (before, after) in changed.items():
                    if rests[name] is not after:  # others came after it
                        rests[name] = _sum(_sum(before, rests[name]), _negative(after))
                    elif before is None:
                        del rests[name]
                    else:
                        rests[name] = before


Compression = Mapping[str, HalfPrecision | TopK]


def make_compression(spec: Any, names: Sequence[str]) -> Compression:
    """Return how each array or table is compressed.

    Parameters
    ----------
    spec : None, "fp16", ("top_k", share), or dict of these by name; what it does not name travels as it is
    names : of all arrays and tables

    Raises
    ------
    StoreError
        If that is none of these.
    """
    specs = spec if isinstance(spec, Mapping) else dict.fromkeys(names, spec)
    unknown = specs.keys() - set(names)
    if unknown:
        raise StoreError(f"compression names {sorted(unknown)}, and the store has {', '.join(map(repr, names))}.")
    return {name: _make_one(given) for name, given in specs.items() if given is not None}


def _make_one(spec: Any) -> HalfPrecision | TopK:
    if spec == "fp16":
        return HalfPrecision()
    try:
        name, share = spec
        if name == "top_k" and 0 < float(share) <= 1:
            return TopK(float(share))
    except (TypeError, ValueError):
        pass
    raise StoreError(
        f"compression={spec!r} is not known. Give None, 'fp16', ('top_k', share) with a share above 0 and at most 1, "
        "or a dict of these by name."
    )


def _sum(first: Values | None, second: Values) -> Values:
    if first is None:
        return second
    if isinstance(first, Rows) and isinstance(second, Rows):
        keys = np.concatenate([first.keys, second.keys])
        return summed(keys, np.concatenate([first.values, second.values]))
    return np.add(first, second)


def _negative(values: Values) -> Values:
    return Rows(values.keys, -values.values) if isinstance(values, Rows) else -values
