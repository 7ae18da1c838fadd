"""The state of delivery: how far each target is, what waits for it, and what it refused."""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from squash_api.record.bulk import in_chunks, select_rows
from squash_api.record.jobs import JobRow
from squash_api.record.record import get_state, set_state
from squash_api.record.tables import erasure, job, quarantine, redelivery, target
from squash_api.schema.answers import DeliveryState

LEASE_NS = 20 * 10**9
"""How long a lease lasts. Its holder renews it while it lives, so another takes over soon."""

LONGEST_REFUSAL_NS = 3600 * 10**9
"""Longest wait, in ns, before a target is asked again to delete what it refused to delete."""


AT_ONCE_NS = 1
"""When a refused deletion is due that somebody has asked to try again: it still counts as refused.
"""

_SERVERS = "influx_servers"


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target. `trouble` says why nothing can be sent at the moment; None if all is well.

    If its database has lost its points, the jobs up to `refill_through` are sent once more.
    """

    name: str
    sent_through: int
    taken_through: int
    lease_owner: str | None
    lease_until_ns: int
    trouble: str | None
    trouble_since_ns: int | None
    has_points: bool = False
    refill_through: int | None = None
    refill_since_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """The points of one job, to be deleted by their exact time.

    If the job itself `is_deleted`, that is all; otherwise its points are then written again.
    `metrics` and `tags` say which series a deleted job was in; `tags` is None if that is unknown.
    """

    job_id: int
    time_ns: int
    measurements: tuple[str, ...]
    is_deleted: bool = False
    metrics: tuple[str, ...] = ()
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A line that InfluxDB permanently refused, with the reason it gave."""

    job_id: int
    measurement: str
    line: str
    reason: str


def ensure_targets(connection: Connection, names: Iterable[str]) -> None:
    """Add targets that are not known yet. A new one begins with the first job."""
    known = set(connection.execute(select(target.c.name)).scalars())
    rows = [{"name": name} for name in names if name not in known]
    if rows:
        connection.execute(insert(target), rows)


def target_names(connection: Connection) -> list[str]:
    """Return the names of all targets that have ever been known."""
    return list(connection.execute(select(target.c.name).order_by(target.c.name)).scalars())


def get_target(connection: Connection, name: str) -> TargetRow:
    """Return a target that `ensure_targets` has added."""
    return TargetRow(*connection.execute(_TARGET.where(target.c.name == name)).one())


def note_server(connection: Connection, name: str, server: Mapping[str, Any]) -> None:
    """Note which server a target is, and what it lacks, for whoever shows it."""
    noted = servers(connection)
    noted[name] = dict(server)
    set_state(connection, _SERVERS, json.dumps(noted))


