"""The service in this process, called without a network."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from squash_api import app as app_module
from squash_api.app import create_app
from squash_api.delivery.interpreter import spare_cycle_search
from tests.support.builders import make_settings, with_record

HOST = "http://in-process"

# In this process there is far more to search than in that of a service: once is enough.
vars(app_module)["spare_cycle_search"] = cache(spare_cycle_search)


class _Transport(httpx.BaseTransport):
    """Hands requests to an application that runs in the event loop of another thread."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return asyncio.run_coroutine_threadsafe(self._handle(request), self._loop).result(60)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        reply = await self._inner.handle_async_request(request)
        return httpx.Response(
            reply.status_code, headers=reply.headers, content=await reply.aread(), request=request
        )


@contextmanager
def serving(app: FastAPI) -> Iterator[httpx.Client]:
    """Run an application, its threads too, and give a client of it. Safe to use from threads."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="loop")
    thread.start()
    lifespan = app.router.lifespan_context(app)
    try:
        asyncio.run_coroutine_threadsafe(lifespan.__aenter__(), loop).result(60)
        transport = _Transport(app, loop)
        with httpx.Client(transport=transport, base_url=HOST, trust_env=False) as client:
            yield client
        asyncio.run_coroutine_threadsafe(lifespan.__aexit__(None, None, None), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextmanager
def service(
    folder: Path, *, influx_transport: httpx.BaseTransport | None = None, **settings: Any
) -> Iterator[httpx.Client]:
    """Run the service with its record in a folder; `settings` are fields of `Settings`."""
    made = with_record(make_settings(folder, **settings))
    app = create_app(made, influx_transport=influx_transport)
    with serving(app) as client:
        yield client
