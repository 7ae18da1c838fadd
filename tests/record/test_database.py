import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Column, Engine, create_engine, inspect, text

from squash_api.errors import NameTakenError, SettingsError
from squash_api.index.contexts import Contexts
from squash_api.index.derived import jobs_to_rederive, oldest_unindexed_ns
from squash_api.index.deriver import Deriver
from squash_api.record import database
from squash_api.record.database import (
    by_statement,
    make_database,
    open_database,
    writing,
)
from squash_api.record.engines import sqlite
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.record.tables import metadata
from squash_api.record.users import find_user
from squash_api.schema.names import Schema
from tests.support.builders import (
    add_test_user,
    make_body,
    measured,
    open_new_database,
    open_record,
)

pytestmark = pytest.mark.sqlite


def opened(path: Path) -> Engine:
    make_database(f"sqlite:///{path}")
    return open_database(f"sqlite:///{path}")


def pragma(engine: Engine, name: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar_one()


@pytest.mark.parametrize(
    ("name", "value"),
    # 2 is FULL: a commit waits for the disk.
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 2_000)],
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


@pytest.mark.parametrize("do", [make_database, open_database])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://a:secret@x/y", "a record cannot be in 'mysql'"),
        ("oracle+cx_oracle://a:secret@x/y", "a record cannot be in 'oracle'"),
        ("unknown://a:secret@x/y", "a record cannot be in 'unknown'"),
        ("postgresql+psycopg2://a:secret@x/y", "the driver 'psycopg2' is not supported"),
        ("sqlite+pysqlcipher:///a.db", "SQUASH_DATABASE_URL"),
        ("sqlite+aiosqlite:///a.db", "SQUASH_DATABASE_URL"),
    ],
)
def test_a_database_that_is_not_supported_is_refused_in_one_line(
    do: Callable[[str], object],
    url: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as raised:
        do(url)
    said = str(raised.value)
    assert (said.count("\n"), "secret" in said, reason in said) == (0, False, True)


@pytest.mark.parametrize("do", [make_database, open_database])
def test_how_to_install_the_driver_of_postgresql_is_said(
    do: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"pip install 'squash-api\[postgresql\]'"):
        do("postgresql+psycopg://a:secret@x/y")


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
        query = text("SELECT value FROM state WHERE key = 'a'")
        assert connection.execute(query).scalar_one() == "b"
    engine.dispose()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "nonsense", "unknown://host/database", ""]
)
def test_a_url_that_cannot_be_is_refused_by_the_name_of_the_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="SQUASH_DATABASE_URL"):
        open_database(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://squash:hun@ter2@db.example.org/squash",
        "postgresql+psycopg://squash:hun@ter2:ter2@db.example.org/squash",
        "postgresql+psycopg://squash:hun@x/ter2@db.example.org/squash",
        "postgresql+psycopg://squash:hun@db.example.org:ter2/squash",
        "hunter2",
    ],
)
def test_no_part_of_a_password_is_shown_that_is_not_written_as_it_must_be(url: str) -> None:
    with pytest.raises(SettingsError, match="with %40 for @") as refused:
        open_database(url)
    assert "ter2" not in refused.value.message


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "squash.db").write_text("This is a letter to my grandmother." * 100)
    with pytest.raises(SettingsError, match=r"is damaged \(file is not a database"):
        opened(tmp_path / "squash.db")


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("22 1 0:1 / / rw - ext4 /dev/sda rw\n23 22 0:2 / {0} rw - nfs4 far:/disk rw\n", "nfs4"),
        ("22 1 0:1 / / rw - nfs far:/root rw\n23 22 0:2 / {0} rw - ext4 /dev/sda rw\n", None),
        ("22 1 0:1 / / rw shared:1 - cifs //far/disk rw\n", "cifs"),
        ("22 1 0:1 / / rw - overlay overlay rw\n23 22 0:2 / {0}/other rw - nfs4 far:/d rw\n", None),
    ],
)
def test_a_network_file_system_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, kind: str | None
) -> None:
    engine = opened(tmp_path / "squash.db")
    monkeypatch.setattr(Path, "read_text", lambda _path: mounts.format(tmp_path))
    advice = sqlite.advice(engine)
    engine.dispose()
    assert (advice is None) is (kind is None)
    assert kind is None or f"network file system ({kind})" in str(advice)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="file does not exist"):
        opened(tmp_path / "file" / "squash.db")


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
        assert other.execute(text("SELECT value FROM state WHERE key = 'a'")).scalar_one()
        connection.commit()
    engine.dispose()


