"""Events of jobs, for listeners in one event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from unittest.mock import patch

import pytest

from squash_api.delivery import events
from squash_api.delivery.background import Background
from squash_api.delivery.events import JobEvents
from squash_api.errors import BusyError
from squash_api.index.deriver import Deriver
from squash_api.record.jobs import JobEvent, bury_jobs
from squash_api.record.metrics import Metrics, note_metrics
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import make_body, measured, store_job


@pytest.fixture
def record(record: Record) -> Record:
    record.write(lambda connection: note_metrics(connection, {"p.a": "mmag", "p.b": "mmag"}))
    return record


@pytest.fixture
def job_events(record: Record) -> Iterator[JobEvents]:
    """Events whose rounds are done in a thread."""
    deriver = Deriver(record, Metrics(record, Schema()))
    job_events = JobEvents(record, deriver, poll_s=0.01, heartbeat_s=0.02)
    background = Background([job_events])
    background.start()
    yield job_events
    background.stop()


def add_job(record: Record, *names: str) -> int:
    return store_job(record, body=make_body(*(measured(name) for name in names)))


@asynccontextmanager
async def listening(
    job_events: JobEvents, after: int | None = None, address: str = ""
) -> AsyncIterator[AsyncIterator[JobEvent | None]]:
    """Listen, and return once it is certain that a job which comes now is told of."""
    async with aclosing(job_events.listen(after=after, address=address)) as heard:
        for _ in range(2 if after is None else 1):
            assert await anext(heard) is None
        yield heard


async def take(heard: AsyncIterator[JobEvent | None], count: int) -> list[JobEvent]:
    found: list[JobEvent] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            item = await anext(heard)
            if item is not None:
                found.append(item)
    return found


async def test_every_listener_hears_of_every_job_that_comes(
    record: Record, job_events: JobEvents
) -> None:
    add_job(record, "p.a")
    async with listening(job_events) as one, listening(job_events) as other:
        first = await asyncio.to_thread(add_job, record, "p.a", "p.b")
        second = await asyncio.to_thread(add_job, record)
        expected = [JobEvent(first, 2), JobEvent(second, 0)]
        assert await take(one, 2) == expected
        assert await take(other, 2) == expected


async def test_the_first_job_of_all_is_told_of(record: Record, job_events: JobEvents) -> None:
    async with listening(job_events) as heard:
        job_id = await asyncio.to_thread(add_job, record, "p.a")
        assert await take(heard, 1) == [JobEvent(job_id, 1)]


async def test_who_comes_back_hears_of_missed_jobs_unless_they_are_deleted(
    record: Record, job_events: JobEvents
) -> None:
    ids = [add_job(record, "p.a") for _ in range(4)]
    record.write(lambda connection: bury_jobs(connection, [ids[2]], user_id=1, deleted_ns=3_000))
    async with listening(job_events, after=ids[0]) as heard:
        assert await take(heard, 2) == [JobEvent(ids[1], 1), JobEvent(ids[3], 1)]


@pytest.mark.parametrize(("most", "heard_of"), [(1000, 2), (1, 1)])
async def test_a_page_hears_of_what_came_since_it_was_asked_for(
    record: Record, job_events: JobEvents, most: int, heard_of: int
) -> None:
    now_ns = time.time_ns()
    times = [now_ns - 200 * 10**9, now_ns - 20 * 10**9, now_ns - 10 * 10**9]
    ids = [store_job(record, received_ns=time_ns) for time_ns in times]
    with patch.object(events, "MOST_MISSED", most):
        async with aclosing(job_events.listen(since_s=100)) as heard:
            found = await take(heard, heard_of)
    assert [item.job_id for item in found] == ids[-heard_of:]


async def test_who_comes_back_late_hears_of_the_newest_only(
    record: Record, job_events: JobEvents
) -> None:
    ids = [add_job(record, "p.a") for _ in range(5)]
    with patch.object(events, "MOST_MISSED", 2):
        async with listening(job_events, after=0) as heard:
            assert await take(heard, 2) == [JobEvent(ids[3], 1), JobEvent(ids[4], 1)]


async def test_a_slow_listener_is_told_of_what_is_still_remembered(
    record: Record, job_events: JobEvents
) -> None:
    with patch.object(events, "MOST_MISSED", 2):
        async with listening(job_events, after=0) as slow, listening(job_events) as quick:
            ids = []
            for _ in range(6):
                ids.append(await asyncio.to_thread(add_job, record, "p.a"))
                await take(quick, 1)
            assert await take(slow, 2) == [JobEvent(ids[4], 1), JobEvent(ids[5], 1)]


async def test_a_listener_hears_that_there_is_no_event(job_events: JobEvents) -> None:
    async with listening(job_events) as heard:
        assert [await anext(heard), await anext(heard)] == [None, None]


async def test_closing_lets_those_who_wait_go_and_those_who_come(
    job_events: JobEvents,
) -> None:
    async def hear() -> list[JobEvent | None]:
        return [item async for item in job_events.listen()]

    waiting = asyncio.create_task(hear())
    await asyncio.sleep(0.05)
    job_events.let_go()
    assert set(await asyncio.wait_for(waiting, 30)) == {None}
    assert await asyncio.wait_for(hear(), 30) == [None]


async def test_nothing_is_asked_unless_somebody_listens(job_events: JobEvents) -> None:
    asked: list[int] = []

    def newest(before_s: float = 0.0) -> int:
        asked.append(1)
        return JobEvents._newest(job_events, before_s)

    with patch.object(job_events, "_newest", newest):
        await asyncio.sleep(0.05)
        assert not asked
        async with listening(job_events):
            assert asked
        await asyncio.sleep(0.05)
        asked.clear()
        await asyncio.sleep(0.05)
        assert not asked


async def test_who_listens_after_all_others_left_hears_of_every_job(
    record: Record, job_events: JobEvents
) -> None:
    async with listening(job_events) as heard:
        job_id = await asyncio.to_thread(add_job, record, "p.a")
        assert await take(heard, 1) == [JobEvent(job_id, 1)]
    missed = await asyncio.to_thread(add_job, record, "p.a")
    async with listening(job_events, after=job_id) as heard:
        assert await take(heard, 1) == [JobEvent(missed, 1)]


async def test_there_is_room_for_a_bounded_number(job_events: JobEvents) -> None:
    with patch.object(events, "MOST_LISTENERS", 1):
        async with listening(job_events):
            with pytest.raises(BusyError):
                job_events.check_room()
        job_events.check_room()


async def test_there_is_room_for_a_bounded_number_of_one_address(job_events: JobEvents) -> None:
    with patch.object(events, "MOST_LISTENERS_OF_ONE", 1):
        async with listening(job_events, address="192.0.2.1"):
            job_events.check_room("192.0.2.2")
            with pytest.raises(BusyError):
                job_events.check_room("192.0.2.1")
        job_events.check_room("192.0.2.1")


async def test_a_record_that_fails_is_asked_again(
    record: Record, job_events: JobEvents, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([RuntimeError("away")])

    def newest() -> int:
        for failure in answers:
            raise failure
        return JobEvents._newest(job_events)

    with patch.object(job_events, "_newest", newest):
        add_job(record, "p.a")
        async with listening(job_events, after=0) as heard:
            assert await take(heard, 1) == [JobEvent(1, 1)]
    assert "it will be tried again" in capsys.readouterr().out
