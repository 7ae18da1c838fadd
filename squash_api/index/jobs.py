"""Changes of stored jobs, and of the index with them: measurements added, and jobs deleted."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from squash_api.accounts.accounts import Account
from squash_api.errors import Detail, ForbiddenError, InvalidInputError
from squash_api.index.contexts import Contexts
from squash_api.index.derived import (
    count_measurements,
    derived_through,
    forget_derived,
    forget_value,
    jobs_to_rederive,
    mark_for_rederivation,
    measured_anywhere,
    reduced_values,
    unmeasured,
)
from squash_api.ingest.assessment import Assessment, assess
from squash_api.ingest.document import Job, measured_of
from squash_api.ingest.reducing import with_reduced
from squash_api.ingest.stored_job import document_of, load_job, points_of
from squash_api.record.audit import Actor, note
from squash_api.record.definitions import (
    DefinitionRow,
    append_definitions,
    current,
    newest_revisions,
)
from squash_api.record.deliveries import (
    Erasure,
    request_erasures,
    request_redelivery,
    request_rewriting,
    target_names,
)
from squash_api.record.jobs import (
    JobRow,
    add_measurement,
    added_measurements,
    bury_jobs,
    forget_added,
    ids_between,
    job_rows,
    last_job_id,
    mark_deliverable,
)
from squash_api.record.metrics import (
    Metrics,
    forget_metrics,
    known_metrics,
    note_metrics,
    note_own_units,
    reductions_in,
)
from squash_api.record.record import Connection, Record
from squash_api.record.usage import NO_LIMITS, Limits, charge_metrics
from squash_api.schema.names import split_metric_name
from squash_api.verify.metrics import KnownMetric

# Jobs that wait to be in the index are read for the names in them, and others wait meanwhile.
_MOST_WAITING = 100
_MOST_BYTES = 20_000_000


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
        targets = target_names(connection)
        forget_jobs(connection, [(row, job)], targets=targets, user_id=account.user_id)
        # With those whose definition was withdrawn before, which kept their units until now.
        unused = metrics | unmeasured(connection)
        forget_unused(connection, unused, user_id=account.user_id)
        note(connection, account.actor, "job.delete", job_id, owner=row.user_id)

    record.write(work)


def forget_jobs(
    connection: Connection,
    jobs: Sequence[tuple[JobRow, Job]],
    *,
    targets: Iterable[str],
    user_id: int | None,
) -> None:
    """Delete jobs, given their documents, and have their points deleted from these targets.

    Tombstones stay. `user_id` is None if the jobs were only too old.
    """
    reductions = reductions_in(connection)
    names = {
        row.job_id: {item.metric for item in with_reduced(job, reductions).measurements}
        for row, job in jobs
    }
    for job_id, had in reduced_values(connection, names).items():
        names[job_id] |= had.keys()
    contexts = Contexts(connection).of(names)
    erasures = [
        Erasure(
            row.job_id,
            row.time_ns,
            points_of(names[row.job_id]),
            metrics=tuple(sorted(names[row.job_id])),
            tags=contexts[row.job_id].context.tags if row.job_id in contexts else None,
        )
        for row, job in jobs
    ]
    request_erasures(connection, erasures, targets=targets)
    forget_derived(connection, names)
    bury_jobs(connection, list(names), user_id=user_id, deleted_ns=time.time_ns())


def forget_unused(connection: Connection, names: Iterable[str], *, user_id: int | None) -> None:
    """Forget those of these metrics that no job, definition or specification has any more.

    If too many jobs wait to be in the index, which tells what they measure, all are kept.
    """
    known = known_metrics(connection, names)
    left = {name for name, row in known.items() if not row.is_declared}
    left -= measured_anywhere(connection, left)
    if not left:
        return
    waiting = unindexed_names(connection, limit=_MOST_WAITING)
    left = set() if waiting is None else left - waiting
    if left:
        limited = {name.rpartition(".")[0]: name for name in newest_revisions(connection, "spec")}
        asked = [limited[name] for name in left & limited.keys()]
        left -= {name.rpartition(".")[0] for name in current(connection, "spec", names=asked)}
    if left:
        forget_metrics(connection, left)
        # A new revision, so that jobs that were judged before are judged again.
        append_definitions(connection, [_tombstone(min(left), user_id)])


def unindexed_names(connection: Connection, *, limit: int) -> set[str] | None:
    """Return the metrics of jobs that are not in the index as they are.

    None if there are `limit` of these jobs or more.
    """
    through = derived_through(connection)
    last = last_job_id(connection)
    ids = ids_between(connection, after=through, through=last, max_bytes=_MOST_BYTES, limit=limit)
    changed = jobs_to_rederive(connection, limit=limit)
    if len(ids) + len(changed) >= limit or (ids and ids[-1] < last):
        return None
    added = added_measurements(connection, changed)
    rows = list(job_rows(connection, ids))
    jobs = [document_of(row, []) for row in rows if row.body is not None]
    names = {item.metric for job in jobs for item in job.measurements}
    return names | {str(item["metric"]) for items in added.values() for item in items}


def _tombstone(name: str, user_id: int | None) -> DefinitionRow:
    return DefinitionRow(
        kind="metric",
        name=name,
        document=None,
        origin="api",
        user_id=user_id,
        created_ns=time.time_ns(),
    )


def post_measurement(
    record: Record,
    metrics: Metrics,
    *,
    job_id: int,
    document: dict[str, Any],
    account: Account,
    limits: Limits = NO_LIMITS,
) -> tuple[JobRow, Job]:
    """Add a measurement to a job, or replace the job's measurement of the same metric.

    Returns
    -------
    JobRow, Job
        The job, and a document with only this measurement.

    Raises
    ------
    NotFoundError
        If there is no such job.
    ForbiddenError
        If the job is another user's and the account is not an admin's, or the request was sent with
        a key that may not write to the package.
    InvalidInputError
        If the value cannot be used, for instance because its unit does not convert.
    OverLimitError
        If the user has used up a limit.
    """
    name: str = document["metric"]
    account.require_namespaces([(("body", "metric"), name)])
    kept = {key: document.get(key) for key in ("metric", "value", "unit", "identifier")}
    added = Job([measured_of(kept)])

    def work(connection: Connection) -> JobRow:
        row, job = load_job(connection, job_id)
        job = with_reduced(job, reductions_in(connection))
        _check_owner(row, account, "add to")
        known = _metric_now(connection, name, metrics)
        outcome = _usable(assess(added, metrics=known, schema=metrics.schema, user_id=row.user_id))
        now_ns = time.time_ns()
        had = assess(_only(job, name), metrics=known, schema=metrics.schema, user_id=row.user_id)
        if had.values and name not in outcome.values:
            _withdraw(connection, row, name, by=account.actor)
        new = len(outcome.new_units.keys() - known.keys())
        charge_metrics(connection, account, new, limits=limits, now_ns=now_ns)
        _note_units(connection, outcome, by=row.user_id)
        names = {name, *(item.metric for item in job.measurements)}
        count_measurements(connection, job_id, names, schema=metrics.schema)
        add_measurement(
            connection, job_id=job_id, document=kept, user_id=account.user_id, created_ns=now_ns
        )
        _send_again(connection, job_id, now_ns=now_ns)
        return row

    row = record.write(work)
    metrics.refresh()
    return row, added


def replace_measurement(connection: Connection, row: JobRow, document: dict[str, Any]) -> None:
    """Give a job that the service has made another measurement of a metric.

    It takes the place of those that were added before, and makes the job no younger.
    """
    metric = str(document["metric"])
    if document["value"] is None:
        package, _ = split_metric_name(metric)
        request_rewriting(connection, [Erasure(row.job_id, row.time_ns, (package,))])
        forget_value(connection, job_id=row.job_id, metric=metric)
    before = added_measurements(connection, [row.job_id]).get(row.job_id, [])
    add_measurement(
        connection,
        job_id=row.job_id,
        document=document,
        user_id=row.user_id,
        created_ns=row.received_ns,
    )
    forget_added(connection, [item["added_id"] for item in before if item["metric"] == metric])
    _send_again(connection, row.job_id, now_ns=time.time_ns())


def _usable(outcome: Assessment) -> Assessment:
    """Return the assessment of one measurement; `InvalidInputError` if its value is skipped."""
    for skip in outcome.skipped:
        raise InvalidInputError(
            f"{skip.metric}: {skip.reason}.",
            detail=[Detail(("body", "value"), skip.reason, "skipped")],
        )
    return outcome


def _note_units(connection: Connection, outcome: Assessment, *, by: int) -> None:
    note_metrics(connection, outcome.new_units, by=by)
    note_own_units(connection, outcome.new_own_units, by=by)


def _send_again(connection: Connection, job_id: int, *, now_ns: int) -> None:
    mark_deliverable(connection, job_id)
    mark_for_rederivation(connection, [job_id])
    request_redelivery(connection, [job_id], targets=target_names(connection), request=now_ns)


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
    if metrics.schema.name_problem(name) is not None:
        return {}
    return known_metrics(connection, [name])


def _check_owner(row: JobRow, account: Account, verb: str) -> None:
    if row.user_id != account.user_id and not account.is_admin:
        raise ForbiddenError(f"Only its owner and admins may {verb} job {row.job_id}.")
