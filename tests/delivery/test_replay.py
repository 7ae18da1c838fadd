from unittest.mock import patch

import pytest

from squash_api.delivery.replay import Selection, begin_refill, request_replay
from squash_api.errors import NotFoundError, SettingsError
from squash_api.index.derived import check_tags
from squash_api.influx.client import InfluxError
from squash_api.record.audit import list_noted
from squash_api.record.deliveries import (
    ensure_targets,
    get_target,
    mark_sent,
    mark_taken,
    pending_redeliveries,
    target_names,
)
from squash_api.record.jobs import bury_jobs
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.settings import InfluxTarget
from tests.support.builders import store_job

BASE = InfluxTarget(name="base", url="http://127.0.0.1:1")
SUMMIT = InfluxTarget(name="summit", url="http://127.0.0.1:1")


@pytest.fixture
def record(record: Record) -> Record:
    """A record with jobs 1 to 4 at the times 10 to 40, the third deleted, all sent to base."""
    for number in range(1, 5):
        store_job(record, asked_ns=10 * number)
    record.write(lambda connection: bury_jobs(connection, [3], user_id=1, deleted_ns=9))
    send_all(record)
    return record


def send_all(record: Record) -> None:
    record.write(lambda connection: ensure_targets(connection, ["base"]))
    record.write(lambda connection: mark_taken(connection, "base", after=0, through=4))
    record.write(
        lambda connection: mark_sent(
            connection, "base", through=4, redelivered=[], quarantined=[], now_ns=0
        )
    )


def ask(record: Record, selection: Selection, *targets: InfluxTarget) -> int:
    return request_replay(record, selection, targets=targets or [BASE], now_ns=100)


def again(record: Record) -> list[int]:
    with record.read() as connection:
        return [job_id for job_id, _ in pending_redeliveries(connection, "base", limit=9)]


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), [1, 2, 4]),
        (Selection(job_ids=(4, 1, 1)), [1, 4]),
        (Selection(since_ns=20), [2, 4]),
        (Selection(until_ns=20), [1, 2]),
        (Selection(since_ns=11, until_ns=39), [2]),
        (Selection(since_ns=41), []),
    ],
)
def test_the_chosen_jobs_are_asked_for_again(
    record: Record, selection: Selection, found: list[int]
) -> None:
    assert ask(record, selection) == len(found)
    assert again(record) == found


@pytest.mark.parametrize("job_id", [3, 5, 0, -1, 2**63, 10**30])
def test_a_named_job_that_is_not_there_is_an_error_and_none_is_asked_for(
    record: Record, job_id: int
) -> None:
    with pytest.raises(NotFoundError):
        ask(record, Selection(job_ids=(1, job_id)))
    assert again(record) == []


def test_a_target_that_is_new_is_made_known(record: Record) -> None:
    assert ask(record, Selection(), SUMMIT) == 3
    assert again(record) == []
    with record.read() as connection:
        assert target_names(connection) == ["base", "summit"]


# From the beginning


def refill(record: Record, *, is_empty: bool, schema: Schema) -> None:
    with patch("squash_api.delivery.replay.InfluxClient.is_empty", return_value=is_empty):
        begin_refill(record, targets=[BASE, SUMMIT], schema=schema)


def progress(record: Record) -> list[int]:
    with record.read() as connection:
        return [get_target(connection, name).sent_through for name in target_names(connection)]


def test_a_refill_begins_every_target_with_the_first_job(record: Record) -> None:
    refill(record, is_empty=True, schema=Schema())
    assert progress(record) == [0, 0]


def test_a_refill_is_noted_and_one_that_is_refused_is_not(record: Record) -> None:
    with pytest.raises(SettingsError):
        refill(record, is_empty=False, schema=Schema())
    refill(record, is_empty=True, schema=Schema())
    with record.read() as connection:
        (entry,) = list_noted(connection, limit=9)
    assert (entry.action, entry.subject) == ("replay.refill", "base, summit")


def test_a_refill_takes_the_present_tags_in_force(record: Record) -> None:
    check_tags(record, Schema())
    with pytest.raises(SettingsError):
        check_tags(record, Schema(("site",)))
    refill(record, is_empty=True, schema=Schema(("site",)))
    check_tags(record, Schema(("site",)))
    send_all(record)
    with pytest.raises(SettingsError):
        check_tags(record, Schema())


def test_a_database_that_is_not_empty_is_not_refilled(record: Record) -> None:
    check_tags(record, Schema())
    with pytest.raises(SettingsError, match="is not empty"):
        refill(record, is_empty=False, schema=Schema(("site",)))
    assert progress(record) == [4]
    check_tags(record, Schema())


def test_a_database_that_cannot_be_asked_is_not_refilled(record: Record) -> None:
    with pytest.raises(InfluxError):
        begin_refill(record, targets=[BASE], schema=Schema())
    assert progress(record) == [4]
