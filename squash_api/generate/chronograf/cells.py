"""The cells of Chronograf's dashboards, and their places on its grid. Pure.

Chronograf hardly checks files, and shows nothing where it does not understand them. The cells here
were seen to work in version 1.10.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, nextafter
from typing import Any

from squash_api.judging.alerts import level_of, severity_of
from squash_api.judging.limits import Limit, LimitJudge

COLUMNS = 12
"""The width of the grid."""

FINE = ("rainforest", "#4ED8A0")
NEUTRAL = ("castle", "#292933")
"""The background of cells."""

LEVEL_COLORS = {
    "CRITICAL": ("fire", "#DC4E58"),
    "WARNING": ("pineapple", "#FFB94A"),
    "INFO": ("pool", "#22ADF6"),
}
_SCALE_NAME = "squash"
_BASE_VALUE = "-1000000000000000000"
_TIME_FORMAT = "YYYY-MM-DD HH:mm"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell and its place, in units of the grid."""

    body: dict[str, Any]
    x: int
    y: int
    w: int
    h: int

    def moved(self, x: int, y: int) -> "Cell":
        """Return the cell moved to the right and down."""
        return replace(self, x=self.x + x, y=self.y + y)

    def to_json(self, number: int) -> dict[str, Any]:
        """Return the cell as Chronograf reads it; the number identifies it."""
        place = {"x": self.x, "y": self.y, "w": self.w, "h": self.h}
        return {**self.body, **place, "i": f"cell-{number}"}


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a dashboard."""

    cells: Sequence[Cell]
    templates: Sequence[dict[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the dashboard with it, as Chronograf reads them."""
        return {
            "cells": [cell.to_json(number) for number, cell in enumerate(self.cells)],
            "templates": list(self.templates),
        }


