"""The record as one object: many readers, and one thread that writes.

The writer commits all waiting work in one transaction, so that one fsync serves many requests and
only this thread waits for the database's lock.
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    DBAPIError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from squash_api.errors import (
    OnlyReadsError,
    RecordUnavailableError,
    SettingsError,
    sentence,
)
from squash_api.logs import Seldom, words_of
from squash_api.record.database import (
    PATIENCE_S,
    by_statement,
    file_of,
    news_of,
    open_database,
    replication_of,
    require_tables,
    transact,
    writing,
)
from squash_api.record.engines.postgresql import Replication
from squash_api.record.faults import (
    DAMAGED,
    LOCKED,
    NOT_WRITTEN,
    TransactionLostError,
    faults_as_unavailable,
    is_fault,
    is_locked,
    log_failure,
    lost,
    reason_of,
    unavailable,
)
from squash_api.record.jobs import newest_received_ns
from squash_api.record.tables import state

Connection = sqlalchemy.Connection
"""What the record is read and written through. Other packages only pass it on."""

MAX_GROUP = 256
"""Most pieces of work in one transaction, and so the most that a failed commit affects."""

# What `require_writable` writes: little while all is well; after a failure as much as a job, since
# a full disk may have room for a little.
_PROBE = "probe"
_PROBE_BYTES = 100_000
# Whoever asks more often than this must not cost a write each time.
_FRESH_S = 1.0
_DAY_NS = 86_400 * 10**9
_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
_Item_contra = TypeVar("_Item_contra", contravariant=True)
_Outcome_co = TypeVar("_Outcome_co", covariant=True)
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


class BatchWork(Protocol[_Item_contra, _Outcome_co]):
    """Work on several items at once: the short way for what is usual, or the whole way.

    Items and outcomes are in the order in which the items were submitted.
    """

    def short(
        self, connection: Connection, items: Sequence[_Item_contra], /
    ) -> "Sequence[_Outcome_co] | None":
        """Do the work by one writing statement, on a connection that commits each statement.

        If it returns None it has done nothing, and `whole` does the work; likewise if it raises,
        except for a `RecordUnavailableError`, which every caller gets: the work is not done again.
        """

    def whole(
        self, connection: Connection, items: Sequence[_Item_contra], /
    ) -> "Sequence[_Outcome_co | Exception]":
        """Do the work, whatever the items are, in an open transaction, without ending it.

        An outcome that is an exception is raised in its caller.
        """

    def last_ids(self, outcomes: Sequence[Any], /) -> Mapping[str, int]:
        """Return the last ids of tables that the outcomes tell clients of."""


class Record:
    """An open record, on an engine from `open_database`. Safe to use from many threads.

    Reading and writing raise `RecordUnavailableError` if the database fails, or all connections are
    busy for too long. For another process that writes, writing waits a few seconds, or `patience_s`
    if that is longer. With `only_reads`, which is what to tell those who write, it is only read.
    """

    def __init__(
        self, engine: Engine, *, patience_s: float = 0.0, only_reads: str | None = None
    ) -> None:
        self.only_reads = only_reads
        """Why this is only read, as a sentence for those who write; None if it can be written."""

        self._followed: tuple[float, Replication | None] = (float("-inf"), None)

        self._engine = engine
        self._writing = writing(engine, patience_s=patience_s)
        self._by_statement = by_statement(engine)
        self.file = file_of(engine)
        """The file of the record, if it is one."""

        self.news = news_of(engine)
        """What tells of jobs that other processes store, if the database does."""

        self._damage: str | None = None
        self._seldom = Seldom()
        # Another process may have set `trouble`, which is then its business.
        self._has_failed = False
        self._ids: dict[str, int] = {}
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self.trouble: str | None = None
        """Why the record cannot be written; None if it can, as far as is known."""

        self._written = float("-inf")
        self._clock = threading.Lock()
        self._latest_ns: int | None = None
        self._writer = threading.Thread(target=self._run, name="record-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        is_checked: bool = False,
        patience_s: float = PATIENCE_S,
        is_read_only: bool = False,
        write_url: str | None = None,
    ) -> Self:
        """Open the record at an SQLAlchemy URL, as `open_database` does.

        It is only read if it is a replica, or `is_read_only`; `write_url` is where to write then.
        """
        engine = open_database(url, is_checked=is_checked, only_reads=is_read_only)
        only_reads = None
        if is_read_only or replication_of(engine) is not None:
            why = "SQUASH_READ_ONLY is on" if is_read_only else "its record is a replica"
            place = write_url or "the service of the primary (SQUASH_WRITE_URL does not name it)"
            only_reads = f"This service only reads: {why}. Write to {place}."
        return cls(engine, patience_s=patience_s, only_reads=only_reads)

    def replication(self) -> Replication | None:
        """Return how a replica follows the record that it is a copy of; None if it is none.

        Every page asks, so what was found is good for a second.

        Raises
        ------
        RecordUnavailableError
            If the database cannot be asked, or the tables are no longer those of this release.
        """
        asked_s, found = self._followed
        if time.monotonic() - asked_s < _FRESH_S:
            return found
        try:
            if self.only_reads is not None:
                require_tables(self._engine)
            found = replication_of(self._engine)
        except SettingsError as error:
            raise RecordUnavailableError(sentence(error.message), reason=error.message) from None
        except (DBAPIError, PoolTimeoutError) as error:
            reason = reason_of(error)
            raise RecordUnavailableError(f"{reason}. Try again.", reason=reason) from error
        self._followed = time.monotonic(), found
        return found

    def require_written_here(self) -> None:
        """Raise `OnlyReadsError` if this is only read."""
        if self.only_reads is not None:
            raise OnlyReadsError(self.only_reads, reason=self.only_reads.rstrip("."))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection that sees one state of the record."""
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except (DBAPIError, PoolTimeoutError) as error:
            self._look_at(error)
            found = reason_of(error)
            reason = None if found == NOT_WRITTEN else found
            message = f"{reason or 'The record cannot be read at the moment'}. Try again."
            raise RecordUnavailableError(message, reason=reason) from error

    def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do the work in the writer's transaction; return once it is committed and on the disk.

        If the work raises, it is undone and the error is raised here; other work is not affected.
        """
        blocked: Future[_Result] = Future()
        self._put(_Waiting(None, work, blocked))
        with faults_as_unavailable(self._seldom):
            return blocked.result()

    async def write_batched(self, work: BatchWork[_Item, _Outcome], item: _Item) -> _Outcome:
        """Do the work for all waiting items together; return once it is committed."""
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[_Outcome] = loop.create_future()
        self._put(_Waiting(work, item, awaited, loop))
        with faults_as_unavailable(self._seldom):
            return await awaited

    @contextmanager
    def patient(self, patience_s: float) -> Iterator[None]:
        """Wait longer for other processes that write, within this block."""
        before = self._writing
        self._writing = writing(self._engine, patience_s=patience_s)
        try:
            yield
        finally:
            self._writing = before

    def require_writable(self) -> None:
        """Write a little, to see whether a job could be written, unless one just was.

        Raises
        ------
        RecordUnavailableError
            If not, with the reason.
        """
        trouble = self.trouble
        if trouble is None and time.monotonic() - self._written < _FRESH_S:
            return
        if trouble is not None and trouble in {LOCKED, self._damage}:
            # It takes long, or is of no use; the writer itself looks once a second.
            raise RecordUnavailableError(f"{trouble}. Try again.", reason=trouble)
        self.write(partial(_write_probe, _PROBE_BYTES if trouble else 0))
        self.trouble = None

    def now_ns(self) -> int:
        """Return the time, in ns since 1970 UTC, at which something is received: each is later.

        While the clock is behind what it was before, by less than a day, the times go on from
        there. If it was more than a day ahead, it was wrong, and is believed now. Each process
        begins with the time of the newest job.
        """
        with self._clock:
            if self._latest_ns is None:
                with suppress(RecordUnavailableError), self.read() as connection:
                    self._latest_ns = newest_received_ns(connection)
            now_ns, latest_ns = time.time_ns(), self._latest_ns or 0
            if now_ns <= latest_ns < now_ns + _DAY_NS:
                now_ns = latest_ns + 1
            elif now_ns <= latest_ns:
                words = "the clock was ahead by more than a day"
                _log.warning(words, ahead_ns=latest_ns - now_ns, runbook="clock")
            self._latest_ns = now_ns
            return now_ns

    def pool(self) -> tuple[int, int]:
        """Return how many connections to the database are in use, and how many there may be."""
        pool: Any = self._engine.pool
        return pool.checkedout(), pool.size() + max(pool._max_overflow, 0)  # noqa: SLF001  no method tells

    def close(self) -> None:
        """Commit the waiting work and close the connections."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._writer.join()
        if self.file is not None and self._damage is None and self.only_reads is None:
            self.file.complete(self._engine)
        self._engine.dispose()
        if self.file is not None:
            self.file.close()

    def _put(self, waiting: "_Waiting") -> None:
        self.require_written_here()
        with self._closing:
            if self._closed:
                raise RecordUnavailableError("The service is stopping; send this again.")
            self._queue.put(waiting)

    def _run(self) -> None:
        is_open = True
        while is_open:
            try:
                entry = self._queue.get(timeout=_FRESH_S)
            except queue.Empty:
                self._look()
                continue
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

    def _look(self) -> None:
        """See whether the record is still there; and, if it could not be written, whether it can.

        Once it is gone or damaged, nothing more is written until somebody has looked at it.
        """
        if self._is_lost():
            self.trouble = self._damage
        elif self._has_failed:
            probe = _Waiting(None, partial(_write_probe, _PROBE_BYTES), Future())
            (outcome,) = self._commit([probe])
            self._has_failed = is_fault(outcome)
            self.trouble = reason_of(outcome) if self._has_failed else None

    @property
    def is_damaged(self) -> bool:
        """Whether damage has been met, so that nothing more is written."""
        return self._damage is not None

    def note_damage(self, words: str) -> None:
        """Write nothing more: somebody has met damage, perhaps another process that reads."""
        if not self._is_lost():
            self._damage = self.trouble = DAMAGED
            said = "the record is damaged: nothing more is written"
            _log.error(said, error=words, runbook="record-damaged")

    def _look_at(self, error: Exception) -> None:
        if reason_of(error) == DAMAGED:
            self.note_damage(words_of(error))

    def _is_lost(self) -> bool:
        if self._damage is None and self.file is not None:
            self._lose(self.file.problem())
        return self._damage is not None

    def _lose(self, problem: str | None) -> None:
        if problem is not None and self._damage is None:
            self._damage = problem
            _log.error("nothing more is written", reason=problem, runbook="record-gone")

    def _commit(self, group: "list[_Waiting]") -> list[Any]:
        """Return an outcome or an exception for each of the group."""
        if self._is_lost():
            self.trouble = self._damage
            return [unavailable(RecordUnavailableError("", reason=self._damage)) for _ in group]
        outcomes = self._commit_works(group)
        if self.file is not None:
            # Before anybody is answered.
            self._lose(self.file.note(self._ids))
        faults = [outcome for outcome in outcomes if is_fault(outcome)]
        if faults:
            self._has_failed = True
            self.trouble = reason_of(faults[0])
            self._look_at(faults[0])
        elif self._damage is not None:
            # What has been written is perhaps in a file without a name.
            self.trouble = self._damage
            return [lost(self._damage) for _ in group]
        else:
            self._written = time.monotonic()
            # A few bytes may be written where a job cannot.
            is_large = any(waiting.work is not None for waiting in group)
            if is_large and self.trouble is not None:
                self.trouble = None
                self._seldom.over()
        return outcomes

    def _commit_works(self, group: "list[_Waiting]") -> list[Any]:
        self._ids = {}
        by_work: dict[BatchWork[Any, Any], list[int]] = {}
        for index, waiting in enumerate(group):
            if waiting.work is not None:
                by_work.setdefault(waiting.work, []).append(index)
        outcomes: dict[int, Any] = {}
        for work, places in by_work.items():
            usual = self._commit_short(work, [group[index].item for index in places])
            if usual is not None:
                outcomes.update(zip(places, usual, strict=True))
                self._ids |= work.last_ids(usual)
        left = [index for index in range(len(group)) if index not in outcomes]
        locked = next((item for item in outcomes.values() if is_locked(item)), None)
        if left and locked is not None:
            outcomes.update((index, unavailable(locked)) for index in left)
        elif left:
            others = self._commit_whole([group[index] for index in left])
            outcomes.update(zip(left, others, strict=True))
        return [outcomes[index] for index in range(len(group))]

    def _commit_short(
        self, work: BatchWork[Any, Any], items: Sequence[Any]
    ) -> Sequence[Any] | None:
        try:
            return transact(self._by_statement, work.short, items)
        except RecordUnavailableError as error:
            _log.error(
                "done, outcome unknown",
                error=words_of(error),
                work=len(items),
                exc_info=error,
            )
            return [RecordUnavailableError(error.message) for _ in items]
        except Exception as error:  # noqa: BLE001  the whole way decides about each item
            log_failure(self._seldom, _log.warning, "the short way failed", error, work=len(items))
            # The whole way would wait as long again.
            return [unavailable(error) for _ in items] if is_locked(error) else None

    def _commit_whole(self, group: "list[_Waiting]") -> list[Any]:
        try:
            outcomes, ids = transact(self._writing, self._work_whole, group)
        except RecordUnavailableError as error:
            _log.error("done, outcome unknown", error=words_of(error), work=len(group))
            return [RecordUnavailableError(error.message) for _ in group]
        except Exception as error:  # noqa: BLE001  reported to every caller, and the thread lives on
            log_failure(self._seldom, _log.error, "commit failed", error, work=len(group))
            return [unavailable(error) for _ in group]
        self._ids |= ids
        return outcomes

    def _work_whole(
        self, connection: Connection, group: "list[_Waiting]"
    ) -> tuple[list[Any], dict[str, int]]:
        outcomes = _work_through(connection, group)
        return outcomes, {} if self.file is None else self.file.last_ids(connection)


