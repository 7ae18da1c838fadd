"""Backups of a service that never rests, by the commands of the docs."""

import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.support.calls import Calls, log_in
from tests.support.service import Service
from tests.support.site import job_document

CLIENTS = 8
FIRST = 100


class Busy:
    """Clients that post jobs without a pause; `answered` are the ids in their replies of 202."""

    def __init__(self, service: Service) -> None:
        self.answered: list[int] = []
        self._service = service
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._post) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Wait until so many have been answered."""
        while len(self.answered) < count:
            time.sleep(0.01)

    def _post(self) -> None:
        with httpx.Client(base_url=self._service.url, timeout=60, trust_env=False) as client:
            calls = log_in(client, "ada")
            while not self._over.is_set():
                with suppress(httpx.TransportError):
                    self.answered.extend(self._post_one(calls))

    def _post_one(self, calls: Calls) -> list[int]:
        reply = calls("POST", "/job", json={**job_document({"p.a": 1}), "meta": {"note": NOTE}})
        return [reply.json()["id"]] if reply.status_code == 202 else []


NOTE = "x" * 20_000


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two backups, one into a file and one by standard output, while jobs come; then the end."""
    folder = tmp_path_factory.mktemp("busy")
    with Service(folder) as service, Busy(service) as busy:
        found: dict[str, Any] = {"folder": folder}
        for name in ("file", "stream"):
            busy.wait_for(len(busy.answered) + FIRST)
            before = set(busy.answered)
            begun = time.monotonic()
            place = folder / f"{name}.db"
            if name == "file":
                outcome = service.run("record", "backup", str(place))
            else:
                with place.open("wb") as to:
                    outcome = service.run(
                        "record", "backup", "-", capture_output=False, stdout=to, text=False
                    )
            found[name] = (outcome, before, time.monotonic() - begun)
            found[f"{name}, after"] = len(busy.answered) - len(before)
        busy.wait_for(len(busy.answered) + FIRST)
        found["last"] = max(busy.answered)
        service.kill()
        # Of those that were answered meanwhile, too.
        found["answered"] = [*busy.answered]
    return found


def ids(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("PRAGMA foreign_key_check").fetchall() == []
        return {row[0] for row in copy.execute("SELECT id FROM job")}


@pytest.mark.parametrize("name", ["file", "stream"])
def test_it_ends_and_has_every_job_that_was_answered_before(
    story: dict[str, Any], name: str
) -> None:
    outcome, before, took_s = story[name]
    assert outcome.returncode == 0
    # Most of it is the start of the command, on a machine that has much to do.
    assert took_s < 60
    there = ids(story["folder"] / f"{name}.db")
    assert before <= there
    # A state of one moment: no job without those before it.
    assert set(story["answered"]) & set(range(1, max(there) + 1)) <= there


def test_jobs_are_accepted_meanwhile(story: dict[str, Any]) -> None:
    assert story["file, after"] > 0


def test_nothing_else_is_left_of_it(story: dict[str, Any]) -> None:
    names = {path.name for path in story["folder"].glob("*")}
    assert not [name for name in names if "part" in name or "backup" in name]


def test_it_is_restored_and_no_id_is_given_twice(story: dict[str, Any]) -> None:
    with Service(story["folder"]) as service:
        copy = str(story["folder"] / "file.db")
        assert "is in use" in service.run("record", "restore", "--yes", copy).stderr
        service.stop()
        with Path(copy).open("rb") as backup:
            outcome = service.run("record", "restore", "--yes", "-", stdin=backup)
        assert outcome.returncode == 0, outcome.stderr
        service.start()
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
            reply = log_in(client, "ada")("POST", "/job", json=job_document({"p.a": 1}))
        assert reply.json()["id"] > story["last"]
        assert service.run("record", "check").stdout == "the record is whole\n"
