"""Alerts and silences: listed, acknowledged, resolved by hand; made and ended."""

import time
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from squash_api.alerts.reading import which_of
from squash_api.alerts.seen import Seen
from squash_api.errors import NotFoundError
from squash_api.ingest.stored_job import MAX_ID
from squash_api.judging.alerts import LEVELS
from squash_api.judging.wording import counted
from squash_api.record.alert_lists import Which
from squash_api.record.silences import SilenceState, list_silences
from squash_api.routes.dependencies import (
    AccountDep,
    JsonObjectDep,
    PageDep,
    SiteDep,
    body_of,
    id_cursor,
    object_schema,
    paged_csv,
    paged_reply,
    past_moment,
)
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.schema.alert_answers import (
    Alert,
    AlertDetails,
    ChangedAlert,
    EndedSilence,
    NewSilence,
)
from squash_api.site import Site

router = APIRouter(tags=["alerts"], route_class=KnownParametersRoute)

_COLUMNS = (
    "id",
    "state",
    "severity",
    "worst",
    "metric",
    "tags",
    "group",
    "trial",
    "silenced",
    "text",
    "value",
    "unit",
    "date",
    "job",
    "opened",
    "opened_by_job",
    "run",
    "acknowledged",
    "resolved",
    "url",
)
_MOST_TAGS = 20
_CHANGES = errors_of(400, 401, 403, 404, 409, 413, 415, 422, 503)
_TEXT = {"type": "string"}
_END = {
    "type": ["string", "null"],
    "description": "A day, of which all counts, a time, or how long from now, such as `8h`.",
}
_ACK = body_of(
    object_schema(
        {
            "severity": {
                "type": "string",
                "enum": list(LEVELS),
                "description": "The one that you saw; if it has risen since, you get 409.",
            },
            "note": {**_TEXT, "description": "What you write to others, such as what you do."},
            "link": {"type": ["string", "null"], "description": "Such as that of a ticket."},
            "until": {**_END, "description": f"Until when you have it. {_END['description']}"},
            "group": {"type": "boolean", "description": "All living alerts of its group."},
        },
        "severity",
        "note",
    ),
    {"severity": "CRITICAL", "note": "I look at the flats", "until": "8h"},
)
_RESOLVE = body_of(
    object_schema({"note": {"type": ["string", "null"], "description": "Why."}}),
    {"note": "detector 42 was taken out"},
)
_SILENCE = body_of(
    object_schema(
        {
            "metric": {
                "type": ["string", "null"],
                "description": "A metric or a package; default: every metric.",
            },
            "tags": {
                "type": ["object", "null"],
                "additionalProperties": {"type": ["string", "number"]},
                "description": "Only series that have all of these.",
            },
            "from": {**_END, "description": f"Default: now. {_END['description']}"},
            "until": _END,
            "why": {**_TEXT, "description": "What others read who wonder why they heard nothing."},
        },
        "until",
        "why",
    ),
    {
        "metric": "validate_drp.PA1",
        "tags": {"filter": "r"},
        "until": "14d",
        "why": "the shutter is being replaced",
    },
)


def alert_id_of(alert_id: str) -> int:
    """Read an alert's id from a URL; anything that cannot be one is not found."""
    return _id_of(alert_id, "alert")


async def _alert_id(alert_id: str) -> int:
    return alert_id_of(alert_id)


async def _silence_id_of(silence_id: str) -> int:
    return _id_of(silence_id, "silence")


def _id_of(text: str, noun: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > MAX_ID:
        raise NotFoundError(f"There is no {noun} {text[:40]}.")
    return int(text)


AlertIdDep = Annotated[int, Depends(_alert_id)]
SilenceIdDep = Annotated[int, Depends(_silence_id_of)]
_TextQuery = Annotated[str | None, Query(max_length=1000)]


_States = Annotated[
    list[Literal["open", "acknowledged", "resolved"]] | None,
    Query(description="Only in this state; may be repeated."),
]
_Severities = Annotated[
    list[str] | None,
    Query(description="Only of this level, at its worst if resolved; may be repeated."),
]
_Metric = Annotated[
    str | None, Query(max_length=1000, description="Only of this metric or package.")
]
_Package = Annotated[str | None, Query(max_length=1000, description="Only of this package.")]
_Tags = Annotated[
    list[str] | None,
    Query(description="Only of series with a tag, such as `detector=42`; may be repeated."),
]
_Since = Annotated[
    str | None, Query(description="Not those resolved before: a date, or how long ago (`90d`).")
]
_Until = Annotated[
    str | None, Query(description="Not those opened after: a date, or how long ago.")
]
_Trial = Annotated[bool | None, Query(description="Only those on trial; or only the others.")]
_Silenced = Annotated[
    bool | None, Query(description="Only those that are silenced now; or only the others.")
]
_Holder = Annotated[
    str | None, Query(max_length=1000, description="Only those that this user has.")
]
_Group = Annotated[int | None, Query(ge=1, le=MAX_ID, description="Only of this group.")]


async def _which(
    *,
    state: _States = None,
    severity: _Severities = None,
    metric: _Metric = None,
    package: _Package = None,
    tag: _Tags = None,
    since: _Since = None,
    until: _Until = None,
    trial: _Trial = None,
    silenced: _Silenced = None,
    acknowledged_by: _Holder = None,
    group: _Group = None,
) -> Which:
    return which_of(
        states=state or (),
        severities=severity or (),
        metric=metric,
        package=package,
        tags=tag or (),
        since_ns=past_moment("since", since),
        until_ns=past_moment("until", until),
        is_trial=trial,
        is_silenced=silenced,
        holder=acknowledged_by,
        group_id=group,
    )


_WhichDep = Annotated[Which, Depends(_which)]


@router.get(
    "/alerts",
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **errors_of(422),
    },
)
def get_alerts(
    request: Request,
    site: SiteDep,
    which: _WhichDep,
    page: PageDep,
    *,
    format: Annotated[  # noqa: A002  the name in the URL, as at /measurements
        Literal["json", "csv"], Query(description="`json`, or `csv` for spreadsheets.")
    ] = "json",
) -> Response:
    """List alerts, the newest first: those that live, and those that are resolved.

    As CSV, the header Link has the next page.
    """
    found = site.alerts.find(which, before=id_cursor(page) or None, limit=page.limit + 1)

    def show(item: Seen) -> Alert:
        return item.to_json(site.settings.url)

    def cursor(item: Seen) -> int:
        return item.row.alert_id

    if format == "csv":
        return paged_csv(request, page, "alerts", found, cursor=cursor, show=show, columns=_COLUMNS)
    return paged_reply(request, page, "alerts", found, cursor=cursor, show=show)


