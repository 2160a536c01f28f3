"""One fit of data whose columns are split, on a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dparallel.blocks.grid import Grid
from dparallel.errors import DataError
from dparallel.estimators.linear import tile_tasks
from dparallel.estimators.linear.crew import Crew
from dparallel.estimators.linear.fitting import Listen, Settle, Solution
from dparallel.estimators.linear.lbfgs import descend
from dparallel.estimators.linear.split import GATHERED_BYTES, SplitCoefficients
from dparallel.estimators.linear.tiles import TileLandscape
from dparallel.estimators.sgd.survey import Summarise
from dparallel.place import Cluster

_CURVATURE = 0.1  # a look at a step costs no pass over X here, so that it may be a good one

_SMALLEST_SHARE = 1e-9


def fit_tiles(grid: Grid, place: Cluster, summarise: Summarise, settle: Settle, listen: Listen) -> Solution:
    """Fit data whose columns are split; arguments as for `fitting.fit_rows`."""
    crew = Crew(grid, place.client)
    kept: list[Any] = []
    try:
        summary, weight = _survey(crew, summarise)
        landscape = TileLandscape(crew, settle(summary, weight))
        solution = _descend(crew, landscape, listen)
        landscape.close()
        if isinstance(solution.coef, SplitCoefficients):
            kept = list(solution.coef.futures)
        return solution
    finally:
        crew.close(kept)


def _descend(crew: Crew, landscape: TileLandscape, listen: Listen) -> Solution:
    task = landscape.task
    n_outputs = task.objective.loss.n_outputs

    def leave(state: TileLandscape) -> tuple[np.ndarray, np.ndarray]:
        slices, intercept = state.finish()
        return _split(crew, slices, n_outputs).gather(), intercept

    rule = replace(
        task.rule,
        curvature=min(task.rule.curvature, _CURVATURE),
        share=max(task.rule.share, _SMALLEST_SHARE) if task.rule.share else 0.0,
    )
    outcome = descend(landscape, rule, listen(leave))
    slices, intercept = landscape.finish()
    coef = _split(crew, slices, n_outputs)
    return Solution(coef.gather() if coef.nbytes <= GATHERED_BYTES else coef, intercept, outcome)


def _split(crew: Crew, slices: Any, n_outputs: int) -> SplitCoefficients:
    return SplitCoefficients(slices, crew.grid.columns, n_outputs, crew.watch)


def _survey(crew: Crew, summarise: Summarise) -> tuple[Any, float]:
    """What there is to learn, and the rows' weight."""

    def ask() -> list[tuple[Any, float]]:
        _, rows = crew.load()
        places = crew.places.rows
        found: list[tuple[Any, float]] = crew.gather(
            [
                crew.submit("summary", places[r], tile_tasks.summarise_row, targets, summarise)
                for r, targets in enumerate(rows)
            ]
        )
        return found

    parts = crew.persevere(ask, lambda: None)
    summaries = [summary for summary, _ in parts if summary is not None]
    if not summaries:
        raise DataError("Found array with 0 sample(s), while a minimum of 1 is required. Give rows to learn from.")
    weight = sum(weight for _, weight in parts)
    if not weight > 0:
        raise DataError("Sample weights must contain at least one non-zero number.")
    total = summaries[0]
    for summary in summaries[1:]:
        total = total.merge(summary)
    return total, weight
