"""`squash audit`: who changed what, from the record; the service may be running."""

import json
import time
from typing import Annotated

import typer

from squash_api.commands.terminal import AsJson, fail, failing, print_json, print_table
from squash_api.record.audit import ACTIONS, Noted, list_noted
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import EXAMPLES, parse_moment


def audit(
    *,
    user: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only this action, or all of a noun, such as key.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From this date on, or of the last 90d, 2w and so on.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this date, all of the day.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show the audit trail: who changed what, when and from where, the newest first."""
    nouns = {name.partition(".")[0] for name in ACTIONS}
    if action is not None and action not in {*ACTIONS, *nouns}:
        fail(f"'{action}' is no action: use one of {', '.join([*ACTIONS, *sorted(nouns)])}")
    since_ns, until_ns = _moment(since), _moment(until, is_end=True)
    with failing(code=1), Site(load_settings()) as site, site.record.read() as connection:
        found = list_noted(
            connection,
            limit=limit,
            user_name=user,
            action=action,
            since_ns=since_ns,
            until_ns=until_ns,
        )
    if as_json:
        print_json([entry.to_json() for entry in found])
        return
    print_table(("time", "who", "from", "action", "subject", "detail"), map(_row, found))


def _row(entry: Noted) -> tuple[str, ...]:
    item = entry.to_json()
    return (
        item["time"],
        _who(entry),
        entry.address or "",
        entry.action,
        entry.subject,
        json.dumps(entry.detail, ensure_ascii=False) if entry.detail else "",
    )


def _who(entry: Noted) -> str:
    who = entry.user or entry.command or "somebody"
    return f"{who}, key {entry.key}" if entry.key else who


def _moment(text: str | None, *, is_end: bool = False) -> int | None:
    if text is None:
        return None
    moment = parse_moment(text, now_ns=time.time_ns(), is_end=is_end)
    if moment is None:
        fail(f"'{text}' is not a time: write one like {EXAMPLES}")
    return moment
