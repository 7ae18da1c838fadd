"""`squash user`: accounts, directly in the record; the service may be running."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from squash_api.accounts.accounts import Accounts
from squash_api.commands.terminal import (
    AsJson,
    AsYes,
    confirm,
    failing,
    need_terminal,
    operator,
    print_json,
    print_table,
)
from squash_api.judging.wording import counted, date_text
from squash_api.record.users import UserRow
from squash_api.settings import load_settings
from squash_api.site import Site

_PAGE = 500

_Name = Annotated[str, typer.Argument(help="User name.")]
_PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, one line.")
]


def add(
    name: _Name,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="May change everything.")] = False,
    password_stdin: _PasswordStdin = False,
) -> None:
    """Add a user, even if registration is closed."""
    with _accounts() as accounts:
        password = _read_password(is_from_stdin=password_stdin)
        role = "admin" if admin else "user"
        account = accounts.add(name, password, role=role, by=operator("user add"))
    typer.echo(f"Added {account.role} {account.name}.")


def list_accounts(*, as_json: AsJson = False) -> None:
    """List all users, including disabled ones."""
    with _accounts() as accounts:
        rows = _all_users(accounts)
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    states = {True: "disabled", False: "enabled"}
    print_table(
        ("name", "role", "state", "created"),
        [
            (row.name, row.role, states[row.is_disabled], date_text(row.created_ns)[:10])
            for row in rows
        ],
    )


def role(
    name: _Name, new_role: Annotated[Literal["user", "admin"], typer.Argument(metavar="ROLE")]
) -> None:
    """Make somebody a user or an admin, and end their tokens."""
    with _accounts() as accounts:
        accounts.set_role(name, new_role, by=operator("user role"))
    typer.echo(f"{name} is now {new_role}.")


def passwd(name: _Name, *, password_stdin: _PasswordStdin = False) -> None:
    """Change a user's password, and end their tokens."""
    with _accounts() as accounts:
        accounts.get(name)
        password = _read_password(is_from_stdin=password_stdin)
        accounts.set_password(name, password, by=operator("user passwd"))
    typer.echo(f"{name} has a new password.")


def disable(name: _Name, *, yes: AsYes = False) -> None:
    """Disable a user, end their tokens and revoke their keys.

    The name stays taken. `squash user enable` brings the user back, but not the keys.
    """
    with _accounts() as accounts:
        accounts.get(name)
        confirm(f"Disable {name} and revoke their keys?", is_agreed=yes)
        count = accounts.disable(name, by=operator("user disable"))
    revoked = f"; {counted(count, 'key')} revoked" if count else ""
    typer.echo(f"{name} is disabled{revoked}.")


def enable(name: _Name) -> None:
    """Enable a disabled user again, with the password and role of before."""
    with _accounts() as accounts:
        accounts.enable(name, by=operator("user enable"))
    typer.echo(f"{name} is enabled.")


@contextmanager
def _accounts() -> Iterator[Accounts]:
    """Open the accounts of the record; a failure ends the command."""
    # No token is made or read here, so any key will do.
    with failing(code=1), Site(load_settings(secret=secrets.token_hex(32))) as site:
        yield site.accounts


def _all_users(accounts: Accounts) -> list[UserRow]:
    rows: list[UserRow] = []
    while page := accounts.list(after=rows[-1].name if rows else "", limit=_PAGE):
        rows.extend(page)
    return rows


def _as_json(row: UserRow) -> dict[str, str | bool]:
    return {
        "name": row.name,
        "role": row.role,
        "disabled": row.is_disabled,
        "created": date_text(row.created_ns),
    }


def _read_password(*, is_from_stdin: bool) -> str:
    """Read a new password from standard input, or ask for it twice without showing it."""
    if is_from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    need_terminal("give --password-stdin and the password on standard input")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password
