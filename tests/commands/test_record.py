import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from squash_api.site import Site
from tests.support.builders import (
    STORE,
    add_test_user,
    make_body,
    make_new_job,
    make_settings,
    measured,
    store_job,
)
from tests.support.command_line import Run, make_run, set_environment

pytestmark = pytest.mark.sqlite


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    set_environment(monkeypatch, tmp_path)
    return make_run(monkeypatch, capsys)


def test_a_record_is_made_once_and_its_place_is_said(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "squash.db"
    first, second = run("record", "init"), run("record", "init")
    assert (first.code, first.out) == (0, f"{place}: an empty record was made\n")
    assert (second.code, second.out) == (0, f"{place}: it is there already\n")
    assert run("user", "list").code == 0


def test_a_folder_that_does_not_exist_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SQUASH_DATABASE_URL", f"sqlite:///{tmp_path}/nowhere/squash.db")
    outcome = run("record", "init")
    assert outcome.code == 1
    assert f"{tmp_path}/nowhere does not exist" in outcome.err
    assert not list(tmp_path.iterdir())


# A record with jobs

JOBS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a record with jobs of some 20 kB, all of them derived."""
    folder = tmp_path_factory.mktemp("made")
    with Site(make_settings(folder), is_made=True) as site:
        site.start()
        add_test_user(site.record)
        add_test_user(site.record, "bob")
        site.record.write(store_jobs)
        site.deriver.catch_up()
    return folder


def store_jobs(connection: Connection) -> None:
    for number in range(JOBS):
        body = make_body(measured(value=number), note="x" * 20_000, run_id=f"run-{number}")
        new = make_new_job(
            asked_ns=number + 1, user_id=1 + number % 2, body=body, new_units={"p.a": "mmag"}
        )
        STORE.whole(connection, [new])


@pytest.fixture
def stopped(made: Path, tmp_path: Path) -> Path:
    """The file of that record, after the service has been stopped."""
    for path in made.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / "squash.db"


@pytest.fixture
def jobs(stopped: Path, tmp_path: Path) -> Iterator[Site]:
    """That record, open as a service has it."""
    assert stopped
    with Site(make_settings(tmp_path), is_made=True) as site:
        site.start()
        yield site


def sql(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def found(run: Run) -> list[dict[str, Any]]:
    outcome = run("record", "check", "--json")
    document = json.loads(outcome.out)
    findings: list[dict[str, Any]] = document["findings"]
    assert document["is_whole"] is not bool(findings)
    assert outcome.code == (1 if findings else 0)
    return findings


# Checking


@pytest.mark.usefixtures("jobs")
def test_a_record_in_use_is_whole(run: Run) -> None:
    assert found(run) == []
    assert run("record", "check").out == "the record is whole\n"


def test_metadata_that_had_to_be_cleaned_is_no_finding(jobs: Site, run: Run) -> None:
    body = make_body(measured(), instrument="HSC\\", ci_url="javascript:0")
    jobs.record.write(lambda connection: STORE.whole(connection, [make_new_job(body=body)]))
    jobs.deriver.catch_up()
    assert found(run) == []


def test_a_record_without_jobs_is_whole(run: Run) -> None:
    run("record", "init")
    assert found(run) == []


def test_a_record_that_is_not_there_cannot_be_checked(run: Run) -> None:
    outcome = run("record", "check")
    assert outcome.code == 2
    assert "there is no record" in outcome.err


WRONG = {
    "DELETE FROM job WHERE id = 7": ("gap", "job 7 is not there"),
    "DELETE FROM job WHERE id BETWEEN 7 AND 9": ("gap", "jobs 7 to 9 are not there"),
    "DELETE FROM user_account WHERE id = 2": (
        "reference",
        "30 of job refer by user_id to a user_account that is not there",
    ),
    "UPDATE job SET body = x'7b7b' WHERE id = 5": ("job", "job 5 cannot be read: "),
    "UPDATE measurement SET value = -1 WHERE job_id = 5": (
        "derived",
        "the index has something else of job 5: p.a",
    ),
    "DELETE FROM measurement WHERE job_id = 5": (
        "derived",
        "the index has something else of job 5: p.a",
    ),
    "INSERT INTO measurement VALUES (1, 1000, 2.0)": (
        "derived",
        "1 values in the index belong to no job",
    ),
    "UPDATE job_context SET time_ns = 3 WHERE job_id = 5": (
        "derived",
        "the index has something else of job 5: its metadata",
    ),
    "DELETE FROM job_run WHERE job_id = 5": (
        "derived",
        "the index has something else of job 5: its run",
    ),
    "UPDATE state SET value = 61 WHERE key = 'derived_through'": (
        "cursor",
        "derived_through is 61, and the last job is 60",
    ),
    "INSERT INTO target (name, sent_through, taken_through, lease_until_ns) "
    "VALUES ('far', 61, 61, 0)": (
        "cursor",
        "far: sent_through is 61, and the last job is 60",
    ),
    "UPDATE sqlite_sequence SET seq = 59 WHERE name = 'job'": (
        "mark",
        "clients were answered up to id 60 of job, and it ends with 59",
    ),
    "UPDATE state SET value = 'other' WHERE key = 'installation'": (
        "mark",
        "it is of another installation than its mark, squash.db.mark",
    ),
}


@pytest.mark.parametrize("statement", WRONG)
def test_what_is_wrong_is_said(run: Run, stopped: Path, statement: str) -> None:
    sql(stopped, statement)
    kind, what = WRONG[statement]
    assert [item for item in found(run) if item["kind"] == kind and item["what"].startswith(what)]


def test_a_damaged_file_is_said(run: Run, stopped: Path) -> None:
    garble(stopped)
    assert [item for item in found(run) if item["kind"] == "file"]


def garble(path: Path) -> None:
    """Write 20 kB of garbage into the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(range(7, 207)) * 100)


