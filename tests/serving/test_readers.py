"""Whoever reads is answered by another process, and whatever happens to it, jobs are accepted."""

import asyncio
import os
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import structlog

from squash_api.accounts.keys import make_key
from squash_api.routes.replies import REQUEST_ID
from squash_api.serving import readers, reading
from squash_api.serving.channels import pack, write
from tests.support.calls import Calls, log_in
from tests.support.raw_http import exchange
from tests.support.service import READING, Service
from tests.support.site import job_document, wait_for

PAGE = {"Accept": "text/html"}
READY = re.compile(r'"pid":(\d+),"event":"a process reads"')
# What does not differ from one request to the next.
PATHS = [
    "/jobs",
    "/job/1",
    "/status/1",
    "/measurements?metric=p.a",
    "/measurements?metric=p.a&format=csv",
    "/measurements?wrong=1",
    "/runs",
    "/report?last=1d",
    "/specs",
    "/nothing",
    "/job/%C3%A9",
    "/users",
]


def reading_pids(service: Service, *, count: int = 1) -> list[int]:
    """Return the ids of the reading processes of this run, once there are so many."""
    return wait_for(
        lambda: (
            found
            if len(found := [int(pid) for pid in READY.findall(service.fresh_log())]) >= count
            else []
        )
    )


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@contextmanager
def logged_in(service: Service) -> Iterator[Calls]:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        yield log_in(client, "ada")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service"), **READING) as service:
        reading_pids(service)
        yield service


@pytest.fixture
def calls(service: Service) -> Iterator[Calls]:
    with logged_in(service) as calls:
        yield calls


def post(calls: Calls, value: float) -> int:
    reply = calls("POST", "/job", job_document({"p.a": value}, run_id="r", pipeline="p"))
    assert reply.status_code == 202, reply.text
    job: int = reply.json()["id"]
    return job


def test_a_job_can_be_read_as_soon_as_it_is_accepted(calls: Calls) -> None:
    for value in range(20):
        job = post(calls, value)
        assert calls("GET", f"/job/{job}").json()["measurements"][0]["value"] == value
        assert calls("GET", "/stats").json()["stats"]["number_of_jobs"] == job
        assert calls("GET", "/stats").json()["stats"]["number_of_measurements"] == job
        newest = calls("GET", "/measurements?metric=p.a&format=csv").text.splitlines()[-1]
        assert f",{job},p.a,{float(value)}," in newest


def test_a_definition_counts_as_soon_as_it_is_accepted(calls: Calls) -> None:
    job = post(calls, 1.0)
    calls("POST", "/metrics", {"metrics": [{"name": "p.a", "unit": "", "description": "d"}]})
    for limit, status in ((2.0, "passed"), (0.5, "failed"), (3.0, "passed")):
        threshold = {"operator": "<", "unit": "", "value": limit}
        specification = {"name": "p.a.limit", "threshold": threshold}
        reply = calls("PUT", "/spec/p.a.limit", specification)
        if reply.status_code == 404:
            reply = calls("POST", "/specs", {"specs": [specification]})
        assert reply.is_success, reply.text
        (verdict,) = calls("GET", f"/job/{job}/report?specs=now").json()
        assert verdict["status"] == status


def test_a_token_that_has_ended_reads_nothing(service: Service, calls: Calls) -> None:
    assert calls("GET", "/users").status_code == 200
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        bob = log_in(client, "bob")
        assert bob("GET", "/users").status_code == 200
        assert service.run("user", "disable", "bob", "--yes").returncode == 0
        assert bob("GET", "/users").status_code == 401


