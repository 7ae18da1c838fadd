"""What is derived from jobs: stored, deleted, and requested again.

Jobs are derived and sent again when the unit of a metric in them has changed. They are derived
again when the list of tags has changed; it is kept in the record, because points with other tags
are other series: writing on with another list would split every series in two. They are looked
through after an upgrade to a release that reads values which the one before could not.
"""

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import (
    BigInteger,
    ColumnElement,
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

from squash_api.errors import SettingsError
from squash_api.index.contexts import JobContext, forget_contexts, store_contexts
from squash_api.record.bulk import in_chunks, insert_rows, is_wanted, rows_of
from squash_api.record.deliveries import (
    Erasure,
    has_sent_any,
    request_redelivery,
    request_rewriting,
    target_names,
)
from squash_api.record.jobs import current_revision, mark_deliverable
from squash_api.record.metrics import known_units, metric_ids, reduced_ever
from squash_api.record.record import Record, get_state, set_state
from squash_api.record.tables import (
    added_measurement,
    job,
    job_context,
    job_run,
    measurement,
    metric,
    redelivery,
    rederivation,
    target,
)
from squash_api.schema.names import TAGS, Schema, split_metric_name

_TAGS = "tags"
_DERIVED_THROUGH = "derived_through"
_LOOK = "arrays"
_READING = "reading"
READING = "2"
"""How values are read. Raise it when a release reads what the one before skips.

1: units that astropy knows; 2: also those that people write.
"""


@dataclass(frozen=True, slots=True)
class Derived:
    """What is derived from one job. `values` are in the metric's unit, None if absent or skipped.

    `units` are those of the metrics, `revision` that of their definitions, and `added` is the last
    measurement that was added to the job, as they were when it was derived; 0 if there was none.
    `reduced` are the metrics whose values were made from arrays.
    """

    job_id: int
    values: Mapping[str, float | None]
    units: Mapping[str, str | None] = field(default_factory=dict)
    added: int = 0
    reduced: Collection[str] = ()
    revision: int | None = None
    context: JobContext | None = None


def derived_through(connection: Connection) -> int:
    """Return the id up to which every job is in the index."""
    return int(get_state(connection, _DERIVED_THROUGH) or 0)


def store_derived(
    connection: Connection, jobs: Sequence[Derived], *, after: int, through: int
) -> bool:
    """Store what is derived from jobs, which are in order of id; their runs are stored before.

    Returns False, with nothing stored, if another thread or process has derived jobs after `after`,
    or the jobs have changed.
    """
    if derived_through(connection) != after or _have_changed(connection, jobs):
        return False
    _store(connection, jobs)
    set_state(connection, _DERIVED_THROUGH, str(through))
    return True


def replace_measurements(connection: Connection, jobs: Sequence[Derived]) -> bool:
    """Replace what was derived from jobs, which then no longer wait for it.

    The points of jobs that have lost a value are written again without it, and those of jobs that
    have gained one, or whose arrays give another, are written again with it.

    Returns False, with nothing stored, if the jobs have changed since they were read.
    """
    if _have_changed(connection, jobs):
        return False
    had = reduced_values(connection, [item.job_id for item in jobs])
    request_rewriting(connection, _with_lost_values(connection, jobs, had))
    _send_gained(connection, jobs, had)
    named = {item.job_id: {*item.values, *had.get(item.job_id, ())} for item in jobs}
    _delete_measurements(connection, named)
    _store(connection, jobs)
    ids = [item.job_id for item in jobs]
    connection.execute(delete(rederivation).where(rederivation.c.job_id.in_(ids)))
    return True


def mark_for_rederivation(connection: Connection, job_ids: Sequence[int]) -> None:
    """Request that jobs are derived again, if they have been derived at all."""
    through = derived_through(connection)
    asked = set(connection.execute(_WAITING, {"wanted": list(job_ids)}).scalars())
    rows = [{"job_id": item} for item in sorted(set(job_ids) - asked) if item <= through]
    if rows:
        connection.execute(insert(rederivation), rows)


def check_reading(record: Record) -> None:
    """Request at startup that jobs which were read by older rules are looked through."""

    def work(connection: Connection) -> None:
        if get_state(connection, _READING) == READING:
            return
        look_through_jobs(connection)
        # They may have been sent, without what is read now, before they were in the index.
        new = select(job.c.id.label("job_id")).where(
            job.c.id > derived_through(connection), job.c.deleted_ns.is_(None)
        )
        connection.execute(update(job).where(job.c.id.in_(new)).values(is_deliverable=True))
        _redeliver(connection, new, request=time.time_ns())
        set_state(connection, _READING, READING)

    with record.read() as connection:
        if get_state(connection, _READING) == READING:
            return
    record.write(work)


def look_through_jobs(connection: Connection) -> None:
    """Request a search of the jobs in the index for values that are read now, and were not.

    They are made from arrays by now, or have a unit that is understood by now.
    """
    set_state(connection, _LOOK, json.dumps([0, derived_through(connection)]))


def jobs_to_look_through(connection: Connection) -> tuple[int, int] | None:
    """Return after which job to go on with the search, and through which; None if it is over."""
    after, through = json.loads(get_state(connection, _LOOK) or "[0, 0]")
    return (after, through) if after < through else None


def note_found(
    connection: Connection, found: Sequence[int], *, search: tuple[int, int], through: int
) -> bool:
    """Derive the jobs again that were found, and go on after a job.

    Returns False, with nothing noted, if another process has gone on meanwhile, or the search has
    begun anew.
    """
    if jobs_to_look_through(connection) != search:
        return False
    mark_for_rederivation(connection, found)
    set_state(connection, _LOOK, json.dumps([through, search[1]]))
    return True


def oldest_unindexed_ns(connection: Connection) -> int | None:
    """Return when the oldest job that is not in the index was received; None if all are in it."""
    waiting = connection.execute(
        select(job.c.received_ns)
        .where(job.c.id > derived_through(connection), job.c.deleted_ns.is_(None))
        .order_by(job.c.id)
        .limit(1)
    ).scalar_one_or_none()
    # Jobs of a record from before there were contexts.
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
    """Return jobs that are to be derived again, without those that have been deleted."""
    query = (
        select(rederivation.c.job_id)
        .join(job, job.c.id == rederivation.c.job_id)
        .where(job.c.deleted_ns.is_(None))
        .order_by(rederivation.c.job_id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def waiting_for_rederivation(connection: Connection, job_ids: Iterable[int]) -> set[int]:
    """Return which of these jobs may have values in an old unit."""
    if connection.execute(_FIRST_WAITING).first() is None:
        return set()
    return {row.job_id for row in rows_of(connection, _WAITING, job_ids)}


_FIRST_WAITING = select(rederivation.c.job_id).limit(1)
_WAITING = select(rederivation.c.job_id).where(is_wanted(rederivation.c.job_id))


def forget_derived(connection: Connection, metrics_of: Mapping[int, Iterable[str]]) -> None:
    """Remove deleted jobs from the index, given the metrics that each names.

    Their packages stay, for runs that compare with them.
    """
    _delete_measurements(connection, metrics_of)
    job_ids = list(metrics_of)
    forget_contexts(connection, job_ids)
    connection.execute(delete(rederivation).where(rederivation.c.job_id.in_(job_ids)))


def _store(connection: Connection, jobs: Sequence[Derived]) -> None:
    _insert_measurements(connection, jobs)
    store_contexts(connection, [item.context for item in jobs if item.context is not None])
    _correct_counts(connection, jobs)


def _have_changed(connection: Connection, jobs: Sequence[Derived]) -> bool:
    """Return whether a job was deleted or added to, or the unit of a metric has changed."""
    ids = [item.job_id for item in jobs]
    kept = select(func.count()).where(job.c.id.in_(ids), job.c.deleted_ns.is_(None))
    if connection.execute(kept).scalar_one() != len(ids):
        return True
    rows = connection.execute(
        select(added_measurement.c.job_id, func.max(added_measurement.c.id))
        .where(added_measurement.c.job_id.in_(ids))
        .group_by(added_measurement.c.job_id)
    )
    if {row[0]: row[1] for row in rows} != {item.job_id: item.added for item in jobs if item.added}:
        return True
    revisions = {item.revision for item in jobs} - {None}
    if revisions and revisions != {current_revision(connection)}:
        return True
    units = known_units(connection, {name for item in jobs for name in item.units})
    return any(units.get(name) != unit for item in jobs for name, unit in item.units.items())


def reduced_values(
    connection: Connection, job_ids: Collection[int]
) -> dict[int, dict[str, float | None]]:
    """Return what the index has in these jobs of metrics that are, or were, made from arrays."""
    names = {
        number: name for name, number in metric_ids(connection, reduced_ever(connection)).items()
    }
    found: dict[int, dict[str, float | None]] = {}
    for chunk in in_chunks(names):
        query = select(measurement).where(
            measurement.c.metric_id.in_(chunk), measurement.c.job_id.in_(job_ids)
        )
        for row in connection.execute(query):
            found.setdefault(row.job_id, {})[names[row.metric_id]] = row.value
    return found


def _send_gained(
    connection: Connection,
    jobs: Sequence[Derived],
    had: Mapping[int, Mapping[str, float | None]],
) -> None:
    """Request that the jobs are sent again which have a value that the index has not.

    Others are sent again by who changed the unit of their metric.
    """
    absent = _absent_values(connection, jobs)
    gained = [
        item.job_id
        for item in jobs
        if any(item.values[name] is not None for name in absent.get(item.job_id, ()))
        or any(
            item.values[name] is not None
            and item.values[name] != had.get(item.job_id, {}).get(name)
            for name in item.reduced
        )
    ]
    for job_id in gained:
        mark_deliverable(connection, job_id)
    if gained:
        names = target_names(connection)
        request_redelivery(connection, gained, targets=names, request=time.time_ns())


def _absent_values(connection: Connection, jobs: Sequence[Derived]) -> dict[int, set[str]]:
    """Return what is absent in the index of those of these jobs that have a value of it now."""
    present = {name for item in jobs for name, value in item.values.items() if value is not None}
    found = _stored(connection, jobs, present, measurement.c.value.is_(None))
    return {item.job_id: found.get(item.job_id, set()) & item.values.keys() for item in jobs}


def _stored(
    connection: Connection,
    jobs: Sequence[Derived],
    metrics: Collection[str],
    condition: ColumnElement[bool],
) -> dict[int, set[str]]:
    """Return which of these metrics the index has in these jobs, where the condition holds."""
    names = {number: name for name, number in metric_ids(connection, metrics).items()}
    found: dict[int, set[str]] = {}
    for chunk in in_chunks(names):
        rows = connection.execute(
            select(measurement.c.metric_id, measurement.c.job_id).where(
                measurement.c.metric_id.in_(chunk),
                measurement.c.job_id.in_([item.job_id for item in jobs]),
                condition,
            )
        )
        for metric_id, job_id in rows:
            found.setdefault(job_id, set()).add(names[metric_id])
    return found


def _with_lost_values(
    connection: Connection,
    jobs: Sequence[Derived],
    had: Mapping[int, Mapping[str, float | None]],
) -> Iterator[Erasure]:
    """Yield those of these jobs that no longer have a value that the index has."""
    missing = {name for item in jobs for name, value in item.values.items() if value is None}
    missing |= {
        name for item in jobs for name in had.get(item.job_id, {}) if name not in item.values
    }
    lost = _stored(connection, jobs, missing, measurement.c.value.is_not(None))
    for item in jobs:
        gone = {
            split_metric_name(name)[0]
            for name in lost.get(item.job_id, ())
            if item.values.get(name) is None
        }
        if gone and item.context is not None:
            yield Erasure(item.job_id, item.context.time_ns, tuple(gone))


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


def count_measurements(
    connection: Connection, job_id: int, metrics: Iterable[str], *, schema: Schema
) -> None:
    """Count the metrics of a job to which a measurement has been added, if its run is derived."""
    known = known_units(connection, metrics)
    count = sum(schema.name_problem(name) is None for name in known)
    connection.execute(_COUNT_MEASUREMENTS, {"job": job_id, "count": count})


_COUNT_MEASUREMENTS = (
    update(job_run)
    .where(job_run.c.job_id == bindparam("job"))
    .values(measurement_count=bindparam("count"))
)


def _delete_measurements(connection: Connection, metrics_of: Mapping[int, Iterable[str]]) -> None:
    named = {job_id: set(names) for job_id, names in metrics_of.items()}
    ids = metric_ids(connection, set().union(*named.values()))
    rows = [
        {"metric": ids[name], "job": job_id}
        for job_id, names in named.items()
        for name in names & ids.keys()
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


def measured_anywhere(connection: Connection, names: Iterable[str]) -> set[str]:
    """Return which of these metrics a job in the index has."""
    ids = {number: name for name, number in metric_ids(connection, names).items()}
    measured = exists().where(measurement.c.metric_id == metric.c.id)
    return {
        ids[number]
        for chunk in in_chunks(ids)
        for number in connection.execute(
            select(metric.c.id).where(metric.c.id.in_(chunk), measured)
        ).scalars()
    }


def unmeasured(connection: Connection) -> set[str]:
    """Return the metrics that are not declared and that no job in the index has."""
    measured = exists().where(measurement.c.metric_id == metric.c.id)
    known = metric.c.is_gone.is_(False), metric.c.is_declared.is_(False)
    return set(connection.execute(select(metric.c.name).where(*known, ~measured)).scalars())


def forget_value(connection: Connection, *, job_id: int, metric: str) -> None:
    """Remove a value that has been withdrawn from the index, if it is there."""
    for metric_id in metric_ids(connection, [metric]).values():
        connection.execute(
            update(measurement)
            .where(measurement.c.metric_id == metric_id, measurement.c.job_id == job_id)
            .values(value=None)
        )


def requeue_metrics(connection: Connection, names: Iterable[str], *, request: int) -> int:
    """Request that the jobs that measure these metrics are derived, and sent everywhere, again.

    Jobs may have been sent before they are in the index as they are: all of those are sent again.

    Parameters
    ----------
    request
        A number for the request, such as the revision of the definition.

    Returns
    -------
    int
        How many jobs there are, without those that have been deleted.
    """
    found = metric_ids(connection, names)
    wanted = sorted(found.values())
    if not wanted:
        return 0
    through = derived_through(connection)
    # Jobs may have been sent with values that are made from arrays, before the index has these.
    search = (
        jobs_to_look_through(connection) if reduced_ever(connection).intersection(found) else None
    )
    sure_through = through if search is None else min(through, search[0])
    measuring = select(measurement.c.job_id).where(measurement.c.metric_id.in_(wanted))
    waiting = select(rederivation.c.job_id)
    is_unsure = or_(job.c.id > sure_through, job.c.id.in_(waiting))
    affected = select(job.c.id.label("job_id")).where(
        or_(job.c.id.in_(measuring), is_unsure), job.c.deleted_ns.is_(None)
    )
    count = int(
        connection.execute(select(func.count()).select_from(affected.subquery())).scalar_one()
    )
    if count:
        # What their points have is not in the index, which would tell later what they lose.
        unsure = affected.add_columns(job.c.time_ns).where(is_unsure)
        packages = tuple({split_metric_name(name)[0] for name in found})
        rows = connection.execute(unsure).all()
        request_rewriting(connection, (Erasure(row[0], row[1], packages) for row in rows))
        _rederive(connection, affected.where(job.c.id <= through))
        _redeliver(connection, affected, request=request)
    return count


def _rederive(connection: Connection, affected: Select[tuple[int]]) -> None:
    asked = select(rederivation.c.job_id)
    connection.execute(
        insert(rederivation).from_select(["job_id"], affected.where(job.c.id.not_in(asked)))
    )


def _redeliver(connection: Connection, affected: Select[tuple[int]], *, request: int) -> None:
    # The number always changes: an outlet that is sending the job in the old unit then deletes
    # only the request that it knows.
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


def check_tags(record: Record, schema: Schema) -> None:
    """Store the list of tags at startup; refuse another once points have been written.

    Raises
    ------
    SettingsError
        If the list has changed since then.
    """

    def work(connection: Connection) -> Sequence[str]:
        kept = get_state(connection, _TAGS)
        if kept is None or not has_sent_any(connection):
            put_tags(connection, schema)
            return schema.tags
        tags: list[str] = json.loads(kept)
        return tags

    with record.read() as connection:
        kept = get_state(connection, _TAGS)
    # Who only reads can do so on a full disk.
    if kept is not None and json.loads(kept) == list(schema.tags):
        return
    problem = _tags_problem(record.write(work), schema)
    if problem is not None:
        raise SettingsError(problem, runbook="tags")


def problem_with_tags(connection: Connection, schema: Schema) -> str | None:
    """Say why `check_tags` would refuse, or None; nothing is stored."""
    kept = get_state(connection, _TAGS)
    if kept is None or not has_sent_any(connection):
        return None
    return _tags_problem(json.loads(kept), schema)


def _tags_problem(kept: Sequence[str], schema: Schema) -> str | None:
    if set(kept) == set(schema.tags):
        return None
    return (
        f"SQUASH_TAGS: the points in InfluxDB were written with the tags {', '.join(kept)}; "
        f"the settings say {', '.join(schema.tags)}. Set it back, or empty the databases and "
        "run: squash replay --into-empty"
    )


def schema_of(record: Record, settings: Schema) -> Schema:
    """Return the schema of the record; that of the settings if it is new.

    For commands that only read: the settings of a shell need not be those of the service.
    """
    with record.read() as connection:
        kept = get_state(connection, _TAGS)
    if kept is None:
        return settings
    return Schema(tuple(name for name in json.loads(kept) if name not in TAGS))


def put_tags(connection: Connection, schema: Schema) -> None:
    """Store the list of tags that points are written with from now on."""
    kept = get_state(connection, _TAGS)
    if kept is not None and set(json.loads(kept)) != set(schema.tags):
        everything = select(job.c.id).where(
            job.c.id <= derived_through(connection), job.c.deleted_ns.is_(None)
        )
        _rederive(connection, everything)
    set_state(connection, _TAGS, json.dumps(schema.tags))
