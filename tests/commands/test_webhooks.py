"""`squash webhook` does what the API does, on the machine of the record."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.command_line import Outcome, Run, make_run, set_environment
from tests.support.receiver import ReceivingServer

pytestmark = pytest.mark.sqlite


@pytest.fixture
def receiver() -> Iterator[ReceivingServer]:
    with ReceivingServer() as server:
        yield server


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    with Site(make_settings(tmp_path), is_made=True) as site:
        assert site.record
    set_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("SQUASH_WEBHOOK_NETWORKS", "127.0.0.0/8")
    return make_run(monkeypatch, capsys)


def add(run: Run, url: str, *options: str) -> Outcome:
    return run("webhook", "add", "hook", url, "--event", "alert.opened", *options)


def test_the_secret_is_printed_alone_and_once(run: Run, receiver: ReceivingServer) -> None:
    made = add(run, receiver.url)
    assert made.code == 0
    secret = made.out.strip()
    assert secret.startswith("whsec_")
    for words in (("webhook", "list"), ("webhook", "list", "--json"), ("audit", "--json")):
        shown = run(*words)
        assert shown.code == 0
        assert secret not in shown.out + shown.err + made.err
        assert "/hook" not in shown.out


def test_filters_are_listed_as_they_were_given(run: Run, receiver: ReceivingServer) -> None:
    options = ("--package", "p", "--severity", "warning", "--tag", "instrument=HSC")
    made = json.loads(add(run, receiver.url, *options, "--json").out)
    assert made.pop("secret")
    assert made.pop("notes") == ["No job has had the package `p` yet."]
    assert made["filters"] == {
        "package": ["p"],
        "severity": "WARNING",
        "tags": {"instrument": "HSC"},
    }
    assert json.loads(run("webhook", "list", "--json").out) == [made]
    assert "severity WARNING; tags instrument=HSC" in run("webhook", "list").out
    assert add(run, receiver.url, "--tag", "instrument").code == 2


def test_a_test_says_what_the_receiver_answers(run: Run, receiver: ReceivingServer) -> None:
    add(run, receiver.url)
    good = run("webhook", "test", "hook")
    assert (good.code, good.out) == (0, "hook: 204\n")
    receiver.answer = lambda _: httpx.Response(401, text="who are you?")
    bad = run("webhook", "test", "1")
    assert (bad.code, bad.err) == (1, "error: hook: 401: who are you?\n")
    states = [
        item["state"] for item in json.loads(run("webhook", "deliveries", "hook", "--json").out)
    ]
    assert states == ["waiting", "delivered"]
    assert "401: who are you?" in run("webhook", "deliveries", "hook").out
    assert run("webhook", "retry", "hook").out == "To send again: 1.\n"
    assert run("webhook", "retry", "hook", "--delivery", "99").code == 1


def test_one_that_does_not_exist_is_named_with_what_may_be_meant(
    run: Run, receiver: ReceivingServer
) -> None:
    add(run, receiver.url)
    gone = run("webhook", "remove", "hok")
    assert (gone.code, "did you mean `hook`" in gone.err) == (1, True)
    assert run("webhook", "remove", "hook").code == 0
    assert json.loads(run("webhook", "list", "--json").out) == []
