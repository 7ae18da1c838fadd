"""The values of metrics, the jobs that they are in, and the tags of those jobs."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    FromClause,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal,
    select,
)

from squash_api.index.contexts import Contexts
from squash_api.record.bulk import in_chunks, is_wanted, rows_of
from squash_api.record.tables import job_context, measurement, metric, rederivation

# Stepping to the next row costs this many times less than looking one up.
_STEPS_OF_A_SEEK = 8
# If there are more sets of tags, rows are filtered after they have been read.
_MOST_SETS_IN_SQL = 500
_ROWS_CHUNK = 1000
_BATCH = 50_000
# Times may be a day ahead of their receipt.
_DAY_NS = 86_400 * 10**9

TrendRow = tuple[int, int, int, float, Any]
"""Job, its time (ns), its set of tags, the value, and what else is asked for.

The last is the other metadata as JSON, or the value of another metric.
"""


@dataclass(frozen=True, slots=True)
class Latest:
    """Where the newest values of a metric are, among jobs with one set of tags.

    `time_ns` is the latest time of a value, which no two jobs share; `job_id` is the job of the
    value that was received last; both are 0 if there is no value. `absent_ns` is the latest time of
    a job that names the metric without a value that can be used; 0 if there is none.
    """

    metric_id: int
    tag_set_id: int
    time_ns: int
    job_id: int
    absent_ns: int = 0


class LastValue(NamedTuple):
    """A value of a metric, None if it is absent, and its job."""

    job_id: int
    value: float | None
    tag_set_id: int
    time_ns: int


class Values:
    """Reads values of metrics from the index, which has none of deleted jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def in_jobs(
        self, metric_ids: Iterable[int], job_ids: Iterable[int], *, has_absent: bool = True
    ) -> Iterator[tuple[int, int, float | None]]:
        """Yield metric, job and value, also of other jobs where that is quicker.

        An absent value is None, or is left out without `has_absent`.
        """
        metrics = list(in_chunks(metric_ids))
        query = _VALUES if has_absent else _PRESENT_VALUES
        for jobs in in_chunks(job_ids):
            first, last = jobs[0], jobs[-1]
            if last - first < _STEPS_OF_A_SEEK * len(jobs):
                chosen = measurement.c.job_id.between(first, last)
            else:
                chosen = measurement.c.job_id.in_(jobs)
            for some in metrics:
                rows: Any = self._connection.execute(
                    query.where(measurement.c.metric_id.in_(some), chosen)
                ).all()
                yield from rows

    def of_metric(self, metric_id: int, job_ids: Iterable[int]) -> dict[int, float]:
        """Return a metric's values in these jobs, by job; those without a value are left out."""
        rows = rows_of(self._connection, _OF_METRIC, job_ids, metric=metric_id)
        return {row.job_id: row.value for row in rows}

    def latest_between(
        self, metric_ids: Iterable[int], *, after: int, through: int
    ) -> list[Latest]:
        """Return where the newest values are among the jobs after one id and through another."""
        limits = {"after": after, "through": through}
        rows = rows_of(self._connection, _LATEST_BETWEEN, metric_ids, **limits)
        return [Latest(*row) for row in rows]

    def latest_among(self, metric_ids: Iterable[int], job_ids: Iterable[int]) -> list[Latest]:
        """Return where the newest values are among these jobs; a series may appear repeatedly."""
        metrics = list(metric_ids)
        return [
            Latest(*row)
            for jobs in in_chunks(job_ids)
            for row in rows_of(self._connection, _LATEST_AMONG, metrics, jobs=jobs)
        ]

    def latest_of(self, metric_id: int, tag_set_id: int, *, after: int) -> Latest | None:
        """Return where the newest values of one metric and set of tags are, if anywhere.

        Only jobs after the id `after` count.
        """
        series = {"metric": metric_id, "tags": tag_set_id, "after": after}
        found = [
            self._connection.execute(query, series).scalar_one_or_none() or 0
            for query in (_NEWEST, _LAST_RECEIVED, _NEWEST_ABSENT)
        ]
        return Latest(metric_id, tag_set_id, *found) if any(found) else None

    def jobs_with(self, metric_id: int, *, after: int, through: int, limit: int) -> list[int]:
        """Return jobs in which a metric has a value, after one id and through another."""
        limits = {"metric": metric_id, "after": after, "through": through, "limit": limit}
        return list(self._connection.execute(_JOBS_WITH, limits).scalars())

    def recent(
        self, metric_id: int, tag_set_ids: Iterable[int], *, limit: int
    ) -> list[tuple[int, float]]:
        """Return time (ns) and value of the newest values with these tags, oldest first.

        Values that may be in an old unit are left out.
        """
        found: list[tuple[int, float]] = []
        # One set at a time: an index has the jobs of a set in order of time.
        for tag_set_id in tag_set_ids:
            series = {"metric": metric_id, "tags": tag_set_id, "limit": limit}
            rows = self._connection.execute(_OF_SET, series)
            found.extend((row.time_ns, row.value) for row in rows)
        return sorted(found)[-limit:]

    def rows(
        self,
        metric_id: int,
        *,
        since_ns: int | None,
        until_ns: int | None = None,
        tag_sets: Collection[int] | None,
        other_id: int | None = None,
        has_fields: bool = False,
    ) -> Iterator[list[TrendRow]]:
        """Yield the values of a metric in order of arrival, in batches.

        Parameters
        ----------
        since_ns
            Only values of this time or later.
        until_ns
            Only values of this time or earlier.
        tag_sets
            Only values of jobs with one of these sets of tags.
        other_id
            A metric whose value is wanted next to each; None where it is absent.
        has_fields
            Whether the other metadata is wanted instead.
        """
        query = _rows(other_id, has_fields=has_fields).where(measurement.c.metric_id == metric_id)
        after = 0
        if since_ns is not None:
            first = Contexts(self._connection).first_since(since_ns - _DAY_NS)
            if first is None:
                return
            after = first - 1
            query = query.where(job_context.c.time_ns >= since_ns)
        if until_ns is not None:
            query = query.where(job_context.c.time_ns <= until_ns)
        query, tag_sets = with_sets(query, tag_sets)
        while True:
            page = query.where(measurement.c.job_id > after).limit(_BATCH)
            rows: list[Any] = list(self._connection.execute(page).all())
            yield [row for row in rows if row[2] in tag_sets] if tag_sets is not None else rows
            if len(rows) < _BATCH:
                return
            after = rows[-1][0]

    def last(
        self,
        metric_id: int,
        *,
        tag_sets: Collection[int] | None,
        limit: int,
        has_absent: bool = False,
        since_ns: int | None = None,
        until_ns: int | None = None,
        before: int | None = None,
    ) -> list[LastValue]:
        """Return the values that were received last, newest first.

        With `tag_sets`, only jobs with one of these sets of tags count. Times are of the jobs, and
        include both ends; the job `before` is left out, with those after it.
        """
        wanted = _LAST_VALUES if has_absent else _LAST_VALUES.where(_IS_PRESENT)
        if since_ns is not None:
            first = Contexts(self._connection).first_since(since_ns - _DAY_NS)
            if first is None:
                return []
            wanted = wanted.where(measurement.c.job_id >= first, job_context.c.time_ns >= since_ns)
        if until_ns is not None:
            wanted = wanted.where(job_context.c.time_ns <= until_ns)
        query, tag_sets = with_sets(wanted.where(measurement.c.metric_id == metric_id), tag_sets)
        found: list[LastValue] = []
        while len(found) < limit:
            page = query if before is None else query.where(measurement.c.job_id < before)
            size = limit if tag_sets is None else _ROWS_CHUNK
            rows = [LastValue(*row) for row in self._connection.execute(page.limit(size))]
            found += [row for row in rows if tag_sets is None or row.tag_set_id in tag_sets]
            if len(rows) < size:
                break
            before = rows[-1].job_id
        return found[:limit]

    def last_of(self, metric_ids: Iterable[int]) -> dict[int, LastValue]:
        """Return what was received last of each of these metrics, a value or an absent one."""
        rows = rows_of(self._connection, _LAST_OF, metric_ids)
        return {row[0]: LastValue(*row[1:]) for row in rows}

    def tag_sets(self, metric_id: int, *, after: int, through: int) -> set[int]:
        """Return the sets of tags with which jobs between two ids named a metric."""
        limits = {"metric": metric_id, "after": after, "through": through}
        return set(self._connection.execute(_MEASURED_SETS, limits).scalars())


