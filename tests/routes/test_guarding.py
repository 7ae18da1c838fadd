"""Every reply has the headers that keep it safe in browsers, and what is private is in no cache."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from squash_api.app import create_app
from squash_api.errors import RecordUnavailableError
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, log_in
from tests.support.every_route import JOB, METHODS, NAME, addresses_of
from tests.support.in_process import HOST, service, serving

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": (
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
    ),
}
BROWSER = {"Accept": "text/html"}
PROGRAM = {"Accept": "*/*"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(make_settings(tmp_path_factory.mktemp("service"), max_body_bytes=20_000))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[httpx.Client]:
    """A service with a job, whose owner is the caller of `headers`."""
    with serving(app) as client:
        calls = log_in(client, "ada")
        assert calls("POST", "/job", JOB).json()["id"] == 1
        client.headers["X-Token"] = calls.token
        yield client


def assert_guarded(reply: httpx.Response) -> None:
    """Check the headers that every reply has, each once."""
    names = [
        name.lower() for name, _ in reply.headers.multi_items() if name.lower() != "set-cookie"
    ]
    assert len(set(names)) == len(names), names
    assert re.fullmatch("[0-9a-f]{16}", reply.headers["x-request-id"])
    told = {name: reply.headers.get(name) for name in ALWAYS}
    assert told == ALWAYS, f"{reply.request.method} {reply.request.url}: {told}"
    policy = dict.fromkeys(reply.headers["content-security-policy"].split("; "))
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert not [item for item in policy if "script-src" in item and item != "script-src 'self'"]
    if "text/html" not in reply.headers.get("content-type", ""):
        assert "script-src 'self'" not in policy
    if reply.request.method in {"GET", "HEAD"}:
        assert reply.headers["vary"].startswith("Accept")


def test_every_reply_of_every_route_is_guarded(app: FastAPI, client: httpx.Client) -> None:
    addresses = [path for path in addresses_of(app) if path != "/events"]
    for path in [*addresses, "/nothing", "/metric/nothing", "/static/squash.css"]:
        for method in METHODS:
            if (method, path) == ("DELETE", "/job/1"):
                continue
            for headers in (BROWSER, PROGRAM, {"Authorization": "JWT x"}):
                assert_guarded(client.request(method, path, headers=headers))
    assert_guarded(client.head("/events"))


FAILURES: Mapping[str, tuple[int, Callable[[httpx.Client], httpx.Response]]] = {
    "a body that is no JSON": (
        400,
        lambda client: client.post("/auth", content=b"{", headers=_json()),
    ),
    "a job that is no JSON": (400, lambda client: _job(client, b"{")),
    "no token": (401, lambda client: client.post("/job", json={})),
    "a wrong token": (
        401,
        lambda client: client.post("/job", json={}, headers={"Authorization": "JWT x"}),
    ),
    "a wrong password": (
        401,
        lambda client: client.post("/auth", json={"username": "ada", "password": "wrong"}),
    ),
    "another's": (403, lambda client: _call(client, "DELETE", "/user/bob")),
    "nothing there": (404, lambda client: client.get("/job/99")),
    "no such address": (404, lambda client: client.get("/nothing")),
    "no such method": (405, lambda client: client.patch("/jobs")),
    "too large": (413, lambda client: _job(client, b" " * 20_001)),
    "no media type": (415, lambda client: _job(client, b"{}", kind="text/plain")),
    "a wrong parameter": (422, lambda client: client.get("/jobs?limit=x")),
    "a wrong job": (422, lambda client: _job(client, b'{"measurements": 1}')),
    "a form from elsewhere": (403, lambda client: client.post("/login", data={"a": "b"})),
    "a redirect": (303, lambda client: client.get("/account", headers=BROWSER)),
    "a page that is not there": (404, lambda client: client.get("/job/99", headers=BROWSER)),
    "an accepted job": (202, lambda client: _job(client, b"{}")),
}


def _json(kind: str = "application/json") -> dict[str, str]:
    return {"Content-Type": kind}


def _call(client: httpx.Client, method: str, path: str) -> httpx.Response:
    headers = {"Authorization": f"JWT {client.headers['X-Token']}"}
    return client.request(method, path, headers=headers)


def _job(client: httpx.Client, body: bytes, kind: str = "application/json") -> httpx.Response:
    headers = {"Authorization": f"JWT {client.headers['X-Token']}", **_json(kind)}
    return client.post("/job", content=body, headers=headers)


@pytest.mark.parametrize("name", FAILURES)
def test_every_kind_of_failure_is_guarded(client: httpx.Client, name: str) -> None:
    log_in(client, "bob")
    status_code, ask = FAILURES[name]
    reply = ask(client)
    assert reply.status_code == status_code, reply.text
    assert_guarded(reply)


@pytest.mark.parametrize(
    ("failure", "status_code"),
    [(ZeroDivisionError(), 500), (RecordUnavailableError("It is gone."), 503)],
)
def test_what_breaks_is_guarded(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, failure: Exception, status_code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    places = ("pages.account.new_owner", "routes.root.json_reply", "routes.root._map_of")
    for place in (f"squash_api.{name}" for name in places):
        monkeypatch.setattr(place, fail)
    client.cookies.clear()
    for path, headers in (("/login", BROWSER), ("/", PROGRAM), ("/version", BROWSER)):
        reply = client.get(path, headers=headers)
        assert reply.status_code == status_code, reply.text
        assert_guarded(reply)


def test_a_job_that_breaks_the_service_is_guarded(
    app: FastAPI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.state.site.background, "wake", lambda: 1 / 0)
    reply = _job(client, b"{}")
    assert reply.status_code == 500
    assert_guarded(reply)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://in-process", None), ("https://in-process/api", "max-age=31536000")],
)
def test_https_stays_https(tmp_path: Path, url: str, expected: str | None) -> None:
    with service(tmp_path, url=url) as client:
        for path in ("/", "/healthz", "/nothing", "/static/squash.css", "/login"):
            for headers in (BROWSER, PROGRAM):
                reply = client.get(path, headers=headers)
                assert reply.headers.get("strict-transport-security") == expected
        assert client.post("/job").headers.get("strict-transport-security") == expected


# Caches


PRIVATE = [
    ("POST", "/auth"),
    ("POST", "/register"),
    ("GET", "/users"),
    ("GET", "/user/ada"),
    ("DELETE", "/user/ada"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("GET", "/account"),
    ("POST", "/account/password"),
]


@pytest.mark.parametrize(("method", "path"), PRIVATE)
@pytest.mark.parametrize("ending", ["", "/", "?limit=1"])
def test_no_cache_keeps_what_is_private(
    client: httpx.Client, method: str, path: str, ending: str
) -> None:
    for headers in (BROWSER, PROGRAM, {"Authorization": f"JWT {client.headers['X-Token']}x"}):
        reply = client.request(method, path + ending, headers=headers)
        assert reply.headers["cache-control"] == "no-store"
        if method == "GET":
            assert reply.headers["vary"] == "Accept, Authorization, Cookie"


def test_what_needs_credentials_is_private(app: FastAPI, client: httpx.Client) -> None:
    client.cookies.clear()
    for path in addresses_of(app):
        if path == "/events":
            continue
        for headers in (BROWSER, PROGRAM):
            reply = client.get(path, headers=headers)
            if reply.status_code in {303, 401}:
                assert reply.headers["cache-control"] == "no-store", path


def test_below_a_path_it_is_private_too(tmp_path: Path) -> None:
    with service(tmp_path, url=f"{HOST}/squash") as client:
        for path in ("/users", "/squash/users", "/squash/users/"):
            assert client.get(path).headers["cache-control"] == "no-store"


def test_what_depends_on_a_session_is_in_no_cache(client: httpx.Client) -> None:
    assert "cache-control" not in client.get("/jobs").headers
    assert client.get("/jobs").headers["vary"] == "Accept"
    reply = client.get("/jobs", headers={"Cookie": "a=b; squash_session=x"})
    assert reply.headers["cache-control"] == "no-store"
    page = client.get("/runs", headers=BROWSER)
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["vary"] == "Accept, Authorization, Cookie"


def test_what_only_users_read_is_in_no_cache(tmp_path: Path) -> None:
    app = create_app(make_settings(tmp_path, read="users"))
    with serving(app) as client:
        calls = log_in(client, "ada")
        assert calls("POST", "/job", JOB).status_code == 202
        for path in addresses_of(app):
            if path.startswith("/static") or path == "/events":
                continue
            for ask in (client.get, lambda path, **options: calls("GET", path, **options)):
                for headers in (BROWSER, PROGRAM):
                    reply = ask(path, headers=headers)
                    assert reply.headers.get_list("cache-control") == ["no-store"], path
                    assert reply.headers["vary"] == "Accept, Authorization, Cookie"
        assert calls("GET", f"/badge/{NAME}.svg").headers["cache-control"] == "no-store"
        files = client.get("/static/squash.css")
        assert files.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_badge_may_be_cached_where_everybody_reads(client: httpx.Client) -> None:
    reply = client.get(f"/badge/{NAME}.svg")
    assert reply.headers["cache-control"] == "public, max-age=60"
    assert PASSWORD not in reply.text
