"""The way of the one request that comes by the thousand: posting a job.

What a web framework does around a function costs as much here as a fifth of taking a job in
(`benchmarks/`). This leaves it out, with the same replies.
"""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from squash_api.middleware import ObservingMiddleware
from squash_api.observability import Counters
from squash_api.pages.failures import failure_reply


class ShortWay:
    """Answers POST requests at one address; all others go on.

    Other spellings of the address go on too, and are answered by the route of the framework.

    Parameters
    ----------
    app
        What comes after.
    path
        The address, exactly as it is asked for.
    answer
        What answers. It checks who asks and what is sent by itself.
    counters
        Where to count.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        path: str,
        answer: Callable[[Request], Awaitable[Response]],
        counters: Counters,
    ) -> None:
        self._app = app
        self.path = path
        self._answer = answer
        self._observed = ObservingMiddleware(self._reply, counters=counters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "http" and scope["path"] == self.path and scope["method"] == "POST":
            # By this requests are counted.
            scope["route"] = self
            await self._observed(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered and logged
            response = await failure_reply(request, error)
        await response(scope, receive, send)
