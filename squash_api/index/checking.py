"""Checks that a record is whole: what it refers to is there, and what is derived follows from it.

The record may be in use meanwhile: each batch of jobs is compared in one state of the record.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from sqlalchemy import Connection, exists, func, select

from squash_api.errors import SquashError
from squash_api.index.contexts import Contexts, JobContext
from squash_api.index.derived import Derived, derived_through, waiting_for_rederivation
from squash_api.index.deriver import Deriver
from squash_api.index.runs import runs_through
from squash_api.record.bulk import in_chunks
from squash_api.record.copying import gaps_through
from squash_api.record.database import problems
from squash_api.record.installation import lost_ids, problem_with_mark
from squash_api.record.jobs import JobRow, added_measurements, jobs_between, last_job_id
from squash_api.record.record import Record, get_state
from squash_api.record.tables import alert, job, job_run, measurement, metadata, metric, target

_BATCH = 250
_BATCH_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong; `kind` says what it is about, and `job_id` is the job if it is one.

    The kinds are `file`, `encoding`, `trigger`, `ids`, `reference`, `mark`, `gap`, `cursor`, `job`
    and `derived`.
    """

    kind: str
    what: str
    job_id: int | None = None


def check_record(record: Record, deriver: Deriver) -> Iterator[Finding]:
    """Yield what is wrong with an open record."""
    with record.read() as connection:
        if record.file is not None:
            problem = problem_with_mark(connection, record.file.path)
            if problem is not None:
                yield Finding("mark", problem)
            yield from _gaps(connection)
        for kind, what in problems(connection):
            yield Finding(kind, what)
        yield from _broken_references(connection)
        yield from _wrong_cursors(connection)
        yield from _orphans(connection)
        yield from _lost_jobs_of_alerts(connection)
    yield from _wrong_jobs(record, deriver)


def _broken_references(connection: Connection) -> Iterator[Finding]:
    """Find rows that refer to others which are not there."""
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            there = key.column.table.alias("there")
            is_there = exists().where(there.c[key.column.name] == key.parent)
            query = (
                select(func.count()).select_from(table).where(key.parent.is_not(None), ~is_there)
            )
            count = connection.execute(query).scalar_one()
            if count:
                yield Finding(
                    "reference",
                    f"{count} of {table.name} refer by {key.parent.name} to a "
                    f"{key.column.table.name} that is not there",
                )


def _gaps(connection: Connection) -> Iterator[Finding]:
    """Find ids between jobs that no job has: a job that is deleted leaves its row.

    In PostgreSQL some have none, since a transaction that fails uses ids up.
    """
    known = sorted([(1, gaps_through(connection)), *lost_ids(connection)])
    for number in connection.execute(_AFTER_GAPS).scalars().all():
        before = select(func.coalesce(func.max(job.c.id), 0)).where(job.c.id < number)
        first, last = connection.execute(before).scalar_one() + 1, number - 1
        for begin, end in known:
            first = end + 1 if begin <= first <= end else first
        if first <= last:
            ids = f"job {first} is" if first == last else f"jobs {first} to {last} are"
            yield Finding("gap", f"{ids} not there", first)


_before = job.alias("before")
_AFTER_GAPS = (
    select(job.c.id)
    .where(job.c.id > 1, ~exists().where(_before.c.id == job.c.id - 1))
    .order_by(job.c.id)
)


def _wrong_cursors(connection: Connection) -> Iterator[Finding]:
    """Find what claims to have dealt with jobs that never were."""
    last = last_job_id(connection)
    cursors = {"runs_through": runs_through, "derived_through": derived_through}
    reached = [(name, read(connection)) for name, read in cursors.items()]
    for row in connection.execute(select(target)):
        reached.append((f"{row.name}: sent_through", row.sent_through))
        reached.append((f"{row.name}: taken_through", row.taken_through))
    followed = json.loads(get_state(connection, "alerts") or "{}").get("through", 0)
    reached.append(("alerts", followed))
    for name, through in reached:
        if through > last:
            yield Finding("cursor", f"{name} is {through}, and the last job is {last}")


