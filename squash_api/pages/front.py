"""The front page: every package and metric and how it stands, the worst first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

from fastapi import Request, Response
from markupsafe import Markup

from squash_api.judging.wording import number_text
from squash_api.pages.rendering import query_text, render
from squash_api.pages.sparkline import sparkline
from squash_api.schema.names import HEADLINE_TAGS, VALUE_TAGS
from squash_api.site import Site
from squash_api.standings.board import (
    STATES,
    Board,
    Entry,
    Row,
    Wanted,
    by_package,
    choices,
    count_states,
    in_state,
    worst_first,
)
from squash_api.standings.freshness import ExpectedSeries
from squash_api.standings.standing import Combination

PER_PAGE = 50
"""Metrics on one page."""

MOST_PACKAGES = 60
"""Packages in the summary; the others are in the filter."""

_MOST_ROWS = 5
_MOST_ROWS_OF_FEW = 500
_FEW = 3
_NAMES = ("package", *VALUE_TAGS, "tag", "state", "q")


@dataclass(frozen=True, slots=True)
class _Line:
    """A metric as the page shows it: its worst row, and as many of all rows as there is room."""

    entry: Entry
    states: tuple[str, ...]
    worst: Row | None
    rows: Sequence[Row]
    counts: Mapping[str, int]


def front_page(request: Request) -> Response:
    """Show how every metric stands; what is asked for is in the query."""
    site: Site = request.app.state.site
    site.reader.catch_up()
    asked = {name: request.query_params.get(name, "").strip() or None for name in _NAMES}
    wanted = _wanted(asked)
    everything = site.board.entries()
    narrowed = site.board.filtered(everything, wanted)
    found = worst_first(in_state(narrowed, wanted.state))
    pages = max(ceil(len(found) / PER_PAGE), 1)
    page = min(page_number(request.query_params.get("page")), pages)
    most = _MOST_ROWS_OF_FEW if len(found) <= _FEW else _MOST_ROWS
    lines = [_line(entry, most) for entry in found[(page - 1) * PER_PAGE : page * PER_PAGE]]
    packages = by_package(narrowed)
    return render(
        request,
        "front.html",
        here="/",
        asked=asked,
        choices=choices(everything, VALUE_TAGS),
        counts=count_states(narrowed),
        packages=dict(list(packages.items())[:MOST_PACKAGES]),
        more_packages=max(len(packages) - MOST_PACKAGES, 0),
        total=len(everything),
        narrowed=len(narrowed),
        found=len(found),
        lines=lines,
        page=page,
        pages=pages,
        address=partial(query_text, asked),
        trend=_trends(site.board, lines),
        label=combination_label,
        number_text=number_text,
        late_text=late_text,
    )


def _trends(board: Board, lines: Sequence[_Line]) -> Callable[[Entry, Row], Markup]:
    """Return what draws the trend of a row."""
    trends = board.trends(
        (line.entry, row) for line in lines for row in (*line.rows, line.worst) if row is not None
    )

    def trend(entry: Entry, row: Row) -> Markup:
        values = [value for _, value in trends[entry.metric_id, row.standing.tags]]
        bounds = () if row.verdict is None else row.verdict.limit.criterion.bounds
        limit = bounds[0].number if bounds else None
        return sparkline(values, unit=entry.unit, limit=limit)

    return trend


def _wanted(asked: Mapping[str, str | None]) -> Wanted:
    state = asked["state"]
    return Wanted(
        package=asked["package"],
        values={name: value for name in VALUE_TAGS if (value := asked[name]) is not None},
        tag=asked["tag"],
        state=state if state in STATES else None,
        text=asked["q"],
    )


def page_number(text: str | None) -> int:
    """Return the number of a page that a query asks for; 1 where it asks for nothing sensible."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < 10
    return max(int(text), 1) if text is not None and is_number else 1


def _line(entry: Entry, most: int) -> _Line:
    rows = entry.rows[:most] if len(entry.rows) > 1 else ()
    counts: dict[str, int] = {}
    for row in entry.rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    worst = entry.rows[0] if entry.rows else None
    return _Line(entry, entry.states, worst, rows, counts)


def combination_label(tags: Combination) -> str:
    """Return the tags that a row is of in a few words."""
    # What a value of these is can be seen from the value.
    words = [value if name in HEADLINE_TAGS else f"{name} {value}" for name, value in tags]
    return " · ".join(words) or "no tags"


def late_text(series: ExpectedSeries) -> str:
    """Return how late a value is, and since when it is waited for."""
    waited = f"the last came on {series.since}" if series.job_id else f"none since {series.since}"
    return f"{span_text(series.late_s)} late: {waited} ({series.specification.rpartition('.')[2]})"


def span_text(seconds: float) -> str:
    """Return a span of time in its largest unit, rounded down; less than a minute is that."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "less than 1 min"
