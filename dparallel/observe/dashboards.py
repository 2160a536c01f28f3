"""Running fits on a page of Dask's dashboard: what the driver sends there, now and then, from a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any
from uuid import uuid4
from weakref import WeakSet

import dask

from dparallel.compat import dashboards as compat
from dparallel.compat import worker_of_this_task
from dparallel.errors import DparallelError, PlaceError, ShowWarning, warn
from dparallel.observe.board import NAME, thinned
from dparallel.observe.fits import FitInfo, add_watcher
from dparallel.observe.serving import install
from dparallel.place import active_client
from dparallel.records import RoundRecord, add_seconds

EVERY_S = 0.5
ANSWER_S = 2.0
MOST_WORKERS = 50  # named in a message, the slowest ones


def dashboard(client: Any = None) -> str | None:
    """Show all fits of a client, from the next one on, on a page of its cluster's dashboard.

    The page, at /dparallel, shows the objective, updates (or rounds) per second, the staleness of updates, the health
    of the parameter store's shards, how long each worker computes, and workers that leave. Twice a second at most a
    thread sends some figures to the scheduler; a fit does not wait for it. With
    ``dask.config.set({"dparallel.dashboard": True})`` every client does the same.

    Parameters
    ----------
    client : distributed.Client, synchronous, or None for the active one

    Returns
    -------
    address : str, of the page; None where the scheduler has no dashboard or no dparallel, of which a ShowWarning tells

    Raises
    ------
    PlaceError
        If there is no client, or an asynchronous one.
    """
    client = active_client() if client is None else client
    if client is None or client.asynchronous:
        raise PlaceError("The dashboard is that of a cluster, and there is no synchronous client. Open a Client first.")
    if not _is_served(client):
        return None
    with _lock:
        _shown.add(client)
    return str(client.dashboard_link).rpartition("/")[0] + f"/{NAME}"


_shown: WeakSet[Any] = WeakSet()
_refused: WeakSet[Any] = WeakSet()
_lock = threading.Lock()


def _is_served(client: Any) -> bool:
    """Install the page where it is not yet; warn once where it cannot be had."""
    try:
        if client.run_on_scheduler(install):
            return True
        why = "The scheduler serves no dashboard. Install bokeh where it runs"
    except Exception as error:  # whatever a scheduler says that lacks dparallel or bokeh, or forbids to run functions
        why = f"The scheduler could not make the page ({error!r}). Install dparallel[plot] where it runs"
    warn(f"Fits are not shown on Dask's dashboard: {why}; the fits themselves are as ever.", ShowWarning)
    with _lock:
        _refused.add(client)
    return False


class Dashboard:
    """Watcher of the fits of clients that asked for the page, or whose configuration did."""

    def watch(self, info: FitInfo, estimator: Any) -> Reporter | None:
        """Begin to report a fit."""
        if worker_of_this_task() is not None:
            return None  # a fit inside a task; the search that it belongs to is not on the page
        try:
            client = active_client()
        except DparallelError:
            return None
        if client is None or client in _refused:
            return None
        is_shown = client in _shown or (dask.config.get("dparallel.dashboard", False) and dashboard(client) is not None)
        return Reporter(client, info) if is_shown else None


class Reporter:
    """Listener of one fit that notes down what happens; its thread sends that to the scheduler.

    Parameters
    ----------
    client : distributed.Client
    info : FitInfo
    """

    def __init__(self, client: Any, info: FitInfo):
        self._client = client
        self._began = monotonic()
        self._fit = {"fit": uuid4().hex, "name": info.name, "max_rounds": info.max_rounds, "client": client.id}
        self._records: deque[tuple[float, RoundRecord]] = deque()
        self._workers: dict[str, float] = {}
        self._last = (0.0, 0)  # when and how many updates or rounds there were at the last message
        self._n_rounds = 0
        self._end: dict[str, Any] = {}
        self._reason = "done"
        self._stats: Callable[[], Any] | None = None
        self._store: dict[str, Any] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dparallel-dashboard", daemon=True)
        self._thread.start()

    def listener(self) -> Reporter:
        """The listener of any start."""
        return self

    def on_store(self, stats: Callable[[], Any]) -> None:
        """Remember whom to ask for the store's figures."""
        self._stats = stats

    def on_start(self, state: Any) -> None:
        """Nothing to note yet."""

    def on_round_start(self, number: int, state: Any) -> None:
        """Nothing to note yet."""

    def on_round(self, record: RoundRecord, state: Any) -> None:
        """Note down the round."""
        self._records.append((monotonic() - self._began, record))

    def on_stop(self, reason: str, state: Any) -> None:
        """Note down why, and the last figures of the store, which will be closed soon."""
        self._reason = reason
        if self._stats is not None:
            self._store, self._stats = self._look_at_store(self._stats), None

    def close(self, error: BaseException | None) -> None:
        """Send the end of the fit."""
        if error is None:
            self._end = {"status": "finished", "reason": self._reason}
        else:
            self._end = {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}
        self._ended.set()
        self._thread.join(ANSWER_S)

    def _run(self) -> None:
        self._send({})
        while not self._ended.wait(EVERY_S):
            self._send({})
        self._send(self._end)

    def _send(self, more: dict[str, Any]) -> None:
        message: dict[str, Any] = {**self._fit, "age": monotonic() - self._began, **self._news(), **more}
        with suppress(OSError, RuntimeError):  # the scheduler is busy, or it or the client is gone and with it the page
            compat.log_event(self._client, NAME, message, ANSWER_S)

    def _news(self) -> dict[str, Any]:
        """What has happened since the last message."""
        records = [self._records.popleft() for _ in range(len(self._records))]  # more may come meanwhile
        news: dict[str, Any] = {}
        if records:
            self._n_rounds += len(records)
            self._workers = add_seconds([self._workers, *(record.seconds_by_worker for _, record in records)])
            last = records[-1][1]
            points = [[when, record.objective] for when, record in records if record.objective is not None]
            slowest = sorted(self._workers.items(), key=lambda item: -item[1])[:MOST_WORKERS]
            news = {"unit": last.unit, "round": last.round, "objectives": thinned(points), "workers": dict(slowest)}
        stats = self._stats
        if stats is not None:
            self._store = self._look_at_store(stats) or self._store
        if self._store:
            news["store"] = self._store
        now, n_done = monotonic() - self._began, news["store"]["updates"] if "store" in news else self._n_rounds
        if now - self._last[0] > EVERY_S / 2 and (records or "store" in news):
            news["rates"] = [[now, max(0.0, (n_done - self._last[1]) / (now - self._last[0]))]]
            self._last = (now, n_done)
        return news

    def _look_at_store(self, ask: Callable[[], Any]) -> dict[str, Any]:
        try:
            stats = ask()
        except Exception:  # a store that is closed, or moves: the next look may find it
            return {}
        found = {
            "updates": stats.pushes,
            "failovers": stats.failovers,
            "restores": stats.restores,
            "bytes_in": stats.bytes_in,
            "bytes_out": stats.bytes_out,
            "staleness": {str(age): count for age, count in sorted(stats.staleness.items())[:200]},
            "primaries": list(stats.primaries),
            "backups": list(stats.backups),
        }
        if not stats.pushes:  # nobody could say, since the shard is being taken over
            found |= {name: self._store[name] for name in ("updates", "staleness") if name in self._store}
        return found


ALWAYS = Dashboard()
add_watcher(ALWAYS)
