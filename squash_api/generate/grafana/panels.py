"""The panels of Grafana's dashboards. Pure.

The schema is that of Grafana 11: its published types, and its documentation of panels, thresholds
and data links.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from re import escape
from typing import Any

from squash_api.generate.grafana.choices import GRAFANA, SERVICE
from squash_api.generate.grafana.connections import SOURCE, influxql
from squash_api.generate.limits import level_steps
from squash_api.generate.metric_graph import MAX_LINES, LimitLine, MetricGraph, limit_lines
from squash_api.generate.panels import (
    LEVEL_COLORS,
    NEUTRAL,
    PLAIN,
    Cell,
    Graph,
    Note,
    Panel,
    Steps,
    Table,
    Tile,
)
from squash_api.judging.limits import Limit
from squash_api.judging.wording import NOTHING
from squash_api.schema import names as schema
from squash_api.schema import watch as watch_names

_SCALE = 2
"""Grafana's grid has 24 columns, and lower rows."""

# Invisible, and no part of a name.
_JOINER = "\u2060"
_CLEAR = "transparent"
_OF_CELL = "${__value.raw}"
# The columns of tables that lead somewhere, by the name in the response.
_LINKS = {
    schema.SQUASH_URL: ("Job", _OF_CELL),
    schema.RUN_URL: ("Run", _OF_CELL),
    schema.RUN_ID: ("Run in SQuaSH", f"{SERVICE}/runs/${{__data.fields.pipeline}}/{_OF_CELL}"),
    watch_names.METRIC: ("Metric", f"{SERVICE}/metric/{_OF_CELL}"),
    watch_names.STATE: ("Alerts", f"{SERVICE}/alerts?metric=${{__data.fields.metric}}"),
    watch_names.REASON: ("What to do", f"{SERVICE}/docs/runbook"),
}


def panel_of(cell: Cell, number: int, *, retention_policy: str) -> dict[str, Any]:
    """Return a cell as a panel; `number` identifies it on its dashboard."""
    body = _body(cell.panel, retention_policy)
    place = {"x": cell.x, "y": cell.y, "w": cell.w, "h": cell.h}
    return {"id": number, "gridPos": {key: _SCALE * at for key, at in place.items()}, **body}


def name_of(panel: Panel) -> str:
    """Return what identifies a panel on its dashboard, whatever its limits."""
    if isinstance(panel, MetricGraph):
        return f"graph {panel.watched.metric.name}"
    if isinstance(panel, Note):
        return f"note {panel.text[:20]}"
    return f"{type(panel).__name__.lower()} {panel.title}"


def shown_text(text: str) -> str:
    """Return text that a panel shows as it is, also where it looks like a variable.

    Grafana puts variables into titles, descriptions and notes, written `$name`, `${name}` or
    `[[name]]`, and has no way to escape one.
    """
    return re.sub(r"\$(?=[\w{])|\[(?=\[)", rf"\g<0>{_JOINER}", text)


def _body(panel: Panel, retention_policy: str) -> dict[str, Any]:
    if isinstance(panel, Note):
        return {"type": "text", "options": {"mode": "markdown", "content": shown_text(panel.text)}}
    if isinstance(panel, Tile):
        return _tile(panel, retention_policy)
    if isinstance(panel, Table):
        return _table(panel, retention_policy)
    if isinstance(panel, Graph):
        return _graph(panel, retention_policy)
    return _metric_graph(panel, retention_policy)


def _tile(tile: Tile, retention_policy: str) -> dict[str, Any]:
    is_plain = tile.steps is PLAIN
    defaults: dict[str, Any] = {
        "decimals": tile.digits,
        "noValue": NOTHING,
        "color": {"mode": "thresholds"},
        "thresholds": _thresholds(tile.steps),
        "links": _links(("In SQuaSH", f"{SERVICE}{tile.path}")) if tile.path else [],
    }
    if tile.suffix:
        defaults["unit"] = f"suffix:{tile.suffix.strip()}"
    return {
        "type": "stat",
        "title": shown_text(tile.title),
        "datasource": SOURCE,
        "targets": [influxql(tile.query, retention_policy=retention_policy, form="table")],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "colorMode": "none" if is_plain else "background",
            "graphMode": "none",
            "justifyMode": "center",
            "textMode": "value",
            "reduceOptions": {
                "calcs": ["lastNotNull"],
                "values": False,
                "fields": f"/^{escape(tile.column)}$/",
            },
        },
    }


def _table(table: Table, retention_policy: str) -> dict[str, Any]:
    sort = [{"field": table.sort_by, "desc": False}]
    defaults: dict[str, Any] = {
        "decimals": table.digits,
        "custom": {"filterable": True},
        "thresholds": _thresholds(table.steps),
    }
    return {
        "type": "table",
        "title": shown_text(table.title),
        "datasource": SOURCE,
        "targets": [influxql(table.query, retention_policy=retention_policy, form="table")],
        "transformations": [
            {"id": "sortBy", "options": {"fields": {}, "sort": sort}},
            {"id": "organize", "options": _columns(table)},
        ],
        "fieldConfig": {"defaults": defaults, "overrides": [*_column_overrides(table)]},
        "options": {"showHeader": True, "cellHeight": "sm"},
    }


def _columns(table: Table) -> dict[str, Any]:
    """Return which columns are shown, in which order, with which headings."""
    columns, hidden = dict(table.columns), list(table.hidden)
    # Grafana has the time of a table under either name.
    if "time" in columns:
        columns["Time"] = columns["time"]
    else:
        hidden.append("Time")
    return {
        "excludeByName": dict.fromkeys(hidden, True),
        "indexByName": {name: place for place, name in enumerate(columns)},
        "renameByName": {key: heading for key, heading in columns.items() if key != heading},
    }


