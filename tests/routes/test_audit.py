"""That every change is noted with who made it, and that there is neither without the other."""

import asyncio
import csv
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy.exc import IntegrityError

from squash_api.accounts.accounts import Account
from squash_api.accounts.key_ring import KeyRing
from squash_api.delivery.replay import Selection, request_replay
from squash_api.index.jobs import delete_job, post_measurement
from squash_api.index.pruning import Age
from squash_api.record.audit import ACTIONS, Actor, Noted, list_noted
from squash_api.record.tables import metadata
from squash_api.routes.scopes import SCOPE_OF
from squash_api.settings import InfluxTarget
from squash_api.site import Site
from squash_api.standings.keeping import Planner, Terms
from squash_api.standings.pruning import prune
from tests.support.builders import make_body, make_settings, measured, open_record, store_job
from tests.support.calls import PASSWORD, Calls, follow, log_in
from tests.support.in_process import service
from tests.support.made_alerts import open_alerts
from tests.support.records import in_record, refuse_inserts

# Besides the trail: what counts tries, and what the service derives.
_OWN = {"audit", "attempt", "usage", "state"}
ADDRESS = "192.0.2.7"
NEW_PASSWORD = "another password of these tests"
BY = Actor(user_id=1, address=ADDRESS)
TARGET = InfluxTarget(url="http://127.0.0.1:9")
HOOK = "https://hooks.example.org/hushed-path"
SEEN = {"severity": "CRITICAL", "note": "I look"}
LIMIT = {"threshold": {"operator": "<=", "value": 1.0, "unit": ""}}


@dataclass
class World:
    """A record with an admin, other users, a job, definitions, a key, alerts and a silence."""

    site: Site
    folder: Path
    root: Account = field(init=False)
    job: int = field(init=False)
    key: str = field(init=False)
    open: int = field(init=False)
    held: int = field(init=False)
    silence: int = field(init=False)

    def __post_init__(self) -> None:
        accounts = self.site.accounts
        accounts.add("root", PASSWORD, role="admin")
        accounts.add("ada", PASSWORD)
        accounts.add("gone", PASSWORD)
        accounts.disable("gone")
        self.root = Account(1, "root", "admin", 1, address=ADDRESS)
        definitions = self.site.definitions
        definitions.post_one("metric", "p.m", {"description": "d"}, self.root)
        definitions.post_one("spec", "p.m.s", LIMIT, self.root)
        self.job = store_job(
            self.site.record, body=make_body(measured("p.a")), revision=2, asked_ns=10**18
        )
        self.site.deriver.catch_up()
        self.key = self.ring.create("ada", "ci", scopes=["job:write"], by=self.root)[0].public_id
        self.open, self.held = open_alerts(
            self.site.record, {"detector": "1"}, {"detector": "2"}, metric="p.m", time_ns=None
        )
        self.site.acting.acknowledge(self.held, SEEN, by=self.root)
        new = {"metric": "p.m", "until": "8h", "why": "w"}
        self.silence = self.site.acting.silence(new, by=self.root).silence_id
        hooks = self.site.subscriptions
        hooks.create("hook", HOOK, events=["job.accepted"], filters={}, by=self.root)
        hooks.test("hook", by=self.root)
        self.sync()

    @property
    def ring(self) -> KeyRing:
        return self.site.keys

    def sync(self, *names: str) -> None:
        """Sync a package with these metrics, and one that is always there."""
        folder = self.folder / "pkg"
        (folder / "metrics").mkdir(parents=True, exist_ok=True)
        (folder / "specs").mkdir(exist_ok=True)
        text = "".join(f"{name}: {{description: d, unit: ''}}\n" for name in ("always", *names))
        (folder / "metrics" / "y.yaml").write_text(text)
        self.site.definitions.sync_yaml([folder], by=BY)

    def noted(self) -> list[Noted]:
        with self.site.record.read() as connection:
            return list_noted(connection, limit=1000)

    def tables(self) -> dict[str, list[Any]]:
        """Return all rows that a change may be in."""
        names = [name for name in metadata.tables if name not in _OWN]
        return {name: in_record(self.folder, f"SELECT * FROM {name}") for name in names}

    def break_trail(self) -> None:
        """Make it impossible to add to the trail."""
        refuse_inserts(self.folder, "audit")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site(make_settings(tmp_path), is_made=True) as site:
        yield World(site, tmp_path)


def register(world: World) -> None:
    asyncio.run(world.site.accounts.register("eve", PASSWORD, key=None, address=ADDRESS))


