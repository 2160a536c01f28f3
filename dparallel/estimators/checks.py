"""Checks of constructor parameters that all estimators share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np


def check_number(model: Any, name: str, kind: type, least: float, *, strict: bool = False) -> None:
    """Refuse a parameter that is not a number of a kind, or too small.

    Parameters
    ----------
    kind : numbers.Integral or numbers.Real
    least : the least value allowed; with strict every finite value above it is

    Raises
    ------
    TypeError, ValueError
        Saying what was given and what is needed.
    """
    value = getattr(model, name)
    what = "an integer" if kind is Integral else "a number"
    bound = f"{'finite and greater than' if strict else 'at least'} {least}"
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} was given {value!r}. It must be {what} {bound}.")
    number: Any = value
    if not (least < number < np.inf if strict else number >= least):
        raise ValueError(f"{name} was given {value!r}. It must be {what} {bound}.")


def check_choice(model: Any, name: str, choices: Sequence[Any]) -> None:
    """Refuse a parameter that is none of the choices."""
    value = getattr(model, name)
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(f"{name} was given {value!r}. It must be one of {', '.join(map(repr, choices))}.")


def check_switch(model: Any, name: str) -> None:
    """Refuse a parameter that is neither True nor False."""
    value = getattr(model, name)
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} was given {value!r}. It must be True or False.")