def _orphans(connection: Connection) -> Iterator[Finding]:
    """Find values in the index that belong to no job."""
    kept = exists().where(job.c.id == measurement.c.job_id, job.c.deleted_ns.is_(None))
    count = connection.execute(select(func.count()).select_from(measurement).where(~kept))
    if number := count.scalar_one():
        yield Finding("derived", f"{number} values in the index belong to no job")


def _lost_jobs_of_alerts(connection: Connection) -> Iterator[Finding]:
    """Find alerts that name jobs which never were; those of deleted jobs are as they should be."""
    for column in (alert.c.opened_job_id, alert.c.job_id):
        is_there = exists().where(job.c.id == column)
        query = select(func.count()).select_from(alert).where(column.is_not(None), ~is_there)
        count = connection.execute(query).scalar_one()
        if count:
            what = f"{count} of alert name by {column.name} a job that is not there"
            yield Finding("reference", what)


def _wrong_jobs(record: Record, deriver: Deriver) -> Iterator[Finding]:
    """Find jobs that cannot be read, or of which the index says something else."""
    after = 0
    while True:
        deriver.refresh()
        with record.read() as connection:
            last, through = last_job_id(connection), derived_through(connection)
            rows = jobs_between(
                connection, after=after, through=last, max_bytes=_BATCH_BYTES, limit=_BATCH
            )
            if not rows:
                return
            yield from _compare(connection, deriver, rows, through)
        after = rows[-1].job_id


def _compare(
    connection: Connection, deriver: Deriver, rows: Sequence[JobRow], through: int
) -> Iterator[Finding]:
    ids = [row.job_id for row in rows]
    added = added_measurements(connection, ids)
    waiting = waiting_for_rederivation(connection, ids)
    values = _stored_values(connection, ids)
    counts = _stored_counts(connection, ids)
    contexts = Contexts(connection).of(ids)
    for row in rows:
        if row.body is None:
            continue
        try:
            derived = deriver.derive(row, added.get(row.job_id, []))
        except (SquashError, ValueError, KeyError, TypeError) as error:
            yield Finding("job", f"job {row.job_id} cannot be read: {error}", row.job_id)
            continue
        if row.job_id > through or row.job_id in waiting:
            continue
        number = row.job_id
        wrong = list(_differences(derived, values.get(number, {}), counts.get(number)))
        if _shown(contexts.get(number)) != _shown(derived.context):
            wrong.append("its metadata")
        if wrong:
            what = f"the index has something else of job {number}: {', '.join(wrong)}"
            yield Finding("derived", what, number)


def _shown(found: JobContext | None) -> tuple[object, ...] | None:
    """Return what the index has of a context: not how its values were cleaned."""
    if found is None:
        return None
    return found.time_ns, found.received_ns, found.context.tags, found.context.fields


def _differences(
    derived: Derived, stored: Mapping[str, float | None], count: int | None
) -> Iterator[str]:
    names = sorted(
        name
        for name in {*derived.values, *stored}
        if name not in stored
        or name not in derived.values
        or not _is_same(stored[name], derived.values[name])
    )
    if names:
        more = f" and {len(names) - 3} more values" if len(names) > 3 else ""
        yield f"{', '.join(names[:3])}{more}"
    if count is None:
        yield "its run"
    elif count != len(derived.values):
        yield "the number of its values"


def _is_same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and isnan(one) and isnan(other))


def _stored_values(
    connection: Connection, ids: Sequence[int]
) -> dict[int, dict[str, float | None]]:
    names: dict[int, str] = {row.id: row.name for row in connection.execute(_NAMES)}
    found: dict[int, dict[str, float | None]] = {}
    of_jobs = measurement.c.job_id.between(ids[0], ids[-1])
    # By the key of the table, which begins with the metric.
    for chunk in in_chunks(names):
        query = select(measurement).where(measurement.c.metric_id.in_(chunk), of_jobs)
        for row in connection.execute(query):
            found.setdefault(row.job_id, {})[names[row.metric_id]] = row.value
    return found


_NAMES = select(metric.c.id, metric.c.name)


def _stored_counts(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    query = select(job_run.c.job_id, job_run.c.measurement_count)
    rows = connection.execute(query.where(job_run.c.job_id.in_(ids)))
    return {row.job_id: row.measurement_count for row in rows}