def withdraw_measurement(world: World) -> None:
    post_measurement(
        world.site.record,
        world.site.metrics,
        job_id=world.job,
        document={"metric": "p.a", "value": None, "unit": "mmag"},
        account=world.root,
    )


def replay(world: World) -> None:
    request_replay(world.site.record, Selection(), targets=[TARGET], now_ns=1, by=BY)


def prune_all(world: World) -> None:
    terms = Terms(Age(2 * 10**18, ()), takes_last=True)
    planner = Planner(world.site.reader, world.site.states, terms)
    for _ in prune(world.site.record, world.site.reader, planner, planner.plan(), by=BY):
        pass


CHANGES: dict[str, tuple[Callable[[World], Any], str]] = {
    "user.register": (register, "eve"),
    "user.add": (lambda it: it.site.accounts.add("eve", PASSWORD, by=BY), "eve"),
    "user.disable": (lambda it: it.site.accounts.disable("ada", by=BY), "ada"),
    "user.enable": (lambda it: it.site.accounts.enable("gone", by=BY), "gone"),
    "user.role": (lambda it: it.site.accounts.set_role("ada", "admin", by=BY), "ada"),
    "user.password": (lambda it: it.site.accounts.set_password("ada", NEW_PASSWORD, by=BY), "ada"),
    "key.create": (
        lambda it: it.ring.create("ada", "two", scopes=["job:read"], by=it.root),
        "",
    ),
    "key.revoke": (lambda it: it.ring.revoke(it.key, by=it.root), ""),
    "definition.change": (
        lambda it: it.site.definitions.put("metric", "p.m", {"description": "e"}, it.root),
        "p.m",
    ),
    "definition.withdraw": (
        lambda it: it.site.definitions.delete("spec", "p.m.s", it.root),
        "p.m.s",
    ),
    "specs.sync": (lambda it: it.sync("another"), "y.another"),
    "job.delete": (lambda it: delete_job(it.site.record, it.job, account=it.root), "1"),
    "job.prune": (prune_all, "2033-05-18T03:33:20Z"),
    "measurement.withdraw": (withdraw_measurement, "1"),
    "replay.request": (replay, "1 job to default"),
    "alert.acknowledge": (lambda it: it.site.acting.acknowledge(it.open, SEEN, by=it.root), "1"),
    "alert.release": (lambda it: it.site.acting.release(it.held, by=it.root), "2"),
    "alert.resolve": (lambda it: it.site.acting.resolve(it.open, {}, by=it.root), "1"),
    "silence.create": (
        lambda it: it.site.acting.silence({"until": "8h", "why": "w"}, by=it.root),
        "2",
    ),
    "webhook.create": (
        lambda it: it.site.subscriptions.create(
            "two", HOOK, events=["job.accepted"], filters={}, by=it.root
        ),
        "two",
    ),
    "webhook.remove": (lambda it: it.site.subscriptions.remove("hook", by=it.root), "hook"),
    "webhook.test": (lambda it: it.site.subscriptions.test("hook", by=it.root), "hook"),
    "webhook.retry": (
        lambda it: it.site.subscriptions.retry("hook", delivery_id=None, by=it.root),
        "hook",
    ),
    "silence.end": (lambda it: it.site.acting.end_silence(it.silence, by=it.root), "1"),
}
ELSEWHERE = {
    "login.limited",
    "replay.refill",
    "quarantine.retry",
    "quarantine.drop",
    "reconcile.repair",
    "reconcile.prune",
}
"""Actions whose tests are next to what does them."""


def test_every_action_is_tried() -> None:
    assert set(CHANGES) | ELSEWHERE == set(ACTIONS)


@pytest.mark.parametrize("action", CHANGES)
def test_a_change_is_noted_with_who_made_it(world: World, action: str) -> None:
    change, subject = CHANGES[action]
    before, old = world.tables(), world.noted()
    change(world)
    assert world.tables() != before
    (entry,) = world.noted()[: -len(old)]
    assert (entry.action, entry.address) == (action, ADDRESS)
    assert entry.user == (None if action == "user.register" else "root")
    assert entry.subject.startswith(subject)


@pytest.mark.parametrize("action", CHANGES)
def test_a_change_that_cannot_be_noted_is_not_made(world: World, action: str) -> None:
    world.break_trail()
    before = world.tables()
    with pytest.raises(IntegrityError, match="refused"):
        CHANGES[action][0](world)
    assert world.tables() == before


@pytest.mark.parametrize("action", CHANGES)
def test_no_entry_has_anything_secret(world: World, action: str) -> None:
    CHANGES[action][0](world)
    text = json.dumps([entry.to_json() for entry in world.noted()])
    for secret in (PASSWORD, NEW_PASSWORD, "argon2", "measurements", "whsec_", "hushed-path"):
        assert secret not in text


