"""What `squash watch` remembers of files over its restarts: one file of SQLite.

A file that is gone for a month is forgotten, so it grows with what is in the folder.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from squash_api.pipelines.outputs import Stamp

STARTED: Literal["started"] = "started"
"""A command was launched for the file, and has not been seen to end."""

_SCHEMA = """
create table file (
    path blob primary key, size integer not null, mtime_ns integer not null,
    state text not null, gone_s integer
) without rowid
"""
_VERSION = 1
_FORGET_S = 30 * 86_400


class StateError(Exception):
    """The state cannot be used; the text says why, and what to do."""


class WatchState:
    """The files that were seen, each with its stamp; only one process has it at a time.

    Raises
    ------
    StateError
        If another process has it, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"{path}: another squash watch uses it: end that, or name another with --state"
            ) from None
        except OSError as error:
            raise StateError(f"{path}: cannot be written: {error.strerror or error}") from None
        try:
            self._open()
        except sqlite3.Error as error:
            raise StateError(
                f"{path}: cannot be opened: {error}; move it away: every file is then sent again, "
                "and the service knows those that it has"
            ) from None

    def _open(self) -> None:
        self._db = sqlite3.connect(self.path, isolation_level=None)
        # Alone, it needs no shared memory, which network disks do not have.
        self._db.execute("pragma locking_mode = exclusive")
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version > _VERSION:
            raise sqlite3.DatabaseError("it is of a newer release")
        self.is_new = version == 0
        self._db.execute("create temp table present (path blob primary key) without rowid")
        if self.is_new:
            self._db.execute("drop table if exists file")
            self._db.execute(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        os.close(self._lock)

    def begin(self) -> None:
        """Note that the first look is over."""
        self._db.execute(f"pragma user_version = {_VERSION}")
        self.is_new = False

    def knows(self, path: str, stamp: Stamp) -> bool:
        """Whether a file was seen as it is now."""
        row = self._db.execute(
            "select size, mtime_ns from file where path = ?", (os.fsencode(path),)
        ).fetchone()
        return bool(row == stamp)

    def note(self, seen: Iterable[tuple[str, Stamp]], state: str) -> None:
        """Remember files as they are now, in one transaction."""
        self._db.execute("begin")
        self._db.executemany(
            "insert or replace into file (path, size, mtime_ns, state) values (?, ?, ?, ?)",
            ((os.fsencode(path), *stamp, state) for path, stamp in seen),
        )
        self._db.execute("commit")

    def started(self) -> list[tuple[str, Stamp]]:
        """Return the files for which a command was launched that was not seen to end."""
        rows = self._db.execute("select path, size, mtime_ns from file where state = ?", (STARTED,))
        return [(os.fsdecode(path), (size, mtime_ns)) for path, size, mtime_ns in rows]

    def forget_gone(self, present: Iterable[str]) -> None:
        """Forget what has been gone for long; `present` are all files that are there."""
        now_s = int(time.time())
        self._db.execute("begin")
        self._db.executemany(
            "insert or ignore into present values (?)", ((os.fsencode(path),) for path in present)
        )
        is_there = "path in (select path from present)"
        self._db.execute(f"update file set gone_s = null where gone_s is not null and {is_there}")  # noqa: S608
        self._db.execute(
            f"update file set gone_s = ? where gone_s is null and not {is_there}",  # noqa: S608
            (now_s,),
        )
        self._db.execute("delete from file where gone_s < ?", (now_s - _FORGET_S,))
        self._db.execute("delete from present")
        self._db.execute("commit")