def _write_probe(size: int, connection: Connection) -> None:
    # What a database cannot compress away.
    set_state(connection, _PROBE, f"{time.time_ns()}{os.urandom(size // 2).hex()}")


def get_state(connection: Connection, key: str) -> str | None:
    """Return a fact about the record as a whole, or None if it was never set."""
    return connection.execute(select(state.c.value).where(state.c.key == key)).scalar_one_or_none()


def set_state(connection: Connection, key: str, value: str) -> None:
    """Set or replace a fact about the record as a whole."""
    connection.execute(delete(state).where(state.c.key == key))
    connection.execute(insert(state).values(key=key, value=value))


@dataclass(slots=True)
class _Waiting:
    """An item of batch work, or separate work, that a thread or an event loop waits for."""

    work: BatchWork[Any, Any] | None
    item: Any
    future: "Future[Any] | asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop | None = None


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
    """Do one batch; if it fails, do each item separately, so that one does not affect another."""
    outcomes = _attempt(connection, partial(work.whole, connection, items))
    if not isinstance(outcomes, Exception):
        return outcomes
    if len(items) == 1:
        return [outcomes]
    return [_work_batch(connection, work, [item])[0] for item in items]


def _attempt(connection: Connection, work: Callable[[], _Result]) -> _Result | Exception:
    """Do work in a savepoint; return its result, or undo it and return what it raised.

    Raises
    ------
    TransactionLostError
        If there is nothing left to undo, because the whole transaction is gone.
    """
    savepoint = connection.begin_nested()
    try:
        result = work()
        savepoint.commit()
    except Exception as error:  # noqa: BLE001  the caller gets it, whatever it is
        try:
            savepoint.rollback()
        except SQLAlchemyError:
            # Without the parameters of the statement, which are what somebody has sent.
            raise TransactionLostError(str(getattr(error, "orig", None) or error)) from error
        return error
    return result


def _settle(group: list[_Waiting], outcomes: Sequence[Any]) -> None:
    """Resolve the futures, waking each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any]]] = {}
    for waiting, outcome in zip(group, outcomes, strict=True):
        if waiting.loop is None:
            _resolve([(waiting.future, outcome)])
        else:
            by_loop.setdefault(waiting.loop, []).append((waiting.future, outcome))
    for loop, pairs in by_loop.items():
        # In a closed loop nobody waits any more.
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
