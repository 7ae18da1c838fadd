"""Webhooks by the API: for admins, with secrets that are shown once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, Calls, follow, log_in
from tests.support.in_process import service
from tests.support.receiver import ReceivingServer
from tests.support.site import job_document, wait_for

pytestmark = pytest.mark.sqlite

URL = "https://hooks.example.org/services/T0/hushed"
HOOK = {"name": "hook", "url": URL, "events": ["alert.opened"]}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with service(tmp_path, webhook_networks=("127.0.0.0/8",)) as client:
        with Site(make_settings(tmp_path)) as site:
            site.accounts.add("root", PASSWORD, role="admin")
        yield client


@pytest.fixture
def root(client: httpx.Client) -> Calls:
    return log_in(client, "root")


def create(calls: Calls, **changes: Any) -> dict[str, Any]:
    reply = calls("POST", "/webhooks", {**HOOK, **changes})
    assert reply.status_code == 201, reply.text
    body: dict[str, Any] = reply.json()
    return body


def test_the_secret_is_shown_once_and_the_address_never_whole(root: Calls) -> None:
    made = create(root)
    secret, notes = made.pop("secret"), made.pop("notes")
    assert notes == []
    assert secret.startswith("whsec_")
    assert made["url"] == "https://hooks.example.org/..."
    listed = root("GET", "/webhooks")
    assert listed.json()["webhooks"] == [made]
    assert listed.headers["Cache-Control"] == "no-store"
    for text in (listed.text, root("GET", "/audit").text):
        assert secret not in text
        assert "hushed" not in text


def test_what_no_job_has_had_yet_is_noted(root: Calls) -> None:
    assert root("POST", "/job", job_document({"drp.PA1": 1.0})).status_code == 202
    notes = create(root, filters={"metric": ["drp.PA1", "drp.PA11"], "package": ["drp", "isr"]})[
        "notes"
    ]
    assert notes == [
        "No job has had the metric `drp.PA11` yet; did you mean `drp.PA1`?",
        "No job has had the package `isr` yet.",
    ]


def test_lists_are_paged(root: Calls) -> None:
    made = [create(root, name=f"hook {number}")["id"] for number in range(3)]
    pages = follow(root, "/webhooks?limit=2", "webhooks")
    assert [[item["id"] for item in page] for page in pages] == [made[:2], made[2:]]


def test_only_admins_see_and_change_them(client: httpx.Client, root: Calls) -> None:
    create(root)
    ada = log_in(client, "ada")
    for method, path, body in (
        ("GET", "/webhooks", None),
        ("POST", "/webhooks", {**HOOK, "name": "two"}),
        ("DELETE", "/webhooks/hook", None),
        ("GET", "/webhooks/hook/deliveries", None),
        ("POST", "/webhooks/hook/test", None),
        ("POST", "/webhooks/hook/retry", {}),
    ):
        assert ada(method, path, body).status_code == 403, path
        assert client.request(method, path, json=body).status_code == 401, path


def test_what_cannot_be_a_webhook_is_refused_with_its_place(root: Calls) -> None:
    for changes, place in (
        ({"url": "http://hooks.example.org/"}, "url"),
        ({"url": 7}, "url"),
        ({"events": "alert.opened"}, "events"),
        ({"filters": []}, "filters"),
        ({"filters": {"severity": "loud"}}, "filters.severity"),
        ({"severity": "critical"}, "severity"),
        ({"name": "a/b"}, "name"),
    ):
        reply = root("POST", "/webhooks", {**HOOK, **changes})
        assert reply.status_code == 422, reply.text
        assert ".".join(reply.json()["detail"][0]["loc"]) == f"body.{place}"


def test_what_is_missing_is_named(root: Calls) -> None:
    for missing in HOOK:
        reply = root("POST", "/webhooks", {key: HOOK[key] for key in HOOK if key != missing})
        assert (reply.status_code, reply.json()["code"]) == (400, "missing_parameter")


def test_a_name_is_taken_until_its_webhook_is_removed(root: Calls) -> None:
    create(root)
    reply = root("POST", "/webhooks", HOOK)
    assert (reply.status_code, reply.json()["code"]) == (400, "name_taken")
    assert root("DELETE", "/webhooks/hook").status_code == 200
    assert root("DELETE", "/webhooks/hook").status_code == 404
    create(root)


def test_a_test_is_sent_and_its_answer_is_listed(root: Calls) -> None:
    with ReceivingServer() as receiver:
        create(root, url=receiver.url)
        made = root("POST", "/webhooks/hook/test")
        assert (made.status_code, made.json()["state"]) == (202, "waiting")

        def deliveries() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = root("GET", "/webhooks/hook/deliveries").json()[
                "deliveries"
            ]
            return [item for item in found if item["state"] == "delivered"]

        (found,) = wait_for(deliveries)
        assert (found["event"], found["attempts"], found["answer"]) == ("webhook.test", 1, "204")
        assert receiver.bodies == [found["body"]]


def test_what_does_not_arrive_is_in_readyz_and_prometheus(
    client: httpx.Client, root: Calls, capfd: pytest.CaptureFixture[str]
) -> None:
    with ReceivingServer(lambda _: httpx.Response(503, text="asleep")) as receiver:
        secret = create(root, url=f"{receiver.url}/hushed")["secret"]
        root("POST", "/webhooks/hook/test")
        ready = wait_for(lambda: _failing(client)) or {}
    shown = ready["receivers"]["webhook hook"]
    assert (ready["status"], shown["status"], shown["waiting"]) == ("degraded", "down", 1)
    assert shown["reason"] == "503: asleep"
    logged = "".join(capfd.readouterr())
    assert "a webhook cannot be sent to" in logged
    assert "hushed" not in logged
    assert secret not in logged
    assert shown["runbook"].endswith("/docs/runbook#webhook-failing")
    lines = client.get("/prometheus").text.splitlines()
    assert 'squash_receiver_up{receiver="webhook hook"} 0.0' in lines
    assert 'squash_receiver_waiting{receiver="webhook hook"} 1.0' in lines
    assert "webhook hook" in client.get("/", headers={"Accept": "text/html"}).text
    assert root("POST", "/webhooks/hook/retry", {}).json()["count"] == 1
    assert root("POST", "/webhooks/hook/retry", {"delivery": 99}).status_code == 404
    assert root("POST", "/webhooks/hook/retry", {"delivery": "x"}).status_code == 422


def _failing(client: httpx.Client) -> dict[str, Any] | None:
    found: dict[str, Any] = client.get("/readyz").json()
    return found if found["status"] == "degraded" else None
