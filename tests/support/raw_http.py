"""HTTP over a bare socket, to send a client's exact bytes and see every answer as it comes."""

import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RawReply:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        assert self.headers["content-type"].startswith("application/json"), self
        return json.loads(self.body)


def exchange(port: int, request: bytes) -> RawReply:
    """Send bytes over a new connection, and return the first answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        return read_reply(connection)


def read_reply(connection: socket.socket) -> RawReply:
    """Read one answer that declares its length."""
    head, body = b"HTTP/1.1 100 Continue", b""
    # The service asks for the rest of a request before it answers.
    while head.startswith(b"HTTP/1.1 100 "):
        data = body
        while b"\r\n\r\n" not in data:
            data += _receive(connection)
        head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers["content-length"])
    while len(body) < length:
        body += _receive(connection)
    assert len(body) == length
    return RawReply(int(status_line.split()[1]), headers, body)


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    assert data, "the connection was closed in the middle of an answer"
    return data