def servers(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return what `note_server` was told, by target."""
    return dict(json.loads(get_state(connection, _SERVERS) or "{}"))


def has_sent_any(connection: Connection) -> bool:
    """Return whether any target may already hold points."""
    query = select(target.c.name).where(target.c.taken_through > 0).limit(1)
    return connection.execute(query).first() is not None


def reset_target(connection: Connection, name: str) -> None:
    """Begin a target, whose database is empty, with the first job again."""
    for table in (redelivery, quarantine, erasure):
        connection.execute(delete(table).where(table.c.target == name))
    _update_target(
        connection,
        name,
        sent_through=0,
        taken_through=0,
        has_points=False,
        refill_through=None,
        refill_since_ns=None,
    )


def take_lease(
    connection: Connection, name: str, *, owner: str, now_ns: int, until_ns: int
) -> bool:
    """Take or renew the right to send to a target; False if another holds it."""
    held = target.c.lease_until_ns.between(now_ns, _latest_ns(now_ns, until_ns - now_ns))
    is_free = or_(target.c.lease_owner == owner, ~held)
    return _update_target(connection, name, is_free, lease_owner=owner, lease_until_ns=until_ns)


def is_lease_over(until_ns: int, *, now_ns: int, length_ns: int) -> bool:
    """Tell whether a lease no longer binds anybody; `length_ns` is how long each is taken for."""
    return not now_ns <= until_ns <= _latest_ns(now_ns, length_ns)


def _latest_ns(now_ns: int, length_ns: int) -> int:
    """Return the latest end of a lease that counts.

    A later one was taken while the clock was ahead: its holder has renewed it since, or is dead.
    The clocks of two machines may differ by the length of a lease.
    """
    return now_ns + 2 * length_ns


def release_lease(connection: Connection, name: str, *, owner: str) -> None:
    """Release the right, so that a standby need not wait until it expires."""
    is_held = target.c.lease_owner == owner
    _update_target(connection, name, is_held, lease_owner=None, lease_until_ns=0)


def mark_taken(connection: Connection, name: str, *, after: int, through: int) -> bool:
    """Note that the sending of jobs through `through` has begun.

    Does nothing and returns False if the target has been reset since it was at the job `after`.
    """
    taken = target.c.taken_through
    later = case((taken < through, through), else_=taken)
    return _update_target(connection, name, taken >= after, taken_through=later)


def mark_sent(
    connection: Connection,
    name: str,
    *,
    through: int | None,
    redelivered: Sequence[tuple[int, int]],
    quarantined: Sequence[Quarantined],
    now_ns: int,
    erased: Sequence[Erasure] = (),
    has_points: bool = False,
) -> None:
    """Note what was sent to a target: jobs through `through`, jobs sent again, refused lines.

    A target that was reset since `mark_taken` stays at its beginning. The points `erased` have been
    deleted, and those of jobs that exist written again. `has_points` if it has taken any.
    """
    held = {"has_points": True} if has_points else {}
    _update_target(connection, name, **_NO_TROUBLE, **held)
    if through is not None:
        is_next = and_(target.c.taken_through >= through, target.c.sent_through < through)
        _update_target(connection, name, is_next, sent_through=through)
        is_refilled = target.c.refill_through <= target.c.sent_through
        _update_target(connection, name, is_refilled, refill_through=None, refill_since_ns=None)
    for job_id, request in redelivered:
        connection.execute(
            delete(redelivery).where(
                redelivery.c.target == name,
                redelivery.c.job_id == job_id,
                redelivery.c.request == request,
            )
        )
    _mark_rewritten(connection, name, erased)
    sent = {job_id for job_id, _ in redelivered}
    sent |= {line.job_id for line in quarantined} | {item.job_id for item in erased}
    gone = {item.job_id for item in erased}
    connection.execute(
        delete(quarantine).where(
            quarantine.c.target == name,
            or_(
                and_(quarantine.c.job_id.in_(sent), quarantine.c.is_deletion.is_(False)),
                quarantine.c.job_id.in_(gone),
            ),
        )
    )
    _insert_quarantined(connection, name, quarantined, now_ns=now_ns)


def mark_trouble(connection: Connection, name: str, *, trouble: str, now_ns: int) -> None:
    """Note why nothing can be sent to a target, and since when if that is not known yet."""
    since_ns = func.coalesce(target.c.trouble_since_ns, now_ns)
    _update_target(connection, name, trouble=trouble, trouble_since_ns=since_ns)


def request_redelivery(
    connection: Connection, job_ids: Iterable[int], *, targets: Iterable[str], request: int
) -> int:
    """Request that jobs are sent again; return how many have not been deleted."""
    names = list(targets)
    count = 0
    for chunk in in_chunks(job_ids):
        kept = select(job.c.id).where(job.c.id.in_(chunk), job.c.deleted_ns.is_(None))
        ids = list(connection.execute(kept).scalars())
        count += len(ids)
        for name in names:
            connection.execute(
                delete(redelivery).where(redelivery.c.target == name, redelivery.c.job_id.in_(ids))
            )
            if ids:
                connection.execute(
                    insert(redelivery).from_select(
                        ["target", "job_id", "request"],
                        select(literal(name), job.c.id, literal(request)).where(job.c.id.in_(ids)),
                    )
                )
    return count


def pending_redeliveries(connection: Connection, name: str, *, limit: int) -> list[tuple[int, int]]:
    """Return the ids of jobs to be sent again, sorted, each with the request for it.

    Jobs that have not been sent at all are left out: their turn comes anyway.
    """
    rows = connection.execute(
        select(redelivery.c.job_id, redelivery.c.request)
        .join(target, target.c.name == redelivery.c.target)
        .where(redelivery.c.target == name, redelivery.c.job_id <= target.c.sent_through)
        .order_by(redelivery.c.job_id)
        .limit(limit)
    )
    return [(row.job_id, row.request) for row in rows]


def request_erasures(
    connection: Connection, items: Sequence[Erasure], *, targets: Iterable[str]
) -> None:
    """Request that the points of deleted jobs are deleted and none of them is sent."""
    job_ids = [item.job_id for item in items]
    connection.execute(delete(redelivery).where(redelivery.c.job_id.in_(job_ids)))
    connection.execute(delete(quarantine).where(quarantine.c.job_id.in_(job_ids)))
    _add_erasures(connection, {(name, item.job_id): item for name in targets for item in items})


def request_rewriting(
    connection: Connection, items: Iterable[Erasure], *, targets: Container[str] | None = None
) -> None:
    """Request that points are deleted and written again, wherever they may have been sent.

    `targets` are the only ones, unless it is None.

    A point that is only written again keeps the fields that it had; so this is for points that have
    fewer fields than before.
    """
    wanted = {item.job_id: item for item in items}
    if not wanted:
        return
    for name, taken in connection.execute(select(target.c.name, target.c.taken_through)).all():
        if targets is not None and name not in targets:
            continue
        # Of later jobs nothing has been made yet.
        begun = {(name, number): item for number, item in wanted.items() if number <= taken}
        _add_erasures(connection, begun)


def pending_erasures(
    connection: Connection, name: str, *, limit: int, now_ns: int | None = 2**62
) -> list[Erasure]:
    """Return points to delete from a target.

    Jobs that exist and have not been sent at all are left out: their turn comes first. So are those
    that the target refused to delete and that are not due at `now_ns`. If that is None, a refusal
    is for ever, unless somebody asks to try again.
    """
    is_due = erasure.c.again_ns <= AT_ONCE_NS
    if now_ns is not None:
        # A clock that was ahead must not put it off.
        is_far = erasure.c.again_ns > now_ns + LONGEST_REFUSAL_NS
        is_due = or_(erasure.c.again_ns <= now_ns, is_far)
    rows = connection.execute(
        select(erasure, job.c.deleted_ns)
        .join(target, target.c.name == erasure.c.target)
        .join(job, job.c.id == erasure.c.job_id)
        .where(
            erasure.c.target == name,
            is_due,
            or_(job.c.deleted_ns.is_not(None), erasure.c.job_id <= target.c.sent_through),
        )
        .order_by(erasure.c.job_id)
        .limit(limit)
    )
    return [
        Erasure(
            row.job_id,
            row.time_ns,
            tuple(json.loads(row.measurements)),
            is_deleted=row.deleted_ns is not None,
            metrics=tuple(json.loads(row.metrics or "[]")),
            tags=None if row.tags is None else json.loads(row.tags),
        )
        for row in rows
    ]


def redeliveries_of(
    connection: Connection, name: str, job_ids: Sequence[int]
) -> list[tuple[int, int]]:
    """Return those of these jobs that are to be sent again, each with the request for it."""
    rows = connection.execute(
        select(redelivery.c.job_id, redelivery.c.request).where(
            redelivery.c.target == name, redelivery.c.job_id.in_(job_ids)
        )
    )
    return [(row.job_id, row.request) for row in rows]


def mark_erased(connection: Connection, name: str, *, job_ids: Sequence[int]) -> None:
    """Note that a target answers and no longer holds points of these jobs."""
    _update_target(connection, name, **_NO_TROUBLE)
    connection.execute(
        delete(erasure).where(erasure.c.target == name, erasure.c.job_id.in_(job_ids))
    )


def _add_erasures(connection: Connection, wanted: Mapping[tuple[str, int], Erasure]) -> None:
    """Add erasures by target and job to those that wait."""
    merged = dict(wanted)
    for chunk in in_chunks({job_id for _, job_id in wanted}):
        waiting = select(erasure).where(erasure.c.job_id.in_(chunk))
        for row in connection.execute(waiting).all():
            key = (row.target, row.job_id)
            if key not in wanted:
                continue
            names = {*wanted[key].measurements, *json.loads(row.measurements)}
            metrics = {*wanted[key].metrics, *json.loads(row.metrics or "[]")}
            merged[key] = replace(
                wanted[key], measurements=tuple(names), metrics=tuple(sorted(metrics))
            )
            is_row = and_(erasure.c.target == row.target, erasure.c.job_id == row.job_id)
            connection.execute(delete(erasure).where(is_row))
    if merged:
        rows = [
            {
                "target": name,
                "job_id": item.job_id,
                "time_ns": item.time_ns,
                "measurements": json.dumps(sorted(item.measurements)),
                "metrics": json.dumps(item.metrics),
                "tags": None if item.tags is None else json.dumps(dict(item.tags)),
            }
            for (name, _), item in merged.items()
        ]
        connection.execute(insert(erasure), rows)


def _mark_rewritten(connection: Connection, name: str, erased: Sequence[Erasure]) -> None:
    """Delete the requests for erasures, except those that were made anew meanwhile.

    A job has then been deleted, is to be sent again, or has to lose more points.
    """
    for item in erased:
        deleted_ns = job.c.deleted_ns
        is_same = deleted_ns.is_not(None) if item.is_deleted else deleted_ns.is_(None)
        connection.execute(
            delete(erasure).where(
                erasure.c.target == name,
                erasure.c.job_id == item.job_id,
                erasure.c.measurements == json.dumps(item.measurements),
                exists().where(job.c.id == item.job_id, is_same),
                ~_IS_ASKED_AGAIN,
            )
        )


def mark_told(
    connection: Connection,
    name: str,
    *,
    through: int,
    redelivered: Sequence[tuple[int, int]],
    erased: Sequence[Erasure],
    quarantined: Sequence[Quarantined],
    now_ns: int,
) -> None:
    """Note that a target knows what jobs through `through`, and these changes, have changed.

    Such a target holds no points, so the list of tags may change, and a refill does not reset it.
    """
    mark_sent(
        connection,
        name,
        through=None,
        redelivered=redelivered,
        quarantined=quarantined,
        now_ns=now_ns,
        erased=erased,
    )
    _update_target(connection, name, target.c.sent_through < through, sent_through=through)


def _update_target(
    connection: Connection, name: str, *conditions: ColumnElement[bool], **values: Any
) -> bool:
    """Update a target if it meets the conditions; return whether it does."""
    rows = update(target).where(target.c.name == name, *conditions).values(**values)
    return connection.execute(rows).rowcount == 1


def _insert_quarantined(
    connection: Connection, name: str, quarantined: Sequence[Quarantined], *, now_ns: int
) -> None:
    """Keep refused lines, except those of jobs that were deleted while being sent."""
    job_ids = {item.job_id for item in quarantined}
    kept = set(
        connection.execute(
            select(job.c.id).where(job.c.id.in_(job_ids), job.c.deleted_ns.is_(None))
        ).scalars()
    )
    rows = [
        {"target": name, "created_ns": now_ns, **asdict(item)}
        for item in quarantined
        if item.job_id in kept
    ]
    if rows:
        connection.execute(insert(quarantine), rows)


_TARGET = select_rows(target, TargetRow)
_IS_ASKED_AGAIN = exists().where(
    redelivery.c.target == erasure.c.target, redelivery.c.job_id == erasure.c.job_id
)
_NO_TROUBLE = {"trouble": None, "trouble_since_ns": None}
_IS_REFUSED = erasure.c.again_ns > 0
_LATELY_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class JobDelivery:
    """A job's state at one target; `reasons` are those that InfluxDB gave for refusing."""

    target: str
    state: DeliveryState
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for a target. `oldest_ns` is when the first waiting job was received.

    `undeleted` are jobs whose points it refuses to delete, `undeleted_reason` is why. While it is
    filled again because it had lost its points, `refill_since_ns` says since when. Of the
    `quarantined` lines, `refused_lately` came in the last hour.
    """

    target: str
    waiting: int
    oldest_ns: int | None
    quarantined: int
    trouble: str | None
    trouble_since_ns: int | None
    undeleted: int = 0
    undeleted_reason: str | None = None
    refill_since_ns: int | None = None
    refused_lately: int = 0


def job_deliveries(
    connection: Connection, row: JobRow, *, targets: Sequence[str]
) -> list[JobDelivery]:
    """Return the state of a job at each target."""
    return [_job_delivery(connection, row, name) for name in targets]


def backlogs(
    connection: Connection, *, targets: Sequence[str], now_ns: int = 2**62
) -> list[Backlog]:
    """Return what waits for each target; without `now_ns` nothing was `refused_lately`."""
    return [_backlog(connection, name, now_ns) for name in targets]


def undeleted_jobs(connection: Connection, name: str) -> int:
    """Return how many jobs have points that a target refuses to delete."""
    return _count(connection, erasure, name, _IS_REFUSED)


def _job_delivery(connection: Connection, row: JobRow, name: str) -> JobDelivery:
    again = [
        connection.execute(
            select(table.c.job_id).where(
                table.c.target == name, table.c.job_id == row.job_id, *conditions
            )
        ).first()
        for table, conditions in ((redelivery, ()), (erasure, (~_IS_REFUSED,)))
    ]
    reasons = tuple(
        connection.execute(
            select(quarantine.c.reason)
            .where(quarantine.c.target == name, quarantine.c.job_id == row.job_id)
            .order_by(quarantine.c.id)
        ).scalars()
    )
    progress = get_target(connection, name)
    state: DeliveryState
    if any(again):
        state = "PENDING"
    elif reasons:
        state = "FAILURE"
    elif progress.sent_through >= row.job_id or not row.is_deliverable:
        state = "SUCCESS"
    else:
        state = "STARTED" if progress.taken_through >= row.job_id else "PENDING"
    return JobDelivery(name, state, reasons)


def _backlog(connection: Connection, name: str, now_ns: int) -> Backlog:
    progress = get_target(connection, name)
    fresh = connection.execute(
        select(func.count(), func.min(job.c.received_ns)).where(job.c.id > progress.sent_through)
    ).one()
    # Those that have not been sent at all are counted above.
    again = _count(connection, redelivery, name, redelivery.c.job_id <= progress.sent_through)
    undeleted = undeleted_jobs(connection, name)
    is_kept = quarantine.c.dropped_ns.is_(None)
    is_late = quarantine.c.created_ns > now_ns - _LATELY_NS
    why = select(quarantine.c.reason).where(quarantine.c.target == name, quarantine.c.is_deletion)
    return Backlog(
        name,
        fresh[0] + again + _count(connection, erasure, name, ~_IS_ASKED_AGAIN, ~_IS_REFUSED),
        fresh[1],
        _count(connection, quarantine, name, is_kept),
        progress.trouble,
        progress.trouble_since_ns,
        undeleted,
        connection.execute(why.limit(1)).scalar() if undeleted else None,
        progress.refill_since_ns,
        _count(connection, quarantine, name, is_kept, is_late),
    )


def _count(
    connection: Connection, table: Table, name: str, *conditions: ColumnElement[bool]
) -> int:
    query = select(func.count()).select_from(table).where(table.c.target == name, *conditions)
    return int(connection.execute(query).scalar_one())
