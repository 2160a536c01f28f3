"""Waiting for a cluster that may die: never without a deadline, and never ending in an error without a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from time import monotonic, sleep
from typing import Any

import dask

from dparallel.compat import gather_within, scheduler_lost, worker_threads
from dparallel.errors import ClusterLostError, DataLostError

TICK_S = 0.25  # how soon an error in one shard ends a round in which others still compute
ANSWER_S = 7.0  # a scheduler that is silent for so long is taken for dead
NEWS_S = 0.5  # how much later than our own tasks the user's futures may hear that their data are lost
STUCK_TICKS = 2  # so many looks in a row at which none of our tasks runs, and they are taken for stuck


class Stuck(Exception):
    """Tasks wait for workers that are gone, though others are there; never leaves this package.

    Dask lets a task pinned to a dead worker run on another only if there is another when it looks. A task that becomes
    ready while there is no worker at all, or all are paused, waits for ever, whoever joins later.
    """


class Watch:
    """Waits for futures of one fit and keeps an eye on the scheduler and its workers.

    Parameters
    ----------
    client : distributed.Client, synchronous
    is_ours : function that tells whether a key belongs to the fit, or may be what it waits for
    find_lost : function that returns the numbers of the blocks whose data are lost, perhaps none

    Attributes
    ----------
    threads : dict of worker address to threads, as of the last look
    """

    def __init__(self, client: Any, is_ours: Callable[[Any], bool], find_lost: Callable[[], list[int]]):
        self.client = client
        self.threads: dict[str, int] = {}
        self._is_ours = is_ours
        self._find_lost = find_lost
        self._patience_s = dask.utils.parse_timedelta(dask.config.get("dparallel.timeouts.workers", "60s"))
        self._last_seen = monotonic()

    def look(self) -> dict[str, int]:
        """Ask the scheduler for its workers.

        Raises
        ------
        ClusterLostError
            If the scheduler does not answer, or has had no worker for longer than dparallel.timeouts.workers.
        """
        if self.client.status != "running":
            raise self._scheduler_died()
        try:
            self.threads = worker_threads(self.client, ANSWER_S)
        except (OSError, CancelledError) as error:
            raise self._scheduler_died() from error
        if self.threads:
            self._last_seen = monotonic()
        elif monotonic() - self._last_seen > self._patience_s:
            raise ClusterLostError(
                f"The cluster {self.client!r} has had no worker for {self._patience_s:g} s. Start workers, or let "
                "dparallel wait longer by dask.config.set({'dparallel.timeouts.workers': '10 minutes'})."
            )
        return self.threads

    def wait_for_workers(self) -> dict[str, int]:
        """Wait until the cluster has a worker and return the threads of each."""
        while not self.look():
            try:
                self.client.wait_for_workers(1, timeout=1)
            except TimeoutError:
                continue
        return self.threads

    def wait(self, futures: Sequence[Any], first: bool = False) -> None:
        """Wait until all futures are finished, or the first of them.

        Raises
        ------
        ClusterLostError
            If the scheduler died, there is no worker, or a task's workers died again and again.
        DataLostError
            If data were lost that Dask cannot compute again.
        Stuck
            If no worker runs what is waited for.
        Exception
            Whatever a task raised, as soon as it did.
        """
        from distributed import wait

        idle_ticks = 0
        while idle_ticks < STUCK_TICKS:
            try:
                wait(futures, timeout=TICK_S, return_when="FIRST_COMPLETED" if first else "ALL_COMPLETED")
            except TimeoutError:
                self.raise_errors(futures)
            except CancelledError as error:
                raise self._explain(error) from error
            else:
                return self.raise_errors(futures)
            idle_ticks = 0 if not self.look() or self._is_busy() else idle_ticks + 1
        raise Stuck

    def _is_busy(self) -> bool:
        """Whether a worker runs a task of ours."""
        processing = self.client.processing()
        return any(self._is_ours(key) for keys in processing.values() for key in keys)

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for all futures and fetch their results; raises what wait raises."""
        timeout_s = 2 * TICK_S
        while True:
            self.wait(futures)
            try:
                return gather_within(self.client, list(futures), timeout_s)
            except TimeoutError:
                timeout_s *= 2  # large and slow, or its worker died after it had finished: then wait finds out
            except CancelledError as error:
                raise self._explain(error) from error

    def raise_errors(self, futures: Sequence[Any]) -> None:
        """Raise the error of the first future that failed, if one did."""
        from distributed import KilledWorker

        for future in futures:
            if future.status == "error":
                try:
                    future.result(timeout=ANSWER_S)
                except KilledWorker as error:
                    raise ClusterLostError(
                        f"{error.allowed_failures + 1} workers died one after another while they ran the same task "
                        f"({error.task!r}), most often because they ran out of memory. Give workers more memory, use "
                        "smaller chunks, or allow more deaths by Dask's distributed.scheduler.allowed-failures."
                    ) from error
                except CancelledError as error:
                    raise self._explain(error) from error

    def _explain(self, error: BaseException) -> Exception:
        """Return the error that says why futures were cancelled."""
        if self.client.status != "running" or scheduler_lost(error):
            return self._scheduler_died()
        lost = self._all_lost()
        if not lost:
            return ClusterLostError(
                f"This fit's tasks were cancelled, or somebody restarted {self.client!r}: {error}. Call fit again."
            )
        named = f"Block {lost[0]}" if len(lost) == 1 else f"Blocks {', '.join(map(str, lost[:20]))}"
        more = f" and {len(lost) - 20} more" if len(lost) > 20 else ""
        return DataLostError(
            f"{named}{more} of the data were lost with the worker that held them, and nothing can compute them again: "
            "they were scattered to the workers, or their futures were cancelled. Build the data from files or from a "
            "Dask graph (persist keeps the graph, scatter has none), or scatter them again, and call fit again."
        )

    def _all_lost(self) -> list[int]:
        """The blocks whose data are lost: looked for until there are some and no more are heard of, or time is up."""
        lost, before, until = self._find_lost(), None, monotonic() + NEWS_S
        while (not lost or lost != before) and monotonic() < until:
            sleep(TICK_S / 5)
            lost, before = self._find_lost(), lost
        return lost

    def _scheduler_died(self) -> ClusterLostError:
        return ClusterLostError(
            f"The connection to the Dask scheduler was lost ({self.client!r}), and with it everything the workers held "
            "for this fit. Start a cluster, open a new Client and call fit again."
        )
