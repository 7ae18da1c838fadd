"""A service that only reads: what is refused, whoever asks; what works nevertheless."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from squash_api.app import create_app
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.every_route import JOB, METHODS, NAME, addresses_of
from tests.support.in_process import HOST, service, serving

pytestmark = pytest.mark.sqlite
WRITE_URL = "https://squash.summit.example.org"
BROWSER = {"Accept": "text/html"}
CHANGING = [method for method in METHODS if method not in {"GET", "HEAD", "OPTIONS"}]
LOGGING_IN = {"/login", "/logout", "/auth"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record, in which another service has stored a job."""
    folder = tmp_path_factory.mktemp("record")
    with service(folder) as client:
        ada = log_in(client, "ada")
        assert ada("POST", "/job", JOB).status_code == 202
        # Which derives it.
        assert NAME in ada("GET", "/measurements").text
    return folder


@pytest.fixture(scope="module")
def app(folder: Path) -> FastAPI:
    settings = make_settings(folder, read_only="on", read="users", write_url=WRITE_URL, url=HOST)
    return create_app(settings)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


@pytest.fixture(scope="module")
def calls(client: httpx.Client) -> Calls:
    reply = client.post("/auth", json={"username": "ada", "password": PASSWORD})
    return Calls(client, reply.json()["access_token"])


def test_whatever_changes_something_is_refused_with_the_place_to_write_to(
    app: FastAPI, calls: Calls
) -> None:
    # Whether the process lives has nothing to do with the record.
    paths = {*addresses_of(app), "/no/such/route"} - LOGGING_IN - {"/healthz"}
    done = [
        f"{method} {path}: {reply.status_code}"
        for path in paths
        if not path.startswith("/static/")
        for method in CHANGING
        if (reply := calls(method, path, json={})).status_code != 503
        or reply.json()["code"] != "only_reads"
        or WRITE_URL not in reply.json()["message"]
    ]
    assert done == []


def test_whatever_reads_is_answered(app: FastAPI, calls: Calls) -> None:
    failed = [
        f"GET {path}: {reply.status_code} {reply.text[:200]}"
        for path in addresses_of(app)
        # A stream has no end.
        if path != "/events"
        for accept in ("text/html", "*/*")
        if (reply := calls("GET", path, headers={"Accept": accept})).status_code >= 500
    ]
    assert failed == []
    assert NAME in calls("GET", "/job/1").text


def test_people_log_in_and_out_on_the_pages(client: httpx.Client) -> None:
    page = client.get("/login", headers=BROWSER)
    (token,) = re.findall(r'name="token" value="(\w+)"', page.text)
    form = {"token": token, "next": "/", "username": "ada", "password": PASSWORD}
    assert client.post("/login", data=form, headers=BROWSER).status_code == 303
    front = client.get("/", headers=BROWSER)
    assert front.status_code == 200
    assert "This service only reads." in front.text
    (token, *_) = re.findall(r'name="token" value="(\w+)"', front.text)
    left = client.post("/logout", data={"token": token}, headers=BROWSER)
    assert left.status_code == 303
    client.cookies.clear()
    assert client.get("/", headers=BROWSER).status_code == 303


def test_only_who_may_read_is_told_where_to_write_by_readyz(
    client: httpx.Client, calls: Calls
) -> None:
    assert client.get("/readyz").json() == {
        "status": "read-only",
        "record": {"status": "read-only"},
    }
    assert calls("GET", "/readyz").json()["record"]["write_url"] == WRITE_URL
