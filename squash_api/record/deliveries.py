"""Delivery, as the record knows it: how far each target is, and what it waits for and refused."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, case, delete, func, insert, literal, or_, select, update

from squash_api.record.bulk import in_chunks
from squash_api.record.jobs import JobRow
from squash_api.record.tables import erasure, job, quarantine, redelivery, target


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target. `trouble` says why nothing goes out at the moment; None if all is well."""

    name: str
    sent_through: int
    taken_through: int
    lease_owner: str | None
    lease_until_ns: int
    trouble: str | None
    trouble_since_ns: int | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """Points to delete: those of one job, by their exact time."""

    job_id: int
    time_ns: int
    measurements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A line that InfluxDB refused for good, with its words."""

    job_id: int
    measurement: str
    line: str
    reason: str


def ensure_targets(connection: Connection, names: Iterable[str]) -> None:
    """Make the targets known. A new one begins with the first job."""
    known = set(connection.execute(select(target.c.name)).scalars())
    rows = [{"name": name} for name in names if name not in known]
    if rows:
        connection.execute(insert(target), rows)


def target_names(connection: Connection) -> list[str]:
    """Return the names of all targets that have ever been known."""
    return list(connection.execute(select(target.c.name).order_by(target.c.name)).scalars())


def get_target(connection: Connection, name: str) -> TargetRow:
    """Return a target that `ensure_targets` has made known."""
    row = connection.execute(_TARGET.where(target.c.name == name)).one()
    return TargetRow(*row)


def has_sent_any(connection: Connection) -> bool:
    """Tell whether a target may hold points already."""
    query = select(target.c.name).where(target.c.taken_through > 0).limit(1)
    return connection.execute(query).first() is not None


def reset_target(connection: Connection, name: str) -> None:
    """Let a target begin anew with the first job; its database holds nothing."""
    for table in (redelivery, quarantine, erasure):
        connection.execute(delete(table).where(table.c.target == name))
    connection.execute(
        update(target).where(target.c.name == name).values(sent_through=0, taken_through=0)
    )


def take_lease(
    connection: Connection, name: str, *, owner: str, now_ns: int, until_ns: int
) -> bool:
    """Take or renew the right to send to a target; False if another holds it."""
    taken = connection.execute(
        update(target)
        .where(
            target.c.name == name,
            or_(target.c.lease_owner == owner, target.c.lease_until_ns < now_ns),
        )
        .values(lease_owner=owner, lease_until_ns=until_ns)
    )
    return taken.rowcount == 1


def release_lease(connection: Connection, name: str, *, owner: str) -> None:
    """Give the right back, so that a standby need not wait for it to expire."""
    connection.execute(
        update(target)
        .where(target.c.name == name, target.c.lease_owner == owner)
        .values(lease_owner=None, lease_until_ns=0)
    )


def mark_taken(connection: Connection, name: str, *, after: int, through: int) -> bool:
    """Note that the jobs after one up to another have been taken in hand.

    False if the target has been reset since it was at the job `after`; then nothing is noted.
    """
    taken = connection.execute(
        update(target)
        .where(target.c.name == name, target.c.taken_through >= after)
        .values(
            taken_through=case(
                (target.c.taken_through < through, through), else_=target.c.taken_through
            )
        )
    )
    return taken.rowcount == 1


def mark_sent(
    connection: Connection,
    name: str,
    *,
    through: int | None,
    redelivered: Sequence[tuple[int, int]],
    quarantined: Sequence[Quarantined],
    now_ns: int,
) -> None:
    """Note what a target has taken: jobs up to one, jobs sent again, and what it refused.

    A target that was reset since `mark_taken` stays at its beginning.
    """
    _clear_trouble(connection, name)
    if through is not None:
        connection.execute(
            update(target)
            .where(
                target.c.name == name,
                target.c.taken_through >= through,
                target.c.sent_through < through,
            )
            .values(sent_through=through)
        )
    for job_id, request in redelivered:
        connection.execute(
            delete(redelivery).where(
                redelivery.c.target == name,
                redelivery.c.job_id == job_id,
                redelivery.c.request == request,
            )
        )
    sent = {job_id for job_id, _ in redelivered} | {item.job_id for item in quarantined}
    connection.execute(
        delete(quarantine).where(quarantine.c.target == name, quarantine.c.job_id.in_(sent))
    )
    _insert_quarantined(connection, name, quarantined, now_ns=now_ns)


def mark_trouble(connection: Connection, name: str, *, trouble: str, now_ns: int) -> None:
    """Note why nothing goes out to a target; since when is kept from the first time."""
    connection.execute(
        update(target)
        .where(target.c.name == name)
        .values(
            trouble=trouble,
            trouble_since_ns=func.coalesce(target.c.trouble_since_ns, now_ns),
        )
    )


def request_redelivery(
    connection: Connection, job_ids: Iterable[int], *, targets: Iterable[str], request: int
) -> int:
    """Ask for jobs to be sent again; return how many there are that have not been deleted."""
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
    """Return jobs to be sent again, by id, each with the request for it.

    Jobs that the target has not had at all come in their turn, not here.
    """
    rows = connection.execute(
        select(redelivery.c.job_id, redelivery.c.request)
        .join(target, target.c.name == redelivery.c.target)
        .where(redelivery.c.target == name, redelivery.c.job_id <= target.c.sent_through)
        .order_by(redelivery.c.job_id)
        .limit(limit)
    )
    return [(row.job_id, row.request) for row in rows]


def request_erasure(connection: Connection, item: Erasure, *, targets: Iterable[str]) -> None:
    """Ask for a deleted job's points to be deleted, and for nothing of it to be sent."""
    connection.execute(delete(redelivery).where(redelivery.c.job_id == item.job_id))
    connection.execute(delete(quarantine).where(quarantine.c.job_id == item.job_id))
    for name in targets:
        connection.execute(
            insert(erasure).values(
                target=name,
                job_id=item.job_id,
                time_ns=item.time_ns,
                measurements=json.dumps(item.measurements),
            )
        )


