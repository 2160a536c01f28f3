"""What the driver has the scheduler do: keep a board of fits, and serve the page that shows it."""

from __future__ import annotations

from typing import Any

from dparallel.compat import dashboards
from dparallel.observe.board import NAME, Board


def install(dask_scheduler: Any) -> bool:
    """Keep a board on the scheduler and serve its page, once; returns whether there is a page."""
    board = dashboards.board_of(dask_scheduler, NAME)
    if board is None:
        board = Board()
        dashboards.attach_plugin(dask_scheduler, NAME, board)
        board.is_served = dashboards.add_page(dask_scheduler, NAME, lambda document: _draw(document, board))
    return bool(board.is_served)


def _draw(document: Any, board: Board) -> None:
    from dparallel.observe.page import Page  # needs Bokeh, which not every scheduler has

    page = Page(board)
    document.title = "Dask: dparallel"
    document.add_root(page.root)
    document.add_periodic_callback(page.update, 500)
