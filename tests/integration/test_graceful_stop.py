"""The service is told to stop while it has work: nothing is lost, and it ends in good order."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from squash_api.record.jobs import last_job_id, number_of_jobs
from tests.integration.conftest import MakeSite
from tests.support.builders import STORE, make_body, make_new_job, measured, open_record
from tests.support.faulty_proxy import Exchange, Fault, FaultyProxy, hang, pass_on
from tests.support.influxd import Influxd
from tests.support.raw_http import read_reply
from tests.support.reliability import note
from tests.support.site import Site, job_document, new_package, wait_for

JOBS = int(os.environ.get("SQUASH_TEST_QUEUED", "10000"))
# Ten for requests under way, and eight for an InfluxDB that does not answer.
LIMIT_S = 20
PACKAGE = new_package()


@dataclass
class Story:
    """A stop with a queue of jobs and one upload under way, and what came of them."""

    seconds: float
    log: str
    last_reply: tuple[int, Any]
    left: int
    stored: int
    last_id: int
    values: list[float]


@pytest.fixture(scope="module")
def story(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with (
        Influxd(tmp_path_factory.mktemp("influxd")) as server,
        FaultyProxy(server.url) as proxy,
    ):
        site = make_site(server, SQUASH_INFLUX_URL=proxy.url)
        yield tell(site, proxy)
        site.service.stop()


def hang_after(writes: int) -> Fault:
    """Let some writes of jobs through, then hang: the stop comes in the middle of the queue."""
    left = [writes]

    def fault(exchange: Exchange) -> None:
        left[0] -= b"squash_id=" in exchange.body
        (pass_on if left[0] >= 0 else hang)(exchange)

    return fault


def tell(site: Site, proxy: FaultyProxy) -> Story:
    proxy.fail(hang_after(2))
    site.service.stop()
    queue(site.service.folder)
    site.service.start()
    wait_for(lambda: waiting_jobs(site) < JOBS)
    began = time.monotonic()
    last_reply = stop_during_upload(site, json.dumps(job_document({f"{PACKAGE}.m": -1.0})))
    seconds = time.monotonic() - began
    log = site.service.log()
    proxy.mend()
    site.service.start()
    left, began = waiting_jobs(site), time.monotonic()
    wait_for(lambda: not waiting_jobs(site), timeout_s=600)
    drained_s = round(time.monotonic() - began, 1)
    stored, last_id = in_the_record(site.service.folder)
    values = sorted(site.values(f"{PACKAGE}.m"))
    lost, double = JOBS + 1 - len(set(values)), len(values) - len(set(values))
    note("drain", jobs=left, seconds=drained_s, lost=lost, double=double)
    return Story(seconds, log, last_reply, left, stored, last_id, values)


def queue(folder: Path) -> None:
    """Store jobs, as a service stores them while InfluxDB is away."""
    record = open_record(folder)
    now_ns = time.time_ns()
    jobs = [
        make_new_job(
            received_ns=now_ns,
            asked_ns=now_ns + number,
            body=make_body(measured(f"{PACKAGE}.m", float(number), "")),
            new_units={f"{PACKAGE}.m": ""} if number == 0 else {},
        )
        for number in range(JOBS)
    ]
    for start in range(0, JOBS, 1000):
        some = jobs[start : start + 1000]
        record.write(lambda connection, some=some: STORE.whole(connection, some))  # type: ignore[misc]
    record.close()


def in_the_record(folder: Path) -> tuple[int, int]:
    """Return how many jobs there are, and the last id; `/stats` would derive them all first."""
    record = open_record(folder)
    with record.read() as connection:
        found = number_of_jobs(connection), last_job_id(connection)
    record.close()
    return found


def waiting_jobs(site: Site) -> int:
    return int(site.get("/readyz")["targets"]["default"]["waiting"])


def stop_during_upload(site: Site, body: str) -> tuple[int, Any]:
    """Tell the service to stop when half of a job has been sent; return the answer to that job."""
    head = (
        f"POST /job HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: JWT {site.calls.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.service.port), timeout=60) as connection:
        connection.sendall((head + body[:50]).encode())
        # An answer over another connection says that the first one has been accepted, too.
        site.get("/healthz")
        stopping = threading.Thread(target=site.service.stop)
        stopping.start()
        wait_for(lambda: "Shutting down" in site.service.log())
        connection.sendall(body[50:].encode())
        reply = read_reply(connection)
        stopping.join()
    return reply.status, reply.json()


def test_the_service_ends_in_good_order(story: Story) -> None:
    assert "Application shutdown complete" in story.log
    assert '"level": "error"' not in story.log.partition("Shutting down")[2]


def test_an_upload_under_way_is_still_accepted(story: Story) -> None:
    assert story.last_reply[0] == 202


def test_it_ends_within_its_limit(story: Story) -> None:
    assert story.seconds < LIMIT_S
    assert story.left >= JOBS - 500


def test_every_job_is_in_the_record_afterwards(story: Story) -> None:
    assert (story.stored, story.last_id) == (JOBS + 1, story.last_reply[1]["id"])


def test_every_job_is_delivered_by_the_next_process(story: Story) -> None:
    assert story.values == [float(number) for number in range(-1, JOBS)]


def test_an_upload_that_never_ends_does_not_keep_the_service_from_stopping(site: Site) -> None:
    head = (
        f"POST /job HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: JWT {site.calls.token}\r\nContent-Length: 1000\r\n\r\n{{"
    )
    service = site.service
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(head.encode())
        site.get("/healthz")
        before = len(service.log())
        service.stop()
    assert "Application shutdown complete" in service.log()[before:]
    service.start()
