"""The service: a site with routes and pages, and its threads while it runs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from squash_api.delivery.interpreter import spare_cycle_search
from squash_api.errors import Detail, SettingsError, SquashError
from squash_api.pages import addresses
from squash_api.routes.admission import AT_ONCE, Admission, Places
from squash_api.routes.description import TAGS, complete
from squash_api.routes.door import Door
from squash_api.routes.later import LaterPage, LaterRoutes, put_all
from squash_api.routes.middleware import (
    GuardingMiddleware,
    NormalizingMiddleware,
    ObservingMiddleware,
    ShortWay,
    Way,
    Ways,
    is_bare,
)
from squash_api.routes.negotiation import PageRoute
from squash_api.routes.replies import add_failure_handlers
from squash_api.routes.scopes import PUBLIC, SCOPE_OF
from squash_api.settings import Settings
from squash_api.site import Site
from squash_api.verify.units import astropy_units

if TYPE_CHECKING:
    import httpx

    from squash_api.delivery.reader import Loop
    from squash_api.index.deriver import Deriver
    from squash_api.record.record import Record

ROUTES = (
    LaterRoutes("routes.jobs:router", "/job /jobs"),
    LaterRoutes("routes.blobs:router", "/job"),
    LaterRoutes("routes.accounts:router", "/register /auth /users /user"),
    LaterRoutes("routes.keys:router", "/keys"),
    LaterRoutes("routes.audit:router", "/audit"),
    LaterRoutes("routes.root:router", "/ /version /openapi.json /stats /datasets /packages"),
    LaterRoutes("routes.search:router", "/search"),
    LaterRoutes("routes.definitions:metrics_router", "/metrics /metric"),
    LaterRoutes("routes.definitions:specifications_router", "/specs /spec"),
    LaterRoutes("routes.measurements:router", "/measurements /measurement"),
    LaterRoutes("routes.jobs:status_router", "/status"),
    LaterRoutes("routes.runs:router", "/runs /jenkins /code_changes"),
    LaterRoutes("routes.notebooks:router", "/notebooks /notebook"),
    LaterRoutes("routes.standings:router", "/standings"),
    LaterRoutes("routes.alerts:router", "/alerts /alert /silences /silence"),
    LaterRoutes("routes.reports:router", "/report /badge"),
    LaterRoutes("routes.quarantine:router", "/quarantine"),
    LaterRoutes("routes.webhooks:router", "/webhooks"),
    LaterRoutes("routes.health:router", "/healthz /readyz /prometheus"),
    LaterRoutes("routes.jobs:events_router", "/events"),
    LaterRoutes("routes.sasquatch:router", "/v3 /topics /brokers"),
    LaterRoutes("pages.docs:router", "/docs"),
    LaterRoutes("pages.addresses:router", "/static"),
    LaterRoutes("pages.metric:router", "/metric"),
    LaterRoutes("pages.blobs:router", "/job"),
    LaterRoutes("pages.account:router", "/login /logout /account /users"),
    LaterRoutes("pages.alerts:router", "/alerts /alert"),
)
"""All routes but those of pages, in the order in which they are tried."""

_PATHS = [
    *(route.partition(" ")[2] for route in (*SCOPE_OF, *PUBLIC)),
    *(page.path for page in addresses.PAGES),
]

# The other pages are imported after the first request may have come.
_HEAD_START_S = 0.3
_FIRST_PAGES = frozenset({"/", "/metric/{name:text}", "/report"})

_log = structlog.get_logger(__name__)

# Of what is in the OpenAPI document, as it writes them.
_PAGES = frozenset(re.sub(r":\w+(?=})", "", page.path) for page in addresses.PAGES)


class _Service(FastAPI):
    """FastAPI, behind a guard and the short ways, whose OpenAPI document is complete."""

    front: ASGIApp | None = None
    """What requests come to first; None if they come from a service that has all this."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self.front is None or scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.front(scope, receive, send)

    def stand_behind(self, ways: Ways | None) -> None:
        """Put the short ways and the guard around all of it.

        They are before FastAPI itself, which looks into the environment for each request, and
        before what answers unexpected errors.
        """
        site: Site = self.state.site
        settings = site.settings
        inner: Any = partial(FastAPI.__call__, self)
        if ways is not None:
            inner = ShortWay(inner, ways=ways, figures=site.figures)
        is_proxy = None
        if settings.trusted_proxies:
            # Of the last one that is not trusted: all before it may be made up.
            inner = ProxyHeadersMiddleware(inner, trusted_hosts=[*settings.trusted_proxies])
            # Those whose word on addresses is believed, and read in the same way.
            is_proxy = inner.trusted_hosts.__contains__
        self.front = GuardingMiddleware(inner, settings=settings, is_proxy=is_proxy)

    def openapi(self) -> dict[str, Any]:
        """Make the OpenAPI document."""
        if self.openapi_schema is None:
            put_all(self)
            # Which is kept, and completed here.
            document = super().openapi()
            complete(document, settings=self.state.site.settings, pages=_PAGES)
            self.openapi_schema = document
        return self.openapi_schema


