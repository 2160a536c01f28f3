"""Toy algorithms for the asynchronous engine: one whose steps can be counted, one that shows any change of order."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from dparallel.store.optimizers import SGD, Add
from dparallel.workers import AsyncAlgorithm, Verdict


class Limit:
    """Judge that ends after some epochs and remembers the sums of each."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs
        self.sums = []

    def judge(self, report):
        self.sums.append(report.sums.tolist())
        reason = "That was enough." if len(self.sums) == self.n_epochs else None
        return Verdict(reason, objective=float(report.sums[0]), control=len(self.sums))

    def state(self):
        return {"sums": [list(sums) for sums in self.sums]}

    def restore(self, state):
        self.sums = [list(sums) for sums in state["sums"]]


@dataclass(frozen=True)
class Count(AsyncAlgorithm):
    """Counts steps, and adds up which: whole numbers, so that a lost or doubled one shows."""

    n_steps: int = 10
    n_epochs: int = 3
    work_s: float = 0.0

    def initial(self):
        return {"count": np.zeros(3)}

    def optimizers(self):
        return {"count": Add()}

    def count_steps(self, rows):
        return self.n_steps

    def work_seconds(self, rows):
        return max(self.work_s * self.n_steps, 1e-6)

    def step(self, shard, prepared, parameters, info):
        until = perf_counter() + self.work_s
        while perf_counter() < until:
            np.linalg.norm(np.ones(1000))
        rows = sum(block.n_rows for block in shard.blocks)
        return {"count": np.array([1.0, info.clock, rows * info.partition])}, np.array([1.0, rows])

    def score(self, shard, prepared, parameters):
        return np.array([sum(block.n_rows for block in shard.blocks), parameters["count"][0]])

    def judge(self):
        return Limit(self.n_epochs)


@dataclass(frozen=True)
class Descent(AsyncAlgorithm):
    """Gradient steps on the squared distance to the rows, bent so that the order of updates shows in the last bit."""

    n_steps: int = 8
    n_epochs: int = 4
    rate: float = 0.1

    def initial(self):
        return {"point": np.full(3, 0.3)}

    def optimizers(self):
        return {"point": SGD(learning_rate=1.0)}

    def count_steps(self, rows):
        return self.n_steps

    def work_seconds(self, rows):
        return 0.01

    def prepare(self, shard):
        return np.concatenate([block.X for block in shard.blocks])

    def step(self, shard, prepared, parameters, info):
        rows = prepared[info.index :: info.n_steps]
        off = parameters["point"] - rows
        gradient = (off / (1.0 + off**2)).mean(axis=0)
        return {"point": info.share * self.rate * gradient}, np.array([(off**2).sum(), float(len(rows))])

    def judge(self):
        return Limit(self.n_epochs)


def serial_descent(parts, n_epochs, n_steps=8, rate=0.1):
    """Descent with staleness=0 in plain numpy, for the rows of each partition."""
    point = np.full(3, 0.3)
    shares = [len(rows) / sum(map(len, parts)) for rows in parts]
    for clock in range(n_epochs * n_steps):
        base = point.copy()
        for rows, share in zip(parts, shares):
            off = base - rows[clock % n_steps :: n_steps]
            point -= share * rate * (off / (1.0 + off**2)).mean(axis=0)
    return point
