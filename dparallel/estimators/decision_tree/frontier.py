"""The driver's side of growth: which nodes wait for histograms, which splits are chosen, and what is asked for next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dparallel import kernels
from dparallel.estimators.decision_tree.best_first import choose_order
from dparallel.estimators.decision_tree.held import Step
from dparallel.estimators.decision_tree.nodes import LEAF, OPEN, PARKED, READY, SPLIT, Nodes
from dparallel.estimators.decision_tree.searching import search_splits

_LEVELS_WORTH_IT = 3
_MANY_LEVELS = 64
_DONE = "No node is left to split."
_NO_PLACES = np.empty(0, np.int32)


@dataclass(frozen=True)
class Limits:
    """When a node is not split further.

    Parameters
    ----------
    max_depth, min_samples_split, min_samples_leaf : int
    min_weight_fraction : float, of the weight of all rows
    min_impurity_decrease : float
    max_leaf_nodes : int or None
    exact_rows : int, nodes of at most so many rows are set apart, to be finished on one worker
    """

    max_depth: int
    min_samples_split: int
    min_samples_leaf: int
    min_weight_fraction: float
    min_impurity_decrease: float
    max_leaf_nodes: int | None
    exact_rows: int


@dataclass(frozen=True)
class Task:
    """What does not change while a tree grows.

    Parameters
    ----------
    bins : kernels.binning.Bins
    limits : Limits
    constraint : ndarray of shape (n_features,), int8, as kernels.splits.best takes it, or None
    categorical : ndarray of shape (n_features,), bool, or None
    key : uint64, of the root
    second_unit : float, what an integer 1 stands for in the second sums
    limb : int, see kernels.fixed_point.squares
    second : "squares", "deviance" or None
    nodes_per_round : int, the most histograms that a round brings
    kept_bytes : int, the most memory for histograms that wait for their children's
    small_rows : int, a node of so many rows has codes of fewer bytes than its histogram
    rest_rows : int, rows of so many may change the worker
    """

    bins: Any
    limits: Limits
    constraint: np.ndarray | None
    categorical: np.ndarray | None
    key: Any
    second_unit: float
    limb: int
    second: str | None
    nodes_per_round: int
    kept_bytes: int
    small_rows: int = 0
    rest_rows: int = 0


@dataclass(frozen=True)
class Frontier:
    """The nodes so far, and what the next round is to bring.

    Parameters
    ----------
    task : Task
    rules : kernels.criteria.Rules, the weights of all rows filled in after the first round
    nodes : Nodes
    live : ndarray of int32, the live nodes by place, see held.Step
    fresh : ndarray of int32, nodes that the last step made, and whose second sums the next round brings
    asked : ndarray of shape (n_asked, 2), int32: nodes whose histograms the next round brings, and beside each the
        sibling whose histogram is then known, or -1
    waiting : the same, for later rounds without a step
    kept : histograms by node, of those whose children have none yet
    step : Step that the next round takes, or None
    levels : number of the level that each round so far belonged to, the root's being 0
    order : ndarray of int32, nodes in the order in which best-first growth splits them; None without max_leaf_nodes
    low, high : ndarray of shape (n_slots,), float32, extreme values of the bins
    by_codes : bool, whether the parked nodes are finished by their rows' codes, and not by raw values
    reason : str, why growth has ended, or None
    """

    task: Task
    rules: Any
    nodes: Nodes
    live: np.ndarray
    fresh: np.ndarray
    asked: np.ndarray
    waiting: np.ndarray
    kept: dict[int, np.ndarray] = field(default_factory=dict)
    step: Step | None = None
    levels: tuple[int, ...] = ()
    level: int = 0
    order: np.ndarray | None = None
    low: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    high: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    by_codes: bool = False
    reason: str | None = None

    @classmethod
    def start(cls, task: Task, rules: Any) -> Frontier:
        """The frontier before the first round: the root."""
        n_statistics = kernels.histogram.n_statistics(rules.n_classes, rules.weighted)
        nodes = Nodes.blank(1, n_statistics).put(np.array([0]), key=task.key)
        root = np.zeros(1, np.int32)
        asked = np.array([[0, -1]], np.int32)
        return cls(task, rules, nodes, root, root, asked, asked[:0])

    @property
    def build(self) -> np.ndarray:
        """Places of the nodes whose histograms the next round brings."""
        place = np.full(len(self.nodes), -1, np.int32)
        place[self.live] = np.arange(len(self.live))
        return place[self.asked[:, 0]] if len(self.asked) else _NO_PLACES

    @property
    def impurity(self) -> float | None:
        """Impurity of the tree's leaves, weighted by their share of the rows."""
        root = self.nodes.impurity[0]
        split = self.nodes.status == SPLIT
        return None if np.isnan(root) else float(root - self.nodes.improvement[split].sum())

    def learn(self, part: Any) -> Frontier:
        """Take in what a round brought, and decide what comes next."""
        found = self
        if not self.levels:
            found = found._learn_root(part)
        found = found.learn_second(part.second)
        found = found._search(*found._histograms(part.histograms))
        found = replace(found, levels=(*self.levels, self.level), step=None)
        if len(found.waiting):
            return found._ask(found.waiting)
        return found._advance()

    def _learn_root(self, part: Any) -> Frontier:
        criteria, limits = kernels.criteria, self.task.limits
        statistics = kernels.histogram.totals(part.histograms, self.task.bins)
        rules = self.rules._replace(total_weight=1.0)
        weight = float(criteria.weights(statistics, rules)[0])
        rules = rules._replace(total_weight=weight, min_weight=limits.min_weight_fraction * weight)
        nodes = self.nodes.put(
            np.array([0]), statistics=statistics, rows=criteria.counts(statistics, rules), weight=weight
        )
        if self.task.second is None:
            nodes = nodes.put(np.array([0]), impurity=criteria.impurities(statistics, rules))
        found = replace(self, rules=rules, nodes=nodes, low=part.low, high=part.high)
        return replace(found, nodes=nodes.put(np.array([0]), status=found._status(nodes)))

    def learn_second(self, second: np.ndarray) -> Frontier:
        """Find the impurities of new nodes that their histograms do not tell."""
        if not len(second):
            return self
        squares = self.task.second == "squares"
        sums = kernels.fixed_point.whole(second, self.task.limb) if squares else second[:, 0].tolist()
        statistics = self.nodes.statistics[self.fresh]
        impurity = kernels.criteria.impurities(statistics, self.rules, sums, self.task.second_unit)
        nodes = self.nodes.put(self.fresh, impurity=impurity)
        pure = self.fresh[impurity <= kernels.criteria.EPSILON]
        return replace(self, nodes=nodes.put(pure, status=LEAF))

    def _histograms(self, built: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and histograms of the nodes that are now known: those that were built, and their siblings."""
        numbers, siblings = self.asked[:, 0], self.asked[:, 1]
        paired = np.flatnonzero(siblings >= 0)
        if not len(paired):
            return numbers, built
        parent = self._parents()
        known = np.empty((len(built) + len(paired), *built.shape[1:]), built.dtype)
        known[: len(built)] = built
        for at, i in enumerate(paired.tolist(), len(built)):
            np.subtract(self.kept[int(parent[numbers[i]])], built[i], out=known[at])
        return np.concatenate([numbers, siblings[paired]]), known

    def _parents(self) -> np.ndarray:
        nodes = self.nodes
        parent = np.full(len(nodes), -1, np.int32)
        split = np.flatnonzero(nodes.left_child >= 0)
        parent[nodes.left_child[split]] = parent[nodes.right_child[split]] = split
        return parent

    def _search(self, numbers: np.ndarray, histograms: np.ndarray) -> Frontier:
        """Choose the splits of nodes whose histograms are known."""
        task = self.task
        wanted = np.flatnonzero(self.nodes.status[numbers] == OPEN)
        parents = {int(p) for p in self._parents()[numbers]}
        kept = {node: histogram for node, histogram in self.kept.items() if node not in parents}
        if not len(wanted):
            return replace(self, kept=kept)
        if len(wanted) < len(numbers):
            numbers, histograms = numbers[wanted], histograms[wanted]
        nodes = self.nodes
        bounds = np.column_stack([nodes.lower[numbers], nodes.upper[numbers]])
        found = search_splits(
            histograms,
            task.bins,
            self.low,
            self.high,
            self.rules,
            constraint=task.constraint,
            bounds=None if task.constraint is None else bounds,
            categorical=task.categorical,
            keys=nodes.key[numbers] if self.rules.max_features < len(task.bins.n_values) else None,
        )
        too_little = found.improvement + kernels.criteria.EPSILON < task.limits.min_impurity_decrease
        ready = (found.feature >= 0) & ~too_little
        names = ("feature", "threshold", "missing_left", "left", "left_statistics", "improvement", "middle")
        nodes = nodes.put(numbers[ready], **{name: getattr(found, name)[ready] for name in names}, status=READY)
        nodes = nodes.put(numbers[~ready], status=LEAF)
        room = task.kept_bytes - sum(histogram.nbytes for histogram in kept.values())
        if histograms.nbytes <= room:
            kept.update({int(numbers[i]): histograms[i] for i in np.flatnonzero(ready)})
        return replace(self, nodes=nodes, kept=kept)

    def _advance(self) -> Frontier:
        """Split what is ready, and ask for the children's histograms."""
        chosen = self.live[self.nodes.status[self.live] == READY]
        order = None
        if self.task.limits.max_leaf_nodes is not None:
            order, chosen = choose_order(self.nodes, self.task.limits.max_leaf_nodes)
        if not len(chosen):
            return replace(self, order=order, asked=self.asked[:0], reason=_DONE)
        places = np.flatnonzero(np.isin(self.live, chosen)).astype(np.int32)
        parents = self.live[places]
        found = replace(self, nodes=self._with_children(parents), order=order, level=self.level + 1)
        found = found._park_small()
        children = found.nodes.children(parents)
        pairs = found._pairs(parents)
        after = np.concatenate([np.delete(self.live, places), children])
        status = found.nodes.status[after]
        needed = np.isin(after, pairs[:, 0]) | (status == OPEN) | (status == READY) | (status == PARKED)
        keep = np.flatnonzero(needed).astype(np.int32)
        step = Step(places, self.nodes.feature[parents], self.nodes.left[parents], keep)
        kept = {int(p): self.kept[int(p)] for p in found._parents()[pairs[:, 0]] if int(p) in self.kept}
        kept.update({node: self.kept[node] for node in self.kept if found.nodes.status[node] == READY})
        found = replace(found, live=after[keep], fresh=children, step=step, kept=kept)
        return found._ask(pairs) if len(pairs) else found._end()

    def _park_small(self) -> Frontier:
        """Set small nodes apart, to be finished at once on the workers: their rows' codes are less than histograms.

        The tree is the same either way. Finishing takes two rounds; so that these are never more than levels would
        take, nodes near the largest depth are set apart only where all that are left are small.
        """
        task, limits, nodes = self.task, self.task.limits, self.nodes
        rest = np.flatnonzero(nodes.status == OPEN)
        small = rest[nodes.rows[rest] <= task.small_rows]
        if limits.exact_rows or limits.max_leaf_nodes is not None or not len(small):
            return self
        levels_left = limits.max_depth - int(nodes.depth[rest].max())
        n_rows = int(nodes.rows[small].sum() + nodes.rows[nodes.status == PARKED].sum())
        worth_it = levels_left >= (_LEVELS_WORTH_IT if len(small) == len(rest) else _MANY_LEVELS)
        if not worth_it or n_rows > task.rest_rows or self._has_close_bins():
            return self
        return replace(self, nodes=nodes.put(small, status=PARKED), by_codes=True)

    def _has_close_bins(self) -> bool:
        """Whether values of neighbouring bins are so close that splits do not part them; codes would not show that."""
        bins = self.task.bins
        feature = np.repeat(np.arange(len(bins.n_values)), np.diff(bins.starts))
        full = np.flatnonzero(np.isfinite(self.low) & ~bins.exact[feature])
        same = feature[full[1:]] == feature[full[:-1]]
        close = self.low[full[1:]] <= self.high[full[:-1]] + kernels.splits.LEAST_STEP
        return bool((same & close).any())

    def _end(self) -> Frontier:
        """Nothing is left to be learned about the nodes of the last step; are there others?"""
        found = replace(self, asked=self.asked[:0], waiting=self.waiting[:0])
        if self.task.limits.max_leaf_nodes is not None:
            order, wanted = choose_order(self.nodes, self.task.limits.max_leaf_nodes)
            if len(wanted):
                return found  # a round that only splits rows
            found = replace(found, order=order)
        return replace(found, reason=_DONE)

    def _ask(self, pairs: np.ndarray) -> Frontier:
        """Ask for the first of some histograms, as many as there is memory for."""
        n = self.task.nodes_per_round
        return replace(self, asked=pairs[:n], waiting=pairs[n:])

    def _with_children(self, parents: np.ndarray) -> Nodes:
        """The nodes, with children of those that are split now."""
        criteria, nodes = kernels.criteria, self.nodes
        n_before, n_new = len(nodes), 2 * len(parents)
        new = Nodes.blank(n_new, nodes.statistics.shape[1])
        left, right = slice(0, n_new, 2), slice(1, n_new, 2)
        new.depth[:] = np.repeat(nodes.depth[parents] + 1, 2)
        new.key[left], new.key[right] = kernels.feature_draws.child_keys(nodes.key[parents])
        new.statistics[left] = nodes.left_statistics[parents]
        new.statistics[right] = nodes.statistics[parents] - nodes.left_statistics[parents]
        new.rows[:] = criteria.counts(new.statistics, self.rules)
        new.weight[:] = criteria.weights(new.statistics, self.rules)
        if self.task.second is None:
            new.impurity[:] = criteria.impurities(new.statistics, self.rules)
        self._bound(parents, new, left, right)
        new.status[:] = self._status(new)
        made = nodes.append(new)
        numbers = np.arange(n_before, n_before + n_new, dtype=np.int32)
        children = {"left_child": numbers[left], "right_child": numbers[right]}
        return made.put(parents, status=SPLIT, split_level=self.level, **children)

    def _bound(self, parents: np.ndarray, new: Nodes, left: slice, right: slice) -> None:
        """Bound the values below new nodes: below a constrained split the children's values stay on their sides."""
        nodes, constraint = self.nodes, self.task.constraint
        for side in (left, right):
            new.lower[side], new.upper[side] = nodes.lower[parents], nodes.upper[parents]
        if constraint is None:
            return
        sign, middle = constraint[nodes.feature[parents]], nodes.middle[parents]
        new.upper[left] = np.where(sign > 0, middle, new.upper[left])
        new.lower[right] = np.where(sign > 0, middle, new.lower[right])
        new.lower[left] = np.where(sign < 0, middle, new.lower[left])
        new.upper[right] = np.where(sign < 0, middle, new.upper[right])

    def _status(self, nodes: Nodes) -> np.ndarray:
        """What new nodes are: leaves, or open, or to be finished later."""
        limits, rules = self.task.limits, self.rules
        leaf = nodes.depth >= limits.max_depth
        leaf |= nodes.rows < max(limits.min_samples_split, 2 * limits.min_samples_leaf)
        leaf |= nodes.weight < 2 * rules.min_weight
        leaf |= nodes.impurity <= kernels.criteria.EPSILON  # NaN, not known yet, is not
        small = nodes.rows <= limits.exact_rows
        return np.where(leaf, LEAF, np.where(small, PARKED, OPEN)).astype(np.uint8)

    def _pairs(self, parents: np.ndarray) -> np.ndarray:
        """Which histograms to ask for: of two siblings the smaller one's, the other one's follows by subtraction."""
        nodes, pairs = self.nodes, []
        for parent in parents:
            left, right = int(nodes.left_child[parent]), int(nodes.right_child[parent])
            is_open = {node: nodes.status[node] == OPEN for node in (left, right)}
            if int(parent) not in self.kept:
                pairs += [(node, -1) for node in (left, right) if is_open[node]]
            elif is_open[left] or is_open[right]:
                small, large = (right, left) if nodes.rows[right] < nodes.rows[left] else (left, right)
                pairs.append((small, large if is_open[large] else -1))
        return np.array(pairs, np.int32).reshape(-1, 2)