def with_sets(
    query: Select[Any], tag_sets: Collection[int] | None
) -> tuple[Select[Any], Collection[int] | None]:
    """Filter a query of contexts by sets of tags, if there are not too many for SQL.

    Otherwise the sets are returned too, for the caller to filter the rows by.
    """
    if tag_sets is None or len(tag_sets) > _MOST_SETS_IN_SQL:
        return query, tag_sets
    return query.where(job_context.c.tag_set_id.in_(sorted(tag_sets))), None


def _rows(other_id: int | None, *, has_fields: bool) -> Select[Any]:
    other: Any = literal(None)
    table: FromClause = _IN_CONTEXT
    if other_id is not None:
        second = measurement.alias()
        other = second.c.value
        is_second = (second.c.job_id == measurement.c.job_id) & (second.c.metric_id == other_id)
        table = table.join(second, is_second, isouter=True)
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


def _latest(*where: Any) -> Select[Any]:
    return (
        select(
            measurement.c.metric_id,
            job_context.c.tag_set_id,
            func.max(case((_IS_PRESENT, job_context.c.time_ns), else_=0)),
            func.max(case((_IS_PRESENT, measurement.c.job_id), else_=0)),
            func.max(case((_IS_PRESENT, 0), else_=job_context.c.time_ns)),
        )
        .select_from(_IN_CONTEXT)
        .where(is_wanted(measurement.c.metric_id), _HAS_CONTEXT, *where)
        .group_by(measurement.c.metric_id, job_context.c.tag_set_id)
    )