@router.get("/alert/{alert_id}", responses=errors_of(404))
def get_alert(alert_id: AlertIdDep, site: SiteDep) -> Response:
    """Return all that there is to know of an alert.

    Beside what the list has: the newest `runs` of its series, the `last_good` one before it opened,
    what `changes` in the code came with the job that opened it, `artifacts` of that job, its
    `history`, the `others` of its group, `similar` ones before, and what else opened in the
    `same_run`. `to_silence` has what a silence of this series is made with.
    """
    detail = site.alerts.detail(alert_id)
    row = detail.seen.row
    told: AlertDetails = {
        **detail.to_json(site.settings.url),
        "to_silence": {"metric": row.metric, "tags": dict(row.tags)},
    }
    return json_reply(told)


@router.post("/alert/{alert_id}/ack", responses=_CHANGES, openapi_extra=_ACK)
def post_ack(
    alert_id: AlertIdDep, site: SiteDep, account: AccountDep, document: JsonObjectDep
) -> Response:
    """Say that you have an alert: nobody else needs to look at it.

    It ends when the alert becomes worse than what you saw, when it is resolved, or at `until`. Who
    has it may change: whoever sends this last has it.
    """
    rows = site.acting.acknowledge(alert_id, document, by=account)
    words = f"You have {_alerts(len(rows), alert_id)}."
    return _reply(site, alert_id, words, [row.alert_id for row in rows])


@router.delete("/alert/{alert_id}/ack", responses=_CHANGES)
def delete_ack(
    alert_id: AlertIdDep,
    site: SiteDep,
    account: AccountDep,
    *,
    group: Annotated[bool, Query(description="All living alerts of its group.")] = False,
) -> Response:
    """Take an acknowledgement back: it needs somebody again. Anybody may do this."""
    rows = site.acting.release(alert_id, by=account, is_group=group)
    words = f"Nobody has {_alerts(len(rows), alert_id)} now."
    return _reply(site, alert_id, words, [row.alert_id for row in rows])


@router.post("/alert/{alert_id}/resolve", responses=_CHANGES, openapi_extra=_RESOLVE)
def post_resolve(
    alert_id: AlertIdDep, site: SiteDep, account: AccountDep, document: JsonObjectDep
) -> Response:
    """Resolve the alert of a series that reports no more.

    While the newest value is young and breaks the limit this is refused (409): a value that meets
    the limit resolves it.
    """
    site.acting.resolve(alert_id, document, by=account)
    return _reply(site, alert_id, f"The alert {alert_id} is resolved.", [alert_id])


@router.get("/silences", responses=errors_of(422))
def get_silences(
    request: Request,
    site: SiteDep,
    page: PageDep,
    *,
    state: Annotated[
        SilenceState | None, Query(description="Only those that are in this state now.")
    ] = None,
) -> Response:
    """List silences, the newest first, also those that are over."""
    now_ns = time.time_ns()
    with site.record.read() as connection:
        found = list_silences(
            connection,
            before=id_cursor(page) or None,
            limit=page.limit + 1,
            state=state,
            now_ns=now_ns,
        )
    return paged_reply(
        request,
        page,
        "silences",
        found,
        cursor=lambda row: row.silence_id,
        show=lambda row: row.to_json(now_ns),
    )


@router.post("/silences", status_code=201, responses=_CHANGES, openapi_extra=_SILENCE)
def post_silence(site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Make a silence: until it ends, nobody is told of the alerts that it is about.

    They open as ever, and are listed and counted as silenced. Those that still live when it ends
    are told then. `alerts` in the reply is how many that live now it is about.
    """
    row = site.acting.silence(document, by=account)
    alerts = len(site.alerts.silenced_by(row))
    told: NewSilence = {**row.to_json(time.time_ns()), "alerts": alerts}
    return json_reply(told, status_code=201)


@router.delete("/silence/{silence_id}", responses=_CHANGES)
def delete_silence(silence_id: SilenceIdDep, site: SiteDep, account: AccountDep) -> Response:
    """End a silence now. What still lives of the alerts that it was about is told then."""
    row = site.acting.end_silence(silence_id, by=account)
    message = f"The silence {silence_id} is over."
    told: EndedSilence = {"message": message, **row.to_json(time.time_ns())}
    return json_reply(told)


def _alerts(number: int, alert_id: int) -> str:
    more = f" and {counted(number - 1, 'other')} of its group" if number > 1 else ""
    return f"the alert {alert_id}{more}"


def _reply(site: Site, alert_id: int, message: str, changed: Sequence[int]) -> Response:
    (seen,) = site.alerts.find(Which(ids=(alert_id,)), limit=1)
    told: ChangedAlert = {
        "message": message,
        **seen.to_json(site.settings.url),
        "changed": sorted(changed),
    }
    return json_reply(told)
