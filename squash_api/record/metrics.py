"""The metrics that have been declared or measured, with the unit in force for each.

`Metrics` holds them in memory, for every value of every job, and for pages, reports and exports.
"""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from squash_api.record.bulk import in_chunks
from squash_api.record.definitions import current, names_with_key
from squash_api.record.jobs import current_revision
from squash_api.record.record import Record
from squash_api.record.tables import metric, own_unit
from squash_api.schema.names import Schema
from squash_api.verify.derivation import NOT_DERIVED, Derivation
from squash_api.verify.metrics import DERIVATION_KEYS, KnownMetric, Reductions, reductions_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow(KnownMetric):
    """A metric of the record. `unit` is None until a value of an undeclared metric brings one."""

    metric_id: int
    name: str
    version: int
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class KnownMetrics:
    """The metrics in one state of the record, which does not change.

    `version` grows with every change of a metric; `revision` is that of the definitions. `by_name`
    leaves out metrics whose values cannot be stored; so does `reductions`.
    """

    version: int = 0
    revision: int = 0
    by_id: Mapping[int, MetricRow] = field(default_factory=lambda: MappingProxyType({}))
    by_name: Mapping[str, MetricRow] = field(default_factory=lambda: MappingProxyType({}))
    reductions: Reductions = field(default_factory=lambda: MappingProxyType({}))


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
            if row.is_gone:
                by_id.pop(row.metric_id, None)
                by_name.pop(row.name, None)
                continue
            by_id[row.metric_id] = row
            if self.schema.name_problem(row.name) is None:
                by_name[row.name] = row
        return KnownMetrics(
            version,
            revision,
            MappingProxyType(by_id),
            MappingProxyType(by_name),
            reductions_of(by_name.items()),
        )


def other_units(metrics: Metrics, name: str) -> list[str]:
    """Return the units of values that do not convert to that of a metric, sorted."""
    known = metrics.now.by_name.get(name)
    return sorted({unit for _, unit in known.own_units}) if known else []


def metrics_since(connection: Connection, version: int) -> list[MetricRow]:
    """Return the metrics that were added, changed or forgotten after a version.

    The oldest change comes first.
    """
    own: dict[int, list[tuple[int, str]]] = {}
    for row in connection.execute(_OWN_UNITS_SINCE, {"version": version}):
        own.setdefault(row.metric_id, []).append((row.user_id, row.unit))
    rows = connection.execute(_SINCE, {"version": version}).mappings().all()
    derivations = _derivations(connection, [row["name"] for row in rows if row["is_declared"]])
    return [
        MetricRow(
            **row,
            own_units=tuple(own.get(row["metric_id"], ())),
            derivation=derivations.get(row["name"], NOT_DERIVED),
        )
        for row in rows
    ]


def _derivations(connection: Connection, names: Collection[str]) -> dict[str, Derivation]:
    """Return how the values of these declared metrics are derived, if they are."""
    if not names:
        return {}
    derived = names_with_key(connection, "metric", *DERIVATION_KEYS).intersection(names)
    found = current(connection, "metric", names=derived) if derived else {}
    return {name: Derivation.of(row.document or {}) for name, row in found.items()}


def reductions_in(connection: Connection) -> Reductions:
    """Return the metrics whose values are reduced from arrays, as a transaction sees them."""
    known = known_metrics(connection, reduced_ever(connection))
    return reductions_of(known.items())


def reduced_ever(connection: Connection) -> set[str]:
    """Return the metrics whose values are reduced from arrays, or have been."""
    return names_with_key(connection, "metric", "reduce")


def known_metrics(connection: Connection, names: Iterable[str]) -> dict[str, KnownMetric]:
    """Return those of these metrics that are known."""
    found: dict[str, KnownMetric] = {}
    for chunk in in_chunks(names):
        own: dict[int, list[tuple[int, str]]] = {}
        rows = list(connection.execute(_UNITS, {"names": chunk}))
        ids = [row.id for row in rows if row.unit_by is not None]
        derived = _derivations(connection, [row.name for row in rows if row.is_declared])
        for each in connection.execute(_OWN_UNITS_OF, {"ids": ids}) if ids else ():
            own.setdefault(each.metric_id, []).append((each.user_id, each.unit))
        for row in rows:
            units = tuple(own.get(row.id, ()))
            derivation = derived.get(row.name, NOT_DERIVED)
            found[row.name] = KnownMetric(row.unit, row.is_declared, row.unit_by, units, derivation)
    return found


def known_units(connection: Connection, names: Iterable[str]) -> dict[str, str | None]:
    """Return the units of those names that are known."""
    return {row.name: row.unit for row in _named(connection, names)}


