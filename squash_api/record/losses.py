"""What the database of a target should hold by now, and beginning again when it has lost it."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, exists, func, select, update

from squash_api.record.deliveries import get_target
from squash_api.record.tables import erasure, job, quarantine, redelivery, target


def begin_again(
    connection: Connection, name: str, *, now_ns: int, is_able_to_delete: bool = True
) -> int:
    """Begin a target, whose database has lost its points, with the first job again.

    Returns how many jobs it had; 0 if it has begun again already. Points that are to be deleted
    still are, in case it has not lost all, if it is able to: else they are taken for lost too.
    """
    row = get_target(connection, name)
    if not row.has_points:
        return 0
    for table in (redelivery, quarantine):
        connection.execute(delete(table).where(table.c.target == name))
    if is_able_to_delete:
        # Why it refused is gone with the quarantine, and it may not refuse again.
        afresh = {"refusals": 0, "again_ns": 0}
        connection.execute(update(erasure).where(erasure.c.target == name).values(afresh))
    else:
        connection.execute(delete(erasure).where(erasure.c.target == name))
    through = max(row.sent_through, row.refill_through or 0)
    again = {
        "sent_through": 0,
        "taken_through": 0,
        "has_points": False,
        "refill_through": through,
        "refill_since_ns": row.refill_since_ns or now_ns,
    }
    connection.execute(update(target).where(target.c.name == name).values(again))
    lost = select(func.count()).where(job.c.id <= through, job.c.deleted_ns.is_(None))
    return int(connection.execute(lost).scalar_one())


def job_with_points(
    connection: Connection, name: str, *, since_ns: int = 0, is_oldest: bool = False
) -> int | None:
    """Return the last, or first, job of this time or later whose points a target should hold."""
    is_refused = exists().where(quarantine.c.target == name, quarantine.c.job_id == job.c.id)
    sent_through = select(target.c.sent_through).where(target.c.name == name).scalar_subquery()
    query = (
        select(job.c.id)
        .where(
            job.c.id <= sent_through,
            job.c.deleted_ns.is_(None),
            job.c.is_deliverable,
            job.c.time_ns >= since_ns,
            ~is_refused,
        )
        .order_by(job.c.id if is_oldest else job.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def waiting_jobs(connection: Connection, name: str, job_ids: Sequence[int]) -> set[int]:
    """Return those of these jobs of which a target does not have the present state yet.

    What it refuses to delete does not wait.
    """
    sent_through = get_target(connection, name).sent_through
    found = {job_id for job_id in job_ids if job_id > sent_through}
    for table, conditions in ((redelivery, ()), (erasure, (erasure.c.again_ns == 0,))):
        query = select(table.c.job_id).where(
            table.c.target == name, table.c.job_id.in_(job_ids), *conditions
        )
        found.update(connection.execute(query).scalars())
    return found


def times_to_erase(connection: Connection, name: str) -> set[int]:
    """Return the times (ns) of all points that a target is still to delete, and does not refuse."""
    query = select(erasure.c.time_ns).where(erasure.c.target == name, erasure.c.again_ns == 0)
    return set(connection.execute(query).scalars())
