"""SQLite: a file, kept safe and fast by pragmas, with one writer at a time."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, event
from sqlalchemy.exc import DatabaseError, OperationalError

from squash_api.errors import SettingsError
from squash_api.record.engines import sqlite_file
from squash_api.record.engines.sqlite_file import RecordFile, require_place

# No transaction of ours holds the lock for longer than some 0.3 s. A client that waits longer than
# a few seconds is better told so: it asks again. Commands have more patience, see `begin`.
_BUSY_TIMEOUT_MS = 2_000
# A transaction that starts by reading cannot wait for the lock later. One writing statement
# without a transaction saves BEGIN and COMMIT.
_BEGIN = {
    "read": "BEGIN",
    "write": "BEGIN IMMEDIATE",
    "statement": None,
    "alone": "BEGIN IMMEDIATE",
}

# Their locks and shared memory do not work between machines, nor always on one.
_NETWORKS = ("9p", "afs", "ceph", "cifs", "fuse.gluster", "fuse.sshfs", "lustre", "nfs", "smb")


def checked_url(url: URL, /) -> URL:
    """Return the URL with the whole path of the file; a tilde is the home directory.

    Raises
    ------
    SettingsError
        If it does not name a file, or the directory of the file does not exist.
    """
    if not url.database or url.database == ":memory:":
        raise SettingsError(
            "SQUASH_DATABASE_URL: the record needs a file, for instance sqlite:///squash.db"
        )
    file = Path(url.database).expanduser().absolute()
    if not file.parent.is_dir():
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the directory {file.parent} does not exist: make it, or name "
            "another"
        )
    return url.set(database=str(file))


def options(_url: URL, /) -> dict[str, Any]:
    """Return how connections are made and kept."""
    return {"pool_size": 8, "max_overflow": 32}


def exists(url: URL, /) -> bool:
    """Tell whether there is a file; connecting would make one.

    Raises
    ------
    SettingsError
        If there is none, or it is empty, and there was a record.
    """
    path = Path(url.database or "")
    require_place(path)
    return path.exists()


def first_damage(engine: Engine, /, *, within_s: float | None = None) -> str | None:
    """Look for damage to the file; return the first that is found.

    After `within_s` seconds the rest of a large file is not looked at: on one processor, with the
    file in memory, a second is enough for 1.3 GB.
    """
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        # A progress handler would not do: the whole check is one step for it (SQLite 3.40), which
        # took 3 s for 5 GB in memory. Interrupted, the check ends with the page that it looks at.
        end = threading.Timer(within_s or 0, driver.interrupt)
        if within_s is not None:
            end.start()
        try:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
        except DatabaseError as error:
            found = "ok" if "interrupted" in str(error.orig) else str(error.orig)
        finally:
            end.cancel()
            if within_s is not None:
                end.join()
    return None if found == "ok" else found.partition("\n")[0]


def prepare(engine: Engine, /) -> None:
    """Set up every connection."""
    event.listen(engine, "connect", _connect)


def file_of(engine: Engine, /) -> RecordFile:
    """Return the file of a record that has been opened."""
    return RecordFile(engine)


def news_of(_engine: Engine, /) -> None:
    """Return None: nothing tells of what other processes store."""


def advice(engine: Engine, /) -> str | None:
    """Say why a record should not be where it is; None if all is well, as far as Linux tells."""
    folder = Path(engine.url.database or "").parent.resolve()
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    longest, found = -1, ""
    for fields in (line.split() for line in mounts):
        # Spaces are written as octal numbers.
        place = Path(fields[4].replace("\\040", " "))
        if folder.is_relative_to(place) and len(place.parts) >= longest:
            longest, found = len(place.parts), fields[fields.index("-") + 1]
    if found.startswith(_NETWORKS):
        return f"the record is on a network file system ({found}), on which SQLite is not safe"
    return None


def replication(_engine: Engine, /) -> None:
    """Return None: nothing makes copies of a file that follow it."""


def why(engine: Engine, error: str, /) -> tuple[str, str]:
    """Say more of why a record cannot be opened than SQLite does; and the runbook's entry."""
    folder = Path(engine.url.database or "").parent
    if "unable to open" in error and not os.access(folder, os.W_OK):
        said = (
            f"{error}: {folder} can only be read, and SQLite writes beside the file; mount it "
            "writable, or copy the record to where it is"
        )
        return said, "record-read-only"
    if "is locked" in error:
        said = f"{error}: another process holds its lock; see which has it open, with: fuser"
        return said, "record-locked"
    return error, "record-files" if "unable to open" in error else "record_unavailable"


def begin(connection: Connection, /) -> None:
    """Begin a transaction, or none: then each statement is one."""
    options = connection.get_execution_options()
    statement = _BEGIN[options.get("squash_mode", "read")]
    if statement is None:
        return
    deadline = time.monotonic() + options.get("squash_patience_s", 0.0)
    while True:
        try:
            connection.exec_driver_sql(statement)
        except OperationalError as error:
            if "is locked" not in str(error.orig) or time.monotonic() > deadline:
                raise
        else:
            return


def was_committed(_engine: Engine, _transaction: str, /) -> bool:
    """Tell whether a transaction was committed; never asked, since it has no id."""
    return False


def fill(connection: Connection, table: Table, rows: Sequence[Sequence[Any]], /) -> None:
    """Add rows to a table.

    Raises
    ------
    SettingsError
        If SQLite refuses one.
    """
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    marks = ", ".join("?" * len(table.columns))
    try:
        connection.exec_driver_sql(
            f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})',  # noqa: S608  our own tables
            [tuple(row) for row in rows],
        )
    except DatabaseError as error:
        raise SettingsError(str(error.orig)) from error


def last_ids(connection: Connection, /) -> dict[str, int]:
    """Return the last id of each table, of rows that have been deleted too."""
    return sqlite_file.last_ids(connection)


def raise_ids(connection: Connection, ids: Mapping[str, int], /) -> None:
    """Let the ids of tables go on behind these."""
    sqlite_file.raise_ids(connection, ids)


def problems(_connection: Connection, /) -> Iterator[tuple[str, str]]:
    """Yield nothing: ids and encoding are always right."""
    yield from ()


def triggers(connection: Connection, /) -> set[str]:
    """Return the names of the triggers that work."""
    query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    return set(connection.exec_driver_sql(query).scalars())


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
