"""Training by parameter averaging: legs on all shards, an average after each, a judge at the end of every epoch."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from dparallel.checkpoint import as_whole
from dparallel.estimators.local_sgd.interval import Interval, drift_of
from dparallel.estimators.local_sgd.replica import Leg, RunAlone, RunLeg, Totals
from dparallel.estimators.sgd.algorithm import LinearSGD, overflow
from dparallel.estimators.sgd.settling import longest_epoch
from dparallel.records import Audience, Listener, RoundRecord, add_seconds, read_record
from dparallel.rounds import Rounds
from dparallel.store.columns import Columns
from dparallel.workers.base import EpochReport, Outcome, Verdict
from dparallel.workers.saving import Saving
from dparallel.workers.training import score_shards


@dataclass(frozen=True, slots=True)
class AveragingRecord(RoundRecord):
    """What was done in an epoch, or between two averages that are more than an epoch apart.

    Parameters
    ----------
    round : int, epochs run so far, these included
    objective : float, mean loss of the rows, each measured just before it is learnt from, plus the penalty
    change : float or None, by how much that is less than the least before
    seconds : float; bytes_moved : int, of all its rounds together
    interval : int, minibatches of a partition between its last two averages
    n_averages : int
    drift : float, share of the replicas' squared displacement that cancelled in an average, from 0 to 1; mean over them
    """

    unit: ClassVar[str] = "epoch"

    interval: int
    n_averages: int
    drift: float


class Training:
    """One call of fit or partial_fit.

    Parameters
    ----------
    rounds : Rounds, open, with a Partitioning and known row counts
    algorithm : LinearSGD; its pace says how long an adaptive interval is at the start
    sync_every : int, "auto" or None, see LocalSGDClassifier
    max_epochs : int
    listeners : objects with the methods of records.Listener; the state that they get is the dict of parameters
    saving : Saving, of the file to go on from and to write
    """

    def __init__(
        self,
        rounds: Rounds,
        algorithm: LinearSGD,
        sync_every: int | str | None,
        max_epochs: int,
        listeners: Sequence[Listener],
        saving: Saving,
    ):
        self.rounds = rounds
        self.algorithm = algorithm
        self.sync_every = sync_every
        self.max_epochs = max_epochs
        self.audience = Audience(listeners)
        self.saving = saving
        self.token = uuid.uuid4().hex
        self.per_epoch = int(longest_epoch(rounds, algorithm.pace))
        self.interval = Interval(algorithm.pace.push_every, self.per_epoch, adaptive=isinstance(sync_every, str))
        self.judge = algorithm.judge()
        first = algorithm.initial()
        self._shapes = {name: values.shape for name, values in first.items()}
        self._columns = Columns({name: values.reshape(-1) for name, values in first.items()}, algorithm.optimizers())
        self.history: list[RoundRecord] = []
        self.n_epochs = self.n_averages = 0
        self._worker_seconds: list[dict[str, float]] = []  # of each round since the last record

    def run(self) -> Outcome:
        """Train until the judge or a listener ends it, or max_epochs have been run.

        Raises
        ------
        CheckpointError
            If the file to go on from is damaged, or another training's.
        """
        found = self.saving.read(self.per_epoch, self.rounds.n_shards)
        verdict = Verdict()
        if found is not None:
            with self.saving.parsing():
                self._restore(*found)
            verdict = Verdict(control=self.judge.factor)
        self.audience.start(self.parameters)
        while verdict.reason is None and self.n_epochs < self.max_epochs:
            self.audience.start_round(self.n_epochs + 1, self.parameters)
            verdict = self._run_alone() if self.sync_every is None else self._run_epoch(verdict.control)
            asked = self.audience.end_round(self.history[-1], self.parameters)
            if verdict.reason is None and asked is not None:
                verdict = Verdict(asked)
            self.saving.write(self._state)
        self.saving.remove()
        reason = verdict.reason or f"Stopped at the limit of {self.max_epochs} epochs."
        self.audience.stop(reason, self.parameters)
        return Outcome(
            parameters=self.parameters,
            history=self.history,
            n_epochs=self.n_epochs,
            n_steps=self.n_averages * self.rounds.n_shards,
            stop_reason=reason,
            converged=verdict.reason is not None and verdict.converged,
            stats=None,
        )

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """The parameters now, by name."""
        return {name: column.values.reshape(self._shapes[name]) for name, column in self._columns.current.items()}

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What goes to the file between two epochs."""
        arrays, document = self._columns.state()
        course = {
            "n_epochs": self.n_epochs,
            "n_averages": self.n_averages,
            "interval": self.interval.length,
            "judge": self.judge.state(),
            "history": [record.as_dict() for record in self.history],
        }
        return arrays, {"columns": document, "course": course}

    def _restore(self, arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> None:
        """Go to where a file says; any exception where it cannot be this training's."""
        columns, course = Columns.from_state(arrays, document["columns"]), document["course"]
        lengths = {name: column.values.size for name, column in columns.current.items()}
        if lengths != {name: column.values.size for name, column in self._columns.current.items()}:
            raise ValueError(f"it holds numbers of {lengths}, not what this fit learns")
        if columns.optimizers != self._columns.optimizers:
            raise ValueError("it was written with other optimizers")
        history = [read_record(AveragingRecord, described) for described in course["history"]]
        n_epochs = as_whole(course["n_epochs"], 1)
        if not history or history[-1].round != n_epochs:
            raise ValueError(f"its history does not end with its epoch {n_epochs}")
        self.interval.restore(course["interval"])
        self.judge.restore(course["judge"])
        self.n_epochs, self.n_averages = n_epochs, as_whole(course["n_averages"], 1)
        self._columns, self.history = columns, list(history)

    def _run_alone(self) -> Verdict:
        """Train each shard to its own end, and average once."""
        started = perf_counter()
        total = self._average(RunAlone(self.algorithm, self.token, self.max_epochs), self._replicated())
        drift, moved = drift_of(total, self.algorithm.metric), self.rounds.bytes_moved
        self.n_epochs = total.n_epochs
        verdict = self.judge.judge(self._report(total.sums))
        self._record(verdict, started, total.n_epochs * self.per_epoch, [drift], moved)
        if not total.converged:
            return Verdict(f"Stopped at the limit of {self.max_epochs} epochs.", converged=False)
        return Verdict("Every partition came to its own end.")

    def _run_epoch(self, factor: float | None) -> Verdict:
        """Run an epoch, or as many as lie between two averages."""
        started, run = perf_counter(), RunLeg(self.algorithm, self.token)
        n_epochs = min(self.interval.n_epochs, self.max_epochs - self.n_epochs)
        sums, drifts, moved, interval, first = np.zeros(2), [], 0, 0, 0
        while first < self.per_epoch:
            last = min(first + self.interval.length, self.per_epoch)
            interval = self.interval.length
            leg = Leg(self.n_epochs, first, last, n_epochs, 1.0 if factor is None else factor)
            total = self._average(run, (self._replicated(), leg))
            sums, moved, first = sums + total.sums, moved + self.rounds.bytes_moved, last
            drifts.append(drift_of(total, self.algorithm.metric))
            self.interval.averaged(total, drifts[-1])
        verdict = self.judge.judge(self._report(sums))
        self.n_epochs += n_epochs
        self._record(verdict, started, interval, drifts, moved)
        self.interval.judged(improved=self.judge.n_idle == 0)
        return verdict

    def _replicated(self) -> dict[str, np.ndarray]:
        """What every shard starts from."""
        parameters = self.parameters
        return {name: parameters[name] for name in ("coef", "intercept")}

    def _average(self, partial, state) -> Totals:
        """Run a leg on every shard and take the average of what they led to."""
        total: Totals = self.rounds.reduce(partial, Totals.merge, state)
        self._worker_seconds.append(self.rounds.seconds_by_worker)
        update = {**total.mean_displacement(), **total.summed}
        after = self._columns.after([{name: values.reshape(-1) for name, values in update.items()}])
        if not all(np.isfinite(column.values).all() for column in after.values()):
            raise overflow(self.n_epochs)
        self._columns.current = {**self._columns.current, **after}
        self.n_averages += 1
        return total

    def _report(self, sums: np.ndarray) -> EpochReport:
        parameters = self.parameters
        scores = score_shards(self.rounds, self.algorithm, self.token, parameters) if self.algorithm.is_scored else None
        return EpochReport(self.n_epochs, sums, parameters, scores)

    def _record(self, verdict: Verdict, started: float, interval: int, drifts: list[float], moved: int) -> None:
        self.history.append(
            AveragingRecord(
                round=self.n_epochs,
                objective=verdict.objective,
                change=verdict.change,
                seconds=perf_counter() - started,
                bytes_moved=moved,
                interval=interval,
                n_averages=len(drifts),
                drift=float(np.mean(drifts)),
                seconds_by_worker=add_seconds(self._worker_seconds),
            )
        )
        self._worker_seconds = []
