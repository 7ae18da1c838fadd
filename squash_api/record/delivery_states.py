"""What the record can say about delivery: the state of a job, and what each target waits for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, func, select

from squash_api.record.deliveries import get_target
from squash_api.record.jobs import JobRow
from squash_api.record.tables import erasure, job, quarantine, redelivery

DeliveryState = Literal["SUCCESS", "FAILURE", "PENDING", "STARTED"]


@dataclass(frozen=True, slots=True)
class JobDelivery:
    """A job's state at one target; `reasons` are InfluxDB's words for what it refused."""

    target: str
    state: DeliveryState
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a target waits for. `oldest_ns` is when the first waiting job was received."""

    target: str
    waiting: int
    oldest_ns: int | None
    quarantined: int
    trouble: str | None
    trouble_since_ns: int | None


def job_deliveries(
    connection: Connection, row: JobRow, *, targets: Sequence[str]
) -> list[JobDelivery]:
    """Return the state of a job at each target."""
    return [_job_delivery(connection, row, name) for name in targets]


def backlogs(connection: Connection, *, targets: Sequence[str]) -> list[Backlog]:
    """Return what each target waits for."""
    return [_backlog(connection, name) for name in targets]


def _job_delivery(connection: Connection, row: JobRow, name: str) -> JobDelivery:
    again = connection.execute(
        select(redelivery.c.job_id).where(
            redelivery.c.target == name, redelivery.c.job_id == row.job_id
        )
    ).first()
    reasons = tuple(
        connection.execute(
            select(quarantine.c.reason)
            .where(quarantine.c.target == name, quarantine.c.job_id == row.job_id)
            .order_by(quarantine.c.id)
        ).scalars()
    )
    progress = get_target(connection, name)
    state: DeliveryState
    if again is not None:
        state = "PENDING"
    elif reasons:
        state = "FAILURE"
    elif progress.sent_through >= row.job_id or not row.is_deliverable:
        state = "SUCCESS"
    else:
        state = "STARTED" if progress.taken_through >= row.job_id else "PENDING"
    return JobDelivery(name, state, reasons)


def _backlog(connection: Connection, name: str) -> Backlog:
    progress = get_target(connection, name)
    fresh = connection.execute(
        select(func.count(), func.min(job.c.received_ns)).where(job.c.id > progress.sent_through)
    ).one()
    # Those that have not been sent at all are counted above.
    again = connection.execute(
        select(func.count())
        .select_from(redelivery)
        .where(redelivery.c.target == name, redelivery.c.job_id <= progress.sent_through)
    ).scalar_one()
    erasures = connection.execute(
        select(func.count()).select_from(erasure).where(erasure.c.target == name)
    ).scalar_one()
    quarantined = connection.execute(
        select(func.count()).select_from(quarantine).where(quarantine.c.target == name)
    ).scalar_one()
    return Backlog(
        name,
        fresh[0] + again + erasures,
        fresh[1],
        quarantined,
        progress.trouble,
        progress.trouble_since_ns,
    )
