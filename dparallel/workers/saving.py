"""A training on disk: arrays and a document in one file, which tells whose training it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import dask
import numpy as np

from dparallel import checkpoint as files
from dparallel.errors import CheckpointError

KIND = "dparallel training"
MOST_PARTITIONS = 2**16  # more than any cluster has threads; a damaged file may ask for any number


def partitions_in(path: str | os.PathLike[str] | None) -> int | None:
    """Return how many partitions the training in a file has, for its Partitioning; None where there is no file.

    Raises
    ------
    CheckpointError
        If it is damaged, or no training's.
    """
    if path is None or not Path(path).exists():
        return None
    document = _read(Path(path))[1]
    with files.parsing(path):
        return files.as_whole(document["fingerprint"]["n_partitions"], 1, MOST_PARTITIONS)


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
    """

    def __init__(self, path: str | os.PathLike[str] | None, fingerprint: Mapping[str, Any] | None = None):
        self.path = None if path is None else Path(path)
        self._fingerprint = dict(fingerprint or {})
        self._every_s = dask.utils.parse_timedelta(dask.config.get("dparallel.checkpoint-every", "1s"))
        self._written = monotonic()

    def parsing(self) -> contextlib.AbstractContextManager[None]:
        """Blame the file for whatever is raised inside; see checkpoint.parsing."""
        assert self.path is not None
        return files.parsing(self.path)

    def read(self, n_steps: int, n_partitions: int) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read the arrays, which are finite, and the document that were written; None where there is no file.

        Parameters
        ----------
        n_steps, n_partitions : int, which the file must share, too

        Raises
        ------
        CheckpointError
            If it is damaged, or another training's.
        """
        self._fingerprint |= {"n_steps": n_steps, "n_partitions": n_partitions}
        if self.path is None or not self.path.exists():
            return None
        arrays, document = _read(self.path)
        with self.parsing():
            found = dict(document["fingerprint"])
            files.require_finite(arrays)
        differing = [name for name, wanted in self._fingerprint.items() if found.get(name) != wanted]
        if differing:
            named = ", ".join(
                f"{name} was {_brief(found.get(name))} and is {self._fingerprint[name]!r}" for name in differing
            )
            raise CheckpointError(
                f"{self.path} belongs to another fit: {named}. Fit with the same parameters and data to go on from it, "
                "or remove it to start anew."
            )
        return arrays, document

    def write(self, state: Callable[[], tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]) -> None:
        """Write the file after an epoch, unless that was done a moment ago (dparallel.checkpoint-every, 1 s).

        Parameters
        ----------
        state : function that returns arrays and a document
        """
        if self.path is None or monotonic() - self._written < self._every_s:
            return
        arrays, document = state()
        files.write(self.path, arrays, {"kind": KIND, "fingerprint": self._fingerprint, **document})
        self._written = monotonic()

    def remove(self) -> None:
        """Remove the file: the training has ended, and the next one with this path is a new one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _brief(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 200 else f"{text[:200]}..."
