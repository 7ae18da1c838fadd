"""The thread of a reader, its waits, and its back-off."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from squash_api.delivery.reader import NO_WAIT, BackOff, Loop, Wait
from squash_api.errors import RecordUnavailableError
from tests.support.site import wait_for

LONG_S = 20


class Rounds(Loop):
    """Fails in the rounds that it is told to; waits as it is told to."""

    def __init__(self, wait: Wait = NO_WAIT, *, failing: int = 0) -> None:
        super().__init__("rounds", BackOff(0.001, 0.004), failure="no luck", target="base")
        self.wait = wait
        self.failing = failing
        self.done = 0
        self.fault: Exception = OSError("odd")

    def step(self) -> Wait:
        self.done += 1
        if self.failing:
            self.failing -= 1
            raise self.fault
        return self.wait


@pytest.fixture
def begin() -> Iterator[Callable[[Rounds], Rounds]]:
    """Start a reader, which is stopped at the end."""
    begun: list[tuple[Rounds, threading.Thread]] = []

    def begin(reader: Rounds) -> Rounds:
        thread = threading.Thread(target=reader.run)
        thread.start()
        begun.append((reader, thread))
        return reader

    yield begin
    for reader, thread in begun:
        reader.stop()
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_rounds_follow_each_other_without_a_wait(begin: Callable[[Rounds], Rounds]) -> None:
    reader = begin(Rounds())
    wait_for(lambda: reader.done > 100)


def test_who_is_woken_does_not_wait(begin: Callable[[Rounds], Rounds]) -> None:
    reader = begin(Rounds(Wait(0.0, 3600.0)))
    wait_for(lambda: reader.done == 1)
    reader.wake()
    wait_for(lambda: reader.done == 2)


def test_the_least_wait_is_waited_though_it_is_woken(begin: Callable[[Rounds], Rounds]) -> None:
    reader = begin(Rounds(Wait(3600.0, 3600.0)))
    wait_for(lambda: reader.done == 1)
    reader.wake()
    time.sleep(0.05)
    assert reader.done == 1


def test_a_record_that_stays_unavailable_is_noted_once_and_in_a_line() -> None:
    reader = Rounds(failing=3)
    reason = "The disk of the record is full"
    reader.fault = RecordUnavailableError("no", reason=reason)
    with capture_logs() as lines:
        for _ in range(3):
            reader.round()
    assert lines == [
        {
            "event": "no luck",
            "log_level": "warning",
            "target": "base",
            "reason": reason,
            "runbook": "record-full",
        }
    ]


def test_a_record_that_is_unavailable_again_is_noted_again() -> None:
    reader = Rounds()
    reader.fault = RecordUnavailableError("no", reason="The disk of the record is full")
    with capture_logs() as lines:
        for failing in (1, 0, 1):
            reader.failing = failing
            reader.round()
    assert len(lines) == 2


def test_it_knows_once_that_it_was_woken() -> None:
    reader = Rounds()
    reader.wake()
    assert [reader.was_woken(), reader.was_woken()] == [True, False]


def test_who_is_to_stop_does_not_pause() -> None:
    reader = Rounds()
    reader.stop()
    reader.pause(3600.0)
    assert reader.is_stopping()


def test_a_round_that_fails_ends_nothing_and_is_told() -> None:
    reader = Rounds(Wait(0.0, 7.0), failing=1)
    with capture_logs() as logs:
        assert reader.round() == Wait(0.0, 0.001)
    assert reader.round() == Wait(0.0, 7.0)
    ((event, target),) = [(entry["event"], entry["target"]) for entry in logs]
    assert (event, target) == ("no luck", "base")


def test_waits_double_up_to_a_bound_until_a_round_succeeds() -> None:
    reader = Rounds(failing=4)
    with capture_logs():
        assert [reader.round().longest_s for _ in range(4)] == [0.001, 0.002, 0.004, 0.004]
        assert reader.round() == NO_WAIT
        reader.failing = 1
        assert reader.round().longest_s == 0.001


def test_a_wait_after_a_failure_has_a_least_and_differs_by_its_jitter() -> None:
    back_off = BackOff(4.0, 4.0, least_s=1.0, jitter=0.5)
    waits = [back_off.wait() for _ in range(20)]
    assert {wait.least_s for wait in waits} == {1.0}
    assert all(2.0 <= wait.longest_s <= 4.0 for wait in waits)
    assert len(set(waits)) > 1


def test_many_failures_do_not_overflow() -> None:
    back_off = BackOff(1.0, 5.0)
    assert [back_off.wait() for _ in range(5_000)][-1] == Wait(0.0, 5.0)
