"""The record is lost, damaged or not the newest: the service says so instead of serving it."""

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.errors import SettingsError
from squash_api.record.installation import accept, begin_anew, restore
from squash_api.site import Site as InProcess
from tests.support.builders import make_settings
from tests.support.calls import Calls, log_in
from tests.support.in_process import service
from tests.support.service import Service
from tests.support.site import job_document, wait_for

pytestmark = pytest.mark.sqlite

JOBS = 40
Spoil = Callable[[Path], None]


def big_job(number: int) -> dict[str, Any]:
    """Return a job of some 20 kB."""
    return {**job_document({"p.a": number}), "meta": {"packages": {}, "note": "x" * 20_000}}


@contextmanager
def logged_in(running: Service) -> Iterator[Calls]:
    with httpx.Client(base_url=running.url, timeout=30, trust_env=False) as client:
        yield log_in(client, "ada")


def post(running: Service, count: int) -> list[int]:
    """Post jobs and return their ids."""
    with logged_in(running) as calls:
        replies = [calls("POST", "/job", json=big_job(number)) for number in range(count)]
    assert {reply.status_code for reply in replies} == {202}
    return [reply.json()["id"] for reply in replies]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a service that was killed: its last jobs are only in the log."""
    folder = tmp_path_factory.mktemp("history")
    with Service(folder) as running:
        assert post(running, JOBS // 2)[-1] == JOBS // 2
        running.stop()
        shutil.copy(folder / "squash.db", folder / "older.db")
        running.start()
        assert post(running, JOBS // 2)[-1] == JOBS
        running.kill()
    return folder


@pytest.fixture
def folder(history: Path, tmp_path: Path) -> Path:
    for path in history.glob("*.db*"):
        shutil.copy(path, tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    """Return why the service does not start."""
    with pytest.raises(SettingsError) as refused:
        InProcess(make_settings(folder), is_made=True).start()
    return refused.value.message


def empty(folder: Path) -> None:
    os.truncate(folder / "squash.db", 0)


def empty_and_lose_the_log(folder: Path) -> None:
    empty(folder)
    lose_the_log(folder)


def lose_the_log(folder: Path) -> None:
    (folder / "squash.db-wal").unlink()
    (folder / "squash.db-shm").unlink(missing_ok=True)


def garble_the_log(folder: Path) -> None:
    garble(folder / "squash.db-wal")


def lose_all(folder: Path) -> None:
    (folder / "squash.db").unlink()
    lose_the_log(folder)


def lose_the_file(folder: Path) -> None:
    (folder / "squash.db").unlink()


def put_an_older_one(folder: Path) -> None:
    lose_all(folder)
    (folder / "older.db").rename(folder / "squash.db")


def put_a_strange_one(folder: Path) -> None:
    lose_all(folder)
    other = folder / "elsewhere"
    other.mkdir()
    with service(other) as client:
        assert log_in(client, "ada")("POST", "/job", json=big_job(1)).status_code == 202
    with closing(sqlite3.connect(other / "squash.db")) as record:
        record.execute("UPDATE sqlite_sequence SET seq = 1000")
        record.commit()
    shutil.copy(other / "squash.db", folder / "squash.db")


def lose_the_mark(folder: Path) -> None:
    (folder / "squash.db.mark").unlink()


def garble_the_mark(folder: Path) -> None:
    (folder / "squash.db.mark").write_bytes(b"{}")


def write_letters(folder: Path) -> None:
    (folder / "squash.db").write_text("This is a letter to my grandmother." * 1000)
    lose_the_log(folder)


def garble_the_middle(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "squash.db")) as record:
        record.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    garble(folder / "squash.db")


def garble(path: Path) -> None:
    """Write 20 kB of garbage into the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(20_000))


