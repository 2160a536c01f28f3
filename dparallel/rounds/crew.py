"""The workers that may be given shards: those that hold this version of dparallel."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from dparallel.errors import warn
from dparallel.place import modules_in_use, version_checker


class Crew:
    """Workers that have shown that they hold this version of dparallel; those that join later are asked by a task.

    The task also imports what the fit needs, so that the others go on meanwhile and no round waits for that.

    Parameters
    ----------
    client : distributed.Client
    token : str, in the names of the keys
    """

    def __init__(self, client: Any, token: str):
        self._client = client
        self._token = token
        self._names = count()
        self._known: set[str] = set()
        self._refused: set[str] = set()
        self._asked: dict[str, Any] = {}

    def welcome(self, threads: Mapping[str, int]) -> dict[str, int]:
        """Take workers in without asking: place.find has seen them, or there are no others."""
        self._known |= threads.keys()
        return dict(threads)

    def usable(self, threads: Mapping[str, int]) -> dict[str, int]:
        """Return those of the workers that may be given shards, and ask the new ones, without waiting for the answer.

        Parameters
        ----------
        threads : threads of each worker that is there now
        """
        self._asked = {worker: future for worker, future in self._asked.items() if worker in threads}
        for worker in threads.keys() - self._known - self._asked.keys():
            key = f"dparallel-version-{self._token}-{next(self._names)}"
            self._asked[worker] = self._client.submit(
                version_checker(modules_in_use()), key=key, workers=[worker], pure=False
            )
        for worker, future in list(self._asked.items()):
            if future.status == "finished":
                self._known.add(worker)
                del self._asked[worker]
            elif future.status == "error" and worker not in self._refused:
                self._refused.add(worker)
                warn(f"Worker {worker} gets no shards: {future.exception()}", UserWarning)
        return {worker: n for worker, n in threads.items() if worker in self._known}

    def doubt(self, worker: str) -> None:
        """Take a worker for gone until it answers again."""
        self._known.discard(worker)

    def close(self) -> None:
        """Let go of the questions."""
        for future in self._asked.values():
            future.release()
        self._asked = {}
