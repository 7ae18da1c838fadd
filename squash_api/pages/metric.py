"""The page of a metric: what it is, its current state, and its values as a plot and a table."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from squash_api.index.code_changes import CodeChanges
from squash_api.judging.limits import Limit
from squash_api.judging.states import State
from squash_api.judging.wording import NOTHING, number_text
from squash_api.pages.plots import (
    LimitLine,
    Line,
    Picture,
    Point,
    colour_of,
    dash_of,
    draw,
    limit_text,
    limits_in_reach,
)
from squash_api.pages.rendering import render, tags_text
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.parameters import read_parameters
from squash_api.routes.replies import json_reply
from squash_api.schema.names import META_PREFIX, RUN_ID, RUN_URL, VALUE_TAGS
from squash_api.site import Site
from squash_api.standings.board import Entry
from squash_api.standings.standing import Combination, combination_of
from squash_api.trends.points import TIME, TrendLine
from squash_api.trends.trends import Asked, Judged, Trend

# Our own script draws the reply, which may change with it; programs get values at /measurements.
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
_MOST_SHOWN_LETTERS = 120
_MOST_NAMES = 6
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class View:
    """What the URL asks for. `range_` is a key of `RANGES`, or empty if none is given."""

    range_: str
    x: str
    tags: Mapping[str, str]

    def query(self) -> dict[str, str | None]:
        """Return the view as parameters of a URL."""
        x = None if self.x == TIME else self.x
        return {"range": self.range_ or None, "x": x, **self.tags}


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a row of a table; None is an absent one."""

    value: float | None
    time_ns: int
    job_id: int
    state: State
    broken: str
    run: str
    run_url: str
    tags: str
    changes: str


def metric_page(request: Request) -> Response:
    """Make the page of a metric that is declared or was measured."""
    name: str = request.path_params["name"]
    site: Site = request.app.state.site
    view = view_of(request, site)
    trends = site.trends
    unit = trends.unit(name)
    last = trends.last(name, view.tags, limit=_LAST)
    numbers, metrics = trends.axes(name, last)
    found = trends.choices(name)
    view = replace(view, range_=view.range_ or _default_range(last))
    query = view.query()
    return render(
        request,
        "metric.html",
        here="/",
        name=name,
        unit=unit,
        defined=site.definitions.in_force.at(None).metrics.get(name),
        ranges=list(RANGES),
        view=view,
        query=query,
        address=urlencode({key: value for key, value in query.items() if value}),
        others=[pair for pair in view.tags.items() if pair[0] not in VALUE_TAGS],
        choices=choices_of(found, VALUE_TAGS, view.tags),
        axes=_axes(view.x, numbers, metrics),
        standings=_standings(site.board.entry(name), view.tags),
        last=last,
        shown_of=shown_of,
    )


