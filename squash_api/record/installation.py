"""Which installation a record is of, and whether it is the newest: compared with its mark.

The mark is a file beside the record. A record of another database than SQLite has none, and is not
compared. When another record takes the place of the newest, or it is moved to another database, its
ids go on behind those that were given.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, inspect, select

from squash_api.errors import SettingsError
from squash_api.record.copying import Progress, Target, copy_record, ids_given, new_record, url_of
from squash_api.record.database import (
    MOVED_TO,
    alone,
    file_at,
    last_ids,
    make_database,
    make_new_tables,
    open_database,
    opened_anyhow,
    place_of,
    raise_ids,
    said_of,
    writing,
)
from squash_api.record.engines import postgresql
from squash_api.record.engines.sqlite_copies import (
    copy_tables,
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
    latest,
    mark_path,
    read_mark,
    write_mark,
)
from squash_api.record.jobs import Received, last_job_id
from squash_api.record.record import Record, get_state, set_state
from squash_api.record.tables import job, metadata, state, user
from squash_api.record.versions import Tables, go_back, tables_of

# Derived from jobs by `index/`.
_DERIVED = {"job_run", "package_set", "measurement", "tag_set", "job_context", "rederivation"}
_DERIVED_THROUGH = ("derived_through", "runs_through")
_INSTALLATION = "installation"
_LOST = "lost_ids"
# More than a primary stores while a replica lags that is worth promoting.
_SKIPPED = 10_000


@dataclass(frozen=True, slots=True)
class Replaced:
    """A record that goes on: its last job, the id of the next, where the one before was put.

    `aside` are words, or None if there was none.
    """

    last_job: int
    next_job: int
    aside: str | None


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


def skip_ids(record: Record) -> None:
    """Let the ids of a replica that was promoted go on above those that its primary may have given.

    What the primary stored last, and answered, may not have reached the replica.
    """

    def work(connection: Connection) -> None:
        above = {name: last + _SKIPPED for name, last in last_ids(connection).items()}
        raise_ids(connection, above)

    record.write(work)


def problem_with_mark(connection: Connection, path: Path) -> str | None:
    """Say how a record differs from its mark; None if it is the newest, or never had a mark.

    Raises
    ------
    SettingsError
        If the mark cannot be read.
    """
    mark, own = read_mark(path), get_state(connection, _INSTALLATION)
    if mark is not None and mark.moved_to is not None:
        return f"it was moved to {mark.moved_to}, which may have later jobs"
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
    path = file_at(url)
    if path is None:
        return _restore_into(url, backup, ids_above)
    require_unused(path)
    new = path.with_name(f"{path.name}.restoring")
    try:
        receive(backup, new)
        require_record(new, "the backup")
        return _replace(path, new, _given_ids(path, ids_above))
    finally:
        new.unlink(missing_ok=True)


def begin_anew(url: str, *, ids_above: int = 0) -> Replaced:
    """Put an empty record in the place of one that is gone; otherwise as `restore`."""
    path = file_at(url)
    if path is None:
        make_database(url)
        return accept(url, ids_above=ids_above)
    new = path.with_name(f"{path.name}.restoring")
    new.unlink(missing_ok=True)
    try:
        make_database(url_of(new))
        return _replace(path, new, _given_ids(path, ids_above))
    finally:
        new.unlink(missing_ok=True)


def accept(url: str, *, ids_above: int = 0) -> Replaced:
    """Go on with the record that is there, which nobody may be using; otherwise as `restore`."""
    path = file_at(url)
    if path is not None:
        require_unused(path)
        require_record(path)
    else:
        with opened_anyhow(url) as engine, alone(engine).begin() as connection:
            if tables_of(connection) is not None:
                connection.execute(delete(state).where(state.c.key == MOVED_TO))
    engine = open_database(url)
    try:
        with alone(engine).begin() as connection:
            given = {"job": ids_above} if path is None else _given_ids(path, ids_above)
            return _went_on(connection, path, given)
    finally:
        engine.dispose()


def let_use(url: str, release: str) -> Tables:
    """Let an older release use the record, which nobody may be using.

    Raises
    ------
    SettingsError
        If that release cannot use it, or it is in use.
    """
    path = file_at(url)
    if path is None:
        raise SettingsError(
            f"release {release} knows no record in PostgreSQL: move it into a file first, with: "
            "squash record move --to sqlite:///FILE"
        )
    require_unused(path)
    engine = open_database(url)
    try:
        with alone(engine).begin() as connection:
            return go_back(connection, release)
    finally:
        engine.dispose()


def is_there(url: str) -> bool:
    """Tell whether there is a record, which may be damaged, or an empty place for one."""
    path = file_at(url)
    if path is not None:
        return path.exists() and path.stat().st_size > 0
    with opened_anyhow(url) as engine, engine.connect() as connection:
        return tables_of(connection) is not None


def move(url: str, to: str, so_far: Progress) -> Generator[None]:
    """Move the record, which nobody may be using, to another database, where none is.

    The old one is not changed until the new one is whole. Then a file is put aside, and its mark
    says where the record is; in a database that is not a file, the record itself says so.

    Yields
    ------
    None
        After each part; `so_far` says how much is done, and at the end what there is.

    Raises
    ------
    SettingsError
        If it cannot be done; then there is no record at the new place.
    """
    if place_of(url) == place_of(to):
        raise SettingsError(f"the record is at {place_of(to)} already: name another place")
    path, new_path = file_at(url), file_at(to)
    if path is not None:
        require_unused(path)
    engine = open_database(url, is_checked=True)
    try:
        with alone(engine).begin() as source:
            mark = None if path is None else _newest(source, path)
            given = {} if mark is None else mark.last_ids()
            with said_of("--to"), new_record(to) as target:
                yield from copy_record(source, target, so_far, given=given)
                own = get_state(target.connection, _INSTALLATION) or uuid4().hex
                set_state(target.connection, _INSTALLATION, own)
                new_mark = Mark(own, last_ids(target.connection))
            if new_path is not None:
                write_mark(new_path, new_mark)
            if path is None:
                set_state(source, MOVED_TO, place_of(to))
    finally:
        engine.dispose()
    if path is not None:
        set_aside(path, word="moved")
        write_mark(path, replace(new_mark, moved_to=place_of(to)))


def _newest(connection: Connection, path: Path) -> Mark | None:
    """Return the mark of a record, which must be the newest."""
    problem = problem_with_mark(connection, path)
    if problem is not None:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record at {path} is not the newest of this installation: "
            f"{problem}; {SEE}"
        )
    return read_mark(path)


def salvage(url: str, to: Path, *, can_read: Callable[[Received], bool]) -> Iterator[str]:
    """Copy what can be read of a damaged record into a new one, and yield what is lost.

    `can_read` tells whether what was received of a job is still what was accepted: deriving it
    again must not fail.

    What is derived from jobs is not copied: the service derives it again. Users that can no longer
    be read, but are referred to, are there by number and disabled.

    Raises
    ------
    SettingsError
        If the record is in use, nothing of it can be read, or the new file exists.
    """
    path = file_at(url)
    if path is None:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: {place_of(url)} is not a file of SQLite, and only such a file "
            "can be salvaged: restore a backup, or a base backup of PostgreSQL"
        )
    require_unused(path)
    if to.exists():
        raise SettingsError(f"{to} exists already: name another file, or remove it first")
    if not path.exists():
        raise SettingsError(f"SQUASH_DATABASE_URL: there is no record at {path}")
    # Before the record is read: a file that is empty must not make one.
    given = _given_ids(path, 0)
    make_database(url_of(to))
    try:
        names = [table.name for table in metadata.sorted_tables if table.name not in _DERIVED]
        for done in copy_tables(path, to, names):
            if done.trouble is not None:
                yield f"{done.table}: {done.rows} rows could be read ({done.trouble})"
        engine = open_database(url_of(to))
        with writing(engine).begin() as connection:
            yield from _mended(connection, can_read)
            raise_ids(connection, given)
            yield from _lost_jobs(connection, _last_answered(path))
        engine.dispose()
    except BaseException:
        to.unlink(missing_ok=True)
        raise


def lost_ids(connection: Connection) -> list[tuple[int, int]]:
    """Return the ids, first and last, of jobs that are known to be lost."""
    rows = json.loads(get_state(connection, _LOST) or "[]")
    return [(row["first"], row["last"]) for row in rows]


def _mended(connection: Connection, can_read: Callable[[Received], bool]) -> Iterator[str]:
    """Let what was copied refer only to what is there, and be derived anew."""
    connection.execute(delete(state).where(state.c.key.in_(_DERIVED_THROUGH)))
    rows = connection.execute(_RECEIVED)
    garbled = [job_id for job_id, *received in rows if not can_read(Received(*received))]
    for key in (key for table in metadata.sorted_tables for key in table.foreign_keys):
        if key.column is job.c.id:
            connection.execute(delete(key.parent.table).where(key.parent.in_(garbled)))
    connection.execute(delete(job).where(job.c.id.in_(garbled)))
    users = select(user.c.id)
    lost: set[int] = set()
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            if key.column is user.c.id:
                missing = select(key.parent).where(key.parent.not_in(users)).distinct()
                lost.update(connection.execute(missing.where(key.parent.is_not(None))).scalars())
    if lost:
        connection.execute(insert(user), [_lost_user(number) for number in sorted(lost)])
        ids = ", ".join(map(str, sorted(lost)))
        yield f"users that could not be read, and are disabled: {ids}"
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            parents = select(key.column)
            broken = key.parent.is_not(None) & key.parent.not_in(parents)
            count = connection.execute(delete(table).where(broken)).rowcount
            if count:
                yield f"{table.name}: {count} rows referred to what could not be read"


_RECEIVED = select(job.c.id, job.c.body, job.c.wire, job.c.address).where(job.c.body.is_not(None))


def _lost_user(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"lost-{number}",
        # No password has this hash.
        "password_hash": "!",
        "role": "user",
        "epoch": 1,
        "is_disabled": True,
        "created_ns": 0,
    }


def _lost_jobs(connection: Connection, last: int) -> Iterator[str]:
    """Yield which jobs, of those that were given ids up to the last, are not there."""
    before, lost = 0, []
    for number in [*connection.execute(select(job.c.id).order_by(job.c.id)).scalars(), last + 1]:
        if number == before + 2:
            lost.append(f"{before + 1}")
        elif number > before + 2:
            lost.append(f"{before + 1} to {number - 1}")
        before = number
    if lost:
        yield f"jobs that could not be read: {', '.join(lost)}"


def _replace(path: Path, new: Path, ids: Mapping[str, int]) -> Replaced:
    engine = open_database(url_of(new))
    try:
        with writing(engine).begin() as connection:
            done = _went_on(connection, path, ids)
    finally:
        engine.dispose()
    aside = set_aside(path)
    put_in_place(new, path)
    return replace(done, aside=None if aside is None else f"in the files {aside}*")


def _restore_into(url: str, backup: BinaryIO, ids_above: int) -> Replaced:
    """Put a backup in the place of a record in PostgreSQL, in one transaction."""
    with TemporaryDirectory(prefix="squash-restore-") as folder:
        new = Path(folder) / "squash.db"
        receive(backup, new)
        require_record(new, "the backup")
        engine = open_database(url_of(new))
        try:
            with (
                engine.connect() as source,
                opened_anyhow(url) as place,
                alone(place).begin() as connection,
            ):
                if tables_of(connection) is None and inspect(connection).get_table_names():
                    raise SettingsError(
                        f"{place_of(url)} is another database, not a record: name another place"
                    )
                given = latest({"job": ids_above}, last_ids(connection))
                aside = postgresql.set_aside(connection)
                make_new_tables(connection)
                for _ in copy_record(source, Target(connection, lambda: None), Progress()):
                    pass
                done = _went_on(connection, None, given)
        finally:
            engine.dispose()
    return replace(done, aside=None if aside is None else f"in the schema {aside} of its database")


def _given_ids(path: Path, ids_above: int) -> dict[str, int]:
    """Return the last ids that are known to have been given."""
    given = {"job": ids_above}
    with suppress(SettingsError):
        mark = read_mark(path)
        given = given if mark is None else latest(given, mark.last_ids())
    return latest(given, ids_in(path))


def _last_answered(path: Path) -> int:
    """Return the last job that is known to have been stored."""
    with suppress(SettingsError):
        mark = read_mark(path)
        if mark is not None:
            return max(mark.answered.get("job", 0), ids_in(path).get("job", 0))
    return ids_in(path).get("job", 0)


def _went_on(connection: Connection, path: Path | None, ids: Mapping[str, int]) -> Replaced:
    """Let a record go on with ids behind these, and write its mark; the lost jobs are noted."""
    present = ids_given(connection)
    before = present.get("job", 0)
    raise_ids(connection, latest(present, ids))
    if ids.get("job", 0) > before:
        rows: list[dict[str, Any]] = json.loads(get_state(connection, _LOST) or "[]")
        rows.append({"first": before + 1, "last": ids["job"], "accepted_ns": time.time_ns()})
        set_state(connection, _LOST, json.dumps(rows))
    own = get_state(connection, _INSTALLATION) or uuid4().hex
    set_state(connection, _INSTALLATION, own)
    mark = Mark(own, last_ids(connection))
    if path is not None:
        write_mark(path, mark)
    return Replaced(last_job_id(connection), mark.answered.get("job", 0) + 1, None)


def _claim(path: Path, connection: Connection) -> Mark:
    problem = problem_with_mark(connection, path)
    if problem is not None:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record at {path} is not the newest of this installation: "
            f"{problem}. Put the newest in its place, or the newest backup with: squash record "
            "restore BACKUP; or go on with this one, with ids that were never given, with: "
            f"squash record accept; {SEE}",
            runbook="record-mark",
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