def cut_off(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "squash.db")) as record:
        record.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(folder / "squash.db", (folder / "squash.db").stat().st_size // 2)


SPOILED: dict[Spoil, str] = {
    empty: "is empty, but there was one, up to job 40",
    empty_and_lose_the_log: "is empty, but there was one, up to job 40",
    lose_the_log: "clients were answered up to id 40 of job, and it ends with 20",
    garble_the_log: "clients were answered up to id 40 of job",
    lose_all: "there is no record at .*, but there was one, up to job 40",
    lose_the_file: "there is no record at .*, but there was one, up to job 40",
    put_an_older_one: "clients were answered up to id 40 of job, and it ends with 20",
    put_a_strange_one: "it is of another installation than its mark",
    lose_the_mark: "its mark, squash.db.mark, is missing",
    garble_the_mark: "the mark of the record, .*, cannot be read",
    write_letters: "is damaged .file is not a database",
    garble_the_middle: "is damaged",
    cut_off: "is damaged",
}


def size_of(folder: Path) -> int | None:
    path = folder / "squash.db"
    return path.stat().st_size if path.exists() else None


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_the_service_does_not_start_and_says_what_to_do(folder: Path, spoil: Spoil) -> None:
    spoil(folder)
    size = size_of(folder)
    message = refusal(folder)
    assert re.search(SPOILED[spoil], message), message
    assert "squash record" in message
    assert "docs/operations.md" in message
    # Nothing is made in its place.
    assert size or size_of(folder) == size


def test_the_command_that_serves_ends_with_the_reason(folder: Path) -> None:
    lose_the_log(folder)
    outcome = Service(folder).run("serve")
    assert outcome.returncode == 1
    last = outcome.stderr.splitlines()[-2]
    assert last.startswith("error: SQUASH_DATABASE_URL: ")
    assert SPOILED[lose_the_log] in last


@pytest.mark.parametrize("command", ["deliver", "replay"])
def test_commands_that_send_jobs_do_not_send_those_of_another_record(
    folder: Path, command: str
) -> None:
    put_an_older_one(folder)
    outcome = Service(folder, SQUASH_INFLUX_URL="http://127.0.0.1:9").run(command)
    assert outcome.returncode == 1
    assert SPOILED[put_an_older_one] in outcome.stderr


def test_after_a_kill_alone_it_starts(folder: Path) -> None:
    with Service(folder) as running:
        assert post(running, 1) == [JOBS + 1]


# While the service runs


def remove(folder: Path) -> None:
    (folder / "squash.db").unlink()


def replace(folder: Path) -> None:
    shutil.copy(folder / "squash.db", folder / "copy.db")
    (folder / "copy.db").rename(folder / "squash.db")


def remove_the_log(folder: Path) -> None:
    (folder / "squash.db-wal").unlink()


WHILE_OPEN: dict[Spoil, str] = {
    remove: "The file of the record has been removed or emptied",
    empty: "The file of the record has been removed or emptied",
    replace: "The file of the record has been replaced by another one",
    remove_the_log: "The write-ahead log of the record has been removed or replaced",
}


@pytest.mark.parametrize("spoil", WHILE_OPEN, ids=lambda spoil: spoil.__name__)
def test_a_service_whose_record_is_taken_away_accepts_no_job(
    folder: Path, tmp_path: Path, spoil: Spoil
) -> None:
    with service(tmp_path) as client:
        calls = log_in(client, "ada")
        assert calls("POST", "/job", json=big_job(1)).status_code == 202
        assert client.get("/readyz").status_code == 200
        spoil(folder)
        wait_for(lambda: client.get("/readyz").status_code == 503)
        for _ in range(2):
            reply = calls("POST", "/job", json=big_job(2))
            assert (reply.status_code, reply.json()["code"]) == (503, "record_unavailable")
            assert reply.json()["message"].startswith(WHILE_OPEN[spoil])
            assert int(reply.headers["Retry-After"]) > 0
        ready = client.get("/readyz")
        found = ready.json()["record"]
        assert found.pop("runbook").endswith("/docs/runbook#record-gone")
        assert found == {"status": "down", "reason": WHILE_OPEN[spoil]}
        assert int(ready.headers["Retry-After"]) > 0


def test_what_was_in_a_removed_log_is_in_the_record_after_an_orderly_stop(
    folder: Path, tmp_path: Path
) -> None:
    with service(tmp_path) as client:
        calls = log_in(client, "ada")
        assert calls("POST", "/job", json=big_job(1)).json()["id"] == JOBS + 1
        remove_the_log(folder)
        assert calls("POST", "/job", json=big_job(2)).status_code == 503
    with service(tmp_path) as client:
        assert client.get(f"/job/{JOBS + 1}").status_code == 200
        assert log_in(client, "ada")("POST", "/job", json=big_job(3)).json()["id"] == JOBS + 2


def test_after_an_orderly_stop_the_file_alone_is_the_whole_record(tmp_path: Path) -> None:
    with ExitStack() as stack:
        with service(tmp_path) as client:
            assert log_in(client, "ada")("POST", "/job", json=big_job(1)).status_code == 202
            # As a reading process does, which ends after the service has closed the record.
            reader = stack.enter_context(closing(sqlite3.connect(tmp_path / "squash.db")))
            assert reader.execute("SELECT count(*) FROM job").fetchone() == (1,)
        shutil.copy(tmp_path / "squash.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM job").fetchone() == (1,)


# Going on


def test_a_record_that_is_accepted_gives_no_id_twice(folder: Path, tmp_path: Path) -> None:
    put_an_older_one(folder)
    done = accept(make_settings(tmp_path).database_url)
    assert done.last_job == JOBS // 2
    # Ids are noted on the disk in blocks, so more may have been given than is known.
    assert done.next_job > JOBS
    with service(tmp_path) as client:
        assert log_in(client, "ada")("POST", "/job", json=big_job(1)).json()["id"] == done.next_job


@pytest.mark.parametrize("lose", [lose_all, lose_the_file, empty, empty_and_lose_the_log])
def test_an_empty_record_that_is_accepted_gives_no_id_twice(
    folder: Path, tmp_path: Path, lose: Spoil
) -> None:
    lose(folder)
    done = begin_anew(make_settings(tmp_path).database_url)
    assert (done.last_job, done.next_job > JOBS) == (0, True)
    with service(tmp_path) as client:
        reply = log_in(client, "ada")("POST", "/job", json=big_job(1))
        assert reply.json()["id"] == done.next_job
        assert client.get("/jobs").json()["ids"] == [done.next_job]


@pytest.mark.parametrize("spoil", [*SPOILED], ids=lambda spoil: spoil.__name__)
def test_a_backup_takes_the_place_of_whatever_is_there(
    folder: Path, tmp_path: Path, spoil: Spoil
) -> None:
    shutil.copy(folder / "older.db", folder / "backup.db")
    spoil(folder)
    with (folder / "backup.db").open("rb") as backup:
        done = restore(make_settings(tmp_path).database_url, backup)
    assert done.last_job == JOBS // 2
    # Without mark and log, nothing tells of the later jobs.
    assert done.next_job > JOBS or spoil in {lose_the_mark, garble_the_mark}
    with service(tmp_path) as client:
        reply = log_in(client, "ada")("POST", "/job", json=big_job(1))
        assert reply.json()["id"] == done.next_job
        assert client.get(f"/job/{JOBS // 2}").status_code == 200
        assert client.get(f"/job/{JOBS}").status_code == 404
