"""The newest value of each metric for each set of tags, found in the index of measurements.

The last values of a metric, whatever their age.

The values of one metric as plain rows, and the sets of tags that it was measured with.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, FromClause, Select, bindparam, func, literal, select

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


# More of them are looked for beside SQL.
_MOST_SETS_IN_SQL = 500
_ROWS_CHUNK = 1000
_BATCH = 50_000
# Times may be a day ahead of their receipt.
_DAY_NS = 86_400 * 10**9

# Job, its time (ns), its set of tags, the value, and what else is asked for: the other metadata
# as JSON, or the value of another metric.
TrendRow = tuple[int, int, int, float, Any]


def trend_rows(
    connection: Connection,
    metric_id: int,
    *,
    since_ns: int | None,
    tag_sets: Collection[int] | None,
    other_id: int | None = None,
    has_fields: bool = False,
) -> Iterator[list[TrendRow]]:
    """Yield the values of a metric in the order of arrival, some at a time.

    Parameters
    ----------
    since_ns
        Only values of this time or later.
    tag_sets
        Only values of jobs with one of these sets of tags; None makes no difference.
    other_id
        A metric whose value is wanted beside each; None where there is none.
    has_fields
        Whether the other metadata is wanted instead.
    """
    query = _rows(other_id, has_fields=has_fields).where(measurement.c.metric_id == metric_id)
    after = 0
    if since_ns is not None:
        first = first_job_since(connection, since_ns - _DAY_NS)
        if first is None:
            return
        after = first - 1
        query = query.where(job_context.c.time_ns >= since_ns)
    if tag_sets is not None and len(tag_sets) <= _MOST_SETS_IN_SQL:
        query = query.where(job_context.c.tag_set_id.in_(sorted(tag_sets)))
        tag_sets = None
    while True:
        page = query.where(measurement.c.job_id > after).limit(_BATCH)
        rows: list[Any] = list(connection.execute(page).all())
        yield [row for row in rows if row[2] in tag_sets] if tag_sets is not None else rows
        if len(rows) < _BATCH:
            return
        after = rows[-1][0]


class LastValue(NamedTuple):
    """A value of a metric, and its job."""

    job_id: int
    value: float
    tag_set_id: int


def last_values(
    connection: Connection, metric_id: int, *, tag_sets: Collection[int] | None, limit: int
) -> list[LastValue]:
    """Return the values that were received last, the newest first.

    Parameters
    ----------
    tag_sets
        Only values of jobs with one of these sets of tags; None makes no difference.
    """
    query = _LAST_VALUES.where(measurement.c.metric_id == metric_id)
    if tag_sets is not None and len(tag_sets) <= _MOST_SETS_IN_SQL:
        query = query.where(job_context.c.tag_set_id.in_(sorted(tag_sets)))
        tag_sets = None
    found: list[LastValue] = []
    before: int | None = None
    while len(found) < limit:
        page = query if before is None else query.where(measurement.c.job_id < before)
        size = limit if tag_sets is None else _ROWS_CHUNK
        rows = [LastValue(*row) for row in connection.execute(page.limit(size))]
        found += [row for row in rows if tag_sets is None or row.tag_set_id in tag_sets]
        if len(rows) < size:
            break
        before = rows[-1].job_id
    return found[:limit]


def tag_sets_measured(
    connection: Connection, metric_id: int, *, after: int, through: int
) -> set[int]:
    """Return the sets of tags with which a metric was measured, after one job through another."""
    query = (
        select(job_context.c.tag_set_id)
        .select_from(_IN_CONTEXT)
        .where(
            measurement.c.metric_id == metric_id,
            measurement.c.job_id > after,
            measurement.c.job_id <= through,
            *_HAS_VALUE,
        )
        .distinct()
    )
    return set(connection.execute(query).scalars())


def _rows(other_id: int | None, *, has_fields: bool) -> Select[Any]:
    """Return the query for the rows; none with values of a metric that is not there."""
    other: Any = literal(None)
    table: FromClause = _IN_CONTEXT
    if other_id is not None:
        beside = measurement.alias()
        other = beside.c.value
        is_beside = (beside.c.job_id == measurement.c.job_id) & (beside.c.metric_id == other_id)
        table = table.join(beside, is_beside, isouter=True)
    elif has_fields:
        other = job_context.c.fields
    return (
        select(
            measurement.c.job_id,
            job_context.c.time_ns,
            job_context.c.tag_set_id,
            measurement.c.value,
            other,
        )
        .select_from(table)
        .where(*_HAS_VALUE)
        .order_by(measurement.c.job_id)
    )


_LAST_VALUES = (
    select(measurement.c.job_id, measurement.c.value, job_context.c.tag_set_id)
    .select_from(_IN_CONTEXT)
    .where(*_HAS_VALUE)
    .order_by(measurement.c.job_id.desc())
)
