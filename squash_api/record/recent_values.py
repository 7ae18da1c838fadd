"""The last values of a metric, whatever their age."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from squash_api.record.tables import job_context, measurement


def recent_values(
    connection: Connection, metric_id: int, tag_set_ids: Iterable[int], *, limit: int
) -> list[tuple[int, float]]:
    """Return time (ns) and value of the newest values among jobs with these tags, oldest first."""
    found: list[tuple[int, float]] = []
    # One set at a time: an index has the jobs of a set in the order of their times.
    for tag_set_id in tag_set_ids:
        series = {"metric": metric_id, "tags": tag_set_id, "limit": limit}
        found.extend((row.time_ns, row.value) for row in connection.execute(_OF_SET, series))
    return sorted(found)[-limit:]


def last_job_with_value(connection: Connection, metric_id: int) -> int | None:
    """Return the job received last in which a metric has a value, or None if it never had one."""
    return connection.execute(_LAST_JOB, {"metric": metric_id}).scalar_one_or_none()


def tag_sets_of(connection: Connection, job_ids: Iterable[int]) -> set[int]:
    """Return the ids of the sets of tags of these jobs, those deleted left out."""
    query = select(job_context.c.tag_set_id).where(
        job_context.c.job_id.in_(list(job_ids)), job_context.c.tag_set_id.is_not(None)
    )
    return set(connection.execute(query).scalars())


_OF_SET = (
    select(job_context.c.time_ns, measurement.c.value)
    .select_from(job_context.join(measurement, measurement.c.job_id == job_context.c.job_id))
    .where(
        job_context.c.tag_set_id == bindparam("tags"),
        measurement.c.metric_id == bindparam("metric"),
        measurement.c.value.is_not(None),
    )
    .order_by(job_context.c.time_ns.desc())
    .limit(bindparam("limit"))
)
_LAST_JOB = (
    select(measurement.c.job_id)
    .select_from(measurement.join(job_context, job_context.c.job_id == measurement.c.job_id))
    .where(
        measurement.c.metric_id == bindparam("metric"),
        measurement.c.value.is_not(None),
        job_context.c.tag_set_id.is_not(None),
    )
    .order_by(measurement.c.job_id.desc())
    .limit(1)
)
