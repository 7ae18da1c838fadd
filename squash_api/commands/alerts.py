"""`squash alerts`: alerts and silences, directly in the record; the service may be running."""

import getpass
import time
from typing import Annotated, Any, Literal, get_args

import typer

from squash_api.alerts.reading import which_of
from squash_api.alerts.seen import Seen
from squash_api.commands.terminal import (
    AsJson,
    fail,
    failing,
    operator,
    options_as,
    print_json,
    print_table,
)
from squash_api.errors import InvalidInputError
from squash_api.judging.wording import counted
from squash_api.record.audit import Actor
from squash_api.record.silences import SilenceState, list_silences
from squash_api.record.users import find_user
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import EXAMPLES, parse_moment

_MOST = 2**31
_Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="Of the alert.")]
_As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="USER",
        help="Which user of the service you are. Default: who has the name that you have here.",
    ),
]
_Group = Annotated[bool, typer.Option("--group", help="All living alerts of its group.")]
_State = Literal["open", "acknowledged", "resolved", "living", "all"]
_Tags = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Only series with this tag; repeat it for several."),
]


_FILTERS = {
    "state": Annotated[_State, typer.Option(help="Only in this state; living: not resolved.")],
    "severity": Annotated[
        list[str] | None, typer.Option(help="Only of this level; repeat it for several.")
    ],
    "metric": Annotated[str | None, typer.Option(help="Only of this metric or package.")],
    "tag": _Tags,
    "since": Annotated[
        str | None, typer.Option(help="Not those resolved before this date, or so long ago (90d).")
    ],
    "until": Annotated[
        str | None, typer.Option(help="Not those opened after this date, or so long ago.")
    ],
    "by": Annotated[str | None, typer.Option(metavar="USER", help="Only those this user has.")],
    "group": Annotated[int | None, typer.Option(min=1, help="Only of this group.")],
}


