"""Copies of a record in SQLite: backups, putting one in its place, and what a damaged one has left.

They use the driver itself: a record that cannot be opened as such can still be copied.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from squash_api.errors import SettingsError
from squash_api.record.engines.sqlite_file import sync_folder

_BESIDE = ("-wal", "-shm")
_CHUNK = 1 << 20
_ROWS = 200
# Ids between two that can be read are asked for one by one, but not more than so many.
_MOST_SINGLE = 1_000_000


@dataclass(slots=True)
class Salvaged:
    """What was copied of a table: how many rows, and between which ids some could not be read."""

    table: str
    rows: int = 0
    unread: list[tuple[int, int]] = field(default_factory=list)
    trouble: str | None = None


def back_up(path: Path, to: Path) -> None:
    """Copy a record that may be in use into a new file, as it is at this moment.

    The copy is checked, and on the disk, before it gets its name. Jobs may be stored meanwhile;
    the write-ahead log grows until the copy is made.

    Raises
    ------
    SettingsError
        If it cannot be made; then nothing is left of it.
    """
    if to.exists():
        raise SettingsError(f"{to} exists already: name another file, or remove it first")
    part = to.with_name(f"{to.name}.part")
    try:
        # Nobody else may read it: it has the hashes of passwords.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with closing(_connected(path)) as source:
            source.execute("VACUUM INTO ?", [str(part)])
        require_record(part)
        put_on_disk(part)
        # Unlike a rename, this replaces nothing that has been made meanwhile.
        os.link(part, to)
        sync_folder(to.parent)
    except (sqlite3.Error, OSError) as error:
        raise SettingsError(f"the record at {path} cannot be copied to {to}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def put_on_disk(path: Path) -> None:
    """Wait until a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def receive(stream: BinaryIO, path: Path) -> None:
    """Write what comes from a stream into a new file, and wait until it is on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as to:
        shutil.copyfileobj(stream, to, _CHUNK)
        to.flush()
        os.fsync(to.fileno())


def require_record(path: Path, name: str | None = None) -> None:
    """Raise `SettingsError` if a file is not a whole record; it is called by its path or `name`."""
    try:
        with closing(_connected(path)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found == "ok":
                connection.execute("SELECT version_num FROM alembic_version").fetchone()
                return
    except sqlite3.Error as error:
        found = error
    raise SettingsError(f"{name or path} is not a whole record: {found}")


def require_unused(path: Path) -> None:
    """Raise `SettingsError` if a process has the record open."""
    if not path.exists() or not path.stat().st_size:
        return
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if "is locked" in str(error):
                raise SettingsError(
                    f"the record at {path} is in use: stop the service, `squash deliver` and "
                    "other commands first"
                ) from error
        except sqlite3.DatabaseError:
            # It is damaged, so nobody serves it.
            return


def ids_in(path: Path) -> dict[str, int]:
    """Return the last id of each table of a record, as far as they can be read."""
    if not path.exists() or not path.stat().st_size:
        return {}
    with suppress(sqlite3.Error), closing(_connected(path, is_read_only=True)) as connection:
        return dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    return {}


def set_aside(path: Path, *, word: str = "old") -> Path | None:
    """Give the files of a record another name; return it, or None if there is none."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{word}-{number}")).exists():
        number += 1
    is_moved = False
    for ending in ("", *_BESIDE):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
            is_moved = True
    sync_folder(path.parent)
    return aside if is_moved else None


def put_in_place(new: Path, path: Path) -> None:
    """Let a file be the record; the one before must have been set aside."""
    for ending in _BESIDE:
        new.with_name(new.name + ending).unlink(missing_ok=True)
    new.rename(path)
    sync_folder(path.parent)


