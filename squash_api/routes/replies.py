"""Replies: JSON, and the one body that all failures have, or the page that people get instead.

orjson writes every number as the shortest text that reads back the same.
"""

import errno
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from squash_api.errors import (
    MOST_PLACES,
    BusyError,
    Detail,
    InvalidInputError,
    RecordUnavailableError,
    SquashError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    help_link,
    nearest,
    plain_words,
    see,
    sentence,
)
from squash_api.logs import without_credentials
from squash_api.routes.negotiation import prefers_html
from squash_api.schema.text import as_sent

FORM = "application/x-www-form-urlencoded"
"""The media type in which browsers send forms."""

REQUEST_ID = "squash_request_id"
"""The key of a request's scope with its id, which every line of the log about it has too."""

JOB_ID = "squash_job_id"
"""The key of a request's scope with the id of the job that it has stored."""

USER = "squash_user"
"""The key of a request's scope with the name of the user who sends it, or says so."""

ERROR_CODES = "squash_error_codes"
"""The key of a request's scope with the numbers that its client knows failures by, by status."""

# The words of a failure may contain what was posted, which has room for millions of letters.
_MOST_LETTERS = 2000
_MOST_LETTERS_OF_PLACE = 500
_MOST_LETTERS_OF_STEP = 100
_MOST_STEPS = 20
ERROR_SCHEMA: Mapping[str, str] = {"$ref": "#/components/schemas/ErrorBody"}
"""The one body of all failures, in the OpenAPI document."""

MOST_LISTED = 100
"""A reply about one job names at most so many of its values of one kind, and counts the rest."""

_log = structlog.get_logger(__name__)


