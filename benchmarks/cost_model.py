"""What a round or an epoch should take: a few constants of a machine and a cluster, put into formulas.

Times are seconds, sizes bytes. docs/scaling.rst has the same formulas with their reasons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FAN_IN = 16  # of dparallel.rounds: so many parts are combined by one task


@dataclass(frozen=True)
class Constants:
    """What a cluster costs beside the arithmetic.

    Parameters
    ----------
    round_s : float, a round beside its tasks: messages there and back
    task_s : float, each task of a round: making, sending, scheduling, running and fetching it
    call_s : float, an update pushed to the store and values pulled, small ones
    bytes_per_s : float, from a worker to the client
    n_cores : int, that the workers of this machine share
    """

    round_s: float
    task_s: float
    call_s: float
    bytes_per_s: float
    n_cores: int


@dataclass(frozen=True)
class Work:
    """What one pass over the rows takes of an algorithm.

    Parameters
    ----------
    name : str
    n_rows : int
    row_s : float, a row on one core, all others idle
    busy_row_s : float, a row on one core while all cores compute: they share caches and memory
    state_bytes : float, sent to each shard
    part_bytes : float, sent back from each shard; of a store's values for an asynchronous algorithm
    step_rows : int or None; an asynchronous algorithm meets the store after so many rows, others do not
    """

    name: str
    n_rows: int
    row_s: float
    busy_row_s: float
    state_bytes: float
    part_bytes: float
    step_rows: int | None = None


def n_combining_tasks(n_parts: int) -> int:
    """Tasks that combine the parts of a round until no more than FAN_IN are left for the client."""
    tasks = 0
    while n_parts > FAN_IN:
        n_parts = math.ceil(n_parts / FAN_IN)
        tasks += n_parts
    return tasks


def n_levels(n_parts: int) -> int:
    """Levels of the tree in which the parts of a round are combined on the workers."""
    levels = 0
    while n_parts > FAN_IN:
        n_parts = math.ceil(n_parts / FAN_IN)
        levels += 1
    return levels


def computing_s(work: Work, n_workers: int, n_cores: int) -> float:
    """The rows of a pass, on workers of one thread that share so many cores.

    Between one busy core and all of them a row's time is taken to grow evenly.
    """
    busy = min(n_workers, n_cores)
    crowded = (busy - 1) / (n_cores - 1) if n_cores > 1 else 0.0
    row_s = work.row_s + crowded * (work.busy_row_s - work.row_s)
    return work.n_rows * row_s / busy


def predict_round(work: Work, constants: Constants, n_workers: int) -> float:
    """A round of a synchronous algorithm: the rows, the tasks one after another, and what travels."""
    n_tasks = n_workers + n_combining_tasks(n_workers)
    to_client = min(n_workers, FAN_IN) + FAN_IN * n_levels(n_workers)  # parts on the longest way
    travelling = n_workers * work.state_bytes + to_client * work.part_bytes
    cluster_s = constants.round_s + n_tasks * constants.task_s + travelling / constants.bytes_per_s
    return computing_s(work, n_workers, constants.n_cores) + cluster_s


def predict_epoch(work: Work, constants: Constants, n_workers: int) -> float:
    """An epoch of an asynchronous algorithm: rows and calls by all workers at once, and its end, which costs a round.

    The store's host takes one call after another, so there is no less time than all calls together.
    """
    n_steps = work.n_rows / (work.step_rows or work.n_rows)
    call_s = constants.call_s + (work.state_bytes + work.part_bytes) / constants.bytes_per_s
    calls_s = n_steps * call_s
    by_workers = computing_s(work, n_workers, constants.n_cores) + calls_s / min(n_workers, constants.n_cores)
    return max(by_workers, calls_s) + constants.round_s


def predict(work: Work, constants: Constants, n_workers: int) -> float:
    """Seconds of one pass over the rows."""
    function = predict_round if work.step_rows is None else predict_epoch
    return function(work, constants, n_workers)


def best_n_workers(work: Work, constants: Constants) -> float:
    """The number of workers, each with a core of its own, at which a round is shortest.

    Rows take n_rows * busy_row_s / n_workers, and tasks n_workers * task_s; one more worker then costs as much as it
    gives. For an asynchronous algorithm the number that keeps the store's host busy without pause.
    """
    if work.step_rows is None:
        return math.sqrt(work.n_rows * work.busy_row_s / constants.task_s)
    return max(1.0, work.step_rows * work.busy_row_s / constants.call_s)
