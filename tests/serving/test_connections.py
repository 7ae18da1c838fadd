"""What no client can do to the others over its connections, with real sockets."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.serving.connections import (
    LEAST_BYTES_PER_S,
    MOST_HEAD_BYTES,
    MOST_HEADERS,
    MOST_URL_BYTES,
)
from tests.support.calls import Calls, log_in
from tests.support.raw_http import RawReply, exchange, read_reply
from tests.support.service import READING, Service
from tests.support.site import job_document, wait_for

PATIENCE_S = 2
# More than the system keeps for a client that does not read.
BLOB_BYTES = 12_000_000
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
_POST = b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = b"%bTransfer-Encoding: chunked\r\n\r\n" % _POST
HALF = b"%bContent-Length: 9\r\n\r\n{" % _POST
# Loopback has many addresses.
OTHER = ("127.0.0.2", 0)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits for nobody long."""
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, SQUASH_PATIENCE_S=str(PATIENCE_S), **READING) as service:
        yield service


@pytest.fixture(scope="module")
def port(service: Service) -> int:
    return service.port


@contextmanager
def logged_in(port: int) -> Iterator[Calls]:
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        yield log_in(client, "ada")


def sent_until_answered(port: int, start: bytes, piece: bytes, *, most: int) -> RawReply:
    """Send a start and then pieces, at most so many bytes, until the service answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(start)
        with suppress(ConnectionError):
            for _ in range(most // len(piece)):
                connection.sendall(piece)
        return read_reply(connection)


def memory_mb(service: Service) -> float:
    status = Path(f"/proc/{service.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.parametrize(
    "start",
    [GET, GET + b"X: ", GET + b"X", b"GET /healthz HTTP/1.1\r\nHost: x\r\nCookie: a="],
    ids=["many", "value", "name", "cookie"],
)
def test_endless_headers_are_refused_and_not_kept(service: Service, start: bytes) -> None:
    before = memory_mb(service)
    piece = (b"X-Header: value\r\n" if start == GET else b"x" * 16) * 4096
    reply = sent_until_answered(service.port, start, piece, most=200_000_000)
    assert (reply.status, reply.json()["code"]) == (431, "headers_too_large")
    assert reply.headers["connection"] == "close"
    assert memory_mb(service) < before + 20


def test_headers_of_the_largest_size_are_read(port: int) -> None:
    spare = MOST_HEAD_BYTES - len(GET) - len(b"X: \r\n\r\n")
    assert exchange(port, GET + b"X: " + b"x" * spare + b"\r\n\r\n").status == 200
    assert exchange(port, GET + b"X: " + b"x" * (spare + 1) + b"\r\n\r\n").status == 431


def test_there_can_only_be_so_many_headers(port: int) -> None:
    headers = b"".join(b"X-%d: 1\r\n" % number for number in range(MOST_HEADERS - 1))
    assert exchange(port, GET + headers + b"\r\n").status == 200
    assert exchange(port, GET + headers + b"X: 1\r\n\r\n").status == 431


def test_a_url_can_only_be_so_long(port: int) -> None:
    reply = sent_until_answered(port, b"GET /", b"x" * 1000, most=MOST_URL_BYTES * 2)
    assert (reply.status, reply.json()["code"]) == (414, "url_too_long")
    long = b"GET /metrics?after=" + b"x" * (MOST_URL_BYTES - 500) + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert exchange(port, long).status == 422


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\x02\x00", b"HELLO\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
def test_what_is_no_http_gets_the_body_of_all_failures(port: int, request_: bytes) -> None:
    reply = exchange(port, request_)
    assert (reply.status, reply.json()["code"]) == (400, "malformed_request")
    assert reply.json().keys() == {"message", "code", "status_code", "detail"}


@pytest.mark.parametrize(
    "start",
    [CHUNKED + b"1;", CHUNKED + b"2\r\n{}\r\n0\r\nX: ", CHUNKED + b"2\r\n{}\r\n0\r\n"],
    ids=["extension", "trailer", "trailers"],
)
def test_endless_parts_of_a_body_that_nobody_reads_are_refused(
    service: Service, start: bytes
) -> None:
    before = memory_mb(service)
    piece = (b"X-Header: value\r\n" if start.endswith(b"\r\n0\r\n") else b"x" * 16) * 4096
    reply = sent_until_answered(service.port, start, piece, most=100_000_000)
    assert reply.status in {400, 401}
    assert memory_mb(service) < before + 20


def test_headers_after_the_body_do_not_count(port: int) -> None:
    with logged_in(port) as calls:
        token = calls.token
    start = b"POST /job HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    trailer = f"Authorization: JWT {token}\r\n".encode()
    body = json.dumps(job_document({"p.a": 1.0})).encode()
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    chunked = b"Transfer-Encoding: chunked\r\n"
    assert exchange(port, start + chunked + b"\r\n" + chunks + trailer + b"\r\n").status == 401
    assert exchange(port, start + chunked + trailer + b"\r\n" + chunks + b"\r\n").status == 202


def send_without_end(connection: socket.socket) -> None:
    for _ in range(10_000):
        connection.sendall(b"x" * 100_000)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_an_endless_body_that_no_route_reads_ends_the_connection(
    service: Service, method: str
) -> None:
    head = f"{method} /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n\r\n".encode()
    before = memory_mb(service)
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(head)
        with pytest.raises(ConnectionError):
            send_without_end(connection)
    assert memory_mb(service) < before + 20


def read_all(connection: socket.socket) -> bytes:
    found = b""
    with suppress(ConnectionError):
        while part := connection.recv(65_536):
            found += part
    return found


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"G", b"408"),
        (GET, b"408"),
        (GET + b"X: " + b"x" * 60_000, b"408"),
        (HALF, b"408"),
        (CHUNKED + b"2\r\n{}\r\n", b"408"),
        (GET + b"\r\n" + GET, b"408"),
        (GET + b"Content-Length: 10\r\n\r\nx", b"200"),
    ],
)
def test_a_client_that_stops_in_the_middle_is_not_waited_for(
    port: int, sent: bytes, status: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        answers = read_all(connection).split(b"HTTP/1.1 ")
    assert answers[-1][:3] == status


@pytest.mark.parametrize("start", [GET, CHUNKED[:-2] + b"X: 1\r\n\r\n"])
def test_a_client_that_sends_a_byte_now_and_then_is_not_waited_for(port: int, start: bytes) -> None:
    piece = b"1\r\n{\r\n" if b"POST" in start else b"X"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(start)
        with suppress(ConnectionError):
            while not _has_answer(connection):
                connection.sendall(piece)
        assert b"408" in connection.recv(100)


def _has_answer(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


def test_a_slow_upload_that_goes_on_is_waited_for(port: int) -> None:
    body = json.dumps(job_document({"p.a": 2.0}, text="x" * 30_000)).encode()
    step = LEAST_BYTES_PER_S // 2

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]
            time.sleep(PATIENCE_S * 1.5 * step / len(body))

    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    with logged_in(port) as calls:
        assert calls("POST", "/job", content=slowly(), headers=headers).status_code == 202


def test_a_client_that_does_not_read_its_reply_is_let_go(port: int) -> None:
    with logged_in(port) as calls, socket.socket() as connection:
        job = calls("POST", "/job", document_with_blob()).json()["id"]
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(f"GET /job/{job}/blob/b HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: "squash_connections 1.0" in calls("GET", "/prometheus").text)
        assert 'connections_total{code="too_slow"}' in calls("GET", "/prometheus").text
        assert len(read_all(connection)) < BLOB_BYTES


def document_with_blob() -> dict[str, Any]:
    blob = {"identifier": "b", "name": "b", "data": {"x": "x" * BLOB_BYTES}}
    return {**job_document({"p.a": 3.0}), "blobs": [blob]}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with room for ten connections, which waits long for each."""
    folder = tmp_path_factory.mktemp("small")
    with Service(folder, SQUASH_MAX_CONNECTIONS="10", **READING) as service:
        yield service


