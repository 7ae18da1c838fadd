"""Reading, adding to and deleting stored jobs, as the API shows them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from squash_api.accounts.accounts import Account
from squash_api.errors import Detail, ForbiddenError, InvalidInputError, NotFoundError
from squash_api.index.derived import forget_derived, mark_for_rederivation
from squash_api.index.deriver import dataset_of
from squash_api.ingest.assessment import assess
from squash_api.ingest.document import Job, Measured, measured_of
from squash_api.ingest.stored_job import document_of, find_job, load_job
from squash_api.record.deliveries import Erasure, request_erasure, request_redelivery, target_names
from squash_api.record.jobs import (
    JobRow,
    add_measurement,
    added_measurements,
    bury_job,
    jobs_between,
    last_job_id,
    mark_deliverable,
)
from squash_api.record.metrics import Vocabulary, known_units, meet_metrics
from squash_api.record.record import Record
from squash_api.schema.names import split_metric_name
from squash_api.schema.text import clean_text
from squash_api.verify.metrics import KnownMetric

_PAGE_BYTES = 32_000_000


def job_object(row: JobRow, job: Job, *, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return a job as the API shows it; dates are in UTC."""
    meta = {**job.meta, "packages": list(job.packages)}
    return {
        "id": row.job_id,
        "date_created": date_text(row.time_ns),
        "date_received": date_text(row.received_ns),
        "time_ns": row.time_ns,
        "ci_dataset": dataset_of(job, vocabulary.schema.context(job.meta)),
        "s3_uri": None,
        "measurements": list(measurement_objects(row.job_id, job, vocabulary=vocabulary)),
        "meta": meta,
    }


def measurement_objects(
    job_id: int, job: Job, *, vocabulary: Vocabulary
) -> Iterator[dict[str, Any]]:
    """Yield a job's measurements in the metric's unit; skipped ones as posted, with the reason."""
    outcome = assess(job, metrics=vocabulary.metrics, schema=vocabulary.schema)
    skipped = {skip.metric: skip.reason for skip in outcome.skipped}
    names = {
        identifier: blob.get("name")
        for blob in job.blobs
        if isinstance(identifier := blob.get("identifier"), str)
    }
    latest = {item.metric: item for item in job.measurements}
    for metric, item in latest.items():
        shown: dict[str, Any] = {
            "metric": metric,
            "value": outcome.values.get(metric),
            "unit": _unit_in_force(metric, item, vocabulary),
            "identifier": item.identifier,
            "job": job_id,
            "blobs": [
                {"identifier": reference, "name": names[reference], "s3_uri": None}
                for reference in item.blob_refs or []
                if reference in names
            ],
        }
        if metric in skipped and metric not in outcome.values:
            shown |= {
                "value": item.value,
                "unit": item.unit,
                "skipped": skipped[metric],
            }
        yield shown


def list_measurements(
    record: Record, vocabulary: Vocabulary, *, after: tuple[int, int], limit: int
) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """Return measurements of all jobs in order of arrival, and the cursor of the next page.

    A cursor is the id of a job, and how many of its measurements have been seen.
    """
    found: list[dict[str, Any]] = []
    last, seen = after[0] - 1, after[1]
    while True:
        with record.read() as connection:
            rows = jobs_between(
                connection,
                after=last,
                through=last_job_id(connection),
                max_bytes=_PAGE_BYTES,
                limit=50,
            )
            added = added_measurements(connection, [row.job_id for row in rows])
        if not rows:
            return found, None
        for row in rows:
            last = row.job_id
            if row.body is None:
                continue
            job = document_of(row, added.get(row.job_id, []))
            shown = list(measurement_objects(row.job_id, job, vocabulary=vocabulary))
            start = seen if row.job_id == after[0] else 0
            room = limit - len(found)
            found.extend(shown[start : start + room])
            if len(shown) > start + room:
                return found, (row.job_id, start + room)
            if len(found) == limit:
                return found, (row.job_id + 1, 0)


