"""The tags and other metadata of jobs, as their points in InfluxDB carry them.

Derived together with the index of measurements.

The index of measurements, and the contexts of their jobs, derived from the jobs.

Deriving and sending jobs again, because the unit of a metric in them has changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from squash_api.record.bulk import insert_rows
from squash_api.record.metrics import known_units, metric_ids
from squash_api.record.record import get_state, set_state
from squash_api.record.tables import (
    added_measurement,
    job,
    job_context,
    job_run,
    measurement,
    redelivery,
    rederivation,
    tag_set,
    target,
)
from squash_api.schema.names import FIELD_SOURCES, Context

_CHUNK = 500
_OWN_COLUMNS = tuple(FIELD_SOURCES)
_COLUMNS = (
    "job_id",
    "version",
    "time_ns",
    "received_ns",
    "tag_set_id",
    *_OWN_COLUMNS,
    "fields",
)


@dataclass(frozen=True, slots=True)
class JobContext:
    """A job's metadata under InfluxDB's names, with the time of its points and of its receipt."""

    job_id: int
    time_ns: int
    received_ns: int
    context: Context


@dataclass(frozen=True, slots=True)
class ChangedJob:
    """A job whose context or measurements are new, or were derived again, or are gone.

    `tag_set_id` is None once the job is deleted.
    """

    job_id: int
    version: int
    time_ns: int
    tag_set_id: int | None


def store_contexts(connection: Connection, items: Sequence[JobContext]) -> None:
    """Store the contexts of jobs, in place of what was there."""
    if not items:
        return
    version = newest_version(connection) + 1
    ids = [item.job_id for item in items]
    connection.execute(delete(job_context).where(job_context.c.job_id.in_(ids)))
    sets = _tag_sets(connection, items)
    rows = []
    for item, tag_set_id in zip(items, sets, strict=True):
        fields = dict(item.context.fields)
        own = [fields.pop(name, None) for name in _OWN_COLUMNS]
        rows.append(
            (
                item.job_id,
                version,
                item.time_ns,
                item.received_ns,
                tag_set_id,
                *own,
                orjson.dumps(fields).decode(),
            )
        )
    insert_rows(connection, job_context, _COLUMNS, rows)


def forget_context(connection: Connection, job_id: int) -> None:
    """Take out what a deleted job said; that it has changed can still be read."""
    version = newest_version(connection) + 1
    emptied = dict.fromkeys(_COLUMNS[_COLUMNS.index("tag_set_id") :])
    connection.execute(
        update(job_context).where(job_context.c.job_id == job_id).values(version=version, **emptied)
    )


def newest_version(connection: Connection) -> int:
    """Return the version of the last change; 0 if there is none."""
    return int(connection.execute(_NEWEST_VERSION).scalar_one())


def changed_jobs(connection: Connection, *, after: int, limit: int) -> list[ChangedJob]:
    """Return jobs that have changed after a version, the first change first.

    All changes of a version are returned together, even if they are more than `limit`.
    """
    rows = connection.execute(_CHANGED, {"after": after, "limit": limit}).all()
    if len(rows) == limit:
        rows = connection.execute(
            _CHANGED_THROUGH, {"after": after, "through": rows[-1].version}
        ).all()
    return [ChangedJob(*row) for row in rows]


def contexts_of(connection: Connection, job_ids: Iterable[int]) -> dict[int, JobContext]:
    """Return the contexts of those jobs that have one, by id."""
    wanted = sorted(set(job_ids))
    found: dict[int, JobContext] = {}
    texts: dict[int, dict[str, str]] = {}
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        rows = connection.execute(_CONTEXT, {"ids": chunk}).all()
        texts.update(tags_of_sets(connection, {row.tag_set_id for row in rows} - texts.keys()))
        for row in rows:
            own = {name: getattr(row, name) for name in _OWN_COLUMNS}
            fields = {name: value for name, value in own.items() if value is not None}
            context = Context(texts[row.tag_set_id], {**orjson.loads(row.fields), **fields})
            found[row.job_id] = JobContext(row.job_id, row.time_ns, row.received_ns, context)
    return found


def tags_of_sets(connection: Connection, ids: Iterable[int]) -> dict[int, dict[str, str]]:
    """Return the tags of each of these sets."""
    wanted = sorted(ids)
    return {
        row.id: orjson.loads(row.document)
        for start in range(0, len(wanted), _CHUNK)
        for row in connection.execute(_TAG_SETS, {"ids": wanted[start : start + _CHUNK]})
    }


_NEWEST_VERSION = select(func.coalesce(func.max(job_context.c.version), 0))
_BY_VERSION = (
    select(
        job_context.c.job_id,
        job_context.c.version,
        job_context.c.time_ns,
        job_context.c.tag_set_id,
    )
    .where(job_context.c.version > bindparam("after"))
    .order_by(job_context.c.version, job_context.c.job_id)
)
_CHANGED = _BY_VERSION.limit(bindparam("limit"))
_CHANGED_THROUGH = _BY_VERSION.where(job_context.c.version <= bindparam("through"))
_CONTEXT = select(job_context).where(
    job_context.c.job_id.in_(bindparam("ids", expanding=True)),
    job_context.c.tag_set_id.is_not(None),
)
_TAG_SETS = select(tag_set.c.id, tag_set.c.document).where(
    tag_set.c.id.in_(bindparam("ids", expanding=True))
)


def _tag_sets(connection: Connection, items: Sequence[JobContext]) -> list[int]:
    """Return the id of each job's set of tags; a set is stored once, however many have it."""
    digests = [_digest(item.context.tags) for item in items]
    documents = dict(digests)
    query = select(tag_set.c.digest, tag_set.c.id).where(tag_set.c.digest.in_(list(documents)))
    known = {row.digest: row.id for row in connection.execute(query)}
    new = [{"digest": key, "document": text} for key, text in documents.items() if key not in known]
    if new:
        connection.execute(insert(tag_set), new)
        known = {row.digest: row.id for row in connection.execute(query)}
    return [known[digest] for digest, _ in digests]


