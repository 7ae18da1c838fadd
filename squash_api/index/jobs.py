"""Changes of stored jobs, and of the index with them: measurements added, and jobs deleted."""

import time
from typing import Any

from squash_api.accounts.accounts import Account
from squash_api.errors import Detail, ForbiddenError, InvalidInputError
from squash_api.index.contexts import Contexts
from squash_api.index.derived import (
    count_measurements,
    forget_derived,
    forget_value,
    mark_for_rederivation,
)
from squash_api.ingest.assessment import assess
from squash_api.ingest.document import Job, measured_of
from squash_api.ingest.stored_job import load_job, points_of
from squash_api.record.audit import Actor, note
from squash_api.record.deliveries import (
    Erasure,
    request_erasure,
    request_redelivery,
    request_rewriting,
    target_names,
)
from squash_api.record.jobs import (
    JobRow,
    add_measurement,
    bury_job,
    mark_deliverable,
)
from squash_api.record.metrics import Metrics, known_units, note_metrics
from squash_api.record.record import Connection, Record
from squash_api.schema.names import split_metric_name
from squash_api.verify.metrics import KnownMetric


def delete_job(record: Record, job_id: int, *, account: Account) -> None:
    """Delete a job: a tombstone stays, and its points are deleted from every target.

    Raises
    ------
    NotFoundError
        If there is no such job.
    ForbiddenError
        If the job is another user's and the account is not an admin's, or the request was sent with
        a key that may not write to a package of the job.
    """

    def work(connection: Connection) -> None:
        row, job = load_job(connection, job_id)
        _check_owner(row, account, "delete")
        metrics = {item.metric for item in job.measurements}
        account.require_namespaces((("path", "job_id"), name) for name in sorted(metrics))
        contexts = Contexts(connection).of([job_id])
        tags = contexts[job_id].context.tags if job_id in contexts else None
        request_erasure(
            connection,
            Erasure(
                row.job_id,
                row.time_ns,
                points_of(job),
                metrics=tuple(sorted(metrics)),
                tags=tags,
            ),
            targets=target_names(connection),
        )
        forget_derived(connection, job_id=job_id, metrics=metrics)
        bury_job(connection, job_id=job_id, user_id=account.user_id, deleted_ns=time.time_ns())
        note(connection, account.actor, "job.delete", job_id, owner=row.user_id)

    record.write(work)


def post_measurement(
    record: Record,
    metrics: Metrics,
    *,
    job_id: int,
    document: dict[str, Any],
    account: Account,
) -> Job:
    """Add a measurement to a job, or replace the job's measurement of the same metric.

    Returns
    -------
    Job
        A document with only this measurement.

    Raises
    ------
    NotFoundError
        If there is no such job.
    ForbiddenError
        If the job is another user's and the account is not an admin's, or the request was sent with
        a key that may not write to the package.
    InvalidInputError
        If the value cannot be used, for instance because its unit does not convert.
    """
    name: str = document["metric"]
    account.require_namespaces([(("body", "metric"), name)])
    kept = {key: document.get(key) for key in ("metric", "value", "unit", "identifier")}
    added = Job([measured_of(kept)])

    def work(connection: Connection) -> None:
        row, job = load_job(connection, job_id)
        _check_owner(row, account, "add to")
        known = _metric_now(connection, name, metrics)
        outcome = assess(added, metrics=known, schema=metrics.schema)
        if outcome.skipped:
            raise InvalidInputError(
                f"{name}: {outcome.skipped[0].reason}.",
                detail=[Detail(("body", "value"), outcome.skipped[0].reason, "skipped")],
            )
        now_ns = time.time_ns()
        had = assess(_only(job, name), metrics=known, schema=metrics.schema).values
        if had and name not in outcome.values:
            _withdraw(connection, row, name, by=account.actor)
        note_metrics(connection, outcome.new_units)
        measured = {item.metric for item in job.measurements} | {name}
        count_measurements(connection, job_id, measured, schema=metrics.schema)
        add_measurement(
            connection, job_id=job_id, document=kept, user_id=account.user_id, created_ns=now_ns
        )
        mark_deliverable(connection, job_id)
        mark_for_rederivation(connection, [job_id])
        request_redelivery(connection, [job_id], targets=target_names(connection), request=now_ns)

    record.write(work)
    metrics.refresh()
    return added


def _only(job: Job, metric: str) -> Job:
    return Job([item for item in job.measurements if item.metric == metric])


def _withdraw(connection: Connection, row: JobRow, metric: str, *, by: Actor) -> None:
    """Request that a job's points are written again without the value of this metric."""
    package, _ = split_metric_name(metric)
    request_rewriting(connection, [Erasure(row.job_id, row.time_ns, (package,))])
    forget_value(connection, job_id=row.job_id, metric=metric)
    note(connection, by, "measurement.withdraw", row.job_id, metric=metric)


def _metric_now(connection: Connection, name: str, metrics: Metrics) -> dict[str, KnownMetric]:
    """Return a metric as this transaction sees it: `metrics` may lag behind."""
    known = metrics.now.by_name.get(name)
    units = known_units(connection, [name])
    if name not in units or metrics.schema.name_problem(name) is not None:
        return {}
    return {name: KnownMetric(units[name], is_declared=known is not None and known.is_declared)}


def _check_owner(row: JobRow, account: Account, verb: str) -> None:
    if row.user_id != account.user_id and not account.is_admin:
        raise ForbiddenError(f"Only its owner and admins may {verb} job {row.job_id}.")
