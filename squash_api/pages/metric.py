"""The page of a metric: what it is, its current state, and its values as a plot and a table."""

import re
import time
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from squash_api.alerts.freshness import Combination, combination_of
from squash_api.errors import Detail
from squash_api.index.code_changes import CodeChanges
from squash_api.judging.kinds.criterion import Bound
from squash_api.judging.limits import Limit
from squash_api.judging.metadata_query import value_words
from squash_api.judging.states import NEVER_SEEN, OLD, State
from squash_api.judging.wording import NOTHING, counted, number_text
from squash_api.pages.plots import (
    LimitLine,
    Line,
    MovingLimit,
    Picture,
    Point,
    StepLine,
    colour_of,
    dash_of,
    draw,
    limit_text,
    limits_in_reach,
)
from squash_api.pages.rendering import render, tags_text
from squash_api.record.metrics import other_units
from squash_api.reports.texts import minute_text, moment_text
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.parameters import raise_problems, read_parameters
from squash_api.routes.replies import json_reply
from squash_api.schema.names import META_PREFIX, RUN_ID, RUN_URL, VALUE_TAGS
from squash_api.schema.text import tag_text
from squash_api.site import Site
from squash_api.standings.board import Entry, Wanted
from squash_api.trends.change_points import MISSING, ChangePoint, is_installed
from squash_api.trends.points import TIME, TrendLine
from squash_api.trends.question import column_of, read_question
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
_MOST_CHOICES = 1000
_MOST_LABELS = 3
_MOST_STEPS = 20
_STEPS = "changepoints"
_DAY_NS = 86_400 * 10**9
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
# What the script writes of the part of the plot that is zoomed in on.
_ZOOM = re.compile(r"(?:-?[0-9.e+-]{1,30}(?:,-?[0-9.e+-]{1,30}){3})?")


@dataclass(frozen=True, slots=True)
class View:
    """What the URL asks for.

    `range_` is a key of `RANGES`, or empty if there is none or the range is given by `since` or
    `until`, times as /measurements reads them.
    """

    range_: str
    x: str
    tags: Mapping[str, str]
    since: str = ""
    until: str = ""
    has_steps: bool = False

    @property
    def is_dated(self) -> bool:
        """Whether the range is given by its ends."""
        return bool(self.since or self.until)

    def query(self) -> dict[str, str | None]:
        """Return the view as parameters of a URL."""
        x = None if self.x == TIME else self.x
        times = {"range": self.range_, "since": self.since, "until": self.until}
        steps = {_STEPS: "true"} if self.has_steps else {}
        return {**{key: text or None for key, text in times.items()}, "x": x, **steps, **self.tags}

    def values(self, name: str, metrics: Container[str]) -> list[tuple[str, str]]:
        """Return what asks /measurements for the values that are shown of a metric.

        `metrics` are the known ones, one of which may be the axis.
        """
        days = RANGES.get(self.range_)
        since = self.since or ("" if days is None else f"{days}d")
        pairs = [("metric", name), ("since", since), ("until", self.until)]
        pairs += [(column_of(tag), text) for tag, text in self.tags.items()]
        if self.x.startswith(META_PREFIX):
            pairs.append(("fields", self.x))
        elif self.x in metrics and self.x != name:
            pairs.append(("metric", self.x))
        return [pair for pair in pairs if pair[1]]


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
    view = view_of(request, site, more=("zoom",))
    trends = site.trends
    unit = trends.unit(name)
    last = _last(name, view, site)
    found = trends.choices(name)
    axes = trends.axes(name, last)
    if not view.is_dated:
        view = replace(view, range_=view.range_ or _default_range(last))
    query = view.query()
    entry = _entry(site, name, view.tags)
    states = (NEVER_SEEN,) if entry is None else entry.states
    if states == (NEVER_SEEN,) and last:
        states = (OLD,)
    return render(
        request,
        "metric.html",
        here="/",
        name=name,
        unit=unit,
        other_units=other_units(site.metrics, name)[:_MOST_NAMES],
        defined=site.definitions.in_force.at(None).metrics.get(name),
        ranges=list(RANGES),
        view=view,
        query=query,
        address=urlencode({key: value for key, value in query.items() if value}),
        others=[pair for pair in view.tags.items() if pair[0] not in VALUE_TAGS],
        choices=choices_of(found, VALUE_TAGS, view.tags),
        axes=_axes(view.x, *axes),
        states=states,
        standings=_standings(entry),
        exported=urlencode(view.values(name, site.metrics.now.by_name)),
        last=last,
        shared=_shared(last),
        alerts=site.alerts.living_of(name, view.tags),
        **_HOW_TO_SHOW,
    )


