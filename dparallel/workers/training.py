"""Asynchronous training: epochs of steps on lanes, parameters in a store, a judge at the end of every epoch."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import dask
import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.errors import ClusterLostError, StoreUnavailable
from dparallel.records import Audience, Listener
from dparallel.rounds import Rounds
from dparallel.rounds.cluster import ClusterRounds
from dparallel.rounds.local import LocalRounds
from dparallel.store.optimizers import Add
from dparallel.store.parameter_store import ParameterStore
from dparallel.workers.base import AsyncAlgorithm, Outcome, Verdict
from dparallel.workers.cluster import WorkerLanes
from dparallel.workers.course import Course
from dparallel.workers.lane import SUMS, prepare_shard
from dparallel.workers.plans import Plans
from dparallel.workers.saving import Saving
from dparallel.workers.threads import ThreadLanes


def train(
    rounds: Rounds,
    algorithm: AsyncAlgorithm,
    *,
    staleness: int | None,
    max_epochs: int,
    listeners: Sequence[Listener] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run an algorithm's steps until its judge ends it or max_epochs have been run.

    Parameters
    ----------
    rounds : Rounds, open, with a Partitioning and known row counts; every shard is a partition
    algorithm : AsyncAlgorithm
    staleness : int or None; 0 is bulk-synchronous, s > 0 stale-synchronous, None asynchronous
    max_epochs : int, at least 1
    listeners : objects with the methods of records.Listener; the state that they get is the dict of parameters
    checkpoint : path of a file or None; where the file is there the training goes on from it, and it is removed at the
        end
    fingerprint : dict of plain values that a checkpoint must share with this training

    Returns
    -------
    outcome : Outcome

    Raises
    ------
    StoreUnavailable
        If the parameters, or the cluster, were lost.
    DataLostError
        If blocks were lost that nothing can rebuild.
    CheckpointError
        If the checkpoint is damaged or another training's.
    DataError
        If the parameters left the range of numbers.
    """
    return Training(rounds, algorithm, staleness, max_epochs, listeners, Saving(checkpoint, fingerprint)).run()