def copy_tables(path: Path, to: Path, tables: Iterable[str]) -> Iterator[Salvaged]:
    """Copy the rows of tables that can still be read into a record that has none.

    Tables without a row id are copied as far as they can be read from the start. The damaged file
    is only read.

    Raises
    ------
    SettingsError
        If nothing of the file can be read.
    """
    with closing(_connected(path, is_read_only=True)) as source, closing(_connected(to)) as copy:
        try:
            known = {row[0] for row in source.execute("SELECT name FROM sqlite_master")}
        except sqlite3.Error as error:
            raise SettingsError(
                f"nothing of {path} can be read ({error}): restore a backup"
            ) from error
        copy.execute("PRAGMA foreign_keys = OFF")
        for name in tables:
            if name in known:
                copy.execute("BEGIN")
                yield _salvage_table(source, copy, name)
                copy.execute("COMMIT")


def _salvage_table(source: sqlite3.Connection, copy: sqlite3.Connection, name: str) -> Salvaged:
    done = Salvaged(name)
    try:
        theirs = {row[1] for row in source.execute(f"PRAGMA table_info({name})")}
        columns = [row[1] for row in copy.execute(f"PRAGMA table_info({name})") if row[1] in theirs]
    except sqlite3.Error as error:
        done.trouble = str(error)
        return done
    _Reading(source, copy, done, columns).read()
    return done


class _Reading:
    """Reads a table from both ends, and between them row by row."""

    def __init__(
        self,
        source: sqlite3.Connection,
        copy: sqlite3.Connection,
        done: Salvaged,
        columns: Sequence[str],
    ) -> None:
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        self._source, self._copy, self._done = source, copy, done
        self._select = f"SELECT rowid, {names} FROM {done.table}"  # noqa: S608  our own tables
        self._insert = f"INSERT OR IGNORE INTO {done.table} ({names}) VALUES ({marks})"  # noqa: S608

    def read(self) -> None:
        """Copy every row that can be read."""
        if not self._has_ids():
            try:
                self._keep(self._source.execute(self._select.replace("rowid", "0", 1)))
            except sqlite3.Error as error:
                self._done.trouble = str(error)
            return
        first = self._along(is_upwards=True)
        if self._done.trouble is not None:
            self._between(first, self._along(is_upwards=False))

    def _has_ids(self) -> bool:
        query = "SELECT sql FROM sqlite_master WHERE name = ?"
        return "WITHOUT ROWID" not in self._source.execute(query, [self._done.table]).fetchone()[0]

    def _along(self, *, is_upwards: bool) -> int:
        """Read in the order of ids until there is no more, or one cannot be read."""
        sign, order, at = (">", "ASC", -(2**63)) if is_upwards else ("<", "DESC", 2**63 - 1)
        size = _ROWS
        while True:
            where = f"WHERE rowid {sign} ? ORDER BY rowid {order} LIMIT {size}"
            try:
                rows = self._source.execute(f"{self._select} {where}", [at]).fetchall()
            except sqlite3.Error as error:
                if size == 1:
                    self._done.trouble = str(error)
                    return at
                size = 1
                continue
            if not rows:
                return at
            self._keep(rows)
            at = rows[-1][0]

    def _between(self, first: int, last: int) -> None:
        first, last = max(first + 1, 0), min(last - 1, max(first, 0) + _MOST_SINGLE)
        unread = self._done.unread
        for number in range(first, last + 1):
            try:
                self._keep(self._source.execute(f"{self._select} WHERE rowid = ?", [number]))
            except sqlite3.Error:
                begun = unread.pop()[0] if unread and unread[-1][1] == number - 1 else number
                unread.append((begun, number))

    def _keep(self, rows: Iterable[tuple[object, ...]]) -> None:
        for row in rows:
            self._done.rows += self._copy.execute(self._insert, row[1:]).rowcount


def _connected(path: Path, *, is_read_only: bool = False) -> sqlite3.Connection:
    """Connect to a file that exists."""
    # Read only, so that the log is not moved into a damaged file at the end.
    address = f"{path.absolute().as_uri()}?mode={'ro' if is_read_only else 'rw'}"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=30)
