"""One fit, from what the user gave to coefficients, whichever engine it takes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dparallel.blocks.block import Blocks
from dparallel.estimators.linear.lbfgs import Outcome, Rule, descend
from dparallel.estimators.linear.losses import Objective
from dparallel.estimators.linear.rows import Reading, RowLandscape
from dparallel.estimators.sgd.survey import Summarise, Survey, survey
from dparallel.place import Local
from dparallel.pools import one_thread
from dparallel.records import Listener
from dparallel.rounds import Partitioning, open_rounds


@dataclass(frozen=True)
class Task:
    """What to learn, once the targets are known.

    Parameters
    ----------
    targets : Labels or Table
    objective : Objective
    rule : Rule
    coef, intercept : ndarray of shape (n_outputs, n_features) and (n_outputs,), or None, where to start
    """

    targets: Any
    objective: Objective
    rule: Rule
    coef: np.ndarray | None = None
    intercept: np.ndarray | None = None


@dataclass(frozen=True)
class Solution:
    """What was learnt.

    Parameters
    ----------
    coef : ndarray of shape (n_outputs, n_features), float64, or SplitCoefficients
    intercept : ndarray of shape (n_outputs,), float64
    outcome : Outcome
    """

    coef: Any
    intercept: np.ndarray
    outcome: Outcome


Settle = Callable[[Any, float], Task]
Listen = Callable[[Callable[[Any], Any]], Sequence[Listener]]


def fit_rows(blocks: Blocks, summarise: Summarise, settle: Settle, listen: Listen) -> Solution:
    """Fit data whose columns are together.

    Parameters
    ----------
    blocks : Blocks
    summarise : function of one block's y and sample_weight, whose results merge
    settle : function of the merged summary and the rows' weight that returns the Task
    listen : function of a function (state -> coef and intercept) that returns the listeners
    """
    with open_rounds(blocks, partitioning=Partitioning()) as rounds:
        if isinstance(rounds.place, Local):
            with one_thread("blas"):
                return _fit_rows(rounds, summarise, settle, listen)
        return _fit_rows(rounds, summarise, settle, listen)


def _fit_rows(rounds: Any, summarise: Summarise, settle: Settle, listen: Listen) -> Solution:
    found: Survey = survey(rounds, summarise)
    task: Task = settle(found.target, found.moments.weight)
    objective = task.objective
    centre = found.moments.mean if objective.fit_intercept else np.zeros(rounds.blocks.n_features)
    coef, intercept = start_at(task, rounds.blocks.n_features, centre)
    reading = Reading(uuid.uuid4().hex, task.targets, objective, centre)
    moments = found.moments
    # those of rows that are weighted by class, too, are not known
    is_known = getattr(task.targets, "class_weight", None) is None and moments.weight > 0
    mean_squares = moments.deviation / moments.weight + (moments.mean - centre) ** 2 if is_known else None
    landscape = RowLandscape(rounds, reading, coef, intercept, mean_squares)

    def leave(state: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.ascontiguousarray(state[0].T), state[1] - centre @ state[0]

    outcome = descend(landscape, task.rule, listen(leave))
    return Solution(*leave(landscape.state), outcome)


def start_at(task: Task, n_features: int, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where to start, for centred rows: of shape (n_features, n_outputs) and (n_outputs,)."""
    n_outputs = task.objective.loss.n_outputs
    coef = np.zeros((n_features, n_outputs)) if task.coef is None else np.array(task.coef.T, np.float64)
    intercept = np.zeros(n_outputs) if task.intercept is None else task.intercept + centre @ coef
    return coef, np.asarray(intercept, np.float64)