def test_answers_are_those_of_a_service_that_reads_itself(
    tmp_path: Path, service: Service, calls: Calls
) -> None:
    post(calls, 1.0)
    before = {(path, kind): calls("GET", path, headers={"Accept": kind}) for path in PATHS
              for kind in ("*/*", "text/html")}  # fmt: skip
    with (
        Service(
            tmp_path,
            SQUASH_DATABASE_URL=service.environment["SQUASH_DATABASE_URL"],
            SQUASH_URL=service.url,
        ) as other,
        httpx.Client(base_url=other.url, trust_env=False, timeout=60) as client,
    ):
        for (path, kind), reply in before.items():
            headers = {"Accept": kind, "Authorization": f"JWT {calls.token}"}
            own = client.get(path, headers=headers)
            assert (own.status_code, own.text) == (reply.status_code, reply.text), path
            hidden = {"date", "content-length", "transfer-encoding", "x-request-id"}
            assert {k: v for k, v in own.headers.items() if k not in hidden} == {
                k: v for k, v in reply.headers.items() if k not in hidden
            }
            assert client.head(path, headers=headers).status_code == own.status_code
            assert calls("HEAD", path, headers={"Accept": kind}).status_code == own.status_code
        assert "a process reads" not in other.log()
        assert "squash_readers" not in client.get("/prometheus").text


def test_requests_are_counted_under_their_routes(calls: Calls) -> None:
    job = post(calls, 1.0)
    calls("GET", f"/job/{job}", headers=PAGE)
    figures = calls("GET", "/prometheus").text
    assert 'route="/job/{job_id}",status="200"' in figures
    assert "squash_readers 1.0" in figures
    assert "squash_reads_running 0.0" in figures