def create_app(
    settings: Settings,
    *,
    may_withdraw: bool = False,
    was_replica: bool = False,
    influx_transport: httpx.BaseTransport | None = None,
    beside: Callable[[Settings, Record], Sequence[Loop]] | None = None,
) -> FastAPI:
    """Open a site and make its app; the threads of the site run while the app does.

    An empty record is made if there is none. `may_withdraw` and `was_replica` are passed to
    `Site.start`, `influx_transport` and `beside` to `Site`.

    Raises
    ------
    SettingsError
        If a setting is missing or wrong, or the record does not fit the settings.
    """
    site = Site(settings, is_made=True, influx_transport=influx_transport, beside=beside)
    site.start(may_withdraw=may_withdraw, was_replica=was_replica)
    app = _make_service(site, lifespan=_lifespan)
    figures, places = site.figures, Places(AT_ONCE * max(1, settings.readers))
    app.state.places, app.state.ways = places, Ways()
    figures.observe("squash_reads_waiting", "Reads that wait their turn.", lambda: places.waiting)
    figures.observe("squash_reads_running", "Reads that are being made.", lambda: places.running)
    figures.observe("squash_streams", "Large answers that are being sent.", lambda: places.streams)
    app.add_middleware(Admission, places=places)
    app.add_middleware(ObservingMiddleware, figures=figures)
    _check_prefixes(settings)
    app.add_middleware(
        NormalizingMiddleware, root=settings.url_path, prefixes=settings.simple_prefixes
    )
    app.stand_behind(app.state.ways if site.record.only_reads is None else None)
    return app


def _check_prefixes(settings: Settings) -> None:
    """Raise `SettingsError` if a prefix of simple clients begins as an address of the service."""
    taken = {path.split("/")[1] for path in _PATHS}
    for prefix in settings.simple_prefixes:
        if prefix.split("/")[1] in taken:
            raise SettingsError(
                f"SQUASH_SIMPLE_PREFIXES: {prefix} begins as an address of the service does: "
                "choose another, such as /api"
            )


def create_reading_app(settings: Settings, deriver: Callable[[Site], Deriver]) -> FastAPI:
    """Open a site in a process that only reads, and make its app.

    Requests come from a service, which has counted them and brought them into the form that routes
    know. `deriver` makes the part of the site that derives jobs, which is writing.
    """
    site = Site(settings)
    site.deriver = deriver(site)
    site.start_reading()
    app = _make_service(site, lifespan=None)
    threading.Thread(target=_read_on, args=(app,), name="warm-up", daemon=True).start()
    return app


def import_pages() -> None:
    """Import what most people ask for first."""
    for page in addresses.PAGES:
        if page.path in _FIRST_PAGES:
            LaterPage(f"pages.{page.place}").load()