# Backing up


def test_a_backup_of_a_record_in_use_is_a_whole_record(
    run: Run, jobs: Site, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    assert run("record", "backup", str(copy)).code == 0
    assert sql(copy, "PRAGMA integrity_check") == [("ok",)]
    assert sql(copy, "SELECT count(*), max(id) FROM job") == [(JOBS, JOBS)]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("*copy*")) == ["copy.db"]
    assert jobs.record.trouble is None


def test_a_backup_replaces_no_file(run: Run, stopped: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("precious")
    outcome = run("record", "backup", str(tmp_path / "copy.db"))
    assert (outcome.code, stopped.exists()) == (1, True)
    assert "exists already" in outcome.err
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_backup_that_cannot_be_made_leaves_nothing(
    run: Run, stopped: Path, tmp_path: Path
) -> None:
    assert run("record", "backup", str(tmp_path / "no" / "copy.db")).code == 1
    with stopped.open("r+b") as file:
        file.truncate(stopped.stat().st_size // 2)
    outcome = run("record", "backup", str(tmp_path / "copy.db"))
    assert outcome.code == 1
    assert "cannot be copied" in outcome.err
    assert not list(tmp_path.glob("copy.db*"))


def test_a_backup_of_nothing_is_an_error(run: Run, tmp_path: Path) -> None:
    outcome = run("record", "backup", str(tmp_path / "copy.db"))
    assert outcome.code == 1
    assert "there is no record" in outcome.err
    assert not list(tmp_path.iterdir())


# Restoring


def test_a_restored_record_is_whole_and_the_one_before_is_kept(
    run: Run, stopped: Path, tmp_path: Path
) -> None:
    run("record", "backup", str(tmp_path / "copy.db"))
    garble(stopped)
    before = stopped.read_bytes()
    outcome = run("record", "restore", str(tmp_path / "copy.db"), "--yes")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{stopped}: its last job is {JOBS}, the next one will be" in outcome.out
    assert (tmp_path / "squash.db.old-1").read_bytes() == before
    assert found(run) == []


@pytest.mark.usefixtures("jobs")
def test_the_record_of_a_running_service_is_not_replaced(run: Run, tmp_path: Path) -> None:
    run("record", "backup", str(tmp_path / "copy.db"))
    for command in (["restore", str(tmp_path / "copy.db")], ["accept"]):
        outcome = run("record", *command, "--yes")
        assert outcome.code == 1
        assert "is in use: stop the service" in outcome.err
    assert not list(tmp_path.glob("*old*"))


@pytest.mark.parametrize("content", [b"", b"a letter", None])
def test_what_is_no_record_is_not_restored(
    run: Run, stopped: Path, tmp_path: Path, content: bytes | None
) -> None:
    before = stopped.read_bytes()
    if content is not None:
        (tmp_path / "copy.db").write_bytes(content)
    outcome = run("record", "restore", str(tmp_path / "copy.db"), "--yes")
    assert outcome.code == 1
    assert stopped.read_bytes() == before
    assert not list(tmp_path.glob("*old*")) + list(tmp_path.glob("*restoring*"))


def test_new_jobs_get_ids_above_those_that_were_given(
    run: Run, stopped: Path, tmp_path: Path
) -> None:
    run("record", "backup", str(tmp_path / "copy.db"))
    for path in tmp_path.glob("squash.db*"):
        path.unlink()
    outcome = run("record", "restore", str(tmp_path / "copy.db"), "--yes", "--ids-above", "5000")
    assert f"{stopped}: its last job is {JOBS}, the next one will be 5001\n" in outcome.out
    assert found(run) == []


# Salvaging


def test_all_that_can_be_read_is_salvaged_and_the_rest_is_named(
    run: Run, stopped: Path, tmp_path: Path
) -> None:
    garble(stopped)
    before = stopped.read_bytes()
    new = tmp_path / "new.db"
    outcome = run("record", "salvage", "--to", str(new))
    assert outcome.code == 1
    there = {row[0] for row in sql(new, "SELECT id FROM job")}
    assert 40 < len(there) < JOBS
    named = outcome.out.partition("jobs that could not be read: ")[2].splitlines()[0]
    lost = set()
    for part in named.split(", "):
        first, _, last = part.partition(" to ")
        lost |= set(range(int(first), int(last or first) + 1))
    assert lost | there >= set(range(1, JOBS + 1))
    assert not lost & there
    assert stopped.read_bytes() == before


def test_what_was_salvaged_can_take_the_place_of_the_record(
    run: Run, stopped: Path, tmp_path: Path
) -> None:
    garble(stopped)
    run("record", "salvage", "--to", str(tmp_path / "new.db"))
    assert run("record", "restore", str(tmp_path / "new.db"), "--yes").code == 0
    with Site(make_settings(tmp_path)) as site:
        site.start()
        site.deriver.catch_up()
        assert store_job(site.record, body=make_body(measured())) > JOBS
        site.deriver.catch_up()
    assert {item["kind"] for item in found(run)} <= {"gap"}


def test_a_whole_record_is_salvaged_whole(run: Run, stopped: Path, tmp_path: Path) -> None:
    outcome = run("record", "salvage", "--to", str(tmp_path / "new.db"))
    assert (outcome.code, outcome.out) == (0, f"{tmp_path}/new.db: everything is in it\n")
    for table in ("job", "user_account", "metric", "definition", "target"):
        query = f"SELECT * FROM {table}"
        assert sql(tmp_path / "new.db", query) == sql(stopped, query)


def test_nothing_is_salvaged_from_a_letter(run: Run, tmp_path: Path) -> None:
    (tmp_path / "squash.db").write_text("This is a letter to my grandmother." * 1000)
    outcome = run("record", "salvage", "--to", str(tmp_path / "new.db"))
    assert outcome.code == 2
    assert "restore a backup" in outcome.err
    assert not (tmp_path / "new.db").exists()


# Accepting


def test_a_record_without_its_mark_is_accepted(run: Run, stopped: Path, tmp_path: Path) -> None:
    (tmp_path / "squash.db.mark").unlink()
    assert [item["kind"] for item in found(run)] == ["mark"]
    outcome = run("record", "accept", "--yes")
    assert outcome.out == f"{stopped}: its last job is {JOBS}, the next one will be {JOBS + 1}\n"
    assert found(run) == []


def test_a_damaged_record_is_not_accepted(run: Run, stopped: Path) -> None:
    garble(stopped)
    outcome = run("record", "accept", "--yes")
    assert outcome.code == 1
    assert "is not a whole record" in outcome.err


@pytest.mark.parametrize("command", [("restore", "copy.db"), ("accept",)])
def test_nothing_is_replaced_without_being_asked(
    run: Run, stopped: Path, tmp_path: Path, command: Sequence[str]
) -> None:
    run("record", "backup", str(tmp_path / "copy.db"))
    before = stopped.read_bytes()
    outcome = run("record", *command)
    assert outcome.code == 1
    assert "give --yes" in outcome.err
    assert stopped.read_bytes() == before
