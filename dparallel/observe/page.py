"""The page of running fits in Dask's dashboard, drawn with Bokeh in the scheduler's process."""

from __future__ import annotations

import html
from time import localtime, strftime
from typing import Any

from dparallel.observe.board import Board, Fit
from dparallel.observe.colours import BLUE, GREEN, GREY, ORANGE, RED
from dparallel.observe.lines import duration

STATUS = {"running": BLUE, "finished": GREEN, "failed": RED, "lost": RED}
NEWEST = "the newest"
MOST_WORKERS = 24
_CELL = "padding: 3px 14px 3px 0; text-align: left; white-space: nowrap"


class Page:
    """One viewer's page.

    Parameters
    ----------
    board : Board

    Attributes
    ----------
    root : Bokeh layout
    """

    def __init__(self, board: Board):
        from bokeh.layouts import column, row
        from bokeh.models import ColumnDataSource, Div, Select

        self._board = board
        self._shown: Any = None
        self._select = Select(title="Fit", value=NEWEST, options=[NEWEST], width=260)
        self._head = Div(sizing_mode="stretch_width", styles={"font-size": "15px"})
        self._shards = Div(sizing_mode="stretch_width", styles={"font-size": "13px"})
        self._events = Div(sizing_mode="stretch_width", styles={"font-size": "13px"})
        names = {"objective": ("x", "y"), "rate": ("x", "y"), "deaths": ("x",), "staleness": ("x", "n")}
        self._data = {name: ColumnDataSource({key: [] for key in keys}) for name, keys in names.items()}
        self._data["workers"] = ColumnDataSource({"worker": [], "seconds": [], "colour": []})
        self._figures = {
            "objective": self._over_time("Objective", "objective"),
            "rate": self._over_time("Updates per second", "rate"),
            "staleness": self._staleness(),
            "workers": self._workers(),
        }
        figures = self._figures
        self.root = column(
            row(self._select, self._head, sizing_mode="stretch_width"),
            row(figures["objective"], figures["rate"], sizing_mode="stretch_both"),
            row(figures["staleness"], figures["workers"], sizing_mode="stretch_both"),
            row(self._shards, self._events, sizing_mode="stretch_width", styles={"min-height": "150px"}),
            sizing_mode="stretch_both",
            styles={"padding": "8px"},
        )
        self.update()

    def _over_time(self, title: str, name: str) -> Any:
        plot = _figure(title, x_axis_label="seconds since the fit began")
        plot.line("x", "y", source=self._data[name], color=BLUE, line_width=2)
        if name == "objective":
            plot.scatter("x", "y", source=self._data[name], color=BLUE, size=4)
        plot.vspan(x="x", source=self._data["deaths"], line_color=RED, line_dash="dashed", line_width=2)
        return plot

    def _staleness(self) -> Any:
        plot = _figure("Staleness: updates by the age of what they were based on", x_axis_label="updates in between")
        plot.vbar(x="x", top="n", width=0.9, source=self._data["staleness"], color=ORANGE)
        plot.y_range.start = 0
        return plot

    def _workers(self) -> Any:
        plot = _figure("Seconds computed by each worker", y_range=[], x_axis_label="seconds per thread")
        plot.hbar(y="worker", right="seconds", height=0.7, color="colour", source=self._data["workers"])
        plot.x_range.start = 0
        return plot

    def update(self) -> None:
        """Show what the board has now."""
        fits = self._board.fits
        names = {number: f"{fit.name} at {_clock(fit.began)}" for number, fit in fits.items()}
        options = [NEWEST, *((number, names[number]) for number in reversed(fits))]
        if options != self._select.options:
            self._select.options = options
        fit = fits.get(self._select.value) or (next(reversed(fits.values())) if fits else None)
        if fit is None:
            self._head.text = "No fit has been heard of yet. A fit that begins now appears here by itself."
            return
        self._head.text = _head(fit)
        self._events.text = _events(self._board.events)
        state = (id(fit), fit.heard, len(fit.deaths))
        if state != self._shown:
            self._shown = state
            self._show(fit)

    def _show(self, fit: Fit) -> None:
        self._data["objective"].data = _points(fit.objectives)
        self._data["rate"].data = _points(fit.rates)
        self._data["deaths"].data = {"x": [seconds for seconds, _ in fit.deaths]}
        what = "Updates" if fit.store else f"{fit.unit.title()}s"
        self._figures["rate"].title.text = f"{what} per second"
        ages = sorted((int(age), count) for age, count in fit.store.get("staleness", {}).items())
        self._data["staleness"].data = {"x": [age for age, _ in ages], "n": [count for _, count in ages]}
        self._figures["staleness"].visible = bool(fit.store)
        dead = {address for _, address in fit.deaths}
        slow = sorted(fit.workers.items(), key=lambda item: item[1])[-MOST_WORKERS:]
        names = [_short(worker) + " (gone)" * (worker in dead) for worker, _ in slow]
        self._figures["workers"].y_range.factors = names
        self._data["workers"].data = {
            "worker": names,
            "seconds": [seconds for _, seconds in slow],
            "colour": [RED if worker in dead else BLUE for worker, _ in slow],
        }
        self._shards.text = _shards(fit, dead)


