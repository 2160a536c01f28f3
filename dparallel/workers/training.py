"""Asynchronous training: epochs of steps on lanes, parameters in a store, a judge at the end of every epoch."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

import dask
import numpy as np

from dparallel.blocks.shards import Shard
from dparallel.errors import ClusterLostError, StoreUnavailable
from dparallel.place import Cluster
from dparallel.records import Audience, Listener
from dparallel.rounds import Rounds
from dparallel.rounds.cluster import ClusterRounds
from dparallel.rounds.local import LocalRounds
from dparallel.store.hosting import Hosting
from dparallel.store.optimizers import Add
from dparallel.store.parameter_store import ParameterStore
from dparallel.store.states import check_store
from dparallel.store.supervisor import START_S
from dparallel.workers.base import AsyncAlgorithm, Outcome, Verdict, Work
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
    compression: Any = None,
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
    compression : how updates travel, by name of the parameter, see Handle; the sums that are judged travel as they are

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
    saving = Saving(checkpoint, fingerprint)
    return Training(rounds, algorithm, staleness, max_epochs, listeners, saving, compression).run()


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
        compression: Mapping[str, Any] | None = None,
    ):
        self.rounds = rounds
        self.algorithm = algorithm
        self.staleness = staleness
        self.max_epochs = max_epochs
        self.audience = Audience(listeners)
        self.saving = saving
        self.compression = compression
        self._moved = 0
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
        with self._open_store(self._read()) as store:
            handle = store.handle(self.compression)
            plans = Plans(self.token, self.algorithm, handle, self.staleness, self.n_steps, self.rows)
            lanes = _open_lanes(self.rounds, plans)
            try:
                outcome = self._run_epochs(store, lanes)
                lanes.come_in()
            finally:
                lanes.close()
        self.saving.remove()
        return outcome

    def _read(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Go to where the file says, and return the state of the store that it holds; None where there is none."""
        found = self.saving.read(self.n_steps, len(self.rows))
        if found is None:
            return None
        arrays, document = found
        with self.saving.parsing():
            self.course.restore(document["course"], self.algorithm.n_sums)
            check_store(
                arrays,
                document["store"],
                self._initial(),
                self._optimizers(),
                staleness=self.staleness,
                n_partitions=len(self.rows),
                clock=self.course.epoch * self.n_steps,
                n_ahead=0 if self.staleness is not None else self.n_steps,
            )
        return arrays, document["store"]

    def _initial(self) -> dict[str, np.ndarray]:
        return {**self.algorithm.initial(), SUMS: np.zeros((2, self.algorithm.n_sums))}

    def _optimizers(self) -> dict[str, Any]:
        return {**self.algorithm.optimizers(), SUMS: Add()}

    def _open_store(self, state: tuple[dict[str, np.ndarray], dict[str, Any]] | None) -> ParameterStore:
        options = {"place": self.rounds.place, "replicas": dask.config.get("dparallel.store.replicas", "auto")}
        if state is not None:
            return ParameterStore.from_state(*state, **options)
        return ParameterStore(
            self._initial(),
            optimizer=self._optimizers(),
            staleness=self.staleness,
            n_partitions=len(self.rows),
            rows=self.algorithm.first_rows(),
            **options,
        )

    def _state(self, store: ParameterStore) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What goes to the file."""
        arrays, document = store.state()
        return arrays, {"store": document, "course": self.course.document()}

    def _run_epochs(self, store: ParameterStore, lanes: ThreadLanes | WorkerLanes) -> Outcome:
        parameters = self._pull(store)[0]
        verdict = Verdict()
        self.audience.show_store(store.stats)
        self.audience.start(parameters)
        while verdict.reason is None and self.course.epoch < self.max_epochs:
            self.audience.start_round(self.course.epoch + 1, parameters)
            before = self._mark(store, lanes)
            sums, found = self._run_epoch(store, lanes)
            if sums is None:
                continue  # the store went back to an earlier epoch
            parameters = found
            scores = (
                score_shards(self.rounds, self.algorithm, self.token, parameters) if self.algorithm.is_scored else None
            )
            work = self._work_since(before, self._mark(store, lanes), store, parameters)
            verdict = self.course.finish(sums, parameters, scores, work)
            verdict = self._tell(verdict, parameters)
            self.saving.write(functools.partial(self._state, store))
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

    def _mark(
        self, store: ParameterStore, lanes: ThreadLanes | WorkerLanes
    ) -> tuple[float, int, int, dict[str, float]]:
        return perf_counter(), lanes.n_steps, store.n_failovers, dict(lanes.seconds_by_worker)

    def _work_since(self, before: Any, now: Any, store: ParameterStore, parameters: Mapping[str, Any]) -> Work:
        """What was done between two marks."""
        seconds, n_steps, n_failovers = (new - old for new, old in zip(now[:3], before[:3], strict=True))
        workers = {name: total - before[3].get(name, 0.0) for name, total in now[3].items()}
        workers = {name: took for name, took in workers.items() if took > 0}
        return Work(seconds, self._bytes(n_steps, store, parameters), n_steps, n_failovers, workers)

    def _bytes(self, n_steps: int, store: ParameterStore, parameters: Mapping[str, Any]) -> int:
        """What the steps of an epoch sent and received; nothing where nothing left the process."""
        if self.rounds.is_local:
            return 0
        if self.compression is None and not any(isinstance(values, tuple) for values in parameters.values()):
            return 2 * n_steps * sum(values.nbytes for values in parameters.values())
        stats, before = store.stats(), self._moved
        self._moved = stats.bytes_in + stats.bytes_out
        return self._moved - before


@contextmanager
def hosts_ahead(rounds: Rounds, has_tables: bool = False) -> Iterator[None]:
    """Let hosts for the store of a training be made while rounds before it are run; they end with the context.

    Parameters
    ----------
    rounds : Rounds, open
    has_tables : bool, whether the store will have sparse tables
    """
    place = rounds.place
    if not isinstance(place, Cluster):
        yield
        return
    # a shard, its second copy, and one that could take over
    hosting = Hosting.begin(place, n_wanted=3, has_tables=has_tables, patience_s=START_S)
    rounds.place = hosting
    try:
        yield
    finally:
        rounds.place = place
        hosting.close()


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
