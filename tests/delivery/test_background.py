import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from squash_api.delivery import background
from squash_api.delivery.background import Background, Deriving
from squash_api.delivery.reader import BackOff, Loop, Wait
from squash_api.index.derived import derived_through
from squash_api.index.deriver import Deriver
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.site import Site
from tests.support.builders import make_settings, store_job
from tests.support.observatory import FakeOutlet
from tests.support.site import wait_for

LONG_S = 20


class FakeReader(Loop):
    """Counts its rounds, and notes when it is closed."""

    def __init__(self, *, waits_for_jobs: bool = True) -> None:
        super().__init__("base", BackOff(1.0, 1.0), failure="no luck")
        self.waits_for_jobs = waits_for_jobs
        self.rounds = 0
        self.closed_after: int | None = None

    def step(self) -> Wait:
        self.rounds += 1
        return Wait(0.0, 3600.0)

    def close(self) -> None:
        self.closed_after = self.rounds


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
    """Start readers, which are stopped at the end."""
    begun: list[Background] = []

    def begin(*readers: Loop) -> Background:
        begun.append(Background(readers))
        begun[-1].start()
        return begun[-1]

    with capture_logs():
        yield begin
        for item in begun:
            item.stop()


# Threads


def test_every_reader_runs_in_a_thread_until_it_is_stopped(
    begin: Callable[..., Background],
) -> None:
    readers = [FakeReader(), FakeReader()]
    threads = begin(*readers)
    wait_for(lambda: all(reader.rounds for reader in readers))
    threads.stop()
    assert not any(thread.is_alive() for thread in threads._threads)


def test_what_a_reader_holds_is_closed_after_the_last_round_of_all(
    begin: Callable[..., Background],
) -> None:
    readers = [FakeReader(), FakeReader()]
    threads = begin(*readers)
    assert [reader.closed_after for reader in readers] == [None, None]
    threads.stop()
    assert [reader.closed_after for reader in readers] == [reader.rounds for reader in readers]


def test_a_stored_job_wakes_every_reader_that_waits_for_jobs(
    begin: Callable[..., Background],
) -> None:
    readers = [FakeReader(), FakeReader(), FakeReader(waits_for_jobs=False)]
    threads = begin(*readers)
    wait_for(lambda: [reader.rounds for reader in readers] == [1, 1, 1])
    threads.wake()
    wait_for(lambda: [reader.rounds for reader in readers] == [2, 2, 1])


def test_the_watch_runs_as_long_as_the_threads(
    begin: Callable[..., Background], tmp_path: Path
) -> None:
    outlet = FakeOutlet()
    with Site(make_settings(tmp_path), is_made=True) as site:
        threads = begin(site.watch([outlet]))
        wait_for(lambda: outlet.lines)
        threads.stop()


# Deriving


def test_deriving_goes_on_after_a_failure_until_nothing_waits(
    begin: Callable[..., Background],
) -> None:
    deriver = FakeDeriver()
    begin(Deriving(cast("Deriver", deriver)))
    assert deriver.is_done.wait(LONG_S)
    assert deriver.calls >= 4


def test_jobs_are_derived_though_nobody_asks(
    begin: Callable[..., Background], record: Record
) -> None:
    threads = begin(Deriving(Deriver(record, Metrics(record, Schema()))))
    store_job(record)
    threads.wake()
    wait_for(lambda: through(record) == 1)
    threads.stop()


def through(record: Record) -> int:
    with record.read() as connection:
        return derived_through(connection)


def test_it_pauses_while_jobs_come(monkeypatch: pytest.MonkeyPatch) -> None:
    deriver = FakeDeriver()
    deriver.calls = 1
    deriving = Deriving(cast("Deriver", deriver))
    pauses: list[float] = []
    monkeypatch.setattr(deriving, "pause", pauses.append)
    deriving.wake()
    deriving.step()
    assert pauses == [background._POLL_S, background._PAUSE_S]
