"""A disk that is full or can only be read, and a process without file descriptors."""

import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.calls import Calls, log_in
from tests.support.service import READING, Service
from tests.support.site import job_document, wait_for

pytestmark = pytest.mark.sqlite

SIZE_MB = 6
READS = (
    "/",
    "/jobs",
    "/job/1",
    "/status/1",
    "/runs",
    "/metrics",
    "/metric/p.a",
    "/specs",
    "/standings",
    "/measurements?metric=p.a",
    "/measurements?metric=p.a&format=csv",
    "/measurements?metric=p.a&format=parquet",
    "/measurements?metric=p.a&tag=dataset=none",
    "/report?since=7d",
    "/report/run-1",
    "/search?q=run",
    "/stats",
    "/prometheus",
    "/healthz",
)
COMMANDS = (
    ("export", "--metric", "p.a"),
    ("report", "--format", "json"),
    ("user", "list"),
    ("record", "check"),
)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path_factory.mktemp("disk")
    options = ["-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    made = subprocess.run(["mount", "-t", "tmpfs", *options], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount a file system, as root has it")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@dataclass
class Story:
    """What was answered before, on and after the full disk."""

    answered: list[int] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)
    ready: Any = None
    reads: dict[str, int] = field(default_factory=dict)
    commands: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    after: list[httpx.Response] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


def job(number: int) -> dict[str, Any]:
    meta = {"packages": {}, "note": "x" * 50_000, "run_id": f"run-{number}"}
    return {**job_document({"p.a": number}), "meta": meta}


def post(calls: Calls, number: int) -> httpx.Response:
    return calls("POST", "/job", json=job(number))


@pytest.fixture(scope="module")
def story(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    filler = disk / "filler"
    filler.write_bytes(bytes(2_000_000))
    folder = tmp_path_factory.mktemp("service")
    told = Story()
    service = Service(folder, SQUASH_DATABASE_URL=f"sqlite:///{disk}/squash.db")
    with service, httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        calls = log_in(client, "ada")
        number = 0
        while len(told.refused) < 3:
            reply = post(calls, number)
            if reply.status_code == 202:
                told.answered.append(reply.json()["id"])
            else:
                told.refused.append(reply)
            number += 1
        told.ready = client.get("/readyz")
        for path in READS:
            for accept in ("application/json", "text/html"):
                reply = client.get(path, headers={"Accept": accept})
                told.reads[f"{path} as {accept}"] = reply.status_code
        for command in COMMANDS:
            told.commands[" ".join(command)] = service.run(*command)
        copy = ("record", "backup", str(folder / "copy.db"))
        told.commands["record backup"] = service.run(*copy)
        filler.unlink()
        wait_for(lambda: client.get("/readyz").status_code == 200)
        told.after = [post(calls, 1000 + number) for number in range(3)]
        told.ids = client.get("/jobs?limit=1000").json()["ids"]
    return told


def test_a_full_disk_is_told_to_who_sends_a_job(story: Story) -> None:
    assert {reply.status_code for reply in story.refused} == {503}
    said = "The disk of the record is full; nothing was stored. Try again. See "
    assert all(reply.json()["message"].startswith(said) for reply in story.refused)
    assert all(int(reply.headers["Retry-After"]) > 0 for reply in story.refused)


def test_a_full_disk_is_told_to_who_asks_for_health(story: Story) -> None:
    assert story.ready.status_code == 503
    found = story.ready.json()["record"]
    assert found.pop("runbook").endswith("/docs/runbook#record-full")
    assert found == {"status": "down", "reason": "The disk of the record is full"}


def test_all_can_be_read(story: Story) -> None:
    assert {path: status for path, status in story.reads.items() if status >= 500} == {}


def test_commands_that_read_work(story: Story) -> None:
    failed = {name: done.stderr for name, done in story.commands.items() if done.returncode > 1}
    assert failed == {}
    assert story.commands["record backup"].returncode == 0
    assert story.commands["record check"].stdout == "the record is whole\n"


def test_once_there_is_space_jobs_are_accepted_again(story: Story) -> None:
    assert [reply.text for reply in story.after if reply.status_code != 202] == []


def test_nothing_is_lost_and_nothing_is_half_written(story: Story) -> None:
    assert set(story.answered) <= set(story.ids)
    # What was refused was not stored.
    assert len(story.ids) == len(story.answered) + len(story.after)


# A disk that can only be read


@pytest.mark.usefixtures("story")
def test_a_record_on_a_disk_that_can_only_be_read_is_not_opened(disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        service = Service(tmp_path, SQUASH_DATABASE_URL=f"sqlite:///{disk}/squash.db")
        for command in (["serve"], ["user", "list"], ["record", "check"]):
            outcome = service.run(*command)
            # What only reads may work, if the files beside the record are there.
            assert outcome.returncode or command != ["serve"]
            if outcome.returncode:
                assert "can only be read" in outcome.stderr.splitlines()[-2]
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


# No file descriptors


@pytest.mark.parametrize("options", [{}, READING], ids=["alone", "with processes"])
def test_without_file_descriptors_nothing_is_half_written(
    tmp_path: Path, options: dict[str, str]
) -> None:
    with (
        Service(tmp_path, **options) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        calls = log_in(client, "ada")
        answered = [post(calls, 1).json()["id"]]
        assert service.pid is not None
        usual = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        # Not one more than it has open.
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        for number in range(2, 12):
            reply = post(calls, number)
            assert reply.status_code in {202, 503}
            if reply.status_code == 202:
                answered.append(reply.json()["id"])
            assert client.get("/jobs").status_code in {200, 503}
            assert client.get("/readyz").status_code in {200, 503}
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, usual)
        wait_for(lambda: client.get("/readyz").status_code == 200)
        answered.append(post(calls, 99).json()["id"])
        assert client.get("/jobs?limit=1000").json()["ids"] == answered
        # A new connection is accepted again.
        assert httpx.get(f"{service.url}/healthz", trust_env=False, timeout=60).status_code == 200
