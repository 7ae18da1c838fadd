"""What jobs measured, read from the index for many jobs at once."""

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection, select

from squash_api.record.tables import job, job_context, measurement

_CHUNK = 500
# To step to the next row costs so many times less than to look one up.
_STEPS_OF_A_SEEK = 8


def values_in(
    connection: Connection, metric_ids: Sequence[int], job_ids: Iterable[int]
) -> Iterator[tuple[int, int, float | None]]:
    """Yield metric, job and value of these metrics in these jobs; None is an absent value."""
    wanted = set(job_ids)
    for jobs in _chunks(sorted(wanted)):
        first, last = jobs[0], jobs[-1]
        chosen = (
            measurement.c.job_id.between(first, last)
            if last - first < _STEPS_OF_A_SEEK * len(jobs)
            else measurement.c.job_id.in_(jobs)
        )
        for metrics in _chunks(metric_ids):
            rows = connection.execute(_VALUES.where(measurement.c.metric_id.in_(metrics), chosen))
            for metric_id, job_id, value in rows:
                if job_id in wanted:
                    yield metric_id, job_id, value


def revisions_of(connection: Connection, job_ids: Iterable[int]) -> dict[int, int]:
    """Return the revision of the definitions at the receipt of each of these jobs."""
    return {
        row.id: row.revision
        for chunk in _chunks(sorted(set(job_ids)))
        for row in connection.execute(_REVISIONS.where(job.c.id.in_(chunk)))
    }


def versions_of(connection: Connection, job_ids: Iterable[int]) -> dict[int, int]:
    """Return a number for each of these jobs that grows when what it says is derived anew.

    Those that have been deleted, or are not in the index, are left out.
    """
    return {
        row.job_id: row.version
        for chunk in _chunks(sorted(set(job_ids)))
        for row in connection.execute(_VERSIONS.where(job_context.c.job_id.in_(chunk)))
    }


_VALUES = select(measurement.c.metric_id, measurement.c.job_id, measurement.c.value)
_REVISIONS = select(job.c.id, job.c.revision)
_VERSIONS = select(job_context.c.job_id, job_context.c.version).where(
    job_context.c.tag_set_id.is_not(None)
)


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
