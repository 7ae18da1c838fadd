"""`squash alerts`: what people do about alerts at a terminal."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.site import Site
from tests.support.builders import make_settings, with_record
from tests.support.command_line import Run, make_run, set_environment
from tests.support.made_alerts import METRIC, open_alerts

pytestmark = pytest.mark.sqlite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(with_record(make_settings(tmp_path))) as site:
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
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    return make_run(monkeypatch, capsys)


SEEN = ("--severity", "critical", "--note", "I look")


def test_an_alert_is_acknowledged_and_taken_back(run: Run, site: Site) -> None:
    (alert_id,) = open_alerts(site.record)
    done = run("alerts", "ack", str(alert_id), *SEEN, "--until", "2199-01-31")
    assert (done.code, done.out) == (0, f"alert {alert_id}: acknowledged, ada has it\n")
    listed = run("alerts", "list").out
    assert "PA1 = 9.50 mmag" in listed
    assert "ada" in listed
    (found,) = json.loads(run("alerts", "list", "--json", "--by", "ada").out)
    assert found["acknowledged"]["until"] == "2199-01-31T23:59:59Z"
    back = run("alerts", "unack", str(alert_id))
    assert (back.code, back.out) == (0, f"alert {alert_id}: open\n")
    again = run("alerts", "unack", str(alert_id))
    assert (again.code, again.err) == (
        1,
        "error: Nobody has this alert: there is nothing to take back.\n",
    )
    assert "squash alerts unack" in run("audit", "--json").out


def test_a_group_is_acknowledged_at_once(run: Run, site: Site) -> None:
    made = open_alerts(site.record, {"detector": "1"}, {"detector": "2"})
    done = run("alerts", "ack", str(made[0]), *SEEN, "--group", "--json")
    assert [item["id"] for item in json.loads(done.out)] == made[::-1]


def test_what_is_worse_than_what_was_seen_is_refused(run: Run, site: Site) -> None:
    (alert_id,) = open_alerts(site.record)
    done = run("alerts", "ack", str(alert_id), "--severity", "warning", "--note", "n")
    assert done.code == 1
    assert "is CRITICAL now, and you saw WARNING" in done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("ack", "99", *SEEN), 1, "There is no alert 99."),
        (("ack", "1", "--severity", "bad", "--note", "n"), 2, "is not a level"),
        (("ack", "1", *SEEN, "--as", "eve"), 2, "There is no user 'eve'"),
        (("ack", "1", *SEEN, "--until", "soon"), 2, "such as 2027-01-31"),
        (("resolve", "1"), 1, "There is no alert 1."),
        (("unsilence", "9"), 1, "There is no silence 9."),
        (("silence", "--until", "8h", "--why", "w", "--metric", "x.y"), 2, "there is no `x.y`"),
        (("silence", "--until", "8h", "--why", "w", "--tag", "x"), 2, "such as detector=42"),
        (("silences", "--state", "old"), 2, "planned, active, over"),
        (("list", "--since", "soon"), 2, "is not a time"),
        (("list", "--severity", "bad"), 2, "is no level"),
    ],
)
def test_what_is_wrong_is_said_with_the_code_for_it(
    run: Run, words: tuple[str, ...], code: int, said: str
) -> None:
    done = run("alerts", *words)
    assert (done.code, said in done.err) == (code, True), done.err


def test_somebody_must_be_named_who_has_it(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alert_id,) = open_alerts(site.record)
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    done = run("alerts", "ack", str(alert_id), *SEEN)
    assert (done.code, "say --as USER" in done.err) == (2, True)
    assert run("alerts", "ack", str(alert_id), *SEEN, "--as", "ada").code == 0
    # Nobody needs to be a user to take it back.
    assert run("alerts", "unack", str(alert_id)).code == 0


def test_an_alert_is_resolved_by_hand(run: Run, site: Site) -> None:
    (alert_id,) = open_alerts(site.record, time_ns=None)
    assert run("alerts", "resolve", str(alert_id), "--note", "gone").code == 0
    assert run("alerts", "list", "--json").out == "[]\n"
    (found,) = json.loads(run("alerts", "list", "--state", "all", "--json").out)
    assert found["state"] == "resolved"


def test_a_silence_is_made_listed_and_ended(run: Run, site: Site) -> None:
    open_alerts(site.record, {"filter": "r"}, {"filter": "i"}, metric=METRIC)
    made = run("alerts", "silence", "--until", "8h", "--why", "known", "--tag", "filter=r")
    assert (made.code, made.out) == (0, "1\n")
    assert "1 living alert now" in made.err
    (quiet,) = json.loads(run("alerts", "list", "--silenced", "--json").out)
    assert quiet["tags"] == {"filter": "r"}
    (shown,) = json.loads(run("alerts", "silences", "--json").out)
    assert (shown["why"], shown["by"], shown["state"]) == ("known", "ada", "active")
    assert "filter=r" in run("alerts", "silences").out
    assert run("alerts", "unsilence", "1").out == "The silence 1 is over.\n"
    assert run("alerts", "silences", "--state", "active", "--json").out == "[]\n"