class Training:
    """One call of train."""

    def __init__(
        self,
        rounds: Rounds,
        algorithm: AsyncAlgorithm,
        staleness: int | None,
        max_epochs: int,
        listeners: Sequence[Listener],
        saving: Saving,
    ):
        self.rounds = rounds
        self.algorithm = algorithm
        self.staleness = staleness
        self.max_epochs = max_epochs
        self.audience = Audience(listeners)
        self.saving = saving
        self.rows = [[n or 0 for n in shard] for shard in rounds.rows]
        self.token = uuid.uuid4().hex[:12]
        self.n_steps = max(1, *(algorithm.count_steps(rows) for rows in self.rows))
        self.course = Course(algorithm.judge(), self.n_steps)

    def run(self) -> Outcome:
        """Open the store, run the epochs, and close everything."""
        try:
            return self._run()
        except StoreUnavailable:
            raise
        except ClusterLostError as error:
            raise StoreUnavailable(
                f"The parameters of this fit were lost with the cluster. {error}{self._remedy()}"
            ) from error

    def _remedy(self) -> str:
        if self.saving.path is None:
            return " With checkpoint=path a fit goes on from the last epoch that it saved there."
        return f" The next fit with checkpoint={str(self.saving.path)!r} goes on from the last epoch saved there."

    def _run(self) -> Outcome:
        self.saving.read(self.n_steps, len(self.rows))
        if self.saving.course is not None:
            self.course.restore(self.saving.course)
        with self._open_store() as store:
            plans = Plans(self.token, self.algorithm, store.handle(), self.staleness, self.n_steps, self.rows)
            lanes = _open_lanes(self.rounds, plans)
            try:
                outcome = self._run_epochs(store, lanes)
                lanes.come_in()
            finally:
                lanes.close()
        self.saving.remove()
        return outcome

    def _open_store(self) -> ParameterStore:
        options = {"place": self.rounds.place, "replicas": dask.config.get("dparallel.store.replicas", "auto")}
        if self.saving.store is not None:
            return ParameterStore.from_state(*self.saving.store, **options)
        return ParameterStore(
            {**self.algorithm.initial(), SUMS: np.zeros((2, self.algorithm.n_sums))},
            optimizer={**self.algorithm.optimizers(), SUMS: Add()},
            staleness=self.staleness,
            n_partitions=len(self.rows),
            **options,
        )

    def _run_epochs(self, store: ParameterStore, lanes: ThreadLanes | WorkerLanes) -> Outcome:
        parameters = self._pull(store)[0]
        verdict = Verdict()
        self.audience.start(parameters)
        while verdict.reason is None and self.course.epoch < self.max_epochs:
            self.audience.start_round(self.course.epoch + 1, parameters)
            started, steps_before = perf_counter(), lanes.n_steps
            sums, found = self._run_epoch(store, lanes)
            if sums is None:
                continue  # the store went back to an earlier epoch
            parameters = found
            scores = (
                score_shards(self.rounds, self.algorithm, self.token, parameters) if self.algorithm.is_scored else None
            )
            moved = self._bytes(lanes.n_steps - steps_before, parameters)
            verdict = self.course.finish(sums, parameters, scores, perf_counter() - started, moved)
            verdict = self._tell(verdict, parameters)
            self.saving.write(store, self.course)
        reason = verdict.reason or f"Stopped at the limit of {self.max_epochs} epochs."
        self.audience.stop(reason, parameters)
        return Outcome(
            parameters=parameters,
            history=self.course.history,
            n_epochs=self.course.epoch,
            n_steps=lanes.n_steps,
            stop_reason=reason,
            converged=verdict.reason is not None and verdict.converged,
            stats=store.stats(),
            moves=lanes.moves,
        )

    def _run_epoch(self, store, lanes) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """Run the epoch that is next and pull what it led to; no sums where the store fell back behind its start."""
        floor = self.course.epoch * self.n_steps
        target = floor + self.n_steps
        # behind a gate, and where epochs are scored, nobody runs ahead: what is judged must not depend on who is fast
        ahead = self.n_steps if self.staleness is None and not self.algorithm.is_scored else 0
        lanes.advance(target, min(target + ahead, self.max_epochs * self.n_steps), floor, self.course.control)
        parameters, progress = self._pull(store)
        reached = min(progress) if self.staleness is not None else min(lanes.next)
        if reached < target:
            lanes.go_back()
            self.course.go_back(reached)
            return None, parameters
        return parameters.pop(SUMS), parameters

    def _pull(self, store: ParameterStore) -> tuple[dict[str, np.ndarray], list[int]]:
        reply = store.handle().exchange([])
        return reply.parameters, [reply.progress.get(p, 0) for p in range(len(self.rows))]

    def _tell(self, verdict: Verdict, parameters: dict[str, np.ndarray]) -> Verdict:
        asked = self.audience.end_round(self.course.ends[-1].record, parameters)
        if verdict.reason is None and asked is not None:
            return replace(verdict, reason=asked, converged=True)
        return verdict

    def _bytes(self, n_steps: int, parameters: Mapping[str, np.ndarray]) -> int:
        """What the steps of an epoch sent and received; nothing where nothing left the process."""
        size = sum(values.nbytes for values in parameters.values())
        return 0 if self.rounds.is_local else 2 * n_steps * size


def _open_lanes(rounds: Rounds, plans: Plans) -> ThreadLanes | WorkerLanes:
    if isinstance(rounds, LocalRounds):
        return ThreadLanes(rounds, plans)
    if isinstance(rounds, ClusterRounds):
        return WorkerLanes(rounds, plans)
    raise TypeError(f"no lanes on {type(rounds).__name__}")


def score_shards(
    rounds: Rounds, algorithm: AsyncAlgorithm, token: str, parameters: dict[str, np.ndarray]
) -> np.ndarray:
    """Return the sum of an algorithm's scores over all shards; token : as for prepare_shard."""
    return rounds.reduce(functools.partial(_score_shard, algorithm, token), np.add, parameters)


def _score_shard(algorithm: AsyncAlgorithm, token: str, shard: Shard, parameters: dict[str, np.ndarray]) -> np.ndarray:
    return algorithm.score(shard, prepare_shard(algorithm, token, shard), parameters)
