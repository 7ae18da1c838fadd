"""The pages of alerts: what needs a person, and all that there is to know of one.

Whatever changes something is a form with the token of its session.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from squash_api.accounts.accounts import Account
from squash_api.accounts.links import PARAMETER
from squash_api.alerts.reading import MOST_ALERTS, which_of
from squash_api.alerts.seen import Detail, Seen, SeenGroup
from squash_api.errors import AlertChangedError, ForbiddenError, InvalidInputError, SquashError
from squash_api.judging.alerts import WORST_FIRST, level_of
from squash_api.judging.kinds.registry import shown_criterion
from squash_api.judging.wording import counted
from squash_api.pages.account import go, sent
from squash_api.pages.job import pictures_of
from squash_api.pages.rendering import render
from squash_api.pages.sparkline import sparkline
from squash_api.record.alerts import ACKNOWLEDGED, OPEN, RESOLVED
from squash_api.record.silences import list_silences, unfinished_silences
from squash_api.routes.alerts import alert_id_of
from squash_api.routes.dependencies import past_moment
from squash_api.routes.middleware import page_policy
from squash_api.routes.parameters import read_number, read_parameters
from squash_api.routes.runs import run_path
from squash_api.site import Site

router = APIRouter(include_in_schema=False)

SHOWN: Mapping[str, Mapping[str, Any]] = {
    "open": {"states": (OPEN,), "is_silenced": False, "is_trial": False},
    "acknowledged": {"states": (ACKNOWLEDGED,), "is_silenced": False, "is_trial": False},
    "silenced": {"states": (OPEN, ACKNOWLEDGED), "is_silenced": True, "is_trial": False},
    "on trial": {"states": (OPEN, ACKNOWLEDGED), "is_trial": True},
    "resolved": {"states": (RESOLVED,)},
}
"""What the page of alerts can be limited to; otherwise it shows what lives."""

_SECTIONS = ("Needs a person", "Somebody has it", "Silenced", "On trial", "Resolved")
_NAMES = ("state", "severity", "package", "metric", "tag", "since", "group", "after")
_LATELY = "7d"
_MOST_LATELY = 200
_MOST_GROUPS = 20
_MOST_OVER = 10
_PER_PAGE = 200
# What people can mend by sending the form again.
_MENDABLE = (AlertChangedError, ForbiddenError, InvalidInputError)


def alerts_page(request: Request) -> Response:
    """Make the page of alerts: one row for each group, what needs a person first."""
    return _list(request)


@router.post("/alerts")
async def post_alerts(request: Request) -> Response:
    """Make a silence, or end one."""
    account, form = await sent(request)
    return await run_in_threadpool(_change_silences, request, account, form)


def alert_page(request: Request) -> Response:
    """Make the page of an alert. Asking for it changes nothing."""
    read_parameters(request, (PARAMETER,))
    return _one(request, alert_id_of(request.path_params["alert_id"]))


@router.post("/alert/{alert_id}")
async def post_alert(request: Request, alert_id: str) -> Response:
    """Acknowledge an alert, take that back, silence it, or resolve it."""
    account, form = await sent(request)
    return await run_in_threadpool(_change, request, alert_id_of(alert_id), account, form)


def _list(request: Request, *, error: SquashError | None = None) -> Response:
    site: Site = request.app.state.site
    choices = {"state": SHOWN, "severity": WORST_FIRST}
    asked = read_parameters(request, (*_NAMES, PARAMETER), choices=choices)
    now_ns = time.time_ns()
    with site.reader.view() as view:
        silences = view.ask(unfinished_silences, now_ns=now_ns)
        over = view.ask(list_silences, limit=_MOST_OVER, state="over", now_ns=now_ns)
    return render(
        request,
        "alerts.html",
        status_code=200 if error is None else error.status_code,
        here="/alerts",
        problem="" if error is None else error.message,
        asked={name: text for name, text in asked.items() if name != PARAMETER},
        states=list(SHOWN),
        levels=WORST_FIRST,
        packages=sorted({name.partition(".")[0] for name in site.metrics.now.by_name}),
        **_found(site, asked),
        silences=silences,
        over=over,
        now_ns=now_ns,
        level_of=level_of,
        limit_text=limit_text,
    )


def _found(site: Site, asked: Mapping[str, str | None]) -> dict[str, Any]:
    """Find what the page is to list: the alerts of one group, or groups by what they need."""
    group_id = read_number(asked, "group", default=0) or None
    before = read_number(asked, "after", default=0) or None
    state = asked["state"]
    wanted: dict[str, Any] = {
        "severities": [asked["severity"]] if asked["severity"] else (),
        "metric": asked["metric"],
        "package": asked["package"],
        "tags": [asked["tag"]] if asked["tag"] else (),
        "since_ns": past_moment("since", asked["since"]),
    }
    lives = {"states": (OPEN, ACKNOWLEDGED)}
    limited = {} if group_id else SHOWN[state] if state else lives
    most = _PER_PAGE if state == "resolved" else MOST_ALERTS
    which = which_of(**wanted, **limited, group_id=group_id)
    found = site.alerts.find(which, before=before, limit=most + 1)
    groups = site.alerts.groups(found[:most])
    lately: Sequence[SeenGroup] = ()
    if not state and not group_id and not before:
        wanted["since_ns"] = wanted["since_ns"] or past_moment("since", _LATELY)
        past = which_of(**wanted, **SHOWN["resolved"])
        lately = site.alerts.groups(site.alerts.find(past, limit=_MOST_LATELY))
    return {
        "is_group": group_id is not None,
        "group_text": groups[0].text if group_id and groups else "",
        "alerts": [item for group in groups for item in group.alerts] if group_id else [],
        "sections": [
            (title, rows)
            for rank, title in enumerate(_SECTIONS)
            if (rows := [item for item in groups if item.rank == rank])
        ],
        "lately": lately[:_MOST_GROUPS],
        "following": str(found[most - 1].row.alert_id) if len(found) > most else None,
    }


def _one(
    request: Request,
    alert_id: int,
    *,
    error: SquashError | None = None,
    form: Mapping[str, str] | None = None,
) -> Response:
    site: Site = request.app.state.site
    detail = site.alerts.detail(alert_id)
    seen = detail.seen
    living = [seen, *(item for item in detail.others if item.is_living)]
    reply = render(
        request,
        "alert.html",
        status_code=200 if error is None else error.status_code,
        here="/alerts",
        problem="" if error is None else error.message,
        form=dict.fromkeys(("change", "note", "until", "why"), "") | dict(form or {}),
        detail=detail,
        seen=seen,
        row=seen.row,
        living=living,
        # What one sees of all that one may say to have.
        group_level=level_of(max(1, *(item.row.severity for item in living))),
        limit_text=limit_text,
        group_text=site.alerts.groups([seen, *detail.others])[0].text,
        level_of=level_of,
        plot=_plot(detail),
        run_path=run_path,
        pictures=pictures_of(detail.artifacts, site.settings),
        words=_words,
        demand=_demand,
    )
    if site.settings.artifact_hosts:
        reply.headers["Content-Security-Policy"] = page_policy(site.settings.artifact_hosts)
    return reply


def _change(request: Request, alert_id: int, account: Account, form: Mapping[str, str]) -> Response:
    site: Site = request.app.state.site
    change, is_group = form.get("change"), "group" in form
    try:
        if change == "ack":
            level = form.get("group_severity" if is_group else "severity")
            given: dict[str, Any] = {"severity": level, "group": is_group}
            given |= {name: form.get(name) for name in ("note", "until", "link")}
            site.acting.acknowledge(alert_id, given, by=account, needs_note=False)
        elif change == "release":
            site.acting.release(alert_id, by=account, is_group=is_group)
        elif change == "resolve":
            site.acting.resolve(alert_id, {"note": form.get("note")}, by=account)
        elif change == "silence":
            site.acting.silence(_silence_of(form), by=account)
        else:
            raise InvalidInputError("This form has no such change.")
    except _MENDABLE as error:
        return _one(request, alert_id, error=error, form=form)
    return go(request, f"/alert/{alert_id}")


def _change_silences(request: Request, account: Account, form: Mapping[str, str]) -> Response:
    site: Site = request.app.state.site
    change = form.get("change")
    try:
        if change == "silence":
            site.acting.silence(_silence_of(form), by=account)
        elif change == "end":
            site.acting.end_silence(_number(form.get("silence", "")), by=account)
        else:
            raise InvalidInputError("This form has no such change.")
    except _MENDABLE as error:
        return _list(request, error=error)
    return go(request, "/alerts#silences")


def _silence_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Read the form of a silence: tags are checked by name, or written as `name=value`."""
    tags = {
        name.removeprefix("tag."): text for name, text in form.items() if name.startswith("tag.")
    }
    for text in form.get("tags", "").replace(",", " ").split():
        name, sign, value = text.partition("=")
        if not sign:
            raise InvalidInputError("The tags must be names and values, such as detector=42.")
        tags[name] = value
    return {
        "metric": form.get("metric") or None,
        "tags": tags,
        "from": form.get("from"),
        "until": form.get("until"),
        "why": form.get("why"),
    }


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def limit_text(seen: Seen) -> str:
    """Write the limit that is broken, such as `≤ 8 mmag`; empty if it is about something else."""
    return "" if seen.worst_broken is None else _demand(seen.worst_broken)


def _demand(broken: Mapping[str, Any]) -> str:
    """Write what a limit of a verdict demands, such as `≤ 8 mmag`; empty if that is unknown."""
    criterion = shown_criterion(broken, broken.get("unit") or "")
    if criterion is None:
        return ""
    return f"{criterion.words_against(broken.get('value'))} {criterion.unit}".rstrip()


def _plot(detail: Detail) -> Markup:
    """Draw the values of the last runs, with the limits."""
    values = [item.entry.value for item in detail.runs if item.entry.value is not None]
    criterion = detail.seen.criterion
    limits = [] if criterion is None else [bound.number for bound in criterion.bounds]
    level = detail.seen.level.lower()
    return sparkline(values, unit=detail.seen.row.unit, limits=limits, level=level)


def _words(kind: str, detail: Mapping[str, Any]) -> str:
    """Write what else is known of an event."""
    told = [f"{detail['note']}"] if detail.get("note") else []
    told += [f"until {detail['until']}"] if detail.get("until") else []
    told += [f"{detail['why']}"] if detail.get("why") else []
    told += [counted(detail["alerts"], "alert")] if kind == "complete" else []
    return ", ".join(told)
