"""Jobs with the runs that they are of, the newest first: for lists of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from squash_api.record.tables import job_context, job_run

NEWEST_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RunJob:
    """A job, its time (ns since 1970), and the run that it is of."""

    job_id: int
    time_ns: int
    tag_set_id: int
    pipeline: str | None
    run_id: str | None
    measurement_count: int
    run_url: str | None
    version_tag: str | None


def jobs_back(
    connection: Connection, *, before_ns: int, jobs: int
) -> tuple[list[RunJob], int | None]:
    """Return the last of at most `jobs` jobs before a time, and where the next ones begin.

    The second is None when there are no more.
    """
    limits = {"before": before_ns, "offset": jobs - 1}
    end = connection.execute(_END, limits).scalar_one_or_none()
    since = -1 if end is None else int(end)
    rows = connection.execute(
        _NEWEST_FIRST.where(_CONTEXT.time_ns >= since, _CONTEXT.time_ns < before_ns)
    )
    return [RunJob(*row) for row in rows], None if end is None else since


def jobs_in_run(
    connection: Connection, pipeline: str | None, run_id: str, *, limit: int
) -> list[RunJob]:
    """Return the newest jobs of a run of a pipeline, or of a run of none."""
    rows = connection.execute(_NEWEST_FIRST.where(*_of_run(pipeline, run_id)).limit(limit))
    return [RunJob(*row) for row in rows]


def count_in_run(connection: Connection, pipeline: str | None, run_id: str) -> int:
    """Return how many jobs a run has."""
    query = select(func.count()).select_from(_JOINED)
    where = (*_of_run(pipeline, run_id), _CONTEXT.tag_set_id.is_not(None))
    return int(connection.execute(query.where(*where)).scalar_one())


def jobs_of_run_page(
    connection: Connection, pipeline: str | None, run_id: str, *, after: int, limit: int
) -> list[RunJob]:
    """Return jobs of a run after the id of one, in the order of their ids."""
    query = (
        _JOBS.where(*_of_run(pipeline, run_id), job_run.c.job_id > after)
        .order_by(job_run.c.job_id)
        .limit(limit)
    )
    return [RunJob(*row) for row in connection.execute(query)]


def runs_with_job(
    connection: Connection, candidates: Sequence[tuple[str | None, str]]
) -> list[tuple[str | None, str]]:
    """Return those pipelines and runs that have a job, in the order in which they are given."""
    found = []
    for pipeline, run_id in candidates:
        query = _JOBS.where(*_of_run(pipeline, run_id)).limit(1)
        if connection.execute(query).first() is not None:
            found.append((pipeline, run_id))
    return found


def _of_run(pipeline: str | None, run_id: str) -> tuple[ColumnElement[bool], ...]:
    return job_run.c.pipeline == pipeline, job_run.c.run_id == run_id


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