def test_a_connection_that_was_by_statement_begins_transactions_again(tmp_path: Path) -> None:
    engine = opened(tmp_path / "squash.db")
    with by_statement(engine).connect() as connection:
        connection.execute(text("SELECT 1"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO state VALUES ('a', 'b')"))
        connection.rollback()
        assert connection.execute(text("SELECT value FROM state WHERE key = 'a'")).first() is None
    engine.dispose()


COLUMNS = [column for table in metadata.sorted_tables for column in table.columns]


def test_the_migrations_give_exactly_these_tables(tmp_path: Path) -> None:
    engine = open_new_database(tmp_path)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_migrations_give_exactly_these_indexes_and_constraints(tmp_path: Path) -> None:
    engine = open_new_database(tmp_path)
    found = inspect(engine)
    for table in metadata.sorted_tables:
        indexes = {
            (item["name"], tuple(item["column_names"])) for item in found.get_indexes(table.name)
        }
        assert indexes == {
            (index.name, tuple(column.name for column in index.columns)) for index in table.indexes
        }
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [
            column.name for column in table.primary_key.columns
        ]
    engine.dispose()


@pytest.mark.parametrize(
    "column", [column for column in COLUMNS if column.name.endswith("_ns")], ids=str
)
def test_times_have_64_bits(column: Column[int]) -> None:
    assert isinstance(column.type, BigInteger)


@pytest.mark.parametrize(
    "column", [column for column in COLUMNS if column.name in {"id", "job_id", "user_id"}], ids=str
)
def test_ids_have_64_bits(column: Column[int]) -> None:
    assert isinstance(column.type, BigInteger)


@pytest.mark.parametrize("name", ["job", "definition", "user_account"])
def test_ids_are_never_given_twice(tmp_path: Path, name: str) -> None:
    engine = open_new_database(tmp_path)
    with engine.connect() as connection:
        query = f"SELECT sql FROM sqlite_master WHERE name = '{name}'"
        assert "AUTOINCREMENT" in connection.exec_driver_sql(query).scalar_one()
    engine.dispose()


BODY = make_body(measured("p.a", 5.0), instrument="HSC", visit=7)


# A record of the first version, with jobs in it, is brought to the present one.


def make_version(path: Path, version: str) -> Engine:
    """Make an empty record of an older version."""
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    return engine


def make_first_version(path: Path) -> None:
    """Make a record of the first version: jobs 1 to 3 in the index, 2 deleted, 4 not derived."""
    engine = make_version(path, "0001")
    fill_first_version(engine)
    engine.dispose()


def fill_first_version(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO user_account VALUES (1, 'ada', 'none', 'user', 1, 0, 0)")
        )
        connection.execute(text("INSERT INTO metric VALUES (1, 'p.a', 'mmag', 0, 1)"))
        for job_id in range(1, 5):
            connection.execute(
                text(
                    "INSERT INTO job (id, user_id, received_ns, asked_ns, time_ns, revision,"
                    " is_deliverable, size, body, deleted_ns)"
                    " VALUES (:id, 1, 100 + :id, :id, :id, 0, 1, 10, :body, :deleted)"
                ),
                {
                    "id": job_id,
                    "body": None if job_id == 2 else BODY,
                    "deleted": 9 if job_id == 2 else None,
                },
            )
        connection.execute(text("INSERT INTO measurement VALUES (1, 1, 5.0), (1, 3, 5.0)"))
        connection.execute(text("INSERT INTO rederivation VALUES (3)"))
        connection.execute(
            text("INSERT INTO state VALUES ('derived_through', '3'), ('runs_through', '3')")
        )


@pytest.fixture
def record(tmp_path: Path) -> Record:
    make_first_version(tmp_path / "squash.db")
    return Record.open(f"sqlite:///{tmp_path / 'squash.db'}")


def test_jobs_in_the_index_are_to_be_derived_again(record: Record) -> None:
    with record.read() as connection:
        assert jobs_to_rederive(connection, limit=9) == [1, 3]
    record.close()


def test_until_then_the_measurements_stay_and_the_contexts_are_known_to_be_missing(
    record: Record,
) -> None:
    with record.read() as connection:
        count = connection.execute(text("SELECT count(*) FROM measurement")).scalar_one()
        assert (count, oldest_unindexed_ns(connection)) == (2, 101)
    record.close()


def test_in_the_end_every_job_has_its_context_and_its_measurements(record: Record) -> None:
    deriver = Deriver(record, Metrics(record, Schema()))
    while deriver.derive_some():
        pass
    with record.read() as connection:
        contexts = Contexts(connection).of(range(9))
        rows = connection.execute(text("SELECT job_id, value FROM measurement")).all()
        assert oldest_unindexed_ns(connection) is None
    assert list(contexts) == [1, 3, 4]
    assert all(item.context.tags == {"instrument": "HSC"} for item in contexts.values())
    assert contexts[4].context.fields == {"meta.visit": 7.0}
    assert (contexts[4].time_ns, contexts[4].received_ns) == (4, 104)
    assert sorted(map(tuple, rows)) == [(1, 5.0), (3, 5.0), (4, 5.0)]
    record.close()


def test_a_record_without_jobs_needs_nothing(tmp_path: Path) -> None:
    with open_record(tmp_path).read() as connection:
        assert oldest_unindexed_ns(connection) is None
        assert jobs_to_rederive(connection, limit=9) == []


def test_users_whose_names_look_alike_stay_and_further_ones_do_not_come(tmp_path: Path) -> None:
    engine = make_version(tmp_path / "squash.db", "0003")
    names = ["ADA", "ada", "\u0430da", "bob", "Ada"]
    with engine.begin() as connection:
        for user_id, name in enumerate(names, 1):
            connection.execute(
                text("INSERT INTO user_account VALUES (:id, :name, 'none', 'user', 1, 0, 0)"),
                {"id": user_id, "name": name},
            )
    engine.dispose()
    record = Record.open(f"sqlite:///{tmp_path / 'squash.db'}")
    with record.read() as connection:
        assert [find_user(connection, name) is not None for name in names] == [True] * 5
        rows = connection.execute(text("SELECT name, skeleton FROM user_account ORDER BY id"))
        looks = {str(name): skeleton for name, skeleton in rows}
    assert looks == {"ADA": "ada", "ada": None, "\u0430da": None, "bob": "bob", "Ada": None}
    for name in ("aDa", "BOB"):
        with pytest.raises(NameTakenError, match="looks like"):
            add_test_user(record, name)
    add_test_user(record, "eve")
    record.close()
