"""Reading a job from the record: its document as received, and what was added to it."""

from collections.abc import Collection, Iterable
from typing import Any

from squash_api.errors import NotFoundError
from squash_api.ingest.document import Job, measured_of
from squash_api.ingest.ingest import reread
from squash_api.record.jobs import JobRow, Received, added_measurements, get_job, job_rows
from squash_api.record.record import Connection
from squash_api.schema.artifacts import Artifact, artifacts_of
from squash_api.schema.names import split_metric_name
from squash_api.schema.text import clean_text

MAX_ID = 2**63 - 1


def load_job(connection: Connection, job_id: int) -> tuple[JobRow, Job]:
    """Return a job's row and its document.

    Raises
    ------
    NotFoundError
        If there is no such job, or it has been deleted.
    """
    row = find_job(connection, job_id)
    return row, document_of(row, added_measurements(connection, [job_id]).get(job_id, []))


def find_job(connection: Connection, job_id: int) -> JobRow:
    """Return a job's row.

    Raises
    ------
    NotFoundError
        If there is no such job, or it has been deleted.
    """
    row = get_job(connection, job_id) if 0 <= job_id <= MAX_ID else None
    if row is None or row.body is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return row


def points_of(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the measurements in InfluxDB that a job with these metrics has points of, sorted."""
    names = {split_metric_name(metric)[0] for metric in metrics} - {""}
    # What InfluxDB cannot hold was never sent, and cannot be deleted there.
    return tuple(sorted(name for name in names if clean_text(name) == name))


def document_of(row: JobRow, added: list[dict[str, Any]]) -> Job:
    """Return the document of a job that has not been deleted, with added measurements last."""
    job = reread(row.received or Received(b"{}"))
    return job.adding([measured_of(item) for item in added]) if added else job


def artifacts_in(connection: Connection, job_ids: Collection[int]) -> dict[int, list[Artifact]]:
    """Return the artifacts of each of these jobs that has any, by id."""
    found = {
        row.job_id: artifacts_of(document_of(row, []).meta)
        for row in job_rows(connection, sorted(job_ids))
        if row.body is not None
    }
    return {job_id: artifacts for job_id, artifacts in found.items() if artifacts}
