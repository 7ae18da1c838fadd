"""Webhooks: making, listing, trying and removing them, and what was sent to them. For admins."""

from typing import Any

from fastapi import APIRouter, Request, Response

from squash_api.delivery.subscriptions import EVENTS, FILTERS, delivery_object, webhook_object
from squash_api.ingest.stored_job import MAX_ID
from squash_api.judging.alerts import LEVELS
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

router = APIRouter(tags=["webhooks"], route_class=KnownParametersRoute)

_NAMES = {"type": ["array", "string", "null"], "items": {"type": "string"}}
_BODY = body_of(
    object_schema(
        {
            "name": {"type": "string", "description": "What you call it; no other has it."},
            "url": {"type": "string", "description": "Where to send: https."},
            "events": {"type": "array", "items": {"type": "string", "enum": list(EVENTS)}},
            "filters": {
                "type": ["object", "null"],
                "description": f"Only what matches: {', '.join(FILTERS)}.",
                "properties": {
                    "metric": _NAMES,
                    "package": _NAMES,
                    "severity": {"type": ["string", "null"], "enum": [*LEVELS, None]},
                    "tags": {
                        "type": ["object", "null"],
                        "additionalProperties": {"type": "string"},
                    },
                },
            },
        },
        "name",
        "url",
        "events",
    ),
    {
        "name": "night log",
        "url": "https://log.example.org/squash",
        "events": ["alert.opened", "alert.resolved"],
        "filters": {"package": ["validate_drp"], "severity": "WARNING"},
    },
)
_RETRY_BODY = body_of(
    object_schema({"delivery": {"type": ["integer", "null"], "description": "Only this one."}}),
    {"delivery": 1},
)
_KEYS = ("name", "url", "events", "filters")
_CHANGE_ERRORS = errors_of(400, 401, 403, 404, 413, 415, 422)


@router.post("/webhooks", status_code=201, responses=_CHANGE_ERRORS, openapi_extra=_BODY)
def post_webhook(site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Make a webhook, which is told what happens from now on. For admins.

    The reply has the `secret` that signs what is sent; it cannot be shown again. Its `notes` name
    the metrics and packages of `filters` that no job has had yet.
    """
    unknown = next((key for key in document if key not in _KEYS), None)
    if unknown is not None:
        # It may be a filter, without which the webhook would be told everything.
        must = f"is not one of {', '.join(_KEYS)}; what to be told of goes into `filters`"
        raise wrong_value(unknown[:100], must, "unknown")
    events = required(document, "events")
    if not isinstance(events, list) or not all(isinstance(item, str) for item in events):
        raise wrong_value("events", "must be a list of texts", "list_type")
    filters = document.get("filters")
    if filters is not None and not isinstance(filters, dict):
        raise wrong_value("filters", "must be an object", "object_type")
    row, secret = site.subscriptions.create(
        _text(document, "name"),
        _text(document, "url"),
        events=events,
        filters=filters or {},
        by=account,
    )
    told = {"secret": secret, **webhook_object(row), "notes": site.subscriptions.doubts(row)}
    return json_reply(told, status_code=201)


@router.get("/webhooks", responses=errors_of(401, 403, 422))
def get_webhooks(request: Request, site: SiteDep, page: PageDep, account: AccountDep) -> Response:
    """List the webhooks, the oldest first, with how sending to them is. For admins."""
    found = site.subscriptions.list(by=account, after=id_cursor(page), limit=page.limit + 1)
    return paged_reply(
        request,
        page,
        "webhooks",
        found,
        cursor=lambda row: row.receiver_id,
        show=webhook_object,
    )


@router.delete("/webhooks/{name}", responses=errors_of(401, 403, 404))
def delete_webhook(name: str, site: SiteDep, account: AccountDep) -> Response:
    """Remove a webhook, given its name or id, and what waits to be sent to it. For admins."""
    row = site.subscriptions.remove(name, by=account)
    return json_reply({"message": f"The webhook `{row.name}` is removed."})


@router.get("/webhooks/{name}/deliveries", responses=errors_of(401, 403, 404, 422))
def get_webhook_deliveries(
    name: str, request: Request, site: SiteDep, page: PageDep, account: AccountDep
) -> Response:
    """List what was, or is to be, sent to a webhook, the newest first. For admins.

    Each has its state (`waiting`, `delivered` or `given up`), how often it was tried, and what the
    receiver answered last.
    """
    before = id_cursor(page) if page.after is not None else None
    _, found = site.subscriptions.deliveries(name, by=account, before=before, limit=page.limit + 1)
    return paged_reply(
        request,
        page,
        "deliveries",
        found,
        cursor=lambda row: row.delivery_id,
        show=delivery_object,
    )


@router.post("/webhooks/{name}/test", status_code=202, responses=errors_of(401, 403, 404))
def post_webhook_test(name: str, site: SiteDep, account: AccountDep) -> Response:
    """Have the event `webhook.test` sent to a webhook. For admins.

    `GET /webhooks/<name>/deliveries` shows what the receiver has answered.
    """
    _, delivery = site.subscriptions.test(name, by=account)
    return json_reply(delivery_object(delivery), status_code=202)


@router.post("/webhooks/{name}/retry", responses=_CHANGE_ERRORS, openapi_extra=_RETRY_BODY)
def post_webhook_retry(
    name: str, site: SiteDep, account: AccountDep, document: JsonObjectDep
) -> Response:
    """Send what was given up once more, or one `delivery` whatever its state. For admins."""
    number = document.get("delivery")
    if number is not None and (type(number) is not int or not 0 < number <= MAX_ID):
        raise wrong_value("delivery", "must be the id of a delivery", "int_type")
    count = site.subscriptions.retry(name, delivery_id=number, by=account)
    return json_reply({"message": f"To send again: {count}.", "count": count})


def _text(document: dict[str, Any], key: str) -> str:
    value = required(document, key)
    if not isinstance(value, str):
        raise wrong_value(key, "must be text", "string_type")
    return value
