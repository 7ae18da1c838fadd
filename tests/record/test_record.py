import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, insert, select, text
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from structlog.testing import capture_logs

from squash_api.errors import RecordUnavailableError, SettingsError
from squash_api.record.record import MAX_GROUP, BatchWork, Record, get_state, set_state
from squash_api.record.tables import state
from tests.support.builders import open_new_database, open_record
from tests.support.site import wait_for


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    """Rendering a traceback takes longer than all else here."""
    with capture_logs():
        yield


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_new_database(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def record(engine: Engine) -> Iterator[Record]:
    record = Record(engine)
    yield record
    record.close()


@contextmanager
def held(record: Record) -> Iterator[None]:
    """Keep the writer busy, so that what is submitted meanwhile goes into one group."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_connection: Connection) -> None:
        begun.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(record.write, wait)
        assert begun.wait(60)
        try:
            yield
        finally:
            go_on.set()
        first.result()


def submit(
    pool: ThreadPoolExecutor, record: Record, *works: Callable[[Connection], Any]
) -> list[Future[Any]]:
    """Submit work in this order, each from a thread of its own."""
    futures = []
    for work in works:
        size = record._queue.qsize()
        futures.append(pool.submit(record.write, work))
        while record._queue.qsize() == size:
            pass
    return futures


def put(key: str, value: str = "x") -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        set_state(connection, key, value)
        return key

    return work


def fail(_connection: Connection) -> None:
    raise KeyError("no luck")


def clash(connection: Connection) -> None:
    connection.execute(insert(state), [{"key": "one", "value": ""}] * 2)


def keys(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        # Which tables there are stands there, too.
        return {*connection.execute(select(state.c.key)).scalars()} - {"tables"}


def count_commits(engine: Engine) -> list[Connection]:
    """Return a list that grows with every commit of the whole way."""
    commits: list[Connection] = []

    def note(connection: Connection) -> None:
        if connection.get_execution_options().get("squash_mode") == "write":
            commits.append(connection)

    event.listen(engine, "commit", note)
    return commits


@dataclass(frozen=True)
class Work:
    """Batch work made of two functions; without the second there is no short way."""

    do_whole: Callable[[Connection, Sequence[str]], Sequence[str | Exception]]
    do_short: Callable[[Connection, Sequence[str]], Sequence[str] | None] = lambda *_: None

    def short(self, connection: Connection, items: Sequence[str], /) -> Sequence[str] | None:
        return self.do_short(connection, items)

    def whole(self, connection: Connection, items: Sequence[str], /) -> Sequence[str | Exception]:
        return self.do_whole(connection, items)

    def last_ids(self, _outcomes: Sequence[Any], /) -> dict[str, int]:
        return {}


def put_all(connection: Connection, items: Sequence[str]) -> list[str | Exception]:
    """Batch work: an item `bad` has an error for outcome, one with `!` breaks the batch."""
    for item in items:
        if item.startswith("!"):
            raise ValueError(item)
        if item.startswith("?"):
            clash(connection)
        if item != "bad":
            set_state(connection, item, str(len(items)))
    return [KeyError(item) if item == "bad" else item.upper() for item in items]


PUT_ALL = Work(put_all)


# One piece of work


def test_work_is_committed_when_the_call_returns(record: Record, engine: Engine) -> None:
    assert record.write(put("one")) == "one"
    assert keys(engine) == {"one"}


def test_what_the_work_raises_is_raised_to_its_caller(record: Record) -> None:
    with pytest.raises(KeyError, match="no luck"):
        record.write(fail)


def test_an_error_of_the_database_is_raised_to_the_caller(record: Record) -> None:
    with pytest.raises(IntegrityError):
        record.write(clash)


def test_work_that_fails_half_way_is_undone(record: Record, engine: Engine) -> None:
    def half(connection: Connection) -> None:
        set_state(connection, "half", "x")
        raise KeyError

    with pytest.raises(KeyError):
        record.write(half)
    assert keys(engine) == set()


# Groups


def test_waiting_work_is_committed_in_one_transaction(record: Record, engine: Engine) -> None:
    with ThreadPoolExecutor(20) as pool:
        with held(record):
            commits = count_commits(engine)
            futures = submit(pool, record, *(put(f"k{number}") for number in range(20)))
        assert [future.result() for future in futures] == [f"k{number}" for number in range(20)]
    assert len(commits) == 2


def test_work_is_done_in_the_order_of_submission(record: Record, engine: Engine) -> None:
    with ThreadPoolExecutor(9) as pool, held(record):
        submit(pool, record, *(put("k", str(number)) for number in range(9)))
    with engine.connect() as connection:
        assert get_state(connection, "k") == "8"


@pytest.mark.parametrize("bad", [fail, clash])
def test_one_failing_piece_of_work_costs_no_other(
    record: Record, engine: Engine, bad: Callable[[Connection], Any]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        with held(record):
            first, failing, last = submit(pool, record, put("a"), bad, put("b"))
        assert (first.result(), last.result()) == ("a", "b")
        assert isinstance(failing.exception(), KeyError | IntegrityError)
    assert keys(engine) == {"a", "b"}


async def test_a_group_has_a_largest_size(record: Record, engine: Engine) -> None:
    with held(record):
        commits = count_commits(engine)
        items = [f"k{number}" for number in range(MAX_GROUP + 1)]
        tasks = [asyncio.create_task(record.write_batched(PUT_ALL, item)) for item in items]
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == [item.upper() for item in items]
    assert len(commits) == 3


# Work in batches


async def test_equal_work_that_waits_is_done_in_one_go(record: Record, engine: Engine) -> None:
    with held(record):
        tasks = [asyncio.create_task(record.write_batched(PUT_ALL, item)) for item in "abc"]
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    with engine.connect() as connection:
        assert [get_state(connection, item) for item in "abc"] == ["3", "3", "3"]


async def test_an_outcome_that_is_an_error_is_raised_to_its_caller_alone(record: Record) -> None:
    with held(record):
        tasks = [asyncio.create_task(record.write_batched(PUT_ALL, item)) for item in ("a", "bad")]
        await asyncio.sleep(0)
    good, bad = await asyncio.gather(*tasks, return_exceptions=True)
    assert good == "A"
    assert isinstance(bad, KeyError)


@pytest.mark.parametrize("breaking", ["!", "?"])
async def test_an_item_that_breaks_its_batch_costs_no_other(
    record: Record, engine: Engine, breaking: str
) -> None:
    with held(record):
        items = ["a", breaking, "b"]
        tasks = [asyncio.create_task(record.write_batched(PUT_ALL, item)) for item in items]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == ["A", "B"]
    assert isinstance(outcomes[1], ValueError | IntegrityError)
    assert keys(engine) == {"a", "b"}


async def test_a_caller_that_goes_away_does_not_undo_the_commit(
    record: Record, engine: Engine
) -> None:
    with held(record):
        task = asyncio.create_task(record.write_batched(PUT_ALL, "a"))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await record.write_batched(PUT_ALL, "b")
    assert keys(engine) == {"a", "b"}


def test_a_loop_that_is_closed_meanwhile_does_not_stop_the_writer(
    record: Record, engine: Engine
) -> None:
    with held(record):
        loop = asyncio.new_event_loop()
        task = loop.create_task(record.write_batched(PUT_ALL, "a"))
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    record.write(put("b"))
    assert keys(engine) == {"a", "b"}


# Batch work with a shorter way


def put_short(connection: Connection, items: Sequence[str]) -> list[str] | None:
    """Do by one statement what `put_all` does, unless an item is `long`, or `!`."""
    if "long" in items:
        return None
    rows = [{"key": item, "value": "short"} for item in items]
    connection.execute(insert(state).values(rows * 2 if "!" in items else rows))
    if "torn" in items:
        raise RecordUnavailableError("Who knows.")
    return [item.upper() for item in items]


PUT = Work(put_all, put_short)


def value_of(engine: Engine, key: str) -> str | None:
    with engine.connect() as connection:
        return get_state(connection, key)


async def test_what_is_usual_goes_the_short_way(record: Record, engine: Engine) -> None:
    with held(record):
        tasks = [asyncio.create_task(record.write_batched(PUT, item)) for item in "abc"]
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert [value_of(engine, item) for item in "abc"] == ["short"] * 3


@pytest.mark.parametrize("unusual", ["long", "!"])
async def test_a_batch_that_cannot_go_the_short_way_goes_the_whole(
    record: Record, engine: Engine, unusual: str
) -> None:
    with held(record):
        items = ["a", unusual, "b"]
        tasks = [asyncio.create_task(record.write_batched(PUT, item)) for item in items]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == ["A", "B"]
    assert value_of(engine, "a") != "short"


@pytest.mark.sqlite
async def test_what_was_done_the_short_way_is_not_done_again(
    record: Record, engine: Engine
) -> None:
    with held(record):
        tasks = [asyncio.create_task(record.write_batched(PUT, item)) for item in ("a", "torn")]
        await asyncio.sleep(0)
    one, other = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(one, RecordUnavailableError)
    assert isinstance(other, RecordUnavailableError)
    assert one is not other
    assert value_of(engine, "a") == "short"


async def test_what_waits_beside_the_short_way_is_done_too(record: Record, engine: Engine) -> None:
    with ThreadPoolExecutor(2) as pool:
        with held(record):
            (before,) = submit(pool, record, put("before"))
            task = asyncio.create_task(record.write_batched(PUT, "a"))
            await asyncio.sleep(0)
            (failing,) = submit(pool, record, fail)
        assert await task == "A"
        assert before.result() == "before"
        assert isinstance(failing.exception(), KeyError)
    assert keys(engine) == {"before", "a"}
    assert value_of(engine, "a") == "short"


# Failing commits


@contextmanager
def refusing_commits(engine: Engine, *, after: int = 0) -> Iterator[None]:
    """Let some commits pass and fail the others."""
    commits = count_commits(engine)

    def refuse(_connection: Connection) -> None:
        if len(commits) > after:
            raise OSError("the disk is on fire")

    event.listen(engine, "commit", refuse)
    try:
        yield
    finally:
        event.remove(engine, "commit", refuse)


def test_a_failing_commit_is_reported_to_everyone_and_nothing_is_stored(
    record: Record, engine: Engine
) -> None:
    with ThreadPoolExecutor(3) as pool, refusing_commits(engine, after=1):
        with held(record):
            futures = submit(pool, record, put("a"), put("b"), fail)
        errors = [future.exception() for future in futures]
    assert all(isinstance(error, RecordUnavailableError) for error in errors)
    assert keys(engine) == set()


def test_the_writer_lives_on_after_a_failing_commit(record: Record, engine: Engine) -> None:
    with refusing_commits(engine), pytest.raises(RecordUnavailableError):
        record.write(put("a"))
    record.write(put("b"))
    assert keys(engine) == {"b"}


def test_each_caller_gets_an_error_of_its_own(record: Record, engine: Engine) -> None:
    with ThreadPoolExecutor(2) as pool, refusing_commits(engine):
        futures = [pool.submit(record.write, put(key)) for key in "ab"]
        one, other = [future.exception() for future in futures]
    assert one is not other


@pytest.fixture
def full_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose file has room for a few pages more."""
    engine = open_new_database(tmp_path)
    with engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    engine.dispose()

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")

    event.listen(engine, "connect", limit)
    yield engine
    engine.dispose()


@pytest.mark.sqlite
def test_a_full_disk_is_reported_to_the_whole_group(full_engine: Engine) -> None:
    """SQLite ends the transaction by itself then: what was done before in it is gone too."""
    record = Record(full_engine)
    with ThreadPoolExecutor(3) as pool:
        with held(record):
            futures = submit(pool, record, put("a"), put("b", "x" * 100_000), put("c"))
        errors = [future.exception() for future in futures]
    record.close()
    assert keys(full_engine) == set()
    assert all(isinstance(error, RecordUnavailableError) for error in errors)


@pytest.mark.sqlite
def test_a_full_disk_is_named(full_engine: Engine) -> None:
    record = Record(full_engine)
    with pytest.raises(RecordUnavailableError, match="disk of the record is full"):
        record.write(put("b", "x" * 100_000))
    record.close()


@pytest.mark.sqlite
def test_a_full_disk_with_room_for_a_little_is_not_writable(full_engine: Engine) -> None:
    record = Record(full_engine)
    record.require_writable()
    with pytest.raises(RecordUnavailableError):
        record.write(put("b", "x" * 100_000))
    record.write(put("a"))
    with pytest.raises(RecordUnavailableError, match="disk of the record is full"):
        record.require_writable()
    record.close()


def test_a_record_is_writable_again_once_there_is_space(record: Record, engine: Engine) -> None:
    with refusing_commits(engine), pytest.raises(RecordUnavailableError):
        record.write(put("a"))
    record.require_writable()
    record.require_writable()


def test_work_that_fails_is_no_fault_of_the_record(record: Record) -> None:
    def work(_connection: Connection) -> None:
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        record.write(work)
    record.require_writable()


@pytest.mark.sqlite
@pytest.mark.parametrize("work", [PUT_ALL, PUT])
async def test_a_full_disk_is_reported_to_the_whole_batch(
    full_engine: Engine, work: BatchWork[str, str]
) -> None:
    record = Record(full_engine)
    with held(record):
        items = ["a", "x" * 100_000, "c"]
        tasks = [asyncio.create_task(record.write_batched(work, item)) for item in items]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    record.close()
    assert keys(full_engine) == set()
    assert all(isinstance(outcome, RecordUnavailableError) for outcome in outcomes)


@pytest.mark.sqlite
def test_the_writer_lives_on_after_the_disk_was_full(full_engine: Engine) -> None:
    record = Record(full_engine)
    with pytest.raises(RecordUnavailableError):
        record.write(put("a", "x" * 100_000))
    record.write(put("b"))
    record.close()
    assert keys(full_engine) == {"b"}


@pytest.mark.sqlite
def test_a_record_that_can_only_be_read_is_named_and_read(tmp_path: Path) -> None:
    engine = open_new_database(tmp_path)
    engine.dispose()
    # What SQLite says on a disk that has become read-only.
    event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA query_only = ON"))
    record = Record(engine)
    for attempt in (lambda: record.write(put("a")), record.require_writable):
        with pytest.raises(RecordUnavailableError, match="can only be read"):
            attempt()
    with record.read() as connection:
        assert get_state(connection, "a") is None
    record.close()


# Another process that writes


@contextmanager
def locked(tmp_path: Path) -> Iterator[None]:
    """Hold the lock of the record, as another process that writes does."""
    with closing(sqlite3.connect(tmp_path / "squash.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


@pytest.mark.sqlite
async def test_who_writes_is_told_soon_that_another_process_does(
    record: Record, engine: Engine, tmp_path: Path
) -> None:
    waits: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        waits.extend(["a lock"] * (statement == "BEGIN IMMEDIATE"))

    with locked(tmp_path), ThreadPoolExecutor(2) as pool:
        first = pool.submit(record.write, put("a"))
        await asyncio.sleep(0.1)
        # These wait in one group for the writer, which waits for the lock.
        tasks = [asyncio.create_task(record.write_batched(PUT, item)) for item in "bc"]
        last = pool.submit(record.write, put("d"))
        outcomes: list[object] = list(await asyncio.gather(*tasks, return_exceptions=True))
        outcomes += [first.exception(), last.exception()]
        # Not four times one after the other.
        assert len(waits) < 4
    assert [str(outcome) for outcome in outcomes] == [
        "The record is locked by another process; nothing was stored. Try again."
    ] * 4


@pytest.mark.sqlite
def test_a_locked_record_is_known_not_to_be_writable_and_to_be_writable_again(
    record: Record, tmp_path: Path
) -> None:
    with locked(tmp_path):
        with pytest.raises(RecordUnavailableError):
            record.write(put("a"))
        waits = []
        for _ in range(10):
            begun = time.monotonic()
            with pytest.raises(RecordUnavailableError, match="locked by another process"):
                record.require_writable()
            waits.append(time.monotonic() - begun)
            time.sleep(0.1)
        # Now and then a machine stands still; who waits for the lock takes two seconds each time.
        assert median(waits) < 0.5
        with record.read() as connection:
            assert get_state(connection, "a") is None
    # Nobody else writes or asks: the writer finds out by itself.
    wait_for(lambda: record.trouble is None)
    record.require_writable()


@pytest.mark.sqlite
def test_a_command_has_more_patience(engine: Engine, tmp_path: Path) -> None:
    record = Record(engine, patience_s=30)
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path):
            waiting = pool.submit(record.write, put("a"))
            with pytest.raises(TimeoutError):
                waiting.result(3)
        assert waiting.result() == "a"
    record.close()


# Damage


def test_damage_that_a_reader_meets_ends_the_writing(record: Record, engine: Engine) -> None:
    malformed = sqlite3.DatabaseError("database disk image is malformed")
    with pytest.raises(RecordUnavailableError), record.read():
        raise DatabaseError("SELECT", None, malformed)
    for attempt in (record.require_writable, lambda: record.write(put("a"))):
        with pytest.raises(RecordUnavailableError, match="The record is damaged"):
            attempt()
    assert keys(engine) == set()


# The end


def test_close_commits_what_waits(engine: Engine) -> None:
    record = Record(engine)
    with ThreadPoolExecutor(4) as pool:
        with held(record):
            futures = submit(pool, record, put("a"), put("b"), put("c"))
            closing = pool.submit(record.close)
        closing.result()
        assert [future.result() for future in futures] == ["a", "b", "c"]
    assert keys(engine) == {"a", "b", "c"}


def test_closing_twice_is_harmless(engine: Engine) -> None:
    record = Record(engine)
    record.close()
    record.close()
    assert not record._writer.is_alive()


def test_after_closing_work_is_refused(engine: Engine) -> None:
    record = Record(engine)
    record.close()
    with pytest.raises(RecordUnavailableError, match="stopping"):
        record.write(put("a"))


# Opening and reading


def test_what_is_written_is_there_when_the_record_is_opened_again(tmp_path: Path) -> None:
    record = open_record(tmp_path)
    record.write(lambda connection: set_state(connection, "a", "b"))
    record.close()
    record = open_record(tmp_path)
    with record.read() as connection:
        assert get_state(connection, "a") == "b"
    record.close()


def test_a_record_that_cannot_be_opened_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError):
        Record.open("nonsense")


def test_a_database_that_fails_while_reading_is_unavailable(record: Record) -> None:
    with pytest.raises(RecordUnavailableError), record.read() as connection:
        connection.execute(text("SELECT * FROM no_such_table"))


def test_connections_that_are_all_busy_make_the_record_unavailable(record: Record) -> None:
    busy = PoolTimeoutError("QueuePool limit reached")
    with (
        patch.object(record._engine, "connect", side_effect=busy),
        pytest.raises(RecordUnavailableError),
        record.read(),
    ):
        pass


def test_an_error_of_the_reader_is_not_one_of_the_record(record: Record) -> None:
    with pytest.raises(KeyError), record.read():
        raise KeyError


# Facts about the record as a whole


def test_a_fact_that_was_never_noted_is_none(connection: Connection) -> None:
    assert get_state(connection, "a") is None


def test_a_noted_fact_is_found(connection: Connection) -> None:
    set_state(connection, "a", "1")
    set_state(connection, "b", "2")
    assert get_state(connection, "a") == "1"


def test_a_fact_is_replaced(connection: Connection) -> None:
    set_state(connection, "a", "1")
    set_state(connection, "a", "2")
    assert get_state(connection, "a") == "2"


# The time at which something is received


@given(st.lists(st.integers(min_value=-(10**12), max_value=10**12), min_size=2, max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_times_ascend_however_the_clock_is_set(record: Record, moves: list[int]) -> None:
    record._latest_ns = now_ns = 10**18
    given_ns = []
    for move in moves:
        now_ns += move
        with patch.object(time, "time_ns", return_value=now_ns):
            given_ns.append(record.now_ns())
    assert all(before < after for before, after in pairwise(given_ns))