@dataclass(frozen=True, slots=True)
class WorstValues:
    """Whether the highest and the lowest of values count, and those nearest to which numbers."""

    highest: bool
    lowest: bool
    nearest: Sequence[float]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its label in the response, and its heading, empty to hide it."""

    label: str
    heading: str


def note(text: str) -> dict[str, Any]:
    """Return a cell that shows Markdown."""
    return _cell("", "note", [""], note=text)


def line_graph(
    name: str, queries: Sequence[str], *, label: str, colors: Sequence[str], about: str
) -> dict[str, Any]:
    """Return a graph of lines, colored along a scale of `colors` in the order of their names.

    `label` is at the axis of values; `about` is Markdown that is shown on demand.
    """
    scale = [
        {"id": str(place), "type": "scale", "hex": hex_, "name": _SCALE_NAME, "value": str(place)}
        for place, hex_ in enumerate(colors)
    ]
    return _cell(name, "line", queries, note=about, axes=_axes(label, ""), colors=scale)


def single_stat(
    name: str,
    query: str,
    *,
    suffix: str,
    digits: int,
    colors: Sequence[dict[str, str]],
) -> dict[str, Any]:
    """Return a tile with the last value of a query that has one series."""
    cell = _cell(name, "single-stat", [query], axes=_axes("", suffix), colors=colors)
    return {**cell, "decimalPlaces": {"isEnforced": True, "digits": digits}}


def table(
    name: str,
    query: str,
    columns: Sequence[Column],
    *,
    sort_by: str,
    digits: int,
    colors: Sequence[dict[str, str]],
) -> dict[str, Any]:
    """Return a table, sorted ascending by a label.

    `digits` are the decimal places of all numbers, `colors` those of all numbers but the time.
    """
    options = [
        {
            "internalName": column.label,
            "displayName": column.heading,
            "visible": bool(column.heading),
        }
        for column in columns
    ]
    (sorting,) = (option for option in options if option["internalName"] == sort_by)
    cell = _cell(name, "table", [query], colors=colors)
    return {
        **cell,
        "tableOptions": {
            "verticalTimeAxis": True,
            "sortBy": sorting,
            "wrapping": "truncate",
            "fixFirstColumn": False,
        },
        "fieldOptions": options,
        "timeFormat": _TIME_FORMAT,
        "decimalPlaces": {"isEnforced": True, "digits": digits},
    }


def limit_colors(limits: Sequence[Limit]) -> list[dict[str, str]]:
    """Return the colors of a value by the levels of the limits that it breaks."""
    if not limits:
        return stepped_colors(NEUTRAL)
    (_, lowest), *steps = [
        (start, FINE if level is None else LEVEL_COLORS[level])
        for start, level in level_steps(limits)
    ]
    return stepped_colors(lowest, *steps)


def level_steps(limits: Sequence[Limit]) -> list[tuple[float, str | None]]:
    """Return the value at which each step begins, and its level, None if no limit is broken.

    The first begins at minus infinity. A step begins exactly at a limit, or at the next larger
    float if the number itself meets the limit.
    """
    values = {bound.number for limit in limits for bound in limit.criterion.bounds}
    judge = LimitJudge(limits)
    starts = sorted({-inf, *values, *(nextafter(value, inf) for value in values)})
    steps: list[tuple[float, str | None]] = []
    for start in starts:
        severity = judge.badness(start)
        level = level_of(severity) if severity else None
        if not steps or steps[-1][1] != level:
            steps.append((start, level))
    return steps


def worst_values(limits: Sequence[Limit]) -> WorstValues:
    """Return which of several values may break a worse limit than all others do."""
    steps = level_steps(limits)
    badness = [severity_of(level) if level else 0 for _, level in steps]
    nearest = [
        start
        for place, (start, _) in enumerate(steps)
        if min(badness[: place + 1]) < badness[place] > min(badness[place:])
    ]
    return WorstValues(
        highest=badness[-1] > min(badness), lowest=badness[0] > min(badness), nearest=nearest
    )


def stepped_colors(
    lowest: tuple[str, str], *steps: tuple[float, tuple[str, str]]
) -> list[dict[str, str]]:
    """Return the color of the lowest values, and the colors of the steps."""
    return [
        _color("base", _BASE_VALUE, lowest),
        *(
            _color(f"step-{number}", repr(start), color)
            for number, (start, color) in enumerate(steps, start=1)
        ),
    ]


def stacked(blocks: Iterable[Sequence[Cell]], *, top: int) -> list[Cell]:
    """Place blocks of cells below each other from `top` on, those of half the width in pairs.

    Chronograf moves cells up into any gap. So a block that waits for the second half of its row
    lets wider ones pass, and only the last row may have a gap.

    Parameters
    ----------
    blocks
        Rectangles without gaps from 0, 0; those of half the width are equally high.
    """
    placed: list[Cell] = []
    waiting: Sequence[Cell] | None = None
    for block in blocks:
        if max(cell.x + cell.w for cell in block) > COLUMNS // 2:
            row = block
        elif waiting is None:
            waiting = block
            continue
        else:
            row = [*waiting, *(cell.moved(COLUMNS // 2, 0) for cell in block)]
            waiting = None
        placed.extend(cell.moved(0, top) for cell in row)
        top += max(cell.y + cell.h for cell in row)
    return [*placed, *(cell.moved(0, top) for cell in waiting or ())]


def _cell(
    name: str,
    kind: str,
    queries: Sequence[str],
    *,
    note: str = "",
    axes: dict[str, Any] | None = None,
    colors: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        # A source of "" is the one that the viewer chose.
        "queries": [
            {"query": query, "queryConfig": None, "source": "", "type": "influxql"}
            for query in queries
        ],
        "axes": axes or _axes("", ""),
        "colors": list(colors),
        "legend": {},
        "note": note,
        "noteVisibility": "default",
    }


def _axes(label: str, suffix: str) -> dict[str, Any]:
    plain = {"bounds": ["", ""], "label": "", "prefix": "", "suffix": "", "base": "10"}
    plain["scale"] = "linear"
    return {"x": plain, "y": {**plain, "label": label, "suffix": suffix}, "y2": plain}


def _color(identity: str, value: str, color: tuple[str, str]) -> dict[str, str]:
    name, hex_ = color
    return {"id": identity, "type": "background", "hex": hex_, "name": name, "value": value}
