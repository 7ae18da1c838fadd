"""The service: its parts put together, and the one body that all failures share."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import httpx
import structlog
from fastapi import FastAPI

from squash_api.accounts.accounts import Accounts
from squash_api.definitions.definitions import Definitions
from squash_api.definitions.from_yaml import SpecificationSources
from squash_api.delivery.background import Background
from squash_api.delivery.drainer import Drainer
from squash_api.delivery.events import JobEvents
from squash_api.errors import SquashError
from squash_api.index.deriver import Deriver
from squash_api.index.reader import Reader
from squash_api.index.tags_in_force import check_tags
from squash_api.pages import assets, blobs, metric, plots
from squash_api.pages.addresses import PAGES
from squash_api.pages.rendering import failure_page
from squash_api.record.deliveries import ensure_targets
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
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
from squash_api.routes.dependencies import Parts
from squash_api.routes.failures import add_failure_handlers
from squash_api.routes.middleware import NormalizingMiddleware, ObservingMiddleware, ShortWay
from squash_api.routes.negotiation import PageRoute
from squash_api.schema.names import Schema
from squash_api.settings import Settings, require_secret
from squash_api.site import spare_cycle_search
from squash_api.standings.board import Board
from squash_api.standings.job_states import JobStates
from squash_api.standings.standing import Standings
from squash_api.standings.watch import make_watch
from squash_api.trends.trends import Trends

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
    parts = _open(settings, influx_transport)
    app = _Service(
        title="SQuaSH",
        version=version("squash-api"),
        summary="Receives lsst.verify jobs, keeps every one, and serves what they measured.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    # Routes are tried in this order; most requests post a job.
    for module in (
        jobs,
        accounts,
        root,
        metrics,
        specifications,
        measurements,
        status,
        runs,
        reports,
        health,
        events,
    ):
        app.include_router(module.router)
    app.include_router(root.documentation_router)
    app.include_router(assets.router)
    app.include_router(metric.router)
    app.include_router(blobs.router)
    app.router.routes[:0] = [PageRoute(path, page) for path, page in PAGES]
    add_failure_handlers(app, page=failure_page)
    app.add_middleware(ObservingMiddleware, counters=parts.counters)
    app.add_middleware(NormalizingMiddleware, root=settings.url_path)
    app.add_middleware(ShortWay, path="/job", answer=jobs.post_job, counters=parts.counters)
    return app


def _open(settings: Settings, influx_transport: httpx.BaseTransport | None) -> Parts:
    secret = require_secret(settings)
    schema = Schema(settings.tags)
    record = Record.open(settings.database_url)
    try:
        check_tags(record, schema)
        vocabulary = Vocabulary(record, schema)
        deriver = Deriver(record, vocabulary)
        reader = Reader(record, deriver, vocabulary)
        definitions = Definitions(record, schema, vocabulary, catch_up=deriver.catch_up)
        names = [target.name for target in settings.targets]
        record.write(lambda connection: ensure_targets(connection, names))
        definitions.sync_yaml(settings.specs)
        standings = Standings(reader, definitions.in_force)
        drainers = _drainers(settings, record, vocabulary, deriver, influx_transport)
    except BaseException:
        record.close()
        raise
    return Parts(
        settings=settings,
        record=record,
        vocabulary=vocabulary,
        deriver=deriver,
        reader=reader,
        definitions=definitions,
        accounts=Accounts(record, settings, secret=secret),
        standings=standings,
        board=Board(standings),
        sources=SpecificationSources(record, settings.specs, schema),
        background=Background(drainers, deriver, make_watch(standings, settings, drainers)),
        counters=Counters(),
        states=JobStates(reader, definitions.in_force),
        trends=Trends(reader, definitions.in_force),
        events=JobEvents(record, deriver),
    )


def _drainers(
    settings: Settings,
    record: Record,
    vocabulary: Vocabulary,
    deriver: Deriver,
    transport: httpx.BaseTransport | None,
) -> list[Drainer]:
    return [
        Drainer(
            target,
            record=record,
            vocabulary=vocabulary,
            deriver=deriver,
            squash_url=settings.url,
            transport=transport,
        )
        for target in (settings.targets if settings.deliver == "inline" else ())
    ]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    parts.background.start()
    threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
    first_look = threading.Thread(target=_look, args=(parts,), name="first-look", daemon=True)
    first_look.start()
    _log.info(
        "serving",
        url=parts.settings.url,
        targets=[target.name for target in parts.settings.targets],
        deliver=parts.settings.deliver,
    )
    try:
        yield
    finally:
        parts.background.stop()
        first_look.join()
        parts.accounts.close()
        parts.record.close()


def _look(parts: Parts) -> None:
    """Look at how metrics stand: the first time takes seconds, where many jobs are of late."""
    try:
        parts.board.entries()
    except SquashError as error:
        _log.warning("nobody has looked at how metrics stand", reason=error.message)


def _warm_up() -> None:
    """Do ahead what would make some request wait: the first conversion, the first plot."""
    import astropy.units  # noqa: F401, PLC0415

    plots.warm_up()
    spare_cycle_search()
