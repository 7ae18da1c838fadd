"""The record as one object: many readers, and one thread that writes.

The writer commits all work that waits in one transaction, so that one fsync serves many requests
and nobody waits for the lock of the database but this thread.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Protocol, Self, TypeVar

import sqlalchemy
import structlog
from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from squash_api.errors import RecordUnavailableError
from squash_api.record.database import by_statement, open_database, writing
from squash_api.record.tables import state

Connection = sqlalchemy.Connection
"""What the record is read and written through. Who is neither `record` nor `index` passes it on."""

MAX_GROUP = 256
"""Most pieces of work in one transaction: bounds what one failed commit touches."""

_NOT_WRITTEN = "The record cannot be written at the moment; nothing was stored. Try again."
_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
_Item_contra = TypeVar("_Item_contra", contravariant=True)
_Outcome_co = TypeVar("_Outcome_co", covariant=True)
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


class BatchWork(Protocol[_Item_contra, _Outcome_co]):
    """Work on several items in one go, by a short way for what is usual or by the whole.

    The items come in the order in which they were submitted, and so do the outcomes.
    """

    def short(
        self, connection: Connection, items: Sequence[_Item_contra], /
    ) -> "Sequence[_Outcome_co] | None":
        """Do the work by one statement that writes, on a connection that commits each by itself.

        Or return None, with nothing done: then `whole` does it. So it is where this raises, but for
        a `RecordUnavailableError`, which goes to every caller: the work is not done again.
        """

    def whole(
        self, connection: Connection, items: Sequence[_Item_contra], /
    ) -> "Sequence[_Outcome_co | Exception]":
        """Do the work, whatever the items are, on an open transaction, without ending it.

        An outcome that is an exception is raised to its caller.
        """


class Record:
    """An open record. Safe to use from many threads.

    Parameters
    ----------
    engine
        The database, from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing = writing(engine)
        self._by_statement = by_statement(engine)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._run, name="record-writer", daemon=True)
        self._writer.start()

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
        blocked: Future[_Result] = Future()
        self._put(_Waiting(None, work, blocked))
        with _faults_as_unavailable():
            return blocked.result()

    async def write_batched(self, work: BatchWork[_Item, _Outcome], item: _Item) -> _Outcome:
        """Do the work together with equal work that waits; return once it is committed.

        Raises
        ------
        RecordUnavailableError
            If the database fails, or all connections are busy for too long.
        """
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[_Outcome] = loop.create_future()
        self._put(_Waiting(work, item, awaited, loop))
        with _faults_as_unavailable():
            return await awaited

    def close(self) -> None:
        """Commit what waits and close the connections."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._writer.join()
        self._engine.dispose()

    def _put(self, waiting: "_Waiting") -> None:
        with self._closing:
            if self._closed:
                raise RecordUnavailableError("The service is stopping; send this again.")
            self._queue.put(waiting)

    def _run(self) -> None:
        is_open = True
        while is_open:
            entry = self._queue.get()
            group: list[_Waiting] = []
            while entry is not None:
                group.append(entry)
                if len(group) >= MAX_GROUP:
                    break
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
            is_open = entry is not None
            if group:
                _settle(group, self._commit(group))

    def _commit(self, group: "list[_Waiting]") -> list[Any]:
        """Return an outcome, or an exception, for each of the group."""
        by_work: dict[BatchWork[Any, Any], list[int]] = {}
        for index, waiting in enumerate(group):
            if waiting.work is not None:
                by_work.setdefault(waiting.work, []).append(index)
        outcomes: dict[int, Any] = {}
        for work, places in by_work.items():
            usual = self._commit_short(work, [group[index].item for index in places])
            if usual is not None:
                outcomes.update(zip(places, usual, strict=True))
        left = [index for index in range(len(group)) if index not in outcomes]
        if left:
            others = self._commit_whole([group[index] for index in left])
            outcomes.update(zip(left, others, strict=True))
        return [outcomes[index] for index in range(len(group))]

    def _commit_short(
        self, work: BatchWork[Any, Any], items: Sequence[Any]
    ) -> Sequence[Any] | None:
        try:
            with self._by_statement.begin() as connection:
                return work.short(connection, items)
        except RecordUnavailableError as error:
            _log.error("done, with no outcome", error=str(error), work=len(items), exc_info=error)
            return [RecordUnavailableError(error.message) for _ in items]
        except Exception as error:  # noqa: BLE001  the whole way decides about each item
            _log.warning("the short way failed", error=str(error), work=len(items), exc_info=error)
            return None

    def _commit_whole(self, group: "list[_Waiting]") -> list[Any]:
        try:
            with self._writing.begin() as connection:
                return _work_through(connection, group)
        except Exception as error:  # noqa: BLE001  reported to every caller, and the thread lives on
            _log.error("commit failed", error=str(error), work=len(group), exc_info=error)
            return [RecordUnavailableError(_NOT_WRITTEN) for _ in group]


def get_state(connection: Connection, key: str) -> str | None:
    """Return a fact about the record as a whole, or None if it was never noted."""
    return connection.execute(select(state.c.value).where(state.c.key == key)).scalar_one_or_none()


def set_state(connection: Connection, key: str, value: str) -> None:
    """Note a fact about the record as a whole, in place of what was noted before."""
    connection.execute(delete(state).where(state.c.key == key))
    connection.execute(insert(state).values(key=key, value=value))


@dataclass(slots=True)
class _Waiting:
    """An item of batch work, or work of its own, and who waits for the outcome.

    That is a blocked thread, or an event loop.
    """

    work: BatchWork[Any, Any] | None
    item: Any
    future: "Future[Any] | asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop | None = None


class _TransactionLostError(Exception):
    """The database has ended the transaction by itself, as SQLite does when the disk is full."""


def _work_through(connection: Connection, group: list[_Waiting]) -> list[Any]:
    outcomes: list[Any] = []
    for work, waiting in groupby(group, key=lambda entry: entry.work):
        items = [entry.item for entry in waiting]
        if work is None:
            outcomes += [_attempt(connection, partial(item, connection)) for item in items]
        else:
            outcomes += _work_batch(connection, work, items)
    return outcomes


def _work_batch(
    connection: Connection, work: BatchWork[Any, Any], items: Sequence[Any]
) -> Sequence[Any]:
    """Do one batch; if it fails as a whole, each item alone, so that one costs no other."""
    outcomes = _attempt(connection, partial(work.whole, connection, items))
    if not isinstance(outcomes, Exception):
        return outcomes
    if len(items) == 1:
        return [outcomes]
    return [_work_batch(connection, work, [item])[0] for item in items]


def _attempt(connection: Connection, work: Callable[[], _Result]) -> _Result | Exception:
    """Do work in a savepoint; return its result, or what it raised, with all it did undone.

    Raises
    ------
    _TransactionLostError
        If there is nothing left to undo: what was done before in the transaction is gone too.
    """
    savepoint = connection.begin_nested()
    try:
        result = work()
        savepoint.commit()
    except Exception as error:  # noqa: BLE001  the caller gets it, whatever it is
        try:
            savepoint.rollback()
        except SQLAlchemyError:
            raise _TransactionLostError(str(error)) from error
        return error
    return result


def _settle(group: list[_Waiting], outcomes: Sequence[Any]) -> None:
    """Hand out the outcomes; each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any]]] = {}
    for waiting, outcome in zip(group, outcomes, strict=True):
        if waiting.loop is None:
            _resolve([(waiting.future, outcome)])
        else:
            by_loop.setdefault(waiting.loop, []).append((waiting.future, outcome))
    for loop, pairs in by_loop.items():
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: "list[tuple[Future[Any] | asyncio.Future[Any], Any]]") -> None:
    for future, outcome in pairs:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


@contextmanager
def _faults_as_unavailable() -> Iterator[None]:
    """Tell the faults of the database, such as a full disk, from those of the work."""
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise
    except (DBAPIError, PoolTimeoutError) as error:
        _log.error("write failed", error=str(error), exc_info=error)
        raise RecordUnavailableError(_NOT_WRITTEN) from error