@router.get("/metric/{name:text}/plot")
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
    trend = site.trends.read(name, asked_of(name, view, site))
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
            **({"steps": steps_of(trend, picture, unit=unit)} if view.has_steps else {}),
        }
    )


def view_of(request: Request, site: Site, *, more: Sequence[str] = ()) -> View:
    """Read what the URL of a page or a plot asks for."""
    own = ("range", "since", "until", "x", _STEPS, *more)
    tags = [name for name in site.metrics.schema.tags if name not in own]
    choices = {"range": RANGES, _STEPS: ("true",)}
    given = read_parameters(request, (*own, *tags), choices=choices)
    if not _ZOOM.fullmatch(given.get("zoom") or ""):
        must = "`zoom` must be four numbers: the ends of both axes"
        raise_problems([Detail(("query", "zoom"), must, "zoom")])
    since, until = given["since"] or "", given["until"] or ""
    return View(
        "" if since or until else given["range"] or "",
        given["x"] or TIME,
        {name: text for name in tags if given[name] and (text := tag_text(given[name]))},
        since,
        until,
        has_steps=bool(given[_STEPS]),
    )


def asked_of(name: str, view: View, site: Site) -> Asked:
    """Read which values a view asks for, as /measurements does.

    Raises
    ------
    InvalidInputError
        If one of its times is none, or the end is before the start.
    """
    pairs = view.values(name, site.metrics.now.by_name)
    question = read_question(pairs, schema=site.metrics.schema, now_ns=time.time_ns())
    return Asked(view.tags, question.since_ns, view.x, question.until_ns, has_steps=view.has_steps)


