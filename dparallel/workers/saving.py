"""A training on disk: the store's state and the course's, in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import dask
import numpy as np

from dparallel import checkpoint as files
from dparallel.errors import CheckpointError
from dparallel.store.parameter_store import ParameterStore
from dparallel.workers.course import Course

KIND = "dparallel training"


def partitions_in(path: str | os.PathLike[str] | None) -> int | None:
    """Return how many partitions the training in a file has, for its Partitioning; None where there is no file.

    Raises
    ------
    CheckpointError
        If it is damaged, or no training's.
    """
    if path is None or not Path(path).exists():
        return None
    return int(_read(Path(path))[1]["fingerprint"]["n_partitions"])


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, document = files.read(path)
    if document.get("kind") != KIND:
        raise CheckpointError(f"{path} is not the checkpoint of a fit. Give another path, or remove it.")
    return arrays, document


class Saving:
    """Writes a training to a file from time to time, and reads it back.

    Parameters
    ----------
    path : path of the file, or None to write none
    fingerprint : dict of plain values that the file must share with this training

    Attributes
    ----------
    store : (arrays, document) of the store in the file, None where there is no file
    course : dict, the course in the file, or None
    """

    def __init__(self, path: str | os.PathLike[str] | None, fingerprint: Mapping[str, Any] | None = None):
        self.path = None if path is None else Path(path)
        self._fingerprint = dict(fingerprint or {})
        self._shape: dict[str, int] = {}
        self._every_s = dask.utils.parse_timedelta(dask.config.get("dparallel.checkpoint-every", "1s"))
        self._written = monotonic()
        self.store: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None
        self.course: dict[str, Any] | None = None

    def read(self, n_steps: int, n_partitions: int) -> None:
        """Read the file if it is there.

        Raises
        ------
        CheckpointError
            If it is damaged, or another training's.
        """
        self._shape = {"n_steps": n_steps, "n_partitions": n_partitions}
        if self.path is None or not self.path.exists():
            return
        arrays, document = _read(self.path)
        wanted, found = {**self._fingerprint, **self._shape}, document["fingerprint"]
        differing = [name for name in wanted if found.get(name) != wanted[name]]
        if differing:
            named = ", ".join(f"{name} was {found.get(name)!r} and is {wanted[name]!r}" for name in differing)
            raise CheckpointError(
                f"{self.path} belongs to another fit: {named}. Fit with the same parameters and data to go on from it, "
                "or remove it to start anew."
            )
        self.store, self.course = (arrays, document["store"]), document["course"]

    def write(self, store: ParameterStore, course: Course) -> None:
        """Write the file after an epoch, unless that was done a moment ago (dparallel.checkpoint-every, 1 s)."""
        if self.path is None or monotonic() - self._written < self._every_s:
            return
        arrays, document = store.state()
        files.write(
            self.path,
            arrays,
            {
                "kind": KIND,
                "fingerprint": {**self._fingerprint, **self._shape},
                "store": document,
                "course": course.document(),
            },
        )
        self._written = monotonic()

    def remove(self) -> None:
        """Remove the file: the training has ended, and the next one with this path is a new one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