def test_what_changes_nothing_is_not_noted(world: World) -> None:
    old = world.noted()
    definitions = world.site.definitions
    definitions.put("metric", "p.m", {"description": "d"}, world.root)
    definitions.post_one("metric", "p.m", {"description": "d"}, world.root)
    world.sync()
    world.site.accounts.change("ada", role="user", is_disabled=False, by=BY)
    world.site.acting.acknowledge(world.held, SEEN, by=world.root)
    assert world.noted() == old


def test_several_changes_of_a_user_are_noted_together(world: World) -> None:
    old = world.noted()
    world.site.accounts.change("gone", role="admin", is_disabled=False, by=BY)
    assert [entry.action for entry in world.noted()[: -len(old)]] == ["user.role", "user.enable"]


def test_many_definitions_are_one_entry(world: World) -> None:
    old = world.noted()
    documents = [{"name": f"p.n{number}", "description": "d"} for number in range(250)]
    world.site.definitions.post("metric", documents, world.root)
    (entry,) = world.noted()[: -len(old)]
    assert entry.subject == "p.n0 and 249 more"
    assert (entry.detail["count"], len(entry.detail["names"])) == (250, 100)


# The route


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with service(tmp_path) as client:
        with Site(make_settings(tmp_path)) as site:
            site.accounts.add("root", PASSWORD, role="admin", by=Actor(command="a test"))
        yield client


@pytest.fixture
def root(client: httpx.Client) -> Calls:
    return log_in(client, "root")


def entries(calls: Calls, query: str = "") -> list[dict[str, Any]]:
    reply = calls("GET", f"/audit{query}")
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["entries"]
    return found


def test_an_admin_reads_who_did_what_from_where(client: httpx.Client, root: Calls) -> None:
    ada = log_in(client, "ada")
    made = ada("POST", "/keys", {"name": "ci", "scopes": ["job:write", "definitions:write"]})
    key = Calls(client, made.json()["key"])
    assert key("POST", "/metric/p.m", {"description": "d"}).status_code == 201
    newest, created, registered, added = entries(root)
    assert (newest["user"], newest["key"], newest["action"], newest["subject"]) == (
        "ada",
        made.json()["id"],
        "definition.change",
        "p.m",
    )
    assert newest["address"] == "127.0.0.1"
    assert (created["action"], created["subject"]) == ("key.create", made.json()["id"])
    assert (registered["action"], registered["user"]) == ("user.register", None)
    assert (added["command"], added["address"]) == ("a test", None)


def test_as_csv_it_has_the_same_entries_and_no_formula(client: httpx.Client, root: Calls) -> None:
    log_in(client, "=ada()")
    reply = root("GET", "/audit?format=csv&limit=1")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    (row,) = csv.DictReader(reply.text.splitlines())
    (entry,) = entries(root, "?limit=1")
    assert row["subject"] == "'=ada()"
    assert {name: row[name] for name in ("id", "time", "action", "key", "detail")} == {
        "id": str(entry["id"]),
        "time": entry["time"],
        "action": "user.register",
        "key": "",
        "detail": json.dumps(entry["detail"]),
    }
    next_page = urlsplit(reply.links["next"]["url"])
    assert "a test" in root("GET", f"{next_page.path}?{next_page.query}").text


def test_only_admins_read_it(client: httpx.Client) -> None:
    reply = log_in(client, "ada")("GET", "/audit")
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert client.get("/audit").status_code == 401


def test_it_is_paged_and_filtered(client: httpx.Client, root: Calls) -> None:
    ada = log_in(client, "ada")
    for number in range(5):
        ada("POST", f"/metric/p.m{number}", {"description": "d"})
    pages = follow(root, "/audit?limit=2&action=definition", "entries")
    subjects = [[entry["subject"] for entry in page] for page in pages]
    assert subjects == [["p.m4", "p.m3"], ["p.m2", "p.m1"], ["p.m0"]]
    assert len(entries(root, "?user=ada")) == 5
    assert [entry["subject"] for entry in entries(root, "?action=user.register")] == ["ada"]
    assert entries(root, "?until=2020-01-01") == []
    assert len(entries(root, "?since=1h")) == 7


@pytest.mark.parametrize(
    "query", ["?action=nothing", "?since=soon", "?until=x", "?after=x", "?limit=0", "?actio=key"]
)
def test_a_question_without_sense_is_refused(root: Calls, query: str) -> None:
    assert root("GET", f"/audit{query}").status_code == 422