def slow_connections(
    stack: ExitStack, port: int, sent: Sequence[bytes], *, count: int, source: Any = None
) -> list[socket.socket]:
    """Open connections that send a little, each what its turn is, and then nothing."""
    opened = []
    for number in range(count):
        connection = socket.create_connection(
            ("127.0.0.1", port), timeout=60, source_address=source
        )
        stack.enter_context(connection)
        with suppress(ConnectionError):
            connection.sendall(sent[number % len(sent)])
        opened.append(connection)
    return opened


SLOW = (GET, b"", HALF, CHUNKED + b"1\r\n{\r\n", GET + b"\r\n")


def post_jobs(service: Service, *, count: int) -> set[int]:
    """Log in and post jobs, each over a connection of its own."""
    with logged_in(service.port) as calls:
        headers = {"Authorization": f"JWT {calls.token}"}
    statuses = set()
    for number in range(count):
        job = job_document({"p.a": float(number)})
        url = f"{service.url}/job"
        reply = httpx.post(url, json=job, headers=headers, timeout=60, trust_env=False)
        statuses.add(reply.status_code)
    return statuses


@pytest.mark.parametrize("sent", SLOW)
def test_slow_connections_give_way_to_new_ones(small: Service, sent: bytes) -> None:
    with ExitStack() as stack:
        slow_connections(stack, small.port, [sent], count=40)
        assert post_jobs(small, count=5) == {202}