_IN_CONTEXT = measurement.join(job_context, job_context.c.job_id == measurement.c.job_id)
_IS_PRESENT = measurement.c.value.is_not(None)
_HAS_CONTEXT = job_context.c.tag_set_id.is_not(None)
_HAS_VALUE = (_IS_PRESENT, _HAS_CONTEXT)
_OF_ONE = measurement.c.metric_id == bindparam("metric")
_IS_BETWEEN = (
    measurement.c.job_id > bindparam("after"),
    measurement.c.job_id <= bindparam("through"),
)
_ONE_SERIES = (
    _OF_ONE,
    measurement.c.job_id > bindparam("after"),
    job_context.c.tag_set_id == bindparam("tags"),
)
_VALUES = select(measurement.c.metric_id, measurement.c.job_id, measurement.c.value)
_PRESENT_VALUES = _VALUES.where(_IS_PRESENT)
_OF_METRIC = select(measurement.c.job_id, measurement.c.value).where(
    _OF_ONE, is_wanted(measurement.c.job_id), _IS_PRESENT
)
_LATEST_BETWEEN = _latest(*_IS_BETWEEN)
_LATEST_AMONG = _latest(measurement.c.job_id.in_(bindparam("jobs", expanding=True)))
_NEWEST_OF_SERIES = (
    select(job_context.c.time_ns)
    .select_from(_IN_CONTEXT)
    .where(*_ONE_SERIES)
    .order_by(job_context.c.time_ns.desc())
    .limit(1)
)
_NEWEST = _NEWEST_OF_SERIES.where(_IS_PRESENT)
_NEWEST_ABSENT = _NEWEST_OF_SERIES.where(measurement.c.value.is_(None))
_LAST_RECEIVED = (
    select(measurement.c.job_id)
    .select_from(_IN_CONTEXT)
    .where(*_ONE_SERIES, _IS_PRESENT)
    .order_by(measurement.c.job_id.desc())
    .limit(1)
)
_JOBS_WITH = (
    select(measurement.c.job_id)
    .where(_OF_ONE, *_IS_BETWEEN, _IS_PRESENT)
    .order_by(measurement.c.job_id)
    .limit(bindparam("limit"))
)
_OF_SET = (
    select(job_context.c.time_ns, measurement.c.value)
    .select_from(job_context.join(measurement, measurement.c.job_id == job_context.c.job_id))
    .where(
        job_context.c.tag_set_id == bindparam("tags"),
        _OF_ONE,
        _IS_PRESENT,
        ~exists().where(rederivation.c.job_id == job_context.c.job_id),
    )
    .order_by(job_context.c.time_ns.desc())
    .limit(bindparam("limit"))
)
_LAST_VALUES = (
    select(
        measurement.c.job_id,
        measurement.c.value,
        job_context.c.tag_set_id,
        job_context.c.time_ns,
    )
    .select_from(_IN_CONTEXT)
    .where(_HAS_CONTEXT)
    .order_by(measurement.c.job_id.desc())
)
_LAST_JOB_OF = (
    select(func.max(measurement.c.job_id))
    .where(measurement.c.metric_id == metric.c.id)
    .correlate(metric)
    .scalar_subquery()
)
_IS_LAST = (measurement.c.metric_id == metric.c.id) & (measurement.c.job_id == _LAST_JOB_OF)
_LAST_OF = (
    select(
        metric.c.id,
        measurement.c.job_id,
        measurement.c.value,
        job_context.c.tag_set_id,
        job_context.c.time_ns,
    )
    .select_from(metric.join(measurement, _IS_LAST))
    .join(job_context, job_context.c.job_id == measurement.c.job_id)
    .where(is_wanted(metric.c.id), _HAS_CONTEXT)
)
_MEASURED_SETS = (
    select(job_context.c.tag_set_id)
    .select_from(_IN_CONTEXT)
    .where(_OF_ONE, *_IS_BETWEEN, _HAS_CONTEXT)
    .distinct()
)
