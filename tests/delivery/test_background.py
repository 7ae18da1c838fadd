import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.delivery import background
from squash_api.delivery.background import Background
from squash_api.delivery.drainer import Drainer
from squash_api.index.derived import derived_through
from squash_api.index.deriver import Deriver
from squash_api.index.reader import Reader
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.standings.standing import Standings
from squash_api.standings.watch import Watch
from tests.support.builders import add_test_user, open_record, store_job
from tests.support.observatory import FakeOutlet

LONG_S = 20


class FakeDrainer:
    """Runs until it is stopped, and counts how often it was woken."""

    def __init__(self) -> None:
        self.name = "base"
        self.woken = 0
        self.running = threading.Event()
        self.stopped = threading.Event()

    def run(self) -> None:
        self.running.set()
        self.stopped.wait(LONG_S)
        self.running.clear()

    def wake(self) -> None:
        self.woken += 1

    def stop(self) -> None:
        self.stopped.set()


class FakeDeriver:
    """Fails the first time, then has two batches."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_done = threading.Event()

    def derive_some(self) -> bool:
        self.calls += 1
        if self.calls == 1:
            raise OSError("no luck")
        if self.calls < 4:
            return True
        self.is_done.set()
        return False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_POLL_S", 0.01)


@pytest.fixture
def begin() -> Iterator[Callable[..., Background]]:
    """Start threads, which are stopped at the end."""
    begun: list[Background] = []

    def begin(drainers: Any, deriver: Any) -> Background:
        begun.append(Background(cast("list[Drainer]", drainers), cast("Deriver", deriver)))
        begun[-1].start()
        return begun[-1]

    with capture_logs():
        yield begin
        for item in begun:
            item.stop()


def test_every_drainer_runs_in_a_thread_until_it_is_stopped(
    begin: Callable[..., Background],
) -> None:
    drainers = [FakeDrainer(), FakeDrainer()]
    threads = begin(drainers, FakeDeriver())
    assert all(drainer.running.wait(LONG_S) for drainer in drainers)
    threads.stop()
    assert not any(drainer.running.is_set() for drainer in drainers)


def test_a_stored_job_wakes_every_drainer(begin: Callable[..., Background]) -> None:
    drainers = [FakeDrainer(), FakeDrainer()]
    begin(drainers, FakeDeriver()).wake()
    assert [drainer.woken for drainer in drainers] == [1, 1]


def test_deriving_goes_on_after_a_failure_until_nothing_waits(
    begin: Callable[..., Background],
) -> None:
    deriver = FakeDeriver()
    begin([], deriver)
    assert deriver.is_done.wait(LONG_S)
    assert deriver.calls >= 4


def test_jobs_are_derived_though_nobody_asks(
    begin: Callable[..., Background], tmp_path: Path
) -> None:
    record = open_record(tmp_path)
    add_test_user(record)
    threads = begin([], Deriver(record, Vocabulary(record, Schema())))
    store_job(record)
    threads.wake()
    assert wait_for(lambda: through(record) == 1)
    threads.stop()
    record.close()


def through(record: Record) -> int:
    with record.read() as connection:
        return derived_through(connection)


def wait_for(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    for _ in range(LONG_S * 100):
        if condition():
            return True
        pause.wait(0.01)
    return False


def test_the_watch_runs_as_long_as_the_threads(tmp_path: Path) -> None:
    record = open_record(tmp_path)
    outlet = FakeOutlet()
    reader = Reader.of_record(record, Schema())
    standings = Standings(reader, DefinitionsInForce(record, Schema()))
    watch = Watch(standings, [outlet], squash_url="https://squash.example")
    threads = Background([], None, watch)
    threads.start()
    assert wait_for(lambda: bool(outlet.lines))
    threads.stop()
    assert not watch._thread.is_alive()
    record.close()


def test_all_threads_have_ended_when_stop_returns(begin: Callable[..., Background]) -> None:
    threads = begin([FakeDrainer()], FakeDeriver())
    threads.stop()
    assert not any(thread.is_alive() for thread in threads._threads)
