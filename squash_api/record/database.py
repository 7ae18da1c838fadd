"""Opening the record: engine, pragmas, and migrations."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text

from squash_api.errors import SettingsError

VERSION = "0002"
"""The newest of `migrations/versions`."""

_BUSY_TIMEOUT_MS = 30_000
_BEGIN_OPTION = "squash_begin"


def open_database(url: str, *, is_made: bool = True) -> Engine:
    """Open the record and bring its tables to the present version.

    Parameters
    ----------
    is_made
        Whether a file that is not there is made.

    Raises
    ------
    SettingsError
        If the URL is wrong, or the database cannot be opened or migrated.
    """
    engine = _engine(url)
    try:
        if is_made:
            _make_folder(engine)
        else:
            _require_file(engine)
        _migrate(engine)
    except Exception as error:
        engine.dispose()
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record at {make_url(url).render_as_string()} cannot be "
            f"opened: {error}"
        ) from error
    return engine


def writing(connection: Connection) -> Connection:
    """Mark a connection as one that will write, before its transaction begins.

    SQLite then takes its lock at the beginning: a transaction that starts by reading could not
    wait for it later.
    """
    return connection.execution_options(**{_BEGIN_OPTION: "BEGIN IMMEDIATE"})


def by_statement(connection: Connection) -> Connection:
    """Mark a connection on which SQLite shall end a transaction with every statement.

    For one statement that writes it does at once what otherwise takes three. Other databases need a
    commit.
    """
    return connection.execution_options(**{_BEGIN_OPTION: None})


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            parsed = parsed.set(database=str(Path(parsed.database).expanduser()))
        engine = create_engine(parsed, pool_size=8, max_overflow=32)
    except Exception as error:
        raise SettingsError(f"SQUASH_DATABASE_URL: {error}") from error
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise SettingsError(
                "SQUASH_DATABASE_URL: the record needs a file, for instance sqlite:///squash.db"
            )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_folder(engine: Engine) -> None:
    if engine.url.get_backend_name() == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)


def _require_file(engine: Engine) -> None:
    database = engine.url.database
    if engine.url.get_backend_name() == "sqlite" and database and not Path(database).is_file():
        raise FileNotFoundError("there is no such file")


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # SQLAlchemy shall decide where a transaction begins, not the driver.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    # A job is some 24 kB: fewer and larger pages cost a third less (`benchmarks/`). Counts for new
    # files only.
    cursor.execute("PRAGMA page_size = 8192")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA wal_autocheckpoint = 4000")
    # FULL: a commit returns when the write-ahead log is on the disk; the 202 rests on it.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get(_BEGIN_OPTION, "BEGIN")
    if begin:
        connection.exec_driver_sql(begin)


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        is_known = inspect(connection).has_table("alembic_version")
        query = text("SELECT version_num FROM alembic_version")
        if is_known and connection.execute(query).scalar() == VERSION:
            return
    # Alembic takes a third of a second to import.
    from alembic import command, config  # noqa: PLC0415

    alembic = config.Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect() as connection, writing(connection).begin():
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "head")
