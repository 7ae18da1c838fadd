"""`squash spool`: jobs that wait on this machine until the service takes them."""

import os
from datetime import datetime
from typing import Annotated, Any

import typer

from squash_api.commands.terminal import AsJson, fail, print_error, print_json, print_table
from squash_api.pipelines.spool import Damaged, Entry, Sender, Sent, Spool, spool_folder

_Folder = Annotated[
    str | None,
    typer.Option(
        "--spool",
        metavar="DIR",
        envvar="SQUASH_SPOOL",
        help="Folder of the waiting jobs; else squash/spool in XDG_STATE_HOME.",
    ),
]


def list_waiting(*, folder: _Folder = None, as_json: AsJson = False) -> None:
    """List the jobs that wait to be sent: what, since when and why.

    They are from squash run and squash watch, while the service could not be reached or refused
    them. A refused one stays, and holds up no other.

    Exit code: 0 nothing waits, 1 something does.
    """
    spool = _spool(folder)
    found = list(spool.entries())
    if as_json:
        print_json([_as_json(item) for item in found])
    elif found:
        print_table(("Since", "State", "What", "Why", "File"), map(_row, found))
    else:
        typer.echo(f"nothing waits in {spool.folder}")
    raise typer.Exit(1 if found else 0)


def send(
    *,
    url: Annotated[str, typer.Option(envvar="SQUASH_URL", help="Root of the service.")],
    user: Annotated[
        str | None,
        typer.Option(envvar="SQUASH_USER", help="Name of the user; not needed with a key."),
    ] = None,
    folder: _Folder = None,
    with_refused: Annotated[
        bool, typer.Option("--refused", help="Send those again that the service refused.")
    ] = False,
    any_url: Annotated[
        bool,
        typer.Option("--any-url", help="Also those for a service with another URL: it has moved."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send the jobs that wait, the oldest first.

    Each arrives once: the service knows a job that comes again. What it refuses stays, with the
    reason, and the others go. The credentials are those of squash dispatch.

    Exit code: 0 nothing waits any more, 1 something does, 2 wrong usage.
    """
    spool = _spool(folder)
    sender = Sender.of({**os.environ, "SQUASH_SPOOL": str(spool.folder)}, url=url, user=user)
    if sender.trouble is not None:
        fail(sender.trouble)
    outcomes = []
    for sent in sender.send(spool.paths(), any_url=any_url, with_refused=with_refused):
        outcomes.append(sent)
        if not as_json:
            _print_outcome(sent)
    sender.close()
    left = list(spool.entries())
    if as_json:
        print_json([_outcome_as_json(sent) for sent in outcomes])
    elif left:
        others = sum(isinstance(item, Entry) and not sender.is_for(item) for item in left)
        note = f", {others} of them for another service: --any-url sends them too" if others else ""
        typer.echo(f"{len(left)} in {spool.folder} still {_verb(left)}{note}")
    elif not outcomes:
        typer.echo(f"nothing waits in {spool.folder}")
    raise typer.Exit(1 if left else 0)


def _spool(folder: str | None) -> Spool:
    return Spool(spool_folder({**os.environ, **({"SQUASH_SPOOL": folder} if folder else {})}))


def _verb(left: list[Entry | Damaged]) -> str:
    return "waits" if len(left) == 1 else "wait"


def _state(item: Entry | Damaged) -> str:
    if isinstance(item, Damaged):
        return "damaged"
    return "refused" if item.is_refused else "waiting"


def _row(item: Entry | Damaged) -> tuple[str, ...]:
    if isinstance(item, Damaged):
        return "", _state(item), "", item.why, str(item.path)
    try:
        since = f"{datetime.fromisoformat(item.since):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        since = item.since
    return since, _state(item), item.source, item.why, str(item.path)


def _as_json(item: Entry | Damaged) -> dict[str, Any]:
    entry = item if isinstance(item, Entry) else None
    return {
        "file": str(item.path),
        "state": _state(item),
        "source": entry and entry.source,
        "since": entry and entry.since,
        "why": item.why,
        "url": entry and entry.url,
    }


def _print_outcome(sent: Sent) -> None:
    if sent.reply is not None:
        repeat = ", which the service already had" if sent.fate == "repeat" else ""
        typer.echo(f"{sent.entry.source}: job {sent.reply.job_id}{repeat}, {sent.reply.status_url}")
    else:
        what = "refused" if sent.fate == "refused" else "not sent"
        print_error(f"{sent.entry.source}: {what}: {sent.why}; it is in {sent.entry.path}")


def _outcome_as_json(sent: Sent) -> dict[str, Any]:
    return {
        **_as_json(sent.entry),
        "fate": sent.fate,
        "why": sent.why,
        "id": sent.reply and sent.reply.job_id,
    }
