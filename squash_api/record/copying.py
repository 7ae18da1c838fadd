"""Copying a whole record from one database into another, row by row, whatever both are.

A backup of a record in PostgreSQL is a file of SQLite that is made so, a record of its own; moving
a record, and restoring it, are the same the other way.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from sqlalchemy import URL, Connection, Table, delete, func, inspect, select
from sqlalchemy.exc import DBAPIError

from squash_api.errors import SettingsError
from squash_api.record.database import (
    alone,
    file_at,
    fill,
    last_ids,
    make_database,
    make_new_tables,
    open_database,
    opened_anyhow,
    place_of,
    raise_ids,
    writing,
)
from squash_api.record.engines import sqlite_copies
from squash_api.record.engines.sqlite_file import latest, require_place, sync_folder
from squash_api.record.record import get_state, set_state
from squash_api.record.tables import metadata, state
from squash_api.record.versions import VERSION, tables_of

# Rows in memory at a time. One of a job is up to SQUASH_MAX_BODY_BYTES.
_ROWS = 2_000
_JOBS = 16
_GAPS = "gaps_through"


@dataclass(slots=True)
class Copied:
    """The rows of a table: their number, and a checksum that is the same in every database.

    It is the sum of the BLAKE2 hashes of the rows, modulo 2^128, so their order does not matter.
    """

    table: str
    rows: int = 0
    sum: int = 0

    @property
    def checksum(self) -> str:
        """The checksum as text."""
        return f"{self.sum:032x}"

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Count rows."""
        self.rows += len(rows)
        for row in rows:
            text = repr([_plain(value) for value in row])
            digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            self.sum = (self.sum + int.from_bytes(digest)) % 2**128


@dataclass(slots=True)
class Progress:
    """How far a copy is."""

    tables: list[Copied] = field(default_factory=list)
    rows: int = 0
    total: int = 0

    def share(self) -> float:
        """Return how much is done, 0 to 1."""
        return self.rows / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """A record that is being made: `keep` commits what may be committed before it is whole."""

    connection: Connection
    keep: Callable[[], None]


def copy_record(
    source: Connection, target: Target, so_far: Progress, *, given: Mapping[str, int] | None = None
) -> Iterator[None]:
    """Copy all tables into those of an empty record, and compare both; yield after each part.

    Ids go on behind the last that the source has given, and behind those of `given`.

    Raises
    ------
    SettingsError
        If something cannot be read or written, or the copy differs.
    """
    tables = metadata.sorted_tables
    counts = [source.execute(select(func.count()).select_from(table)) for table in tables]
    so_far.total = 2 * sum(count.scalar_one() for count in counts)
    # The row that says what tables there are is among those of the source.
    target.connection.execute(delete(state))
    for table in tables:
        copied = Copied(table.name)
        for rows in _read(source, table, is_ordered=True):
            try:
                fill(target.connection, table, rows)
            except SettingsError as error:
                raise SettingsError(
                    f"rows of {table.name}, from {_key(table, rows[0])} to {_key(table, rows[-1])},"
                    f" cannot be copied: {error.message}"
                ) from error
            target.keep()
            copied.add(rows)
            so_far.rows += len(rows)
            yield
        so_far.tables.append(copied)
    for table, copied in zip(tables, so_far.tables, strict=True):
        found = Copied(table.name)
        for rows in _read(target.connection, table, is_ordered=False):
            found.add(rows)
            so_far.rows += len(rows)
            yield
        if found != copied:
            raise SettingsError(
                f"the copy of {table.name} differs: {copied.rows} rows were read "
                f"({copied.checksum}), and {found.rows} are there ({found.checksum})"
            )
    ids = latest(ids_given(source), given or {})
    raise_ids(target.connection, ids)
    set_state(target.connection, _GAPS, str(ids.get("job", 0)))


def ids_given(connection: Connection) -> dict[str, int]:
    """Return the last id of each table, whether it is there or only was given."""
    ids = last_ids(connection)
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            last = connection.execute(select(func.max(column))).scalar_one() or 0
            ids = latest(ids, {table.name: last})
    return ids


def gaps_through(connection: Connection) -> int:
    """Return up to which id it is normal that no job has one: in PostgreSQL it is."""
    return int(get_state(connection, _GAPS) or 0)


