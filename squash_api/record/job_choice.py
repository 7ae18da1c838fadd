"""Which jobs a question is about: those with some tags, and those that are named."""

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import Connection, bindparam, select

from squash_api.record.tables import job_context, job_run

_CHUNK = 4096


def listed_jobs(
    connection: Connection,
    *,
    job_ids: Collection[int] | None,
    run_ids: Collection[str],
    since_ns: int | None,
    until_ns: int | None,
) -> list[tuple[int, int]] | None:
    """Return time and id of jobs that are named and of these runs, in the order of time.

    Both ends of the time count. None is returned if neither jobs nor runs are named.
    """
    ids = None if job_ids is None else set(job_ids)
    if run_ids:
        query = select(job_run.c.job_id).where(job_run.c.run_id.in_(list(run_ids)))
        of_runs = set(connection.execute(query).scalars())
        ids = of_runs if ids is None else ids & of_runs
    if ids is None:
        return None
    return sorted(
        (row.time_ns, row.job_id)
        for chunk in _chunks(sorted(ids))
        for row in connection.execute(_TIMES, {"jobs": chunk})
        if (since_ns is None or since_ns <= row.time_ns)
        and (until_ns is None or row.time_ns <= until_ns)
    )


_TIMES = select(job_context.c.time_ns, job_context.c.job_id).where(
    job_context.c.job_id.in_(bindparam("jobs", expanding=True)),
    job_context.c.tag_set_id.is_not(None),
)


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
