from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select

from squash_api.record.deliveries import (
    Backlog,
    Erasure,
    JobDelivery,
    Quarantined,
    TargetRow,
    backlogs,
    ensure_targets,
    get_target,
    job_deliveries,
    mark_erased,
    mark_sent,
    mark_taken,
    mark_trouble,
    pending_erasures,
    pending_redeliveries,
    redeliveries_of,
    release_lease,
    request_erasures,
    request_redelivery,
    request_rewriting,
    reset_target,
    take_lease,
    target_names,
)
from squash_api.record.jobs import bury_jobs, get_job
from squash_api.record.record import Record
from squash_api.record.tables import quarantine
from tests.support.builders import STORE, make_new_job, store_job


@pytest.fixture
def connection(record: Record) -> Iterator[Connection]:
    """A transaction on a record with jobs 1 to 4 and the targets base and summit."""
    for _ in range(4):
        store_job(record)
    with record._writing.connect() as connection:
        ensure_targets(connection, ["summit", "base"])
        yield connection


def send(
    connection: Connection,
    *,
    through: int | None = None,
    redelivered: list[tuple[int, int]] | None = None,
    refused: list[int] | None = None,
) -> None:
    """Send jobs to base, as an outlet does."""
    if through is not None:
        mark_taken(connection, "base", after=0, through=through)
    finish(connection, through=through, redelivered=redelivered, refused=refused)


def finish(
    connection: Connection,
    *,
    through: int | None = None,
    redelivered: list[tuple[int, int]] | None = None,
    refused: list[int] | None = None,
) -> None:
    mark_sent(
        connection,
        "base",
        through=through,
        redelivered=redelivered or [],
        quarantined=[Quarantined(job_id, "p", "line", "refused") for job_id in refused or []],
        now_ns=7,
    )


def ask_again(connection: Connection, *job_ids: int, request: int = 100) -> int:
    return request_redelivery(connection, job_ids, targets=["base"], request=request)


def again(connection: Connection, name: str = "base") -> list[tuple[int, int]]:
    return pending_redeliveries(connection, name, limit=9)


def quarantined(connection: Connection, name: str = "base") -> list[int]:
    query = select(quarantine.c.job_id).where(quarantine.c.target == name)
    return list(connection.execute(query).scalars())


def progress(connection: Connection, name: str = "base") -> tuple[int, int]:
    row = get_target(connection, name)
    return row.taken_through, row.sent_through


# Targets


def test_a_new_target_begins_with_the_first_job(connection: Connection) -> None:
    assert get_target(connection, "base") == TargetRow("base", 0, 0, None, 0, None, None)


def test_targets_are_known_by_name(connection: Connection) -> None:
    assert target_names(connection) == ["base", "summit"]


def test_a_known_target_stays_as_it_is(connection: Connection) -> None:
    send(connection, through=2)
    ensure_targets(connection, ["base", "third"])
    assert progress(connection) == (2, 2)
    assert target_names(connection) == ["base", "summit", "third"]


# The lease


def lease(connection: Connection, owner: str, *, now: int, until: int) -> bool:
    return take_lease(connection, "base", owner=owner, now_ns=now, until_ns=until)


def test_a_free_lease_can_be_taken(connection: Connection) -> None:
    assert lease(connection, "one", now=1, until=10)
    row = get_target(connection, "base")
    assert (row.lease_owner, row.lease_until_ns) == ("one", 10)


@pytest.mark.parametrize("now", [2, 10])
def test_a_lease_that_is_held_cannot_be_taken(connection: Connection, now: int) -> None:
    lease(connection, "one", now=1, until=10)
    assert not lease(connection, "two", now=now, until=20)
    assert get_target(connection, "base").lease_owner == "one"


def test_its_owner_can_renew_a_lease(connection: Connection) -> None:
    lease(connection, "one", now=1, until=10)
    assert lease(connection, "one", now=5, until=15)
    assert not lease(connection, "two", now=11, until=20)


