"""What all plots need: matplotlib, axes, and a fitted estimator that has what they show."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from dparallel.errors import DataError, MissingExtraError


def axes(ax: Any) -> Any:
    """The given Axes, or those of a new figure.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError(
            "dparallel.plot draws with matplotlib, which is not installed. Install it with: pip install dparallel[plot]"
        ) from error
    return pyplot.subplots(layout="constrained")[1] if ax is None else ax


def attribute(model: Any, name: str, which: str) -> Any:
    """A fitted attribute.

    Raises
    ------
    NotFittedError
        Before fit.
    DataError
        If this kind of estimator has none.
    """
    check_is_fitted(model)
    found = getattr(model, name, None)
    if found is None:
        raise DataError(f"{type(model).__name__} has no {name}. Give {which}.")
    return found


def records(model: Any) -> Any:
    """The history of a fitted estimator, which must not be empty."""
    found = attribute(model, "history_", "an estimator that is fitted in rounds or epochs")
    if not found:
        raise DataError(f"This {type(model).__name__} was fitted in no round, so that its history_ is empty.")
    return found


def whole_ticks(axis: Any) -> None:
    """Rounds are whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
