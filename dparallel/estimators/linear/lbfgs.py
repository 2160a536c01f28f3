"""L-BFGS that sees no vector, only inner products: the vectors may be anywhere, cut into any slices.

Chen, Wang and Zhou, "Large-scale L-BFGS using MapReduce" (NIPS 2014). The two loops of Nocedal (1980) are linear in the
last m steps s, the last m changes y of the gradient, and the gradient g. So they can be run on the coefficients of
these 2 m + 1 vectors, given their inner products.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from dparallel.estimators.linear.search import Trial, search
from dparallel.records import Audience, Listener, RoundRecord

MOST_PAIRS = 10
_FLAT = 1e-10  # a squared gradient so small, relative to the objective, is rounding


class Memory:
    """Inner products of s_1 .. s_m, y_1 .. y_m and g, from which the next direction follows.

    Parameters
    ----------
    square : float, g . g

    Attributes
    ----------
    products : ndarray of shape (2 m + 1, 2 m + 1), float64
    n_pairs : int, m
    """

    def __init__(self, square: float):
        self.products = np.array([[square]])
        self.n_pairs = 0

    def direction(self) -> np.ndarray:
        """Coefficients of the next direction in terms of s_1 .. s_m, y_1 .. y_m, g: of shape (2 m + 1,)."""
        m, products = self.n_pairs, self.products
        found = np.zeros(2 * m + 1)
        found[-1] = -1.0
        shares = np.zeros(m)
        for i in reversed(range(m)):
            shares[i] = found @ products[i] / products[i, m + i]
            found[m + i] -= shares[i]
        if m:
            found *= products[m - 1, 2 * m - 1] / products[2 * m - 1, 2 * m - 1]
        for i in range(m):
            found[i] += shares[i] - found @ products[m + i] / products[i, m + i]
        return found

    def follow(self, rows: np.ndarray, most_pairs: int) -> None:
        """Take in a step.

        Parameters
        ----------
        rows : ndarray of shape (3, 2 m + 1), products of the new s, y and g with all vectors that are kept, the new
            ones included
        most_pairs : int, as many pairs are kept
        """
        kept = min(self.n_pairs, most_pairs - 1)
        first = self.n_pairs - kept
        old = [*range(first, self.n_pairs), *range(self.n_pairs + first, 2 * self.n_pairs)]
        m = kept + 1
        new = [*range(kept), *range(m, m + kept)]
        products = np.empty((2 * m + 1, 2 * m + 1))
        products[np.ix_(new, new)] = self.products[np.ix_(old, old)]
        for place, row in zip((m - 1, 2 * m - 1, 2 * m), rows, strict=True):
            products[place, :] = products[:, place] = row
        self.products, self.n_pairs = products, m


@dataclass(frozen=True)
class Spot:
    """Where the solver is.

    Parameters
    ----------
    value : float, the objective
    steepness : float, the largest absolute derivative
    """

    value: float
    steepness: float


class Landscape(ABC):
    """An objective over vectors that only it can see.

    Attributes
    ----------
    memory : Memory, of the vectors as the solver is to measure them, which may be scaled
    seconds, bytes_moved : float and int, of the last round
    seconds_by_worker : dict of str to float, how long each worker computed in it; empty where nobody measured
    """

    memory: Memory
    seconds = 0.0
    bytes_moved = 0
    seconds_by_worker: Mapping[str, float] = {}

    @abstractmethod
    def start(self) -> Spot:
        """Go to the start."""

    @abstractmethod
    def aim(self, direction: np.ndarray) -> None:
        """Take the combination of the memory's vectors with these coefficients for the direction."""

    @abstractmethod
    def look(self, step: float) -> Trial:
        """Value and slope after a step in the direction."""

    @abstractmethod
    def move(self, step: float) -> Spot:
        """Take a step that was looked at; the memory follows."""

    @abstractmethod
    def forget(self) -> None:
        """Drop all pairs."""

    @property
    @abstractmethod
    def state(self) -> Any:
        """What listeners are shown."""


@dataclass(frozen=True)
class Outcome:
    """How a descent ended.

    Parameters
    ----------
    stop_reason : str, a sentence
    history : list of RoundRecord
    n_iter : int
    converged : bool
    """

    stop_reason: str
    history: list[RoundRecord]
    n_iter: int
    converged: bool


@dataclass(frozen=True)
class Rule:
    """When to stop.

    Parameters
    ----------
    steepness : float, stop when no derivative is larger
    share : float, stop when the gradient's norm, in the memory's measure, is at most this share of that at the start
    max_iter : int
    curvature : float in (0, 1), a step is taken when its slope has fallen to this share of that before
    """

    steepness: float
    share: float
    max_iter: int
    curvature: float = 0.9


def descend(landscape: Landscape, rule: Rule, listeners: Sequence[Listener] = ()) -> Outcome:
    """Go downhill until the rule says to stop.

    Parameters
    ----------
    landscape : Landscape
    rule : Rule
    listeners : objects with the methods of records.Listener, called in this thread

    Returns
    -------
    outcome : Outcome
    """
    spot = landscape.start()
    first = landscape.memory.products[-1, -1]
    history: list[RoundRecord] = []
    reason, converged = _arrived(landscape, spot, rule, first), True
    audience = Audience(listeners)
    audience.start(landscape.state)
    while reason is None and len(history) < rule.max_iter:
        started = perf_counter()
        audience.start_round(len(history) + 1, landscape.state)
        landscape.bytes_moved, landscape.seconds_by_worker = 0, {}
        step = _next_step(landscape, spot, rule.curvature)
        if step is None:
            reason, converged = "No step makes the objective smaller.", _is_flat(landscape, spot, first)
        else:
            spot = landscape.move(step)
            reason = _arrived(landscape, spot, rule, first)
        seconds = perf_counter() - started
        history.append(_record(len(history) + 1, spot, seconds, landscape))
        asked = audience.end_round(history[-1], landscape.state)
        reason = reason or asked
    converged = converged and reason is not None
    sentence = reason or f"Stopped at the limit of {rule.max_iter} iterations."
    audience.stop(sentence, landscape.state)
    return Outcome(sentence, history, len(history), converged)


def _record(number: int, spot: Spot, seconds: float, landscape: Landscape) -> RoundRecord:
    workers = dict(landscape.seconds_by_worker)
    return RoundRecord(number, spot.value, spot.steepness, seconds, landscape.bytes_moved, seconds_by_worker=workers)


def _next_step(landscape: Landscape, spot: Spot, curvature: float) -> float | None:
    """Aim and search; where that fails once more along the gradient, without what was remembered."""
    for _ in range(2):
        memory = landscape.memory
        direction = memory.direction()
        slope = float(direction @ memory.products[-1])
        if slope < 0:
            landscape.aim(direction)
            # without a memory the length of the gradient means nothing unless it was scaled
            step = search(landscape.look, Trial(0.0, spot.value, slope), curvature)
            if step is not None:
                return step
        if not memory.n_pairs:
            return None
        landscape.forget()
    return None


def _is_flat(landscape: Landscape, spot: Spot, first: float) -> bool:
    """Whether the slope is so small that only rounding is left."""
    square = landscape.memory.products[-1, -1]
    return bool(square <= _FLAT * max(abs(spot.value), first))


def _arrived(landscape: Landscape, spot: Spot, rule: Rule, first: float) -> str | None:
    square = landscape.memory.products[-1, -1]
    if spot.steepness <= rule.steepness:
        return "No derivative of the objective is larger than tol."
    if square <= first * rule.share**2:
        return "The gradient has become small beside that at the start."
    return None
