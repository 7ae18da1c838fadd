"""The newest jobs, for those who want to hear of each."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from squash_api.record.tables import job, job_run


@dataclass(frozen=True, slots=True)
class JobNews:
    """A job that has come, and how many metrics it measures."""

    job_id: int
    metrics: int


def news_between(connection: Connection, *, after: int, through: int, limit: int) -> list[JobNews]:
    """Return the last jobs after one id and through another, by id; deleted ones are left out.

    The runs of the jobs are derived already; one that is not has no metrics yet.
    """
    wanted = {"after": after, "through": through, "limit": limit}
    rows = connection.execute(_NEWS, wanted).all()
    return [JobNews(*row) for row in reversed(rows)]


_NEWS = (
    select(job.c.id, func.coalesce(job_run.c.measurement_count, 0))
    .select_from(job.join(job_run, job_run.c.job_id == job.c.id, isouter=True))
    .where(
        job.c.id > bindparam("after"),
        job.c.id <= bindparam("through"),
        job.c.deleted_ns.is_(None),
    )
    .order_by(job.c.id.desc())
    .limit(bindparam("limit"))
)
