"""The dashboard of the service itself: its backlog, refusals, disk, connections. Pure.

The service writes these points once a minute, under the names in `schema/watch.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from squash_api.generate.influxql import Dialect, Place, identifier, select
from squash_api.generate.output import MARK
from squash_api.generate.panels import COLUMNS, Cell, Graph, Note, Table, Tile, limit_steps, stacked
from squash_api.judging.own import OWN_ALERTS
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


def own_dashboard(place: Place, dialect: Dialect) -> list[Cell]:
    """Return the cells; the measurements take the place of that of `place`."""
    places = {name: replace(place, measurement=name) for name in (names.DELIVERY, names.SERVICE)}
    top = [Cell(_tile(item, places), 2 * number, 0, 2, 2) for number, item in enumerate(_TILES)]
    tables = [
        Cell(_targets_table(places[names.DELIVERY]), 0, 0, 5, 2),
        Cell(_processes_table(places[names.SERVICE]), 5, 0, 4, 2),
        Cell(Note(_EXPLANATION), 9, 0, 3, 2),
    ]
    graphs = [[Cell(_graph(item, places, dialect), 0, 0, COLUMNS // 2, 3)] for item in _GRAPHS]
    return [*top, *stacked([tables, *graphs], top=2)]


def _tile(item: _Tile, places: Mapping[str, Place]) -> Tile:
    field = identifier(item.field)
    series = select([f"last({field}) AS {field}"], places[item.measurement], _NOW, end="GROUP BY *")
    alert = _ALERTS[item.measurement, item.field]
    return Tile(
        item.name,
        select([f"{item.worst}({field}) AS {field}"], f"({series})"),
        item.field,
        digits=item.digits,
        steps=limit_steps(alert.limits),
        suffix=item.suffix,
        path=f"/docs/runbook#{alert.name}",
    )


def _graph(item: _Graph, places: Mapping[str, Place], dialect: Dialect) -> Graph:
    tags = _PER_TARGET if item.measurement == names.DELIVERY else _PER_PROCESS
    query = select(
        [f"max({identifier(name)}) AS {identifier(name)}" for name in item.fields],
        places[item.measurement],
        dialect.times,
        end=f"GROUP BY time({dialect.interval}), {', '.join(map(identifier, tags))} FILL(none)",
    )
    keys = [(item.measurement, name) for name in item.fields]
    alerts = [_ALERTS[key] for key in keys if key in _ALERTS]
    return Graph(item.name, query, item.fields, tags, alerts)


def _targets_table(place: Place) -> Table:
    columns = {
        names.TARGET: "target",
        names.WAITING: "waiting",
        names.OLDEST_S: "oldest [s]",
        names.QUARANTINED: "in quarantine",
        names.REASON: "held up by",
    }
    return _table("Targets now", place, columns, sort_by=names.TARGET)


def _processes_table(place: Place) -> Table:
    columns = {
        names.PROCESS: "process",
        names.INSTANCE: "instance",
        names.VERSION: "version",
        names.REASON: "the record cannot be written",
    }
    return _table("Processes now", place, columns, sort_by=names.INSTANCE)


def _table(name: str, place: Place, columns: Mapping[str, str], *, sort_by: str) -> Table:
    first = names.UP if place.measurement == names.DELIVERY else names.RECORD_UP
    wanted = [f"last({identifier(first)}) AS {identifier(first)}", *map(identifier, columns)]
    last = select(wanted, place, _NOW, end="GROUP BY *")
    query = select([*map(identifier, columns)], f"({last})")
    return Table(name, query, place.measurement, columns, sort_by=sort_by, digits=0)
