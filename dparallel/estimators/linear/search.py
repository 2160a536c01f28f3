"""How far to go in a direction: the strong Wolfe conditions, met by cubic interpolation.

Nocedal and Wright, "Numerical optimization" (2006), algorithms 3.5 and 3.6; near the optimum, where values differ by
rounding only, the approximate conditions of Hager and Zhang (2005), which look at slopes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

_DECREASE = 1e-4  # share of the decrease that the slope promises
_ROUNDING = 1e-13  # of values, relative
_NEARLY = 0.9
_LONGEST = 1e10
MOST_LOOKS = 25


class Trial(NamedTuple):
    """A step, and the value and the slope of the objective after it."""

    step: float
    value: float
    slope: float


def search(look: Callable[[float], Trial], start: Trial, curvature: float) -> float | None:
    """Find a step; the first that is tried is 1.

    Parameters
    ----------
    look : function of a step that returns its Trial
    start : Trial of step 0, its slope negative
    curvature : float in (0, 1), how flat the slope must have become

    Returns
    -------
    step : float, the last one that was looked at; None where no step leads down
    """
    low, high = start, None
    step = 1.0
    for _ in range(MOST_LOOKS):
        trial = look(step)
        if _is_good(trial, start, curvature):
            return step
        if not _descends(trial, start) or trial.value > low.value + _noise(start):
            high = trial
        else:
            if trial.slope * (1.0 if high is None else high.step - low.step) >= 0:
                high = low
            low = trial
        following = _beyond(low, start) if high is None else _between(low, high)
        if following is None or following == step:
            break
        step = following
    return _settle(look, low, start)


def _settle(look: Callable[[float], Trial], low: Trial, start: Trial) -> float | None:
    """The best step so far, which must be looked at last."""
    if low.step == 0.0 or not low.value < start.value:
        return None
    look(low.step)
    return low.step


def _noise(start: Trial) -> float:
    return _ROUNDING * abs(start.value)


def _descends(trial: Trial, start: Trial) -> bool:
    return math.isfinite(trial.value) and trial.value <= start.value + _DECREASE * trial.step * start.slope


def _is_good(trial: Trial, start: Trial, curvature: float) -> bool:
    if not math.isfinite(trial.value):
        return False
    flatness = abs(trial.slope) / -start.slope
    if _descends(trial, start) and flatness <= curvature:
        return True
    # where values are rounding slopes are hardly better: it is enough that they are not as before
    near = abs(trial.value - start.value) <= _noise(start)
    return near and flatness <= max(curvature, _NEARLY) and trial.slope <= (2 * _DECREASE - 1) * start.slope


def _beyond(low: Trial, start: Trial) -> float | None:
    """Where the slope would be 0 if it went on as from the start, but neither too near nor too far."""
    flatter = low.slope - start.slope
    step = -start.slope * low.step / flatter if flatter > 0 else math.inf
    step = min(max(step, 1.1 * low.step), 10.0 * low.step)
    return step if step < _LONGEST else None


def _between(low: Trial, high: Trial) -> float | None:
    """The minimum of the cubic through both, kept away from their steps."""
    width = high.step - low.step
    if not abs(width) > 1e-12 * max(abs(low.step), abs(high.step)):
        return None
    step = 0.5 * (low.step + high.step)
    if math.isfinite(high.value) and math.isfinite(high.slope):
        first = low.slope + high.slope - 3 * (low.value - high.value) / (low.step - high.step)
        inside = first * first - low.slope * high.slope
        if inside >= 0:
            second = math.copysign(math.sqrt(inside), width)
            divisor = high.slope - low.slope + 2 * second
            if divisor != 0:
                step = high.step - width * (high.slope + second - first) / divisor
    margin = 0.05 * abs(width)
    least, most = sorted((low.step, high.step))
    return min(max(step, least + margin), most - margin)
