"""Jobs in the record: reading, counting, adding to, and deleting them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from squash_api.record.bulk import in_chunks, select_rows
from squash_api.record.tables import added_measurement, definition, job, job_run


@dataclass(frozen=True, slots=True)
class Received:
    """What was received of a job, as it came.

    `wire` names the form of the body, None for that of lsst.verify. `address` is what the URL said
    beside it, None if that has no meaning.
    """

    body: bytes
    wire: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as stored. `body` is None once it has been deleted."""

    job_id: int
    user_id: int
    received_ns: int
    time_ns: int
    revision: int
    is_deliverable: bool
    body: bytes | None
    deleted_ns: int | None
    wire: str | None = None
    address: str | None = None

    @property
    def received(self) -> Received | None:
        """What was received of the job; None once it has been deleted."""
        return None if self.body is None else Received(self.body, self.wire, self.address)


def current_revision(connection: Connection) -> int:
    """Return the revision of the newest definition; 0 if there is none."""
    return int(connection.execute(_REVISION).scalar_one())


def get_job(connection: Connection, job_id: int) -> JobRow | None:
    """Return a job, or None if there never was one."""
    row = connection.execute(_JOB.where(job.c.id == job_id)).first()
    return None if row is None else JobRow(*row)


def jobs_between(
    connection: Connection, *, after: int, through: int, max_bytes: int, limit: int
) -> list[JobRow]:
    """Return the jobs of `ids_between`."""
    ids = ids_between(connection, after=after, through=through, max_bytes=max_bytes, limit=limit)
    return list(job_rows(connection, ids))


def jobs_by_id(connection: Connection, job_ids: Iterable[int], *, max_bytes: int) -> list[JobRow]:
    """Return the first of these jobs, sorted by id, that fit `max_bytes`, but at least one."""
    return list(job_rows(connection, ids_that_fit(connection, job_ids, max_bytes=max_bytes)))


def ids_between(
    connection: Connection, *, after: int, through: int, max_bytes: int, limit: int
) -> list[int]:
    """Return sorted ids of jobs after one and through another, including deleted jobs.

    At most `limit`, and only as many as have bodies that fit `max_bytes`, but at least one.
    """
    sizes = connection.execute(
        _SIZES.where(job.c.id > after, job.c.id <= through).order_by(job.c.id).limit(limit)
    )
    return _that_fit(sizes, max_bytes)


def ids_that_fit(connection: Connection, job_ids: Iterable[int], *, max_bytes: int) -> list[int]:
    """Return the first of these ids, sorted, that exist and have bodies that fit `max_bytes`.

    At least one, if one exists.
    """
    sizes = connection.execute(_SIZES.where(job.c.id.in_(list(job_ids))).order_by(job.c.id))
    return _that_fit(sizes, max_bytes)


def _that_fit(sizes: Iterable[Row[int, int]], max_bytes: int) -> list[int]:
    total = 0
    wanted: list[int] = []
    for job_id, size in sizes:
        total += size
        if wanted and total > max_bytes:
            break
        wanted.append(job_id)
    return wanted


def job_rows(connection: Connection, job_ids: Sequence[int]) -> Iterator[JobRow]:
    """Yield the jobs of these sorted ids one by one, so that none stays in memory."""
    if not job_ids:
        return
    first, last = job_ids[0], job_ids[-1]
    is_dense = last - first < 2 * len(job_ids)
    where = job.c.id.between(first, last) if is_dense else job.c.id.in_(job_ids)
    chosen = set(job_ids)
    for row in connection.execute(_JOB.where(where).order_by(job.c.id)):
        if row.id in chosen:
            yield JobRow(*row)


def last_job_id(connection: Connection) -> int:
    """Return the id of the newest job; 0 if there is none."""
    return int(connection.execute(_LAST_JOB).scalar_one())


def newest_received_ns(connection: Connection) -> int | None:
    """Return when the newest job was received, in ns; None if there is none."""
    return connection.execute(_NEWEST_NS).scalar()


def job_ids(connection: Connection, *, after: int, limit: int) -> list[int]:
    """Return sorted ids of jobs that have not been deleted."""
    rows = connection.execute(
        select(job.c.id)
        .where(job.c.id > after, job.c.deleted_ns.is_(None))
        .order_by(job.c.id)
        .limit(limit)
    )
    return [row.id for row in rows]


def job_ids_in_time(
    connection: Connection, *, since_ns: int | None, until_ns: int | None
) -> list[int]:
    """Return ids of jobs with a time between the two, both included; None is not a limit."""
    query = select(job.c.id).where(job.c.deleted_ns.is_(None))
    if since_ns is not None:
        query = query.where(job.c.time_ns >= since_ns)
    if until_ns is not None:
        query = query.where(job.c.time_ns <= until_ns)
    return list(connection.execute(query.order_by(job.c.id)).scalars())


