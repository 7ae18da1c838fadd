"""What targets refused for good: for admins."""

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from squash_api.accounts.accounts import Account
from squash_api.errors import ForbiddenError, NotFoundError
from squash_api.ingest.stored_job import MAX_ID
from squash_api.record.quarantine import Entry, Which, drop, entries, retry
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
from squash_api.site import Site

router = APIRouter(tags=["quarantine"], route_class=KnownParametersRoute)

_MOST_IDS = 1000
_BODY = body_of(
    object_schema(
        {
            "ids": {
                "type": "array",
                "items": {"type": "integer"},
                "description": f"Ids of `GET /quarantine`; at most {_MOST_IDS}.",
            }
        },
        "ids",
    ),
    {"ids": [1, 2]},
)
_CHANGE_ERRORS = errors_of(400, 401, 403, 404, 413, 415, 422, 503)


@router.get("/quarantine", responses=errors_of(401, 403, 422))
def get_quarantine(
    request: Request,
    site: SiteDep,
    page: PageDep,
    account: AccountDep,
    *,
    target: Annotated[str | None, Query(description="Only of this target.")] = None,
    job: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Only of this job.")] = None,
    reason: Annotated[
        str | None, Query(max_length=1000, description="Only those whose reason has these words.")
    ] = None,
) -> Response:
    """List the lines and deletions that targets refused, with their reasons. For admins."""
    _require_admin(account)
    which = Which(
        targets=(target,) if target else (), job_ids=(job,) if job else (), reason=reason or None
    )
    with site.reader.view() as view:
        found = view.ask(entries, which, after=id_cursor(page), limit=page.limit + 1)
    return paged_reply(
        request,
        page,
        "quarantine",
        found,
        cursor=lambda entry: entry.entry_id,
        show=Entry.to_json,
    )


@router.post("/quarantine/retry", responses=_CHANGE_ERRORS, openapi_extra=_BODY)
def post_quarantine_retry(site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Send entries again, in the order of their jobs. For admins.

    What is refused once more is listed again, under another id.
    """
    count = _change(site, account, document, retry)
    site.wake()
    return json_reply({"message": f"To send again: {count}.", "count": count})


@router.post("/quarantine/drop", responses=_CHANGE_ERRORS, openapi_extra=_BODY)
def post_quarantine_drop(site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Give entries up: they are no longer listed, nor tried again. For admins.

    The status of their jobs still says what InfluxDB does not have.
    """
    count = _change(site, account, document, drop)
    return json_reply({"message": f"Given up: {count}.", "count": count})


def _change(
    site: Site, account: Account, document: dict[str, Any], change: Callable[..., int]
) -> int:
    _require_admin(account)
    ids = required(document, "ids")
    is_list = isinstance(ids, list) and 0 < len(ids) <= _MOST_IDS
    if not is_list or any(type(item) is not int or not 0 < item <= MAX_ID for item in ids):
        raise wrong_value("ids", f"must be 1 to {_MOST_IDS} ids", "list_type")
    which = Which(entry_ids=tuple(ids))

    def work(connection: Any) -> int:
        known = {item.entry_id for item in entries(connection, which, after=0, limit=_MOST_IDS)}
        if unknown := set(ids) - known:
            raise NotFoundError(f"There is no entry {min(unknown)} in quarantine.")
        return change(connection, which, now_ns=time.time_ns(), by=account.actor)

    return site.record.write(work)


def _require_admin(account: Account) -> None:
    if not account.is_admin:
        raise ForbiddenError("Only admins may see and change what is in quarantine.")
