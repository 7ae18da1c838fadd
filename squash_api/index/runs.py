"""The runs that jobs belong to, and the packages of each.

They are derived from the jobs in order of id, separately from the index of measurements: delivery
waits for the runs, and must not wait for that index.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, func, or_, select

from squash_api.record.bulk import insert_rows, is_wanted, rows_of, store_documents
from squash_api.record.record import get_state, set_state
from squash_api.record.tables import job, job_context, job_run, package_set

NEWEST_NS = 2**63 - 1
"""The latest time there is."""

_RUNS_THROUGH = "runs_through"
_RUN_COLUMNS = (
    "job_id",
    "env_name",
    "pipeline",
    "run_id",
    "dataset",
    "package_set_id",
    "previous_job_id",
    "measurement_count",
)
_MOST_RECENT = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """What one job says of its run. `measurement_count` counts the metrics that can be stored."""

    job_id: int
    env_name: str | None
    pipeline: str | None
    run_id: str | None
    dataset: str | None
    packages: Sequence[Mapping[str, Any]]
    measurement_count: int = 0


@dataclass(frozen=True, slots=True)
class RunRow:
    """A job's run. `previous_job_id` is a job of the previous run of the same pipeline."""

    job_id: int
    env_name: str | None
    pipeline: str | None
    run_id: str | None
    dataset: str | None
    package_set_id: int | None
    previous_job_id: int | None


