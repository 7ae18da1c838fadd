"""API keys: making, listing and revoking them, for oneself or as an admin."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from squash_api.accounts.key_ring import key_object
from squash_api.accounts.keys import SCOPES
from squash_api.errors import ForbiddenError
from squash_api.routes.dependencies import (
    AccountDep,
    JsonObjectDep,
    PageDep,
    SiteDep,
    body_of,
    id_cursor,
    object_schema,
    paged_reply,
    required,
    wrong_value,
)
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.trends.question import parse_moment

router = APIRouter(tags=["accounts"], route_class=KnownParametersRoute)

_TEXT_OR_NULL = {"type": ["string", "null"]}
_LIST = {"type": ["array", "null"], "items": {"type": "string"}}
_BODY = body_of(
    object_schema(
        {
            "name": {"type": "string", "description": "What you call it."},
            "scopes": {"type": "array", "items": {"type": "string", "enum": list(SCOPES)}},
            "namespaces": {
                **_LIST,
                "description": "Packages or namespaces that it may write to; default: all.",
            },
            "expires": {**_TEXT_OR_NULL, "description": "A date or a time; default: never."},
            "user": {**_TEXT_OR_NULL, "description": "Its owner; default: you."},
        },
        "name",
        "scopes",
    ),
    {"name": "nightly CI", "scopes": ["job:write"], "namespaces": ["validate_drp"]},
)


@router.post(
    "/keys",
    status_code=201,
    responses=errors_of(400, 401, 403, 404, 413, 415, 422),
    openapi_extra=_BODY,
)
def post_key(site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Make an API key, for yourself or, as an admin, for another `user`.

    The reply has the whole `key`; it cannot be shown again. A key can make keys only if it has the
    scope `admin`.
    """
    row, text = site.keys.create(
        _text(document, "user") if document.get("user") is not None else account.name,
        _text(document, "name"),
        scopes=_texts(document, "scopes") or (),
        namespaces=_texts(document, "namespaces"),
        expires_ns=_expiry(document),
        by=account,
    )
    return json_reply({"key": text, **key_object(row)}, status_code=201)


@router.get("/keys", responses=errors_of(401, 403, 422))
def get_keys(
    request: Request,
    site: SiteDep,
    page: PageDep,
    account: AccountDep,
    *,
    everybody: Annotated[
        bool, Query(alias="all", description="Those of all users; for admins.")
    ] = False,
) -> Response:
    """List your API keys, the oldest first, also those that are revoked or have expired."""
    if everybody and not account.is_admin:
        raise ForbiddenError("Only admins may see the keys of others.")
    found = site.keys.list(
        user_id=None if everybody else account.user_id,
        after=id_cursor(page),
        limit=page.limit + 1,
    )
    return paged_reply(request, page, "keys", found, cursor=lambda row: row.key_id, show=key_object)


@router.delete("/keys/{key_id}", responses=errors_of(401, 403, 404))
def delete_key(key_id: str, site: SiteDep, account: AccountDep) -> Response:
    """Revoke an API key, for good. Only its owner and admins may do this.

    Every process of the service refuses it within a second.
    """
    row = site.keys.revoke(key_id, by=account)
    return json_reply({"message": f"The key `{row.public_id}` ({row.name}) is revoked."})


def _text(document: dict[str, Any], key: str) -> str:
    value = required(document, key)
    if not isinstance(value, str):
        raise wrong_value(key, "must be text", "string_type")
    return value


def _texts(document: dict[str, Any], key: str) -> list[str] | None:
    value = document.get(key)
    if value is None and key != "scopes":
        return None
    value = required(document, key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise wrong_value(key, "must be a list of texts", "list_type")
    return value


def _expiry(document: dict[str, Any]) -> int | None:
    if document.get("expires") is None:
        return None
    moment = parse_moment(_text(document, "expires"), now_ns=time.time_ns(), is_end=True)
    if moment is None:
        raise wrong_value("expires", "must be a date, such as 2027-01-31", "value_error")
    return moment
