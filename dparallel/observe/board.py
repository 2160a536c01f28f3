"""What the scheduler keeps of running fits, for the page that it serves. Imported on the scheduler, too."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from time import time
from typing import Any

NAME = "dparallel"  # of the page, the plugin and the topic
MOST_FITS = 20
MOST_POINTS = 600
MOST_EVENTS = 50


@dataclass
class Fit:
    """One fit, as far as the scheduler has heard of it.

    Parameters
    ----------
    name : str; client : str, the id of the client that fits
    max_rounds : int or None, of each start
    began, heard : float, times since the epoch
    status : "running", "finished", "failed" or "lost"
    reason : str, why it ended
    unit : str, "round" or "epoch"
    round : int, of the last record
    objectives : list of [seconds since the fit began, objective]
    rates : list of [seconds since the fit began, updates per second, or rounds where there is no store]
    workers : dict of address to seconds computed so far
    store : dict, the last figures of the parameter store; empty where there is none
    deaths : list of [seconds since the fit began, address of a worker that left]
    """

    name: str
    client: str
    max_rounds: int | None
    began: float
    heard: float
    status: str = "running"
    reason: str = ""
    unit: str = "round"
    round: int = 0
    objectives: list[list[float]] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    workers: dict[str, float] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)
    deaths: list[Any] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (time() if self.status == "running" else self.heard) - self.began

    def hear(self, message: dict[str, Any]) -> None:
        """Take in what the driver sent."""
        self.heard = time()
        self.unit, self.round = message.get("unit", self.unit), message.get("round", self.round)
        self.objectives = thinned([*self.objectives, *message.get("objectives", ())])
        self.rates = thinned([*self.rates, *message.get("rates", ())])
        self.workers = message.get("workers", self.workers)
        self.store = message.get("store", self.store)
        self.status, self.reason = message.get("status", self.status), message.get("reason", self.reason)


def thinned(points: list[Any]) -> list[Any]:
    """Every other point, and the last one, where there are too many."""
    return points if len(points) <= MOST_POINTS else [*points[:-1:2], points[-1]]


class Board:
    """All fits that the scheduler has heard of, the last ones of them.

    Attributes
    ----------
    fits : dict of id to Fit, oldest first
    events : list of (time since the epoch, sentence), newest last
    is_served : bool, whether there is a page
    """

    def __init__(self) -> None:
        self.fits: OrderedDict[str, Fit] = OrderedDict()
        self.events: list[tuple[float, str]] = []
        self.is_served = False

    def hear(self, topic: str, message: Any) -> None:
        """Take in an event of any topic."""
        if topic != NAME or not isinstance(message, dict) or "fit" not in message:
            return
        number, now = message["fit"], time()
        if number not in self.fits:
            name, limit = str(message.get("name", "fit")), message.get("max_rounds")
            self.fits[number] = Fit(name, str(message.get("client", "")), limit, now - message.get("age", 0.0), now)
            while len(self.fits) > MOST_FITS:
                self.fits.popitem(last=False)
        fit = self.fits[number]
        before = fit.store.get("failovers", 0) + fit.store.get("restores", 0)
        fit.hear(message)
        n_new = fit.store.get("failovers", 0) + fit.store.get("restores", 0) - before
        if n_new > 0:
            self._note(f"{fit.name}: another copy took over {n_new} shard{'s' * (n_new > 1)}")
        if fit.status != "running":
            self._note(f"{fit.name} {fit.status}: {fit.reason}")

    def worker_joined(self, address: str) -> None:
        """A worker has joined the cluster."""
        if self._running():
            self._note(f"worker {address} joined")

    def worker_left(self, address: str) -> None:
        """A worker has left the cluster, or died."""
        running = self._running()
        for fit in running:
            fit.deaths.append([time() - fit.began, address])
        if running:
            self._note(f"worker {address} left")

    def client_left(self, client: str) -> None:
        """A client is gone: nobody will tell of its fits any more."""
        for fit in self._running():
            if fit.client == client:
                fit.status, fit.reason, fit.heard = "lost", "Its client is gone.", time()

    def _running(self) -> list[Fit]:
        return [fit for fit in self.fits.values() if fit.status == "running"]

    def _note(self, sentence: str) -> None:
        self.events = [*self.events, (time(), sentence)][-MOST_EVENTS:]