@router.get("/metric/{name:path}/plot")
def get_metric_plot(
    request: Request,
    name: str,
    site: SiteDep,
    theme: Literal["light", "dark"] = "light",
    newest: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> Response:
    """Return the plot of a metric as Bokeh draws it, or 204 if `newest` is still the newest job."""
    view = view_of(request, site, more=("theme", "newest"))
    unit = site.trends.unit(name)
    job_id = site.trends.newest_job(name)
    if newest == job_id:
        return Response(status_code=204)
    days = RANGES.get(view.range_)
    since_ns = None if days is None else time.time_ns() - days * _DAY_NS
    trend = site.trends.read(name, Asked(view.tags, since_ns, view.x))
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


def view_of(request: Request, site: Site, *, more: Sequence[str] = ()) -> View:
    """Read what the URL of a page or a plot asks for."""
    own = ("range", "x", *more)
    tags = [name for name in site.metrics.schema.tags if name not in own]
    given = read_parameters(request, (*own, *tags), choices={"range": RANGES})
    return View(
        given["range"] or "",
        given["x"] or TIME,
        {name: text for name in tags if (text := given[name])},
    )


def _default_range(last: list[Judged]) -> str:
    """Return the shortest range, at least three months, that includes the newest value."""
    newest_ns = max((item.job.time_ns for item in last), default=None)
    if newest_ns is None:
        return _DEFAULT_RANGES[0]
    age_days = (time.time_ns() - newest_ns) / _DAY_NS
    return next(name for name in _DEFAULT_RANGES if (RANGES[name] or float("inf")) > age_days)


def _axes(x: str, numbers: list[str], metrics: list[str]) -> dict[str, list[str]]:
    """Return the choices for the horizontal axis, by kind; the current one is always there."""
    known = {TIME, *numbers, *metrics}
    return {
        "": [TIME, *([x] if x not in known else [])],
        "Metadata": numbers,
        "Metrics of the same job": metrics,
    }


def choices_of(
    found: Mapping[str, Sequence[str]], names: Sequence[str], chosen: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the choices for each of these tags; the current one is always there."""
    return {
        name: sorted({*found.get(name, ()), *([chosen[name]] if name in chosen else [])})
        for name in names
    }


def _standings(entry: Entry | None, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return the rows of the series with these tags, worst first, and the series that are late.

    `shared` are the tags that all rows have, and `more` counts the rows that are not shown.
    """

    def is_asked_for(tags: Combination) -> bool:
        return all(asked.get(key, value) == value for key, value in tags)

    rows = [row for row in entry.rows if is_asked_for(row.standing.tags)] if entry else []
    return {
        "rows": rows[:_MOST_STANDINGS],
        "shared": [
            pair
            for pair in (rows[0].standing.tags if rows else ())
            if all(pair in row.standing.tags for row in rows)
        ],
        "more": max(len(rows) - _MOST_STANDINGS, 0),
        "late": [item for item in entry.late if is_asked_for(item.tags)] if entry else [],
    }


def shown_of(item: Judged) -> Shown:
    """Describe a value for a row of a table."""
    fields = item.job.context.fields
    return Shown(
        value=item.value,
        time_ns=item.job.time_ns,
        job_id=item.job.job_id,
        state=item.state,
        broken=", ".join(limit.label for limit in item.broken),
        run=clip(str(fields.get(RUN_ID, ""))),
        run_url=str(fields.get(RUN_URL, "")),
        tags=clip(tags_text(in_order(item.job.context.tags))),
        changes=changes_text(item.changes),
    )


def picture_of(trend: Trend, *, name: str, unit: str | None, x: str, x_unit: str | None) -> Picture:
    """Describe a trend as it is drawn."""
    constant = _constant_tags(trend)
    lines = [
        Line(
            line_text(line),
            [_point(item, unit=unit, x=x, dull=constant | set(line.tags)) for item in line.values],
            is_joined=line.series == 1,
            is_rest=line.is_rest,
        )
        for line in trend.lines
    ]
    limits = [
        LimitLine(limit.label, limit.level, bound, "" if is_general else terms_text(limit))
        for limit, is_general in trend.limits
        for bound in limit.criterion.bounds
    ]
    is_time = x == TIME
    x_label = "Date (UTC)" if is_time else with_unit(x.removeprefix(META_PREFIX), x_unit)
    return Picture(clip(x_label), clip(with_unit(name, unit)), lines, limits, is_time=is_time)


def note_of(trend: Trend, picture: Picture, *, x: str) -> str:
    """Describe how many values a plot shows, and what it leaves out."""
    drawn = sum(len(line.points) for line in picture.lines)
    if not trend.count:
        words = ["There are no values here."]
    elif drawn < trend.count:
        words = [f"{trend.count:,} values, of which {drawn:,} are drawn, including the extremes."]
    else:
        words = [f"{trend.count:,} value{'s' if trend.count > 1 else ''}."]
    if trend.outside:
        have = "has" if trend.outside == 1 else "have"
        words.append(f"{trend.outside:,} more {have} no number for {clip(x)}.")
    reached = limits_in_reach(picture)
    far = [limit_text(item) for item in picture.limits if item not in reached]
    if far:
        words.append(f"Outside the plot: {'; '.join(far)}.")
    return " ".join(words)


def changes_text(changes: CodeChanges | None) -> str:
    """Name the packages that have changed; empty if unknown."""
    if changes is None or changes.packages is None:
        return ""
    names = [f"{'-' if item.is_gone else ''}{item.name}" for item in changes.packages]
    if not names and changes.unknown:
        return ""
    if len(names) <= _MOST_NAMES:
        return clip(", ".join(names)) or "none"
    return clip(f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more")


def line_text(line: TrendLine[Judged]) -> str:
    """Name a line by its tags."""
    if line.is_rest:
        return f"{line.series} other series"
    name = clip(tags_text(line.tags)) or "all"
    return name if line.series == 1 else f"{name} ({line.series} series)"


def in_order(tags: Mapping[str, str]) -> Combination:
    """Sort tags: those that separate alerts first, in their order, then the others by name."""
    first = combination_of(tags)
    return (*first, *(pair for pair in sorted(tags.items()) if pair not in first))


def terms_text(limit: Limit) -> str:
    """Describe which jobs a limit applies to."""
    return clip(", ".join(f"{term.name} {term.value}" for term in limit.terms))


def with_unit(name: str, unit: str | None) -> str:
    """Write a name with the unit of its values."""
    return f"{name} ({unit})" if unit else name


def clip(text: str) -> str:
    """Shorten a text so that it fits into a line."""
    return text if len(text) <= _MOST_SHOWN_LETTERS else f"{text[: _MOST_SHOWN_LETTERS - 1]}…"


def _point(item: Judged, *, unit: str | None, x: str, dull: set[tuple[str, str]]) -> Point:
    context = item.job.context
    said = tags_text(pair for pair in in_order(context.tags) if pair not in dull)
    if item.x is not None:
        said = " · ".join(filter(None, [f"{x} {number_text(item.x)}", said]))
    state = item.state
    names = ", ".join(limit.label for limit in item.broken)
    time = item.job.time_ns / 1e6
    return Point(
        x=time if item.x is None else item.x,
        y=nan if item.value is None else item.value,
        time=time,
        job=item.job.job_id,
        value=f"{number_text(item.value)} {unit or ''}".rstrip(),
        run=clip(str(context.fields.get(RUN_ID, NOTHING))),
        tags=clip(said) or NOTHING,
        changes=changes_text(item.changes) or NOTHING,
        state=clip(f"{state}: {names}" if names else state),
        severity=item.severity,
    )


def _constant_tags(trend: Trend) -> set[tuple[str, str]]:
    """Return the tags that all values share."""
    values = [item for line in trend.lines for item in line.values]
    counts = Counter(pair for item in values for pair in item.job.context.tags.items())
    return {pair for pair, count in counts.items() if count == len(values)}
