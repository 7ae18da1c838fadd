"""The service: a site with routes and pages, and its threads while it runs."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import httpx
import structlog
from fastapi import FastAPI
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from squash_api.errors import SquashError
from squash_api.pages import addresses, blobs, docs, metric, plots
from squash_api.pages.rendering import failure_page
from squash_api.routes import (
    accounts,
    definitions,
    health,
    jobs,
    measurements,
    reports,
    root,
    runs,
    search,
    standings,
)
from squash_api.routes.counters import Counters
from squash_api.routes.middleware import NormalizingMiddleware, ObservingMiddleware, ShortWay
from squash_api.routes.negotiation import PageRoute
from squash_api.routes.replies import add_failure_handlers
from squash_api.settings import Settings
from squash_api.site import Site, spare_cycle_search
from squash_api.verify.units import astropy_units

# Routes are tried in this order; most requests post a job.
_ROUTERS = (
    jobs.router,
    accounts.router,
    root.router,
    search.router,
    definitions.metrics_router,
    definitions.specifications_router,
    measurements.router,
    jobs.status_router,
    runs.router,
    standings.router,
    reports.router,
    health.router,
    jobs.events_router,
    docs.router,
    addresses.router,
    metric.router,
    blobs.router,
)

_PATHS = [
    *(route.path for router in _ROUTERS for route in router.routes if isinstance(route, Route)),
    *(page.path for page in addresses.PAGES),
]

_log = structlog.get_logger(__name__)


class _Service(FastAPI):
    """FastAPI without the 422 that it documents for every route with a path parameter.

    Routes that can answer 422 document it themselves, with the body that all failures share.
    """

    def openapi(self) -> dict[str, Any]:
        """Make the OpenAPI document."""
        document = super().openapi()
        for methods in document["paths"].values():
            for operation in methods.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document


def create_app(
    settings: Settings,
    *,
    may_withdraw: bool = False,
    influx_transport: httpx.BaseTransport | None = None,
) -> FastAPI:
    """Open a site and make its app; the threads of the site run while the app does.

    An empty record is made if there is none. `may_withdraw` is passed to `Site.start`, and
    `influx_transport` replaces the network to InfluxDB and Kapacitor.

    Raises
    ------
    SettingsError
        If a setting is missing or wrong, or the record does not fit the settings.
    """
    site = Site(settings, is_made=True, influx_transport=influx_transport)
    site.start(may_withdraw=may_withdraw)
    counters = Counters()
    app = _Service(
        title="SQuaSH",
        version=version("squash-api"),
        summary="Receives lsst.verify jobs, keeps every one, and serves what they measured.",
        lifespan=_lifespan,
        # A route of our own, since FastAPI's accepts any parameter.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = site
    app.state.counters = counters
    app.state.menu = addresses.MENU
    for router in _ROUTERS:
        app.include_router(router)
    app.router.routes[:0] = [PageRoute(page.path, page.make) for page in addresses.PAGES]
    add_failure_handlers(app, page=failure_page, paths=_PATHS)
    app.add_middleware(ObservingMiddleware, counters=counters)
    app.add_middleware(NormalizingMiddleware, root=settings.url_path)
    app.add_middleware(ShortWay, path="/job", answer=jobs.post_job, counters=counters)
    if settings.trusted_proxies:
        # Of the last one that is not trusted: all before it may be made up.
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=[*settings.trusted_proxies])
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    site: Site = app.state.site
    site.background.start()
    threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
    first_look = threading.Thread(target=_look, args=(site,), name="first-look", daemon=True)
    first_look.start()
    _log.info(
        "serving",
        url=site.settings.url,
        targets=[target.name for target in site.settings.outlets],
        deliver=site.settings.deliver,
    )
    try:
        yield
    finally:
        site.background.stop()
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
    astropy_units()
    plots.warm_up()
    spare_cycle_search()
