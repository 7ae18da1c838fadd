"""The service: a site with routes and pages, and its threads while it runs."""

import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import httpx
import structlog
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from squash_api.errors import SettingsError, SquashError
from squash_api.index.deriver import Deriver
from squash_api.pages import account, addresses, blobs, docs, metric, plots
from squash_api.pages import alerts as alert_pages
from squash_api.pages.rendering import failure_page
from squash_api.routes import (
    accounts,
    alerts,
    audit,
    definitions,
    health,
    jobs,
    keys,
    measurements,
    notebooks,
    quarantine,
    reports,
    root,
    runs,
    sasquatch,
    search,
    standings,
    webhooks,
)
from squash_api.routes import blobs as blob_files
from squash_api.routes.admission import AT_ONCE, Admission, Places
from squash_api.routes.description import TAGS, complete
from squash_api.routes.door import Door
from squash_api.routes.middleware import (
    GuardingMiddleware,
    NormalizingMiddleware,
    ObservingMiddleware,
    ShortWay,
    Way,
    is_bare,
)
from squash_api.routes.negotiation import PageRoute
from squash_api.routes.replies import add_failure_handlers
from squash_api.settings import Settings
from squash_api.site import Site, spare_cycle_search
from squash_api.verify.units import astropy_units

# Routes are tried in this order; most requests post a job.
_ROUTERS = (
    jobs.router,
    blob_files.router,
    accounts.router,
    keys.router,
    audit.router,
    root.router,
    search.router,
    definitions.metrics_router,
    definitions.specifications_router,
    measurements.router,
    jobs.status_router,
    runs.router,
    notebooks.router,
    standings.router,
    alerts.router,
    reports.router,
    quarantine.router,
    webhooks.router,
    health.router,
    jobs.events_router,
    sasquatch.router,
    docs.router,
    addresses.router,
    metric.router,
    blobs.router,
    account.router,
    alert_pages.router,
)

_WAYS = {
    ("POST", "/job"): Way("/job", jobs.post_job),
    ("POST", "/auth"): Way("/auth", accounts.post_auth, is_bare),
    ("GET", "/"): Way("/", root.get_root, root.is_for_programs),
}

_PATHS = [
    *(route.path for router in _ROUTERS for route in router.routes if isinstance(route, Route)),
    *(page.path for page in addresses.PAGES),
]

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

    def stand_behind(self, ways: ShortWay | None) -> None:
        """Put the guard around all of it, also around what answers unexpected errors."""
        settings = self.state.site.settings
        inner: Any = ways or partial(FastAPI.__call__, self)
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
) -> FastAPI:
    """Open a site and make its app; the threads of the site run while the app does.

    An empty record is made if there is none. `may_withdraw` and `was_replica` are passed to
    `Site.start`, and `influx_transport` replaces the network to InfluxDB and Kapacitor.

    Raises
    ------
    SettingsError
        If a setting is missing or wrong, or the record does not fit the settings.
    """
    site = Site(settings, is_made=True, influx_transport=influx_transport)
    site.start(may_withdraw=may_withdraw, was_replica=was_replica)
    app = _make_service(site, lifespan=_lifespan)
    figures, places = site.figures, Places(AT_ONCE * max(1, settings.readers))
    app.state.places = places
    figures.observe("squash_reads_waiting", "Reads that wait their turn.", lambda: places.waiting)
    figures.observe("squash_reads_running", "Reads that are being made.", lambda: places.running)
    figures.observe("squash_streams", "Large answers that are being sent.", lambda: places.streams)
    app.add_middleware(Admission, places=places)
    app.add_middleware(ObservingMiddleware, figures=figures)
    _check_prefixes(settings)
    app.add_middleware(
        NormalizingMiddleware, root=settings.url_path, prefixes=settings.simple_prefixes
    )
    ways = None
    if site.record.only_reads is None:
        # Before FastAPI itself, which looks into the environment for each request.
        passed_on = partial(FastAPI.__call__, app)
        ways = ShortWay(passed_on, ways=_WAYS, find=sasquatch.find_way(settings), figures=figures)
    app.stand_behind(ways)
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
    for work in (_warm_up, partial(_look, site)):
        threading.Thread(target=work, name="warm-up", daemon=True).start()
    return app


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
    # Not `include_router`, which would make every route anew, during the first request.
    app.router.routes.extend(route for router in _ROUTERS for route in router.routes)
    for route in app.router.routes:
        if isinstance(route, APIRoute):
            # That of FastAPI has the path in it too.
            route.operation_id = route.name.rstrip("_")
    app.router.routes[:0] = [PageRoute(page.path, page.make) for page in addresses.PAGES]
    add_failure_handlers(app, page=failure_page, paths=_PATHS, url=site.settings.url)
    app.add_middleware(Door, site=site)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    site: Site = app.state.site
    site.background.start()
    reads_itself = site.settings.readers == 0
    warm_up = _warm_up if reads_itself else _warm_up_for_jobs
    threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
    first_look = threading.Thread(target=_look, args=(site,), name="first-look", daemon=True)
    if reads_itself:
        first_look.start()
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
        site.reader.close()
        site.background.stop()
        if reads_itself:
            first_look.join()
        site.close()


def _look(site: Site) -> None:
    """Compute the standings once: with many recent jobs the first time takes seconds."""
    try:
        site.board.entries()
    except SquashError as error:
        _log.warning("the standings could not be computed", reason=error.message)


def _warm_up() -> None:
    """Do in advance what would delay a request: the first conversion, the first plot."""
    plots.warm_up()
    _warm_up_for_jobs()


def _warm_up_for_jobs() -> None:
    astropy_units()
    spare_cycle_search()