def _read_on(app: FastAPI) -> None:
    """Import and open what requests may need, then do what would delay the first of a kind."""
    site: Site = app.state.site
    # Whoever has waited for the start is answered first.
    time.sleep(_HEAD_START_S)
    put_all(app)
    site.open_all(but={"background", "events"})
    _look(site)
    _warm_up()


def _make_service(site: Site, *, lifespan: Lifespan[Any] | None) -> _Service:
    """Make the routes and pages of a site."""
    app = _Service(
        title="SQuaSH",
        version=version("squash-api"),
        summary="Receives lsst.verify jobs, keeps every one, and serves what they measured.",
        lifespan=lifespan,
        # A route of our own, since FastAPI's accepts any parameter.
        openapi_url=None,
        openapi_tags=[dict(tag) for tag in TAGS],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = site
    app.state.menu = addresses.MENU
    pages = [
        PageRoute(page.path, LaterPage(f"pages.{page.place}"), methods=["GET"], name=page.place)
        for page in addresses.PAGES
    ]
    app.router.routes[:] = [*pages, *ROUTES]
    add_failure_handlers(app, page=_failure_page, paths=_PATHS, url=site.settings.url)
    app.add_middleware(Door, site=site)
    return app


def _failure_page(
    request: Request, status_code: int, *, message: str, detail: Sequence[Detail], runbook: str
) -> Response:
    from squash_api.pages.rendering import failure_page

    return failure_page(request, status_code, message=message, detail=detail, runbook=runbook)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    site: Site = app.state.site
    rest = threading.Thread(target=_start_rest, args=(app,), name="start", daemon=True)
    rest.start()
    _log.info(
        "serving",
        url=site.settings.url,
        targets=[target.name for target in site.delivered_to],
        deliver=site.settings.deliver,
        only_reads=site.record.only_reads,
    )
    try:
        yield
    finally:
        site.is_stopping.set()
        site.reader.close()
        rest.join()
        site.close()


def _start_rest(app: FastAPI) -> None:
    """Start what the service does not need to listen, the most urgent first; it runs until then."""
    site: Site = app.state.site
    reads_itself = site.settings.readers == 0
    try:
        if site.record.only_reads is None:
            _find_ways(app)
        site.start_background()
        if reads_itself:
            put_all(app)
            site.open_all()
            _look(site)
        else:
            # Of failures, and of whoever logs in.
            LaterPage("pages.account:login_page").load()
    except Exception as error:  # noqa: BLE001  whatever it is, the service must not go on like this
        _log.critical("the service cannot go on", exc_info=error, runbook=SquashError.code)
        site.has_failed.set()
    else:
        # Nobody waits for it, not even a stop.
        warm_up = _warm_up if reads_itself else _warm_up_for_jobs
        threading.Thread(target=warm_up, name="warm-up", daemon=True).start()


def _find_ways(app: FastAPI) -> None:
    """Import what accepts jobs, and let it do so by the short ways."""
    from squash_api.routes import accounts, jobs, root, sasquatch

    app.state.ways.find = sasquatch.find_way(app.state.site.settings)
    app.state.ways.fixed = {
        ("POST", "/job"): Way("/job", jobs.post_job),
        ("POST", "/auth"): Way("/auth", accounts.post_auth, is_bare),
        ("GET", "/"): Way("/", root.get_root, root.is_for_programs),
    }


def _look(site: Site) -> None:
    """Compute the standings once: with many recent jobs the first time takes seconds."""
    try:
        site.board.entries()
    except SquashError as error:
        _log.warning("the standings could not be computed", reason=error.message)


def _warm_up() -> None:
    """Do in advance what would delay a request: the first conversion, the first plot."""
    from squash_api.pages import plots

    plots.warm_up()
    _warm_up_for_jobs()


def _warm_up_for_jobs() -> None:
    astropy_units()
    spare_cycle_search()
