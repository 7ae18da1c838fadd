"""The file of a record in SQLite: the mark beside it, and what becomes of it while it is open.

The mark, `<record>.mark`, says of which installation the record is, and up to which ids clients
have been answered. A record that has lost what was promised is behind its mark, and is noticed at
the next start, before an id is given twice.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError

from squash_api.errors import SettingsError
from squash_api.record.tables import metadata

SEE = "see docs/operations.md, When the record is damaged"
# Ids of so many jobs are noted in advance, so that the mark waits for the disk once for them all.
_BLOCK = 1000
# Written at once, so that it is old or new, whenever a process is killed.
_SIZE = 1024
# What reading one that is not whole raises.
_GARBLED = (ValueError, KeyError, TypeError, AttributeError)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a mark says. Ids are the last of each table.

    `answered` are those in replies. They are written without waiting for the disk, so after a loss
    of power they may be some seconds old; `reserved` are on the disk before any of them is given.
    """

    installation: str
    answered: Mapping[str, int] = field(default_factory=dict)
    reserved: Mapping[str, int] = field(default_factory=dict)
    moved_to: str | None = None
    """Where the record is now, if it was moved to another database."""

    def last_ids(self) -> dict[str, int]:
        """Return the ids that must not be given again."""
        return latest(self.answered, self.reserved)


def mark_path(path: Path) -> Path:
    """Return where the mark of a record is."""
    return path.with_name(f"{path.name}.mark")


def read_mark(path: Path) -> Mark | None:
    """Read the mark of a record; None if there is none.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    try:
        return _parsed(mark_path(path).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, *_GARBLED) as error:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the mark of the record, {mark_path(path)}, cannot be read "
            f"({error}): it is not known which ids were given. If the record is whole, accept it "
            f"with: squash record accept; {SEE}",
            runbook="record-mark",
        ) from error


def write_mark(path: Path, mark: Mark) -> None:
    """Make or replace the mark of a record, and wait until it is on the disk."""
    new = path.with_name(f"{path.name}.mark-new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, _written(mark))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(mark_path(path))
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_place(path: Path) -> None:
    """Raise `SettingsError` if there was a record, of which other files tell, and it is gone."""
    if path.exists() and path.stat().st_size:
        return
    log = path.with_name(f"{path.name}-wal")
    mark = read_mark(path)
    if mark is not None and mark.moved_to is not None:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record of {path} was moved to {mark.moved_to}: name that"
        )
    if mark is None and not (log.exists() and log.stat().st_size):
        return
    what = f"the record at {path} is empty" if path.exists() else f"there is no record at {path}"
    last = "" if mark is None else f", up to job {mark.answered.get('job', 0)}"
    raise SettingsError(
        f"SQUASH_DATABASE_URL: {what}, but there was one{last}. Put it back, or restore a backup "
        "with: squash record restore BACKUP; or begin an empty one, whose ids are new, with: "
        f"squash record accept; {SEE}",
        runbook="record-mark",
    )


class RecordFile:
    """The file of an open record. Its methods are for one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self.path = Path(engine.url.database or "")
        self._log = self.path.with_name(f"{self.path.name}-wal")
        self._identity = _identity(self.path)
        self._log_identity: tuple[int, int] | None = None
        self._mark: Mark | None = None
        # One that cannot be read is for the next start of the service to say.
        with suppress(SettingsError):
            self._mark = read_mark(self.path)
        self._content = b""
        self._descriptor: int | None = None
        event.listen(engine, "do_connect", self._require_same)

    def problem(self) -> str | None:
        """Say why nothing must be written, or None: the files are no longer those that are open.

        What is written to a file without a name is gone when the service ends.
        """
        found = _identity(self.path)
        if found is None:
            return "The file of the record has been removed or emptied"
        if self._identity is not None and found != self._identity:
            return "The file of the record has been replaced by another one"
        self._identity = found
        if self._log_identity is not None and self._log_identity != _identity(self._log, least=0):
            return "The write-ahead log of the record has been removed or replaced"
        return None

    def keep(self, mark: Mark) -> None:
        """Keep the mark up to date from now on."""
        self._mark = mark

    def last_ids(self, connection: Connection) -> dict[str, int]:
        """Return the last id of each table, if there is a mark to note them in."""
        return {} if self._mark is None else last_ids(connection)

    def note(self, ids: Mapping[str, int]) -> str | None:
        """Note the last ids of tables, which have been committed and not been answered yet.

        If the files are no longer those that are open, return the `problem` instead.
        """
        problem = self.problem()
        if problem is not None:
            return problem
        # From now on, the log is there as long as the record is open.
        if self._log_identity is None:
            self._log_identity = _identity(self._log, least=0)
        mark = self._mark
        if mark is None or all(mark.answered.get(name, 0) >= last for name, last in ids.items()):
            return None
        try:
            with self._locked(mark) as descriptor:
                # Another process may have written later ids.
                found = os.pread(descriptor, _SIZE, 0)
                if found != self._content:
                    with suppress(*_GARBLED):
                        mark = _parsed(found)
                self._mark, self._content = _noted(descriptor, mark, ids)
        except OSError as error:
            # The jobs are safe; what is less safe is that their loss would be noticed.
            words = "the mark of the record cannot be written"
            _log.error(words, error=str(error), runbook="record-mark")
        return None

    def complete(self, engine: Engine) -> None:
        """Bring what is in the log into the file, so that a copy of the file alone is whole.

        SQLite itself does so only when no other process, such as one that reads, has it open.
        """
        with suppress(DBAPIError), engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the mark."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def _locked(self, mark: Mark) -> Iterator[int]:
        """Open the mark for this process alone; made anew if somebody has removed it."""
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            self.close()
            if not mark_path(self.path).exists():
                write_mark(self.path, mark)
        if self._descriptor is None:
            self._descriptor = os.open(mark_path(self.path), os.O_RDWR)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield self._descriptor
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _require_same(self, *_: Any) -> None:
        """Open no connection to another file, to which the log does not belong."""
        if self._identity is not None and _identity(self.path) != self._identity:
            raise sqlite3.OperationalError("unable to open database file: it is another one")