def _figure(title: str, **options: Any) -> Any:
    from bokeh.models import CustomJSTickFormatter
    from bokeh.plotting import figure

    plot = figure(title=title, sizing_mode="stretch_both", min_height=190, tools="pan,wheel_zoom,reset", **options)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.xaxis.minor_tick_line_color = plot.yaxis.minor_tick_line_color = None
    if "y_range" not in options:
        plot.yaxis.formatter = CustomJSTickFormatter(code="return Number(tick.toPrecision(6)).toLocaleString('en');")
    return plot


def _points(points: list[list[float]]) -> dict[str, list[float]]:
    return {"x": [x for x, _ in points], "y": [y for _, y in points]}


def _head(fit: Fit) -> str:
    limit = "" if not fit.max_rounds else f" of at most {fit.max_rounds}"
    parts = [
        f"<b>{html.escape(fit.name)}</b>",
        _badge(fit.status, STATUS[fit.status]),
        f"{fit.unit} {fit.round}{limit}",
    ]
    if fit.objectives:
        parts.append(f"objective {fit.objectives[-1][1]:.6g}")
    parts.append(duration(fit.seconds))
    if fit.store:
        parts.append(f"{fit.store['updates']:,} updates")
    if fit.reason:
        parts.append(html.escape(fit.reason))
    return f"<div style='padding-top: 22px'>{' &nbsp;·&nbsp; '.join(parts)}</div>"


def _shards(fit: Fit, dead: set[str]) -> str:
    store = fit.store
    if not store:
        return "<b>Shards</b><br>This fit has no parameter store."
    rows = []
    for number, (primary, backup) in enumerate(zip(store["primaries"], store["backups"])):
        if primary is None or primary in dead:
            health = _badge("down", RED)
        elif backup is None or backup in dead:
            health = _badge("one copy", ORANGE)
        else:
            health = _badge("two copies", GREEN)
        cells = (str(number), health, _short(primary), _short(backup))
        rows.append("<tr>" + "".join(f"<td style='{_CELL}'>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th style='{_CELL}'>{name}</th>" for name in ("shard", "health", "served by", "copy"))
    sums = f"failovers: {store['failovers']}, restores: {store['restores']}, "
    sums += f"{store['bytes_in'] / 1e6:,.1f} MB in, {store['bytes_out'] / 1e6:,.1f} MB out"
    return f"<b>Shards of the parameter store</b>: {sums}<table><tr>{head}</tr>{''.join(rows)}</table>"


def _events(events: list[tuple[float, str]]) -> str:
    lines = [
        f"<span style='color: {GREY}'>{_clock(when)}</span> {html.escape(what)}" for when, what in events[-7:][::-1]
    ]
    return "<b>Events</b><br>" + ("<br>".join(lines) or "none")


def _badge(text: str, colour: str) -> str:
    return f"<span style='color: white; background: {colour}; border-radius: 4px; padding: 1px 8px'>{text}</span>"


def _short(address: str | None) -> str:
    return "none" if address is None else html.escape(address.rpartition("//")[2])


def _clock(seconds: float) -> str:
    return strftime("%H:%M:%S", localtime(seconds))
