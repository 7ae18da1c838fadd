"""The front page: the current state of every package and metric, worst first."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

from fastapi import Request, Response
from markupsafe import Markup

from squash_api.judging.states import INFO, LATE, NEVER_SEEN, RANKS, STATES, State, count_states
from squash_api.pages.rendering import query_text, render
from squash_api.pages.sparkline import sparkline
from squash_api.routes.parameters import read_number, read_parameters
from squash_api.schema.names import VALUE_TAGS
from squash_api.site import Site
from squash_api.standings.board import (
    Board,
    Entry,
    Row,
    Wanted,
    by_package,
    choices,
    in_state,
    worst_first,
)

PER_PAGE = 50
"""Metrics on one page."""

MOST_PACKAGES = 60
"""Packages in the summary; the others are only in the filter."""

FEW_PACKAGES = 8
"""Packages that are always shown; the others of the summary are folded."""

_MOST_NEVER = 200
_MOST_ROWS = 5
_MOST_ROWS_OF_FEW = 500
_FEW = 3
_CALM = RANKS[INFO]
_NAMES = ("package", *VALUE_TAGS, "tag", "state", "q", "page")


@dataclass(frozen=True, slots=True)
class _Line:
    """A metric as the page shows it: its worst row, and as many others as there is room for."""

    entry: Entry
    worst: Row | None
    rows: Sequence[Row]
    counts: Mapping[State, int]


def front_page(request: Request) -> Response:
    """Make the front page; the query filters it."""
    site: Site = request.app.state.site
    site.reader.catch_up()
    asked = read_parameters(request, _NAMES, choices={"state": STATES})
    page_asked = read_number({"page": asked.pop("page")}, "page", default=1)
    everything = site.board.entries()
    narrowed = site.board.filtered(everything, _wanted(asked))
    found, never = _found(narrowed, asked["state"])
    pages = max(ceil(len(found) / PER_PAGE), 1)
    page = min(page_asked, pages)
    most = _MOST_ROWS_OF_FEW if len(found) <= _FEW else _MOST_ROWS
    lines = [_line(entry, most) for entry in found[(page - 1) * PER_PAGE : page * PER_PAGE]]
    packages = by_package(narrowed)
    return render(
        request,
        "front.html",
        here="/",
        asked=asked,
        choices=choices(everything, VALUE_TAGS),
        counts=_counts(narrowed),
        worse_and_late=len([entry for entry in narrowed if LATE in entry.states[1:]]),
        packages=dict(list(packages.items())[:MOST_PACKAGES]),
        few_packages=FEW_PACKAGES,
        more_packages=max(len(packages) - MOST_PACKAGES, 0),
        total=len(everything),
        narrowed=len(narrowed),
        found=len(found),
        needy_states=STATES[:_CALM],
        needy=sum(_needs_a_person(entry) for entry in found),
        lines=lines,
        urgent=[line for line in lines if _needs_a_person(line.entry)],
        calm=[line for line in lines if not _needs_a_person(line.entry)],
        never=never if page == pages else [],
        most_never=_MOST_NEVER,
        page=page,
        pages=pages,
        address=partial(query_text, asked),
        trend=_trends(site.board, lines),
    )


def _found(entries: Sequence[Entry], state: str | None) -> tuple[list[Entry], list[Entry]]:
    """Return the metrics to list, worst first, and those that were never seen, to be folded.

    If those in one state are wanted, none is folded.
    """
    found = worst_first(in_state(entries, state))
    if state is not None:
        return found, []
    return (
        [entry for entry in found if entry.states != (NEVER_SEEN,)],
        [entry for entry in found if entry.states == (NEVER_SEEN,)],
    )


def _needs_a_person(entry: Entry) -> bool:
    """Return whether somebody should look at a metric: anything worse than INFO."""
    return RANKS[entry.state] < _CALM


def _trends(board: Board, lines: Sequence[_Line]) -> Callable[[Entry, Row], Markup]:
    """Read the trends of these lines; return a function that draws that of a row."""
    trends = board.trends(
        (line.entry, row) for line in lines for row in (*line.rows, line.worst) if row is not None
    )

    def trend(entry: Entry, row: Row) -> Markup:
        values = [value for _, value in trends[entry.metric_id, row.standing.tags]]
        if row.verdict is None:
            return sparkline(values, unit=entry.unit)
        limits = [bound.number for bound in row.verdict.limit.criterion.bounds]
        level = row.verdict.level.lower()
        return sparkline(values, unit=entry.unit, limits=limits, level=level)

    return trend


def _counts(entries: Sequence[Entry]) -> dict[State, int]:
    """Count metrics by their worst state; `late` is there also if all late ones are worse."""
    counts = Counter(entry.state for entry in entries)
    is_late = any(LATE in entry.states for entry in entries)
    return {
        state: counts[state] for state in STATES if counts[state] or (is_late and state == LATE)
    }


def _wanted(asked: Mapping[str, str | None]) -> Wanted:
    return Wanted(
        package=asked["package"],
        values={name: value for name in VALUE_TAGS if (value := asked[name]) is not None},
        tag=asked["tag"],
        state=asked["state"],
        text=asked["q"],
    )


def _line(entry: Entry, most: int) -> _Line:
    rows = entry.rows[:most] if len(entry.rows) > 1 else ()
    worst = entry.rows[0] if entry.rows else None
    return _Line(entry, worst, rows, count_states(row.worst for row in entry.rows))
