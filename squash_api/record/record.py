"""The record as one object: reading connections, and the writer that all writes go through."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

import sqlalchemy
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from squash_api.errors import RecordUnavailableError
from squash_api.record.database import open_database
from squash_api.record.writer import BatchWork, Writer

Connection = sqlalchemy.Connection
"""What the record is read and written through. Who is neither `record` nor `index` passes it on."""

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


class Record:
    """An open record. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = Writer(engine)

    @classmethod
    def open(cls, url: str, *, is_made: bool = True) -> Self:
        """Open the record at an SQLAlchemy URL and bring its tables to the present version.

        Parameters
        ----------
        is_made
            Whether a record that is not there is made: those who only read want none.

        Raises
        ------
        SettingsError
            If it cannot be opened or migrated.
        """
        return cls(open_database(url, is_made=is_made))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the record.

        Raises
        ------
        RecordUnavailableError
            If the database fails, or all connections are busy for too long.
        """
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except (DBAPIError, PoolTimeoutError) as error:
            raise RecordUnavailableError(
                "The record cannot be read at the moment. Try again."
            ) from error

    def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do the work in the writer's transaction; return once it is committed and on the disk.

        What the work raises is raised here, and undone; other work is not touched by it.

        Raises
        ------
        RecordUnavailableError
            If the database fails, or all connections are busy for too long.
        """
        with _faults_as_unavailable():
            return self._writer.run(work)

    async def write_batched(self, work: BatchWork[_Item, _Outcome], item: _Item) -> _Outcome:
        """Do the work together with equal work that waits; return once it is committed.

        Raises
        ------
        RecordUnavailableError
            If the database fails, or all connections are busy for too long.
        """
        with _faults_as_unavailable():
            return await self._writer.run_batched(work, item)

    def close(self) -> None:
        """Commit what waits and close the connections."""
        self._writer.close()
        self._engine.dispose()


@contextmanager
def _faults_as_unavailable() -> Iterator[None]:
    """Tell the faults of the database, such as a full disk, from those of the work."""
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise
    except (DBAPIError, PoolTimeoutError) as error:
        _log.error("write failed", error=str(error), exc_info=error)
        raise RecordUnavailableError(
            "The record cannot be written at the moment; nothing was stored. Try again."
        ) from error
