import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from squash_api.delivery import outlet
from squash_api.delivery.outlet import Lease
from squash_api.errors import RecordUnavailableError
from squash_api.record.deliveries import (
    LEASE_NS,
    TargetRow,
    ensure_targets,
    get_target,
    release_lease,
    take_lease,
)
from squash_api.record.record import Record
from tests.support.site import wait_for


@pytest.fixture
def record(record: Record) -> Record:
    record.write(lambda connection: ensure_targets(connection, ["base"]))
    return record


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Move the clock on by so many ns, from a time that stands still."""
    now = [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])

    def move(by_ns: int) -> None:
        now[0] += by_ns

    return move


@pytest.fixture
def begin(record: Record, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Lease]]:
    """Start a lease whose heart beats fast, and end it with the test."""
    monkeypatch.setattr(outlet, "HEARTBEAT_S", 0.005)
    begun: list[Lease] = []

    def begin() -> Lease:
        begun.append(Lease("base", record))
        begun[-1].start()
        return begun[-1]

    with capture_logs():
        yield begin
        for item in begun:
            item.end()


def row(record: Record) -> TargetRow:
    with record.read() as connection:
        return get_target(connection, "base")


def take_away(record: Record) -> None:
    """Give the lease to another, as if it had expired."""
    now_ns = time.time_ns()

    def work(connection: Connection) -> bool:
        owner = get_target(connection, "base").lease_owner
        release_lease(connection, "base", owner=owner or "")
        return take_lease(
            connection, "base", owner="other", now_ns=now_ns, until_ns=now_ns + LEASE_NS
        )

    assert record.write(work)


def test_one_at_a_time_holds_it(record: Record) -> None:
    first, second = Lease("base", record), Lease("base", record)
    assert first.is_held()
    assert not second.is_held()
    assert first.is_held()


def test_it_is_taken_for_twenty_seconds(record: Record, clock: Callable[[int], None]) -> None:
    clock(0)
    assert Lease("base", record).is_held()
    assert row(record).lease_until_ns == time.time_ns() + 20 * 10**9


def test_asking_for_it_again_writes_nothing(record: Record, clock: Callable[[int], None]) -> None:
    mine = Lease("base", record)
    mine.is_held()
    before = row(record)
    clock(1)
    assert mine.is_held()
    assert row(record) == before


def test_when_it_has_expired_another_may_take_it(
    record: Record, clock: Callable[[int], None]
) -> None:
    first, second = Lease("base", record), Lease("base", record)
    first.is_held()
    clock(LEASE_NS + 1)
    assert second.is_held()
    assert not first.is_held()


def test_when_it_has_expired_and_nobody_wanted_it_its_holder_has_it_again(
    record: Record, clock: Callable[[int], None]
) -> None:
    mine = Lease("base", record)
    mine.is_held()
    clock(LEASE_NS + 1)
    assert mine.is_held()


@pytest.mark.parametrize(
    ("ahead_ns", "is_free"),
    [(0, False), (LEASE_NS, False), (LEASE_NS + 1, True), (3600 * 10**9, True), (10**18, True)],
)
def test_a_lease_of_a_clock_that_was_ahead_binds_nobody(
    record: Record, clock: Callable[[int], None], ahead_ns: int, *, is_free: bool
) -> None:
    clock(ahead_ns)
    # It dies without giving the lease back.
    Lease("base", record).is_held()
    clock(-ahead_ns)
    assert Lease("base", record).is_held() is is_free


def test_a_clock_that_is_set_back_lets_only_one_hold_it(
    record: Record, clock: Callable[[int], None]
) -> None:
    first, second = Lease("base", record), Lease("base", record)
    first.is_held()
    clock(-3600 * 10**9)
    assert second.is_held()
    assert not first.is_held()


def test_its_holder_keeps_it_when_the_clock_is_set_back(
    record: Record, clock: Callable[[int], None]
) -> None:
    mine = Lease("base", record)
    mine.is_held()
    clock(-3600 * 10**9)
    assert mine.is_held()
    assert row(record).lease_until_ns == time.time_ns() + LEASE_NS
    assert not Lease("base", record).is_held()


def test_the_heartbeat_renews_it(record: Record, begin: Callable[[], Lease]) -> None:
    begin().is_held()
    first = row(record)
    wait_for(lambda: row(record).lease_until_ns > first.lease_until_ns)
    assert row(record).lease_owner == first.lease_owner


def test_the_heartbeat_takes_nothing_that_was_not_asked_for(
    record: Record, begin: Callable[[], Lease]
) -> None:
    begin().end()
    assert row(record).lease_owner is None


def test_the_heartbeat_notices_that_it_was_lost(record: Record, begin: Callable[[], Lease]) -> None:
    mine = begin()
    assert mine.is_held()
    take_away(record)
    wait_for(lambda: not mine.is_held())
    assert row(record).lease_owner == "other"


@pytest.mark.parametrize("error", [RecordUnavailableError("The disk is full."), OSError("odd")])
def test_the_heart_beats_on_after_a_failure(
    record: Record,
    begin: Callable[[], Lease],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    failures: list[Exception] = []

    def fail(*_: Any, **__: Any) -> bool:
        failures.append(error)
        raise error

    begin().is_held()
    with monkeypatch.context() as patch:
        patch.setattr(outlet, "take_lease", fail)
        wait_for(lambda: failures)
    first = row(record)
    wait_for(lambda: row(record).lease_until_ns > first.lease_until_ns)


def test_it_is_given_back_at_the_end(record: Record, begin: Callable[[], Lease]) -> None:
    mine = begin()
    assert mine.is_held()
    mine.end()
    assert (row(record).lease_owner, row(record).lease_until_ns) == (None, 0)


def test_the_end_leaves_the_lease_of_another(record: Record, begin: Callable[[], Lease]) -> None:
    mine = begin()
    mine.is_held()
    take_away(record)
    mine.end()
    assert row(record).lease_owner == "other"
