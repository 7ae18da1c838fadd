import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, select, text
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from squash_api.errors import RecordUnavailableError
from squash_api.record.database import open_database
from squash_api.record.state import get_state, set_state
from squash_api.record.tables import state
from squash_api.record.writer import MAX_GROUP, BatchWork, Shortened, Writer
from tests.support.builders import make_settings


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    """Rendering a traceback takes longer than all else here."""
    with capture_logs():
        yield


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(make_settings(tmp_path).database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    writer = Writer(engine)
    yield writer
    writer.close()


@contextmanager
def held(writer: Writer) -> Iterator[None]:
    """Keep the writer busy, so that what is submitted meanwhile goes into one group."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_connection: Connection) -> None:
        begun.set()
        assert go_on.wait(10)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(writer.run, wait)
        assert begun.wait(10)
        try:
            yield
        finally:
            go_on.set()
        first.result()


def submit(
    pool: ThreadPoolExecutor, writer: Writer, *works: Callable[[Connection], Any]
) -> list[Future[Any]]:
    """Submit work in this order, each from a thread of its own."""
    futures = []
    for work in works:
        size = writer._queue.qsize()
        futures.append(pool.submit(writer.run, work))
        while writer._queue.qsize() == size:
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
        return set(connection.execute(select(state.c.key)).scalars())


def count_commits(engine: Engine) -> list[Connection]:
    commits: list[Connection] = []
    event.listen(engine, "commit", commits.append)
    return commits


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


# One piece of work


def test_work_is_committed_when_the_call_returns(writer: Writer, engine: Engine) -> None:
    assert writer.run(put("one")) == "one"
    assert keys(engine) == {"one"}


def test_what_the_work_raises_is_raised_to_its_caller(writer: Writer) -> None:
    with pytest.raises(KeyError, match="no luck"):
        writer.run(fail)


def test_an_error_of_the_database_is_raised_to_the_caller(writer: Writer) -> None:
    with pytest.raises(IntegrityError):
        writer.run(clash)


def test_work_that_fails_half_way_is_undone(writer: Writer, engine: Engine) -> None:
    def half(connection: Connection) -> None:
        set_state(connection, "half", "x")
        raise KeyError

    with pytest.raises(KeyError):
        writer.run(half)
    assert keys(engine) == set()


# Groups


def test_waiting_work_is_committed_in_one_transaction(writer: Writer, engine: Engine) -> None:
    with ThreadPoolExecutor(20) as pool:
        with held(writer):
            commits = count_commits(engine)
            futures = submit(pool, writer, *(put(f"k{number}") for number in range(20)))
        assert [future.result() for future in futures] == [f"k{number}" for number in range(20)]
    assert len(commits) == 2


def test_work_is_done_in_the_order_of_submission(writer: Writer, engine: Engine) -> None:
    with ThreadPoolExecutor(9) as pool, held(writer):
        submit(pool, writer, *(put("k", str(number)) for number in range(9)))
    with engine.connect() as connection:
        assert get_state(connection, "k") == "8"


@pytest.mark.parametrize("bad", [fail, clash])
def test_one_failing_piece_of_work_costs_no_other(
    writer: Writer, engine: Engine, bad: Callable[[Connection], Any]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        with held(writer):
            first, failing, last = submit(pool, writer, put("a"), bad, put("b"))
        assert (first.result(), last.result()) == ("a", "b")
        assert isinstance(failing.exception(), KeyError | IntegrityError)
    assert keys(engine) == {"a", "b"}


async def test_a_group_has_a_largest_size(writer: Writer, engine: Engine) -> None:
    with held(writer):
        commits = count_commits(engine)
        items = [f"k{number}" for number in range(MAX_GROUP + 1)]
        tasks = [asyncio.create_task(writer.run_batched(put_all, item)) for item in items]
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == [item.upper() for item in items]
    assert len(commits) == 3


# Work in batches


async def test_equal_work_that_waits_is_done_in_one_go(writer: Writer, engine: Engine) -> None:
    with held(writer):
        tasks = [asyncio.create_task(writer.run_batched(put_all, item)) for item in "abc"]
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    with engine.connect() as connection:
        assert [get_state(connection, item) for item in "abc"] == ["3", "3", "3"]


async def test_an_outcome_that_is_an_error_is_raised_to_its_caller_alone(writer: Writer) -> None:
    with held(writer):
        tasks = [asyncio.create_task(writer.run_batched(put_all, item)) for item in ("a", "bad")]
        await asyncio.sleep(0)
    good, bad = await asyncio.gather(*tasks, return_exceptions=True)
    assert good == "A"
    assert isinstance(bad, KeyError)


@pytest.mark.parametrize("breaking", ["!", "?"])
async def test_an_item_that_breaks_its_batch_costs_no_other(
    writer: Writer, engine: Engine, breaking: str
) -> None:
    with held(writer):
        items = ["a", breaking, "b"]
        tasks = [asyncio.create_task(writer.run_batched(put_all, item)) for item in items]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == ["A", "B"]
    assert isinstance(outcomes[1], ValueError | IntegrityError)
    assert keys(engine) == {"a", "b"}


async def test_a_caller_that_goes_away_does_not_undo_the_commit(
    writer: Writer, engine: Engine
) -> None:
    with held(writer):
        task = asyncio.create_task(writer.run_batched(put_all, "a"))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await writer.run_batched(put_all, "b")
    assert keys(engine) == {"a", "b"}


def test_a_loop_that_is_closed_meanwhile_does_not_stop_the_writer(
    writer: Writer, engine: Engine
) -> None:
    with held(writer):
        loop = asyncio.new_event_loop()
        task = loop.create_task(writer.run_batched(put_all, "a"))
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    writer.run(put("b"))
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


PUT = Shortened(whole=put_all, short=put_short)


def value_of(engine: Engine, key: str) -> str | None:
    with engine.connect() as connection:
        return get_state(connection, key)


async def test_what_is_usual_goes_the_short_way(writer: Writer, engine: Engine) -> None:
    with held(writer):
        tasks = [asyncio.create_task(writer.run_batched(PUT, item)) for item in "abc"]
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert [value_of(engine, item) for item in "abc"] == ["short"] * 3


@pytest.mark.parametrize("unusual", ["long", "!"])
async def test_a_batch_that_cannot_go_the_short_way_goes_the_whole(
    writer: Writer, engine: Engine, unusual: str
) -> None:
    with held(writer):
        items = ["a", unusual, "b"]
        tasks = [asyncio.create_task(writer.run_batched(PUT, item)) for item in items]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == ["A", "B"]
    assert value_of(engine, "a") != "short"


async def test_what_was_done_the_short_way_is_not_done_again(
    writer: Writer, engine: Engine
) -> None:
    with held(writer):
        tasks = [asyncio.create_task(writer.run_batched(PUT, item)) for item in ("a", "torn")]
        await asyncio.sleep(0)
    one, other = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(one, RecordUnavailableError)
    assert isinstance(other, RecordUnavailableError)
    assert one is not other
    assert value_of(engine, "a") == "short"


async def test_what_waits_beside_the_short_way_is_done_too(writer: Writer, engine: Engine) -> None:
    with ThreadPoolExecutor(2) as pool:
        with held(writer):
            (before,) = submit(pool, writer, put("before"))
            task = asyncio.create_task(writer.run_batched(PUT, "a"))
            await asyncio.sleep(0)
            (failing,) = submit(pool, writer, fail)
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
    writer: Writer, engine: Engine
) -> None:
    with ThreadPoolExecutor(3) as pool, refusing_commits(engine, after=1):
        with held(writer):
            futures = submit(pool, writer, put("a"), put("b"), fail)
        errors = [future.exception() for future in futures]
    assert all(isinstance(error, RecordUnavailableError) for error in errors)
    assert keys(engine) == set()


def test_the_writer_lives_on_after_a_failing_commit(writer: Writer, engine: Engine) -> None:
    with refusing_commits(engine), pytest.raises(RecordUnavailableError):
        writer.run(put("a"))
    writer.run(put("b"))
    assert keys(engine) == {"b"}


def test_each_caller_gets_an_error_of_its_own(writer: Writer, engine: Engine) -> None:
    with ThreadPoolExecutor(2) as pool, refusing_commits(engine):
        futures = [pool.submit(writer.run, put(key)) for key in "ab"]
        one, other = [future.exception() for future in futures]
    assert one is not other


@pytest.fixture
def full_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose file has room for a few pages more."""
    engine = open_database(make_settings(tmp_path).database_url)
    with engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    engine.dispose()

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")

    event.listen(engine, "connect", limit)
    yield engine
    engine.dispose()


def test_a_full_disk_is_reported_to_the_whole_group(full_engine: Engine) -> None:
    """SQLite ends the transaction by itself then: what was done before in it is gone too."""
    writer = Writer(full_engine)
    with ThreadPoolExecutor(3) as pool:
        with held(writer):
            futures = submit(pool, writer, put("a"), put("b", "x" * 100_000), put("c"))
        errors = [future.exception() for future in futures]
    writer.close()
    assert keys(full_engine) == set()
    assert all(isinstance(error, RecordUnavailableError) for error in errors)


@pytest.mark.parametrize("work", [put_all, PUT])
async def test_a_full_disk_is_reported_to_the_whole_batch(
    full_engine: Engine, work: BatchWork[str, str]
) -> None:
    writer = Writer(full_engine)
    with held(writer):
        items = ["a", "x" * 100_000, "c"]
        tasks = [asyncio.create_task(writer.run_batched(work, item)) for item in items]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    writer.close()
    assert keys(full_engine) == set()
    assert all(isinstance(outcome, RecordUnavailableError) for outcome in outcomes)


def test_the_writer_lives_on_after_the_disk_was_full(full_engine: Engine) -> None:
    writer = Writer(full_engine)
    with pytest.raises(RecordUnavailableError):
        writer.run(put("a", "x" * 100_000))
    writer.run(put("b"))
    writer.close()
    assert keys(full_engine) == {"b"}


# The end


def test_close_commits_what_waits(engine: Engine) -> None:
    writer = Writer(engine)
    with ThreadPoolExecutor(4) as pool:
        with held(writer):
            futures = submit(pool, writer, put("a"), put("b"), put("c"))
            closing = pool.submit(writer.close)
        closing.result()
        assert [future.result() for future in futures] == ["a", "b", "c"]
    assert keys(engine) == {"a", "b", "c"}


def test_closing_twice_is_harmless(engine: Engine) -> None:
    writer = Writer(engine)
    writer.close()
    writer.close()
    assert not writer._thread.is_alive()


def test_after_closing_work_is_refused(engine: Engine) -> None:
    writer = Writer(engine)
    writer.close()
    with pytest.raises(RecordUnavailableError, match="stopping"):
        writer.run(put("a"))
