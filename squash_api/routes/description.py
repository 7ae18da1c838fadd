"""The OpenAPI document: what FastAPI makes of the routes, completed by what all of them share.

Routes document what they answer themselves. What a request must be sent with comes from the table
of scopes; what is answered outside of routes, the service's address, the tags and the examples of
answers are added here.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from squash_api.routes.admission import takes_turns
from squash_api.routes.door import READY, is_open, session_cookie
from squash_api.routes.replies import ERROR_SCHEMA
from squash_api.routes.scopes import schemes, security_of
from squash_api.settings import Settings

# What any request may be answered before a route sees it, and if the record fails.
_OF_CONNECTIONS = (400, 408, 414, 431, 503)
# What requests with credentials may be answered: too many passwords may wait to be checked.
_OF_CREDENTIALS = (401, 403, 429)
# What a read may be answered: it may have a body that nobody wants, or wait for its turn.
_OF_TURNS = (413, 429)

# An example of each that routes share, by its status.
_FAILURES: Mapping[int, tuple[str, str]] = {
    400: ("malformed_request", "This is not an HTTP request."),
    401: ("unauthorized", "Request does not contain an access token"),
    403: ("forbidden", "Only its owner and admins may delete job 41."),
    408: ("too_slow", "The request did not arrive in time."),
    413: ("too_large", "The body is larger than 1000000 bytes."),
    414: ("url_too_long", "The URL is longer than 16384 bytes."),
    429: ("busy", "Too many wrong passwords; try again in 4 s."),
    431: ("headers_too_large", "The headers are longer than 65536 bytes."),
    503: ("record_unavailable", "The disk of the record is full; nothing was stored. Try again."),
}

TAGS: Sequence[Mapping[str, str]] = [
    {"name": "jobs", "description": "Jobs: what pipelines send, and what became of it."},
    {"name": "measurements", "description": "Values of metrics, of any number of jobs."},
    {"name": "metrics", "description": "Metrics: their names, units and descriptions."},
    {"name": "specifications", "description": "Specifications: the limits of metrics."},
    {"name": "runs", "description": "Runs: jobs that belong together, and what changed between."},
    {"name": "notebooks", "description": "Notebooks that ran by themselves."},
    {"name": "reports", "description": "Reports on runs, periods and releases; badges."},
    {"name": "alerts", "description": "Alerts, acknowledgements and silences."},
    {"name": "overview", "description": "The map of the API, and how everything stands."},
    {"name": "events", "description": "New jobs, as a stream."},
    {"name": "accounts", "description": "Users, tokens, API keys, and the audit trail."},
    {"name": "webhooks", "description": "Programs that are told what happens."},
    {"name": "quarantine", "description": "What InfluxDB refused for good."},
    {"name": "sasquatch", "description": "Records in the form of Rubin's Sasquatch."},
    {"name": "health", "description": "How the service is, for probes and for Prometheus."},
]
"""What the tags of operations mean, in the order in which readers want them."""


def complete(document: dict[str, Any], *, settings: Settings, pages: Collection[str]) -> None:
    """Complete the document of FastAPI; `pages` are the paths that browsers get a page of."""
    document["servers"] = [
        {
            "url": "{root}",
            "description": "The service.",
            "variables": {
                "root": {"default": settings.url, "description": "Its public root, `SQUASH_URL`."}
            },
        }
    ]
    # FastAPI makes none: no route has a model.
    document.setdefault("components", {})["securitySchemes"] = schemes(session_cookie(settings))
    # msgspec makes the schemas then, and nobody waits for that at the start.
    from squash_api.routes.schemas import add_schemas  # noqa: PLC0415

    add_schemas(document)
    is_closed = settings.read == "users"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "get" and path in pages:
                page = operation["responses"]["200"].setdefault("content", {})
                page["text/html"] = {}
            _complete(operation, method, path, is_closed=is_closed)
    shared = sorted({*_OF_CONNECTIONS, *_OF_CREDENTIALS, *_OF_TURNS})
    document["components"]["responses"] = {f"{item}": _failure(item) for item in shared}


def _complete(operation: dict[str, Any], method: str, path: str, *, is_closed: bool) -> None:
    responses = operation["responses"]
    # At `/readyz` the door looks at credentials, but needs none.
    is_watched = is_closed and (path == READY or not is_open(path))
    is_required = "401" in responses or (is_watched and path != READY)
    security = security_of(method, path, is_required=is_required)
    operation.update({"security": security} if security else {})
    # Whoever sends credentials may be refused, also where they need none.
    is_guarded = is_watched or (bool(security) and not is_open(path))
    guarded = _OF_CREDENTIALS if is_guarded else ()
    turns = _OF_TURNS if method == "get" and takes_turns(path) else ()
    operation["responses"] = _completed(responses, (*_OF_CONNECTIONS, *guarded, *turns))
    for status, example in examples().get(operation["operationId"], {}).items():
        content = operation["responses"][status]["content"]
        content[next(iter(content))]["example"] = example


def _completed(responses: dict[str, Any], of_others: Sequence[int]) -> dict[str, Any]:
    """Return an operation's responses, with the failures that are not of its own doing.

    FastAPI's own 422 goes: it documents one for every route with a parameter.
    """
    found = {
        **{f"{status}": {"$ref": f"#/components/responses/{status}"} for status in of_others},
        **{key: text for key, text in responses.items() if "HTTPValidationError" not in str(text)},
    }
    good = [key for key in found if key < "4"]
    return {key: found[key] for key in (*good, *sorted(found.keys() - set(good)))}


def _failure(status: int) -> dict[str, Any]:
    """Describe a failure, as FastAPI describes those of routes."""
    code, message = _FAILURES[status]
    example = {"message": message, "code": code, "status_code": status, "detail": []}
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": dict(ERROR_SCHEMA), "example": example}},
    }


@cache
def examples() -> dict[str, dict[str, Any]]:
    """Return what a service has answered, by operation and status.

    Made by `tests/support/replies.py`, which also compares them with what it answers.
    """
    text = Path(__file__).with_name("examples.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found