BY_ROUTE: dict[str, tuple[str, Any, str]] = {
    "DELETE /job/{job_id}": ("/job/1", None, "job.delete"),
    "POST /metrics": (
        "/metrics",
        {"metrics": [{"name": "p.x", "description": "d"}]},
        "definition.change",
    ),
    "POST /metric": ("/metric", {"metric": "p.x", "description": "d"}, "definition.change"),
    "POST /metric/{name}": ("/metric/p.x", {"description": "d"}, "definition.change"),
    "PUT /metric/{name}": ("/metric/p.m", {"description": "e"}, "definition.change"),
    "DELETE /metric/{name}": ("/metric/p.m", None, "definition.withdraw"),
    "POST /specs": ("/specs", {"specs": [{"name": "p.m.x", **LIMIT}]}, "definition.change"),
    "POST /spec/{name}": ("/spec/p.m.x", LIMIT, "definition.change"),
    "PUT /spec/{name}": ("/spec/p.m.s", {**LIMIT, "tags": ["x"]}, "definition.change"),
    "DELETE /spec/{name}": ("/spec/p.m.s", None, "definition.withdraw"),
    "PUT /user/{name}": ("/user/ada", {"role": "admin"}, "user.role"),
    "DELETE /user/{name}": ("/user/ada", None, "user.disable"),
    "POST /keys": ("/keys", {"name": "x", "scopes": ["job:read"]}, "key.create"),
    "DELETE /keys/{key_id}": ("/keys/{key}", None, "key.revoke"),
    "POST /alert/{alert_id}/ack": ("/alert/1/ack", SEEN, "alert.acknowledge"),
    "DELETE /alert/{alert_id}/ack": ("/alert/2/ack", None, "alert.release"),
    "POST /alert/{alert_id}/resolve": ("/alert/1/resolve", {}, "alert.resolve"),
    "POST /silences": ("/silences", {"until": "8h", "why": "w"}, "silence.create"),
    "DELETE /silence/{silence_id}": ("/silence/1", None, "silence.end"),
    "POST /webhooks": (
        "/webhooks",
        {"name": "two", "url": HOOK, "events": ["job.accepted"]},
        "webhook.create",
    ),
    "DELETE /webhooks/{name}": ("/webhooks/hook", None, "webhook.remove"),
    "POST /webhooks/{name}/test": ("/webhooks/hook/test", None, "webhook.test"),
    "POST /webhooks/{name}/retry": ("/webhooks/hook/retry", {}, "webhook.retry"),
}
KEPT_ELSEWHERE = {
    "POST /job": "the record has every job, with who posted it and when",
    "POST /topics/{topic}": "likewise",
    "POST /measurement/{job_id}": "likewise, unless it withdraws a value",
    "POST /quarantine/retry": "needs refused lines: see tests/routes/test_quarantine.py",
    "POST /quarantine/drop": "likewise",
}


def test_every_route_that_changes_something_is_tried() -> None:
    changing = {route for route in SCOPE_OF if not route.startswith("GET ")}
    assert set(BY_ROUTE) | set(KEPT_ELSEWHERE) == changing


@pytest.mark.parametrize("route", BY_ROUTE)
def test_a_route_notes_who_called_it_with_which_key(
    client: httpx.Client, root: Calls, tmp_path: Path, route: str
) -> None:
    log_in(client, "ada")
    with closing(open_record(tmp_path)) as record:
        open_alerts(record, {"detector": "1"}, {"detector": "2"}, time_ns=None)
    root("POST", "/alert/2/ack", SEEN)
    root("POST", "/silences", {"until": "8h", "why": "w"})
    root("POST", "/metric/p.m", {"description": "d"})
    root("POST", "/spec/p.m.s", LIMIT)
    root("POST", "/job", {})
    root("POST", "/webhooks", {"name": "hook", "url": HOOK, "events": ["job.accepted"]})
    other = root("POST", "/keys", {"name": "x", "scopes": ["job:read"], "user": "ada"}).json()["id"]
    scopes = ["job:write", "definitions:write", "alerts:write", "admin"]
    made = root("POST", "/keys", {"name": "all", "scopes": scopes}).json()
    path, document, action = BY_ROUTE[route]
    key = Calls(client, made["key"])
    reply = key(route.partition(" ")[0], path.format(key=other), document)
    assert reply.status_code in {200, 201, 202}, reply.text
    newest = entries(root)[0]
    assert (newest["action"], newest["user"], newest["key"], newest["address"]) == (
        action,
        "root",
        made["id"],
        "127.0.0.1",
    )
