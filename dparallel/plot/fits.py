"""How a fit went: its objective, traffic, staleness, the time of each worker, and how a tree grew."""

from __future__ import annotations

from typing import Any

import numpy as np

from dparallel.errors import DataError
from dparallel.observe.colours import BLUE, GREEN, GREY, ORANGE, RED
from dparallel.plot.drawing import attribute, axes, records, whole_ticks


def objective(model: Any, *, against: str = "rounds", ax: Any = None) -> Any:
    """Draw what the fit made small, after each round or epoch.

    Parameters
    ----------
    model : fitted estimator with `history_`
    against : {"rounds", "seconds"}, default="rounds"
    ax : matplotlib Axes or None for a new figure

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    DataError
        If the estimator has no `history_`, or against is neither.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from dparallel import ParallelKMeans, plot
    >>> model = ParallelKMeans(2, random_state=0).fit(np.arange(12.0).reshape(6, 2))
    >>> plot.objective(model).get_ylabel()  # doctest: +SKIP
    'objective'
    """
    if against not in ("rounds", "seconds"):
        raise DataError(f"against={against!r} is neither 'rounds' nor 'seconds'. Give one of them.")
    found, ax = records(model), axes(ax)
    x = [r.round for r in found] if against == "rounds" else np.cumsum([r.seconds for r in found])
    y = [np.nan if r.objective is None else r.objective for r in found]
    ax.plot(x, y, color=BLUE, marker="o", markersize=3)
    ax.set(xlabel=found[0].unit if against == "rounds" else "seconds", ylabel="objective")
    ax.set_title(f"{type(model).__name__}: objective")
    if against == "rounds":
        whole_ticks(ax.xaxis)
    return ax


def traffic(model: Any, *, ax: Any = None) -> Any:
    """Draw the bytes that each round or epoch moved, and when another copy took over a shard of the parameter store.

    Parameters
    ----------
    model : fitted estimator with `history_`; those with `store_stats_` have their totals in the legend
    ax : matplotlib Axes or None for a new figure

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    DataError, MissingExtraError
        As for `objective`.
    """
    found, ax = records(model), axes(ax)
    stats = getattr(model, "store_stats_", None)
    unit, scale = ("MB", 1e6) if max(r.bytes_moved for r in found) >= 1e5 else ("kB", 1e3)
    totals = ""
    if stats is not None:
        totals = f" (store: {stats.bytes_in / scale:.3g} {unit} in, {stats.bytes_out / scale:.3g} {unit} out)"
    ax.bar([r.round for r in found], [r.bytes_moved / scale for r in found], color=BLUE, label=f"moved{totals}")
    changes = [r for r in found if getattr(r, "n_failovers", 0)]
    for i, record in enumerate(changes):
        ax.axvline(record.round, color=RED, linestyle="--", label=None if i else "failover of a shard")
    ax.set(xlabel=found[0].unit, ylabel=unit, title=f"{type(model).__name__}: traffic")
    ax.margins(y=0.25)
    ax.legend(loc="upper right")
    whole_ticks(ax.xaxis)
    return ax


def staleness(model: Any, *, ax: Any = None) -> Any:
    """Draw how many updates were based on parameters so many updates old.

    Parameters
    ----------
    model : fitted AsyncSGDClassifier or AsyncSGDRegressor, or another with staleness_
    ax : matplotlib Axes or None for a new figure

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    DataError
        If the estimator keeps no parameter store.
    MissingExtraError
        If matplotlib is not installed.
    """
    found = attribute(model, "staleness_", "one that trains through a parameter store, such as AsyncSGDClassifier")
    ax = axes(ax)
    ax.bar(list(found), list(found.values()), width=0.9, color=ORANGE)
    total = max(1, sum(found.values()))
    mean = sum(age * count for age, count in found.items()) / total
    ax.set(xlabel="updates in between", ylabel="updates", title=f"{type(model).__name__}: staleness, mean {mean:.2g}")
    whole_ticks(ax.xaxis)
    return ax


def worker_times(model: Any, *, ax: Any = None) -> Any:
    """Draw how long each worker computed in every round; a straggler stands out.

    Parameters
    ----------
    model : fitted estimator with `history_`
    ax : matplotlib Axes or None for a new figure

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    DataError
        If nobody measured, as for models whose columns are split.
    MissingExtraError
        If matplotlib is not installed.

    Notes
    -----
    A point is one round's slowest thread of a worker; a bar is a worker's median. Workers whose median is more than
    1.5 times that of all workers are drawn in red. Rounds far slower than a worker's others, such as the first, in
    which kernels are compiled, may lie beyond the right edge.
    """
    found = records(model)
    names = sorted({name for r in found for name in r.seconds_by_worker})
    if not names:
        raise DataError(f"This {type(model).__name__} did not measure its workers: its columns were split.")
    ax = axes(ax)
    times = [[r.seconds_by_worker[name] for r in found if name in r.seconds_by_worker] for name in names]
    medians = [float(np.median(each)) for each in times]
    usual = float(np.median(medians))
    colours = [RED if median > 1.5 * usual else BLUE for median in medians]
    places = np.arange(len(names))
    ax.barh(places, medians, height=0.7, color=colours, alpha=0.6)
    jitter = np.random.default_rng(0)
    for place, each in zip(places, times, strict=True):
        ax.scatter(each, place + jitter.uniform(-0.25, 0.25, len(each)), s=8, color="black", alpha=0.5, linewidths=0)
    ax.axvline(usual, color=GREY, linestyle=":")
    ax.set_xlim(0, 1.3 * max(float(np.quantile(each, 0.9)) for each in times) or None)
    ax.set_yticks(places, [name.rpartition("//")[2] for name in names])
    ax.set(xlabel=f"seconds per {found[0].unit}", title=f"{type(model).__name__}: time of each worker")
    return ax


def tree_growth(model: Any, *, ax: Any = None) -> Any:
    """Draw how many nodes each level of a tree split, and what impurity the leaves had then.

    Parameters
    ----------
    model : fitted ParallelDecisionTree or ParallelDecisionTreeRegressor
    ax : matplotlib Axes or None for a new figure

    Returns
    -------
    ax : matplotlib Axes, of the splits; that of the impurity is its twin

    Raises
    ------
    DataError
        If the estimator is no tree.
    MissingExtraError
        If matplotlib is not installed.
    """
    attribute(model, "tree_", "a ParallelDecisionTree or ParallelDecisionTreeRegressor")
    found, ax = records(model), axes(ax)
    levels = [r.round for r in found]
    ax.bar(levels, [r.n_splits for r in found], color=GREEN, alpha=0.7)
    ax.set(xlabel="level", ylabel="nodes split", title=f"{type(model).__name__}: growth, {model.tree_.n_leaves} leaves")
    whole_ticks(ax.xaxis)
    twin = ax.twinx()
    twin.plot(levels, [r.objective for r in found], color=BLUE, marker="o", markersize=3)
    twin.set_ylabel("impurity of the leaves", color=BLUE)
    twin.set_ylim(bottom=0)
    return ax