@contextmanager
def new_record(url: str) -> Iterator[Target]:
    """Make a record where none is, for `copy_record` to fill: at the end it is whole, or not there.

    Raises
    ------
    SettingsError
        If there is something, or it cannot be made.
    """
    path = file_at(url)
    if path is not None:
        require_place(path)
        with _new_file(path) as target:
            yield target
        return
    with opened_anyhow(url) as engine, alone(engine).begin() as connection:
        if inspect(connection).get_table_names():
            raise SettingsError(
                f"{place_of(url)} is not empty, and nothing was changed there: make a new database "
                "for the record"
            )
        make_new_tables(connection)
        yield Target(connection, lambda: None)


def back_up(url: str, to: Path) -> None:
    """Copy a record that may be in use into a new file of SQLite, as it is at this moment.

    Raises
    ------
    SettingsError
        If it cannot be made; then nothing is left of it.
    """
    path = file_at(url)
    if path is not None:
        require_place(path)
        if not path.exists():
            raise SettingsError(f"SQUASH_DATABASE_URL: there is no record at {path}")
        sqlite_copies.back_up(path, to)
        return
    with opened_anyhow(url) as engine, engine.connect() as source:
        _require_tables(source, place_of(url))
        with _new_file(to) as target:
            for _ in copy_record(source, target, Progress()):
                pass


def send_backup(url: str, to: BinaryIO) -> None:
    """Write a backup to a stream; it is made beside the record of SQLite, or in TMPDIR."""
    path = file_at(url)
    with TemporaryDirectory(prefix="squash-backup-", dir=path and path.parent) as folder:
        copy = Path(folder) / "squash.db"
        back_up(url, copy)
        with copy.open("rb") as source:
            shutil.copyfileobj(source, to, 1 << 20)
            to.flush()


def url_of(path: Path) -> str:
    """Return the URL of a record in a file of SQLite."""
    return URL.create("sqlite", database=str(path)).render_as_string()


@contextmanager
def _new_file(path: Path) -> Iterator[Target]:
    """Make a file of SQLite that gets its name when all is in it and on the disk."""
    if path.exists():
        raise SettingsError(f"{path} exists already: name another file, or remove it first")
    part = path.with_name(f"{path.name}.part")
    try:
        # Nobody else may read it: it has the hashes of passwords.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        make_database(url_of(part))
        engine = open_database(url_of(part))
        try:
            with writing(engine).connect() as connection:
                yield Target(connection, connection.commit)
                connection.commit()
        finally:
            engine.dispose()
        sqlite_copies.require_record(part)
        sqlite_copies.put_on_disk(part)
        # Unlike a rename, this replaces nothing that has been made meanwhile.
        os.link(part, path)
        sync_folder(path.parent)
    except (DBAPIError, OSError) as error:
        raise SettingsError(f"{path} cannot be made: {error}") from error
    finally:
        for ending in ("", "-wal", "-shm"):
            with suppress(OSError):
                part.with_name(part.name + ending).unlink()


def _require_tables(connection: Connection, place: str) -> None:
    found = tables_of(connection)
    if found is None:
        raise SettingsError(f"SQUASH_DATABASE_URL: there is no record at {place}")
    if found.present != VERSION:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the tables of the record at {place} are of version "
            f"{found.present}, and this release's of {VERSION}: back it up with the release that "
            "serves it"
        )


def _read(connection: Connection, table: Table, *, is_ordered: bool) -> Iterator[list[Any]]:
    """Yield the rows of a table in parts that fit into memory."""
    query = select(table)
    if is_ordered:
        # So that the key of the new table is written from its beginning to its end.
        query = query.order_by(*table.primary_key.columns)
    size = _JOBS if table.name == "job" else _ROWS
    try:
        with connection.execute(query, execution_options={"yield_per": size}) as result:
            yield from (list(rows) for rows in result.partitions())
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        raise SettingsError(
            f"{table.name} cannot be read: {reason}; see what is wrong with: squash record check"
        ) from error


def _key(table: Table, row: Any) -> str:
    columns = list(table.columns)
    return "/".join(str(row[columns.index(column)]) for column in table.primary_key.columns)


def _plain(value: Any) -> Any:
    """Return what both databases give for what was stored."""
    if isinstance(value, float):
        # SQLite has no NaN, and one zero.
        return None if isnan(value) else value + 0.0
    return blake2b(value).digest() if isinstance(value, bytes) else value
