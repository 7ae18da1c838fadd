"""The cells of Chronograf's dashboards, and their places on its grid. Pure.

Chronograf hardly checks files, and shows nothing where it does not understand them. The cells here
were seen to work in version 1.10.
"""

from collections.abc import Sequence
from typing import Any

from squash_api.generate.panels import (
    CLOSE,
    FINE,
    LEVEL_COLORS,
    NEUTRAL,
    Cell,
    Steps,
    Table,
    Tile,
)

# Chronograf's own names of its colors.
_NAMES = {
    FINE: "rainforest",
    CLOSE: "comet",
    NEUTRAL: "castle",
    LEVEL_COLORS["CRITICAL"]: "fire",
    LEVEL_COLORS["WARNING"]: "pineapple",
    LEVEL_COLORS["INFO"]: "pool",
}
_SCALE_NAME = "squash"
_BASE_VALUE = "-1000000000000000000"
_TIME_FORMAT = "YYYY-MM-DD HH:mm"


def placed(body: dict[str, Any], cell: Cell, number: int) -> dict[str, Any]:
    """Return the body of a cell at its place; the number identifies it."""
    return {**body, "x": cell.x, "y": cell.y, "w": cell.w, "h": cell.h, "i": f"cell-{number}"}


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


def single_stat(tile: Tile) -> dict[str, Any]:
    """Return a tile."""
    cell = _cell(
        tile.title,
        "single-stat",
        [tile.query],
        axes=_axes("", tile.suffix),
        colors=stepped_colors(tile.steps),
    )
    return {**cell, "decimalPlaces": {"isEnforced": True, "digits": tile.digits}}


def table(item: Table) -> dict[str, Any]:
    """Return a table."""
    headings = {**item.columns, **dict.fromkeys(item.hidden, "")}
    options = {
        key: {
            "internalName": key if key == "time" else f"{item.measurement}.{key}",
            "displayName": heading,
            "visible": bool(heading),
        }
        for key, heading in headings.items()
    }
    cell = _cell(item.title, "table", [item.query], colors=stepped_colors(item.steps))
    return {
        **cell,
        "tableOptions": {
            "verticalTimeAxis": True,
            "sortBy": options[item.sort_by],
            "wrapping": "truncate",
            "fixFirstColumn": False,
        },
        "fieldOptions": list(options.values()),
        "timeFormat": _TIME_FORMAT,
        "decimalPlaces": {"isEnforced": True, "digits": item.digits},
    }


def stepped_colors(steps: Steps) -> list[dict[str, str]]:
    """Return the color of the lowest values, and those of the steps."""
    (_, lowest), *others = steps
    return [
        _color("base", _BASE_VALUE, lowest),
        *(
            _color(f"step-{number}", repr(start), color)
            for number, (start, color) in enumerate(others, start=1)
        ),
    ]


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


def _color(identity: str, value: str, color: str) -> dict[str, str]:
    name = _NAMES[color]
    return {"id": identity, "type": "background", "hex": color, "name": name, "value": value}