def test_an_expired_lease_can_be_taken_by_another(connection: Connection) -> None:
    lease(connection, "one", now=1, until=10)
    assert lease(connection, "two", now=11, until=20)
    assert not lease(connection, "one", now=12, until=22)


def test_a_released_lease_can_be_taken_at_once(connection: Connection) -> None:
    lease(connection, "one", now=1, until=10)
    release_lease(connection, "base", owner="one")
    assert lease(connection, "two", now=2, until=20)


def test_nobody_can_release_the_lease_of_another(connection: Connection) -> None:
    lease(connection, "one", now=1, until=10)
    release_lease(connection, "base", owner="two")
    assert get_target(connection, "base").lease_owner == "one"


def test_each_target_has_a_lease_of_its_own(connection: Connection) -> None:
    lease(connection, "one", now=1, until=10)
    assert take_lease(connection, "summit", owner="two", now_ns=2, until_ns=20)


# Sending


def test_what_is_taken_and_sent_is_noted_for_one_target(connection: Connection) -> None:
    mark_taken(connection, "base", after=0, through=3)
    assert progress(connection) == (3, 0)
    finish(connection, through=3)
    assert progress(connection) == (3, 3)
    assert progress(connection, "summit") == (0, 0)


def test_a_target_never_goes_back(connection: Connection) -> None:
    send(connection, through=3)
    send(connection, through=2)
    assert progress(connection) == (3, 3)


def test_sending_again_moves_no_target(connection: Connection) -> None:
    send(connection, through=2)
    send(connection, redelivered=[(1, 100)])
    assert progress(connection) == (2, 2)


def test_a_refused_line_is_kept_with_its_reason(connection: Connection) -> None:
    send(connection, through=2, refused=[2])
    row = connection.execute(select(quarantine)).one()
    assert (row.target, row.job_id, row.measurement, row.line, row.reason, row.created_ns) == (
        *("base", 2, "p", "line", "refused", 7),
    )


def test_a_line_that_is_refused_again_is_kept_once(connection: Connection) -> None:
    send(connection, through=2, refused=[2])
    send(connection, through=2, refused=[2])
    assert quarantined(connection) == [2]


def test_several_lines_of_a_job_can_be_refused(connection: Connection) -> None:
    send(connection, through=2, refused=[2, 2, 1])
    assert sorted(quarantined(connection)) == [1, 2, 2]


def test_no_line_of_a_job_that_was_deleted_meanwhile_is_kept(connection: Connection) -> None:
    bury_jobs(connection, [2], user_id=1, deleted_ns=9)
    send(connection, through=3, refused=[2, 3])
    assert quarantined(connection) == [3]


# Trouble


def trouble(connection: Connection) -> tuple[str | None, int | None]:
    row = get_target(connection, "base")
    return row.trouble, row.trouble_since_ns


def test_trouble_is_noted_with_the_time_it_began(connection: Connection) -> None:
    mark_trouble(connection, "base", trouble="refused", now_ns=5)
    mark_trouble(connection, "base", trouble="timed out", now_ns=6)
    assert trouble(connection) == ("timed out", 5)


@pytest.mark.parametrize(
    "success",
    [
        lambda connection: send(connection, through=1),
        lambda connection: send(connection, redelivered=[(1, 1)]),
        lambda connection: mark_erased(connection, "base", job_ids=[1]),
    ],
)
def test_trouble_ends_with_the_next_success(connection: Connection, success: Any) -> None:
    mark_trouble(connection, "base", trouble="refused", now_ns=5)
    success(connection)
    assert trouble(connection) == (None, None)


# Again


def test_a_sent_job_can_be_sent_again(connection: Connection) -> None:
    send(connection, through=4)
    assert ask_again(connection, 3, 1, 3) == 2
    assert again(connection) == [(1, 100), (3, 100)]
    assert again(connection, "summit") == []


def test_a_job_that_has_not_been_sent_comes_in_its_turn(connection: Connection) -> None:
    send(connection, through=2)
    assert ask_again(connection, 1, 2, 3) == 3
    assert again(connection) == [(1, 100), (2, 100)]
    send(connection, through=3)
    assert again(connection) == [(1, 100), (2, 100), (3, 100)]


