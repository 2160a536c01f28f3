"""How the store turns an update into new values: elementwise, so any sharding gives the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from dparallel.errors import StoreError

# Elements worked on at once: a few arrays of 128 KiB stay in the second-level cache, so a rule of many steps reads
# and writes main memory once. Elementwise, hence without influence on the result.
TILE = 16384


@dataclass(frozen=True)
class Optimizer:
    """A rule that changes values by an update; without state of its own, which lives in its slots.

    Attributes
    ----------
    name : str, as given to make_optimizer
    slot_names : tuple of str, arrays of the length of the values that the rule remembers
    counts : bool, whether it depends on the number of the update
    is_lazy : bool, whether it may pass over values that an update leaves out, as those of a sparse table
    """

    name: ClassVar[str]
    slot_names: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[bool] = False
    is_lazy: ClassVar[bool] = True
    n_rooms: ClassVar[int] = 1  # scratch arrays that `_step` writes to

    def __post_init__(self) -> None:
        for field in fields(self):
            given = getattr(self, field.name)
            try:
                number = float(given)
            except (TypeError, ValueError):
                number = math.nan
            needed, holds = _RANGES[field.name]
            if not (math.isfinite(number) and holds(number)):
                raise StoreError(f"{type(self).__name__}({field.name}={given!r}): {field.name} must be {needed}.")
            object.__setattr__(self, field.name, number)

    def slots(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the slots of values of shape (n,) before the first update, each of shape (n,), float64."""
        return {name: np.zeros(len(values)) for name in self.slot_names}

    def apply(
        self, values: np.ndarray, slots: Mapping[str, np.ndarray], update: np.ndarray, count: int | np.ndarray
    ) -> None:
        """Change values and slots in place.

        Parameters
        ----------
        values : ndarray of shape (n,), float64
        slots : dict of str to ndarray of shape (n,), float64, as from `slots`
        update : ndarray of shape (n,), float64; only read
        count : int, number of this update, from 1; or ndarray of shape (n,), that of each value
        """
        n = len(values)
        remembered = tuple(slots[name] for name in self.slot_names)
        rooms = tuple(np.empty(min(n, TILE)) for _ in range(self.n_rooms))
        if n <= TILE:
            self._step(values, remembered, update, count, rooms)
            return
        for start in range(0, n, TILE):
            tile = slice(start, min(start + TILE, n))
            room = tuple(room[: tile.stop - start] for room in rooms)
            number = count[tile] if isinstance(count, np.ndarray) else count
            self._step(values[tile], tuple(slot[tile] for slot in remembered), update[tile], number, room)

    def _step(
        self,
        values: np.ndarray,
        slots: tuple[np.ndarray, ...],
        update: np.ndarray,
        count: int | np.ndarray,
        rooms: tuple[np.ndarray, ...],
    ) -> None:
        """Change one tile of values and slots in place."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Return the rule as plain text and numbers, for JSON."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class Add(Optimizer):
    """w += u: plain accumulation, exact for whole numbers up to 2**53."""

    name = "add"
    n_rooms = 0

    def _step(self, values, slots, update, count, rooms):
        values += update


@dataclass(frozen=True)
class SGD(Optimizer):
    """w -= learning_rate * g."""

    name = "sgd"
    learning_rate: float = 1.0

    def _step(self, values, slots, update, count, rooms):
        (room,) = rooms
        np.multiply(update, self.learning_rate, out=room)
        values -= room


@dataclass(frozen=True)
class Momentum(Optimizer):
    """v = momentum * v + g; w -= learning_rate * v. Polyak (1964)."""

    name = "momentum"
    is_lazy = False
    slot_names = ("velocity",)
    learning_rate: float = 0.01
    momentum: float = 0.9

    def _step(self, values, slots, update, count, rooms):
        (velocity,), (room,) = slots, rooms
        velocity *= self.momentum
        velocity += update
        np.multiply(velocity, self.learning_rate, out=room)
        values -= room


@dataclass(frozen=True)
class Nesterov(Optimizer):
    """v = momentum * v + g; w -= learning_rate * (g + momentum * v). Nesterov (1983), as in Sutskever et al. (2013)."""

    name = "nesterov"
    is_lazy = False
    slot_names = ("velocity",)
    learning_rate: float = 0.01
    momentum: float = 0.9

    def _step(self, values, slots, update, count, rooms):
        (velocity,), (room,) = slots, rooms
        velocity *= self.momentum
        velocity += update
        np.multiply(velocity, self.momentum, out=room)
        room += update
        room *= self.learning_rate
        values -= room


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """G += g * g; w -= learning_rate * g / (sqrt(G) + epsilon). Duchi, Hazan and Singer (2011)."""

    name = "adagrad"
    slot_names = ("squares",)
    n_rooms = 2
    learning_rate: float = 0.01
    initial_accumulator: float = 0.0
    epsilon: float = 1e-10

    def slots(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the slots of values of shape (n,) before the first update, each of shape (n,), float64."""
        return {"squares": np.full(len(values), self.initial_accumulator)}

    def _step(self, values, slots, update, count, rooms):
        (squares,), (room, scale) = slots, rooms
        np.multiply(update, update, out=room)
        squares += room
        np.sqrt(squares, out=scale)
        scale += self.epsilon
        np.multiply(update, self.learning_rate, out=room)
        room /= scale
        values -= room


