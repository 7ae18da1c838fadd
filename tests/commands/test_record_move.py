"""The record is moved between SQLite and PostgreSQL: all of it, or nothing."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from squash_api.errors import SettingsError
from squash_api.record.copying import Copied, Progress
from squash_api.record.database import fill, open_database
from squash_api.record.installation import move
from squash_api.site import Site
from tests.support.builders import (
    add_test_user,
    make_body,
    make_settings,
    measured,
    store_job,
)
from tests.support.command_line import Run, make_run, set_environment
from tests.support.postgresql import PostgreSQL

# They begin with a file, whatever comes then.
pytestmark = pytest.mark.sqlite

JOBS = 40


@pytest.fixture
def place(tmp_path: Path) -> str:
    """The URL of a record in SQLite, with jobs."""
    with Site(make_settings(tmp_path), is_made=True) as site:
        site.start()
        add_test_user(site.record)
        for number in range(JOBS):
            body = make_body(measured(value=-0.0 if number == 0 else number / 3), note="ü\t\\N\n")
            store_job(site.record, asked_ns=number, body=body, new_units={"p.a": "mmag"})
        site.deriver.catch_up()
    return make_settings(tmp_path).database_url


@pytest.fixture
def other(postgresql: PostgreSQL) -> Iterator[str]:
    """The URL of an empty database of PostgreSQL."""
    postgresql.create("elsewhere", template="template1")
    yield postgresql.url_of("elsewhere")
    postgresql.drop("elsewhere")


@pytest.fixture
def run(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    set_environment(monkeypatch, tmp_path, SQUASH_DATABASE_URL=place)
    return make_run(monkeypatch, capsys)


def moved(url: str, to: str) -> list[Copied]:
    so_far = Progress()
    for _ in move(url, to, so_far):
        pass
    assert so_far.share() == 1
    return so_far.tables


def tables_in(postgresql: PostgreSQL) -> int:
    with closing(postgresql.connect("elsewhere")) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        (count,) = row.fetchone() or (None,)
    return int(count or 0)


def jobs_in(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM job ORDER BY id").fetchall()


def test_it_goes_there_and_back_whole(run: Run, place: str, other: str, tmp_path: Path) -> None:
    before = jobs_in(tmp_path / "squash.db")
    outcome = run("record", "move", "--to", other, "--yes")
    assert (outcome.code, outcome.err) == (0, "")
    assert [line.split()[:2] for line in outcome.out.splitlines() if " job " in line] == [
        ["job", str(JOBS)]
    ]
    assert outcome.out.endswith(f"the record is at {other} now: set SQUASH_DATABASE_URL to it\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SQUASH_DATABASE_URL", other)
        assert run("record", "check").out == "the record is whole\n"
        # The mark has noted more ids in advance, and one of these may have been given.
        with Site(make_settings(tmp_path, database_url=other)) as site:
            site.start()
            last = store_job(site.record, body=make_body(measured()))
            assert last > JOBS
        back = f"sqlite:///{tmp_path / 'back.db'}"
        assert run("record", "move", "--to", back, "--yes").code == 0
        patch.setenv("SQUASH_DATABASE_URL", back)
        assert run("record", "check").out == "the record is whole\n"
    assert jobs_in(tmp_path / "back.db")[:JOBS] == before
    with Site(make_settings(tmp_path, database_url=back)) as site:
        site.start()
        assert store_job(site.record, asked_ns=7**9, body=make_body(measured())) == last + 1
    for old in (place, other):
        with pytest.raises(SettingsError, match="was moved to"):
            open_database(old)


def test_both_engines_give_the_same_checksums(place: str, other: str, tmp_path: Path) -> None:
    there = moved(place, other)
    back = moved(other, f"sqlite:///{tmp_path / 'back.db'}")
    names = [one.table for one, two in zip(there, back, strict=True) if one != two]
    # The new place knows which ids were given.
    assert names == ["state"]


def test_a_service_on_the_old_place_does_not_start(run: Run, other: str, tmp_path: Path) -> None:
    run("record", "move", "--to", other, "--yes")
    assert {path.name for path in tmp_path.glob("squash.db*")} == {
        "squash.db.moved-1",
        "squash.db.mark",
    }
    for command in (["serve"], ["record", "init"], ["user", "list"]):
        outcome = run(*command)
        assert outcome.code != 0
        assert f"was moved to {other}: name that" in outcome.err
    # Nor one on the file that somebody has put back, which lacks what came later.
    (tmp_path / "squash.db.moved-1").rename(tmp_path / "squash.db")
    with pytest.raises(SettingsError, match=r"it was moved to .*, which may have later jobs"):
        Site(make_settings(tmp_path)).start()


@pytest.mark.parametrize("times", [0, 1, 15])
def test_one_that_is_interrupted_leaves_nothing_and_can_be_run_again(
    place: str, other: str, postgresql: PostgreSQL, tmp_path: Path, times: int
) -> None:
    before = (tmp_path / "squash.db").read_bytes()
    for to in (other, f"sqlite:///{tmp_path / 'new.db'}"):
        steps = move(place, to, Progress())
        for _ in range(times):
            next(steps)
        steps.close()
    assert tables_in(postgresql) == 0
    assert not list(tmp_path.glob("new.db*"))
    assert (tmp_path / "squash.db").read_bytes() == before
    assert moved(place, other)


def test_a_copy_that_differs_is_no_success(
    place: str, other: str, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "squash_api.record.copying.fill",
        lambda connection, table, rows: fill(
            connection, table, rows[1:] if table.name == "measurement" else rows
        ),
    )
    with pytest.raises(SettingsError, match=rf"the copy of measurement differs: {JOBS} rows were"):
        moved(place, other)
    assert tables_in(postgresql) == 0
    open_database(place).dispose()


def test_a_database_with_a_table_is_not_touched(
    place: str, other: str, postgresql: PostgreSQL
) -> None:
    with closing(postgresql.connect("elsewhere")) as connection:
        connection.execute("CREATE TABLE theirs (id int)")
    with pytest.raises(SettingsError, match="is not empty, and nothing was changed there"):
        moved(place, other)
    assert tables_in(postgresql) == 1


def test_it_does_not_move_to_where_it_is(place: str) -> None:
    with pytest.raises(SettingsError, match=r"is at .* already"):
        moved(place, place)


def test_a_record_in_use_is_not_moved(place: str, other: str, tmp_path: Path) -> None:
    with Site(make_settings(tmp_path)) as site:
        site.start()
        with pytest.raises(SettingsError, match="is in use: stop the service"):
            moved(place, other)


def test_a_record_of_postgresql_in_use_is_not_moved(
    place: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.record.engines.postgresql._INQUIRY_S", 0.0)
    moved(place, other)
    with Site(make_settings(tmp_path, database_url=other)) as site:
        site.start()
        with pytest.raises(SettingsError, match=r"is in use, from 127\.0\.0\.1.*: stop the serv"):
            moved(other, f"sqlite:///{tmp_path / 'back.db'}")
    assert not (tmp_path / "back.db").exists()


def test_a_row_that_postgresql_refuses_is_named(place: str, other: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "squash.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO state VALUES ('zero', 'a' || char(0))")
    with pytest.raises(SettingsError, match=r"rows of state, from .* to zero, cannot be copied:"):
        moved(place, other)


def test_a_database_with_another_encoding_is_refused(place: str, postgresql: PostgreSQL) -> None:
    with closing(postgresql.connect("postgres")) as connection:
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with pytest.raises(SettingsError, match="has the encoding LATIN1, and needs UTF8"):
            moved(place, postgresql.url_of("latin"))
    finally:
        postgresql.drop("latin")


@pytest.mark.parametrize(
    "to", ["sqlite:////no/such/folder/new.db", "nonsense", "postgresql://squash@127.0.0.1:1/x"]
)
def test_what_is_wrong_with_the_other_place_is_said_of_the_option(run: Run, to: str) -> None:
    outcome = run("record", "move", "--yes", "--to", to)
    assert (outcome.code, outcome.err[:12]) == (1, "error: --to:")


def test_a_record_behind_its_mark_is_not_moved(place: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / "squash.db.mark"
    mark = json.loads(path.read_bytes())
    mark["answered"]["job"] = JOBS + 5
    path.write_bytes(json.dumps(mark).encode())
    with pytest.raises(SettingsError, match=f"answered up to id {JOBS + 5} of job"):
        moved(place, other)


def test_a_process_that_is_killed_leaves_nothing_in_postgresql(
    place: str, other: str, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    steps = move(place, other, Progress())
    next(steps)
    with closing(postgresql.connect("elsewhere")) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = 'elsewhere' AND pid <> pg_backend_pid()"
        )
    with pytest.raises(SettingsError), suppress(psycopg.Error):
        for _ in steps:
            pass
    assert tables_in(postgresql) == 0
    assert (tmp_path / "squash.db").exists()
