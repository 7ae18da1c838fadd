import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine

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
from tests.support.records import databases


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    set_environment(monkeypatch, tmp_path)
    return make_run(monkeypatch, capsys)


@pytest.mark.sqlite
def test_a_record_is_made_once_and_its_place_is_said(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "squash.db"
    first, second = run("record", "init"), run("record", "init")
    assert (first.code, first.out) == (0, f"{place}: an empty record was made\n")
    assert (second.code, second.out) == (0, f"{place}: it is there already\n")
    assert run("user", "list").code == 0


@pytest.mark.sqlite
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
def url(made: Path, tmp_path: Path) -> str:
    """A copy of that record, after the service has been stopped."""
    there = databases()
    if there is not None:
        there.put(tmp_path, there.name_of(made))
    for path in made.iterdir():
        shutil.copy(path, tmp_path)
    return make_settings(tmp_path).database_url


@pytest.fixture
def stopped(url: str, tmp_path: Path) -> Path:
    """The file of that record."""
    assert url
    return tmp_path / "squash.db"


@pytest.fixture
def jobs(url: str, tmp_path: Path) -> Iterator[Site]:
    """That record, open as a service has it."""
    assert url
    with Site(make_settings(tmp_path), is_made=True) as site:
        site.start()
        yield site


def sql(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def change(url: str, statement: str) -> None:
    """Change a record as its owner can."""
    engine = create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Without foreign keys and triggers, as SQLite's connections are by themselves.
            connection.exec_driver_sql("SET session_replication_role = replica")
        connection.exec_driver_sql(statement)
    engine.dispose()


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


@pytest.mark.sqlite
def test_a_record_that_is_not_there_cannot_be_checked(run: Run) -> None:
    outcome = run("record", "check")
    assert outcome.code == 2
    assert "there is no record" in outcome.err


WRONG = {
    "DELETE FROM user_account WHERE id = 2": (
        "reference",
        "30 of job refer by user_id to a user_account that is not there",
    ),
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
    "UPDATE state SET value = '61' WHERE key = 'derived_through'": (
        "cursor",
        "derived_through is 61, and the last job is 60",
    ),
    "INSERT INTO target (name, sent_through, taken_through, lease_until_ns) "
    "VALUES ('far', 61, 61, 0)": (
        "cursor",
        "far: sent_through is 61, and the last job is 60",
    ),
}
WRONG_IN_SQLITE = {
    "DELETE FROM job WHERE id = 7": ("gap", "job 7 is not there"),
    "DELETE FROM job WHERE id BETWEEN 7 AND 9": ("gap", "jobs 7 to 9 are not there"),
    "UPDATE job SET body = x'7b7b' WHERE id = 5": ("job", "job 5 cannot be read: "),
    "DROP TRIGGER audit_no_delete": ("trigger", "the trigger audit_no_delete is missing"),
    "UPDATE sqlite_sequence SET seq = 59 WHERE name = 'job'": (
        "mark",
        "clients were answered up to id 60 of job, and it ends with 59",
    ),
    "UPDATE state SET value = 'other' WHERE key = 'installation'": (
        "mark",
        "it is of another installation than its mark, squash.db.mark",
    ),
}
WRONG_IN_POSTGRESQL = {
    r"UPDATE job SET body = '\x7b7b' WHERE id = 5": ("job", "job 5 cannot be read: "),
    "DROP TRIGGER job_tell ON job": ("trigger", "the trigger job_tell is missing"),
    "ALTER TABLE audit DISABLE TRIGGER audit_no_change": (
        "trigger",
        "the trigger audit_no_change is missing or disabled",
    ),
    "SELECT setval('job_id_seq', 59)": (
        "ids",
        "the next id of job would be 60, and the last is 60: stop the service, and raise it",
    ),
}


@pytest.mark.parametrize("statement", WRONG)
def test_what_is_wrong_is_said(run: Run, url: str, statement: str) -> None:
    require_finding(run, url, statement, *WRONG[statement])


@pytest.mark.sqlite
@pytest.mark.parametrize("statement", WRONG_IN_SQLITE)
def test_what_is_wrong_in_a_file_is_said(run: Run, url: str, statement: str) -> None:
    require_finding(run, url, statement, *WRONG_IN_SQLITE[statement])


@pytest.mark.postgresql
@pytest.mark.parametrize("statement", WRONG_IN_POSTGRESQL)
def test_what_is_wrong_in_postgresql_is_said(run: Run, url: str, statement: str) -> None:
    require_finding(run, url, statement, *WRONG_IN_POSTGRESQL[statement])


def require_finding(run: Run, url: str, statement: str, kind: str, what: str) -> None:
    change(url, statement)
    assert [item for item in found(run) if item["kind"] == kind and item["what"].startswith(what)]


@pytest.mark.postgresql
def test_ids_that_no_job_of_postgresql_has_are_no_finding(run: Run, url: str) -> None:
    change(url, "SELECT nextval('job_id_seq')")
    with Site(make_settings(Path.cwd())) as site:
        assert store_job(site.record, body=make_body(measured())) == JOBS + 2
    assert found(run) == []


@pytest.mark.postgresql
def test_an_index_that_lacks_a_row_is_found_by_amcheck(run: Run, url: str) -> None:
    change(url, "CREATE EXTENSION IF NOT EXISTS amcheck")
    try:
        assert found(run) == []
        ready = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'pk_user_account'::regclass"
        change(url, ready.format("false"))
        change(
            url,
            "INSERT INTO user_account SELECT 9, 'eve', 'eve', '!', role, 1, false, 0"
            " FROM user_account WHERE id = 1",
        )
        change(url, ready.format("true"))
        (only,) = found(run)
        assert only["kind"] == "file"
        assert "pk_user_account" in only["what"]
    finally:
        change(url, "DROP EXTENSION amcheck")


@pytest.mark.sqlite
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


@pytest.mark.usefixtures("url")
def test_a_backup_replaces_no_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("precious")
    outcome = run("record", "backup", str(tmp_path / "copy.db"))
    assert outcome.code == 1
    assert "exists already" in outcome.err
    assert (tmp_path / "copy.db").read_text() == "precious"


@pytest.mark.sqlite
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


@pytest.mark.sqlite
def test_a_backup_of_nothing_is_an_error(run: Run, tmp_path: Path) -> None:
    outcome = run("record", "backup", str(tmp_path / "copy.db"))
    assert outcome.code == 1
    assert "there is no record" in outcome.err
    assert not list(tmp_path.iterdir())


# Restoring


@pytest.mark.sqlite
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


@pytest.mark.postgresql
def test_a_restored_record_of_postgresql_is_whole_and_the_one_before_is_kept(
    run: Run, url: str, tmp_path: Path
) -> None:
    run("record", "backup", str(tmp_path / "copy.db"))
    change(url, "DELETE FROM measurement")
    outcome = run("record", "restore", str(tmp_path / "copy.db"), "--yes")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"its last job is {JOBS}, the next one will be {JOBS + 1}\n" in outcome.out
    assert "the record before is in the schema squash_old_1 of its database" in outcome.out
    assert found(run) == []
    change(url, "SELECT count(*) FROM squash_old_1.job")
    change(url, "DROP SCHEMA squash_old_1 CASCADE")


@pytest.mark.usefixtures("jobs")
def test_the_record_of_a_running_service_is_not_replaced(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.record.engines.postgresql._INQUIRY_S", 0.0)
    run("record", "backup", str(tmp_path / "copy.db"))
    for command in (["restore", str(tmp_path / "copy.db")], ["accept"]):
        outcome = run("record", *command, "--yes")
        assert outcome.code == 1
        assert re.search("is in use.*: stop the service", outcome.err)
    assert not list(tmp_path.glob("*old*"))


@pytest.mark.sqlite
@pytest.mark.parametrize("content", [b"", b"a letter", None])
def test_what_is_no_record_is_not_restored(
    run: Run, stopped: Path, tmp_path: Path, content: bytes | None
) -> None:
    before = stopped.read_bytes()
    if content is not None:
        (tmp_path / "copy.db").write_bytes(content)
    outcome = run("record", "restore", str(tmp_path / "copy.db"), "--yes")
    assert (outcome.code, "restoring" in outcome.err) == (1, False)
    assert stopped.read_bytes() == before
    assert not list(tmp_path.glob("*old*")) + list(tmp_path.glob("*restoring*"))


@pytest.mark.usefixtures("url")
def test_new_jobs_get_ids_above_those_that_were_given(run: Run, tmp_path: Path) -> None:
    run("record", "backup", str(tmp_path / "copy.db"))
    for path in tmp_path.glob("squash.db*"):
        path.unlink()
    outcome = run("record", "restore", str(tmp_path / "copy.db"), "--yes", "--ids-above", "5000")
    assert f": its last job is {JOBS}, the next one will be 5001\n" in outcome.out
    assert found(run) == []


@pytest.mark.postgresql
def test_after_a_recovery_that_lost_jobs_ids_go_on_above_them(run: Run, url: str) -> None:
    change(url, "SELECT setval('job_id_seq', 50)")
    outcome = run("record", "accept", "--yes", "--ids-above", "5000")
    assert f": its last job is {JOBS}, the next one will be 5001\n" in outcome.out
    assert found(run) == []


@pytest.mark.postgresql
@pytest.mark.usefixtures("url")
def test_nothing_can_be_salvaged_from_postgresql(run: Run, tmp_path: Path) -> None:
    outcome = run("record", "salvage", "--to", str(tmp_path / "new.db"))
    assert outcome.code == 2
    assert "only such a file can be salvaged: restore a backup" in outcome.err


# Salvaging


@pytest.mark.sqlite
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


@pytest.mark.sqlite
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


@pytest.mark.sqlite
def test_a_whole_record_is_salvaged_whole(run: Run, stopped: Path, tmp_path: Path) -> None:
    outcome = run("record", "salvage", "--to", str(tmp_path / "new.db"))
    assert (outcome.code, outcome.out) == (0, f"{tmp_path}/new.db: everything is in it\n")
    for table in ("job", "user_account", "metric", "definition", "target"):
        query = f"SELECT * FROM {table}"
        assert sql(tmp_path / "new.db", query) == sql(stopped, query)


@pytest.mark.sqlite
def test_nothing_is_salvaged_from_a_letter(run: Run, tmp_path: Path) -> None:
    (tmp_path / "squash.db").write_text("This is a letter to my grandmother." * 1000)
    outcome = run("record", "salvage", "--to", str(tmp_path / "new.db"))
    assert outcome.code == 2
    assert "restore a backup" in outcome.err
    assert not (tmp_path / "new.db").exists()


# Accepting


@pytest.mark.sqlite
def test_a_record_without_its_mark_is_accepted(run: Run, stopped: Path, tmp_path: Path) -> None:
    (tmp_path / "squash.db.mark").unlink()
    assert [item["kind"] for item in found(run)] == ["mark"]
    outcome = run("record", "accept", "--yes")
    assert outcome.out == f"{stopped}: its last job is {JOBS}, the next one will be {JOBS + 1}\n"
    assert found(run) == []


@pytest.mark.sqlite
def test_a_damaged_record_is_not_accepted(run: Run, stopped: Path) -> None:
    garble(stopped)
    outcome = run("record", "accept", "--yes")
    assert outcome.code == 1
    assert "is not a whole record" in outcome.err


@pytest.mark.sqlite
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
