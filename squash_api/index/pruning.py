"""Old jobs: which there are, what still needs them, and deleting them in small transactions.

An old job has a time before a moment, and was received before it: what is sent in late stays as
long as what is new.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    and_,
    exists,
    func,
    not_,
    or_,
    select,
)

from squash_api.index.derived import derived_through
from squash_api.index.jobs import forget_jobs
from squash_api.index.runs import runs_through
from squash_api.ingest.stored_job import document_of
from squash_api.record.jobs import added_measurements, jobs_by_id
from squash_api.record.record import Record
from squash_api.record.tables import (
    added_measurement,
    erasure,
    job,
    job_context,
    job_run,
    quarantine,
    redelivery,
    rederivation,
    target,
)

# Each is one transaction, in which those wait who post jobs.
_BATCH = 25
_BATCH_BYTES = 2_000_000

RunName = tuple[str | None, str]
"""A run by its pipeline and id."""


@dataclass(frozen=True, slots=True)
class Age:
    """What is old: before this time (ns). `targets` are those that every job must be sent to."""

    before_ns: int
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OldJob:
    """An old job. `run` is None if it has none.

    `is_waiting`: it is not delivered everywhere, or something of it waits to be done. `has_news`:
    a measurement was added to it that is not old.
    """

    job_id: int
    time_ns: int
    size: int
    run: RunName | None
    version_tag: str | None
    is_waiting: bool
    has_news: bool


def old_jobs(connection: Connection, age: Age, *, after_ns: int, limit: int) -> list[OldJob]:
    """Return old jobs with a time after another, in order of time."""
    query = (
        select(
            job.c.id,
            job.c.time_ns,
            job.c.size,
            job_run.c.pipeline,
            job_run.c.run_id,
            job_context.c.version_tag,
            _is_waiting(connection, age).label("is_waiting"),
            _has_news(age).label("has_news"),
        )
        .select_from(
            job.join(job_run, job_run.c.job_id == job.c.id, isouter=True).join(
                job_context, job_context.c.job_id == job.c.id, isouter=True
            )
        )
        .where(_IS_THERE, _is_old(age), job.c.time_ns > after_ns)
        .order_by(job.c.time_ns)
        .limit(limit)
    )
    return [
        OldJob(
            row.id,
            row.time_ns,
            row.size,
            (row.pipeline, row.run_id) if row.run_id else None,
            row.version_tag,
            bool(row.is_waiting),
            bool(row.has_news),
        )
        for row in connection.execute(query)
    ]


def is_run_needed(connection: Connection, run: RunName, age: Age) -> bool:
    """Tell whether a run has jobs that are not old, or that something waits for."""
    pipeline, run_id = run
    needed = or_(not_(_is_old(age)), _is_waiting(connection, age), _has_news(age))
    query = (
        select(job.c.id)
        .select_from(_IN_RUN)
        .where(job_run.c.pipeline == pipeline, job_run.c.run_id == run_id, _IS_THERE, needed)
        .limit(1)
    )
    return connection.execute(query).first() is not None


def previous_jobs(connection: Connection, age: Age) -> set[int]:
    """Return the old jobs of runs that runs with later jobs are compared with."""
    before = job.alias("before")
    query = (
        select(job_run.c.previous_job_id)
        .select_from(_IN_RUN.join(before, before.c.id == job_run.c.previous_job_id))
        .where(
            _IS_THERE,
            not_(_is_old(age)),
            before.c.time_ns < age.before_ns,
            before.c.deleted_ns.is_(None),
        )
        .distinct()
    )
    return {int(number) for number in connection.execute(query).scalars() if number is not None}


def waiting_erasures(connection: Connection, targets: Iterable[str]) -> int:
    """Return how many jobs have points that these targets are still to delete."""
    query = select(func.count()).select_from(erasure).where(erasure.c.target.in_(list(targets)))
    return int(connection.execute(query).scalar_one())


@dataclass(slots=True)
class Pruned:
    """How many jobs, and bytes of their bodies, have been deleted."""

    jobs: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Pruning:
    """Deletes old jobs from a record.

    Parameters
    ----------
    erased
        The targets that the points are deleted from.
    first
        Is called with the connection in the first transaction that deletes something, to note it.
    """

    record: Record
    age: Age
    erased: Collection[str]
    first: Callable[[Connection], None]
    done: Pruned = field(default_factory=Pruned)

    def delete(self, jobs: Sequence[OldJob]) -> int:
        """Delete the first of these jobs, sorted by id, but not those that are needed by now.

        Returns how many these first ones were.
        """
        some = {item.job_id: item for item in jobs[:_BATCH]}
        with self.record.read() as connection:
            rows = jobs_by_id(connection, some, max_bytes=_BATCH_BYTES)
            added = added_measurements(connection, [row.job_id for row in rows])
        # Decoded before the transaction, for which others wait.
        documents = [
            (row, document_of(row, added.get(row.job_id, [])))
            for row in rows
            if row.body is not None
        ]

        def work(connection: Connection) -> list[int]:
            free = _still_free(connection, [some[row.job_id] for row, _ in documents], self.age)
            found = [item for item in documents if item[0].job_id in free]
            if found:
                forget_jobs(connection, found, targets=self.erased, user_id=None)
                if not self.done.jobs:
                    self.first(connection)
            return [row.job_id for row, _ in found]

        gone = self.record.write(work)
        self.done.jobs += len(gone)
        self.done.size += sum(some[number].size for number in gone)
        return len(rows)


def _still_free(connection: Connection, jobs: Sequence[OldJob], age: Age) -> set[int]:
    ids = [item.job_id for item in jobs]
    needed = or_(_is_waiting(connection, age), _has_news(age))
    query = select(job.c.id).where(job.c.id.in_(ids), _IS_THERE, _is_old(age), not_(needed))
    free = set(connection.execute(query).scalars())
    runs = {item.run for item in jobs if item.run is not None}
    kept = {run for run in runs if is_run_needed(connection, run, age)}
    return free - {item.job_id for item in jobs if item.run in kept}


def _is_old(age: Age) -> ColumnElement[bool]:
    return and_(job.c.time_ns < age.before_ns, job.c.received_ns < age.before_ns)


def _is_waiting(connection: Connection, age: Age) -> ColumnElement[bool]:
    names = set(age.targets)
    cursors = select(target.c.sent_through).where(target.c.name.in_(names))
    sent = connection.execute(cursors).scalars().all() if names else []
    derived = runs_through(connection), derived_through(connection)
    # One that has never been known has got nothing.
    through = min(*derived, *sent) if len(sent) == len(names) else 0
    return or_(
        job.c.id > through,
        exists().where(rederivation.c.job_id == job.c.id),
        *(
            exists().where(table.c.job_id == job.c.id, table.c.target.in_(age.targets), *conditions)
            for table, conditions in _WAITING.items()
        ),
    )


def _has_news(age: Age) -> ColumnElement[bool]:
    return exists().where(
        added_measurement.c.job_id == job.c.id, added_measurement.c.created_ns >= age.before_ns
    )


_IS_THERE = job.c.deleted_ns.is_(None)
_IN_RUN: FromClause = job_run.join(job, job.c.id == job_run.c.job_id)
_WAITING: Mapping[Any, Sequence[ColumnElement[bool]]] = {
    redelivery: (),
    erasure: (),
    quarantine: (quarantine.c.dropped_ns.is_(None),),
}
