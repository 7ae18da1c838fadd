"""`squash quarantine`: what InfluxDB refused for good."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from squash_api.commands.terminal import (
    AsJson,
    AsYes,
    confirm,
    fail,
    failing,
    operator,
    options_as,
    print_json,
    print_table,
)
from squash_api.judging.wording import counted
from squash_api.record.quarantine import Entry, Which, entries
from squash_api.record.quarantine import drop as drop_entries
from squash_api.record.quarantine import retry as retry_entries
from squash_api.settings import load_settings
from squash_api.site import Site

_PAGE = 500
_Ids = Annotated[
    list[int] | None, typer.Argument(metavar="ID", help="Only these, by their ids.", min=1)
]
_WHICH = {
    "target": Annotated[
        list[str] | None, typer.Option("--target", help="Only of this target; may be repeated.")
    ],
    "job": Annotated[
        list[int] | None,
        typer.Option("--job", min=1, max=2**63 - 1, help="Only of this job; may be repeated."),
    ],
    "reason": Annotated[
        str | None, typer.Option("--reason", help="Only those whose reason has these words.")
    ],
    "dropped": Annotated[bool, typer.Option("--dropped", help="Those that were dropped.")],
}


def _gather(given: dict[str, Any]) -> Which:
    return Which(
        targets=tuple(given["target"] or ()),
        job_ids=tuple(given["job"] or ()),
        reason=given["reason"],
        is_dropped=given["dropped"],
    )


@options_as("which", _WHICH, gather=_gather)
def list_entries(*, which: Which, as_json: AsJson = False) -> None:
    """List what targets refused, with their reasons.

    Each is a line of a job, or a deletion of points.
    """
    with failing(), Site(load_settings(), tags_of="record") as site:
        found = _read(site, which)
    if as_json:
        print_json([item.to_json() for item in found])
        return
    print_table(
        ("id", "target", "job", "what", "measurement", "since", "reason"),
        [
            (
                str(item.entry_id),
                item.target,
                str(item.job_id),
                "deletion" if item.is_deletion else "line",
                item.measurement,
                item.to_json()["since"],
                item.reason,
            )
            for item in found
        ],
        right=("id", "job"),
    )


@options_as("which", _WHICH, gather=_gather)
def retry(*, which: Which, ids: _Ids = None) -> None:
    """Send it again, after what caused the refusal has been fixed.

    The running service, or `squash deliver`, sends the jobs again in their order. What is refused
    once more is listed again. Without ids and options, everything is sent again.

    Exit code: 0 success, 1 there is no entry with this id.
    """
    _change(ids, which, retry_entries)


@options_as("which", _WHICH, gather=_gather)
def drop(*, which: Which, ids: _Ids = None, yes: AsYes = False) -> None:
    """Give it up: it is no longer counted, nor tried again.

    The jobs stay in the record, and the status of each still says what InfluxDB does not have.
    `--dropped` lists and retries what was dropped. Ids or options must say which.

    Exit code: 0 success, 1 there is no entry with this id.
    """
    if not ids and which == Which():
        fail("say which: give ids, --target, --job or --reason")

    def ask(count: int) -> None:
        confirm(f"Give up {counted(count, 'refusal')}?", is_agreed=yes)

    _change(ids, which, drop_entries, ask=ask)


def _change(
    ids: list[int] | None,
    which: Which,
    change: Callable[..., int],
    *,
    ask: Callable[[int], None] = lambda _: None,
) -> None:
    """Change chosen entries, after asking about their number."""
    chosen = replace(which, entry_ids=tuple(ids or ()))
    with failing(), Site(load_settings(), tags_of="record") as site:
        found = _read(site, chosen)
        missing = set(chosen.entry_ids) - {item.entry_id for item in found}
        if missing:
            fail(f"there is no such entry: {min(missing)}", code=1)
        ask(len(found))
        verb = "retry" if change is retry_entries else "drop"
        by = operator(f"quarantine {verb}")
        count = site.record.write(
            lambda connection: change(connection, chosen, now_ns=time.time_ns(), by=by)
        )
    what = "to try again" if verb == "retry" else "given up"
    typer.echo(f"{counted(count, 'refusal')} {what}")


def _read(site: Site, which: Which) -> list[Entry]:
    found: list[Entry] = []
    with site.record.read() as connection:
        while page := entries(
            connection, which, after=found[-1].entry_id if found else 0, limit=_PAGE
        ):
            found += page
    return found
