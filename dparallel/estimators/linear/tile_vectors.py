"""The futures of what the workers hold, submitted only and never waited for: whatever was lost is submitted again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dparallel.estimators.linear import tile_tasks
from dparallel.estimators.linear.crew import Crew
from dparallel.estimators.linear.fitting import Task
from dparallel.estimators.linear.metric import FEW_COLUMNS


class Vectors:
    """Slices by column of tiles, scores and residuals by row of tiles.

    Parameters
    ----------
    crew : Crew
    task : Task
    bend : float, second derivative of a row's loss at scores of 0

    Attributes
    ----------
    coef : futures of the first coefficients
    """

    def __init__(self, crew: Crew, task: Task, bend: float):
        self.crew = crew
        self.task = task
        self.bend = bend
        self.n_rows = len(crew.grid.rows)
        self.close()

    def close(self) -> None:
        """Let go of everything."""
        self.coef: list[Any] = []
        self._tiles: list[list[Any]] = []
        self._rows: list[Any] = []
        self._frames: list[Any] = []
        self._slices: list[Any] = []
        self._scores: list[Any] = []
        self._residuals: list[Any] = []
        self._ahead: list[Any] = []
        self._ahead_parts: list[list[Any]] = []

    def _at_row(self, name: str, row: int, function: Any, *arguments: Any) -> Any:
        return self.crew.submit(name, self.crew.places.rows[row], function, *arguments)

    def _at_column(self, name: str, column: int, function: Any, *arguments: Any) -> Any:
        return self.crew.submit(f"{name}-{column}", self.crew.places.owner(column), function, *arguments)

    def _at_tile(self, name: str, row: int, column: int, function: Any, *arguments: Any) -> Any:
        return self.crew.submit(name, self.crew.places.of_tile(row, column), function, *arguments)

    def load(self) -> None:
        """Tiles, targets, coordinates and first coefficients."""
        self._tiles, targets = self.crew.load()
        self._rows = [
            self._at_row("row", r, tile_tasks.prepare_row, raw, self.task.targets) for r, raw in enumerate(targets)
        ]
        self._frames = [self._make_frame(c, width) for c, width in enumerate(self.crew.grid.columns)]
        self.coef = self._first_coef()

    def _make_frame(self, c: int, width: int) -> Any:
        objective, rows = self.task.objective, range(self.n_rows)
        moments = [
            self._at_tile("moments", r, c, tile_tasks.measure_tile, self._tiles[r][c], self._rows[r], r) for r in rows
        ]
        centre = self._at_column("centre", c, tile_tasks.find_centre, objective.fit_intercept, *moments)
        bends = []
        if width <= FEW_COLUMNS:
            bends = [
                self._at_tile("bend", r, c, tile_tasks.bend_tile, self._tiles[r][c], self._rows[r], centre)
                for r in rows
            ]
        return self._at_column("frame", c, tile_tasks.make_frame, objective, self.bend, centre, *bends)

    def _first_coef(self) -> list[Any]:
        widths, n_outputs, given = self.crew.grid.columns, self.task.objective.loss.n_outputs, self.task.coef
        if given is None:
            return [self._at_column("coef", c, tile_tasks.make_coef, w, n_outputs) for c, w in enumerate(widths)]
        parts = np.split(np.asarray(given, np.float64), np.cumsum(widths)[:-1], axis=1)
        return [self._at_column("coef", c, tile_tasks.keep, np.ascontiguousarray(p.T)) for c, p in enumerate(parts)]

    def begin(self, intercept: np.ndarray) -> None:
        """Scores, residuals and slices at the first coefficients."""
        objective = self.task.objective
        if self.task.coef is None:
            scores = [
                self._at_row("scores", r, tile_tasks.begin_scores, row, intercept) for r, row in enumerate(self._rows)
            ]
        else:
            parts = self._parts(self.coef)
            scores = [self._at_row("scores", r, tile_tasks.add_scores, intercept, *row) for r, row in enumerate(parts)]
        self._scores = scores
        self._residuals = [
            self._at_row("residuals", r, tile_tasks.find_residuals, row, scores[r], None, 0.0, objective.loss)
            for r, row in enumerate(self._rows)
        ]
        self._slices = [
            self._at_column("slice", c, tile_tasks.begin_slice, frame, objective, coef, *self._gradients(c))
            for c, (frame, coef) in enumerate(zip(self._frames, self.coef, strict=True))
        ]
        self._ahead = []

    def _parts(self, slices: Sequence[Any]) -> list[list[Any]]:
        """Each tile's share in the scores, by row and column."""
        return [
            [
                self._at_tile("part", r, c, tile_tasks.score_tile, tile, slices[c], self._frames[c])
                for c, tile in enumerate(row)
            ]
            for r, row in enumerate(self._tiles)
        ]

    def _gradients(self, c: int) -> list[Any]:
        """What a slice's gradient is made of: sums that other workers make, then the owner's tiles and residuals."""
        owner = self.crew.places.owner(c)
        own: list[Any] = []
        others: dict[str, list[Any]] = {}
        for r, row in enumerate(self._tiles):
            worker = self.crew.places.of_tile(r, c)
            pairs = own if worker == owner else others.setdefault(worker, [])
            pairs += [row[c], self._residuals[r]]
        frame = self._frames[c]
        sums = [self.crew.submit("sum", w, tile_tasks.add_gradients, frame, *pairs) for w, pairs in others.items()]
        return [sums, *own]

    def point(self, shares: np.ndarray, intercept: np.ndarray) -> None:
        """Make a direction, and the scores that it adds."""
        self._ahead = [
            self._at_column("ahead", c, tile_tasks.point, shares, frame, self._slices[c])
            for c, frame in enumerate(self._frames)
        ]
        self._ahead_intercept = intercept
        self._ahead_parts = self._parts(self._ahead)

    def advance(self, step: float, n_kept: int) -> None:
        """Go a step in the direction."""
        objective = self.task.objective
        more = [
            self._at_row("more", r, tile_tasks.add_scores, self._ahead_intercept, *parts)
            for r, parts in enumerate(self._ahead_parts)
        ]
        self._residuals = [
            self._at_row("residuals", r, tile_tasks.find_residuals, row, self._scores[r], more[r], step, objective.loss)
            for r, row in enumerate(self._rows)
        ]
        self._scores = [
            self._at_row("scores", r, tile_tasks.advance_scores, scores, more[r], step)
            for r, scores in enumerate(self._scores)
        ]
        moved = zip(self._frames, self._slices, self._ahead, strict=True)
        self._slices = [
            self._at_column(
                "slice",
                c,
                tile_tasks.advance_slice,
                *(frame, objective, before, ahead, step, n_kept),
                *self._gradients(c),
            )
            for c, (frame, before, ahead) in enumerate(moved)
        ]
        self._ahead, self._ahead_parts = [], []

    # small things for the driver

    def values(self) -> list[Any]:
        """Losses, by row."""
        loss = self.task.objective.loss
        return [
            self._at_row("value", r, tile_tasks.value_row, row, self._scores[r], loss)
            for r, row in enumerate(self._rows)
        ]

    def looks(self, step: float) -> list[Any]:
        """Losses and slopes after a step, by row."""
        loss, intercept = self.task.objective.loss, self._ahead_intercept
        return [
            self._at_row("look", r, tile_tasks.look_at_row, row, self._scores[r], step, loss, intercept, *parts)
            for r, (row, parts) in enumerate(zip(self._rows, self._ahead_parts, strict=True))
        ]

    def penalties(self) -> list[Any]:
        """Squares of coefficients and direction, by column."""
        ahead = self._ahead or [None] * len(self._slices)
        return [
            self._at_column("penalty", c, tile_tasks.find_penalties, at, ahead[c]) for c, at in enumerate(self._slices)
        ]

    def totals(self) -> list[Any]:
        """Sums of residuals, by row."""
        return [self._at_row("total", r, tile_tasks.sum_residuals, row) for r, row in enumerate(self._residuals)]

    def products(self) -> list[Any]:
        """Inner products, by column."""
        pairs = enumerate(zip(self._frames, self._slices, strict=True))
        return [self._at_column("products", c, tile_tasks.find_products, frame, at) for c, (frame, at) in pairs]

    def offsets(self, coef: Sequence[Any]) -> list[Any]:
        """What centring adds to the scores, by column."""
        pairs = enumerate(zip(self._frames, coef, strict=True))
        return [self._at_column("offset", c, tile_tasks.find_offset, frame, part) for c, (frame, part) in pairs]

    def take_coef(self) -> list[Any]:
        """The coefficients alone, by column."""
        return [self._at_column("coef", c, tile_tasks.take_coef, at) for c, at in enumerate(self._slices)]
