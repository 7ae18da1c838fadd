"""The values of one metric as plain rows, and the sets of tags that it was measured with."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, FromClause, Select, literal, select

from squash_api.record.latest import first_job_since
from squash_api.record.tables import job_context, measurement

# More of them are looked for beside SQL.
_MOST_SETS_IN_SQL = 500
_CHUNK = 1000
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
    query = _VALUES.where(measurement.c.metric_id == metric_id)
    if tag_sets is not None and len(tag_sets) <= _MOST_SETS_IN_SQL:
        query = query.where(job_context.c.tag_set_id.in_(sorted(tag_sets)))
        tag_sets = None
    found: list[LastValue] = []
    before: int | None = None
    while len(found) < limit:
        page = query if before is None else query.where(measurement.c.job_id < before)
        size = limit if tag_sets is None else _CHUNK
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


_IN_CONTEXT = measurement.join(job_context, job_context.c.job_id == measurement.c.job_id)
_HAS_VALUE = (measurement.c.value.is_not(None), job_context.c.tag_set_id.is_not(None))
_VALUES = (
    select(measurement.c.job_id, measurement.c.value, job_context.c.tag_set_id)
    .select_from(_IN_CONTEXT)
    .where(*_HAS_VALUE)
    .order_by(measurement.c.job_id.desc())
)
