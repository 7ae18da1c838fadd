"""A local HTTP server that receives what outlets send, and answers as it is told to."""

from collections.abc import Callable
from typing import Any, Self

import httpx
import orjson

from tests.support.http_server import HttpServer


class ReceivingServer:
    """Keeps the requests that it gets, in order; `answer` says what it replies."""

    def __init__(
        self, answer: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(204)
    ) -> None:
        self.got: list[httpx.Request] = []
        self.answer = answer
        self._server = HttpServer(self._reply)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self._server.url}/hook"

    @property
    def bodies(self) -> list[Any]:
        """The bodies of the requests."""
        return [orjson.loads(request.content) for request in self.got]

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.__exit__(*reason)

    def _reply(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.got.append(request)
        return self.answer(request)