def _digest(tags: Mapping[str, Any]) -> tuple[bytes, str]:
    document = orjson.dumps(tags, option=orjson.OPT_SORT_KEYS)
    return blake2b(document, digest_size=16).digest(), document.decode()


_DERIVED_THROUGH = "derived_through"


@dataclass(frozen=True, slots=True)
class Derived:
    """What one job comes to. `values` are in the metric's unit, None if absent or skipped.

    `units` are those of the metrics, and `added` is how many measurements have been added to the
    job, as they were when it was derived. Without a `context` the job has none.
    """

    job_id: int
    values: Mapping[str, float | None]
    units: Mapping[str, str | None] = field(default_factory=dict)
    added: int = 0
    context: JobContext | None = None


def derived_through(connection: Connection) -> int:
    """Return the id up to which every job is in the index of measurements."""
    return int(get_state(connection, _DERIVED_THROUGH) or 0)


def store_derived(
    connection: Connection, jobs: Sequence[Derived], *, after: int, through: int
) -> bool:
    """Store what jobs come to, in the order of their ids.

    Their runs are known already. Returns False, with nothing stored, if meanwhile somebody else has
    derived jobs after `after`, or what these come from has changed.
    """
    if derived_through(connection) != after or _have_changed(connection, jobs):
        return False
    _insert_measurements(connection, jobs)
    _store_contexts(connection, jobs)
    _correct_counts(connection, jobs)
    set_state(connection, _DERIVED_THROUGH, str(through))
    return True


