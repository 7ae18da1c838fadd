"""Where the record of a test is: in a file of SQLite, or in a database of PostgreSQL.

Tests that touch a record run on both: `record_engine`, a fixture of `tests/conftest.py`, chooses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import NullPool, create_engine

from tests.support.postgresql import PostgreSQL

SQLITE, POSTGRESQL = "sqlite", "postgresql"


class Databases:
    """The databases of a PostgreSQL, each of which belongs to a folder as long as that is in use.

    Making or removing one takes as long as many tests, so they are emptied and used again.
    """

    def __init__(self, server: PostgreSQL) -> None:
        self._server = server
        self._count = 0
        self._free: list[str] = []
        self._by_folder: dict[Path, str] = {}
        self._kept: set[Path] = set()
        self.is_keeping = False
        """Whether folders that are used for the first time now are in use until the end."""

    def url(self, folder: Path) -> str:
        """Return the address of the database of a folder, which has an empty record at first."""
        folder = folder.resolve()
        if folder not in self._by_folder:
            if not self._free:
                self._count += 1
                self._free.append(f"squash_{self._count}")
                self._server.create(self._free[0])
            self._by_folder[folder] = self._free.pop()
            if self.is_keeping:
                self._kept.add(folder)
        return self._server.url_of(self._by_folder[folder])

    def empty_url(self, name: str) -> str:
        """Return the address of a new database without tables."""
        self._server.create(name, template="template1")
        return self._server.url_of(name)

    def put(self, folder: Path, template: str) -> None:
        """Let the database of a folder be a copy of another one, which nobody is using."""
        name = self.name_of(folder)
        self._server.drop(name)
        self._server.create(name, template=template)

    def name_of(self, folder: Path) -> str:
        """Return the name of the database of a folder."""
        return self.url(folder).rpartition("/")[2]

    def take_back(self, above: Path | None = None) -> None:
        """Take back the databases of folders that are no longer in use: all, or those in one."""
        for folder in self._by_folder.keys() - self._kept:
            if above is None or folder.is_relative_to(above):
                name = self._by_folder.pop(folder)
                if self._server.empty(name):
                    self._free.append(name)
                else:
                    self._server.drop(name)

    def take_back_all(self) -> None:
        """Take back all databases, at the end."""
        self._kept.clear()
        self.take_back()


_databases: list[Databases] = []


def choose(databases: Databases | None) -> None:
    """Let records be in these databases from now on, or in files again."""
    for before in _databases:
        before.take_back_all()
    _databases[:] = [] if databases is None else [databases]


@contextmanager
def keeping() -> Iterator[None]:
    """Let the folders that are used for the first time meanwhile be in use until the end."""
    for databases in _databases:
        databases.is_keeping = True
    yield
    for databases in _databases:
        databases.is_keeping = False


def take_back(above: Path | None = None) -> None:
    """Take back the databases of folders that are no longer in use: all, or those in one."""
    for databases in _databases:
        databases.take_back(above)


def databases() -> Databases | None:
    """Return the databases that records are in; None if they are in files."""
    return _databases[0] if _databases else None


def record_url(folder: Path) -> str:
    """Return the URL of the record that belongs to a folder."""
    return _databases[0].url(folder) if _databases else f"sqlite:///{folder / 'squash.db'}"


@contextmanager
def passing_folder() -> Iterator[Path]:
    """Make a folder whose record is gone afterwards: for tests that make many, one by one."""
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        yield folder
        take_back(folder)


def in_record(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    """Execute a statement in the record of a folder, past the service; return its rows, if any."""
    database = create_engine(record_url(folder), poolclass=NullPool)
    with database.begin() as connection:
        found = connection.exec_driver_sql(statement)
        return [tuple(row) for row in found] if found.returns_rows else []


def refuse_inserts(folder: Path, *tables: str) -> None:
    """Let the database refuse new rows of these tables, with an error."""
    is_file = record_url(folder).startswith(SQLITE)
    if not is_file:
        raises = "AS $$BEGIN RAISE integrity_constraint_violation USING MESSAGE = 'refused'; END$$"
        in_record(folder, f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql {raises}")
    does = "BEGIN SELECT RAISE(ABORT, 'refused'); END" if is_file else "EXECUTE FUNCTION refuse()"
    for table in tables:
        in_record(folder, f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} {does}")
