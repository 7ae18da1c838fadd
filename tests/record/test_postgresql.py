"""What is special about a record in PostgreSQL."""

import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from squash_api.errors import RecordUnavailableError, SettingsError
from squash_api.record.database import damage_of, make_database, open_database, transact, writing
from squash_api.record.engines import postgresql as engine_module
from squash_api.record.record import Record, get_state, set_state
from tests.support.builders import add_test_user, store_job
from tests.support.postgresql import PostgreSQL


@pytest.fixture
def url(postgresql: PostgreSQL) -> Iterator[str]:
    name = f"own_{uuid.uuid4().hex}"
    postgresql.create(name)
    yield postgresql.url_of(name)
    postgresql.drop(name)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture
def empty(postgresql: PostgreSQL) -> Iterator[str]:
    """A database without tables."""
    name = f"empty_{uuid.uuid4().hex}"
    postgresql.create(name, template="template1")
    yield postgresql.url_of(name)
    postgresql.drop(name)


# Opening


def test_the_driver_need_not_be_named(url: str) -> None:
    open_database(url.replace("postgresql+psycopg", "postgresql")).dispose()


def test_an_empty_database_becomes_a_record_once(empty: str) -> None:
    with pytest.raises(SettingsError, match="there is no record at"):
        open_database(empty)
    assert [make_database(empty), make_database(empty)] == [True, False]


def test_of_those_who_make_a_record_at_the_same_time_one_does(empty: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(make_database, [empty] * 4)) == [False, False, False, True]
    open_database(empty).dispose()


def test_a_database_with_other_tables_is_left_alone(empty: str) -> None:
    other = create_engine(empty)
    with other.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (a integer)"))
    other.dispose()
    with pytest.raises(SettingsError, match="is another database, not a record"):
        make_database(empty)


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (("/own_", "/none_"), "does not exist: make it, or name another"),
        (("127.0.0.1:", "127.0.0.1:1"), "SQUASH_DATABASE_URL"),
        (("127.0.0.1", "no-such-host.invalid"), "check the host in the URL"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(
    url: str, wrong: tuple[str, str], advice: str
) -> None:
    with pytest.raises(SettingsError, match=advice) as refused:
        open_database(url.replace("postgres@", "postgres:hunter2@").replace(*wrong))
    assert ("\n" in refused.value.message, "hunter2" in refused.value.message) == (False, False)


def test_the_entry_of_the_runbook_is_that_of_what_the_server_says(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        open_database(re.sub(r":[0-9]+/", ":1/", url))
    assert refused.value.runbook == "record-unreachable"


def test_a_server_that_cannot_be_asked_has_no_damaged_record(url: str) -> None:
    with pytest.raises(SettingsError, match=r"cannot be opened.*: start PostgreSQL"):
        damage_of(re.sub(r":[0-9]+/", ":1/", url))


def test_a_server_that_is_too_old_is_said_to_be(engine: Engine) -> None:
    said = "function pg_current_xact_id() does not exist\nLINE 1: ..."
    words, entry = engine_module.why(engine, said)
    assert (words.endswith(": PostgreSQL 13 or later is needed"), entry) == (True, "server-version")


def test_a_server_that_may_forget_what_it_confirmed_is_warned_of(engine: Engine) -> None:
    # As the tests run it.
    assert "fsync and full_page_writes off" in str(engine_module.advice(engine))


def test_a_commit_waits_for_the_disk_whatever_the_database_says(url: str) -> None:
    plain = create_engine(url, isolation_level="AUTOCOMMIT")
    with plain.connect() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    plain.dispose()
    engine = open_database(url)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    engine.dispose()


# Transactions


def test_whoever_reads_sees_one_state_and_changes_nothing(engine: Engine) -> None:
    with engine.connect() as reader:
        assert get_state(reader, "a") is None
        with writing(engine).begin() as connection:
            set_state(connection, "a", "1")
        assert get_state(reader, "a") is None
        with pytest.raises(DBAPIError, match="read-only transaction"):
            set_state(reader, "a", "2")


def test_one_writes_at_a_time_and_sees_what_the_last_one_wrote(engine: Engine) -> None:
    begun = threading.Event()

    def add(connection: Connection) -> str:
        begun.set()
        value = f"{get_state(connection, 'a') or ''}x"
        connection.execute(text("SELECT pg_sleep(0.02)"))
        set_state(connection, "a", value)
        return value

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: transact(writing(engine), add), range(16)))
    assert begun.is_set()
    assert sorted(map(len, values)) == list(range(1, 17))


def test_who_cannot_write_in_time_is_told_that_another_process_does(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_BUSY_TIMEOUT_MS", 50)
    with closing(Record.open(url, patience_s=0)) as record, writing(engine).begin():
        with pytest.raises(RecordUnavailableError) as refused:
            record.write(lambda connection: set_state(connection, "a", "1"))
        assert refused.value.reason == "The record is locked by another process"
        with pytest.raises(RecordUnavailableError):
            record.require_writable()


# A connection that is lost


def lose(connection: Connection, *, after: bool) -> None:
    """Let the commit of a transaction end its connection, before or after it is done."""
    driver = connection.connection.driver_connection
    assert driver is not None
    commit = driver.commit

    def commit_and_die() -> None:
        if after:
            commit()
        driver.close()
        commit()

    driver.commit = commit_and_die


@pytest.mark.parametrize("after", [True, False])
def test_what_became_of_a_commit_is_found_out(engine: Engine, *, after: bool) -> None:
    def work(connection: Connection) -> str:
        set_state(connection, "a", "1")
        lose(connection, after=after)
        return "done"

    if after:
        assert transact(writing(engine), work) == "done"
    else:
        with pytest.raises(DBAPIError):
            transact(writing(engine), work)
    with engine.connect() as connection:
        assert get_state(connection, "a") == ("1" if after else None)


def test_an_outcome_that_cannot_be_known_is_said_to_be_unknown(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_INQUIRY_S", 0)

    def work(connection: Connection) -> None:
        set_state(connection, "a", "1")
        lose(connection, after=True)
        # Of a transaction that is still to come.
        connection.info[engine_module.TRANSACTION] = "999999999"

    with pytest.raises(RecordUnavailableError, match="it is not known whether this was stored"):
        transact(writing(engine), work)


# What the database does by itself


def test_text_is_in_the_order_of_its_code_points(engine: Engine) -> None:
    names = ["a", "B", "_", "ä", "Z", "10", "9", "a.b", "a_b", "aB"]
    with writing(engine).begin() as connection:
        for name in names:
            set_state(connection, name, "1")
        found = (
            connection.execute(text("SELECT key FROM state WHERE value = '1' ORDER BY key"))
            .scalars()
            .all()
        )
    assert list(found) == sorted(names)


def test_the_trail_cannot_be_emptied(engine: Engine) -> None:
    with pytest.raises(DBAPIError, match="append-only"), writing(engine).begin() as connection:
        connection.execute(text("TRUNCATE audit"))


def test_jobs_that_another_process_stores_are_heard_of(url: str) -> None:
    with closing(Record.open(url)) as record, closing(Record.open(url)) as other:
        assert record.news is not None
        assert not record.news.wait(0)
        add_test_user(other)
        assert not record.news.wait(0)
        store_job(other)
        assert record.news.wait(60)
        record.news.close()
