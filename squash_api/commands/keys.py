"""`squash key`: API keys of users, directly in the record; the service may be running."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from squash_api.accounts.key_ring import KeyRing, key_object
from squash_api.accounts.keys import SCOPES
from squash_api.commands.terminal import AsJson, fail, failing, operator, print_json, print_table
from squash_api.record.keys import KeyRow
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import parse_moment

_PAGE = 500


def create(
    user: Annotated[str, typer.Argument(help="Its owner.")],
    name: Annotated[str, typer.Argument(help="What you call it, such as 'nightly CI'.")],
    *,
    scope: Annotated[
        list[str], typer.Option(help=f"What it is for; repeat it for several: {', '.join(SCOPES)}.")
    ],
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            help="A package, or namespace of topics, that it may write to; repeat it. Default: all."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DATE", help="The last day of its life. Default: never.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key for a user; it is printed once and kept nowhere.

    The key goes to standard output, all else to standard error.
    """
    expires_ns = None if expires is None else _end_of(expires)
    with _key_ring() as keys:
        row, text = keys.create(
            user,
            name,
            scopes=scope,
            namespaces=namespace,
            expires_ns=expires_ns,
            by=operator("key create"),
        )
    if as_json:
        print_json({"key": text, **key_object(row)})
        return
    typer.echo(text)
    typer.echo(
        f"Made the key {row.public_id} ({row.name}) of {row.user_name}, for "
        f"{', '.join(row.scopes)}. It cannot be shown again.",
        err=True,
    )


def _end_of(day: str) -> int:
    end_ns = parse_moment(day, now_ns=time.time_ns(), is_end=True)
    if end_ns is None:
        fail(f"'{day}' is not a date: write one like 2027-01-31")
    return end_ns


def list_keys(
    user: Annotated[str | None, typer.Argument(help="Only keys of this user.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List API keys, also those that are revoked or have expired; secrets are not known."""
    with _key_ring() as keys:
        rows = [row for row in _all_keys(keys) if user in (None, row.user_name)]
    shown = [key_object(row) for row in rows]
    if as_json:
        print_json(shown)
        return
    print_table(
        ("id", "user", "name", "scopes", "namespaces", "state", "expires", "last used"),
        [
            (
                item["id"],
                item["user"],
                item["name"],
                ", ".join(item["scopes"]),
                "all" if item["namespaces"] is None else ", ".join(item["namespaces"]),
                item["state"],
                item["expires"] or "never",
                item["last_used"] or "never",
            )
            for item in shown
        ],
    )


def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="Its public part.")]) -> None:
    """Revoke an API key, for good; the service refuses it within a second."""
    with _key_ring() as keys:
        row = keys.revoke(key_id, by=operator("key revoke"))
    typer.echo(f"The key {row.public_id} ({row.name}) of {row.user_name} is revoked.")


@contextmanager
def _key_ring() -> Iterator[KeyRing]:
    """Open the keys of the record; a failure ends the command."""
    with failing(code=1), Site(load_settings()) as site:
        yield site.keys


def _all_keys(keys: KeyRing) -> list[KeyRow]:
    rows: list[KeyRow] = []
    while page := keys.list(after=rows[-1].key_id if rows else 0, limit=_PAGE):
        rows.extend(page)
    return rows
