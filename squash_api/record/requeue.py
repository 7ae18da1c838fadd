"""Deriving and sending jobs again, because the unit of a metric in them has changed."""

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from squash_api.record.derived import derived_through
from squash_api.record.metrics import metric_ids
from squash_api.record.tables import job, measurement, redelivery, rederivation, target


def requeue_metrics(connection: Connection, names: Iterable[str], *, request: int) -> int:
    """Ask for the jobs that measure these metrics to be derived and sent to every target again.

    Jobs may have been sent before they are in the index: all of those are sent again.

    Parameters
    ----------
    request
        A number for the request, such as the revision of the definition.

    Returns
    -------
    int
        How many jobs there are, those deleted left out.
    """
    wanted = sorted(metric_ids(connection, names).values())
    if not wanted:
        return 0
    measuring = select(measurement.c.job_id).where(measurement.c.metric_id.in_(wanted))
    affected = select(job.c.id.label("job_id")).where(
        or_(job.c.id.in_(measuring), job.c.id > derived_through(connection)),
        job.c.deleted_ns.is_(None),
    )
    count = int(
        connection.execute(select(func.count()).select_from(affected.subquery())).scalar_one()
    )
    if count:
        _rederive(connection, affected.where(job.c.id <= derived_through(connection)))
        _redeliver(connection, affected, request=request)
    return count


def _rederive(connection: Connection, affected: Select[tuple[int]]) -> None:
    jobs = affected.subquery()
    is_asked = exists().where(rederivation.c.job_id == jobs.c.job_id)
    connection.execute(
        insert(rederivation).from_select(["job_id"], select(jobs.c.job_id).where(~is_asked))
    )


def _redeliver(connection: Connection, affected: Select[tuple[int]], *, request: int) -> None:
    # Another number in any case: a drainer that is sending the job in the old unit strikes off
    # the request it knows, not this one.
    number = literal(request, BigInteger)
    raised = case((redelivery.c.request < number, number), else_=redelivery.c.request + 1)
    connection.execute(
        update(redelivery).where(redelivery.c.job_id.in_(affected)).values(request=raised)
    )
    jobs = affected.subquery()
    is_asked = exists().where(
        redelivery.c.target == target.c.name, redelivery.c.job_id == jobs.c.job_id
    )
    connection.execute(
        insert(redelivery).from_select(
            ["target", "job_id", "request"],
            select(target.c.name, jobs.c.job_id, number)
            .select_from(target.join(jobs, true()))
            .where(~is_asked),
        )
    )
