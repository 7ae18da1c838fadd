"""The API of alerts and silences: what programs list, and what they do for people."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.accounts.accounts import Account
from squash_api.site import Site
from tests.support.builders import make_settings, with_record
from tests.support.calls import PASSWORD, Calls, follow, log_in
from tests.support.in_process import HOST, service
from tests.support.made_alerts import METRIC, open_alerts

pytestmark = pytest.mark.sqlite
SEEN = {"severity": "CRITICAL", "note": "I look into it"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    """The site whose service the other fixtures call."""
    with Site(with_record(make_settings(folder))) as site:
        site.accounts.add("root", PASSWORD, role="admin")
        admin = Account(1, "root", "admin", 1)
        site.definitions.post_one("metric", METRIC, {"description": "d", "unit": "mmag"}, admin)
        yield site


@pytest.fixture(scope="module")
def calls(site: Site, folder: Path) -> Iterator[Calls]:
    assert site.accounts
    with service(folder, url=HOST) as client:
        yield log_in(client, "ada")


@pytest.fixture
def alert_id(site: Site) -> int:
    return open_alerts(site.record)[0]


def ids(calls: Calls, query: str) -> list[int]:
    reply = calls("GET", f"/alerts?{query}")
    assert reply.status_code == 200, reply.text
    return [item["id"] for item in reply.json()["alerts"]]


def test_alerts_are_listed_newest_first_in_pages(calls: Calls, site: Site) -> None:
    made = open_alerts(site.record, *({"detector": f"{number}"} for number in range(5)))
    group = calls("GET", "/alerts?limit=1").json()["alerts"][0]["group"]
    pages = follow(calls, f"/alerts?limit=2&group={group}", "alerts")
    assert [[item["id"] for item in page] for page in pages] == [
        made[4:2:-1],
        made[2:0:-1],
        made[:1],
    ]


def test_an_alert_says_what_it_is(calls: Calls, alert_id: int) -> None:
    body = calls("GET", "/alerts?limit=1").json()
    assert list(body) == ["alerts", "next"]
    (found,) = body["alerts"]
    assert found["url"] == f"{HOST}/alert/{alert_id}"
    names = ("id", "state", "severity", "metric", "tags", "trial", "silenced", "acknowledged")
    assert [found[name] for name in names] == [
        alert_id,
        "open",
        "CRITICAL",
        METRIC,
        {"detector": "1"},
        False,
        False,
        None,
    ]
    assert found["text"] == "PA1 = 9.50 mmag, must be <= 8 (minimum)"
    assert found["run"] == {"pipeline": "nightly", "run_id": "7"}


@pytest.fixture(scope="module")
def several(calls: Calls, site: Site) -> dict[str, int]:
    """Alerts that differ in everything that can be filtered by; each is called as it differs."""
    day = 86_400 * 10**9
    made = {
        "plain": open_alerts(site.record, {"filter": "r"}, metric="f.m"),
        "mild": open_alerts(site.record, {"filter": "r"}, metric="f.m", severity=1),
        "other": open_alerts(site.record, {"filter": "R"}, metric="f.mm"),
        "trial": open_alerts(site.record, {"filter": "r"}, metric="f.m", is_trial=True),
        "late": open_alerts(site.record, {"filter": "r"}, metric="f.m", opened_ns=900 * day),
        "over": open_alerts(
            site.record, {"filter": "r"}, metric="f.m", opened_ns=10 * day, time_ns=None
        ),
        "held": open_alerts(site.record, {"filter": "r", "detector": "7"}, metric="f.m"),
        "quiet": open_alerts(site.record, {"filter": "z"}, metric="f.m"),
    }
    found = {name: alert_ids[0] for name, alert_ids in made.items()}
    calls("POST", f"/alert/{found['held']}/ack", SEEN)
    calls("POST", f"/alert/{found['over']}/resolve", {})
    root = Account(1, "root", "admin", 1)
    site.definitions.post_one("metric", "f.m", {"description": "d"}, root)
    silence = {"metric": "f.m", "tags": {"filter": "z"}, "until": "8h", "why": "w"}
    assert calls("POST", "/silences", silence).json()["alerts"] == 1
    return found


ALL = {"plain", "mild", "other", "trial", "late", "over", "held", "quiet"}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", ALL),
        ("state=open", ALL - {"over", "held"}),
        ("state=resolved&state=acknowledged", {"over", "held"}),
        ("severity=info", {"mild"}),
        ("severity=CRITICAL&severity=INFO", ALL),
        ("metric=f.m", ALL - {"other"}),
        ("tag=filter=r", ALL - {"other", "quiet"}),
        ("tag=filter%3Dr&tag=detector=7", {"held"}),
        ("trial=true", {"trial"}),
        ("trial=false", ALL - {"trial"}),
        ("silenced=true", {"quiet"}),
        ("silenced=false", ALL - {"quiet"}),
        ("acknowledged_by=ada", {"held"}),
        ("acknowledged_by=root", set()),
        # What was open at any time of it.
        ("until=1970-01-10", set()),
        ("until=1970-01-11", {"over"}),
        ("until=1972-06-20", {"over", "late"}),
        ("since=2199-01-01", ALL - {"over"}),
    ],
)
def test_alerts_are_filtered(
    calls: Calls, several: dict[str, int], query: str, wanted: set[str]
) -> None:
    found = ids(calls, f"package=f&{query}")
    assert found == sorted((several[name] for name in wanted), reverse=True)


@pytest.mark.parametrize(
    ("query", "name", "words"),
    [
        ("severity=CRITICL", "severity", "did you mean `CRITICAL`?"),
        ("state=closed", "state", "'open', 'acknowledged' or 'resolved'"),
        ("tag=detector", "tag", "such as detector=42"),
        ("since=soon", "since", "such as 90d"),
        ("since=2026-02-01&until=2026-01-01", "until", "`until` is before `since`"),
        ("metric=a.b&package=c", "metric", "not of the package `c`"),
        ("silenced=perhaps", "silenced", "true or false"),
        ("after=x", "after", "`next` link"),
        ("statee=open", "statee", "did you mean `state`?"),
    ],
)
def test_what_is_wrong_with_a_filter_is_named(
    calls: Calls, query: str, name: str, words: str
) -> None:
    reply = calls("GET", f"/alerts?{query}")
    assert reply.status_code == 422
    assert words in reply.json()["message"]
    name = (
        query.rpartition("&")[2].partition("=")[0] if "until" in query else query.partition("=")[0]
    )
    assert reply.json()["detail"][0]["loc"][:2] == ["query", name]


def test_alerts_are_exported_as_csv_without_formulas(calls: Calls, site: Site) -> None:
    open_alerts(site.record, {"detector": "1"}, {"detector": "2"}, metric="=1+1.m")
    reply = calls("GET", "/alerts?package=%3D1%2B1&format=csv&limit=1")
    assert reply.headers["Content-Type"].startswith("text/csv")
    assert 'rel="next"' in reply.headers["Link"]
    (row,) = csv.DictReader(io.StringIO(reply.text))
    assert (row["metric"], row["severity"]) == ("'=1+1.m", "CRITICAL")
    assert row["tags"] == '{"detector": "2"}'


def test_whoever_acknowledges_has_the_alert(calls: Calls, alert_id: int) -> None:
    reply = calls("POST", f"/alert/{alert_id}/ack", {**SEEN, "until": "2199-01-31"})
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["message"] == f"You have the alert {alert_id}."
    assert (body["state"], body["changed"]) == ("acknowledged", [alert_id])
    assert body["acknowledged"]["by"] == "ada"
    assert body["acknowledged"]["until"] == "2199-01-31T23:59:59Z"
    reply = calls("DELETE", f"/alert/{alert_id}/ack")
    assert (reply.status_code, reply.json()["state"]) == (200, "open")
    kinds = [item["kind"] for item in calls("GET", f"/alert/{alert_id}").json()["history"]]
    assert kinds == ["opened", "acknowledged", "released"]


def test_a_group_is_acknowledged_at_once(calls: Calls, site: Site) -> None:
    made = open_alerts(site.record, *({"detector": f"{number}"} for number in range(3)))
    reply = calls("POST", f"/alert/{made[0]}/ack", {**SEEN, "group": True})
    assert reply.json()["message"] == f"You have the alert {made[0]} and 2 others of its group."
    assert reply.json()["changed"] == made
    assert calls("DELETE", f"/alert/{made[2]}/ack?group=true").json()["changed"] == made


def test_what_has_risen_is_not_acknowledged(calls: Calls, alert_id: int) -> None:
    reply = calls("POST", f"/alert/{alert_id}/ack", {**SEEN, "severity": "WARNING"})
    assert (reply.status_code, reply.json()["code"]) == (409, "alert_changed")
    assert "is CRITICAL now" in reply.json()["message"]
    assert reply.json()["detail"][0]["loc"] == ["body", "severity"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/alert/{}/ack", SEEN),
        ("DELETE", "/alert/{}/ack", None),
        ("POST", "/alert/{}/resolve", {}),
        ("DELETE", "/silence/{}", None),
        ("GET", "/alert/{}", None),
    ],
)
@pytest.mark.parametrize("name", ["999999", "x", "-1", "9" * 30])
def test_what_is_unknown_is_not_found(
    calls: Calls, method: str, path: str, body: Any, name: str
) -> None:
    reply = calls(method, path.format(name), body)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_a_silence_is_made_listed_and_ended(calls: Calls, site: Site) -> None:
    made = open_alerts(site.record, {"filter": "q"}, metric="s.m")[0]
    site.definitions.post_one("metric", "s.m", {"description": "d"}, Account(1, "root", "admin", 1))
    given = {"metric": "s", "tags": {"filter": "q"}, "until": "2199-01-31", "why": "known"}
    reply = calls("POST", "/silences", given)
    assert reply.status_code == 201, reply.text
    body = reply.json()
    assert (body["state"], body["by"], body["alerts"]) == ("active", "ada", 1)
    assert body["until"] == "2199-01-31T23:59:59Z"
    assert calls("GET", f"/alert/{made}").json()["silence"] == body["id"]
    newest = calls("GET", "/silences?limit=1").json()["silences"]
    assert [item["id"] for item in newest] == [body["id"]]
    ended = calls("DELETE", f"/silence/{body['id']}").json()
    assert (ended["state"], ended["ended_by"]) == ("over", "ada")
    assert calls("GET", f"/alert/{made}").json()["silenced"] is False
    for state, is_there in (("over", True), ("active", False), ("planned", False)):
        found = calls("GET", f"/silences?state={state}").json()["silences"]
        assert (body["id"] in [item["id"] for item in found]) is is_there


def test_nobody_acts_without_an_account(calls: Calls, alert_id: int) -> None:
    client: httpx.Client = calls.client
    assert client.get("/alerts").status_code == 200
    assert client.post(f"/alert/{alert_id}/ack", json=SEEN).status_code == 401
    assert client.post("/silences", json={}).status_code == 401
