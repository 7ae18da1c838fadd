"""The audit trail, for admins."""

import csv
import io
import json
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from squash_api.accounts.credentials import clean_credential
from squash_api.errors import ForbiddenError
from squash_api.record.audit import ACTIONS, Noted, list_noted
from squash_api.routes.dependencies import (
    AccountDep,
    Page,
    PageDep,
    SiteDep,
    id_cursor,
    next_link,
    paged_reply,
    wrong_value,
)
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of
from squash_api.schema.cells import cell_text
from squash_api.site import Site
from squash_api.trends.question import parse_moment

router = APIRouter(tags=["accounts"], route_class=KnownParametersRoute)


_CSV = "text/csv; charset=utf-8; header=present"
_COLUMNS = ("id", "time", "user", "key", "command", "address", "action", "subject", "detail")


@router.get(
    "/audit",
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **errors_of(401, 403, 422),
    },
)
def get_audit(
    request: Request,
    site: SiteDep,
    page: PageDep,
    account: AccountDep,
    *,
    user: Annotated[str | None, Query(description="Only what this user did.")] = None,
    action: Annotated[
        str | None,
        Query(description="Only this action, or all of a noun, such as `key`."),
    ] = None,
    since: Annotated[str | None, Query(description="A date, or how long ago (`90d`).")] = None,
    until: Annotated[str | None, Query(description="A date, or how long ago.")] = None,
    format: Annotated[  # noqa: A002  the name in the URL, as at /measurements
        Literal["json", "csv"], Query(description="`json`, or `csv` for spreadsheets.")
    ] = "json",
) -> Response:
    """List who changed what, the newest first. Only admins may see this.

    As CSV, the header Link has the next page.
    """
    if not account.is_admin:
        raise ForbiddenError("Only admins may see the audit trail.")
    found = noted(site, page, user=user, action=action, since=since, until=until)
    if format == "csv":
        return _csv_reply(request, page, found)
    return paged_reply(
        request, page, "entries", found, cursor=lambda entry: entry.entry_id, show=Noted.to_json
    )


def _csv_reply(request: Request, page: Page, found: Sequence[Noted]) -> Response:
    """Reply with a page as CSV; `found` has one entry more if more follow."""
    shown = found[: page.limit]
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    if len(found) > page.limit:
        link = next_link(request, after=shown[-1].entry_id)
        headers["Link"] = f'<{link}>; rel="next"'
    return Response(_csv_of(shown), media_type=_CSV, headers=headers)


def _csv_of(entries: Sequence[Noted]) -> str:
    """Write entries as CSV with a header; no text in it is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in entries:
        item = entry.to_json()
        writer.writerow([_cell(item[name]) for name in _COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return "" if value is None else cell_text(str(value))


def noted(
    site: Site,
    page: Page,
    *,
    user: str | None,
    action: str | None,
    since: str | None,
    until: str | None,
) -> list[Noted]:
    """Read a page of the audit trail, and one entry more, if more follow.

    Raises
    ------
    InvalidInputError
        If a parameter is wrong.
    """
    nouns = {name.partition(".")[0] for name in ACTIONS}
    if action is not None and action not in {*ACTIONS, *nouns}:
        must = f"must be one of {', '.join([*ACTIONS, *sorted(nouns)])}"
        raise wrong_value("action", must, "literal_error", place="query")
    with site.record.read() as connection:
        return list_noted(
            connection,
            before=id_cursor(page) or None,
            limit=page.limit + 1,
            user_name=None if user is None else clean_credential(user, field="user"),
            action=action,
            since_ns=_moment("since", since),
            until_ns=_moment("until", until),
        )


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    moment = parse_moment(text, now_ns=time.time_ns(), is_end=name == "until")
    if moment is None:
        raise wrong_value(
            name, "must be a date, or how long ago, such as 90d", "value_error", place="query"
        )
    return moment