def first_of(lists: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Cut lists for a reply; `more` then says how many entries of which are left out."""
    more = {name: len(found) - MOST_LISTED for name, found in lists.items()}
    left_out = {name: count for name, count in more.items() if count > 0}
    shown: dict[str, Any] = {name: found[:MOST_LISTED] for name, found in lists.items()}
    return shown | {"more": left_out} if left_out else shown


def json_reply(
    content: Any, *, status_code: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Make a JSON response."""
    body = orjson.dumps(content, default=as_sent)
    return Response(body, status_code=status_code, headers=headers, media_type="application/json")


def errors_of(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for these statuses.

    Who must say who they are (401) may have given too many wrong passwords (429).
    """
    limited = {429} if 401 in status_codes else set()
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": ERROR_SCHEMA}},
        }
        for status in sorted({*status_codes, *limited})
    }


def add_failure_handlers(
    app: FastAPI, *, page: Callable[..., Response], paths: Sequence[str], url: str
) -> None:
    """Answer every failure with the one body, or with a page for people.

    `paths` are those of all routes, of which the nearest is suggested; `url` is the public root.
    """
    app.state.failure_page = page
    app.state.paths = paths
    app.state.root_url = url
    for kind, answer in _ANSWERS.items():
        app.exception_handler(kind)(answer)


async def failure_reply(request: Request, error: Exception) -> Response:
    """Answer a failure, whatever it is."""
    answer = next(answer for kind, answer in _ANSWERS.items() if isinstance(error, kind))
    return await answer(request, error)


def _failure(
    request: Request,
    status_code: int,
    *,
    code: str,
    message: str,
    detail: Sequence[Detail] = (),
    more: int = 0,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    runbook: str | None = None,
) -> Response:
    """Make the one body of all failures, or a page that says the same.

    However long the input was, it is short. `runbook` is the entry to link to, if it is another
    than that of the code; a failure of the service itself names it in the message too.
    """
    message = _clipped(without_credentials(message), _MOST_LETTERS)
    root, runbook = request.app.state.root_url, runbook or code
    headers = {**(headers or {}), "Link": help_link(root, runbook)}
    detail = _first_places(detail, more=more)
    is_form = request.headers.get("content-type", "").startswith(FORM)
    if (request.method == "GET" or is_form) and prefers_html(request.headers.get("accept")):
        page: Response = request.app.state.failure_page(
            request, status_code, message=message, detail=detail, runbook=runbook
        )
        page.headers.update(headers)
        return page
    if status_code == RecordUnavailableError.status_code:
        message += see(root, runbook)
    codes = request.scope.get(ERROR_CODES)
    if codes is not None:
        extra = {**(extra or {}), "error_code": codes.get(status_code, status_code)}
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
    reply.headers.update(headers)
    return reply


def _first_places(detail: Sequence[Detail], *, more: int) -> tuple[Detail, ...]:
    """Return the first places, each shortened, and how many more there are."""
    places = [
        Detail(
            tuple(
                _clipped(step, _MOST_LETTERS_OF_STEP) if isinstance(step, str) else step
                for step in item.loc[:_MOST_STEPS]
            ),
            _clipped(item.msg, _MOST_LETTERS_OF_PLACE),
            item.type,
        )
        for item in detail[:MOST_PLACES]
    ]
    more += len(detail) - len(places)
    if more:
        places.append(Detail(detail[0].loc[:1], f"and {more} more", "more"))
    return tuple(places)


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


async def _squash_error(request: Request, error: SquashError) -> Response:
    extra: dict[str, str] = {}
    headers: dict[str, str] = {}
    if isinstance(error, UnauthorizedError):
        extra = {"error": error.error, "description": _clipped(error.message, _MOST_LETTERS)}
        request.scope.setdefault(USER, error.user)
        if error.challenge:
            headers = {"WWW-Authenticate": 'JWT realm="Login Required"'}
    if isinstance(error, UnsupportedMediaTypeError):
        headers = {"Accept-Encoding": "gzip"}
    if isinstance(error, BusyError | RecordUnavailableError):
        headers = {"Retry-After": str(error.retry_after_s)}
    return _failure(
        request,
        error.status_code,
        code=error.code,
        message=error.message,
        detail=error.detail,
        more=error.more,
        extra=extra,
        headers=headers,
        runbook=error.runbook,
    )


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    detail = [
        Detail(tuple(item["loc"]), plain_words(item), item["type"]) for item in error.errors()
    ]
    where = ".".join(str(part) for part in detail[0].loc)
    return _failure(
        request,
        422,
        code=InvalidInputError.code,
        message=f"{where}: {detail[0].msg}.",
        detail=detail,
    )


async def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.scope["path"]
    headers = dict(error.headers or {})
    allowed = ", ".join(_allowed_methods(request)) if error.status_code == 405 else ""
    if allowed:
        headers["Allow"] = allowed
    known = _known_paths(request)
    is_page = (
        path in known
        and (error.status_code == 404 or request.method == "GET")
        and _has_page(request)
    )
    nothing = sentence(f"There is nothing at {path}{nearest(path, known)}")
    only_page = f"{path} is a page: browsers open it, and programs find nothing there."
    codes = {
        404: ("not_found", only_page if is_page else nothing),
        405: (
            "method_not_allowed",
            only_page if is_page else f"{request.method} is not possible at {path}: use {allowed}.",
        ),
    }
    phrase = HTTPStatus(error.status_code).phrase
    code, message = codes.get(
        error.status_code, (phrase.lower().replace(" ", "_"), f"{error.detail or phrase}.")
    )
    return _failure(request, error.status_code, code=code, message=message, headers=headers)


def _known_paths(request: Request) -> list[str]:
    """List the paths of routes and pages with as many parts, some of which may be any name."""
    asked = request.scope["path"].split("/")
    known = []
    for path in request.app.state.paths:
        parts = path.split("/")
        if len(parts) == len(asked):
            pairs = zip(asked, parts, strict=True)
            known.append("/".join(own if part.startswith("{") else part for own, part in pairs))
    return known


def _has_page(request: Request) -> bool:
    """Tell whether there is a page for a path: a route that is none of the API."""
    path = request.scope["path"]
    pages = [item for item in request.app.routes if not isinstance(item, APIRoute)]
    return any(isinstance(item, Route) and item.path_regex.match(path) for item in pages)


def _allowed_methods(request: Request) -> list[str]:
    """List the methods that a path has; starlette names only those of the first route."""
    app: FastAPI = request.app
    methods = {
        method
        for method in ("DELETE", "GET", "POST", "PUT")
        for route in app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _gone(request: Request, _error: Exception) -> Response:
    """Answer nobody; without this the log would call it an error of the service."""
    return _failure(request, 400, code="client_gone", message="The client went away.")


async def _system_error(request: Request, error: OSError) -> Response:
    """Say that files cannot be opened, the record's among them, until others have been closed."""
    if error.errno not in {errno.EMFILE, errno.ENFILE}:
        return await _unexpected_error(request, error)
    reason = "The files of the record cannot be opened"
    message = "The service has too many files open. Try again."
    problem = RecordUnavailableError(message, reason=reason)
    path = request.scope["path"]
    _log.error("no file descriptors are left", path=path, runbook=problem.runbook)
    return await _squash_error(request, problem)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    path = request.scope["path"]
    _log.error("unexpected error", path=path, exc_info=error, runbook=SquashError.code)
    return _failure(
        request,
        500,
        code=SquashError.code,
        message="Something went wrong in the service; it has been logged.",
    )


# The first that fits is taken.
_ANSWERS: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
    SquashError: _squash_error,
    RequestValidationError: _validation_error,
    HTTPException: _http_error,
    ClientDisconnect: _gone,
    OSError: _system_error,
    Exception: _unexpected_error,
}
