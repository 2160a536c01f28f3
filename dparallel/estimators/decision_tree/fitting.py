"""One fit of a tree: survey the rows, choose bins, grow, finish what is small, and put the nodes in order."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.estimators.decision_tree.bins import choose_bins
from dparallel.estimators.decision_tree.exact import finish_small
from dparallel.estimators.decision_tree.frontier import Frontier, Limits, Task
from dparallel.estimators.decision_tree.growth import CountedRounds, Growth, GrowthState
from dparallel.estimators.decision_tree.held import Coding
from dparallel.estimators.decision_tree.history import LevelRecord, by_level
from dparallel.estimators.decision_tree.nodes import PARKED
from dparallel.estimators.decision_tree.parameters import histogram_bytes
from dparallel.estimators.decision_tree.settling import Settled, open_questions, settled
from dparallel.estimators.decision_tree.survey import Question, Survey, survey
from dparallel.estimators.decision_tree.targets import class_targets, number_targets
from dparallel.estimators.decision_tree.tree import TreeArrays, best_first, depth_first, graft, of_nodes
from dparallel.records import Listener, RoundRecord
from dparallel.rounds import Rounds, iterate


@dataclass(frozen=True)
class Plan:
    """What to do, taken from an estimator's parameters.

    Parameters
    ----------
    criterion : "gini", "entropy", "log_loss", "squared_error", "friedman_mse" or "poisson"
    has_classes : bool
    max_bins : int
    max_features : int
    class_weight : the parameter
    categorical : ndarray of shape (n_features,), bool, or None
    limits : function of the number of rows
    constraint : function of the number of classes, 0 for regression
    seed : int
    """

    criterion: str
    has_classes: bool
    max_bins: int
    max_features: int
    class_weight: Any
    categorical: np.ndarray | None
    limits: Callable[[int], Limits]
    constraint: Callable[[int], np.ndarray | None]
    seed: int


@dataclass(frozen=True)
class Grown:
    """What a fit has found.

    Parameters
    ----------
    arrays : TreeArrays, nodes in scikit-learn's order
    rules : kernels.criteria.Rules; bins : kernels.binning.Bins
    targets : ClassTargets or NumberTargets
    bounded : bool, whether there are monotonic constraints
    history : list of LevelRecord
    n_rounds : int, rounds over the data, those before the first split included
    """

    arrays: TreeArrays
    rules: Any
    bins: Any
    targets: Any
    bounded: bool
    history: list[LevelRecord]
    n_rounds: int


def grow(rounds: Rounds, plan: Plan, listeners: Sequence[Listener] = ()) -> Grown:
    """Fit one tree to the rows of open rounds."""
    counted: Any = CountedRounds(rounds)
    found = survey(counted, Question(rounds.blocks.n_features, plan.max_bins, plan.has_classes))
    weighted = rounds.blocks.weighted
    targets: Any = (
        class_targets(found, plan.class_weight, weighted)
        if plan.has_classes
        else number_targets(found, plan.criterion, weighted)
    )
    constraint = plan.constraint(len(targets.classes))
    bins = choose_bins(counted, found, plan.max_bins, plan.categorical)
    task = _task(rounds, plan, found, targets, bins, constraint)
    start = Frontier.start(task, _rules(plan, targets, task.limits))
    state = GrowthState(
        uuid.uuid4().hex, 0, Coding(bins, targets), (), start.build, True, task.second, task.limb, start
    )
    outcome = iterate(counted, Growth(), state, max_rounds=sys.maxsize, listeners=listeners)
    return _finished(counted, outcome.state, outcome.history)


def _finished(rounds: Any, state: GrowthState, history: Sequence[RoundRecord]) -> Grown:
    """Finish small nodes, find thresholds and impurities, and put the nodes in order."""
    frontier: Any = state.frontier
    tree = of_nodes(frontier.nodes, frontier.order)
    small = np.flatnonzero(frontier.nodes.status == PARKED)
    seconds, moved, n_more = 0.0, 0, 0
    if len(small):
        started = perf_counter()
        # exact subtrees have their thresholds; those grown by codes are settled below, with all the others
        questions = None if frontier.by_codes else open_questions(state, tree)
        found = finish_small(rounds, state, small, questions)
        tree = graft(settled(state, tree, found.settled), found.subtrees)
        seconds, moved, n_more = perf_counter() - started, found.n_bytes, 1
        state = replace(state, round=state.round + 1)
    if frontier.by_codes or not len(small):
        questions = open_questions(state, tree)
        tree = settled(state, tree, None if questions is None else rounds.reduce(questions, Settled.add, state))
    records = by_level(history, frontier, tree, (seconds, moved))
    return _put_in_order(state, tree, records, rounds.n_rounds + n_more)


def grown_so_far(state: GrowthState) -> Grown:
    """What the driver knows of the tree in the middle of growth; nodes that are not split are its leaves."""
    frontier: Any = state.frontier
    return _put_in_order(state, of_nodes(frontier.nodes, frontier.order), [], 0)


def _put_in_order(state: GrowthState, tree: TreeArrays, history: list[LevelRecord], n_rounds: int) -> Grown:
    frontier: Any = state.frontier
    arrays = depth_first(tree) if frontier.order is None else best_first(tree, frontier.order)
    task, targets = frontier.task, state.coding.targets
    return Grown(arrays, frontier.rules, task.bins, targets, task.constraint is not None, history, n_rounds)


def _rules(plan: Plan, targets: Any, limits: Limits) -> Any:
    criteria = kernels.criteria
    numbers = {
        "gini": criteria.GINI,
        "entropy": criteria.ENTROPY,
        "log_loss": criteria.ENTROPY,
        "squared_error": criteria.SQUARED_ERROR,
        "friedman_mse": criteria.SQUARED_ERROR,  # as in scikit-learn since 1.9
        "poisson": criteria.POISSON,
    }
    return criteria.Rules(
        criterion=numbers[plan.criterion],
        n_classes=len(targets.classes),
        weighted=targets.weighted,
        weight_unit=2.0 ** -(targets.weight_power or 0),
        moment_unit=2.0**-targets.moment_power,
        min_rows=limits.min_samples_leaf,
        max_features=plan.max_features,
    )


def _task(rounds: Rounds, plan: Plan, found: Survey, targets: Any, bins: Any, constraint: np.ndarray | None) -> Task:
    n_statistics = kernels.histogram.n_statistics(len(targets.classes), targets.weighted)
    item_bytes = 4 if plan.has_classes and not targets.weighted else 8
    node_bytes = int(bins.starts[-1]) * n_statistics * item_bytes
    row_bytes = rounds.blocks.n_features + (4 if plan.has_classes else 16) + 8 * targets.weighted
    limit = histogram_bytes()
    second, second_unit = None, 1.0
    if not plan.has_classes:
        second = "deviance" if plan.criterion == "poisson" else "squares"
        power = targets.second_power if second == "deviance" else targets.moment_power + targets.target_power
        second_unit = 2.0**-power
    return Task(
        bins=bins,
        limits=plan.limits(found.n_rows),
        constraint=constraint,
        categorical=plan.categorical,
        key=kernels.feature_draws.root_key(plan.seed),
        second_unit=second_unit,
        limb=kernels.fixed_point.limb(found.n_used),
        second=second,
        nodes_per_round=max(1, limit // max(1, node_bytes * _shards_together(rounds))),
        kept_bytes=limit,
        small_rows=node_bytes // row_bytes,
        rest_rows=limit // row_bytes * _count_processes(rounds),
    )


def _count_processes(rounds: Any) -> int:
    return 1 if rounds.is_local else max(1, len(rounds.holding.threads))


def _shards_together(rounds: Any) -> int:
    """How many shards share a process's memory."""
    return rounds.n_shards if rounds.is_local else max(rounds.holding.threads.values(), default=1)
