"""Where only users read, no bytes on a connection get in: whatever frames or repeats a request."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.calls import log_in
from tests.support.raw_http import exchange
from tests.support.service import Service
from tests.support.site import TIMEOUT_S, job_document

# The record's part of this is tried with both engines elsewhere.
pytestmark = pytest.mark.sqlite

PRIVATE = "hushed"
INNER = b"GET /job/1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a service for users only, with job 1."""
    with Service(tmp_path_factory.mktemp("service"), SQUASH_READ="users") as service:
        with httpx.Client(base_url=service.url, timeout=TIMEOUT_S, trust_env=False) as client:
            calls = log_in(client, "ada")
            job = job_document({f"{PRIVATE}.m": 1.0})
            assert calls("POST", "/job", job).json()["id"] == 1
        yield service.port


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line, b"Host: x", *headers, b"", body])


@pytest.mark.parametrize(
    "sent",
    [
        request(b"GET /job/1 HTTP/1.0"),
        request(b"GET http://x/job/1 HTTP/1.1"),
        request(b"GET http://x/login/../job/1 HTTP/1.1"),
        request(b"GET //job/1 HTTP/1.1"),
        request(b"GET /job/1? HTTP/1.1"),
        request(b"GET /job%2f1 HTTP/1.1"),
        request(b"GET /job/1/ HTTP/1.1"),
        request(b"GET /%6a%6f%62/1 HTTP/1.1"),
        request(b"get /job/1 HTTP/1.1"),
        request(b"GET /static/../job/1 HTTP/1.1"),
        request(b"GET /job/1 HTTP/1.1", b"Authorization:", b"Authorization: JWT x"),
        request(b"GET /job/1 HTTP/1.1", b"Cookie: squash_session=a", b"Cookie: squash_session=b"),
        request(b"GET /job/1 HTTP/1.1", b"Cookie: \xff\xfe; squash_session=\xff"),
        request(b"GET /job/1 HTTP/1.1", b"Content-Length: 2", body=b"{}"),
        request(b"POST /login HTTP/1.1", b"Content-Length: %d" % len(INNER), body=INNER),
        request(b"POST /auth HTTP/1.1", b"Transfer-Encoding: chunked", b"Content-Length: 5",
                body=b"0\r\n\r\n" + INNER),
        request(b"POST /auth HTTP/1.1", b"Content-Length: 0", b"Content-Length: 0", body=INNER),
        request(b"POST /healthz HTTP/1.1", b"Transfer-Encoding: x, chunked",
                body=b"0\r\n\r\n" + INNER),
        request(b"HEAD /login HTTP/1.1", body=INNER),
        request(b"GET /healthz HTTP/1.1", body=INNER),
        request(b"GET /job/1 HTTP/1.1", b"Upgrade: websocket", b"Connection: Upgrade",
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13"),
    ],
)  # fmt: skip
def test_no_bytes_get_in(port: int, sent: bytes) -> None:
    close = request(b"GET /healthz HTTP/1.1", b"Connection: close")
    told = everything(port, sent + close)
    assert PRIVATE.encode() not in told
    assert told.startswith(b"HTTP/1.1 ")


def everything(port: int, sent: bytes) -> bytes:
    """Send bytes, and return all that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        found = b""
        while data := connection.recv(65_536):
            found += data
        return found


def test_so_a_token_gets_in(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        token = log_in(client, "ada").token
    header = f"Authorization: JWT {token}".encode()
    assert PRIVATE in exchange(port, request(b"GET /job/1 HTTP/1.1", header)).body.decode()
