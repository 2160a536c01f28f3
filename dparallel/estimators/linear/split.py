"""Coefficients that stay on the workers in slices, and predictions that never join them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from dparallel import compat
from dparallel.blocks.matrix import Form, to_matrix
from dparallel.errors import ClusterLostError, DataLostError
from dparallel.rounds.watching import Stuck

GATHERED_BYTES = 16_000_000  # so small coefficients come to the driver at the end of fit


@dataclass(frozen=True)
class SplitCoefficients:
    """Coefficients in slices of columns, on the workers as long as this and the client live.

    Parameters
    ----------
    futures : slices of shape (n_columns, n_outputs), float64, one per column of tiles
    columns : tuple of int, columns of each
    n_outputs : int
    watch : Watch, of the fit's client
    """

    futures: Sequence[Any]
    columns: tuple[int, ...]
    n_outputs: int
    watch: Any

    @property
    def nbytes(self) -> int:
        """The bytes of all slices."""
        return 8 * sum(self.columns) * self.n_outputs

    def gather(self) -> np.ndarray:
        """All coefficients in this process, of shape (n_outputs, n_features).

        Raises
        ------
        DataLostError
            If the client was closed, or a worker died that held some.
        """
        try:
            slices = self.watch.gather(list(self.futures))
        except (ClusterLostError, Stuck) as error:
            raise DataLostError(
                "The coefficients were on workers of a cluster, and some of these, or the client, are gone. Call fit "
                "again, and read coef_ at once, which brings them into this process."
            ) from error
        return np.ascontiguousarray(np.concatenate(slices).T)

    def as_array(self) -> da.Array:
        """The slices as a Dask array of shape (n_features, n_outputs)."""
        name = f"dparallel-slices-{uuid.uuid4().hex}"
        tasks = {(name, c, 0): future for c, future in enumerate(self.futures)}
        graph = HighLevelGraph.from_collections(name, tasks)
        return da.Array(graph, name, (self.columns, (self.n_outputs,)), dtype=np.float64)

    def scores(self, X: da.Array, form: Form, intercept: np.ndarray) -> da.Array:
        """Decision values of a Dask array with the same columns, lazy: of shape (n_rows, n_outputs), float64.

        Each task sees one slice; shares in the scores are added up afterwards.
        """
        X = X.rechunk({1: self.columns}) if X.chunks[1] != self.columns else X
        parts = da.blockwise(
            _score_tile,
            "ijk",
            X,
            "ij",
            self.as_array(),
            "jk",
            compat.block_numbers(X),
            "i",
            form=form,
            adjust_chunks={"j": 1},
            dtype=np.float64,
            meta=np.empty((0, 0, 0)),
            align_arrays=False,
            token="dparallel-tile-scores",
        )
        return parts.sum(axis=1) + intercept


def _score_tile(rows: Any, coef: np.ndarray, position: tuple[int, ...], form: Form) -> np.ndarray:
    X = to_matrix(rows, Form(np.shape(rows)[1], form.dtype, form.is_sparse), int(position[0]))
    return np.asarray(X @ coef)[:, None, :]


@dataclass(frozen=True)
class ScoresThemselves:
    """Stands where functions of a block expect a Line, for blocks that are scores already.

    Parameters
    ----------
    n_outputs : int
    """

    n_outputs: int

    @property
    def coef(self) -> range:
        """As many rows as a Line's."""
        return range(self.n_outputs)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return scores[:, 0] if self.n_outputs == 1 else scores

    def scores(self, scores: np.ndarray) -> np.ndarray:
        return scores
