import getpass
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from squash_api.accounts.accounts import Accounts
from squash_api.cli import app
from squash_api.commands import terminal, users
from squash_api.errors import UnauthorizedError
from squash_api.record.audit import list_noted
from squash_api.site import Site
from tests.support.builders import make_settings


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accounts]:
    """Accounts of a running service, and an environment that leads `squash user` to them."""
    for name in os.environ:
        if name.upper().startswith("SQUASH_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with Site(make_settings(tmp_path), is_made=True) as site:
        monkeypatch.setenv("SQUASH_DATABASE_URL", site.settings.database_url)
        yield site.accounts


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["user", *arguments], input=stdin)


async def test_a_user_added_while_the_service_runs_can_log_in(accounts: Accounts) -> None:
    result = run("add", "mole", "--password-stdin", stdin="desert-rose\n")
    assert (result.exit_code, result.stdout) == (0, "Added user mole.\n")
    assert (await accounts.check_password("mole", "desert-rose")).role == "user"


def test_an_admin_is_added_with_admin(accounts: Accounts) -> None:
    assert run("add", "mole", "--admin", "--password-stdin", stdin="desert-rose").exit_code == 0
    assert accounts.get("mole").is_admin


async def test_the_password_is_asked_for_twice_at_a_terminal(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "need_terminal", lambda _: None)
    result = run("add", "mole", stdin="desert-rose\ndesert-rose\n")
    assert result.exit_code == 0
    assert "desert-rose" not in result.output
    assert (await accounts.check_password("mole", "desert-rose")).name == "mole"


def test_without_a_terminal_the_password_must_come_from_standard_input(accounts: Accounts) -> None:
    result = run("add", "mole", stdin="desert-rose\n")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: There is no terminal")
    assert "--password-stdin" in result.stderr
    assert accounts.list(limit=1) == []


def test_a_taken_name_is_an_error(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    result = run("add", "mole", "--password-stdin", stdin="desert-rose\n")
    assert (result.exit_code, result.stderr) == (1, "error: User `mole` already exists.\n")


def test_a_disabled_user_is_enabled_again(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    assert run("disable", "mole", "--yes").stdout == "mole is disabled.\n"
    assert run("enable", "mole").stdout == "mole is enabled.\n"
    assert accounts.get("mole").name == "mole"
    result = run("enable", "mole")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: There is no user `mole`, or it is enabled.\n",
    )


@pytest.mark.parametrize("arguments", [("disable", "mole", "--yes"), ("role", "mole", "user")])
def test_the_last_admin_stays(accounts: Accounts, arguments: tuple[str, ...]) -> None:
    accounts.add("mole", "desert-rose", role="admin")
    accounts.add("vole", "meadow-grass", role="admin")
    accounts.disable("vole")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "`mole` is the last admin" in result.stderr
    assert accounts.get("mole").is_admin
    accounts.enable("vole")
    assert run(*arguments).exit_code == 0


def test_no_text_says_that_disabling_is_for_good(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    assert "permanent" not in run("disable", "--help").stdout + run("disable", "mole").output


def test_the_trail_names_the_command_and_who_ran_it(accounts: Accounts) -> None:
    run("add", "mole", "--password-stdin", stdin="a long password\n")
    run("role", "mole", "admin")
    run("passwd", "mole", "--password-stdin", stdin="another password\n")
    with accounts._record.read() as connection:
        found = list_noted(connection, limit=9)
    person = getpass.getuser()
    assert [(entry.action, entry.command) for entry in found] == [
        ("user.password", f"squash user passwd ({person})"),
        ("user.role", f"squash user role ({person})"),
        ("user.add", f"squash user add ({person})"),
    ]


def test_an_empty_password_is_an_error(accounts: Accounts) -> None:
    result = run("add", "mole", "--password-stdin")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: The password is shorter than 8 characters.\n"
    assert accounts.list(limit=1) == []


def test_a_wrong_setting_is_an_error(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_PORT", "many")
    result = run("list")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: SQUASH_PORT:")
    assert accounts.list(limit=1) == []


def test_the_list_shows_everybody_in_pages(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "_PAGE", 2)
    for name in ("c", "a", "b"):
        accounts.add(name, "desert-rose")
    accounts.disable("b")
    lines = [line.split() for line in run("list").stdout.splitlines()]
    assert [line[:3] for line in lines if line][-3:] == [
        ["a", "user", "enabled"],
        ["b", "user", "disabled"],
        ["c", "user", "enabled"],
    ]


def test_the_list_as_json_holds_no_hash(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose", role="admin")
    (entry,) = json.loads(run("list", "--json").stdout)
    created = entry.pop("created")
    assert entry == {"name": "mole", "role": "admin", "disabled": False}
    assert created.endswith("Z")


def test_an_empty_list_as_json_is_a_list(accounts: Accounts) -> None:
    assert accounts.list(limit=1) == []
    assert json.loads(run("list", "--json").stdout) == []


def test_a_new_role_ends_tokens_of_the_running_service(accounts: Accounts) -> None:
    account = accounts.add("mole", "desert-rose")
    assert run("role", "mole", "admin").exit_code == 0
    assert accounts.get("mole").is_admin
    with pytest.raises(UnauthorizedError):
        accounts.check_account(account)


def test_an_unknown_role_is_refused(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    assert run("role", "mole", "king").exit_code == 2
    assert accounts.get("mole").role == "user"


async def test_a_new_password_counts_at_once_for_the_running_service(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    await accounts.check_password("mole", "desert-rose")
    assert run("passwd", "mole", "--password-stdin", stdin="tunnel-rat\r\n").exit_code == 0
    assert (await accounts.check_password("mole", "tunnel-rat")).name == "mole"
    with pytest.raises(UnauthorizedError):
        await accounts.check_password("mole", "desert-rose")


def test_the_password_of_nobody_is_not_asked_for(accounts: Accounts) -> None:
    result = run("passwd", "mole")
    assert (result.exit_code, result.stderr) == (1, "error: There is no user `mole`.\n")
    assert accounts.list(limit=1) == []


def test_disable_asks_first(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.add("mole", "desert-rose")
    monkeypatch.setattr(terminal, "need_terminal", lambda _: None)
    assert run("disable", "mole", stdin="n\n").exit_code == 1
    assert accounts.get("mole").name == "mole"
    assert run("disable", "mole", stdin="y\n").exit_code == 0
    assert accounts.list(limit=1)[0].is_disabled


def test_disable_without_a_terminal_needs_yes(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    result = run("disable", "mole")
    assert (result.exit_code, "--yes" in result.stderr) == (1, True)
    assert run("disable", "mole", "--yes").exit_code == 0
    assert accounts.list(limit=1)[0].is_disabled


def test_disabling_twice_is_an_error(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    accounts.disable("mole")
    result = run("disable", "mole", "--yes")
    assert (result.exit_code, result.stderr) == (1, "error: There is no user `mole`.\n")