def replace_measurements(connection: Connection, jobs: Sequence[Derived]) -> bool:
    """Store the measurements of derived jobs anew, and strike the jobs off the list for it.

    Returns False, with nothing stored, if what they come from has changed meanwhile.
    """
    if _have_changed(connection, jobs):
        return False
    for item in jobs:
        _delete_measurements(connection, item.job_id, item.values)
    _insert_measurements(connection, jobs)
    _store_contexts(connection, jobs)
    _correct_counts(connection, jobs)
    ids = [item.job_id for item in jobs]
    connection.execute(delete(rederivation).where(rederivation.c.job_id.in_(ids)))
    return True


def mark_for_rederivation(connection: Connection, job_ids: Sequence[int]) -> None:
    """Ask for the measurements of jobs to be derived again, if they have been derived at all."""
    through = derived_through(connection)
    asked = set(
        connection.execute(
            select(rederivation.c.job_id).where(rederivation.c.job_id.in_(job_ids))
        ).scalars()
    )
    rows = [{"job_id": item} for item in sorted(set(job_ids) - asked) if item <= through]
    if rows:
        connection.execute(insert(rederivation), rows)


def rederive_all(connection: Connection) -> None:
    """Ask for every job in the index to be derived again: the list of tags is another."""
    asked = select(rederivation.c.job_id)
    connection.execute(
        insert(rederivation).from_select(
            ["job_id"],
            select(job.c.id).where(
                job.c.id <= derived_through(connection),
                job.c.deleted_ns.is_(None),
                job.c.id.not_in(asked),
            ),
        )
    )


def oldest_unindexed_ns(connection: Connection) -> int | None:
    """Return when a job was received that is not in the index, the oldest; None if all are."""
    waiting = connection.execute(
        select(job.c.received_ns)
        .where(job.c.id > derived_through(connection), job.c.deleted_ns.is_(None))
        .order_by(job.c.id)
        .limit(1)
    ).scalar_one_or_none()
    # Jobs of a record that is older than the contexts.
    bare = connection.execute(
        select(job.c.received_ns)
        .select_from(rederivation)
        .join(job, job.c.id == rederivation.c.job_id)
        .join(job_context, job_context.c.job_id == job.c.id, isouter=True)
        .where(job_context.c.job_id.is_(None), job.c.deleted_ns.is_(None))
        .order_by(rederivation.c.job_id)
        .limit(1)
    ).scalar_one_or_none()
    return min((item for item in (waiting, bare) if item is not None), default=None)


def jobs_to_rederive(connection: Connection, *, limit: int) -> list[int]:
    """Return jobs whose measurements are to be derived again, those deleted left out."""
    rows = connection.execute(
        select(rederivation.c.job_id)
        .join(job, job.c.id == rederivation.c.job_id)
        .where(job.c.deleted_ns.is_(None))
        .order_by(rederivation.c.job_id)
        .limit(limit)
    )
    return [row.job_id for row in rows]


def forget_derived(connection: Connection, *, job_id: int, metrics: Iterable[str]) -> None:
    """Take a deleted job out of the index; other runs that compare with it keep its packages."""
    _delete_measurements(connection, job_id, metrics)
    forget_context(connection, job_id)
    connection.execute(delete(rederivation).where(rederivation.c.job_id == job_id))


def _store_contexts(connection: Connection, jobs: Sequence[Derived]) -> None:
    store_contexts(connection, [item.context for item in jobs if item.context is not None])


def _have_changed(connection: Connection, jobs: Sequence[Derived]) -> bool:
    """Tell whether a job was deleted or added to, or a metric has another unit, meanwhile."""
    ids = [item.job_id for item in jobs]
    kept = select(func.count()).where(job.c.id.in_(ids), job.c.deleted_ns.is_(None))
    if connection.execute(kept).scalar_one() != len(ids):
        return True
    rows = connection.execute(
        select(added_measurement.c.job_id, func.count())
        .where(added_measurement.c.job_id.in_(ids))
        .group_by(added_measurement.c.job_id)
    )
    if {row[0]: row[1] for row in rows} != {item.job_id: item.added for item in jobs if item.added}:
        return True
    units = known_units(connection, {name for item in jobs for name in item.units})
    return any(units.get(name) != unit for item in jobs for name, unit in item.units.items())


