"""The newest value of each metric for each set of tags, found in the index of measurements."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from squash_api.record.tables import job_context, measurement, rederivation

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Latest:
    """Where the newest values of a metric are, among jobs with one set of tags.

    `time_ns` is the latest time of a value, which no two jobs share; `job_id` is of the value that
    was received last.
    """

    metric_id: int
    tag_set_id: int
    time_ns: int
    job_id: int


def first_job_since(connection: Connection, received_ns: int) -> int | None:
    """Return the first job in the index that was received at this time or later, or None."""
    return connection.execute(
        select(func.min(job_context.c.job_id)).where(job_context.c.received_ns >= received_ns)
    ).scalar_one_or_none()


def last_indexed_job(connection: Connection) -> int:
    """Return the highest id of a job in the index; 0 if there is none."""
    query = select(func.coalesce(func.max(job_context.c.job_id), 0))
    return int(connection.execute(query).scalar_one())


def latest_between(
    connection: Connection, metric_ids: Sequence[int], *, after: int, through: int
) -> list[Latest]:
    """Return where the newest values are among the jobs after one id and through another."""
    limits = {"after": after, "through": through}
    return [
        Latest(*row)
        for chunk in _chunks(metric_ids)
        for row in connection.execute(_LATEST_BETWEEN, {"metrics": chunk, **limits})
    ]


def latest_among(
    connection: Connection, metric_ids: Sequence[int], job_ids: Iterable[int]
) -> list[Latest]:
    """Return where the newest values are among these jobs; a series may appear repeatedly."""
    jobs = sorted(job_ids)
    return [
        Latest(*row)
        for some_jobs in _chunks(jobs)
        for some_metrics in _chunks(metric_ids)
        for row in connection.execute(_LATEST_AMONG, {"metrics": some_metrics, "jobs": some_jobs})
    ]


def latest_of(
    connection: Connection, metric_id: int, tag_set_id: int, *, after: int
) -> Latest | None:
    """Return where the newest values of one metric and set of tags are, or None if it has none.

    Only jobs after the id `after` count.
    """
    series = {"metric": metric_id, "tags": tag_set_id, "after": after}
    newest = connection.execute(_NEWEST, series).first()
    if newest is None:
        return None
    job_id = connection.execute(_LAST_RECEIVED, series).scalar_one()
    return Latest(metric_id, tag_set_id, newest.time_ns, job_id)


def jobs_at(connection: Connection, times: Iterable[int]) -> dict[int, int]:
    """Return the jobs in the index that have these times (ns), by time."""
    return {
        row.time_ns: row.job_id
        for chunk in _chunks(sorted(set(times)))
        for row in connection.execute(_JOBS_AT, {"times": chunk})
    }


def values_of(connection: Connection, metric_id: int, job_ids: Iterable[int]) -> dict[int, float]:
    """Return a metric's values in these jobs, by job; those without a value are left out."""
    return {
        row.job_id: row.value
        for chunk in _chunks(sorted(set(job_ids)))
        for row in connection.execute(_VALUES, {"metric": metric_id, "jobs": chunk})
    }


def jobs_with_value(
    connection: Connection, metric_id: int, *, after: int, through: int, limit: int
) -> list[int]:
    """Return jobs in which a metric has a value, after one id and through another, by id."""
    return list(
        connection.execute(
            select(measurement.c.job_id)
            .where(
                measurement.c.metric_id == metric_id,
                measurement.c.job_id > after,
                measurement.c.job_id <= through,
                measurement.c.value.is_not(None),
            )
            .order_by(measurement.c.job_id)
            .limit(limit)
        ).scalars()
    )


def being_rederived(connection: Connection, job_ids: Iterable[int]) -> set[int]:
    """Return those of these jobs whose values may be in a unit that is no more."""
    query = select(rederivation.c.job_id)
    return {
        found
        for chunk in _chunks(sorted(set(job_ids)))
        for found in connection.execute(query.where(rederivation.c.job_id.in_(chunk))).scalars()
    }


_IN_CONTEXT = measurement.join(job_context, job_context.c.job_id == measurement.c.job_id)
_HAS_VALUE = (measurement.c.value.is_not(None), job_context.c.tag_set_id.is_not(None))
_ONE_SERIES = (
    *_HAS_VALUE,
    measurement.c.metric_id == bindparam("metric"),
    measurement.c.job_id > bindparam("after"),
    job_context.c.tag_set_id == bindparam("tags"),
)


def _latest(*where: Any) -> Select[Any]:
    return (
        select(
            measurement.c.metric_id,
            job_context.c.tag_set_id,
            func.max(job_context.c.time_ns),
            func.max(measurement.c.job_id),
        )
        .select_from(_IN_CONTEXT)
        .where(
            measurement.c.metric_id.in_(bindparam("metrics", expanding=True)), *_HAS_VALUE, *where
        )
        .group_by(measurement.c.metric_id, job_context.c.tag_set_id)
    )


_LATEST_BETWEEN = _latest(
    measurement.c.job_id > bindparam("after"), measurement.c.job_id <= bindparam("through")
)
_LATEST_AMONG = _latest(measurement.c.job_id.in_(bindparam("jobs", expanding=True)))
_NEWEST = (
    select(job_context.c.time_ns)
    .select_from(_IN_CONTEXT)
    .where(*_ONE_SERIES)
    .order_by(job_context.c.time_ns.desc())
    .limit(1)
)
_LAST_RECEIVED = (
    select(measurement.c.job_id)
    .select_from(_IN_CONTEXT)
    .where(*_ONE_SERIES)
    .order_by(measurement.c.job_id.desc())
    .limit(1)
)
_JOBS_AT = select(job_context.c.time_ns, job_context.c.job_id).where(
    job_context.c.time_ns.in_(bindparam("times", expanding=True)),
    job_context.c.tag_set_id.is_not(None),
)
_VALUES = select(measurement.c.job_id, measurement.c.value).where(
    measurement.c.metric_id == bindparam("metric"),
    measurement.c.job_id.in_(bindparam("jobs", expanding=True)),
    measurement.c.value.is_not(None),
)


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
