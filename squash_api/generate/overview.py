"""The overview dashboard: what is broken, what is late, how near the limits are. Pure.

The service itself writes these points, once a minute, under the names in `schema/watch.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape
from math import inf

from squash_api.generate.influxql import Place, identifier, select
from squash_api.generate.output import MARK
from squash_api.generate.panels import (
    CLOSE,
    COLUMNS,
    FINE,
    LEVEL_COLORS,
    PLAIN,
    Cell,
    Note,
    Steps,
    Table,
    Tile,
    stacked,
)
from squash_api.judging.alerts import WORST_FIRST
from squash_api.judging.states import PASSED, RANKS
from squash_api.schema import names as schema
from squash_api.schema import watch as watch_names

# The service repeats each standing within 6 h, and the others every minute.
_STANDING_TIMES = "time > now() - 1d"
_FRESHNESS_TIMES = "time > now() - 1h"
_BEATS_MINUTES = 10
_HOUR_S = 3600
_PERCENT = "percent"
_CLOSE_PERCENT = 10.0
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


def overview_dashboard(place: Place, packages: Mapping[str, str], *, own: str = "") -> list[Cell]:
    """Return the cells.

    `packages` are the known addresses of the packages' dashboards, `own` that of the one of the
    service itself. The measurements take the place of that of `place`.
    """
    standing, freshness, heartbeat = (
        replace(place, measurement=name)
        for name in (watch_names.STANDING, watch_names.FRESHNESS, watch_names.HEARTBEAT)
    )
    tiles = [
        *(_level_tile(level, standing) for level in WORST_FIRST),
        _late_tile(freshness),
        _heartbeat_tile(heartbeat),
    ]
    top = [
        *(Cell(tile, 2 * index, 0, 2, 2) for index, tile in enumerate(tiles)),
        Cell(Note(_links(packages, own)), 2 * len(tiles), 0, 2, 2),
    ]
    below = [
        [Cell(_broken_table(standing), 0, 0, COLUMNS, 5)],
        [Cell(_late_table(freshness), 0, 0, 7, 2), Cell(Note(_EXPLANATION), 7, 0, 5, 2)],
        [Cell(_margin_table(standing), 0, 0, COLUMNS, 4)],
    ]
    return [*top, *stacked(below, top=2)]


def _links(packages: Mapping[str, str], own: str) -> str:
    links = "\n".join(f"- [{escape(name)}]({url})" for name, url in packages.items())
    itself = f"\n\n[The service itself]({own})" if own else ""
    return f"**Packages**, over 30 days\n\n{links}{itself}"


def _last_of(place: Place, first: str, others: Iterable[str], times: str) -> str:
    """Return the subquery for the last point of each series."""
    columns = [f"last({identifier(first)}) AS {identifier(first)}", *map(identifier, others)]
    return f"({select(columns, place, times, end='GROUP BY *')})"


def _level_tile(level: str, standing: Place) -> Tile:
    counted = _last_of(standing, watch_names.SEVERITY, (), _STANDING_TIMES)
    is_level = select([f"{_IS_LEVEL[level]} AS {identifier('is')}"], counted)
    query = select([f'sum("is") AS {identifier(level)}'], f"({is_level})")
    steps = ((-inf, FINE), (0.5, LEVEL_COLORS[level]))
    return Tile(f"{level} now", query, level, digits=0, steps=steps, path="/alerts")


def _late_tile(freshness: Place) -> Tile:
    last = _last_of(freshness, watch_names.LATE_S, (), _FRESHNESS_TIMES)
    query = select([f"max({identifier(watch_names.LATE_S)}) / {_HOUR_S} AS late"], last)
    steps = ((-inf, FINE), (1e-9, LEVEL_COLORS["CRITICAL"]))
    return Tile("Late by", query, "late", digits=1, steps=steps, suffix=" h", path="/alerts")


def _heartbeat_tile(heartbeat: Place) -> Tile:
    query = select(
        [f"count({identifier(watch_names.UP)}) AS {identifier(watch_names.UP)}"],
        heartbeat,
        "time > now() - 30d AND time < now()",
        end=f"GROUP BY time({_BEATS_MINUTES}m, now()) FILL(0) ORDER BY time DESC LIMIT 1",
    )
    steps = ((-inf, LEVEL_COLORS["CRITICAL"]), (1.0, FINE))
    title = f"Beats in {_BEATS_MINUTES} min"
    return Tile(title, query, watch_names.UP, digits=0, steps=steps)


def _broken_table(standing: Place) -> Table:
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
    )


def _late_table(freshness: Place) -> Table:
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
    query = select(selected, last, f"{late} > 0")
    title = "Late now, latest first"
    return Table(title, query, freshness.measurement, columns, sort_by="order", digits=1)


def _margin_table(standing: Place) -> Table:
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
        steps=((-inf, CLOSE), (_CLOSE_PERCENT, FINE)),
    )


def _standing_table(
    name: str,
    standing: Place,
    columns: Mapping[str, str],
    *,
    margin: str,
    condition: str,
    sort_by: str,
    steps: Steps = PLAIN,
) -> Table:
    """Return a table of the last standings for which the condition is true."""
    wanted = [key for key in dict.fromkeys((*columns, sort_by)) if key != _PERCENT]
    tags = {watch_names.METRIC, *schema.SERIES_TAGS}
    fields = [key for key in wanted if key not in tags and key != watch_names.RANK]
    fields += [watch_names.SEVERITY, margin]
    # By a field that every point has: the margin of an older point is not that of now.
    last = _last_of(standing, watch_names.RANK, fields, _STANDING_TIMES)
    percent = f"{identifier(margin)} * 100 AS {identifier(_PERCENT)}"
    query = select([percent, *map(identifier, wanted)], last, condition)
    place = standing.measurement
    return Table(name, query, place, columns, sort_by=sort_by, digits=1, steps=steps)
