import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.pipelines.reporting import Report, Run, report
from squash_api.pipelines.running import Ended
from squash_api.pipelines.spool import Entry, Sender, Sent, Spool
from squash_api.wires.data_id import DataId
from tests.support.counting_service import CountingService
from tests.support.http_server import HttpServer

pytestmark = pytest.mark.sqlite


class HeldOnce(Sender):
    """Finds its first job held by another process, which then does something and lets it go."""

    def __init__(self, *words: Any, **given: Any) -> None:
        super().__init__(*words, **given)
        self.becomes: Any = None

    def send(self, paths: Any, **given: Any) -> Iterator[Sent]:
        (path,) = paths or [None]
        if path is None or self.becomes is None:
            yield from super().send(paths, **given)
            return
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield from super().send(paths, **given)
        becomes, self.becomes = self.becomes, None
        becomes(path)
        os.close(fd)


@pytest.fixture
def service() -> CountingService:
    return CountingService()


@pytest.fixture
def sender(tmp_path: Path, service: CountingService) -> Iterator[HeldOnce]:
    with HttpServer(service) as server:
        made = HeldOnce(Spool(tmp_path / "spool"), url=server.url, key="k")
        yield made
        made.close()


def reported(folder: Path, sender: Sender) -> Report:
    run = Run(["ql"], {"run_id": "r", "pipeline": "ql"}, {}, DataId(), str(folder), {})
    ended = Ended(0, None, 1, 2, 0.1, 0.1, 1, b"", 0)
    return report(run, ended, sender, within_s=60.0, hurry=threading.Event())


def test_a_job_that_another_process_holds_and_lets_go_is_sent(
    tmp_path: Path, sender: HeldOnce, service: CountingService
) -> None:
    sender.becomes = lambda _: None
    outcome = reported(tmp_path, sender)
    assert (outcome.notes, outcome.waiting) == ([], [])
    assert service.values("run.exit_status") == [0]


def test_a_job_that_another_process_sends_does_not_wait(
    tmp_path: Path, sender: HeldOnce, service: CountingService
) -> None:
    sender.becomes = Path.unlink
    outcome = reported(tmp_path, sender)
    assert (outcome.notes, outcome.waiting, service.jobs) == ([], [], [])


def test_a_job_that_the_service_refused_of_another_process_is_not_waited_for(
    tmp_path: Path, sender: HeldOnce
) -> None:
    def refused(path: Path) -> None:
        (entry,) = sender.spool.entries_of([path])
        assert isinstance(entry, Entry)
        sender.spool.write(Entry(path, entry.document, "ql", "now", "422: No.", sender.url, True))

    sender.becomes = refused
    (note,) = reported(tmp_path, sender).notes
    assert "422: No." in note


def test_a_service_in_trouble_is_not_asked_again(
    tmp_path: Path, sender: HeldOnce, service: CountingService
) -> None:
    service.judge = lambda _: httpx.Response(503)
    (note,) = reported(tmp_path, sender).notes
    assert "503" in note
