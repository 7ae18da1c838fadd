"""The dashboard of the service itself: its backlog, refusals, disk, connections. Pure.

The service writes these points once a minute, under the names in `schema/watch.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from squash_api.generate.chronograf import cells
from squash_api.generate.chronograf.cells import Cell, Column, Content
from squash_api.generate.chronograf.graph import VALUE_COLORS
from squash_api.generate.chronograf.queries import GRAPH_TIMES, Place, identifier, select
from squash_api.generate.output import MARK
from squash_api.judging.own import OWN_ALERTS
from squash_api.judging.wording import plain_number
from squash_api.schema import watch as names

# What is older than some minutes is not so now.
_NOW = "time > now() - 5m"
_PER_TARGET = (names.TARGET,)
_PER_PROCESS = (names.PROCESS, names.INSTANCE)
_ALERTS = {(item.measurement, item.field): item for item in OWN_ALERTS}


class _Tile(NamedTuple):
    """The worst of the last values of a field: `max` or `min`."""

    name: str
    measurement: str
    worst: str
    field: str
    suffix: str = ""
    digits: int = 0


class _Graph(NamedTuple):
    """Fields of one measurement over time, a line for each and each of its series."""

    name: str
    measurement: str
    fields: Sequence[str]


_TILES = (
    _Tile("Oldest job that waits", names.DELIVERY, "max", names.OLDEST_S, " s"),
    _Tile("Refused points, 1 h", names.DELIVERY, "max", names.REFUSED_LATELY),
    _Tile("Failed requests, 10 min", names.SERVICE, "max", names.FAILED),
    _Tile("Refused jobs, 10 min", names.SERVICE, "max", names.REFUSED_JOBS),
    _Tile("Free disk", names.SERVICE, "min", names.DISK_FREE_GB, " GB", 1),
    _Tile("Blocked for", names.SERVICE, "max", names.LOOP_LAG_S, " s", 2),
)
_GRAPHS = (
    _Graph("Jobs that wait to be delivered", names.DELIVERY, (names.WAITING,)),
    _Graph("Age of the oldest of them [s]", names.DELIVERY, (names.OLDEST_S,)),
    _Graph("Jobs accepted in a second", names.SERVICE, (names.JOBS_PER_S,)),
    _Graph(
        "Refused in 10 minutes",
        names.SERVICE,
        (names.FAILED, names.REFUSED, names.LIMITED, names.REFUSED_CONNECTIONS),
    ),
    _Graph("Free disk of the record [GB]", names.SERVICE, (names.DISK_FREE_GB,)),
    _Graph("Connections to the record's database", names.SERVICE, (names.POOL,)),
    _Graph("Connections of clients", names.SERVICE, (names.CONNECTIONS,)),
    _Graph("Reads", names.SERVICE, (names.READS_RUNNING, names.READS_WAITING, names.STREAMS)),
    _Graph("Blocked for at most [s]", names.SERVICE, (names.LOOP_LAG_S,)),
    _Graph("Oldest job to be derived [s]", names.SERVICE, (names.DERIVING_S,)),
    _Graph("Processes that read", names.SERVICE, (names.READERS,)),
    _Graph("Memory [MB]", names.SERVICE, (names.MEMORY_MB,)),
)
_EXPLANATION = (
    "Each process of SQuaSH says once a minute how it is; what is shown in the tiles is the worst "
    "of the last five minutes, colored as its alert. Empty tiles: nothing was heard. What to do: "
    f"docs/runbook.md. *Made by {MARK}.*"
)


def own_dashboard(*, database: str, retention_policy: str) -> Content:
    """Return the cells."""
    places = {
        name: Place(database, retention_policy, name) for name in (names.DELIVERY, names.SERVICE)
    }
    top = [Cell(_tile(item, places), 2 * number, 0, 2, 2) for number, item in enumerate(_TILES)]
    tables = [
        Cell(_targets_table(places[names.DELIVERY]), 0, 0, 5, 2),
        Cell(_processes_table(places[names.SERVICE]), 5, 0, 4, 2),
        Cell(cells.note(_EXPLANATION), 9, 0, 3, 2),
    ]
    graphs = [[Cell(_graph(item, places), 0, 0, cells.COLUMNS // 2, 3)] for item in _GRAPHS]
    return Content([*top, *cells.stacked([tables, *graphs], top=2)])


def _tile(item: _Tile, places: Mapping[str, Place]) -> dict[str, Any]:
    field = identifier(item.field)
    series = select([f"last({field}) AS {field}"], places[item.measurement], _NOW, end="GROUP BY *")
    alert = _ALERTS[item.measurement, item.field]
    return cells.single_stat(
        item.name,
        select([f"{item.worst}({field}) AS {field}"], f"({series})"),
        suffix=item.suffix,
        digits=item.digits,
        colors=cells.limit_colors(alert.limits),
    )


def _graph(item: _Graph, places: Mapping[str, Place]) -> dict[str, Any]:
    tags = _PER_TARGET if item.measurement == names.DELIVERY else _PER_PROCESS
    query = select(
        [f"max({identifier(name)}) AS {identifier(name)}" for name in item.fields],
        places[item.measurement],
        GRAPH_TIMES,
        end=f"GROUP BY time(:interval:), {', '.join(map(identifier, tags))} FILL(none)",
    )
    return cells.line_graph(
        item.name, [query], label=item.name, colors=VALUE_COLORS, about=_about(item)
    )


def _about(item: _Graph) -> str:
    """Say which alerts are on what a graph shows."""
    alerts = [_ALERTS[key] for name in item.fields if (key := (item.measurement, name)) in _ALERTS]
    return "\n".join(
        f"- {limit.level} unless {alert.field} {limit.criterion.words(plain_number)}: "
        f"docs/runbook.md#{alert.name}"
        for alert in alerts
        for limit in alert.limits
    )


def _targets_table(place: Place) -> dict[str, Any]:
    columns = {
        names.TARGET: "target",
        names.WAITING: "waiting",
        names.OLDEST_S: "oldest [s]",
        names.QUARANTINED: "in quarantine",
        names.REASON: "held up by",
    }
    return _table("Targets now", place, columns, sort_by=names.TARGET)


def _processes_table(place: Place) -> dict[str, Any]:
    columns = {
        names.PROCESS: "process",
        names.INSTANCE: "instance",
        names.VERSION: "version",
        names.REASON: "the record cannot be written",
    }
    return _table("Processes now", place, columns, sort_by=names.INSTANCE)


def _table(name: str, place: Place, columns: Mapping[str, str], *, sort_by: str) -> dict[str, Any]:
    first = names.UP if place.measurement == names.DELIVERY else names.RECORD_UP
    wanted = [f"last({identifier(first)}) AS {identifier(first)}", *map(identifier, columns)]
    last = select(wanted, place, _NOW, end="GROUP BY *")
    labels = {**columns, "time": ""}
    return cells.table(
        name,
        select([*map(identifier, columns)], f"({last})"),
        [
            Column(key if key == "time" else f"{place.measurement}.{key}", heading)
            for key, heading in labels.items()
        ],
        sort_by=f"{place.measurement}.{sort_by}",
        digits=0,
        colors=cells.stepped_colors(cells.NEUTRAL),
    )
