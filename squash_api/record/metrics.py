"""The metrics that have been declared or measured, with the unit in force for each.

`Metrics` holds them in memory, for every value of every job, and for pages, reports and exports.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from squash_api.record.bulk import in_chunks
from squash_api.record.jobs import current_revision
from squash_api.record.record import Record
from squash_api.record.tables import metric
from squash_api.schema.names import Schema
from squash_api.verify.metrics import KnownMetric


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow(KnownMetric):
    """A metric of the record. `unit` is None until a value of an undeclared metric brings one."""

    metric_id: int
    name: str
    version: int


@dataclass(frozen=True, slots=True)
class KnownMetrics:
    """The metrics in one state of the record, which does not change.

    `version` grows with every change of a metric; `revision` is that of the definitions. `by_name`
    leaves out metrics whose values cannot be stored.
    """

    version: int = 0
    revision: int = 0
    by_id: Mapping[int, MetricRow] = field(default_factory=lambda: MappingProxyType({}))
    by_name: Mapping[str, MetricRow] = field(default_factory=lambda: MappingProxyType({}))


class Metrics:
    """The record's metrics. `now` has them as of the last `refresh`, and needs no lock.

    A metric whose name the schema refuses is left out, so that its values are skipped.
    """

    def __init__(self, record: Record, schema: Schema) -> None:
        self.schema = schema
        self._record = record
        self.now = KnownMetrics()
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Read what has changed in the record since the last time."""
        with self._record.read() as connection:
            self._follow(connection)

    def as_of(self, connection: Connection) -> KnownMetrics:
        """Return the metrics as a connection sees them; `now` may be older or newer."""
        version = connection.execute(_VERSION).scalar_one()
        if version > self.now.version:
            self._follow(connection)
        known = self.now
        return known if known.version == version else self._read(connection, KnownMetrics())

    def _follow(self, connection: Connection) -> None:
        if connection.in_nested_transaction():
            raise ValueError("the writer's changes may yet be undone: do not keep them in memory")
        with self._lock:
            self.now = self._read(connection, self.now)

    def _read(self, connection: Connection, known: KnownMetrics) -> KnownMetrics:
        """Bring metrics to the state that a connection sees."""
        # Another transaction may have seen more than this one.
        revision = max(current_revision(connection), known.revision)
        rows = metrics_since(connection, known.version)
        version = rows[-1].version if rows else known.version
        if (version, revision) == (known.version, known.revision):
            return known
        by_id, by_name = dict(known.by_id), dict(known.by_name)
        for row in rows:
            by_id[row.metric_id] = row
            if self.schema.name_problem(row.name) is None:
                by_name[row.name] = row
        return KnownMetrics(version, revision, MappingProxyType(by_id), MappingProxyType(by_name))


def metrics_since(connection: Connection, version: int) -> list[MetricRow]:
    """Return the metrics that were added or changed after a version, oldest change first."""
    rows = connection.execute(_SINCE, {"version": version}).mappings()
    return [MetricRow(**row) for row in rows]


def known_units(connection: Connection, names: Iterable[str]) -> dict[str, str | None]:
    """Return the units of those names that are known."""
    return {row.name: row.unit for row in _named(connection, names)}


def metric_ids(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of those names that are known."""
    return {row.name: row.id for row in _named(connection, names)}


def _named(connection: Connection, names: Iterable[str]) -> Iterator[Row[Any]]:
    for chunk in in_chunks(names):
        yield from connection.execute(_UNITS, {"names": chunk})


def note_metrics(connection: Connection, units: Mapping[str, str | None]) -> None:
    """Add undeclared metrics, and units to metrics that had none; change nothing else."""
    known = known_units(connection, units)
    new = {
        name: unit
        for name, unit in units.items()
        if name not in known or (known[name] is None and unit is not None)
    }
    if new:
        _put(connection, new, is_declared=False)


def declare_metrics(connection: Connection, units: Mapping[str, str]) -> None:
    """Set the units of declared metrics."""
    _put(connection, units, is_declared=True)


def withdraw_metrics(connection: Connection, names: Iterable[str]) -> None:
    """Make metrics undeclared; each keeps its unit, since its values are in it."""
    _put(connection, known_units(connection, names), is_declared=False)


def _put(connection: Connection, units: Mapping[str, str | None], *, is_declared: bool) -> None:
    version = connection.execute(_VERSION).scalar_one() + 1
    known = known_units(connection, units)
    changes = {"is_declared": is_declared, "version": version}
    new = [
        {"name": name, "unit": unit, **changes} for name, unit in units.items() if name not in known
    ]
    changed = [{"name_": name, "unit_": unit} for name, unit in units.items() if name in known]
    if new:
        connection.execute(insert(metric), new)
    if changed:
        connection.execute(
            update(metric)
            .where(metric.c.name == bindparam("name_"))
            .values(unit=bindparam("unit_"), **changes),
            changed,
        )


_VERSION = select(func.coalesce(func.max(metric.c.version), 0))
_SINCE = (
    select(
        metric.c.id.label("metric_id"),
        metric.c.name,
        metric.c.unit,
        metric.c.is_declared,
        metric.c.version,
    )
    .where(metric.c.version > bindparam("version"))
    .order_by(metric.c.version)
)
_UNITS = select(metric.c.id, metric.c.name, metric.c.unit).where(
    metric.c.name.in_(bindparam("names", expanding=True))
)
