"""Queries on the alerts of the record, their groups and their history.

A version grows with every change of an alert or a group, so that an outlet can ask for what is new.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_args

from sqlalchemy import Connection, func, insert, select, update

from squash_api.record.bulk import in_chunks
from squash_api.record.record import get_state
from squash_api.record.tables import alert, alert_event, alert_group
from squash_api.schema.alert_answers import AlertState

ENGINE_STATE = "alerts"
"""The key of the state that says how far alerts are; `through` in it is a job."""

_STATES: tuple[AlertState, ...] = get_args(AlertState)
OPEN, ACKNOWLEDGED, RESOLVED = _STATES
"""The states of an alert, in the order of its life."""

BY_HAND = "by hand"
"""Why an alert was resolved, in its event, if somebody did it."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """What is told as one. `joined_ns` is None once nothing joins it any more.

    `key` has what its alerts have in common beside metric and branch: `run`, `tags`.
    """

    group_id: int
    version: int
    metric: str
    branch: str
    key: Mapping[str, Any]
    opened_ns: int
    joined_ns: int | None


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert of one series: a metric, a branch of its alert plan, and the tags of `per`.

    `severity` is 1 for INFO to 3 for CRITICAL, and 0 once it is resolved; `worst` was its worst.
    `job_id`, `time_ns` and `value` are what speaks for the series now, in `unit`. `broken` has the
    limits that were broken last, as verdicts show them. `silence_id` is the silence because of
    which nobody is told of it now.
    """

    alert_id: int
    version: int
    group_id: int
    metric: str
    branch: str
    tags: Mapping[str, str]
    state: AlertState
    is_trial: bool
    severity: int
    worst: int
    opened_ns: int
    opened_job_id: int | None
    job_id: int | None
    time_ns: int | None
    value: float | None
    unit: str | None
    broken: Sequence[Mapping[str, Any]]
    resolved_ns: int | None
    acknowledged_by: int | None
    acknowledged_ns: int | None
    acknowledged_severity: int | None
    acknowledged_until_ns: int | None
    note: str | None
    link: str | None
    silence_id: int | None = None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that has happened to an alert, by a user, or by what a job has brought."""

    alert_id: int
    time_ns: int
    kind: str
    severity: int
    job_id: int | None = None
    user_id: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventRow(NewEvent):
    """An event as stored."""

    event_id: int = 0


_GROUPS = select(alert_group.c.id, *(alert_group.c[each.name] for each in fields(GroupRow)[1:]))
_ALERTS = select(alert.c.id, *(alert.c[each.name] for each in fields(AlertRow)[1:]))
_EVENTS = select(
    *(alert_event.c[each.name] for each in fields(NewEvent)), alert_event.c.id
).order_by(alert_event.c.id)


def newest_alert_version(connection: Connection) -> int:
    """Return the newest version of any alert or group; 0 if there is none."""
    newest = 0
    for table in (alert, alert_group):
        query = select(func.coalesce(func.max(table.c.version), 0))
        newest = max(newest, connection.execute(query).scalar_one())
    return newest


def get_alert(connection: Connection, alert_id: int) -> AlertRow | None:
    """Return an alert; None if there is none of this id."""
    row = connection.execute(_ALERTS.where(alert.c.id == alert_id)).one_or_none()
    return None if row is None else _alert(row)


def living_alerts(connection: Connection) -> list[AlertRow]:
    """Return the alerts that are not resolved, oldest first."""
    query = _ALERTS.where(alert.c.state.in_((OPEN, ACKNOWLEDGED))).order_by(alert.c.id)
    return [_alert(row) for row in connection.execute(query)]


def living_alerts_of(connection: Connection, metrics: Iterable[str]) -> list[AlertRow]:
    """Return the alerts on some metrics that are not resolved, oldest first."""
    is_living = alert.c.state.in_((OPEN, ACKNOWLEDGED))
    rows = [
        row
        for some in in_chunks(metrics)
        for row in connection.execute(_ALERTS.where(is_living, alert.c.metric.in_(some)))
    ]
    return sorted(map(_alert, rows), key=lambda item: item.alert_id)


def alerts_after(connection: Connection, version: int) -> list[AlertRow]:
    """Return the alerts that have changed since a version, in any order.

    Since the beginning, which is before version 1, only the living ones are returned.
    """
    if version < 1:
        return living_alerts(connection)
    return [_alert(row) for row in connection.execute(_ALERTS.where(alert.c.version > version))]


def is_put_aside(
    connection: Connection, metric: str, branch: str, tags: Mapping[str, str], job_id: int | None
) -> bool:
    """Return whether somebody has resolved the last alert of a series by hand.

    `job_id` is what speaks for the series now; if that is another than it was, it counts no more.
    """
    same = (alert.c.metric == metric, alert.c.branch == branch, alert.c.tags == _tags_text(tags))
    last = connection.execute(
        select(alert.c.id, alert.c.job_id).where(*same).order_by(alert.c.id.desc()).limit(1)
    ).one_or_none()
    if last is None or last.job_id != job_id:
        return False
    return any(event.detail.get("why") == BY_HAND for event in events_of(connection, last.id))


def alerts_of_groups(connection: Connection, group_ids: Iterable[int]) -> list[AlertRow]:
    """Return the alerts of some groups, oldest first."""
    rows = [
        row
        for some in in_chunks(sorted(set(group_ids)))
        for row in connection.execute(_ALERTS.where(alert.c.group_id.in_(some)))
    ]
    return sorted(map(_alert, rows), key=lambda item: item.alert_id)


def get_group(connection: Connection, group_id: int) -> GroupRow | None:
    """Return a group; None if there is none of this id."""
    row = connection.execute(_GROUPS.where(alert_group.c.id == group_id)).one_or_none()
    return None if row is None else _group(row)


def groups_after(connection: Connection, version: int, *, limit: int) -> list[GroupRow]:
    """Return groups that have changed since a version, or whose alerts have, oldest change first.

    All changes of a version are returned together, even if there are more than `limit`.
    """
    query = _GROUPS.where(alert_group.c.version > version).order_by(alert_group.c.version)
    rows = connection.execute(query.limit(limit)).all()
    if len(rows) == limit:
        through = alert_group.c.version <= rows[-1].version
        rows = connection.execute(query.where(through)).all()
    return [_group(row) for row in rows]


def gathering_groups(connection: Connection) -> list[GroupRow]:
    """Return the groups that alerts may still join, oldest first."""
    query = _GROUPS.where(alert_group.c.joined_ns.is_not(None)).order_by(alert_group.c.id)
    return [_group(row) for row in connection.execute(query)]


def add_group(
    connection: Connection,
    *,
    metric: str,
    branch: str,
    key: Mapping[str, Any],
    now_ns: int,
    is_gathering: bool,
) -> int:
    """Store a new group and return its id; alerts join it while it is gathering."""
    values = {
        "version": newest_alert_version(connection) + 1,
        "metric": metric,
        "branch": branch,
        "key": json.dumps(key, sort_keys=True),
        "opened_ns": now_ns,
        "joined_ns": now_ns if is_gathering else None,
    }
    return _new_id(connection.execute(insert(alert_group).values(values)))


def change_group(connection: Connection, group_id: int, *, joined_ns: int | None) -> None:
    """Note when the last alert has joined a group, or with None that it is complete."""
    version = newest_alert_version(connection) + 1
    connection.execute(
        update(alert_group)
        .where(alert_group.c.id == group_id)
        .values(joined_ns=joined_ns, version=version)
    )


def change_alert(connection: Connection, row: AlertRow, **values: Any) -> bool:
    """Change an alert, unless it has changed since it was read; return whether it is changed."""
    version = newest_alert_version(connection) + 1
    changed = connection.execute(
        update(alert)
        .where(alert.c.id == row.alert_id, alert.c.version == row.version)
        .values(_written({**values, "version": version}))
    )
    if changed.rowcount == 0:
        return False
    of_group = update(alert_group).where(alert_group.c.id == row.group_id)
    connection.execute(of_group.values(version=version))
    return True


def write_alerts(
    connection: Connection,
    *,
    opened: Sequence[Mapping[str, Any]] = (),
    changed: Sequence[tuple[AlertRow, Mapping[str, Any]]] = (),
) -> list[int]:
    """Store new alerts and changes of others, all with one version; return the ids of the new.

    The values are those of `AlertRow`. Only for whoever has read the others in this transaction:
    what they have become since is overwritten.
    """
    if not opened and not changed:
        return []
    version = newest_alert_version(connection) + 1
    for row, values in changed:
        written = _written({**values, "version": version})
        connection.execute(update(alert).where(alert.c.id == row.alert_id).values(written))
    ids: list[int] = []
    if opened:
        stored = [_written({**values, "version": version}) for values in opened]
        added = insert(alert).returning(alert.c.id, sort_by_parameter_order=True)
        ids = list(connection.execute(added, stored).scalars())
    groups = {row.group_id for row, _ in changed} | {item["group_id"] for item in opened}
    for some in in_chunks(groups):
        touched = update(alert_group).where(alert_group.c.id.in_(some))
        connection.execute(touched.values(version=version))
    return ids


def add_events(connection: Connection, events: Iterable[NewEvent]) -> None:
    """Add to the history of alerts."""
    rows = [
        {
            **{each.name: getattr(item, each.name) for each in fields(NewEvent)},
            "detail": json.dumps(item.detail) if item.detail else None,
        }
        for item in events
    ]
    if rows:
        connection.execute(insert(alert_event), rows)


def events_of(connection: Connection, alert_id: int) -> list[EventRow]:
    """Return the history of an alert, oldest first."""
    rows = connection.execute(_EVENTS.where(alert_event.c.alert_id == alert_id))
    return [_event(row) for row in rows]


def events_after(connection: Connection, event_id: int, *, limit: int) -> list[EventRow]:
    """Return events of any alert, by id from the first after `event_id`."""
    rows = connection.execute(_EVENTS.where(alert_event.c.id > event_id).limit(limit))
    return [_event(row) for row in rows]


@dataclass(frozen=True, slots=True)
class PastAlert:
    """What became of an alert; `specifications` are those of the limits that it broke last.

    One on late values has broken none.

    `has_worsened` says whether it became worse after somebody had acknowledged it.
    """

    specifications: tuple[str, ...]
    is_resolved: bool
    is_acknowledged: bool
    has_worsened: bool


def past_alerts(connection: Connection, *, since_ns: int) -> list[PastAlert]:
    """Return what became of the alerts that were opened since a time."""
    is_recent = alert.c.opened_ns >= since_ns
    acknowledged: set[int] = set()
    worsened: set[int] = set()
    events = (
        select(alert_event.c.alert_id, alert_event.c.kind)
        .join(alert, alert.c.id == alert_event.c.alert_id)
        .where(is_recent, alert_event.c.kind.in_(("acknowledged", "worsened")))
        .order_by(alert_event.c.id)
    )
    for alert_id, kind in connection.execute(events):
        if kind == "acknowledged":
            acknowledged.add(alert_id)
        elif alert_id in acknowledged:
            worsened.add(alert_id)
    return [
        PastAlert(
            tuple(filter(None, (item.get("specification") for item in json.loads(row.broken)))),
            row.state == RESOLVED,
            row.id in acknowledged,
            row.id in worsened,
        )
        for row in connection.execute(
            select(alert.c.id, alert.c.broken, alert.c.state).where(is_recent)
        )
    ]


def followed_through(connection: Connection) -> int | None:
    """Return the newest job whose alerts are known; None if no process has looked at any."""
    text = get_state(connection, ENGINE_STATE)
    return None if text is None else int(json.loads(text)["through"])


def last_event_id(connection: Connection) -> int:
    """Return the id of the newest event; 0 if there is none."""
    return int(
        connection.execute(select(func.coalesce(func.max(alert_event.c.id), 0))).scalar_one()
    )


def _written(values: Mapping[str, Any]) -> dict[str, Any]:
    written = dict(values)
    if "tags" in values:
        written["tags"] = _tags_text(values["tags"])
    if "broken" in values:
        written["broken"] = json.dumps(values["broken"])
    return written


def _tags_text(tags: Mapping[str, str]) -> str:
    return json.dumps(tags, sort_keys=True)


def _new_id(result: Any) -> int:
    found: int = result.inserted_primary_key[0]
    return found


def _group(row: Any) -> GroupRow:
    values = list(row)
    values[4] = json.loads(row.key)
    return GroupRow(*values)


def _alert(row: Any) -> AlertRow:
    values = dict(zip((each.name for each in fields(AlertRow)), row, strict=True))
    values["tags"], values["broken"] = json.loads(row.tags), json.loads(row.broken)
    return AlertRow(**values)


def _event(row: Any) -> EventRow:
    values = dict(zip((each.name for each in fields(EventRow)), row, strict=True))
    values["detail"] = json.loads(row.detail) if row.detail else {}
    return EventRow(**values)