@dataclass(frozen=True, slots=True)
class RunJob:
    """A job, its time (ns since 1970), and the run that it belongs to."""

    job_id: int
    time_ns: int
    tag_set_id: int
    pipeline: str | None
    run_id: str | None
    measurement_count: int
    run_url: str | None
    version_tag: str | None


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run, and the time of its newest job (ns since 1970)."""

    pipeline: str | None
    run_id: str
    time_ns: int


class Runs:
    """Reads runs and their jobs. Deleted jobs are left out unless they are asked for by id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_jobs(self, job_ids: Iterable[int]) -> dict[int, RunRow]:
        """Return the runs of those jobs that have been derived."""
        return {row.job_id: RunRow(*row) for row in rows_of(self._connection, _RUNS_OF, job_ids)}

    def first_jobs(
        self,
        run_id: str,
        *,
        pipeline: str | None = None,
        env_name: str | None = None,
        limit: int = 1,
    ) -> list[RunRow]:
        """Return the first jobs of a run, in order of arrival; None means any."""
        query = _RUN.join(job, job.c.id == job_run.c.job_id).where(
            job_run.c.run_id == run_id, job.c.deleted_ns.is_(None)
        )
        if pipeline is not None:
            query = query.where(job_run.c.pipeline == pipeline)
        if env_name is not None:
            query = query.where(job_run.c.env_name == env_name)
        rows = self._connection.execute(query.order_by(job_run.c.job_id).limit(limit))
        return [RunRow(*row) for row in rows]

    def package_sets(self, package_set_ids: Iterable[int]) -> dict[int, list[dict[str, Any]]]:
        """Return the packages of these sets, each by name."""
        rows = rows_of(self._connection, _PACKAGE_SETS, package_set_ids)
        return {row.id: orjson.loads(row.document) for row in rows}

    def back(self, *, before_ns: int, jobs: int) -> tuple[list[RunJob], int | None]:
        """Return at most `jobs` jobs before a time, newest first, and where the next ones begin.

        The latter is None when there are no more.
        """
        limits = {"before": before_ns, "offset": jobs - 1}
        end = self._connection.execute(_END, limits).scalar_one_or_none()
        since = -1 if end is None else int(end)
        rows = self._connection.execute(
            _NEWEST_FIRST.where(_CONTEXT.time_ns >= since, _CONTEXT.time_ns < before_ns)
        )
        return [RunJob(*row) for row in rows], None if end is None else since

    def newest_jobs(self, pipeline: str | None, run_id: str, *, limit: int) -> list[RunJob]:
        """Return the newest jobs of a run; its pipeline may be None."""
        query = _NEWEST_FIRST.where(*_of_run(pipeline, run_id)).limit(limit)
        return [RunJob(*row) for row in self._connection.execute(query)]

    def count_jobs(self, pipeline: str | None, run_id: str) -> int:
        """Count the jobs of a run."""
        query = select(func.count()).select_from(_JOINED)
        where = (*_of_run(pipeline, run_id), _CONTEXT.tag_set_id.is_not(None))
        return int(self._connection.execute(query.where(*where)).scalar_one())

    def page(self, pipeline: str | None, run_id: str, *, after: int, limit: int) -> list[RunJob]:
        """Return jobs of a run after an id, in order of id."""
        query = (
            _JOBS.where(*_of_run(pipeline, run_id), job_run.c.job_id > after)
            .order_by(job_run.c.job_id)
            .limit(limit)
        )
        return [RunJob(*row) for row in self._connection.execute(query)]

    def with_job(
        self, candidates: Sequence[tuple[str | None, str]]
    ) -> list[tuple[str | None, str]]:
        """Return those pipelines and runs that have a job, in the order given."""
        found = []
        for pipeline, run_id in candidates:
            query = _JOBS.where(*_of_run(pipeline, run_id)).limit(1)
            if self._connection.execute(query).first() is not None:
                found.append((pipeline, run_id))
        return found

    def matching(self, words: Sequence[str], *, limit: int) -> list[FoundRun]:
        """Return runs with each word in their pipeline or id, the newest jobs first.

        Only the newest jobs are looked at, except for a run whose id is one of the words.
        """
        newest = _RUN_IDS.order_by(job_run.c.job_id.desc()).limit(_MOST_SEARCHED)
        exact = _RUN_IDS.where(job_run.c.run_id.in_(words)).limit(_MOST_SEARCHED)
        found: dict[tuple[str | None, str], FoundRun] = {}
        for jobs in (exact.subquery(), newest.subquery()):
            has_words = (
                or_(
                    jobs.c.run_id.icontains(word, autoescape=True),
                    jobs.c.pipeline.icontains(word, autoescape=True),
                )
                for word in words
            )
            query = (
                select(jobs.c.pipeline, jobs.c.run_id, func.max(job.c.time_ns))
                .join(job, job.c.id == jobs.c.job_id)
                .where(*has_words, job.c.deleted_ns.is_(None))
                .group_by(jobs.c.pipeline, jobs.c.run_id)
                .order_by(func.max(jobs.c.job_id).desc())
                .limit(limit)
            )
            for row in self._connection.execute(query):
                found.setdefault((row[0], row[1]), FoundRun(*row))
        return list(found.values())[:limit]

    def recent(self, pipeline: str | None) -> list[str]:
        """Return the runs of a pipeline that have the newest jobs, the newest first."""
        query = (
            select(job_run.c.run_id)
            .where(job_run.c.pipeline == pipeline, job_run.c.run_id.is_not(None))
            .order_by(job_run.c.job_id.desc())
            .limit(_MOST_RECENT)
        )
        return list(dict.fromkeys(self._connection.execute(query).scalars()))

    def datasets(self, *, after: str, limit: int) -> list[str]:
        """Return the distinct datasets of jobs, sorted."""
        query = (
            select(job_run.c.dataset)
            .join(job, job.c.id == job_run.c.job_id)
            .where(job_run.c.dataset > after, job.c.deleted_ns.is_(None))
            .distinct()
            .order_by(job_run.c.dataset)
            .limit(limit)
        )
        return list(self._connection.execute(query).scalars())

    def count_measurements(self) -> int:
        """Count the measurements of all jobs."""
        query = (
            select(func.coalesce(func.sum(job_run.c.measurement_count), 0))
            .join(job, job.c.id == job_run.c.job_id)
            .where(job.c.deleted_ns.is_(None))
        )
        return int(self._connection.execute(query).scalar_one())