def last_ids(connection: Connection) -> dict[str, int]:
    """Return the last id of each table, of rows that have been deleted too."""
    return {row.name: row.seq for row in connection.execute(_LAST_IDS)}


def raise_ids(connection: Connection, ids: Mapping[str, int]) -> None:
    """Let the ids of tables go on behind these."""
    known = last_ids(connection)
    for name, last in ids.items():
        if not metadata.tables[name].dialect_options["sqlite"]["autoincrement"]:
            # Its ids go on behind the last that is there.
            continue
        given = {"name": name, "last": last}
        if name not in known:
            connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :last)"), given)
        elif known[name] < last:
            connection.execute(
                text("UPDATE sqlite_sequence SET seq = :last WHERE name = :name"), given
            )


_LAST_IDS = text("SELECT name, seq FROM sqlite_sequence")


def _noted(descriptor: int, mark: Mark, ids: Mapping[str, int]) -> tuple[Mark, bytes]:
    """Write ids into a mark that is locked; return what it says then, and its content."""
    mark = replace(mark, answered=latest(mark.answered, ids))
    last = mark.answered.get("job", 0)
    needs_more = last > mark.reserved.get("job", 0)
    if needs_more:
        mark = replace(mark, reserved={"job": last + _BLOCK})
    content = _written(mark)
    os.pwrite(descriptor, content, 0)
    if needs_more:
        os.fdatasync(descriptor)
    return mark, content


def latest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return the later of the ids of each table."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}


def _identity(path: Path, *, least: int = 1) -> tuple[int, int] | None:
    """Return device and inode; None if there is no file of `least` bytes."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size >= least else None


def _parsed(content: bytes) -> Mark:
    found = json.loads(content)
    answered, reserved = (
        {str(name): int(last) for name, last in found[key].items()} for key in _PARTS
    )
    return Mark(str(found["installation"]), answered, reserved, found.get("moved_to"))


def _written(mark: Mark) -> bytes:
    document: dict[str, Any] = {
        "installation": mark.installation,
        "answered": dict(mark.answered),
        "reserved": dict(mark.reserved),
    }
    if mark.moved_to is not None:
        document["moved_to"] = mark.moved_to
    return json.dumps(document).encode().ljust(_SIZE - 1) + b"\n"


_PARTS = ("answered", "reserved")