def metric_ids(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of those names that are known."""
    return {row.name: row.id for row in _named(connection, names)}


def _named(connection: Connection, names: Iterable[str]) -> Iterator[Row[Any, Any, Any, Any, Any]]:
    for chunk in in_chunks(names):
        yield from connection.execute(_UNITS, {"names": chunk})


def note_metrics(
    connection: Connection, units: Mapping[str, str | None], *, by: int | None = None
) -> None:
    """Add undeclared metrics, and units to metrics that had none; change nothing else.

    `by` is the user whose values brought them.
    """
    known = known_units(connection, units)
    new = {
        name: unit
        for name, unit in units.items()
        if name not in known or (known[name] is None and unit is not None)
    }
    if new:
        _put(connection, new, is_declared=False, unit_by=by)


def have_other_units(connection: Connection, units: Mapping[str, str], *, by: int) -> bool:
    """Return whether a user has another unit of their own for one of these metrics."""
    found = known_metrics(connection, units) if units else {}
    return any(row.own_unit(by) not in (None, units[name]) for name, row in found.items())


def note_own_units(connection: Connection, units: Mapping[str, str], *, by: int) -> None:
    """Keep the units of a user's values that do not convert to the metrics' units, if new."""
    if not units:
        return
    known = known_metrics(connection, units)
    new = [name for name, row in known.items() if row.own_unit(by) is None]
    ids = metric_ids(connection, new)
    if ids:
        rows = [
            {"metric_id": number, "user_id": by, "unit": units[name]}
            for name, number in ids.items()
        ]
        connection.execute(insert(own_unit), rows)
        _raise_version(connection, ids.values())


def declare_metrics(
    connection: Connection, units: Mapping[str, str], *, by: int | None = None
) -> None:
    """Set the units of declared metrics. `by` is a user whose definitions bind nobody else."""
    ids = metric_ids(connection, units)
    if by is None:
        gone = _DROP_OWN_UNITS
        rows = [{"id": number} for number in ids.values()]
    else:
        # Whoever had brought the unit keeps it for their own values.
        before = known_metrics(connection, units)
        kept = {
            name: (row.unit_by, row.unit)
            for name, row in before.items()
            if row.unit_by not in (None, by) and row.unit not in (None, units[name])
        }
        for name, (user_id, unit) in kept.items():
            note_own_units(connection, {name: str(unit)}, by=int(user_id or 0))
        gone = delete(own_unit).where(
            own_unit.c.metric_id == bindparam("id"), own_unit.c.user_id == by
        )
        rows = [{"id": number} for number in ids.values()]
    if rows:
        connection.execute(gone, rows)
    _put(connection, units, is_declared=True, unit_by=by)


def note_derivations(connection: Connection, names: Iterable[str]) -> None:
    """Note that the values of these metrics are derived in another way from now on."""
    _raise_version(connection, metric_ids(connection, names).values())


def withdraw_metrics(connection: Connection, names: Iterable[str]) -> None:
    """Make metrics undeclared; each keeps its unit, since its values are in it."""
    _raise_version(connection, metric_ids(connection, names).values(), is_declared=False)


def forget_metrics(connection: Connection, names: Iterable[str]) -> None:
    """Forget metrics and their units; a value of the same name is then that of a new metric."""
    ids = list(metric_ids(connection, names).values())
    if ids:
        rows = [{"id": number} for number in ids]
        connection.execute(_DROP_OWN_UNITS, rows)
        _raise_version(connection, ids, is_gone=True, is_declared=False, unit=None, unit_by=None)


def _raise_version(connection: Connection, ids: Iterable[int], **changes: Any) -> None:
    version = connection.execute(_VERSION).scalar_one() + 1
    for chunk in in_chunks(ids):
        changed = update(metric).where(metric.c.id.in_(chunk))
        connection.execute(changed.values(version=version, **changes))


def _put(
    connection: Connection,
    units: Mapping[str, str | None],
    *,
    is_declared: bool,
    unit_by: int | None,
) -> None:
    version = connection.execute(_VERSION).scalar_one() + 1
    known = known_units(connection, units).keys() | {
        name
        for chunk in in_chunks(units)
        for name in connection.execute(_GONE, {"names": chunk}).scalars()
    }
    changes = {
        "is_declared": is_declared,
        "version": version,
        "unit_by": unit_by,
        "is_gone": False,
    }
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


_DROP_OWN_UNITS = delete(own_unit).where(own_unit.c.metric_id == bindparam("id"))
_VERSION = select(func.coalesce(func.max(metric.c.version), 0))
_SINCE = (
    select(
        metric.c.id.label("metric_id"),
        metric.c.name,
        metric.c.unit,
        metric.c.is_declared,
        metric.c.unit_by,
        metric.c.is_gone,
        metric.c.version,
    )
    .where(metric.c.version > bindparam("version"))
    .order_by(metric.c.version)
)
_OWN_UNITS_SINCE = (
    select(own_unit.c.metric_id, own_unit.c.user_id, own_unit.c.unit)
    .join(metric, metric.c.id == own_unit.c.metric_id)
    .where(metric.c.version > bindparam("version"))
    .order_by(own_unit.c.metric_id, own_unit.c.user_id)
)
_OWN_UNITS_OF = select(own_unit.c.metric_id, own_unit.c.user_id, own_unit.c.unit).where(
    own_unit.c.metric_id.in_(bindparam("ids", expanding=True))
)
_UNITS = select(
    metric.c.id, metric.c.name, metric.c.unit, metric.c.is_declared, metric.c.unit_by
).where(metric.c.name.in_(bindparam("names", expanding=True)), metric.c.is_gone.is_(False))
_GONE = select(metric.c.name).where(
    metric.c.name.in_(bindparam("names", expanding=True)), metric.c.is_gone.is_(True)
)
