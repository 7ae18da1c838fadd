"""The metrics that have been declared or measured, and the unit in force for each.

`Vocabulary` has them in memory: every value of every job is looked up there.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import Connection, bindparam, func, insert, select, update

from squash_api.record.jobs import current_revision
from squash_api.record.record import Record
from squash_api.record.tables import metric
from squash_api.schema.names import Schema
from squash_api.verify.metrics import KnownMetric

_CHUNK = 10_000
_VERSION = select(func.coalesce(func.max(metric.c.version), 0))


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric. `unit` is None until a value of an undeclared metric brings one."""

    metric_id: int
    name: str
    unit: str | None
    is_declared: bool
    version: int


def metrics_since(connection: Connection, version: int) -> list[MetricRow]:
    """Return the metrics that were met or changed after a version, oldest change first."""
    rows = connection.execute(
        select(metric.c.id, metric.c.name, metric.c.unit, metric.c.is_declared, metric.c.version)
        .where(metric.c.version > version)
        .order_by(metric.c.version)
    )
    return [MetricRow(*row) for row in rows]


def known_units(connection: Connection, names: Iterable[str]) -> dict[str, str | None]:
    """Return the units of those names that are known."""
    wanted = list(names)
    found: dict[str, str | None] = {}
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        rows = connection.execute(
            select(metric.c.name, metric.c.unit).where(metric.c.name.in_(chunk))
        )
        found.update((row.name, row.unit) for row in rows)
    return found


def metric_ids(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of those names that are known."""
    wanted = list(names)
    found: dict[str, int] = {}
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        rows = connection.execute(
            select(metric.c.name, metric.c.id).where(metric.c.name.in_(chunk))
        )
        found.update((row.name, row.id) for row in rows)
    return found


def meet_metrics(connection: Connection, units: Mapping[str, str | None]) -> None:
    """Note undeclared metrics, and units of metrics that had none; all others stay as they are."""
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
    """Make metrics undeclared; each keeps the unit that its values are in."""
    _put(connection, known_units(connection, names), is_declared=False)


def _put(connection: Connection, units: Mapping[str, str | None], *, is_declared: bool) -> None:
    version = connection.execute(_VERSION).scalar_one() + 1
    known = known_units(connection, units)
    rows = [
        {"name_": name, "unit": unit, "is_declared": is_declared, "version": version}
        for name, unit in units.items()
    ]
    new = [
        {"name": row["name_"], **{k: row[k] for k in ("unit", "is_declared", "version")}}
        for row in rows
        if row["name_"] not in known
    ]
    changed = [row for row in rows if row["name_"] in known]
    if new:
        connection.execute(insert(metric), new)
    if changed:
        connection.execute(
            update(metric)
            .where(metric.c.name == bindparam("name_"))
            .values(
                unit=bindparam("unit"),
                is_declared=bindparam("is_declared"),
                version=bindparam("version"),
            ),
            changed,
        )


class Vocabulary:
    """The record's metrics, as of the last `refresh`. Reading needs no lock.

    Parameters
    ----------
    record
        Where the metrics are.
    schema
        A metric whose name this schema refuses is left out, so that its values are skipped.
    """

    def __init__(self, record: Record, schema: Schema) -> None:
        self.schema = schema
        self._record = record
        self._metrics: dict[str, KnownMetric] = {}
        self.metrics = MappingProxyType(self._metrics)
        self.revision = 0
        self._version = 0
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Take in what has changed in the record since the last time."""
        with self._lock, self._record.read() as connection:
            revision = current_revision(connection)
            for row in metrics_since(connection, self._version):
                self._version = row.version
                if self.schema.name_problem(row.name) is None:
                    self._metrics[row.name] = KnownMetric(row.unit, row.is_declared)
            self.revision = revision
