"""What a notebook shows of a fitted estimator besides scikit-learn's diagram: how the fit went, in a few figures."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from dparallel.observe.colours import BLUE
from dparallel.observe.lines import duration

WIDTH, HEIGHT = 180, 40  # of the sparkline, in pixels
MOST_POINTS = 200
_ROW = "<tr><td style='text-align: left; padding-right: 1em'>{}</td><td style='text-align: left'>{}</td></tr>"


def fit_block(model: Any) -> str:
    """HTML for the history_ of a fitted estimator; empty where there is none."""
    history = getattr(model, "history_", None)
    if not history:
        return ""
    rows = "".join(_ROW.format(name, html.escape(text)) for name, text in _figures(model, history))
    line = sparkline([record.objective for record in history])
    return (
        "<details open class='dparallel-fit'><summary>How the fit went</summary>"
        f"<div style='display: flex; gap: 2em; align-items: center'><table>{rows}</table>{line}</div></details>"
    )


def _figures(model: Any, history: Sequence[Any]) -> list[tuple[str, str]]:
    last = history[-1]
    found = [(f"{last.unit}s", str(last.round))]
    if last.objective is not None:
        found.append(("objective", f"{last.objective:.6g}"))
    found.append(("time", duration(sum(record.seconds for record in history))))
    moved = sum(record.bytes_moved for record in history)
    if moved:
        found.append(("moved", size(moved)))
    stats = getattr(model, "store_stats_", None)
    if stats is not None:
        ages = stats.staleness
        total = sum(ages.values())
        mean = sum(age * count for age, count in ages.items()) / max(1, total)
        found += [("updates", f"{stats.pushes:,}"), ("staleness", f"mean {mean:.2g}, most {max(ages, default=0)}")]
        if stats.bytes_in or stats.bytes_out:  # a store in this process moves nothing
            found += [("store traffic", f"{size(stats.bytes_in)} in, {size(stats.bytes_out)} out")]
        found += [("failovers", str(stats.failovers + stats.restores))]
    reason = getattr(model, "stop_reason_", "")
    return found + ([("ended", reason)] if reason else [])


def size(n_bytes: float) -> str:
    """Write a number of bytes as a person would.

    >>> size(512), size(2_500_000)
    ('512 B', '2.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def sparkline(values: Sequence[float | None]) -> str:
    """A small line as SVG, of the values that are numbers; empty for fewer than two."""
    points = [(i, float(v)) for i, v in enumerate(values) if v is not None and math.isfinite(v)]
    points = points[:: max(1, len(points) // MOST_POINTS)]
    if len(points) < 2:
        return ""
    low, high = min(v for _, v in points), max(v for _, v in points)
    first, last = points[0][0], points[-1][0]
    across, up = (WIDTH - 4) / (last - first), (HEIGHT - 4) / ((high - low) or 1.0)
    path = " ".join(f"{2 + (i - first) * across:.1f},{HEIGHT - 2 - (v - low) * up:.1f}" for i, v in points)
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='objective over the fit'>"
        f"<polyline points='{path}' fill='none' stroke='{BLUE}' stroke-width='1.5'/></svg>"
    )
