"""The group-commit writer: one thread that commits all waiting work in one transaction.

Whatever writes to the record goes through here, so that one fsync serves many requests and nobody
waits for SQLite's lock but this thread.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from squash_api.errors import RecordUnavailableError
from squash_api.record.database import by_statement, writing

MAX_GROUP = 256
"""Most pieces of work in one transaction: bounds what one failed commit touches."""

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
_Item_contra = TypeVar("_Item_contra", contravariant=True)
_Outcome_co = TypeVar("_Outcome_co", covariant=True)
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


class BatchWork(Protocol[_Item_contra, _Outcome_co]):
    """Work on several items in one go; an outcome that is an exception is raised to its caller.

    The items come in the order in which they were submitted, and so do the outcomes.
    """

    def __call__(
        self, connection: Connection, items: Sequence[_Item_contra], /
    ) -> "Sequence[_Outcome_co | Exception]":
        """Do the work on an open transaction, without ending it."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Shortened(Generic[_Item, _Outcome]):
    """Batch work that has a shorter way for what is usual.

    Parameters
    ----------
    whole
        Does the work, whatever the items are.
    short
        Does it by one statement that writes, on a connection that commits each by itself; or
        returns None, with nothing done. A `RecordUnavailableError` goes to every caller, and the
        work is not done again; for all else that it raises, nothing being done, `whole` decides.
    """

    whole: BatchWork[_Item, _Outcome]
    short: "Callable[[Connection, Sequence[_Item]], Sequence[_Outcome] | None]"

    def __call__(
        self, connection: Connection, items: Sequence[_Item], /
    ) -> "Sequence[_Outcome | Exception]":
        """Do the work on an open transaction, without ending it."""
        return self.whole(connection, items)


@dataclass(slots=True)
class _Waiting:
    work: Callable[[Connection, Sequence[Any]], Sequence[Any]]
    item: Any
    # Exactly one of the two: a blocked thread, or an event loop with its future.
    blocked: Future[Any] | None = None
    loop: asyncio.AbstractEventLoop | None = None
    awaited: asyncio.Future[Any] | None = None


class _TransactionLostError(Exception):
    """The database has ended the transaction by itself, as SQLite does when the disk is full."""


def _attempt(connection: Connection, work: Callable[[], _Result]) -> "_Result | Exception":
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
    except _TransactionLostError:
        raise
    except Exception as error:  # noqa: BLE001  the caller gets it, whatever it is
        try:
            savepoint.rollback()
        except SQLAlchemyError:
            raise _TransactionLostError(str(error)) from error
        return error
    return result


def _each(connection: Connection, items: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    """Run single pieces of work, each in its own savepoint."""
    return [_attempt(connection, partial(item, connection)) for item in items]


class Writer:
    """Owns the writing connection. Work raises to its caller alone; the others are committed.

    Parameters
    ----------
    engine
        The record.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="record-writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do the work in the writer's thread and return once it is committed."""
        waiting = _Waiting(_each, work, blocked=Future())
        self._put(waiting)
        assert waiting.blocked is not None  # noqa: S101  for mypy
        result: _Result = waiting.blocked.result()
        return result

    async def run_batched(self, work: BatchWork[_Item, _Outcome], item: _Item) -> _Outcome:
        """Do the work together with all equal work that waits, and return once it is committed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Outcome] = loop.create_future()
        self._put(_Waiting(work, item, loop=loop, awaited=future))
        return await future

    def close(self) -> None:
        """Commit what waits, then end the thread."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _put(self, waiting: _Waiting) -> None:
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

    def _commit(self, group: list[_Waiting]) -> list[Any]:
        """Return an outcome, or an exception, for each of the group."""
        by_work: dict[Shortened[Any, Any], list[int]] = {}
        for index, waiting in enumerate(group):
            if isinstance(waiting.work, Shortened):
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
        self, work: Shortened[Any, Any], items: Sequence[Any]
    ) -> Sequence[Any] | None:
        try:
            with by_statement(self._engine.connect()) as connection:
                found = work.short(connection, items)
                connection.commit()
                return found
        except RecordUnavailableError as error:
            _log.error("done, with no outcome", error=str(error), work=len(items), exc_info=error)
            return [RecordUnavailableError(error.message) for _ in items]
        except Exception as error:  # noqa: BLE001  the whole way decides about each item
            _log.warning("the short way failed", error=str(error), work=len(items), exc_info=error)
            return None

    def _commit_whole(self, group: list[_Waiting]) -> list[Any]:
        try:
            with self._engine.connect() as connection, writing(connection).begin():
                return _work_through(connection, group)
        except Exception as error:  # noqa: BLE001  reported to every caller, and the thread lives on
            _log.error("commit failed", error=str(error), work=len(group), exc_info=error)
            message = "The record cannot be written at the moment; nothing was stored. Try again."
            return [RecordUnavailableError(message) for _ in group]


def _work_through(connection: Connection, group: list[_Waiting]) -> list[Any]:
    outcomes: list[Any] = []
    start = 0
    while start < len(group):
        end = start + 1
        while end < len(group) and group[end].work is group[start].work:
            end += 1
        work, items = group[start].work, [waiting.item for waiting in group[start:end]]
        outcomes.extend(_work_batch(connection, work, items))
        start = end
    return outcomes


def _work_batch(
    connection: Connection,
    work: Callable[[Connection, Sequence[Any]], Sequence[Any]],
    items: Sequence[Any],
) -> Sequence[Any]:
    """Do one batch; if it fails as a whole, each item alone, so that one costs no other."""
    outcomes = _attempt(connection, lambda: work(connection, items))
    if not isinstance(outcomes, Exception):
        return outcomes
    if len(items) == 1:
        return [outcomes]
    return [_work_batch(connection, work, [item])[0] for item in items]


def _settle(group: list[_Waiting], outcomes: Sequence[Any]) -> None:
    """Hand out the outcomes; each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for waiting, outcome in zip(group, outcomes, strict=True):
        if waiting.blocked is not None:
            if isinstance(outcome, Exception):
                waiting.blocked.set_exception(outcome)
            else:
                waiting.blocked.set_result(outcome)
        elif waiting.loop is not None and waiting.awaited is not None:
            by_loop.setdefault(waiting.loop, []).append((waiting.awaited, outcome))
    for loop, pairs in by_loop.items():
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in pairs:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