def runs_through(connection: Connection) -> int:
    """Return the id up to which the run of every job is known."""
    return int(get_state(connection, _RUNS_THROUGH) or 0)


def store_runs(connection: Connection, runs: Sequence[Run], *, after: int, through: int) -> bool:
    """Store the runs of jobs, which are in order of id.

    Returns False, with nothing stored, if another thread or process has stored runs after `after`.
    """
    if runs_through(connection) != after:
        return False
    _insert_runs(connection, runs)
    set_state(connection, _RUNS_THROUGH, str(through))
    return True


def _insert_runs(connection: Connection, jobs: Sequence[Run]) -> None:
    documents = [orjson.dumps(item.packages) for item in jobs if item.packages]
    sets = iter(store_documents(connection, package_set, documents))
    previous: dict[tuple[str, str], int | None] = {}
    latest: dict[str, int] = {}
    rows: list[tuple[Any, ...]] = []
    for item in jobs:
        before: int | None = None
        if item.pipeline is not None and item.run_id is not None:
            run = (item.pipeline, item.run_id)
            if run not in previous:
                previous[run] = _job_before(connection, *run, latest=latest.get(item.pipeline))
            before = previous[run]
            latest[item.pipeline] = item.job_id
        rows.append(
            (
                item.job_id,
                item.env_name,
                item.pipeline,
                item.run_id,
                item.dataset,
                next(sets) if item.packages else None,
                before,
                item.measurement_count,
            )
        )
    insert_rows(connection, job_run, _RUN_COLUMNS, rows)


def _job_before(
    connection: Connection, pipeline: str, run_id: str, *, latest: int | None
) -> int | None:
    """Return a job of the pipeline's previous run.

    `latest` is the pipeline's newest job among those that are being stored.
    """
    same_run = connection.execute(
        select(job_run.c.previous_job_id)
        .where(job_run.c.pipeline == pipeline, job_run.c.run_id == run_id)
        .order_by(job_run.c.job_id)
        .limit(1)
    ).first()
    if same_run is not None:
        previous: int | None = same_run.previous_job_id
        return previous
    if latest is not None:
        return latest
    return connection.execute(
        select(job_run.c.job_id)
        .join(job, job.c.id == job_run.c.job_id)
        .where(
            job_run.c.pipeline == pipeline,
            job_run.c.run_id.is_not(None),
            job.c.deleted_ns.is_(None),
        )
        .order_by(job_run.c.job_id.desc())
        .limit(1)
    ).scalar_one_or_none()


def _of_run(pipeline: str | None, run_id: str) -> tuple[ColumnElement[bool], ...]:
    return job_run.c.pipeline == pipeline, job_run.c.run_id == run_id


_MOST_SEARCHED = 50_000
_RUN_IDS = select(job_run.c.pipeline, job_run.c.run_id, job_run.c.job_id).where(
    job_run.c.run_id.is_not(None)
)
_RUN = select(*(job_run.c[name] for name in _RUN_COLUMNS[:-1]))
_RUNS_OF = _RUN.where(is_wanted(job_run.c.job_id))
_PACKAGE_SETS = select(package_set.c.id, package_set.c.document).where(is_wanted(package_set.c.id))
_CONTEXT: Any = job_context.c
_JOINED = job_context.join(job_run, job_run.c.job_id == job_context.c.job_id)
_JOBS = (
    select(
        job_context.c.job_id,
        job_context.c.time_ns,
        job_context.c.tag_set_id,
        job_run.c.pipeline,
        job_run.c.run_id,
        job_run.c.measurement_count,
        job_context.c.run_url,
        job_context.c.version_tag,
    )
    .select_from(_JOINED)
    .where(job_context.c.tag_set_id.is_not(None))
)
_NEWEST_FIRST = _JOBS.order_by(job_context.c.time_ns.desc())
_END = (
    select(job_context.c.time_ns)
    .where(job_context.c.time_ns < bindparam("before"))
    .order_by(job_context.c.time_ns.desc())
    .limit(1)
    .offset(bindparam("offset"))
)