@options_as("given", _FILTERS, defaults={"state": "living"})
def list_alerts(
    *,
    given: dict[str, Any],
    silenced: Annotated[bool, typer.Option("--silenced", help="Only those silenced now.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List alerts, the newest first: what is broken or late, and who has it."""
    states = {"living": ("open", "acknowledged"), "all": ()}.get(given["state"], (given["state"],))
    with failing(), Site(load_settings(), tags_of="record") as site:
        which = which_of(
            states=states,
            severities=given["severity"] or (),
            metric=given["metric"],
            tags=given["tag"] or (),
            since_ns=_past(given["since"]),
            until_ns=_past(given["until"], is_end=True),
            is_silenced=silenced or None,
            holder=given["by"],
            group_id=given["group"],
        )
        found = site.alerts.find(which, limit=limit)
        url = site.settings.url
    if as_json:
        print_json([item.to_json(url) for item in found])
        return
    print_table(
        ("id", "state", "severity", "opened", "metric", "tags", "what", "who"),
        map(_row, found),
        right=("id",),
    )


def acknowledge(
    alert_id: _Id,
    *,
    severity: Annotated[
        str, typer.Option(metavar="LEVEL", help="The one that you saw, such as critical.")
    ],
    note: Annotated[str, typer.Option(help="What you write to the others.")],
    link: Annotated[str | None, typer.Option(help="Such as that of a ticket.")] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Until when you have it: a day, or how long from now (8h)."),
    ] = None,
    group: _Group = False,
    as_user: _As = None,
    as_json: AsJson = False,
) -> None:
    """Say that you have an alert: nobody else needs to look at it.

    It ends when the alert becomes worse than what you saw, when it is resolved, or at --until.

    Exit code: 0 success, 1 there is no such alert, or it is worse than what you saw, or resolved.
    """
    given = {"severity": severity, "note": note, "link": link, "until": until, "group": group}
    with failing(code=1, code_of_input=2), Site(load_settings(), tags_of="record") as site:
        by = _person(site, as_user, "alerts ack")
        rows = site.acting.acknowledge(alert_id, given, by=by)
        found = site.alerts.find(which_of(group_id=rows[0].group_id), limit=_MOST)
        _tell(site, found, [row.alert_id for row in rows], as_json=as_json)


def release(
    alert_id: _Id, *, group: _Group = False, as_user: _As = None, as_json: AsJson = False
) -> None:
    """Take an acknowledgement back: the alert needs somebody again.

    Exit code: 0 success, 1 there is no such alert, or nobody has it.
    """
    with failing(code=1, code_of_input=2), Site(load_settings(), tags_of="record") as site:
        by = _person(site, as_user, "alerts unack", is_needed=False)
        rows = site.acting.release(alert_id, by=by, is_group=group)
        found = site.alerts.find(which_of(group_id=rows[0].group_id), limit=_MOST)
        _tell(site, found, [row.alert_id for row in rows], as_json=as_json)


def resolve(
    alert_id: _Id,
    *,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    as_user: _As = None,
    as_json: AsJson = False,
) -> None:
    """Resolve the alert of a series that reports no more.

    Exit code: 0 success, 1 there is no such alert, it is resolved already, or its newest value is
    young and breaks the limit.
    """
    with failing(code=1, code_of_input=2), Site(load_settings(), tags_of="record") as site:
        by = _person(site, as_user, "alerts resolve", is_needed=False)
        row = site.acting.resolve(alert_id, {"note": note}, by=by)
        found = site.alerts.find(which_of(group_id=row.group_id), limit=_MOST)
        _tell(site, found, [row.alert_id], as_json=as_json)


def silence(
    *,
    until: Annotated[str, typer.Option(help="Until when: a day, or how long from now (8h).")],
    why: Annotated[str, typer.Option(help="What others read who wonder why it is quiet.")],
    metric: Annotated[
        str | None, typer.Option(help="A metric or a package. Default: every metric.")
    ] = None,
    tag: _Tags = None,
    since: Annotated[str | None, typer.Option("--from", help="From when on. Default: now.")] = None,
    as_user: _As = None,
    as_json: AsJson = False,
) -> None:
    """Tell nobody of some alerts until a day; they open, and are listed, as ever.

    The id of the silence goes to standard output.
    """
    with failing(code=1, code_of_input=2), Site(load_settings(), tags_of="record") as site:
        given = {
            "metric": metric,
            "tags": which_of(tags=tag or ()).tags,
            "from": since,
            "until": until,
            "why": why,
        }
        by = _person(site, as_user, "alerts silence", is_needed=False)
        row = site.acting.silence(given, by=by)
        about = len(site.alerts.silenced_by(row))
    if as_json:
        print_json({**row.to_json(time.time_ns()), "alerts": about})
        return
    typer.echo(row.silence_id)
    until_text = row.to_json(0)["until"]
    typer.echo(f"Silenced until {until_text}: {counted(about, 'living alert')} now.", err=True)


def silences(
    *,
    state: Annotated[
        str | None, typer.Option(help="Only those that are planned, active or over.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List silences, the newest first, also those that are over."""
    states = get_args(SilenceState)
    if state is not None and state not in states:
        fail(f"'{state}' is no state of a silence: use one of {', '.join(states)}")
    wanted: Any = state
    now_ns = time.time_ns()
    with failing(), Site(load_settings()) as site, site.record.read() as connection:
        found = list_silences(connection, limit=limit, state=wanted, now_ns=now_ns)
    shown = [row.to_json(now_ns) for row in found]
    if as_json:
        print_json(shown)
        return
    print_table(
        ("id", "state", "metric", "tags", "from", "until", "by", "why"),
        [
            (
                str(item["id"]),
                item["state"],
                item["metric"] or "all",
                _tags_text(item["tags"]),
                item["from"],
                item["until"],
                item["by"] or "",
                item["why"],
            )
            for item in shown
        ],
        right=("id",),
    )


def end_silence(
    silence_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="Of the silence.")],
    *,
    as_user: _As = None,
) -> None:
    """End a silence now: what still lives of its alerts is told.

    Exit code: 0 success, 1 there is no such silence.
    """
    with failing(code=1, code_of_input=2), Site(load_settings()) as site:
        by = _person(site, as_user, "alerts unsilence", is_needed=False)
        site.acting.end_silence(silence_id, by=by)
    typer.echo(f"The silence {silence_id} is over.")


def _person(site: Site, name: str | None, command: str, *, is_needed: bool = True) -> Actor:
    """Return who does it: the user of the service, and the command with the user of the machine.

    Raises
    ------
    InvalidInputError
        If there is no such user, and one is named or needed.
    """
    by = operator(command)
    wanted = name
    if wanted is None:
        try:
            wanted = getpass.getuser()
        except (KeyError, OSError):  # a container whose user has no name
            wanted = ""
    with site.record.read() as connection:
        user = find_user(connection, wanted)
    if user is not None and not user.is_disabled:
        return Actor(user_id=user.user_id, command=by.command)
    if name is not None or is_needed:
        raise InvalidInputError(
            f"There is no user '{wanted}' of the service, who could have it: say --as USER."
        )
    return by


def _tell(site: Site, found: list[Seen], changed: list[int], *, as_json: bool) -> None:
    shown = [item for item in found if item.row.alert_id in changed]
    if as_json:
        print_json([item.to_json(site.settings.url) for item in shown])
        return
    for item in shown:
        who = f", {item.holder} has it" if item.row.state == "acknowledged" else ""
        typer.echo(f"alert {item.row.alert_id}: {item.state}{who}")


def _row(item: Seen) -> tuple[str, ...]:
    told = item.to_json("")
    who = item.holder if item.row.state == "acknowledged" else ""
    if item.silence is not None:
        who = f"silence {item.silence.silence_id}"
    return (
        str(item.row.alert_id),
        item.state,
        item.level,
        told["opened"],
        item.row.metric,
        _tags_text(item.row.tags),
        item.text,
        who or "",
    )


def _tags_text(tags: Any) -> str:
    return ", ".join(f"{name}={text}" for name, text in tags.items())


def _past(text: str | None, *, is_end: bool = False) -> int | None:
    if text is None:
        return None
    moment = parse_moment(text, now_ns=time.time_ns(), is_end=is_end)
    if moment is None:
        fail(f"'{text}' is not a time: write one like {EXAMPLES}")
    return moment
