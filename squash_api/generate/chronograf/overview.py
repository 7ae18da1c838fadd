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
_OWN_RANGE = "?lower=now()%20-%206h"
_HOUR_S = 3600
_PERCENT = "percent"
_CLOSE_PERCENT = 10.0
_CLOSE = ("comet", "#9394FF")
# At the end of every table: what tells most first, since a screen has no room for all.
_OFTEN = (*schema.LINE_TAGS, schema.RUN_ID, schema.SQUASH_URL, "instrument", "pipeline")
_COMMON = {
    name: {schema.RUN_ID: "run", schema.SQUASH_URL: "job page"}.get(name, name)
    for name in dict.fromkeys((*_OFTEN, *schema.SERIES_TAGS))
}
# InfluxQL has no CASE: each polynomial is 1 at its own severity and 0 at the others from 0 to 3.
_SEVERITY = identifier(watch_names.SEVERITY)
_IS_LEVEL = {
    "INFO": f"{_SEVERITY} * ({_SEVERITY} - 2) * ({_SEVERITY} - 3) / 2",
    "WARNING": f"{_SEVERITY} * ({_SEVERITY} - 1) * (3 - {_SEVERITY}) / 2",
    "CRITICAL": f"{_SEVERITY} * ({_SEVERITY} - 1) * ({_SEVERITY} - 2) / 6",
}


_EXPLANATION = (
    f"The tables show the newest value of each metric, by {', '.join(schema.SERIES_TAGS)}; the "
    f"tiles count them. **Not measured**: the newest job has no value that can be used. "
    f"**Margin**: the distance to the limit as a percentage of it, negative beyond it; violet is "
    f"closer than {_CLOSE_PERCENT:.0f} %. **Late by**: how late the latest value is of those that "
    f"are expected, negative if none is. **Beats** in red: the service is down, and all else is "
    f"old. *Made by {MARK}.*"
)


def overview_dashboard(
    packages: Mapping[str, int],
    *,
    own: int | None = None,
    database: str,
    retention_policy: str,
) -> Content:
    """Return the cells.

    `packages` are the known numbers of the packages' dashboards, `own` that of the service itself.
    """
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
        Cell(cells.note(_links(packages, own)), 2 * len(tiles), 0, 2, 2),
    ]
    below = [
        [Cell(_broken_table(standing), 0, 0, cells.COLUMNS, 5)],
        [
            Cell(_late_table(freshness), 0, 0, 7, 2),
            Cell(cells.note(_EXPLANATION), 7, 0, 5, 2),
        ],
        [Cell(_margin_table(standing), 0, 0, cells.COLUMNS, 4)],
    ]
    return Content([*top, *cells.stacked(below, top=2)])


def _links(packages: Mapping[str, int], own: int | None) -> str:
    links = "\n".join(
        f"- [{escape(name)}](/sources/{SOURCE_ID}/dashboards/{number}{_PACKAGE_RANGE})"
        for name, number in packages.items()
    )
    itself = f"\n\n[The service itself](/sources/{SOURCE_ID}/dashboards/{own}{_OWN_RANGE})"
    return f"**Packages**, over 30 days\n\n{links}{itself if own is not None else ''}"


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
    columns = {
        watch_names.STATE: "state",
        watch_names.METRIC: "metric",
        watch_names.SUMMARY: "value and limit of this level",
        _PERCENT: "margin [%]",
        **_COMMON,
        watch_names.BROKEN: "all that it breaks",
    }
    return _standing_table(
        "Broken or not measured now, worst first",
        standing,
        columns,
        margin=watch_names.LEVEL_MARGIN,
        condition=f"{identifier(watch_names.RANK)} < {RANKS[PASSED]}",
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
        **_COMMON,
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
    columns = {
        _PERCENT: "margin [%]",
        watch_names.METRIC: "metric",
        watch_names.SUMMARY: "value and nearest limit",
        **_COMMON,
    }
    return _standing_table(
        "How close to the limits: what meets them all, closest first",
        standing,
        columns,
        margin=watch_names.MARGIN,
        condition=f"{_SEVERITY} = 0 AND {identifier(watch_names.MARGIN)} >= 0",
        sort_by=_PERCENT,
        colors=stepped_colors(_CLOSE, (_CLOSE_PERCENT, FINE)),
    )


def _standing_table(
    name: str,
    standing: Place,
    columns: Mapping[str, str],
    *,
    margin: str,
    condition: str,
    sort_by: str,
    colors: Sequence[dict[str, str]],
) -> dict[str, Any]:
    """Return a table of the last standings for which the condition is true."""
    wanted = [key for key in dict.fromkeys((*columns, sort_by)) if key != _PERCENT]
    tags = {watch_names.METRIC, *schema.SERIES_TAGS}
    fields = [key for key in wanted if key not in tags and key != watch_names.RANK]
    fields += [watch_names.SEVERITY, margin]
    # By a field that every point has: the margin of an older point is not that of now.
    last = _last_of(standing, watch_names.RANK, fields, _STANDING_TIMES)
    percent = f"{identifier(margin)} * 100 AS {identifier(_PERCENT)}"
    query = select([percent, *map(identifier, wanted)], last, condition)
    return _table(name, query, columns, standing, sort_by=sort_by, colors=colors)


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
