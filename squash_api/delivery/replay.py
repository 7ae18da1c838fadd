"""Sending stored jobs again: by time, by job, by target, or all of them into empty databases."""

from collections.abc import Sequence
from dataclasses import dataclass

from squash_api.errors import NotFoundError, SettingsError
from squash_api.index.derived import put_tags
from squash_api.influx.client import InfluxClient
from squash_api.ingest.stored_job import MAX_ID
from squash_api.judging.wording import counted
from squash_api.record.audit import UNKNOWN, Actor, note
from squash_api.record.deliveries import ensure_targets, request_redelivery, reset_target
from squash_api.record.jobs import job_ids_in_time
from squash_api.record.record import Connection, Record
from squash_api.schema.names import Schema
from squash_api.setting_types import KafkaTarget
from squash_api.settings import InfluxTarget

_MOST_NOTED = 100
_NO_SUCH_JOB = "One of these jobs does not exist, or has been deleted."


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs to send again: those with these ids, or in this range of times (ns, inclusive)."""

    job_ids: tuple[int, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None


def request_replay(
    record: Record,
    selection: Selection,
    *,
    targets: Sequence[InfluxTarget | KafkaTarget],
    now_ns: int,
    by: Actor = UNKNOWN,
) -> int:
    """Request that jobs are sent again to the targets; return how many jobs.

    Raises
    ------
    NotFoundError
        If one of the ids is not that of a job.
    """
    names = [target.name for target in targets]
    if any(not 0 < job_id <= MAX_ID for job_id in selection.job_ids):
        raise NotFoundError(_NO_SUCH_JOB)

    def work(connection: Connection) -> int:
        ensure_targets(connection, names)
        ids = selection.job_ids or job_ids_in_time(
            connection, since_ns=selection.since_ns, until_ns=selection.until_ns
        )
        count = request_redelivery(connection, ids, targets=names, request=now_ns)
        if selection.job_ids and count != len(set(selection.job_ids)):
            raise NotFoundError(_NO_SUCH_JOB)
        jobs = sorted(set(selection.job_ids))
        note(
            connection,
            by,
            "replay.request",
            f"{counted(count, 'job')} to {', '.join(names)}",
            jobs=jobs[:_MOST_NOTED],
            since_ns=selection.since_ns,
            until_ns=selection.until_ns,
        )
        return count

    return record.write(work)


def begin_refill(
    record: Record,
    *,
    targets: Sequence[InfluxTarget],
    schema: Schema,
    by: Actor = UNKNOWN,
) -> None:
    """Start every target again at the first job, and put the present list of tags in force.

    Raises
    ------
    SettingsError
        If one of the databases is not empty.
    InfluxError
        If one of them cannot be reached.
    """
    for target in targets:
        with InfluxClient(target) as client:
            if not client.is_empty():
                raise SettingsError(
                    f"the database {target.database} of target {target.name} is not empty: "
                    "drop it first, or use another"
                )

    def work(connection: Connection) -> None:
        names = [target.name for target in targets]
        ensure_targets(connection, names)
        for name in names:
            reset_target(connection, name)
        put_tags(connection, schema)
        note(connection, by, "replay.refill", ", ".join(names))

    record.write(work)