def test_the_address_with_the_most_connections_gives_way(small: Service) -> None:
    with logged_in(small.port) as calls:
        token = calls.token
    with ExitStack() as stack:
        body = json.dumps(job_document({"p.a": 9.0})).encode()
        head = (
            f"POST /job HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: JWT {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        (upload,) = slow_connections(stack, small.port, [head + body[:10]], count=1)
        slow_connections(stack, small.port, SLOW, count=60, source=OTHER)
        upload.sendall(body[10:])
        assert read_reply(upload).status == 202


class FewFiles(Service):
    """A service that may have 64 files open."""

    def command(self) -> Sequence[str]:
        return ["/bin/sh", "-c", 'ulimit -n 64; exec "$0" -m squash_api serve', sys.executable]


def test_where_few_files_may_be_open_jobs_are_accepted_all_the_same(tmp_path: Path) -> None:
    with FewFiles(tmp_path) as service, ExitStack() as stack:
        slow_connections(stack, service.port, SLOW, count=200)
        assert post_jobs(service, count=20) == {202}
        assert httpx.get(f"{service.url}/", trust_env=False, timeout=60).status_code == 200
        assert (
            httpx.get(f"{service.url}/readyz", trust_env=False, timeout=60).json()["status"] == "ok"
        )
        assert "few files may be open" in service.log()


def test_slow_connections_do_not_hold_up_a_stop_and_an_upload_is_not_cut(tmp_path: Path) -> None:
    with Service(tmp_path, **READING) as service, ExitStack() as stack:
        with logged_in(service.port) as calls:
            calls("POST", "/job", document_with_blob())
        read = b"GET /job/1/blob/b HTTP/1.1\r\nHost: x\r\n\r\n"
        slow_connections(stack, service.port, SLOW, count=490)
        slow_connections(stack, service.port, [read], count=10)
        body = json.dumps(job_document({"p.a": 9.0}, text="x" * 20_000)).encode()
        head = (
            f"POST /job HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: JWT {calls.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        (upload,) = slow_connections(stack, service.port, [head + body[:10]], count=1)
        httpx.get(f"{service.url}/healthz", trust_env=False, timeout=60)
        stopping = threading.Thread(target=service.stop)
        stopping.start()
        wait_for(lambda: "Shutting down" in service.log())
        upload.sendall(body[10:])
        assert read_reply(upload).status == 202
        stopping.join()
        assert "Application shutdown complete" in service.log()
        # uvicorn says so when its whole time is over.
        assert "Cancel" not in service.log()
