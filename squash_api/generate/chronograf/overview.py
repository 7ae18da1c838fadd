"""The overview dashboard: what is broken, what is late, how near the limits are. Pure.

The service itself writes these points, once a minute, under the names in `schema/watch.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from squash_api.generate.chronograf import cells
from squash_api.generate.chronograf.cells import (
    FINE,
    LEVEL_COLORS,
    NEUTRAL,
    Cell,
    Column,
    Content,
    stepped_colors,
)
from squash_api.generate.chronograf.connections import SOURCE_ID
from squash_api.generate.chronograf.queries import Place, identifier, select
from squash_api.generate.output import MARK
from squash_api.judging.alerts import WORST_FIRST
from squash_api.judging.states import PASSED, RANKS
from squash_api.schema import names as schema
from squash_api.schema import watch as watch_names

# The service repeats each standing within 6 h, and the others every minute.
_STANDING_TIMES = "time > now() - 1d"
_FRESHNESS_TIMES = "time > now() - 1h"
_BEATS_MINUTES = 10
_PACKAGE_RANGE = "?lower=now()%20-%2030d"
_HOUR_S = 3600
_OFTEN = 4
_CLOSE_PERCENT = 10.0
# InfluxQL has no IS NOT NULL.
_HAS_MARGIN = "{0} > 0 OR {0} <= 0".format(identifier(watch_names.MARGIN))
# InfluxQL has no CASE: each polynomial is 1 at its own severity and 0 at the others from 0 to 3.
_SEVERITY = identifier(watch_names.SEVERITY)
_IS_LEVEL = {
    "INFO": f"{_SEVERITY} * ({_SEVERITY} - 2) * ({_SEVERITY} - 3) / 2",
    "WARNING": f"{_SEVERITY} * ({_SEVERITY} - 1) * (3 - {_SEVERITY}) / 2",
    "CRITICAL": f"{_SEVERITY} * ({_SEVERITY} - 1) * ({_SEVERITY} - 2) / 6",
}


def overview_dashboard(
    packages: Mapping[str, int], *, database: str, retention_policy: str
) -> Content:
    """Return the cells; `packages` are the known numbers of the packages' dashboards."""
    standing = Place(database, retention_policy, watch_names.STANDING)
    freshness = Place(database, retention_policy, watch_names.FRESHNESS)
    heartbeat = Place(database, retention_policy, watch_names.HEARTBEAT)
    tiles = [
        *(_level_tile(level, standing) for level in WORST_FIRST),
        _late_tile(freshness),
        _heartbeat_tile(heartbeat),
    ]
    top = [
        *(Cell(tile, 2 * index, 0, 2, 2) for index, tile in enumerate(tiles)),
        Cell(cells.note(_note(packages)), 10, 0, 2, 6),
        Cell(_broken_table(standing), 0, 2, 10, 4),
    ]
    below = [
        [Cell(_late_table(freshness), 0, 0, 12, 3)],
        [Cell(_margin_table(standing), 0, 0, 12, 5)],
    ]
    return Content([*top, *cells.stacked(below, top=6)])


def _note(packages: Mapping[str, int]) -> str:
    links = "\n".join(
        f"- [{escape(name)}](/sources/{SOURCE_ID}/dashboards/{number}{_PACKAGE_RANGE})"
        for name, number in packages.items()
    )
    return (
        f"# SQuaSH\n\n{links}\n\n"
        f"The tables show the newest value of each metric, by {', '.join(schema.SERIES_TAGS)}.\n\n"
        f"**Not measured**: the newest job has no value that can be used. **Margin**: the distance "
        f"to the limit as a percentage of it, negative beyond it. **Late by**: how late the latest "
        f"value is, negative if none is. **Beats** in red: the service is down, all else is old."
        "\n\n"
        f"*Made by {MARK}.*"
    )


def _last_of(place: Place, first: str, others: Iterable[str], times: str) -> str:
    """Return the subquery for the last point of each series."""
    columns = [f"last({identifier(first)}) AS {identifier(first)}", *map(identifier, others)]
    return f"({select(columns, place, times, end='GROUP BY *')})"


def _level_tile(level: str, standing: Place) -> dict[str, Any]:
    counted = _last_of(standing, watch_names.SEVERITY, (), _STANDING_TIMES)
    is_level = select([f"{_IS_LEVEL[level]} AS {identifier('is')}"], counted)
    query = select([f'sum("is") AS {identifier(level)}'], f"({is_level})")
    colors = stepped_colors(FINE, (0.5, LEVEL_COLORS[level]))
    return cells.single_stat(f"{level} now", query, suffix="", digits=0, colors=colors)


def _late_tile(freshness: Place) -> dict[str, Any]:
    last = _last_of(freshness, watch_names.LATE_S, (), _FRESHNESS_TIMES)
    query = select([f"max({identifier(watch_names.LATE_S)}) / {_HOUR_S} AS late"], last)
    colors = stepped_colors(FINE, (1e-9, LEVEL_COLORS["CRITICAL"]))
    return cells.single_stat("Late by", query, suffix=" h", digits=1, colors=colors)


