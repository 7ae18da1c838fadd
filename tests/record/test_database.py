import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from squash_api.errors import SettingsError
from squash_api.record import database
from squash_api.record.database import (
    VERSION,
    by_statement,
    make_database,
    open_database,
    writing,
)


def opened(path: Path) -> Engine:
    make_database(f"sqlite:///{path}")
    return open_database(f"sqlite:///{path}")


def pragma(engine: Engine, name: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar_one()


@pytest.mark.parametrize(
    ("name", "value"),
    # 2 is FULL: a commit waits for the disk.
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 30_000)],
)
def test_every_connection_is_safe(tmp_path: Path, name: str, value: object) -> None:
    engine = opened(tmp_path / "squash.db")
    assert pragma(engine, name) == value
    engine.dispose()
    assert pragma(engine, name) == value
    engine.dispose()


@pytest.mark.parametrize("do", [make_database, open_database])
def test_a_folder_that_does_not_exist_is_an_error_and_is_not_made(
    tmp_path: Path, do: Callable[[str], object]
) -> None:
    with pytest.raises(SettingsError, match=f"{tmp_path}/a/b does not exist"):
        do(f"sqlite:///{tmp_path / 'a' / 'b' / 'squash.db'}")
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_missing_is_an_error_with_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=f"no record at {tmp_path}/squash.db"):
        open_database("sqlite:///squash.db")
    assert not list(tmp_path.iterdir())


def test_a_record_is_made_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'squash.db'}"
    assert [make_database(url), make_database(url)] == [True, False]
    open_database(url).dispose()


def test_an_empty_file_becomes_a_record_only_for_those_who_make_one(tmp_path: Path) -> None:
    (tmp_path / "squash.db").touch()
    url = f"sqlite:///{tmp_path / 'squash.db'}"
    with pytest.raises(SettingsError, match="no record at"):
        open_database(url)
    assert make_database(url)


@pytest.mark.parametrize("do", [make_database, open_database])
def test_the_database_of_another_program_is_left_alone(
    tmp_path: Path, do: Callable[[str], object]
) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(SettingsError, match=r"other\.db"):
        do(f"sqlite:///{tmp_path / 'other.db'}")
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_the_version_is_that_of_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [VERSION]


def test_a_record_of_this_version_is_not_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path / "squash.db").dispose()
    monkeypatch.setattr("alembic.command.upgrade", lambda *_: pytest.fail("migrated"))
    opened(tmp_path / "squash.db").dispose()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_database("sqlite:///~/squash.db")
    assert (tmp_path / "squash.db").is_file()


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    engine = opened(tmp_path / "squash.db")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO state VALUES ('a', 'b')"))
    engine.dispose()
    engine = opened(tmp_path / "squash.db")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT value FROM state")).scalar_one() == "b"
    engine.dispose()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "nonsense", "unknown://host/database", ""]
)
def test_a_url_that_cannot_be_is_refused_by_the_name_of_the_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="SQUASH_DATABASE_URL"):
        open_database(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "squash.db").write_text("This is a letter to my grandmother." * 100)
    with pytest.raises(SettingsError, match="cannot be opened"):
        opened(tmp_path / "squash.db")


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="file does not exist"):
        opened(tmp_path / "file" / "squash.db")


def test_a_record_of_a_later_version_is_refused(tmp_path: Path) -> None:
    engine = opened(tmp_path / "squash.db")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9999'"))
    engine.dispose()
    with pytest.raises(SettingsError, match="v9999"):
        opened(tmp_path / "squash.db")


def test_a_password_in_the_url_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError) as caught:
        open_database(f"sqlite://user:hunter2@/{tmp_path / 'file' / 'squash.db'}")
    assert "hunter2" not in str(caught.value)


def test_a_writing_transaction_takes_the_lock_at_its_beginning(tmp_path: Path) -> None:
    engine = opened(tmp_path / "squash.db")
    with writing(engine).begin(), writing(engine).connect() as other:
        other.connection.cursor().execute("PRAGMA busy_timeout = 0")
        with pytest.raises(Exception, match="locked"), other.begin():
            pass
    engine.dispose()


def test_a_reading_transaction_sees_one_state(tmp_path: Path) -> None:
    engine = opened(tmp_path / "squash.db")
    count = text("SELECT count(*) FROM state")
    with engine.connect() as reader, reader.begin():
        before = reader.execute(count).scalar_one()
        with writing(engine).begin() as writer:
            writer.execute(text("INSERT INTO state VALUES ('a', 'b')"))
        assert reader.execute(count).scalar_one() == before
    engine.dispose()


def test_a_path_with_a_percent_sign_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "100%").mkdir()
    engine = opened(tmp_path / "100%" / "squash.db")
    assert "job" in inspect(engine).get_table_names()
    engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == ["100%"]


def test_a_connection_by_statement_commits_each_by_itself(tmp_path: Path) -> None:
    engine = opened(tmp_path / "squash.db")
    with by_statement(engine).begin() as connection, engine.connect() as other:
        connection.execute(text("INSERT INTO state VALUES ('a', 'b')"))
        assert other.execute(text("SELECT value FROM state")).scalar_one() == "b"
        connection.commit()
    engine.dispose()


def test_a_connection_that_was_by_statement_begins_transactions_again(tmp_path: Path) -> None:
    engine = opened(tmp_path / "squash.db")
    with by_statement(engine).connect() as connection:
        connection.execute(text("SELECT 1"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO state VALUES ('a', 'b')"))
        connection.rollback()
        assert connection.execute(text("SELECT value FROM state")).first() is None
    engine.dispose()
