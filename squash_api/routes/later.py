"""Routes and pages whose modules are imported when one of them is first asked for.

To import all of them takes longer than everything else that a start does (`benchmarks/`, R9), and
a process that leaves reading to another one needs few of them.
"""

import asyncio
from importlib import import_module
from threading import Lock
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

_placing = Lock()


class LaterRoutes(BaseRoute):
    """Stands for the routes of a module, until it is imported.

    Parameters
    ----------
    place
        Where the router is, below the package: `routes.jobs:router`.
    parts
        What the paths of its routes begin with, such as `/job /jobs`. It is for no others.
    """

    def __init__(self, place: str, parts: str) -> None:
        self.place = place
        self.parts = frozenset(parts.split())

    def router(self) -> APIRouter:
        """Return the router; this imports its module."""
        found: APIRouter = _find(self.place)
        return found

    def put(self, app: FastAPI) -> None:
        """Put the routes in the place of this; from any thread, and more than once."""
        routes = self.router().routes
        for route in routes:
            if isinstance(route, Route):
                # That of FastAPI has the path in it too.
                vars(route).update(operation_id=route.name.rstrip("_"))
        with _placing:
            known = app.router.routes
            if self in known:
                at = known.index(self)
                # A new list: requests may be looking through the other.
                app.router.routes = [*known[:at], *routes, *known[at + 1 :]]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match whatever one of the routes may be meant for."""
        is_known = scope["type"] == "http" and _first_part(scope["path"]) in self.parts
        return (Match.FULL, {}) if is_known else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the routes in their place, and let the application choose again."""
        app: FastAPI = scope["app"]
        await asyncio.to_thread(self.put, app)
        await app.router(scope, receive, send)


def put_all(app: FastAPI) -> None:
    """Import all that an application has not imported yet."""
    for route in app.router.routes:
        if isinstance(route, LaterRoutes):
            route.put(app)
        elif isinstance(route, Route) and isinstance(route.endpoint, LaterPage):
            route.endpoint.load()


class LaterPage:
    """Answers with a page, which is made by a function whose module is imported at first.

    Parameters
    ----------
    place
        Where the function is, below the package: `pages.front:front_page`.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._app: ASGIApp | None = None

    def load(self) -> ASGIApp:
        """Import the module of the page; from any thread, and more than once."""
        app = self._app = self._app or Route("/", _find(self._place)).app
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        app = self._app
        if app is None:
            app = await asyncio.to_thread(self.load)
        await app(scope, receive, send)


def _first_part(path: str) -> str:
    return f"/{path[1:].partition('/')[0]}"


def _find(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"squash_api.{module}"), name)
