"""Counts over the whole record."""

from sqlalchemy import Connection, func, select

from squash_api.record.tables import job


def last_job_received_ns(connection: Connection) -> int | None:
    """Return when the newest job was received, or None if there is no job."""
    return connection.execute(
        select(job.c.received_ns)
        .where(job.c.deleted_ns.is_(None))
        .order_by(job.c.id.desc())
        .limit(1)
    ).scalar_one_or_none()


def number_of_jobs(connection: Connection) -> int:
    """Return how many jobs there are, deleted ones left out."""
    total = connection.execute(select(func.count()).select_from(job)).scalar_one()
    deleted = connection.execute(
        select(func.count()).select_from(job).where(job.c.deleted_ns.is_not(None))
    ).scalar_one()
    return int(total - deleted)