def test_while_nothing_can_be_read_jobs_are_accepted(service: Service, calls: Calls) -> None:
    (pid, *_) = reading_pids(service)[-1:]
    os.kill(pid, signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", service.port)) as waiting:
            waiting.sendall(b"GET /runs HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_for(lambda: "squash_reads_running 1.0" in calls("GET", "/prometheus").text)
            for value in range(10):
                post(calls, value)
            assert calls("GET", "/healthz").json()["status"] == "ok"
            assert calls("GET", "/readyz").json()["status"] == "ok"
            waiting.setblocking(False)
            with pytest.raises(BlockingIOError):
                waiting.recv(1)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: "squash_reads_running 0.0" in calls("GET", "/prometheus").text)


def test_a_reading_process_that_ends_is_started_again(service: Service, calls: Calls) -> None:
    before = reading_pids(service)
    post(calls, 1.0)
    os.kill(before[-1], signal.SIGKILL)
    wait_for(lambda: "squash_readers 0.0" in calls("GET", "/prometheus").text)
    reply = calls("GET", "/runs")
    if reply.status_code != 200:
        assert (reply.status_code, reply.json()["code"]) == (503, "overloaded")
        assert int(reply.headers["retry-after"]) > 0
    post(calls, 2.0)
    assert calls("GET", "/readyz").json()["status"] == "ok"
    reading_pids(service, count=len(before) + 1)
    assert calls("GET", "/runs").status_code == 200
    assert "a reading process has ended" in service.fresh_log()


def test_a_request_whose_process_ends_is_answered(service: Service, calls: Calls) -> None:
    (pid, *_) = reading_pids(service)[-1:]
    count = len(reading_pids(service))
    os.kill(pid, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as waiting:
        waiting.sendall(b"GET /runs HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: "squash_reads_running 1.0" in calls("GET", "/prometheus").text)
        os.kill(pid, signal.SIGKILL)
        assert waiting.recv(1000).startswith(b"HTTP/1.1 503 ")
    reading_pids(service, count=count + 1)


def zero_table(path: Path, table: str) -> None:
    """Overwrite the first pages of a table and its indexes."""
    with closing(sqlite3.connect(path)) as record:
        record.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = record.execute("PRAGMA page_size").fetchone()
        found = record.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = ?", [table])
        pages = [page for (page,) in found]
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(bytes(size))


@pytest.mark.sqlite
def test_damage_that_a_reading_process_meets_ends_the_writing(tmp_path: Path) -> None:
    with Service(tmp_path, **READING) as service, logged_in(service) as calls:
        reading_pids(service)
        # Only a request that is sent with a key looks there.
        zero_table(tmp_path / "squash.db", "api_key")
        post(calls, 1.0)
        assert calls("GET", "/readyz").status_code == 200
        headers = {"Authorization": f"Bearer {make_key().text}"}
        assert calls.client.get("/metric/p.a", headers=headers).status_code == 503
        wait_for(lambda: calls("GET", "/readyz").status_code == 503)
        reply = calls("POST", "/job", job_document({"p.a": 2.0}))
        assert (reply.status_code, reply.json()["code"]) == (503, "record_unavailable")
        assert reply.json()["message"].startswith("The record is damaged")
        assert "a process that reads has met it" in service.fresh_log()


def test_a_large_answer_is_whole_and_ends_with_its_client(calls: Calls, service: Service) -> None:
    names = [f"p.m{number}" for number in range(500)]
    for value in range(20):
        calls("POST", "/job", job_document(dict.fromkeys(names, float(value)), run_id="x" * 900))
    path = "/measurements?package=p&format=csv"
    assert len(calls("GET", path).text.splitlines()) > 10_000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: "squash_streams 1.0" in calls("GET", "/prometheus").text)
        wait_for(lambda: "squash_reads_running 0.0" in calls("GET", "/prometheus").text)
    wait_for(lambda: "squash_streams 0.0" in calls("GET", "/prometheus").text)


def test_a_stream_of_events_goes_on(calls: Calls) -> None:
    with calls.client.stream("GET", "/events") as events:
        lines = events.iter_lines()
        next(lines)
        job = post(calls, 1.0)
        assert f"id: {job}" in (line for line in lines if line.startswith("id"))


def test_the_settings_are_not_in_the_list_of_processes(service: Service) -> None:
    arguments = Path(f"/proc/{reading_pids(service)[-1]}/cmdline").read_text()
    assert service.environment["SQUASH_SECRET"] not in arguments


def test_no_reading_process_outlives_a_stop_not_even_a_paused_one(tmp_path: Path) -> None:
    with Service(tmp_path, SQUASH_READERS="2") as service:
        pids = reading_pids(service, count=2)
        os.kill(pids[0], signal.SIGSTOP)
        service.stop()
        assert not [pid for pid in pids if is_running(pid)]
        assert '"level": "error"' not in service.log()
        assert '"level":"error"' not in service.log()


def test_no_reading_process_outlives_a_crash(tmp_path: Path) -> None:
    with Service(tmp_path, **READING) as service:
        (pid,) = reading_pids(service)
        service.kill()
        wait_for(lambda: not is_running(pid))


def test_a_signal_to_all_processes_does_not_end_the_reading_one_first(service: Service) -> None:
    before = reading_pids(service)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(before[-1], number)
    time.sleep(0.1)
    assert exchange(service.port, b"GET /jobs HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
    assert reading_pids(service) == before


def test_only_users_read_where_the_settings_say_so(tmp_path: Path) -> None:
    with Service(tmp_path, SQUASH_READ="users", **READING) as service, logged_in(service) as calls:
        reading_pids(service)
        post(calls, 1.0)
        assert calls("GET", "/runs").status_code == 200
        assert calls.client.get("/runs").status_code == 401
        to_login = calls.client.get("/runs", headers=PAGE)
        assert (to_login.status_code, to_login.headers["location"]) == (303, "/login?next=/runs")
        figures = calls("GET", "/prometheus").text
        assert 'route="/runs",status="200"' in figures


async def test_what_a_reading_process_logs_has_the_id_of_the_request() -> None:
    bound: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        bound.append((scope[REQUEST_ID], structlog.contextvars.get_contextvars()["request"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    scope = {"method": "GET", "path": "/", "headers": [], REQUEST_ID: "0123456789abcdef"}
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    await write(writer, pack(readers._request_of(scope, trouble=None)))
    record: Any = SimpleNamespace(trouble=None)
    await asyncio.create_task(reading._serve_request(app, record, theirs))
    assert bound == [("0123456789abcdef", "0123456789abcdef")]
    await reader.read()
    writer.close()
