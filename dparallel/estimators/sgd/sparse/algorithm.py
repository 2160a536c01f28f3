"""Local SGD on the rows of a sparse table that a step's rows need, pushed as displacements of these alone.

What crosses the network per step: the columns that its rows have, once, and their coefficients, there and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dparallel import kernels
from dparallel.blocks.shards import Shard
from dparallel.errors import DataError
from dparallel.estimators.sgd.algorithm import LinearSGD, overflow
from dparallel.estimators.sgd.judge import EpochJudge
from dparallel.estimators.sgd.parameters import PASSIVE
from dparallel.estimators.sgd.rows import count_batches
from dparallel.estimators.sgd.sparse.coefficients import SparseLine, matrix_of, rows_of
from dparallel.estimators.sgd.sparse.rows import KeyedRows, KeyedSource, StepRows, csr_of_parts
from dparallel.store.optimizers import Add
from dparallel.store.rows import Rows, SparseTable
from dparallel.workers.base import StepInfo

BETA = 1.0  # of FTRL-Proximal; McMahan et al. found that it need not be tuned
_LEAST_SCALE = 1e-200


@dataclass(frozen=True)
class KeyedSGD(LinearSGD):
    """Minibatch SGD on a linear model whose coefficients are rows of a sparse table.

    Parameters
    ----------
    coef : CSR of shape (n_outputs, n_features), float64, to start from
    n_features : int
    state : dict of the parameters that an earlier call of partial_fit ended with, or None

    Notes
    -----
    The L2 penalty shrinks all coefficients in every minibatch, those too that no row of the step has. So the table
    holds coef / scale, where `scale` is a parameter of its own that a step shrinks as it would any coefficient whose
    column it does not have. What a step adds to a coefficient is divided by the scale that holds after its clock, when
    all partitions have shrunk it as this one did: to the last digits so with one partition, and with several of as many
    minibatches behind a gate.
    """

    n_features: int = 0
    state: Any = None

    source_kind: ClassVar[Any] = KeyedSource
    rows_kind: ClassVar[Any] = KeyedRows

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "state": None}

    def initial(self) -> dict[str, Any]:
        n_outputs = len(self.intercept)
        return {"coef": SparseTable(n_outputs), "intercept": self.intercept, "scale": np.ones(1)}

    def first_rows(self) -> dict[str, Any]:
        return {"coef": rows_of(self.coef)}

    def optimizers(self) -> dict[str, Any]:
        return dict.fromkeys(("coef", "intercept", "scale"), self.optimizer)

    def keys(self, shard: Shard, prepared: KeyedRows, epoch: int, index: int) -> dict[str, np.ndarray]:
        return {"coef": self.rows_of_step(prepared, epoch, index).keys}

    def rows_of_step(self, prepared: KeyedRows, epoch: int, index: int) -> StepRows:
        """The rows that a step visits."""
        first = index * self.pace.push_every
        return prepared.step(self.epochs_before + epoch, first, first + self.pace.push_every, self.pace.batch_size)

    def step(
        self, shard: Shard, prepared: Any, parameters: Mapping[str, Any], info: StepInfo
    ) -> tuple[dict[str, Any], np.ndarray]:
        rows, sums = self.rows_of_step(prepared, info.epoch, info.index), np.zeros(2)
        if not len(rows.y):
            return {}, sums
        before = parameters["coef"], parameters["intercept"], float(parameters["scale"][0])
        # a column that no row has shows by how much the others are shrunk
        coef = np.concatenate([before[2] * before[0].T, np.full((len(before[1]), 1), before[2])], axis=1)
        intercept = before[1].copy()
        number = self.batches_before + info.epoch * prepared.count_batches(self.pace.batch_size) + 1
        self._descend(rows, coef, intercept, number, 1.0 if info.control is None else info.control, sums)
        if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
            raise overflow(info.epoch)
        return self._update(rows, before, coef, intercept, info.share), sums

    def _descend(
        self, rows: StepRows, coef: np.ndarray, intercept: np.ndarray, number: float, factor: float, sums: np.ndarray
    ) -> None:
        X, size = rows.matrix(1), self.pace.batch_size
        for start, n_rows, batches_before in rows.stretches:
            visited = np.arange(start, start + n_rows)
            rates = self.schedule.rates(number + batches_before, count_batches([n_rows], size), factor)
            given = (X, visited, rows.y, rows.weights, coef, intercept, self.settings())
            if self.schedule.kind in PASSIVE:
                kernels.passive.train(*given, rates[0], self.schedule.kind == "pa2", sums)
            else:
                kernels.gradient.train(*given, rates, sums)

    def _update(
        self, rows: StepRows, before: tuple[Any, Any, float], coef: np.ndarray, intercept: np.ndarray, share: float
    ) -> dict[str, Any]:
        scale = before[2]
        shrunk = float(coef[0, -1])
        if not shrunk > _LEAST_SCALE:
            raise DataError(
                f"The L2 penalty has shrunk the coefficients of columns that are seldom seen by {shrunk:g}, further "
                "than a sparse table follows. Give a smaller alpha, a learning rate that falls, or sparse_coef=False."
            )
        away = (shrunk / scale) * (scale * before[0]) - coef[:, :-1].T
        update: dict[str, Any] = {"coef": Rows(rows.keys, share * away / shrunk)}
        if shrunk != scale:
            update["scale"] = np.array([share * (scale - shrunk)])
        if self.objective.fit_intercept:
            update["intercept"] = share * (before[1] - intercept)
        return update

    def coefficients(self, parameters: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Keys and coefficients, of shape (n_keys, n_outputs), that parameters of the store stand for."""
        keys, rows = parameters["coef"]
        return keys, parameters["scale"][0] * rows

    def offset(self, parameters: Mapping[str, Any]) -> np.ndarray:
        """The intercept that they stand for."""
        return parameters["intercept"]

    def learnt(self, parameters: Mapping[str, Any]) -> tuple[Any, np.ndarray]:
        """The coefficients as CSR of shape (n_outputs, n_features), and the intercept."""
        return matrix_of(*self.coefficients(parameters), self.n_features), self.offset(parameters)

    def kept(self, parameters: Mapping[str, Any]) -> Any:
        """What the next call of partial_fit goes on from beside what is published."""
        return None

    def score(self, shard: Shard, prepared: Any, parameters: Mapping[str, Any]) -> np.ndarray:
        line, columns = SparseLine(*self.learnt(parameters)), prepared.source.numbers_of_columns.keys
        total: np.ndarray = np.zeros(1)
        for segment in prepared.segments:
            block = prepared.source.block(segment.entry)
            assert block.held is not None and block.held_weights is not None
            rows = segment.low + np.flatnonzero(block.held[segment.low : segment.high])
            X = block.X[rows]
            X = csr_of_parts(X.data, columns[X.indices], X.indptr, (len(rows), self.n_features))
            scores = line.scores(X)
            total = total + self.reading.targets.measure(block.y[rows], scores, block.held_weights[rows])
        return total

    def judge(self) -> EpochJudge:
        return replace(self.verdicts, penalised=lambda parameters: self.coefficients(parameters)[1])


