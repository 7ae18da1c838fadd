"""Lists of alerts, with the names of who has them: filtered, in pages, and counted."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select

from squash_api.record.alerts import ACKNOWLEDGED, OPEN, RESOLVED, AlertRow, GroupRow
from squash_api.record.bulk import in_chunks
from squash_api.record.tables import alert, alert_group, user

# So far from each other at most are the ids of groups of one run.
_NEAR = 500
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Which:
    """Which alerts: those that meet all conditions. What is empty or None is no condition.

    Parameters
    ----------
    states, severities, ids
        Any of these. The severity of an alert that is resolved is its worst.
    metric
        A metric or a package.
    tags
        Those that a series must have.
    since_ns, until_ns
        It was not resolved before, and not opened after.
    holder
        Name of who has it.
    """

    states: Collection[str] = ()
    severities: Collection[int] = ()
    metric: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    since_ns: int | None = None
    until_ns: int | None = None
    is_trial: bool | None = None
    is_silenced: bool | None = None
    holder: str | None = None
    group_id: int | None = None
    ids: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """An alert, its group, and the name of who has it, or had it when it was resolved."""

    row: AlertRow
    group: GroupRow
    holder: str | None


def list_alerts(
    connection: Connection, which: Which, *, before: int | None = None, limit: int
) -> list[Listed]:
    """Return at most `limit` alerts, the newest first, below the id `before`."""
    found: list[Listed] = []
    size = _PAGE if which.tags else min(limit, _PAGE)
    while len(found) < limit:
        query = _LISTED.where(*_conditions(which)).limit(size)
        if before is not None:
            query = query.where(alert.c.id < before)
        page = [_listed(row) for row in connection.execute(query.order_by(alert.c.id.desc()))]
        # LIKE may ignore case, and so find too many.
        found += [item for item in page if which.tags.items() <= dict(item.row.tags).items()]
        if len(page) < size:
            break
        before = page[-1].row.alert_id
    return found[:limit]


def get_listed(connection: Connection, alert_id: int) -> Listed | None:
    """Return an alert; None if there is none of this id."""
    row = connection.execute(_LISTED.where(alert.c.id == alert_id)).one_or_none()
    return None if row is None else _listed(row)


def listed_of_groups(connection: Connection, group_ids: Iterable[int]) -> list[Listed]:
    """Return the alerts of some groups, oldest first."""
    rows = [
        row
        for some in in_chunks(group_ids)
        for row in connection.execute(_LISTED.where(alert.c.group_id.in_(some)))
    ]
    return sorted(map(_listed, rows), key=lambda item: item.row.alert_id)


def before_it(connection: Connection, row: AlertRow, *, limit: int) -> list[Listed]:
    """Return the alerts of the same metric and branch that opened before one, the newest first."""
    same = (alert.c.metric == row.metric, alert.c.branch == row.branch)
    query = _LISTED.where(*same, alert.c.id < row.alert_id, alert.c.group_id != row.group_id)
    return [
        _listed(each) for each in connection.execute(query.order_by(alert.c.id.desc()).limit(limit))
    ]


def of_same_run(connection: Connection, group: GroupRow, *, limit: int) -> list[Listed]:
    """Return the worst alert of each other group that the run of a group has opened."""
    run = group.key.get("run")
    if not run:
        return []
    # As `add_group` writes it.
    text = json.dumps({"run": run}, sort_keys=True)[1:-1]
    query = (
        _LISTED.where(
            alert_group.c.id.between(group.group_id - _NEAR, group.group_id + _NEAR),
            alert_group.c.id != group.group_id,
            alert_group.c.key.contains(text, autoescape=True),
        )
        .order_by(alert.c.worst.desc(), alert.c.id)
        .limit(_PAGE)
    )
    found: dict[int, Listed] = {}
    for item in map(_listed, connection.execute(query)):
        if item.group.key.get("run") == run:
            found.setdefault(item.group.group_id, item)
    return list(found.values())[:limit]


def count_living(connection: Connection) -> tuple[int, int, int]:
    """Count the alerts that live: those that are open, acknowledged, and silenced, each once.

    Those on trial are left out.
    """
    is_silenced = alert.c.silence_id.is_not(None)
    query = (
        select(alert.c.state, is_silenced, func.count())
        .where(alert.c.state.in_((OPEN, ACKNOWLEDGED)), alert.c.is_trial.is_(False))
        .group_by(alert.c.state, is_silenced)
    )
    found = {(row[0], bool(row[1])): row[2] for row in connection.execute(query)}
    silenced = found.get((OPEN, True), 0) + found.get((ACKNOWLEDGED, True), 0)
    return found.get((OPEN, False), 0), found.get((ACKNOWLEDGED, False), 0), silenced


def sizes_of_groups(connection: Connection, group_ids: Iterable[int]) -> dict[int, int]:
    """Return how many alerts each of these groups has, living or resolved."""
    query = select(alert.c.group_id, func.count()).group_by(alert.c.group_id)
    return {
        row[0]: row[1]
        for some in in_chunks(group_ids)
        for row in connection.execute(query.where(alert.c.group_id.in_(some)))
    }


def names_of(connection: Connection, user_ids: Iterable[int]) -> dict[int, str]:
    """Return the names of users, by id."""
    return {
        row.id: row.name
        for some in in_chunks(user_ids)
        for row in connection.execute(select(user.c.id, user.c.name).where(user.c.id.in_(some)))
    }


def alerts_of_jobs(connection: Connection, job_ids: Iterable[int]) -> list[Listed]:
    """Return the alerts that these jobs have opened, or that live because of them; oldest first."""
    rows: dict[int, Listed] = {}
    for some in in_chunks(job_ids):
        speaks = (alert.c.job_id.in_(some), alert.c.opened_job_id.in_(some))
        for row in connection.execute(_LISTED.where(or_(*speaks))):
            rows[row.id] = _listed(row)
    return [rows[number] for number in sorted(rows)]


def _conditions(which: Which) -> list[ColumnElement[bool]]:
    severity = case((alert.c.state == RESOLVED, alert.c.worst), else_=alert.c.severity)
    found: list[ColumnElement[bool]] = [
        column.in_(wanted)
        for column, wanted in (
            (alert.c.id, which.ids),
            (alert.c.state, which.states),
            (severity, which.severities),
        )
        if wanted
    ]
    if which.metric is not None:
        within = alert.c.metric.startswith(f"{which.metric}.", autoescape=True)
        found.append(or_(alert.c.metric == which.metric, within))
    for name, text in which.tags.items():
        written = json.dumps({name: text})[1:-1]
        found.append(alert.c.tags.contains(written, autoescape=True))
    if which.since_ns is not None:
        found.append(or_(alert.c.resolved_ns.is_(None), alert.c.resolved_ns >= which.since_ns))
    if which.until_ns is not None:
        found.append(alert.c.opened_ns <= which.until_ns)
    if which.is_trial is not None:
        found.append(alert.c.is_trial.is_(which.is_trial))
    if which.is_silenced is not None:
        silenced = alert.c.silence_id.is_not(None)
        found.append(silenced if which.is_silenced else ~silenced)
    if which.holder is not None:
        found.append(user.c.name == which.holder)
    if which.group_id is not None:
        found.append(alert.c.group_id == which.group_id)
    return found


_ALERT_COLUMNS = [alert.c.id, *(alert.c[each.name] for each in fields(AlertRow)[1:])]
_GROUP_COLUMNS = [alert_group.c.id, *(alert_group.c[each.name] for each in fields(GroupRow)[1:])]
_LISTED: Select[Any] = (
    select(
        *_ALERT_COLUMNS,
        user.c.name.label("holder"),
        *(column.label(f"group_{column.name}") for column in _GROUP_COLUMNS),
    )
    .join_from(alert, alert_group, alert.c.group_id == alert_group.c.id)
    .outerjoin(user, alert.c.acknowledged_by == user.c.id)
)


def _listed(found: Any) -> Listed:
    count = len(_ALERT_COLUMNS)
    values = dict(zip((each.name for each in fields(AlertRow)), found[:count], strict=True))
    values["tags"], values["broken"] = json.loads(found.tags), json.loads(found.broken)
    group = dict(zip((each.name for each in fields(GroupRow)), found[count + 1 :], strict=True))
    group["key"] = json.loads(found.group_key)
    return Listed(AlertRow(**values), GroupRow(**group), found.holder)
