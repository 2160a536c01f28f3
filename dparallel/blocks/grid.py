"""A Dask array cut into tiles, row chunks by column chunks, with y and sample_weight beside each row of tiles."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.utils import ensure_dict

from dparallel import compat
from dparallel.blocks.align import paired, single_weight
from dparallel.blocks.dask_arrays import row_counts
from dparallel.blocks.matrix import Form, to_matrix, to_values, to_weights


@dataclass(frozen=True, eq=False)
class Grid:
    """Tiles of X, and the targets beside them, of which nothing has been computed yet.

    Parameters
    ----------
    form : Form, of whole rows
    rows : rows of each row of tiles, None where unknown
    columns : columns of each column of tiles
    graph : a Dask graph, the user's included, that computes tiles and targets
    tiles : keys of the tiles, those of one row of tiles in each tuple; a tile is an ndarray or CSR of the form's dtype
    targets : keys of the Targets, one per row of tiles
    weighted : bool, whether there is a sample_weight
    source : the user's X; holding it keeps persisted data alive
    """

    form: Form
    rows: tuple[int | None, ...]
    columns: tuple[int, ...]
    graph: Mapping[Hashable, Any]
    tiles: tuple[tuple[Hashable, ...], ...]
    targets: tuple[Hashable, ...]
    weighted: bool
    source: Any = None

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys of all tiles, row by row."""
        return tuple(key for row in self.tiles for key in row)

    @property
    def nbytes(self) -> int | None:
        """The bytes of all tiles, None where they cannot be known."""
        if None in self.rows or self.form.is_sparse:
            return None
        return sum(rows or 0 for rows in self.rows) * self.form.n_features * self.form.dtype.itemsize


@dataclass(frozen=True)
class Targets:
    """y and sample_weight of a row of tiles.

    Parameters
    ----------
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs), any dtype
    sample_weight : ndarray of shape (n_rows,), float64, or None
    index : int, the number of the row of tiles
    """

    y: np.ndarray
    sample_weight: np.ndarray | None
    index: int


def to_grid(given: Any, y: Any, sample_weight: Any) -> Grid:
    """Put y and sample_weight beside the tiles of an admitted Dask array.

    Parameters
    ----------
    given : Given, of kind "dask.array"
    y : array-like, Dask array or Dask series of shape (n_rows,) or (n_rows, n_outputs)
    sample_weight : array-like, Dask array or Dask series of shape (n_rows,), a number for all rows, or None

    Returns
    -------
    grid : Grid

    Raises
    ------
    AlignmentError, DataError, DataKindError
        As `gate.gather`.
    """
    X = given.X
    number = single_weight(sample_weight)
    sample_weight = sample_weight if number is None else None
    y = paired("y", y, X, given.source)
    weights = number if sample_weight is None else paired("sample_weight", sample_weight, X, given.source)
    tiles = _tile_tasks(X, given.form)
    targets = _target_tasks(X, y, weights)
    graph: dict[Hashable, Any] = {}
    for collection in (tiles, targets):
        graph |= ensure_dict(collection.__dask_optimize__(collection.__dask_graph__(), collection.__dask_keys__()))
    return Grid(
        form=given.form,
        rows=row_counts(X),
        columns=tuple(int(width) for width in X.chunks[1]),
        graph=graph,
        tiles=tuple(tuple(row) for row in tiles.__dask_keys__()),
        targets=tuple(targets.__dask_keys__()),
        weighted=weights is not None,
        source=given.source,
    )


def _tile_tasks(X: Any, form: Form) -> Any:
    return da.blockwise(
        make_tile,
        "ij",
        X,
        "ij",
        compat.block_numbers(X),
        "i",
        form=form,
        # a name of its own: two fits of the same data at once must not share tasks that one of them releases
        name=f"dparallel-tile-{uuid.uuid4().hex}",
        dtype=object,
        meta=np.empty((0, 0), dtype=object),
        align_arrays=False,
    )


def _target_tasks(X: Any, y: Any, weights: Any) -> Any:
    return da.blockwise(
        make_targets,
        "i",
        y,
        "ik"[: y.ndim],
        weights,
        "i" if isinstance(weights, da.Array) else None,
        compat.block_numbers(X),
        "i",
        name=f"dparallel-targets-{uuid.uuid4().hex}",
        dtype=object,
        meta=np.empty(0, dtype=object),
        align_arrays=False,
        concatenate=True,
    )


def make_tile(rows: Any, position: tuple[int, ...], form: Form) -> Any:
    """Bring one chunk of X into the form of its grid, dense ones into C order; runs in a task.

    Products of matrices come to other bits in another order, and a view is in another order than its pickle.

    Raises
    ------
    DataError, DataKindError
        Naming the block of rows.
    """
    width = np.shape(rows)[1]
    tile = to_matrix(rows, Form(width, form.dtype, form.is_sparse), int(position[0]))
    return tile if form.is_sparse else np.ascontiguousarray(tile)


def make_targets(y: Any, weights: Any, position: tuple[int, ...]) -> Targets:
    """Make the Targets of one row of tiles; runs in a task."""
    index = int(position[0])
    y = to_values(y)
    return Targets(y, None if weights is None else to_weights(weights, len(y), index), index)
