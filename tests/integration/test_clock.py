"""The clock is wrong, and is set right while the service runs."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from squash_api.record.record import Record
from squash_api.record.tables import job
from tests.support.builders import open_record
from tests.support.calls import log_in
from tests.support.in_process import service
from tests.support.site import job_document

HOUR_NS = 3600 * 10**9
Move = Callable[[int], None]


@pytest.fixture
def move(monkeypatch: pytest.MonkeyPatch) -> Move:
    """Set the clock on or back by so many ns; it runs on."""
    real, moved = time.time_ns, [0]
    monkeypatch.setattr(time, "time_ns", lambda: real() + moved[0])
    monkeypatch.setattr(time, "time", lambda: (real() + moved[0]) / 10**9)

    def move(by_ns: int) -> None:
        moved[0] += by_ns

    return move


def times(record: Record) -> list[tuple[int, int]]:
    with record.read() as connection:
        query = select(job.c.received_ns, job.c.time_ns).order_by(job.c.id)
        return [(row[0], row[1]) for row in connection.execute(query)]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_jobs_keep_their_order_when_the_clock_is_set_back(
    tmp_path: Path, move: Move, *, is_restarted: bool
) -> None:
    with ExitStack() as running:
        client = running.enter_context(service(tmp_path))
        for number in range(6):
            if number == 3:
                move(-HOUR_NS)
                if is_restarted:
                    running.close()
                    client = running.enter_context(service(tmp_path))
            post(client)
    record = open_record(tmp_path)
    found = times(record)
    record.close()
    assert all(before[0] < after[0] and before[1] < after[1] for before, after in pairwise(found))


def post(client: httpx.Client) -> None:
    reply = log_in(client, "ada")("POST", "/job", job_document({"p.a": 1.0}))
    assert reply.status_code == 202


def test_a_clock_that_was_wrong_by_years_is_believed_when_it_is_right(
    tmp_path: Path, move: Move
) -> None:
    with service(tmp_path) as client:
        post(client)
        move(10 * 8766 * HOUR_NS)
        post(client)
        move(-10 * 8766 * HOUR_NS)
        post(client)
    record = open_record(tmp_path)
    first, wrong, last = (received for received, _ in times(record))
    record.close()
    assert first < last < wrong
