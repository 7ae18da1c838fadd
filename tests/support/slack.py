"""A local HTTP server that stands in for Slack and keeps what it is told."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import httpx

from tests.support.http_server import HttpServer
from tests.support.site import wait_for


@dataclass(frozen=True)
class Told:
    """A message as it was sent; `shown` is how Slack would show its text."""

    channel: str
    color: str
    text: str

    @property
    def shown(self) -> str:
        """The text with Slack's three entities decoded, and no others."""
        return self.text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class Slack:
    """Keeps the messages that it is sent, in order."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._server = HttpServer(self._answer)

    @property
    def url(self) -> str:
        """The address to send messages to."""
        return f"{self._server.url}/hook"

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.__exit__(*reason)

    def wait_for(self, wanted: Callable[[Told], bool], *, timeout_s: float = 30.0) -> Told:
        """Wait for a message, and return the first of its kind."""
        wait_for(lambda: any(map(wanted, self.told)), timeout_s=timeout_s)
        return next(told for told in self.told if wanted(told))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body: dict[str, Any] = json.loads(request.content)
        (attachment,) = body["attachments"]
        self.told.append(Told(body["channel"], attachment["color"], attachment["text"]))
        return httpx.Response(200, text="ok")