def _correct_counts(connection: Connection, jobs: Sequence[Derived]) -> None:
    """Count measurements that were added to jobs since their runs were derived."""
    counted = select(job_run.c.job_id, job_run.c.measurement_count).where(
        job_run.c.job_id.in_([item.job_id for item in jobs])
    )
    before = {row.job_id: row.measurement_count for row in connection.execute(counted)}
    rows = [
        {"job": item.job_id, "count": len(item.values)}
        for item in jobs
        if before.get(item.job_id) != len(item.values)
    ]
    if rows:
        connection.execute(_COUNT_MEASUREMENTS, rows)


_COUNT_MEASUREMENTS = (
    update(job_run)
    .where(job_run.c.job_id == bindparam("job"))
    .values(measurement_count=bindparam("count"))
)


def _delete_measurements(connection: Connection, job_id: int, metrics: Iterable[str]) -> None:
    rows = [
        {"metric": metric_id, "job": job_id}
        for metric_id in metric_ids(connection, metrics).values()
    ]
    if rows:
        connection.execute(_DELETE_MEASUREMENT, rows)


_DELETE_MEASUREMENT = delete(measurement).where(
    measurement.c.metric_id == bindparam("metric"), measurement.c.job_id == bindparam("job")
)


def _insert_measurements(connection: Connection, jobs: Sequence[Derived]) -> None:
    ids = metric_ids(connection, {name for item in jobs for name in item.values})
    # In the order of the key, which costs the index least.
    rows = sorted(
        (ids[name], item.job_id, value)
        for item in jobs
        for name, value in item.values.items()
        if name in ids
    )
    insert_rows(connection, measurement, ("metric_id", "job_id", "value"), rows)


def requeue_metrics(connection: Connection, names: Iterable[str], *, request: int) -> int:
    """Ask for the jobs that measure these metrics to be derived and sent to every target again.

    Jobs may have been sent before they are in the index: all of those are sent again.

    Parameters
    ----------
    request
        A number for the request, such as the revision of the definition.

    Returns
    -------
    int
        How many jobs there are, those deleted left out.
    """
    wanted = sorted(metric_ids(connection, names).values())
    if not wanted:
        return 0
    measuring = select(measurement.c.job_id).where(measurement.c.metric_id.in_(wanted))
    affected = select(job.c.id.label("job_id")).where(
        or_(job.c.id.in_(measuring), job.c.id > derived_through(connection)),
        job.c.deleted_ns.is_(None),
    )
    count = int(
        connection.execute(select(func.count()).select_from(affected.subquery())).scalar_one()
    )
    if count:
        _rederive(connection, affected.where(job.c.id <= derived_through(connection)))
        _redeliver(connection, affected, request=request)
    return count


def _rederive(connection: Connection, affected: Select[tuple[int]]) -> None:
    jobs = affected.subquery()
    is_asked = exists().where(rederivation.c.job_id == jobs.c.job_id)
    connection.execute(
        insert(rederivation).from_select(["job_id"], select(jobs.c.job_id).where(~is_asked))
    )


def _redeliver(connection: Connection, affected: Select[tuple[int]], *, request: int) -> None:
    # Another number in any case: an outlet that is sending the job in the old unit strikes off
    # the request it knows, not this one.
    number = literal(request, BigInteger)
    raised = case((redelivery.c.request < number, number), else_=redelivery.c.request + 1)
    connection.execute(
        update(redelivery).where(redelivery.c.job_id.in_(affected)).values(request=raised)
    )
    jobs = affected.subquery()
    is_asked = exists().where(
        redelivery.c.target == target.c.name, redelivery.c.job_id == jobs.c.job_id
    )
    connection.execute(
        insert(redelivery).from_select(
            ["target", "job_id", "request"],
            select(target.c.name, jobs.c.job_id, number)
            .select_from(target.join(jobs, true()))
            .where(~is_asked),
        )
    )