def delete_job(record: Record, job_id: int, *, account: Account) -> None:
    """Delete a job: a tombstone stays, and its points are deleted from every target.

    Raises
    ------
    NotFoundError
        If there is no such job.
    ForbiddenError
        If it is somebody else's and the account is no admin's.
    """

    def work(connection: Connection) -> None:
        row, job = load_job(connection, job_id)
        _check_owner(row, account, "delete")
        metrics = {item.metric for item in job.measurements}
        points = sorted({split_metric_name(name)[0] for name in metrics} - {""})
        # What InfluxDB cannot hold was never sent, and it could not be asked to delete it.
        points = [name for name in points if clean_text(name) == name]
        request_erasure(
            connection,
            Erasure(row.job_id, row.time_ns, tuple(points)),
            targets=target_names(connection),
        )
        forget_derived(connection, job_id=job_id, metrics=metrics)
        bury_job(connection, job_id=job_id, user_id=account.user_id, deleted_ns=time.time_ns())

    record.write(work)


def post_measurement(
    record: Record,
    vocabulary: Vocabulary,
    *,
    job_id: int,
    document: dict[str, Any],
    account: Account,
) -> dict[str, Any]:
    """Add a measurement to a job, or replace the job's measurement of the same metric.

    Raises
    ------
    NotFoundError
        If there is no such job.
    ForbiddenError
        If it is somebody else's and the account is no admin's.
    InvalidInputError
        If the value cannot be taken, for instance because its unit does not convert.
    """
    name: str = document["metric"]
    kept = {key: document.get(key) for key in ("metric", "value", "unit", "identifier")}
    alone = Job([measured_of(kept)])

    def work(connection: Connection) -> None:
        row = find_job(connection, job_id)
        _check_owner(row, account, "add to")
        outcome = assess(
            alone,
            metrics=_metric_now(connection, name, vocabulary),
            schema=vocabulary.schema,
        )
        if outcome.skipped:
            raise InvalidInputError(
                f"{name}: {outcome.skipped[0].reason}.",
                detail=[Detail(("body", "value"), outcome.skipped[0].reason, "skipped")],
            )
        now_ns = time.time_ns()
        meet_metrics(connection, outcome.new_units)
        add_measurement(
            connection, job_id=job_id, document=kept, user_id=account.user_id, created_ns=now_ns
        )
        mark_deliverable(connection, job_id)
        mark_for_rederivation(connection, [job_id])
        request_redelivery(connection, [job_id], targets=target_names(connection), request=now_ns)

    record.write(work)
    vocabulary.refresh()
    return next(measurement_objects(job_id, alone, vocabulary=vocabulary))


def find_blob(job: Job, identifier: str) -> dict[str, Any]:
    """Return a job's blob as it was posted.

    Raises
    ------
    NotFoundError
        If the job has no blob of this identifier.
    """
    for blob in job.blobs:
        if blob.get("identifier") == identifier:
            return blob
    raise NotFoundError(f"The job has no blob {identifier}.")


def date_text(time_ns: int) -> str:
    """Return a time as clients of the original read it: seconds, in UTC."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unit_in_force(metric: str, item: Measured, vocabulary: Vocabulary) -> str | None:
    known = vocabulary.metrics.get(metric)
    return item.unit if known is None or known.unit is None else known.unit


def _metric_now(
    connection: Connection, name: str, vocabulary: Vocabulary
) -> dict[str, KnownMetric]:
    """Return a metric as this transaction sees it: `vocabulary` may lag behind."""
    known = vocabulary.metrics.get(name)
    units = known_units(connection, [name])
    if name not in units or vocabulary.schema.name_problem(name) is not None:
        return {}
    return {name: KnownMetric(units[name], is_declared=known is not None and known.is_declared)}


def _check_owner(row: JobRow, account: Account, verb: str) -> None:
    if row.user_id != account.user_id and not account.is_admin:
        raise ForbiddenError(f"Only its owner and admins may {verb} job {row.job_id}.")
