"""The audit trail, for admins."""

from typing import Annotated, Literal

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
    paged_csv,
    paged_reply,
    past_moment,
    wrong_value,
)
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of
from squash_api.site import Site

router = APIRouter(tags=["accounts"], route_class=KnownParametersRoute)


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
        return paged_csv(
            request,
            page,
            "audit",
            found,
            cursor=lambda entry: entry.entry_id,
            show=Noted.to_json,
            columns=_COLUMNS,
        )
    return paged_reply(
        request, page, "entries", found, cursor=lambda entry: entry.entry_id, show=Noted.to_json
    )


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
            since_ns=past_moment("since", since),
            until_ns=past_moment("until", until),
        )
