"""SQLite: a file, kept safe and fast by pragmas, with one writer at a time."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, event

from squash_api.errors import SettingsError

_BUSY_TIMEOUT_MS = 30_000
# A transaction that starts by reading cannot wait for the lock later. One writing statement
# without a transaction saves BEGIN and COMMIT.
_BEGIN = {"read": "BEGIN", "write": "BEGIN IMMEDIATE", "statement": None}


def checked_url(url: URL, /) -> URL:
    """Return the URL of the file, with a tilde replaced by the home directory.

    Raises
    ------
    SettingsError
        If it does not name a file.
    """
    if not url.database or url.database == ":memory:":
        raise SettingsError(
            "SQUASH_DATABASE_URL: the record needs a file, for instance sqlite:///squash.db"
        )
    return url.set(database=str(Path(url.database).expanduser()))


def prepare(engine: Engine, /, *, is_made: bool) -> None:
    """Make the directory of the file, or require the file, and set up every connection.

    Raises
    ------
    OSError
        If the directory cannot be made, or the file does not exist.
    """
    file = Path(engine.url.database or "")
    if is_made:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not file.is_file():
        raise FileNotFoundError("there is no such file")
    event.listen(engine, "connect", _connect)


def begin(connection: Connection, /) -> None:
    """Begin a transaction, or none: then each statement is one."""
    statement = _BEGIN[connection.get_execution_options().get("squash_mode", "read")]
    if statement is not None:
        connection.exec_driver_sql(statement)


def _connect(connection: sqlite3.Connection, _record: Any) -> None:
    # SQLAlchemy decides where a transaction begins, not the driver.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    # A job is some 24 kB: fewer and larger pages cost a third less (`benchmarks/`). This
    # applies to new files only.
    cursor.execute("PRAGMA page_size = 8192")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA wal_autocheckpoint = 4000")
    # FULL: a commit returns when the write-ahead log is on the disk, as a 202 promises.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.close()
