"""What a key must be for, by route: the one table, which every request with a key is checked by."""

from collections.abc import Mapping

from fastapi import Request

from squash_api.accounts.accounts import Account
from squash_api.errors import ForbiddenError

ROUTES: Mapping[str, tuple[str, ...]] = {
    "job:write": (
        "POST /job",
        "DELETE /job/{job_id}",
        "POST /measurement/{job_id}",
        "POST /topics/{topic}",
    ),
    "definitions:write": (
        "POST /metrics",
        "POST /metric",
        "POST /metric/{name}",
        "PUT /metric/{name}",
        "DELETE /metric/{name}",
        "POST /specs",
        "POST /spec/{name}",
        "PUT /spec/{name}",
        "DELETE /spec/{name}",
    ),
    "alerts:write": (
        "POST /alert/{alert_id}/ack",
        "DELETE /alert/{alert_id}/ack",
        "POST /alert/{alert_id}/resolve",
        "POST /silences",
        "DELETE /silence/{silence_id}",
    ),
    "admin": (
        "PUT /user/{name}",
        "DELETE /user/{name}",
        "POST /keys",
        "GET /keys",
        "DELETE /keys/{key_id}",
        "GET /audit",
        "GET /quarantine",
        "POST /quarantine/retry",
        "POST /quarantine/drop",
        "POST /webhooks",
        "GET /webhooks",
        "DELETE /webhooks/{name}",
        "GET /webhooks/{name}/deliveries",
        "POST /webhooks/{name}/test",
        "POST /webhooks/{name}/retry",
    ),
    "job:read": (
        "GET /users",
        "GET /user/{name}",
        "GET /jobs",
        "GET /job/{job_id}",
        "GET /job/{job_id}/artifacts",
        "GET /job/{job_id}/blobs",
        "GET /job/{job_id}/blob/{identifier:text}",
        "GET /job/{job_id}/plot",
        "GET /job/{job_id}/report",
        "GET /status/{job_id}",
        "GET /measurements",
        "GET /measurement/{job_id}",
        "GET /metrics",
        "GET /metric/{name}",
        "GET /metric/{name:text}",
        "GET /metric/{name:text}/plot",
        "GET /specs",
        "GET /spec/{name}",
        "GET /runs",
        "GET /runs/{pipeline:text}/{run_id:text}",
        "GET /notebooks",
        "GET /notebook/{job_id}",
        "GET /notebook/{job_id}/html",
        "GET /notebook/{job_id}/ipynb",
        "GET /jenkins/{ci_id:text}",
        "GET /code_changes/{ci_id:text}",
        "GET /report",
        "GET /badge/{package:text}.svg",
        "GET /standings",
        "GET /stats",
        "GET /datasets",
        "GET /packages",
        "GET /search",
        "GET /alerts",
        "GET /alert/{alert_id}",
        "GET /silences",
        "GET /events",
        "GET /",
    ),
}
"""Routes by the scope that a key needs; reads need it only where reading needs an account."""

PUBLIC = (
    "POST /register",
    "POST /auth",
    "GET /version",
    "GET /v3/clusters",
    "GET /v3/clusters/{cluster_id}/topics",
    "POST /v3/clusters/{cluster_id}/topics",
    "GET /topics",
    "GET /brokers",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/{name}",
    "GET /static/{name}",
    "GET /healthz",
    "GET /readyz",
    "GET /prometheus",
    "GET /login",
    "POST /login",
    "GET /logout",
    "POST /logout",
    "GET /account",
    "POST /account/password",
    "POST /account/keys",
    "POST /account/keys/revoke",
    "POST /users",
    "POST /alerts",
    "POST /alert/{alert_id}",
)
"""Routes that look at no key; where only users read, the door asks one for `job:read`."""

SCOPE_OF: Mapping[str, str] = {route: scope for scope, routes in ROUTES.items() for route in routes}
OWN_SCOPE = frozenset(
    route.split("/")[1]
    for route, scope in SCOPE_OF.items()
    if route.startswith("GET ") and scope != "job:read"
)
"""The first parts of the paths that are read with a key of another scope than `job:read`."""

_SCOPE_BY_PATH = {route.replace(":text}", "}"): scope for route, scope in SCOPE_OF.items()}

# Posts that come by the thousand go past the door, which knows sessions.
_WITHOUT_SESSION = frozenset({"POST /job", "POST /topics/{topic}"})


def schemes(cookie: str) -> dict[str, dict[str, str]]:
    """Describe what requests are sent with, for the OpenAPI document; `cookie` is a session's."""
    return {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "`Authorization: Bearer <access_token>` from `POST /auth`; or `JWT`.",
        },
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "sq_<id>_<secret>",
            "description": (
                "`Authorization: Bearer sq_...`, an API key with the scope that is named."
            ),
        },
        "password": {
            "type": "http",
            "scheme": "basic",
            "description": "Name and password; an API key counts as the password of its owner.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie,
            "description": "The cookie of a browser that has logged in on `/login`.",
        },
        "form": {
            "type": "apiKey",
            "in": "header",
            "name": "X-CSRF-Token",
            "description": (
                "With the cookie, for what changes something: the field `token` of a form on a "
                "page of the same session."
            ),
        },
    }


def security_of(method: str, path: str, *, is_required: bool) -> list[dict[str, list[str]]]:
    """Describe what a route of the OpenAPI document must be sent with; empty if with nothing.

    If it is not required, it may be sent with nothing too.
    """
    route = f"{method.upper()} {path}"
    scope = _SCOPE_BY_PATH.get(route)
    if scope is None:
        return []
    ways: list[dict[str, list[str]]] = [{"token": []}, {"key": [scope]}, {"password": []}]
    if route not in _WITHOUT_SESSION:
        ways.append({"session": []} if method == "get" else {"session": [], "form": []})
    return ways if is_required else [{}, *ways]


def require_scope(request: Request, account: Account) -> None:
    """Check that the key of a request, if it has one, is for its route.

    Raises
    ------
    ForbiddenError
        Naming the scope that the key lacks; a route that is not in the table takes no key.
    """
    if account.key is None:
        return
    route = f"{request.method} {request.scope['route'].path}"
    if route not in SCOPE_OF:
        raise ForbiddenError("This cannot be done with a key: log in.")
    account.require_scope(SCOPE_OF[route])
