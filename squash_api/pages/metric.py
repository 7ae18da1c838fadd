"""The page of a metric: what it is, how it stands, and how it has gone, as a plot and a table."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from squash_api.judging.wording import number_text
from squash_api.pages.front import late_text
from squash_api.pages.metric_words import (
    choices_of,
    combination_text,
    note_of,
    picture_of,
    shown_of,
)
from squash_api.pages.plots import colour_of, dash_of, draw
from squash_api.pages.rendering import query_text, render
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.replies import json_reply
from squash_api.schema.names import VALUE_TAGS
from squash_api.site import Site
from squash_api.standings.board import Row
from squash_api.standings.standing import Combination
from squash_api.trends.points import TIME
from squash_api.trends.trends import Asked, Judged, Trends

# What it gives is drawn by our own script and changes with it; the values are at /measurements.
router = APIRouter(include_in_schema=False)

RANGES: Mapping[str, int | None] = {
    "7d": 7,
    "30d": 30,
    "90d": 90,
    "1y": 365,
    "2y": 730,
    "all": None,
}
"""How far back a plot goes, in days."""

_DEFAULT_RANGES = ("90d", "1y", "2y", "all")
_LAST = 50
_MOST_STANDINGS = 60
_MOST_LETTERS = 1000
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class View:
    """What the address asks for. `range_` is a key of `RANGES`; empty if none is named."""

    range_: str
    x: str
    tags: Mapping[str, str]

    def query(self) -> dict[str, str | None]:
        """Return the view as the query of an address."""
        x = None if self.x == TIME else self.x
        return {"range": self.range_ or None, "x": x, **self.tags}


@dataclass(frozen=True, slots=True)
class StandingRow:
    """How one series stands, and what is said of it."""

    row: Row
    text: str
    address: str
    limit: str
    late: str


@dataclass(frozen=True, slots=True)
class Standings:
    """How the series of a metric stand; `shared` are the tags that all have.

    There are `more` than are shown; `late` are those that have no value of late.
    """

    rows: Sequence[StandingRow]
    shared: str
    more: int
    late: Sequence[str]


def view_of(request: Request, site: Site) -> View:
    """Return what the address of a page or a plot asks for; what it cannot ask for is left out."""
    given = request.query_params
    range_ = given.get("range", "")
    return View(
        range_ if range_ in RANGES else "",
        given.get("x", "")[:_MOST_LETTERS] or TIME,
        {
            name: given[name][:_MOST_LETTERS]
            for name in site.metrics.schema.tags
            if given.get(name) and name not in {"range", "x", "theme", "newest"}
        },
    )


def metric_page(request: Request) -> Response:
    """Return the page of a metric that is declared or was measured."""
    name: str = request.path_params["name"]
    site: Site = request.app.state.site
    trends = site.trends
    view = view_of(request, site)
    unit = trends.unit(name)
    last = trends.last(name, view.tags, limit=_LAST)
    view = View(view.range_ or _default_range(last), view.x, view.tags)
    numbers, metrics = trends.axes(name, last)
    found = trends.choices(name)
    defined = site.definitions.in_force.at(None).metrics.get(name)
    query = view.query()
    return render(
        request,
        "metric.html",
        here="/",
        name=name,
        unit=unit,
        defined=defined,
        ranges=list(RANGES),
        view=view,
        query=query,
        others=[
            (key, value, query_text({**query, key: None}))
            for key, value in view.tags.items()
            if key not in VALUE_TAGS
        ],
        choices=choices_of(found, VALUE_TAGS, view.tags),
        axes=_axes(view.x, numbers, metrics),
        standings=_standings(site, name, view),
        address=urlencode({key: value for key, value in query.items() if value}),
        query_text=query_text,
        last=[shown_of(item) for item in last],
    )


@router.get("/metric/{name:path}/plot")
def get_metric_plot(
    request: Request,
    name: str,
    site: SiteDep,
    theme: Literal["light", "dark"] = "light",
    newest: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> Response:
    """Return the plot of a metric as Bokeh draws it, unless the newest value is known already."""
    view = view_of(request, site)
    trends: Trends = site.trends
    unit = trends.unit(name)
    job_id = trends.newest_job(name)
    if newest == job_id:
        return Response(status_code=204)
    days = RANGES.get(view.range_)
    since_ns = None if days is None else time.time_ns() - days * _DAY_NS
    trend = trends.read(name, Asked(view.tags, since_ns, view.x))
    known = site.metrics.now.by_name.get(view.x)
    x_unit = None if known is None else known.unit
    picture = picture_of(trend, name=name, unit=unit, x=view.x, x_unit=x_unit)
    return json_reply(
        {
            "item": draw(picture, theme),
            "lines": [
                {
                    "label": line.label,
                    "colour": colour_of(line, index, theme),
                    "dash": dash_of(line, index),
                }
                for index, line in enumerate(picture.lines)
            ],
            "newest": job_id,
            "note": note_of(trend, picture, x=view.x),
        }
    )


def _default_range(last: list[Judged]) -> str:
    """Return the shortest range, of three months at least, that the newest values are in."""
    newest_ns = max((item.job.time_ns for item in last), default=None)
    if newest_ns is None:
        return _DEFAULT_RANGES[0]
    age_days = (time.time_ns() - newest_ns) / _DAY_NS
    return next(name for name in _DEFAULT_RANGES if (RANGES[name] or float("inf")) > age_days)


def _axes(x: str, numbers: list[str], metrics: list[str]) -> dict[str, list[str]]:
    """Return what the values can be shown over, by kind; what they are shown over is among it."""
    known = {TIME, *numbers, *metrics}
    return {
        "": [TIME, *([x] if x not in known else [])],
        "Metadata": numbers,
        "Metrics of the same job": metrics,
    }


def _standings(site: Site, name: str, view: View) -> Standings:
    """Return how the series of a metric stand, the worst first, and what is late."""

    def is_asked_for(tags: Combination) -> bool:
        return all(view.tags.get(key, value) == value for key, value in tags)

    entry = site.board.entry(name)
    rows = [row for row in entry.rows if is_asked_for(row.standing.tags)] if entry else []
    shared = set.intersection(*(set(row.standing.tags) for row in rows)) if rows else set()
    return Standings(
        rows=[
            StandingRow(
                row,
                combination_text(pair for pair in row.standing.tags if pair not in shared) or "all",
                query_text({**view.query(), **dict(row.standing.tags)}),
                "" if row.verdict is None else row.verdict.limit.criterion.words(number_text),
                "" if row.late is None else late_text(row.late),
            )
            for row in rows[:_MOST_STANDINGS]
        ],
        shared=combination_text(pair for pair in rows[0].standing.tags if pair in shared)
        if rows
        else "",
        more=max(len(rows) - _MOST_STANDINGS, 0),
        late=[
            f"{combination_text(item.tags)}: {late_text(item)}" if item.tags else late_text(item)
            for item in (entry.late if entry else ())
            if is_asked_for(item.tags)
        ],
    )
