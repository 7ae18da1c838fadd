import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.accounts.keys import is_key
from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.command_line import Outcome, Run, make_run, set_environment


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(make_settings(tmp_path), is_made=True) as site:
        site.accounts.add("ada", "a long password")
        yield site


@pytest.fixture
def run(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    assert site.record
    set_environment(monkeypatch, tmp_path)
    return make_run(monkeypatch, capsys)


def create(run: Run, *options: str) -> Outcome:
    return run("key", "create", "ada", "nightly CI", "--scope", "job:write", *options)


def test_a_key_is_printed_alone_and_once(run: Run) -> None:
    made = create(run)
    assert made.code == 0
    assert is_key(made.out.removesuffix("\n"))
    secret = made.out.strip().split("_")[2]
    assert "cannot be shown again" in made.err
    for words in (("key", "list"), ("key", "list", "--json"), ("audit",), ("audit", "--json")):
        shown = run(*words)
        assert shown.code == 0
        assert secret not in shown.out + shown.err + made.err


def test_json_has_the_key_and_what_it_may(run: Run) -> None:
    made = create(run, "--namespace", "p", "--namespace", "q", "--expires", "2036-12-31", "--json")
    document = json.loads(made.out)
    assert is_key(document.pop("key"))
    assert document["namespaces"] == ["p", "q"]
    assert document["expires"] == "2036-12-31T23:59:59Z"
    assert json.loads(run("key", "list", "--json").out) == [document]


async def test_the_service_takes_a_key_that_was_made_meanwhile(run: Run, site: Site) -> None:
    account = await site.accounts.claim(f"Bearer {create(run).out.strip()}")
    assert (account.name, account.key and account.key.name) == ("ada", "nightly CI")


@pytest.mark.parametrize(
    "options",
    [("--scope", "everything"), ("--scope", "admin"), ("--namespace", "p..a")],
)
def test_what_cannot_be_a_key_is_refused(run: Run, options: tuple[str, ...]) -> None:
    made = create(run, *options)
    assert (made.code, made.out) == (1, "")
    assert made.err.startswith("error: ")
    assert run("key", "list", "--json").out == "[]\n"


@pytest.mark.parametrize("expires", ["soon", "2020-01-01", ""])
def test_a_key_ends_on_a_day_to_come(run: Run, expires: str) -> None:
    made = create(run, "--expires", expires)
    assert made.code != 0
    assert made.out == ""


def test_an_owner_that_does_not_exist_is_an_error(run: Run) -> None:
    made = run("key", "create", "nobody", "x", "--scope", "job:write")
    assert (made.code, made.out) == (1, "")
    assert "no user `nobody`" in made.err


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_key_is_revoked_by_its_public_part_or_as_a_whole(run: Run, *, is_whole: bool) -> None:
    key = create(run).out.strip()
    revoked = run("key", "revoke", key if is_whole else key.split("_")[1])
    assert revoked.code == 0
    assert key.split("_")[2] not in revoked.out + revoked.err
    (listed,) = json.loads(run("key", "list", "--json").out)
    assert listed["state"] == "revoked"


def test_an_unknown_key_cannot_be_revoked(run: Run) -> None:
    assert run("key", "revoke", "000000000000").code == 1


def test_the_list_is_of_one_user_or_of_all(run: Run, site: Site) -> None:
    site.accounts.add("bob", "a long password")
    create(run)
    run("key", "create", "bob", "x", "--scope", "job:read")

    def owners(*user: str) -> list[str]:
        return [item["user"] for item in json.loads(run("key", "list", *user, "--json").out)]

    assert owners() == ["ada", "bob"]
    assert owners("bob") == ["bob"]
    assert owners("nobody") == []


@pytest.mark.parametrize("words", ["--user ada", "--action key", "--since 1h", "--limit 1"])
def test_the_trail_is_filtered(run: Run, words: str) -> None:
    create(run)
    found = json.loads(run("audit", "--json", *words.split()).out)
    expected = {"--user ada": 0, "--action key": 1, "--since 1h": 2, "--limit 1": 1}
    assert len(found) == expected[words]


def test_the_trail_is_shown_as_a_table(run: Run) -> None:
    create(run)
    shown = run("audit").out
    assert "squash key create (" in shown
    assert "nightly CI" in shown


@pytest.mark.parametrize("words", ["--action nothing", "--since soon", "--until x", "--limit 0"])
def test_a_question_without_sense_is_refused(run: Run, words: str) -> None:
    assert run("audit", *words.split()).code == 2


def test_commands_about_keys_load_no_web_framework() -> None:
    code = "import squash_api.commands.keys, squash_api.commands.audit, sys; "
    code += "sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