def test_unknown_and_deleted_jobs_are_not_sent_again(connection: Connection) -> None:
    send(connection, through=4)
    bury_jobs(connection, [2], user_id=1, deleted_ns=9)
    assert ask_again(connection, 1, 2, 99) == 1
    assert again(connection) == [(1, 100)]


def test_several_targets_can_be_asked_for_from_any_iterable(record: Record) -> None:
    with record._writing.connect() as connection:
        ensure_targets(connection, ["a", "b"])
        store_many(connection, 1500)
        names = iter(["a", "b"])
        ids = range(1, 1501)
        assert request_redelivery(connection, ids, targets=names, request=1) == 1500
        for name in ("a", "b"):
            mark_taken(connection, name, after=0, through=1500)
            mark_sent(connection, name, through=1500, redelivered=[], quarantined=[], now_ns=0)
            assert len(pending_redeliveries(connection, name, limit=9999)) == 1500


def store_many(connection: Connection, count: int) -> None:
    items = [make_new_job(asked_ns=number) for number in range(1, count + 1)]
    for start in range(0, count, 500):
        STORE.whole(connection, items[start : start + 500])


def test_jobs_to_send_again_come_in_batches(connection: Connection) -> None:
    send(connection, through=4)
    ask_again(connection, 1, 2, 3, 4)
    assert [job_id for job_id, _ in pending_redeliveries(connection, "base", limit=2)] == [1, 2]


def test_a_job_that_was_sent_again_is_done(connection: Connection) -> None:
    send(connection, through=4)
    ask_again(connection, 1, 2)
    send(connection, redelivered=[(1, 100)])
    assert again(connection) == [(2, 100)]


def test_a_request_that_comes_while_the_job_is_being_sent_stays(connection: Connection) -> None:
    send(connection, through=4)
    ask_again(connection, 1, request=100)
    in_flight = again(connection)
    ask_again(connection, 1, request=101)
    send(connection, redelivered=in_flight)
    assert again(connection) == [(1, 101)]


def test_a_job_that_was_sent_again_is_out_of_quarantine(connection: Connection) -> None:
    send(connection, through=4, refused=[1, 2])
    ask_again(connection, 1)
    send(connection, redelivered=again(connection))
    assert quarantined(connection) == [2]


def test_a_job_that_is_refused_again_is_in_quarantine_again(connection: Connection) -> None:
    send(connection, through=4, refused=[1])
    ask_again(connection, 1)
    send(connection, redelivered=again(connection), refused=[1])
    assert (quarantined(connection), again(connection)) == ([1], [])


# From the beginning


def test_a_reset_target_begins_with_the_first_job(connection: Connection) -> None:
    send(connection, through=4, refused=[1])
    ask_again(connection, 2)
    erase(connection, 3)
    reset_target(connection, "base")
    assert progress(connection) == (0, 0)
    assert (quarantined(connection), again(connection)) == ([], [])
    assert pending_erasures(connection, "base", limit=9) == []


def test_a_reset_leaves_other_targets_alone(connection: Connection) -> None:
    send(connection, through=4)
    reset_target(connection, "summit")
    assert progress(connection) == (4, 4)


def test_jobs_that_are_being_sent_do_not_move_a_target_that_is_reset(
    connection: Connection,
) -> None:
    mark_taken(connection, "base", after=0, through=4)
    reset_target(connection, "base")
    finish(connection, through=4)
    assert progress(connection) == (0, 0)


# Erasing


def erase(connection: Connection, job_id: int) -> None:
    """Ask for the points of a job to be deleted, and delete the job."""
    request_erasures(connection, [Erasure(job_id, 5, ("p", "q r"))], targets=["base", "summit"])
    bury_jobs(connection, [job_id], user_id=1, deleted_ns=9)


def erasures(connection: Connection, name: str = "base") -> list[int]:
    return [item.job_id for item in pending_erasures(connection, name, limit=9)]