def jobs_by_time(
    connection: Connection, *, after_ns: int, until_ns: int, max_bytes: int, limit: int
) -> list[tuple[int, int]]:
    """Return times (ns) and ids of the next jobs after a time, in order of time.

    At least one, if there is one; at most `limit` with bodies that fit `max_bytes`.
    """
    rows = connection.execute(
        select(job.c.time_ns, job.c.id, job.c.size)
        .where(job.c.time_ns > after_ns, job.c.time_ns <= until_ns, job.c.deleted_ns.is_(None))
        .order_by(job.c.time_ns)
        .limit(limit)
    )
    found: list[tuple[int, int]] = []
    total = 0
    for time_ns, job_id, size in rows:
        total += size
        if found and total > max_bytes:
            break
        found.append((time_ns, job_id))
    return found


def jobs_at(connection: Connection, times_ns: Iterable[int]) -> list[int]:
    """Return the ids of the jobs with these times (ns)."""
    return [
        job_id
        for chunk in in_chunks(times_ns)
        for job_id in connection.execute(
            select(job.c.id).where(job.c.time_ns.in_(chunk), job.c.deleted_ns.is_(None))
        ).scalars()
    ]


def added_measurements(
    connection: Connection, job_ids: Sequence[int]
) -> dict[int, list[dict[str, object]]]:
    """Return what was added to these jobs, in order of arrival.

    Each is a measurement, with a number as `added_id` that is higher than that of all before.
    """
    rows = connection.execute(
        select(added_measurement.c.job_id, added_measurement.c.document, added_measurement.c.id)
        .where(added_measurement.c.job_id.in_(job_ids))
        .order_by(added_measurement.c.id)
    )
    found: dict[int, list[dict[str, object]]] = {}
    for row in rows:
        found.setdefault(row.job_id, []).append({**json.loads(row.document), "added_id": row.id})
    return found


def add_measurement(
    connection: Connection,
    *,
    job_id: int,
    document: dict[str, object],
    user_id: int,
    created_ns: int,
) -> None:
    """Add a measurement to a stored job."""
    connection.execute(
        insert(added_measurement).values(
            job_id=job_id, document=json.dumps(document), user_id=user_id, created_ns=created_ns
        )
    )


def forget_added(connection: Connection, added_ids: Iterable[object]) -> None:
    """Delete measurements that were added to jobs."""
    connection.execute(delete(added_measurement).where(added_measurement.c.id.in_(added_ids)))


def mark_deliverable(connection: Connection, job_id: int) -> None:
    """Note that a job has values to deliver."""
    connection.execute(update(job).where(job.c.id == job_id).values(is_deliverable=True))


def bury_jobs(
    connection: Connection, job_ids: Sequence[int], *, user_id: int | None, deleted_ns: int
) -> None:
    """Delete the content of jobs; leave tombstones that say who deleted them, and when.

    `user_id` is None if they were only too old.
    """
    emptied = {"body": None, "address": None, "digest": None, "identifiers_digest": None, "size": 0}
    connection.execute(
        update(job)
        .where(job.c.id.in_(job_ids))
        .values(**emptied, deleted_ns=deleted_ns, deleted_by=user_id)
    )
    connection.execute(delete(added_measurement).where(added_measurement.c.job_id.in_(job_ids)))


_REVISION = select(func.coalesce(func.max(definition.c.revision), 0))
_SIZES = select(job.c.id, job.c.size)
_NEWEST_NS = select(job.c.received_ns).order_by(job.c.id.desc()).limit(1)
_LAST_JOB = select(func.coalesce(func.max(job.c.id), 0))
_JOB = select_rows(job, JobRow)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A job that was received, and how many metrics it measures."""

    job_id: int
    metrics: int


def last_job_before(connection: Connection, time_ns: int, *, among: int) -> int:
    """Return the id of the last job received before a time (ns).

    Only so many of the newest jobs are looked at: the result is that of the one before them, if
    they are all later.
    """
    floor = last_job_id(connection) - among
    query = select(func.max(job.c.id)).where(job.c.id > floor, job.c.received_ns < time_ns)
    return connection.execute(query).scalar_one() or max(floor, 0)


def events_between(
    connection: Connection, *, after: int, through: int, limit: int
) -> list[JobEvent]:
    """Return the last jobs after one id and through another, by id, without deleted jobs.

    A job whose run has not been derived yet measures 0 metrics.
    """
    wanted = {"after": after, "through": through, "limit": limit}
    rows = connection.execute(_EVENTS, wanted).all()
    return [JobEvent(*row) for row in reversed(rows)]


_EVENTS = (
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


def last_job_received_ns(connection: Connection) -> int | None:
    """Return when the newest job was received, or None if there is no job."""
    return connection.execute(
        select(job.c.received_ns)
        .where(job.c.deleted_ns.is_(None))
        .order_by(job.c.id.desc())
        .limit(1)
    ).scalar_one_or_none()


def number_of_jobs(connection: Connection) -> int:
    """Return the number of jobs that have not been deleted."""
    total = connection.execute(select(func.count()).select_from(job)).scalar_one()
    deleted = connection.execute(
        select(func.count()).select_from(job).where(job.c.deleted_ns.is_not(None))
    ).scalar_one()
    return int(total - deleted)
