"""The service: its parts put together, and the one body that all failures share."""

import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import httpx
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import Scope

from squash_api.accounts import Accounts
from squash_api.background import Background
from squash_api.definitions import Definitions
from squash_api.delivery import Drainer
from squash_api.derivation import Deriver
from squash_api.errors import (
    BusyError,
    Detail,
    InvalidInputError,
    SquashError,
    UnauthorizedError,
)
from squash_api.garbage import spare_cycle_search
from squash_api.middleware import NormalizingMiddleware, ObservingMiddleware
from squash_api.observability import Counters
from squash_api.record.deliveries import ensure_targets
from squash_api.record.record import Record
from squash_api.routes import (
    accounts,
    documentation,
    health,
    jobs,
    measurements,
    metrics,
    overview,
    runs,
    specifications,
    status,
)
from squash_api.routes.dependencies import Parts
from squash_api.routes.json_reply import json_reply
from squash_api.schema import Schema
from squash_api.settings import Settings, require_secret
from squash_api.tags_in_force import check_tags
from squash_api.vocabulary import Vocabulary

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
        overview,
        metrics,
        specifications,
        measurements,
        status,
        runs,
        health,
        documentation,
    ):
        app.include_router(module.router)
    app.router.routes.insert(0, _PlainRoute("/job", jobs.post_job, methods=["POST"]))
    app.add_exception_handler(SquashError, _squash_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected_error)
    app.add_middleware(ObservingMiddleware, counters=parts.counters)
    app.add_middleware(NormalizingMiddleware, root=settings.url_path)
    return app


class _PlainRoute(Route):
    """A route without what FastAPI does around a function, for the one that most requests take.

    It costs a fifth of taking a job in (`benchmarks/`). The OpenAPI document is made from the same
    function's FastAPI route.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as any route; name the route, by which requests are counted."""
        match, child = super().matches(scope)
        # What it does not match is left to the FastAPI route, whose 405 names all methods.
        return (match, {**child, "route": self}) if match is Match.FULL else (Match.NONE, {})


def _open(settings: Settings, influx_transport: httpx.BaseTransport | None) -> Parts:
    secret = require_secret(settings)
    schema = Schema(settings.tags)
    record = Record.open(settings.database_url)
    try:
        check_tags(record, schema)
        vocabulary = Vocabulary(record, schema)
        deriver = Deriver(record, vocabulary)
        definitions = Definitions(record, schema, vocabulary, catch_up=deriver.catch_up)
        names = [target.name for target in settings.targets]
        record.write(lambda connection: ensure_targets(connection, names))
        definitions.sync_yaml(settings.specs)
        drainers = [
            Drainer(
                target,
                record=record,
                vocabulary=vocabulary,
                deriver=deriver,
                squash_url=settings.url,
                transport=influx_transport,
            )
            for target in (settings.targets if settings.deliver == "inline" else ())
        ]
    except BaseException:
        record.close()
        raise
    return Parts(
        settings=settings,
        record=record,
        vocabulary=vocabulary,
        deriver=deriver,
        definitions=definitions,
        accounts=Accounts(record, settings, secret=secret),
        background=Background(drainers, deriver),
        counters=Counters(),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    parts.background.start()
    threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
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
        parts.accounts.close()
        parts.record.close()


def _warm_up() -> None:
    """Do ahead what would make some request wait: importing astropy, for the first conversion."""
    import astropy.units  # noqa: F401, PLC0415

    spare_cycle_search()


def _failure(
    status_code: int,
    *,
    code: str,
    message: str,
    detail: tuple[Detail, ...] = (),
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the one body of all failures."""
    reply = json_reply(
        {
            "message": message,
            "code": code,
            "status_code": status_code,
            "detail": [{"loc": item.loc, "msg": item.msg, "type": item.type} for item in detail],
            **(extra or {}),
        },
        status_code=status_code,
    )
    reply.headers.update(headers or {})
    return reply


async def _squash_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SquashError)  # noqa: S101  for mypy
    extra: dict[str, str] = {}
    headers: dict[str, str] = {}
    if isinstance(error, UnauthorizedError):
        extra = {"error": error.error, "description": error.message}
        if error.challenge:
            headers = {"WWW-Authenticate": 'JWT realm="Login Required"'}
    if isinstance(error, BusyError):
        headers = {"Retry-After": str(error.retry_after_s)}
    return _failure(
        error.status_code,
        code=error.code,
        message=error.message,
        detail=error.detail,
        extra=extra,
        headers=headers,
    )


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  for mypy
    detail = tuple(Detail(tuple(item["loc"]), item["msg"], item["type"]) for item in error.errors())
    where = ".".join(str(part) for part in detail[0].loc)
    return _failure(
        422, code=InvalidInputError.code, message=f"{where}: {detail[0].msg}.", detail=detail
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  for mypy
    path = request.scope["path"]
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    codes = {
        404: ("not_found", f"There is nothing at {path}."),
        405: ("method_not_allowed", f"{request.method} is not possible at {path}."),
    }
    phrase = HTTPStatus(error.status_code).phrase
    code, message = codes.get(
        error.status_code, (phrase.lower().replace(" ", "_"), f"{error.detail or phrase}.")
    )
    return _failure(error.status_code, code=code, message=message, headers=headers)


def _allowed_methods(request: Request) -> list[str]:
    """Return what is possible at a path; starlette names the first route's methods only."""
    app: FastAPI = request.app
    methods = {
        method
        for method in ("DELETE", "GET", "POST", "PUT")
        for route in app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody is there to read this; without it the log would call it an error of ours."""
    return _failure(400, code="client_gone", message="The client went away.")


async def _unexpected_error(request: Request, error: Exception) -> Response:
    _log.error("unexpected error", path=request.scope["path"], exc_info=error)
    return _failure(
        500,
        code=SquashError.code,
        message="Something went wrong in the service; it has been logged.",
    )
