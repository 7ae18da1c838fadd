"""Requests at a steady rate, however long the replies take, and how long they took.

A request never waits for the reply to another one: whenever all connections are busy, one more is
opened. The clock of a request runs from before that.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import uvloop

from benchmarks.load import split_reply

_CONNECTIONS = 16
_LONGEST_S = 120
# Servers close unused connections 5 s after the last reply at the earliest.
_STALE_S = 3


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._reply: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None
        self._used = time.monotonic()

    @property
    def is_stale(self) -> bool:
        return time.monotonic() > self._used + _STALE_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        reply = split_reply(self._received)
        if reply is not None and self._reply is not None:
            self._received = b""
            self._reply.set_result(reply[0])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(exc or ConnectionError("the server closed the connection"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def ask(self, request: bytes) -> int:
        """Return the status of the reply."""
        assert self._transport is not None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(_LONGEST_S):
            status = await self._reply
        self._used = time.monotonic()
        return status


def run_steadily(port: int, requests: Sequence[bytes], *, rate: float, status: int) -> list[float]:
    """Send requests at a rate per second; return how long each took, in s, in order.

    Every reply must have this status.
    """

    async def connect() -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
        return connection

    async def run() -> list[float]:
        idle = [await connect() for _ in range(_CONNECTIONS)]

        async def ask(request: bytes) -> float:
            started = time.perf_counter()
            while idle and idle[-1].is_stale:
                idle.pop().close()
            connection = idle.pop() if idle else await connect()
            found = await connection.ask(request)
            assert found == status, found
            idle.append(connection)
            return time.perf_counter() - started

        begun = time.perf_counter()
        asked = []
        for number, request in enumerate(requests):
            await asyncio.sleep(begun + number / rate - time.perf_counter())
            asked.append(asyncio.create_task(ask(request)))
        seconds = await asyncio.gather(*asked)
        for connection in idle:
            connection.close()
        return seconds

    return uvloop.run(run())


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least value that `percent` percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
