"""A real service tells a webhook, Slack and GitHub of one alert, from its opening to its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.fake_github import TOKEN, FakeGitHub, Request
from tests.support.receiver import ReceivingServer
from tests.support.service import Service
from tests.support.site import job_document, wait_for

pytestmark = pytest.mark.sqlite

HEAD, BASE = "a" * 40, "b" * 40
LIMIT = {
    "threshold": {"operator": "<=", "value": 8.0, "unit": "mmag"},
    "alert": {"level": "critical"},
}


@pytest.fixture
def hook() -> Iterator[ReceivingServer]:
    with ReceivingServer() as server:
        yield server


@pytest.fixture
def slack() -> Iterator[ReceivingServer]:
    with ReceivingServer(lambda _: httpx.Response(200, text="ok")) as server:
        yield server


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub(
        commits={"lsst/afw": {HEAD, BASE}}, requests={"lsst/afw": [Request(3, HEAD, BASE)]}
    ) as server:
        yield server


@pytest.fixture
def root(tmp_path: Path, slack: ReceivingServer, github: FakeGitHub) -> Iterator[Calls]:
    with Site(make_settings(tmp_path), is_made=True) as site:
        site.accounts.add("root", PASSWORD, role="admin")
    settings = {
        "SQUASH_WEBHOOK_NETWORKS": "127.0.0.0/8",
        "SQUASH_SLACK_URL": slack.url,
        "SQUASH_GITHUB_TOKEN": TOKEN,
        "SQUASH_GITHUB_REPOSITORIES": "lsst/afw",
        "SQUASH_GITHUB_URL": github.url,
        "SQUASH_ALERT_QUIET": "0.2s",
    }
    with (
        Service(tmp_path, **settings) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        yield log_in(client, "root")


def post(calls: Calls, **values: float) -> None:
    named = {f"p.{name}": value for name, value in values.items()}
    env = {"ci_id": "7", "ci_name": "nightly"}
    commit = {"git_url": "https://127.0.0.1/lsst/afw", "git_sha": HEAD}
    document = job_document(named, unit="mmag", instrument="HSC", detector=4, env=env, **commit)
    assert calls("POST", "/job", document).status_code == 202


def types(receiver: ReceivingServer) -> list[Any]:
    return [body["type"] for body in receiver.bodies]


def test_an_alert_is_told_to_all_from_its_opening_to_its_end(
    root: Calls, hook: ReceivingServer, slack: ReceivingServer, github: FakeGitHub
) -> None:
    root("POST", "/metric/p.PA1", {"description": "d", "unit": "mmag"})
    assert root("POST", "/spec/p.PA1.minimum", LIMIT).status_code in {200, 201, 202}
    events = ["alert.opened", "alert.acknowledged", "alert.resolved", "job.accepted"]
    made = root("POST", "/webhooks", {"name": "hook", "url": hook.url, "events": events})
    assert made.status_code == 201
    # What is open before they are set up is not told: let them begin.
    post(root, PA1=5.0)
    wait_for(lambda: types(hook) == ["job.accepted"])
    wait_for(lambda: github.states)

    post(root, PA1=9.5)
    wait_for(lambda: "alert.opened" in types(hook))
    (alert,) = root("GET", "/alerts").json()["alerts"]
    wait_for(lambda: slack.bodies)
    assert f"/alert/{alert['id']}|alert>" in slack.bodies[0]["attachments"][0]["text"]
    wait_for(lambda: github.newest == ("failure", "1 CRITICAL"))

    seen = {"severity": "CRITICAL", "note": "the lamp"}
    assert root("POST", f"/alert/{alert['id']}/ack", seen).status_code == 200
    wait_for(lambda: "alert.acknowledged" in types(hook))
    wait_for(lambda: github.newest[0] == "success")
    wait_for(lambda: "root has it: the lamp" in "".join(github.bodies()))

    post(root, PA1=5.0)
    wait_for(lambda: "alert.resolved" in types(hook))
    wait_for(lambda: len(slack.bodies) == 2)
    assert slack.bodies[1]["attachments"][0]["color"] == "good"
    wait_for(lambda: github.newest == ("success", "No alert is open"))
    assert root("GET", "/readyz").json()["status"] == "ok"
