"""Server-sent events of the real service; in this process replies are read whole."""

import time
from collections.abc import AsyncGenerator, Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from squash_api.record.jobs import JobEvent
from squash_api.routes.jobs import _event_lines
from tests.support.calls import Calls, log_in
from tests.support.service import Service
from tests.support.site import job_document, wait_for


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def calls(client: httpx.Client) -> Calls:
    untyped: Any = client
    return log_in(untyped, "ada")


def post(calls: Calls) -> int:
    reply = calls("POST", "/job", job_document({"p.a": 1.0, "p.b": 2.0}))
    return int(reply.json()["id"])


def read_events(lines: Iterator[str], count: int) -> list[list[str]]:
    found: list[list[str]] = []
    event: list[str] = []
    while len(found) < count:
        line = next(lines)
        if line and not line.startswith(":"):
            event.append(line)
        elif event:
            found.append(event)
            event = []
    return found


def test_a_job_is_told_of(client: httpx.Client, calls: Calls) -> None:
    with client.stream("GET", "/events") as reply:
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.headers["cache-control"] == "no-store"
        lines = reply.iter_lines()
        # Whoever has read this is told of every job from then on.
        assert next(lines).startswith(":")
        job_id = post(calls)
        event = [f"id: {job_id}", "event: job", f'data: {{"job":{job_id},"metrics":2}}']
        assert read_events(lines, 1) == [event]


@pytest.mark.parametrize("how", ["query", "header"])
def test_who_comes_back_is_told_of_the_jobs_since(
    client: httpx.Client, calls: Calls, how: str
) -> None:
    first, second = post(calls), post(calls)
    options: dict[str, Any] = (
        {"params": {"after": first}}
        if how == "query"
        else {"headers": {"Last-Event-ID": str(first)}}
    )
    with client.stream("GET", "/events", **options) as reply:
        (event,) = read_events(reply.iter_lines(), 1)
    assert event[0] == f"id: {second}"


@pytest.mark.parametrize("after", ["-1", "x", str(2**63)])
def test_what_is_no_id_is_refused(client: httpx.Client, after: str) -> None:
    assert client.get("/events", params={"after": after}).status_code == 422


@pytest.mark.parametrize("seconds", ["-1", "x", "inf", "nan"])
def test_what_is_no_time_is_refused(client: httpx.Client, seconds: str) -> None:
    assert client.get("/events", params={"since_s": seconds}).status_code == 422


def test_who_listens_does_not_keep_the_service_from_stopping(
    client: httpx.Client, service: Service
) -> None:
    before = len(service.log())
    with client.stream("GET", "/events") as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith(":")
        service.stop()
        assert [line for line in lines if line] == []
    log = service.log()[before:]
    assert "Application shutdown complete" in log
    assert "graceful shutdown exceeded" not in log
    service.start()
    wait_for(lambda: client.get("/healthz").is_success)


@pytest.mark.parametrize("path", ["/events", "/measurements?format=csv", "/", "/nothing"])
def test_head_ends_with_the_headers_and_keeps_the_connection(service: Service, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.request("HEAD", path)
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (404 if path == "/nothing" else 200, b"")
    socket = connection.sock
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    assert connection.sock is socket
    connection.close()


async def test_for_users_a_stream_ends_in_time_and_lets_go() -> None:
    is_closed = False

    async def found() -> AsyncGenerator[JobEvent | None]:
        nonlocal is_closed
        try:
            while True:
                yield None
        finally:
            is_closed = True

    lines = [line async for line in _event_lines(found(), until=time.monotonic() + 0.05)]
    assert set(lines) == {b": no news\n\n"}
    assert is_closed
