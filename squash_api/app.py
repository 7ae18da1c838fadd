"""The service: a site with routes and pages, and its threads while it runs."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import httpx
import structlog
from fastapi import FastAPI

from squash_api.errors import SquashError
from squash_api.pages import addresses, blobs, metric, plots
from squash_api.pages.rendering import failure_page
from squash_api.routes import (
    accounts,
    events,
    health,
    jobs,
    measurements,
    metrics,
    reports,
    root,
    runs,
    specifications,
    status,
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
    metrics.router,
    specifications.router,
    measurements.router,
    status.router,
    runs.router,
    reports.router,
    health.router,
    events.router,
    root.documentation_router,
    addresses.router,
    metric.router,
    blobs.router,
)

_log = structlog.get_logger(__name__)


class _Service(FastAPI):
    """FastAPI, but for the 422 that it documents wherever a path has a part to fill in.

    Where a 422 is possible the routes document it themselves, with the one body of all failures.
    """

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        for methods in document["paths"].values():
            for operation in methods.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document


def create_app(
    settings: Settings, *, influx_transport: httpx.BaseTransport | None = None
) -> FastAPI:
    """Open the record and return the service; its threads run while the app does.

    Parameters
    ----------
    settings
        What the environment says.
    influx_transport
        In place of the network to InfluxDB, for tests.

    Raises
    ------
    SettingsError
        If a setting is missing or wrong, or the record does not fit the settings.
    """
    site = Site(settings, influx_transport=influx_transport)
    site.start()
    counters = Counters()
    app = _Service(
        title="SQuaSH",
        version=version("squash-api"),
        summary="Receives lsst.verify jobs, keeps every one, and serves what they measured.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = site
    app.state.counters = counters
    for router in _ROUTERS:
        app.include_router(router)
    app.router.routes[:0] = [PageRoute(path, page) for path, page in addresses.PAGES]
    add_failure_handlers(app, page=failure_page)
    app.add_middleware(ObservingMiddleware, counters=counters)
    app.add_middleware(NormalizingMiddleware, root=settings.url_path)
    app.add_middleware(ShortWay, path="/job", answer=jobs.post_job, counters=counters)
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
        targets=[target.name for target in site.settings.targets],
        deliver=site.settings.deliver,
    )
    try:
        yield
    finally:
        site.background.stop()
        first_look.join()
        site.close()


def _look(site: Site) -> None:
    """Look at how metrics stand: the first time takes seconds, where many jobs are of late."""
    try:
        site.board.entries()
    except SquashError as error:
        _log.warning("nobody has looked at how metrics stand", reason=error.message)


def _warm_up() -> None:
    """Do ahead what would make some request wait: the first conversion, the first plot."""
    astropy_units()
    plots.warm_up()
    spare_cycle_search()