def erase_first(connection: Connection, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Delete points as an outlet does, and write them again if their job exists."""
    items = pending_erasures(connection, "base", limit=1)
    requests = redeliveries_of(connection, "base", [item.job_id for item in items])
    meanwhile()
    mark_sent(
        connection,
        "base",
        through=None,
        redelivered=requests,
        quarantined=[],
        now_ns=7,
        erased=items,
    )


def test_points_to_delete_are_kept_for_every_target(connection: Connection) -> None:
    erase(connection, 2)
    erase(connection, 1)
    for name in ("base", "summit"):
        assert pending_erasures(connection, name, limit=9) == [
            Erasure(1, 5, ("p", "q r"), is_deleted=True),
            Erasure(2, 5, ("p", "q r"), is_deleted=True),
        ]
        assert len(pending_erasures(connection, name, limit=1)) == 1


def test_what_is_erased_at_one_target_waits_at_the_other(connection: Connection) -> None:
    erase(connection, 1)
    erase(connection, 2)
    erase_first(connection)
    assert (erasures(connection), erasures(connection, "summit")) == ([2], [1, 2])


def rewrite(connection: Connection, job_id: int, *measurements: str) -> None:
    request_rewriting(connection, [Erasure(job_id, 5, measurements or ("p",))])


def test_points_are_written_again_where_they_may_have_been_sent(connection: Connection) -> None:
    send(connection, through=2)
    mark_taken(connection, "base", after=2, through=3)
    for job_id in (1, 3, 4):
        rewrite(connection, job_id)
    # The third is on its way: it comes first.
    assert (erasures(connection), erasures(connection, "summit")) == ([1], [])
    finish(connection, through=3)
    assert erasures(connection) == [1, 3]


def test_points_of_one_job_to_be_written_again_add_up(connection: Connection) -> None:
    send(connection, through=4)
    rewrite(connection, 1, "q")
    rewrite(connection, 1, "p", "q")
    assert pending_erasures(connection, "base", limit=9) == [Erasure(1, 5, ("p", "q"))]
    erase(connection, 1)
    assert pending_erasures(connection, "base", limit=9) == [
        Erasure(1, 5, ("p", "q", "q r"), is_deleted=True)
    ]


def test_a_job_written_again_has_been_sent_again_and_leaves_quarantine(
    connection: Connection,
) -> None:
    send(connection, through=4, refused=[1, 2])
    ask_again(connection, 1, 2)
    rewrite(connection, 1)
    erase_first(connection)
    assert (erasures(connection), again(connection)) == ([], [(2, 100)])
    assert quarantined(connection) == [2]


@pytest.mark.parametrize(
    "change",
    [
        lambda connection: ask_again(connection, 1, request=101),
        lambda connection: rewrite(connection, 1, "q"),
        lambda connection: erase(connection, 1),
    ],
)
def test_a_job_that_changes_while_it_is_written_again_is_erased_once_more(
    connection: Connection, change: Callable[[Connection], object]
) -> None:
    send(connection, through=4)
    ask_again(connection, 1)
    rewrite(connection, 1)
    erase_first(connection, lambda: change(connection))
    assert erasures(connection) == [1]
    erase_first(connection)
    assert (erasures(connection), again(connection)) == ([], [])


def test_an_erased_job_is_not_sent_again_and_leaves_quarantine(connection: Connection) -> None:
    send(connection, through=4, refused=[1, 2])
    ask_again(connection, 1, 2)
    erase(connection, 1)
    assert (again(connection), quarantined(connection)) == ([(2, 100)], [2])


TARGETS = ["base", "summit"]


@pytest.fixture
def three_jobs(record: Record) -> Iterator[Connection]:
    """A transaction on a record with jobs 1 to 3, the last with nothing to deliver."""
    for number in (1, 2, 3):
        store_job(record, received_ns=10 * number, is_deliverable=number < 3)
    with record._writing.connect() as connection:
        ensure_targets(connection, TARGETS)
        yield connection


def send_through(connection: Connection, through: int, *, refused: tuple[int, ...] = ()) -> None:
    mark_taken(connection, "base", after=0, through=through)
    mark_sent(
        connection,
        "base",
        through=through,
        redelivered=[],
        quarantined=[
            Quarantined(job_id, "p", "line", f"no {number}")
            for number, job_id in enumerate(refused)
        ],
        now_ns=0,
    )


def deliveries(connection: Connection, job_id: int) -> list[JobDelivery]:
    row = get_job(connection, job_id)
    assert row is not None
    return job_deliveries(connection, row, targets=TARGETS)


def state(connection: Connection, job_id: int) -> str:
    return deliveries(connection, job_id)[0].state


def backlog(connection: Connection) -> Backlog:
    return backlogs(connection, targets=["base"])[0]


# One job


def test_a_new_job_is_pending_at_every_target(three_jobs: Connection) -> None:
    assert deliveries(three_jobs, 1) == [
        JobDelivery("base", "PENDING", ()),
        JobDelivery("summit", "PENDING", ()),
    ]


def test_a_job_in_hand_is_started(three_jobs: Connection) -> None:
    mark_taken(three_jobs, "base", after=0, through=1)
    assert (state(three_jobs, 1), state(three_jobs, 2)) == ("STARTED", "PENDING")


def test_a_sent_job_is_a_success_at_that_target(three_jobs: Connection) -> None:
    send_through(three_jobs, 1)
    assert [item.state for item in deliveries(three_jobs, 1)] == ["SUCCESS", "PENDING"]


def test_a_job_without_anything_to_deliver_is_a_success_at_once(three_jobs: Connection) -> None:
    assert [item.state for item in deliveries(three_jobs, 3)] == ["SUCCESS", "SUCCESS"]


def test_without_targets_there_is_nothing_to_say(three_jobs: Connection) -> None:
    row = get_job(three_jobs, 1)
    assert row is not None
    assert job_deliveries(three_jobs, row, targets=[]) == []


def test_a_refused_job_is_a_failure_with_influxdbs_words(three_jobs: Connection) -> None:
    send_through(three_jobs, 2, refused=(2, 2))
    assert deliveries(three_jobs, 2)[0] == JobDelivery("base", "FAILURE", ("no 0", "no 1"))
    assert state(three_jobs, 1) == "SUCCESS"


def test_a_job_that_is_to_be_sent_again_is_pending(three_jobs: Connection) -> None:
    send_through(three_jobs, 2, refused=(2,))
    request_redelivery(three_jobs, [1, 2], targets=["base"], request=1)
    assert (state(three_jobs, 1), state(three_jobs, 2)) == ("PENDING", "PENDING")


# A target


def test_a_target_waits_for_every_job_it_has_not_had(three_jobs: Connection) -> None:
    assert backlog(three_jobs) == Backlog("base", 3, 10, 0, None, None)
    send_through(three_jobs, 2)
    assert backlog(three_jobs) == Backlog("base", 1, 30, 0, None, None)


def test_a_target_that_has_everything_waits_for_nothing(three_jobs: Connection) -> None:
    send_through(three_jobs, 3)
    assert backlog(three_jobs) == Backlog("base", 0, None, 0, None, None)


def test_what_is_to_be_sent_again_and_erased_waits_too(three_jobs: Connection) -> None:
    send_through(three_jobs, 3)
    request_redelivery(three_jobs, [1, 2], targets=["base"], request=1)
    request_erasures(three_jobs, [Erasure(3, 5, ("p",))], targets=["base"])
    assert backlog(three_jobs).waiting == 3


def test_a_job_waits_once_even_if_it_is_asked_for_before_its_turn(three_jobs: Connection) -> None:
    request_redelivery(three_jobs, [1, 2, 3], targets=["base"], request=1)
    assert backlog(three_jobs).waiting == 3


def test_a_target_shows_its_quarantine_and_its_trouble(three_jobs: Connection) -> None:
    send_through(three_jobs, 3, refused=(1, 1, 2))
    mark_trouble(three_jobs, "base", trouble="timed out", now_ns=5)
    assert backlog(three_jobs) == Backlog("base", 0, None, 3, "timed out", 5)
    assert backlogs(three_jobs, targets=["summit"])[0].trouble is None