def pending_erasures(connection: Connection, name: str, *, limit: int) -> list[Erasure]:
    """Return points to delete from a target."""
    rows = connection.execute(
        select(erasure.c.job_id, erasure.c.time_ns, erasure.c.measurements)
        .where(erasure.c.target == name)
        .order_by(erasure.c.job_id)
        .limit(limit)
    )
    return [Erasure(row.job_id, row.time_ns, tuple(json.loads(row.measurements))) for row in rows]


def mark_erased(connection: Connection, name: str, *, job_ids: Sequence[int]) -> None:
    """Note that a target holds no points of these jobs any more, and that it answers."""
    _clear_trouble(connection, name)
    connection.execute(
        delete(erasure).where(erasure.c.target == name, erasure.c.job_id.in_(job_ids))
    )


def _clear_trouble(connection: Connection, name: str) -> None:
    connection.execute(
        update(target).where(target.c.name == name).values(trouble=None, trouble_since_ns=None)
    )


def _insert_quarantined(
    connection: Connection, name: str, quarantined: Sequence[Quarantined], *, now_ns: int
) -> None:
    """Keep refused lines, but for those of jobs that were deleted while they were sent."""
    job_ids = {item.job_id for item in quarantined}
    kept = set(
        connection.execute(
            select(job.c.id).where(job.c.id.in_(job_ids), job.c.deleted_ns.is_(None))
        ).scalars()
    )
    rows = [
        {
            "target": name,
            "job_id": item.job_id,
            "measurement": item.measurement,
            "line": item.line,
            "reason": item.reason,
            "created_ns": now_ns,
        }
        for item in quarantined
        if item.job_id in kept
    ]
    if rows:
        connection.execute(insert(quarantine), rows)


_TARGET = select(
    target.c.name,
    target.c.sent_through,
    target.c.taken_through,
    target.c.lease_owner,
    target.c.lease_until_ns,
    target.c.trouble,
    target.c.trouble_since_ns,
)


DeliveryState = Literal["SUCCESS", "FAILURE", "PENDING", "STARTED"]


@dataclass(frozen=True, slots=True)
class JobDelivery:
    """A job's state at one target; `reasons` are InfluxDB's words for what it refused."""

    target: str
    state: DeliveryState
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a target waits for. `oldest_ns` is when the first waiting job was received."""

    target: str
    waiting: int
    oldest_ns: int | None
    quarantined: int
    trouble: str | None
    trouble_since_ns: int | None


def job_deliveries(
    connection: Connection, row: JobRow, *, targets: Sequence[str]
) -> list[JobDelivery]:
    """Return the state of a job at each target."""
    return [_job_delivery(connection, row, name) for name in targets]


def backlogs(connection: Connection, *, targets: Sequence[str]) -> list[Backlog]:
    """Return what each target waits for."""
    return [_backlog(connection, name) for name in targets]


def _job_delivery(connection: Connection, row: JobRow, name: str) -> JobDelivery:
    again = connection.execute(
        select(redelivery.c.job_id).where(
            redelivery.c.target == name, redelivery.c.job_id == row.job_id
        )
    ).first()
    reasons = tuple(
        connection.execute(
            select(quarantine.c.reason)
            .where(quarantine.c.target == name, quarantine.c.job_id == row.job_id)
            .order_by(quarantine.c.id)
        ).scalars()
    )
    progress = get_target(connection, name)
    state: DeliveryState
    if again is not None:
        state = "PENDING"
    elif reasons:
        state = "FAILURE"
    elif progress.sent_through >= row.job_id or not row.is_deliverable:
        state = "SUCCESS"
    else:
        state = "STARTED" if progress.taken_through >= row.job_id else "PENDING"
    return JobDelivery(name, state, reasons)


def _backlog(connection: Connection, name: str) -> Backlog:
    progress = get_target(connection, name)
    fresh = connection.execute(
        select(func.count(), func.min(job.c.received_ns)).where(job.c.id > progress.sent_through)
    ).one()
    # Those that have not been sent at all are counted above.
    again = connection.execute(
        select(func.count())
        .select_from(redelivery)
        .where(redelivery.c.target == name, redelivery.c.job_id <= progress.sent_through)
    ).scalar_one()
    erasures = connection.execute(
        select(func.count()).select_from(erasure).where(erasure.c.target == name)
    ).scalar_one()
    quarantined = connection.execute(
        select(func.count()).select_from(quarantine).where(quarantine.c.target == name)
    ).scalar_one()
    return Backlog(
        name,
        fresh[0] + again + erasures,
        fresh[1],
        quarantined,
        progress.trouble,
        progress.trouble_since_ns,
    )
