"""Which installation a record is of, and whether it is the newest: compared with its mark.

The mark is a file beside the record. A record of another database than SQLite has none, and is not
compared. When another record takes the place of the newest, its ids go on behind those of the mark.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from sqlalchemy import URL, Connection

from squash_api.errors import SettingsError
from squash_api.record.database import make_database, open_database, path_of, writing
from squash_api.record.engines.sqlite_copies import (
    ids_in,
    put_in_place,
    receive,
    require_record,
    require_unused,
    set_aside,
)
from squash_api.record.engines.sqlite_file import (
    SEE,
    Mark,
    last_ids,
    latest,
    mark_path,
    raise_ids,
    read_mark,
    write_mark,
)
from squash_api.record.record import Record, get_state, set_state

_INSTALLATION = "installation"
_LOST = "lost_ids"


@dataclass(frozen=True, slots=True)
class Replaced:
    """A record that goes on: its last job, the id of the next, where the one before was put."""

    last_job: int
    next_job: int
    aside: Path | None


def claim(record: Record) -> None:
    """Compare a record with its mark before anything is promised, and keep the mark from now on.

    A record that never had a mark gets one.

    Raises
    ------
    SettingsError
        If the record is behind its mark, or of another installation, or its mark is missing.
    """
    if record.file is not None:
        record.file.keep(record.write(partial(_claim, record.file.path)))


def problem_with_mark(connection: Connection, path: Path) -> str | None:
    """Say how a record differs from its mark; None if it is the newest, or never had a mark.

    Raises
    ------
    SettingsError
        If the mark cannot be read.
    """
    mark, own = read_mark(path), get_state(connection, _INSTALLATION)
    if mark is None:
        return None if own is None else f"its mark, {mark_path(path).name}, is missing"
    missing = _missing(mark.answered, last_ids(connection))
    if missing is not None:
        return missing
    # An installation's first start may have ended between the mark and the record.
    if own not in (None, mark.installation):
        return f"it is of another installation than its mark, {mark_path(path).name}"
    return None


def restore(url: str, backup: BinaryIO, *, ids_above: int = 0) -> Replaced:
    """Put a backup in the place of the record, which nobody may be using.

    New jobs get ids above those that the mark, the present record and `ids_above` know.

    Raises
    ------
    SettingsError
        If the record is in use, or the backup is not a whole record; then nothing has changed.
    """
    path = path_of(url)
    require_unused(path)
    new = path.with_name(f"{path.name}.restoring")
    try:
        receive(backup, new)
        require_record(new)
        return _replace(path, new, _given_ids(path, ids_above))
    finally:
        new.unlink(missing_ok=True)


def begin_anew(url: str, *, ids_above: int = 0) -> Replaced:
    """Put an empty record in the place of one that is gone; otherwise as `restore`."""
    path = path_of(url)
    new = path.with_name(f"{path.name}.restoring")
    new.unlink(missing_ok=True)
    try:
        make_database(_url_of(new))
        return _replace(path, new, _given_ids(path, ids_above))
    finally:
        new.unlink(missing_ok=True)


def accept(url: str, *, ids_above: int = 0) -> Replaced:
    """Go on with the record that is there, which nobody may be using; otherwise as `restore`."""
    path = path_of(url)
    require_unused(path)
    require_record(path)
    engine = open_database(url)
    try:
        with writing(engine).begin() as connection:
            return _went_on(connection, path, _given_ids(path, ids_above), aside=None)
    finally:
        engine.dispose()


def lost_ids(connection: Connection) -> list[tuple[int, int]]:
    """Return the ids, first and last, of jobs that are known to be lost."""
    rows = json.loads(get_state(connection, _LOST) or "[]")
    return [(row["first"], row["last"]) for row in rows]


def _replace(path: Path, new: Path, ids: Mapping[str, int]) -> Replaced:
    engine = open_database(_url_of(new))
    try:
        with writing(engine).begin() as connection:
            done = _went_on(connection, path, ids, aside=None)
    finally:
        engine.dispose()
    done = replace(done, aside=set_aside(path))
    put_in_place(new, path)
    return done


def _given_ids(path: Path, ids_above: int) -> dict[str, int]:
    """Return the last ids that are known to have been given."""
    given = {"job": ids_above}
    with suppress(SettingsError):
        mark = read_mark(path)
        given = given if mark is None else latest(given, mark.last_ids())
    return latest(given, ids_in(path))


def _url_of(path: Path) -> str:
    return URL.create("sqlite", database=str(path)).render_as_string()


def _went_on(
    connection: Connection, path: Path, ids: Mapping[str, int], *, aside: Path | None
) -> Replaced:
    """Let a record go on with ids behind these, and write its mark; the lost jobs are noted."""
    before = last_ids(connection).get("job", 0)
    raise_ids(connection, ids)
    if ids.get("job", 0) > before:
        rows: list[dict[str, Any]] = json.loads(get_state(connection, _LOST) or "[]")
        rows.append({"first": before + 1, "last": ids["job"], "accepted_ns": time.time_ns()})
        set_state(connection, _LOST, json.dumps(rows))
    own = get_state(connection, _INSTALLATION) or uuid4().hex
    set_state(connection, _INSTALLATION, own)
    mark = Mark(own, last_ids(connection))
    write_mark(path, mark)
    return Replaced(before, mark.answered.get("job", 0) + 1, aside)


def _claim(path: Path, connection: Connection) -> Mark:
    problem = problem_with_mark(connection, path)
    if problem is not None:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record at {path} is not the newest of this installation: "
            f"{problem}. Put the newest in its place, or the newest backup with: squash record "
            "restore BACKUP; or go on with this one, with ids that were never given, with: "
            f"squash record accept; {SEE}"
        )
    mark = read_mark(path)
    if mark is None:
        mark = Mark(uuid4().hex, last_ids(connection))
        write_mark(path, mark)
    set_state(connection, _INSTALLATION, mark.installation)
    return mark


def _missing(answered: Mapping[str, int], present: Mapping[str, int]) -> str | None:
    """Say which rows there were once that the record does not have."""
    for name, last in answered.items():
        found = present.get(name, 0)
        if found < last:
            return f"clients were answered up to id {last} of {name}, and it ends with {found}"
    return None