def _heartbeat_tile(heartbeat: Place) -> dict[str, Any]:
    query = select(
        [f"count({identifier(watch_names.UP)}) AS {identifier(watch_names.UP)}"],
        heartbeat,
        "time > now() - 30d AND time < now()",
        end=f"GROUP BY time({_BEATS_MINUTES}m, now()) FILL(0) ORDER BY time DESC LIMIT 1",
    )
    colors = stepped_colors(LEVEL_COLORS["CRITICAL"], (1.0, FINE))
    return cells.single_stat(
        f"Beats in {_BEATS_MINUTES} min", query, suffix="", digits=0, colors=colors
    )


def _broken_table(standing: Place) -> dict[str, Any]:
    fields = (
        watch_names.STATE,
        watch_names.SEVERITY,
        watch_names.MARGIN,
        watch_names.BROKEN,
        schema.RUN_ID,
        schema.SQUASH_URL,
    )
    last = _last_of(standing, watch_names.RANK, fields, _STANDING_TIMES)
    columns = {
        watch_names.STATE: "state",
        "percent": "margin [%]",
        watch_names.METRIC: "metric",
        watch_names.BROKEN: "broken",
        **_common_columns(),
    }
    selected = [
        f"{identifier(watch_names.MARGIN)} * 100 AS {identifier('percent')}",
        *(identifier(name) for name in (watch_names.RANK, *columns) if name != "percent"),
    ]
    return _table(
        "Broken or not measured now, worst first",
        select(selected, last, f"{identifier(watch_names.RANK)} < {RANKS[PASSED]}"),
        columns,
        standing,
        sort_by=watch_names.RANK,
        colors=stepped_colors(NEUTRAL),
    )


def _late_table(freshness: Place) -> dict[str, Any]:
    late = identifier(watch_names.LATE_S)
    fields = (watch_names.SINCE, schema.RUN_ID, schema.SQUASH_URL)
    last = _last_of(freshness, watch_names.LATE_S, fields, _FRESHNESS_TIMES)
    columns = {
        "hours": "late by [h]",
        watch_names.SPECIFICATION: "specification",
        watch_names.SINCE: "since",
        **_common_columns(),
    }
    selected = [
        f"{late} / {_HOUR_S} AS {identifier('hours')}",
        *(identifier(name) for name in columns if name != "hours"),
        f"0 - {late} AS {identifier('order')}",
    ]
    return _table(
        "Late now, latest first",
        select(selected, last, f"{late} > 0"),
        columns,
        freshness,
        sort_by="order",
        colors=stepped_colors(NEUTRAL),
    )


def _margin_table(standing: Place) -> dict[str, Any]:
    fields = (watch_names.MARGIN, watch_names.LIMIT, schema.RUN_ID, schema.SQUASH_URL)
    # By a field that every point has: the margin of an older point is not that of now.
    last = _last_of(standing, watch_names.RANK, fields, _STANDING_TIMES)
    columns = {
        "percent": "margin [%]",
        watch_names.METRIC: "metric",
        watch_names.LIMIT: "nearest limit",
        **_common_columns(),
    }
    selected = [
        f"{identifier(watch_names.MARGIN)} * 100 AS {identifier('percent')}",
        *(identifier(name) for name in columns if name != "percent"),
    ]
    return _table(
        "How close to the limits, closest first",
        select(selected, last, _HAS_MARGIN),
        columns,
        standing,
        sort_by="percent",
        colors=stepped_colors(
            LEVEL_COLORS["CRITICAL"], (0.0, LEVEL_COLORS["WARNING"]), (_CLOSE_PERCENT, FINE)
        ),
    )


def _common_columns() -> dict[str, str]:
    """Return the columns at the end of every table, rare tags last."""
    often, rare = schema.SERIES_TAGS[:_OFTEN], schema.SERIES_TAGS[_OFTEN:]
    return {
        **{tag: tag for tag in often},
        schema.RUN_ID: "run",
        schema.SQUASH_URL: "job page",
        **{tag: tag for tag in rare},
    }


def _table(
    name: str,
    query: str,
    columns: Mapping[str, str],
    place: Place,
    *,
    sort_by: str,
    colors: Sequence[dict[str, str]],
) -> dict[str, Any]:
    hidden = {sort_by, "time"} - set(columns)
    labels = [
        *((key, heading) for key, heading in columns.items()),
        *((key, "") for key in sorted(hidden)),
    ]
    return cells.table(
        name,
        query,
        [
            Column(key if key == "time" else f"{place.measurement}.{key}", heading)
            for key, heading in labels
        ],
        sort_by=f"{place.measurement}.{sort_by}",
        digits=1,
        colors=colors,
    )