def _column_overrides(table: Table) -> Iterator[dict[str, Any]]:
    for key, heading in table.columns.items():
        if key in _LINKS:
            yield _override(heading, {"id": "links", "value": _links(_LINKS[key])})
        if key == watch_names.STATE:
            yield _override(heading, *_STATE_COLORS)
        if key == table.sort_by and table.steps is not PLAIN:
            colored = {"id": "custom.cellOptions", "value": {"type": "color-text"}}
            yield _override(heading, colored, {"id": "color", "value": {"mode": "thresholds"}})


_STATE_COLORS = (
    {
        "id": "mappings",
        "value": [
            {
                "type": "value",
                "options": {
                    level: {"color": color, "index": place}
                    for place, (level, color) in enumerate(LEVEL_COLORS.items())
                },
            }
        ],
    },
    {"id": "custom.cellOptions", "value": {"type": "color-text"}},
)


def _graph(graph: Graph, retention_policy: str) -> dict[str, Any]:
    alias = " ".join(("$col", *(f"$tag_{tag}" for tag in graph.tags)))
    # The color of a value is that of an alert only if it shows nothing else.
    limits = graph.alerts[0].limits if len(graph.fields) == 1 and graph.alerts else ()
    links = [
        (f"{alert.name}: what to do", f"{SERVICE}/docs/runbook#{alert.name}")
        for alert in graph.alerts
    ]
    return _time_series(
        graph.title,
        [influxql(graph.query, retention_policy=retention_policy, alias=alias)],
        label=graph.title,
        about=graph.about,
        links=links,
        limits=limits,
    )


def _metric_graph(graph: MetricGraph, retention_policy: str) -> dict[str, Any]:
    lines = [line for line in limit_lines(graph.watched) if () not in line.groups][:MAX_LINES]
    queries = [graph.values_query(GRAFANA), *graph.line_queries(lines, GRAFANA)]
    alias = " ".join(("$col", *(f"$tag_{tag}" for tag in schema.LINE_TAGS)))
    targets = [
        influxql(
            query,
            retention_policy=retention_policy,
            ref=_ref(number),
            alias="$col" if number else alias,
        )
        for number, query in enumerate(queries)
    ]
    name = graph.watched.metric.name
    return _time_series(
        graph.title,
        targets,
        label=graph.label,
        about=graph.about,
        links=[
            (f"{name} in SQuaSH", f"{SERVICE}/metric/{name}"),
            (f"Alerts of {name}", f"{SERVICE}/alerts?metric={name}"),
        ],
        limits=[
            limit
            for branch in graph.watched.branches
            if not branch.terms
            for limit in branch.limits
        ],
        lines=lines,
    )


def _time_series(
    title: str,
    targets: Sequence[Mapping[str, Any]],
    *,
    label: str,
    about: str,
    links: Sequence[tuple[str, str]],
    limits: Sequence[Limit],
    lines: Iterable[LimitLine] = (),
) -> dict[str, Any]:
    """Return a graph; `limits` hold for all of its values, `lines` are among its series."""
    steps = [
        (start, _CLEAR if level is None else LEVEL_COLORS[level])
        for start, level in level_steps(limits)
    ]
    defaults = {
        # The same name has the same color in every graph.
        "color": {"mode": "palette-classic-by-name"},
        "custom": _drawing(label, limits),
        "thresholds": _thresholds(steps),
        "links": _links(*links),
    }
    return {
        "type": "timeseries",
        "title": shown_text(title),
        "description": shown_text(about),
        "datasource": SOURCE,
        "targets": list(targets),
        "links": _links(*links),
        "fieldConfig": {"defaults": defaults, "overrides": [*map(_drawn_line, lines)]},
        "options": {
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
                "calcs": [],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _drawing(label: str, limits: Sequence[Limit]) -> dict[str, Any]:
    """Return how the values of a graph are drawn."""
    bounds = [bound.number for limit in limits for bound in limit.criterion.bounds]
    # Limits are seen however far the values are from them.
    ends = {"axisSoftMin": min(bounds), "axisSoftMax": max(bounds)} if bounds else {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 0,
        "showPoints": "always",
        "pointSize": 4,
        # Series have values at different times.
        "spanNulls": True,
        "axisLabel": label,
        "thresholdsStyle": {"mode": "dashed+area" if bounds else "off"},
        **ends,
    }


def _drawn_line(line: LimitLine) -> dict[str, Any]:
    color = {"mode": "fixed", "fixedColor": LEVEL_COLORS[line.level]}
    return _override(
        line.name,
        {"id": "color", "value": color},
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
        {"id": "custom.showPoints", "value": "auto"},
    )


def _override(name: str, *properties: Mapping[str, Any]) -> dict[str, Any]:
    matcher = {"id": "byName", "options": name}
    return {"matcher": matcher, "properties": [dict(item) for item in properties]}


def _thresholds(steps: Steps) -> dict[str, Any]:
    """Return steps as Grafana reads them: one begins exactly at its value."""
    return {
        "mode": "absolute",
        "steps": [
            {
                "value": start if isfinite(start) else None,
                "color": _CLEAR if color == NEUTRAL else color,
            }
            for start, color in steps
        ],
    }


def _links(*links: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"title": title, "url": url, "targetBlank": True} for title, url in links]


def _ref(number: int) -> str:
    """Return the name of a query: A, B and so on."""
    return chr(ord("A") + number)