@dataclass(frozen=True)
class Adam(Optimizer):
    """m, v = running means of g and g * g; w -= learning_rate * m' / (sqrt(v') + epsilon). Kingma and Ba (2015).

    The primes are the corrections of the bias towards zero: m' = m / (1 - beta_1**count), v' = v / (1 - beta_2**count).
    """

    name = "adam"
    counts = True
    slot_names = ("mean", "square")
    n_rooms = 2
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def _step(self, values, slots, update, count, rooms):
        (mean, square), (room, scale) = slots, rooms
        mean *= self.beta_1
        np.multiply(update, 1.0 - self.beta_1, out=room)
        mean += room
        square *= self.beta_2
        np.multiply(update, update, out=room)
        room *= 1.0 - self.beta_2
        square += room
        np.divide(square, 1.0 - self.beta_2**count, out=scale)
        np.sqrt(scale, out=scale)
        scale += self.epsilon
        np.multiply(mean, self.learning_rate / (1.0 - self.beta_1**count), out=room)
        room /= scale
        values -= room


@dataclass(frozen=True)
class FTRL(Optimizer):
    """Follow the regularised leader, proximal. McMahan et al. (KDD 2013), algorithm 1.

    z += g - (sqrt(n + g * g) - sqrt(n)) / learning_rate * w; n += g * g; then w is 0 where abs(z) <= l1, and elsewhere
    -(z - sign(z) * l1) / ((beta + sqrt(n)) / learning_rate + l2). The paper calls the learning rate alpha. Zeros are
    exact, and a weight that begins elsewhere gets the z that it would have come from.
    """

    name = "ftrl"
    slot_names = ("z", "squares")
    n_rooms = 2
    learning_rate: float = 0.1
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0

    def slots(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the slots of values of shape (n,) before the first update, each of shape (n,), float64."""
        z = -values * (self.beta / self.learning_rate + self.l2) - np.sign(values) * self.l1
        return {"z": z, "squares": np.zeros(len(values))}

    def _step(self, values, slots, update, count, rooms):
        (z, squares), (room, root) = slots, rooms
        np.sqrt(squares, out=root)
        np.multiply(update, update, out=room)
        squares += room
        np.sqrt(squares, out=room)
        np.subtract(root, room, out=root)
        root /= self.learning_rate
        root *= values
        z += update
        z += root
        # room holds the root of n
        room += self.beta
        room /= self.learning_rate
        room += self.l2
        np.abs(z, out=root)
        root -= self.l1
        np.maximum(root, 0.0, out=root)
        root /= room
        np.copysign(root, z, out=root)
        np.subtract(0.0, root, out=values)


_KINDS = (Add, SGD, Momentum, Nesterov, Adagrad, Adam, FTRL)
OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in _KINDS}
_POSITIVE = ("a positive number", lambda number: number > 0)
_FRACTION = ("a number of at least 0 and below 1", lambda number: 0 <= number < 1)
_NOT_NEGATIVE = ("a number of at least 0", lambda number: number >= 0)
_RANGES = {
    "learning_rate": _POSITIVE,
    "momentum": _FRACTION,
    "beta_1": _FRACTION,
    "beta_2": _FRACTION,
    "epsilon": _POSITIVE,
    "initial_accumulator": _NOT_NEGATIVE,
    "beta": _POSITIVE,
    "l1": _NOT_NEGATIVE,
    "l2": _NOT_NEGATIVE,
}


def make_optimizer(spec: str | Optimizer, learning_rate: float | None = None) -> Optimizer:
    """Return the optimizer of that name, or the given one.

    Parameters
    ----------
    spec : str, one of OPTIMIZERS, or an Optimizer
    learning_rate : float, in place of the optimizer's own; None keeps it

    Raises
    ------
    StoreError
        If there is no such optimizer, or it has no learning rate.
    """
    if isinstance(spec, Optimizer):
        optimizer = spec
    elif isinstance(spec, str) and spec in OPTIMIZERS:
        optimizer = OPTIMIZERS[spec]()
    else:
        raise StoreError(
            f"optimizer={spec!r} is not known. "
            f"Give one of {', '.join(map(repr, OPTIMIZERS))}, or an instance such as SGD(learning_rate=0.1)."
        )
    if learning_rate is None:
        return optimizer
    if not any(field.name == "learning_rate" for field in fields(optimizer)):
        raise StoreError(f"The optimizer {optimizer.name!r} takes no learning_rate: leave it out.")
    return replace(optimizer, learning_rate=learning_rate)  # type: ignore[call-arg]


def from_dict(document: Mapping[str, Any]) -> Optimizer:
    """Return the optimizer that `as_dict` described.

    Raises
    ------
    StoreError
        If the description fits none.
    """
    settings = dict(document)
    name = settings.pop("name", None)
    try:
        return OPTIMIZERS[name](**settings)
    except (KeyError, TypeError) as error:
        raise StoreError(f"{dict(document)!r} describes no optimizer of this version of dparallel.") from error
