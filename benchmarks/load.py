"""A closed loop of requests over keep-alive connections, in as little Python as possible.

Every connection sends its next request as soon as the reply to the last one is there. The requests
are made before the clock starts. Of a reply the status and the length are looked at; what else,
the script of a connection says.
"""

import asyncio
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import TypeAlias, cast

import uvloop

Script: TypeAlias = Generator[bytes, bytes, None]
"""What one connection does: yields requests, and is sent the body of each reply."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a load. `statuses` counts replies by HTTP status."""

    seconds: float
    statuses: dict[int, int]

    @property
    def rate(self) -> float:
        return sum(self.statuses.values()) / self.seconds


class _Connection(asyncio.Protocol):
    def __init__(self, script: Script, statuses: dict[int, int]) -> None:
        self._script = script
        self._statuses = statuses
        self._reply = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._send(next(self._script, None))

    def data_received(self, data: bytes) -> None:
        self._reply += data
        reply = split_reply(self._reply)
        if reply is None:
            return
        status, body = reply
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._reply = b""
        try:
            request = self._script.send(body)
        except StopIteration:
            self._send(None)
        else:
            self._send(request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _send(self, request: bytes | None) -> None:
        assert self._transport is not None
        if request is None:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(request)


def split_reply(received: bytes) -> tuple[int, bytes] | None:
    """Return status and body of a reply, or None until it is complete."""
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0 and len(body) < int(lower[at + 15 :].split(b"\r\n", 1)[0]):
        return None
    return int(head[9:12]), body


def make_request(path: str, body: bytes, *, token: str = "") -> bytes:
    """Return a POST request; the token may be a key."""
    scheme = "Bearer" if token.startswith("sq_") else "JWT"
    authorization = f"Authorization: {scheme} {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"{authorization}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def make_requests(path: str, bodies: Iterable[bytes], *, token: str = "") -> list[bytes]:
    """Return POST requests with these bodies."""
    return [make_request(path, body, token=token) for body in bodies]


def make_get(path: str, *, accept: str) -> bytes:
    """Return a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n\r\n".encode()


def run_load(
    port: int | Sequence[int],
    requests: Iterable[bytes],
    *,
    connections: int,
    statuses: dict[int, int] | None = None,
    is_cut: bool = False,
) -> Outcome:
    """Send all requests over some connections, by turns to each port, and read all replies.

    `is_cut`: the server is killed meanwhile; what was replied until then is in `statuses`.
    """
    left = iter(requests)

    def take() -> Script:
        while (request := next(left, None)) is not None:
            yield request

    return run_scripts(port, [take() for _ in range(connections)], statuses=statuses, is_cut=is_cut)


def run_scripts(
    port: int | Sequence[int],
    scripts: Sequence[Script],
    *,
    statuses: dict[int, int] | None = None,
    is_cut: bool = False,
) -> Outcome:
    """Run all scripts at the same time, each on its own connection, until all have ended."""
    counted: dict[int, int] = {} if statuses is None else statuses
    ports = cycle([port] if isinstance(port, int) else port)

    async def run() -> Outcome:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        made = [
            await loop.create_connection(partial(_Connection, script, counted), "127.0.0.1", place)
            for script, place in zip(scripts, ports, strict=False)
        ]
        await asyncio.gather(*(protocol.done for _, protocol in made), return_exceptions=is_cut)
        return Outcome(time.perf_counter() - started, counted)

    return uvloop.run(run())