def _last(name: str, view: View, site: Site) -> list[Judged]:
    """Read the values that arrived last; if the range is given by its ends, those in it."""
    asked = asked_of(name, view, site) if view.is_dated else Asked()
    return site.trends.last(
        name, view.tags, limit=_LAST, since_ns=asked.since_ns, until_ns=asked.until_ns
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
    """Return the first choices for each of these tags; the current one is always there."""
    return {
        name: sorted(
            {*found.get(name, ())[:_MOST_CHOICES], *([chosen[name]] if name in chosen else [])}
        )
        for name in names
    }


def _entry(site: Site, name: str, asked: Mapping[str, str]) -> Entry | None:
    """Return the metric with only the rows, and the late series, that these tags leave."""
    entry = site.board.entry(name)
    if entry is None or not asked:
        return entry
    kept = site.board.filtered([entry], Wanted(values=asked))

    def is_asked_for(tags: Combination) -> bool:
        return all(asked.get(key, value) == value for key, value in tags)

    late = tuple(item for item in entry.late if is_asked_for(item.tags))
    return replace(entry, rows=kept[0].rows if kept else (), late=late)


def _standings(entry: Entry | None) -> dict[str, Any]:
    """Return the rows of a metric, worst first, and those of its late series that have no row.

    `shared` are the tags that all rows have, and `more` counts the rows that are not shown.
    """
    rows = entry.rows if entry else ()
    return {
        "rows": rows[:_MOST_STANDINGS],
        "shared": [
            pair
            for pair in (rows[0].standing.tags if rows else ())
            if all(pair in row.standing.tags for row in rows)
        ],
        "more": max(len(rows) - _MOST_STANDINGS, 0),
        "late": entry.late if entry else (),
    }


def _shared(last: Sequence[Judged]) -> set[tuple[str, str]]:
    """Return the tags that all of several values have."""
    tags = [set(item.job.context.tags.items()) for item in last]
    return set.intersection(*tags) if len(tags) > 1 else set()


def shown_of(item: Judged, dull: Collection[tuple[str, str]] = ()) -> Shown:
    """Describe a value for a row of a table, without the tags that are `dull`."""
    fields = item.job.context.fields
    return Shown(
        value=item.value,
        time_ns=item.job.time_ns,
        job_id=item.job.job_id,
        state=item.state,
        broken=", ".join(limit.label for limit in item.broken),
        run=clip(str(fields.get(RUN_ID, ""))),
        run_url=str(fields.get(RUN_URL, "")),
        tags=clip(tags_text(pair for pair in in_order(item.job.context.tags) if pair not in dull)),
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
    limits = _limit_lines(trend.limits)
    is_time = x == TIME
    x_label = "Date (UTC)" if is_time else with_unit(x.removeprefix(META_PREFIX), x_unit)
    steps = [StepLine(line, step.time_ns / 1e6) for line, step in trend.steps]
    labels = clip(x_label), clip(with_unit(name, unit))
    moving = _moving_limits(trend) if is_time else []
    return Picture(*labels, lines, limits, is_time=is_time, steps=steps, moving=moving)


def _moving_limits(trend: Trend) -> list[MovingLimit]:
    """Make a line of each side of each limit that looks at earlier values, for each series."""
    found: dict[tuple[int, str, str, bool], list[tuple[float, float]]] = {}
    for index, line in enumerate(trend.lines):
        for item in line.values if line.series == 1 else ():
            for limit in item.settled:
                for bound in limit.criterion.bounds:
                    key = (index, limit.label, limit.level, bound.is_upper)
                    found.setdefault(key, []).append((item.job.time_ns / 1e6, bound.number))
    return [
        MovingLimit(line, name, level, *zip(*places, strict=True))
        for (line, name, level, _), places in found.items()
    ]


def _limit_lines(limits: Iterable[tuple[Limit, bool]]) -> list[LimitLine]:
    """Make one line of all limits of a level that are at the same place.

    Each limit comes with whether it applies to all values.
    """
    places: dict[tuple[str, Bound], list[tuple[str, str]]] = {}
    for limit, is_general in limits:
        scope = "" if is_general else terms_text(limit)
        for bound in limit.criterion.bounds:
            places.setdefault((limit.level, bound), []).append((limit.label, scope))
    lines = []
    for (level, bound), found in places.items():
        names, scopes = (list(dict.fromkeys(texts)) for texts in zip(*found, strict=True))
        # With several limits, there is no room for what each applies to.
        scope = scopes[0] if len(scopes) == 1 else ""
        lines.append(LimitLine(_some(names), level, bound, scope))
    return lines


def _some(names: Sequence[str]) -> str:
    """Name the first few, and how many more there are."""
    more = len(names) - _MOST_LABELS
    return clip(", ".join(names[:_MOST_LABELS])) + (f" and {more} more" if more > 0 else "")


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
    moving = dict.fromkeys(f"{item.level}: {item.name}" for item in picture.moving)
    if moving:
        words.append(f"Dotted, from the values before each: {'; '.join(moving)}.")
    return " ".join(words)


def steps_of(trend: Trend, picture: Picture, *, unit: str | None) -> dict[str, Any]:
    """List the newest change points: when, from what to what, and what changed in the code.

    Each package is a name, with a link if its changes have a page. `note` says why there are none.
    """
    if not is_installed():
        return {"note": MISSING, "found": []}
    newest = sorted(trend.steps, key=lambda pair: pair[1].time_ns)[-_MOST_STEPS:]
    if not newest:
        return {"note": "No change points: the level of no series has changed.", "found": []}
    return {
        "note": f"Change points, the newest {_MOST_STEPS} of {len(trend.steps)}:"
        if len(trend.steps) > len(newest)
        else "Change points:",
        "found": [
            {
                "text": step_text(step, picture.lines[line].label, unit=unit),
                "job": step.job_id,
                "packages": [
                    {"name": f"{'-' if item.is_gone else ''}{clip(item.name)}", "link": item.link}
                    for item in ((step.changes and step.changes.packages) or ())[:_MOST_NAMES]
                ],
            }
            for line, step in reversed(newest)
        ],
    }


def step_text(found: ChangePoint, label: str, *, unit: str | None) -> str:
    """Say when and by how much a series has changed, and how many packages then did."""
    step, changes = found.step, found.changes
    sizes = f"{number_text(step.before)} → {number_text(step.after)} {unit or ''}".rstrip()
    run = f", run {clip(found.run_id)}" if found.run_id else ""
    code = "what changed in the code is not known"
    if changes is not None and changes.packages is not None:
        code = f"{counted(len(changes.packages), 'package')} changed"
    when = minute_text(moment_text(found.time_ns))
    return f"{when} UTC{run}, {label}: {sizes} ({found.sigmas:+.1f} times the noise); {code}"


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


_HOW_TO_SHOW: dict[str, Any] = {
    "is_day": _DAY.fullmatch,
    "in_order": in_order,
    "shown_of": shown_of,
}
"""What the template asks, by name."""


def terms_text(limit: Limit) -> str:
    """Describe which jobs a limit applies to."""
    return clip(", ".join(f"{term.name} {value_words(term)}" for term in limit.terms))


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