@dataclass(frozen=True)
class KeyedLeader(KeyedSGD):
    """FTRL-Proximal: a rate for each coefficient, and penalties in closed form.

    Notes
    -----
    The table holds z and h of each coefficient, see kernels.leader. They are sums over rows, of linear terms and of the
    curvatures of quadratic ones, so partitions add theirs up in any order, and need no share: the coefficient is the
    minimiser of the sum of all their terms. A coefficient that two partitions have moved alike stays where both have
    it, with twice the curvature; one that a single partition has seen is as if there were no other.
    """

    def initial(self) -> dict[str, Any]:
        if self.state is not None:
            intercept, n_rows = self.state["intercept"], self.state["n_rows"]
        else:
            intercept, n_rows = self._states(self.intercept[None])[0], np.zeros(1)
        return {"coef": SparseTable(2 * len(self.intercept)), "intercept": intercept, "n_rows": n_rows}

    def first_rows(self) -> dict[str, Any]:
        if self.state is not None:
            return {"coef": self.state["coef"]}
        keys, values = rows_of(self.coef)
        return {"coef": (keys, self._states(values))}

    def optimizers(self) -> dict[str, Any]:
        return dict.fromkeys(("coef", "intercept", "n_rows"), Add())

    def step(
        self, shard: Shard, prepared: Any, parameters: Mapping[str, Any], info: StepInfo
    ) -> tuple[dict[str, Any], np.ndarray]:
        rows, sums = self.rows_of_step(prepared, info.epoch, info.index), np.zeros(2)
        if not len(rows.y):
            return {}, sums
        table, intercept, n_before = parameters["coef"].copy(), parameters["intercept"].copy(), parameters["n_rows"][0]
        given = (rows.matrix(), rows.y, rows.weights, table, intercept, self.settings())
        n_rows = kernels.leader.train(*given, self.schedule.eta0, BETA, n_before, sums)
        table -= parameters["coef"]
        if not (np.isfinite(table).all() and np.isfinite(intercept).all()):
            raise overflow(info.epoch)
        update = {"coef": Rows(rows.keys, table), "n_rows": np.array([n_rows - n_before])}
        if self.objective.fit_intercept:
            update["intercept"] = intercept - parameters["intercept"]
        return update, sums

    def coefficients(self, parameters: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        keys, table = parameters["coef"]
        objective, n_rows = self.objective, float(parameters["n_rows"][0])
        penalties = objective.l2, objective.l1, n_rows
        return keys, kernels.leader.coefficients(table, self.schedule.eta0, BETA, *penalties)

    def offset(self, parameters: Mapping[str, Any]) -> np.ndarray:
        return kernels.leader.coefficients(parameters["intercept"][None], self.schedule.eta0, BETA)[0]

    def kept(self, parameters: Mapping[str, Any]) -> Any:
        return parameters

    def _states(self, coef: np.ndarray) -> np.ndarray:
        return kernels.leader.states(coef, self.schedule.eta0, BETA)
