"""A closed loop of requests over keep-alive connections, in as little Python as can be.

Every connection sends its next request as soon as the reply to the last one is there. The requests
are made before the clock starts. Only the status and the length of a reply are looked at.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import uvloop


@dataclass(frozen=True)
class Outcome:
    """What a load came to. `statuses` counts replies by HTTP status."""

    seconds: float
    statuses: dict[int, int]

    @property
    def rate(self) -> float:
        return sum(self.statuses.values()) / self.seconds


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], statuses: dict[int, int]) -> None:
        self._requests = requests
        self._statuses = statuses
        self._reply = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._reply += data
        head, blank, body = self._reply.partition(b"\r\n\r\n")
        if not blank:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        if at >= 0 and len(body) < int(lower[at + 15 :].split(b"\r\n", 1)[0]):
            return
        status = int(head[9:12])
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._reply = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(request)


def make_requests(path: str, bodies: Sequence[bytes], *, token: str = "") -> list[bytes]:
    """Return POST requests with these bodies."""
    return [
        (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: JWT {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        + body
        for body in bodies
    ]


def run_load(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    statuses: dict[int, int] | None = None,
    is_cut: bool = False,
) -> Outcome:
    """Send all requests over some connections; every one gets its reply.

    `is_cut`: the server is killed meanwhile; what was replied until then is in `statuses`.
    """
    statuses = {} if statuses is None else statuses

    async def run() -> Outcome:
        left = iter(requests)
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        made = [
            await loop.create_connection(lambda: _Connection(left, statuses), "127.0.0.1", port)
            for _ in range(connections)
        ]
        await asyncio.gather(*(protocol.done for _, protocol in made), return_exceptions=is_cut)
        return Outcome(time.perf_counter() - started, statuses)

    return uvloop.run(run())
