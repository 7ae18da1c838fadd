"""With `SQUASH_READ=users` nothing is readable without credentials; sessions and their forms."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urljoin, urlsplit

import httpx
import pytest
from fastapi import FastAPI, Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Mount, Route
from starlette.types import Message

from squash_api.app import create_app
from squash_api.routes.door import is_static, safe_address
from squash_api.routes.negotiation import PageRoute
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.every_route import JOB, METHODS, NAME, addresses_of
from tests.support.in_process import HOST, service, serving

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PROGRAM = {"Accept": "*/*"}
OPEN = {"/healthz", "/readyz", "/auth", "/register", "/login", "/logout"}
# What Sasquatch's clients expect of a Kafka proxy; it tells nothing of the record.
PROXY = {"/v3/clusters", "/v3/clusters/squash/topics", "/topics", "/brokers"}


def new_route() -> Response:
    return Response(NAME)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """A private service, to which somebody has added routes of every kind."""
    app = create_app(make_settings(tmp_path_factory.mktemp("service"), read="users", url=HOST))
    app.add_api_route("/new", new_route, methods=["GET", "POST"], include_in_schema=False)
    app.add_api_route("/loginx", new_route, include_in_schema=False)
    app.router.routes[:0] = [
        PageRoute("/newer", lambda _request: Response(NAME)),
        Mount("/mounted", routes=[Route("/any", lambda _request: Response(NAME))]),
    ]
    return app


@pytest.fixture(scope="module")
def private(app: FastAPI) -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


@pytest.fixture(scope="module")
def calls(private: httpx.Client) -> Calls:
    """The owner of job 1 of the private service."""
    calls = log_in(private, "ada")
    reply = calls("POST", "/job", JOB)
    assert reply.json()["id"] == 1, reply.text
    assert NAME in calls("GET", "/job/1").text
    return calls


def browse(client: httpx.Client, address: str, **form: str) -> httpx.Response:
    """Open an address as a browser, or send a form to it."""
    if form:
        return client.post(address, data=form, headers=BROWSER)
    return client.get(address, headers=BROWSER)


def token_in(page: httpx.Response, action: str) -> str:
    """Return the token of the form that is sent to an address."""
    found = re.search(
        rf'action="[^"]*{action}">\s*<input [^>]*name="token" value="(\w+)"', page.text
    )
    assert found is not None, page.text
    return found[1]


def enter(client: httpx.Client, name: str = "ada", *, to: str = "/login") -> httpx.Response:
    """Log in on the page; the client keeps the cookie."""
    client.cookies.clear()
    page = browse(client, to)
    back = re.search('name="next" value="([^"]*)"', page.text)
    assert back is not None
    return browse(
        client,
        to.partition("?")[0],
        token=token_in(page, "/login"),
        next=back[1].replace("&amp;", "&"),
        username=name,
        password=PASSWORD,
    )


# Reading for users only


def test_no_route_tells_anything_without_credentials(
    app: FastAPI, private: httpx.Client, calls: Calls
) -> None:
    told = []
    for path in [*addresses_of(app), "/nothing", "/job/1/nothing"]:
        if is_static(path):
            continue
        for method in METHODS:
            for headers in (BROWSER, PROGRAM):
                reply = private.request(method, path, headers=headers)
                is_refused = reply.status_code == 401 or (
                    reply.status_code == 303
                    and urlsplit(reply.headers["Location"]).path == "/login"
                )
                is_open = path in OPEN | PROXY or (path, headers, method) in [
                    ("/", PROGRAM, "GET"),
                    ("/", PROGRAM, "HEAD"),
                ]
                if not (is_refused or is_open) or NAME in reply.text:
                    told.append(f"{method} {path} {headers['Accept'][:9]}: {reply.status_code}")
    assert not told, "\n".join(told)
    assert calls("GET", "/new").text == NAME


TRICKS = [
    "/login/../jobs",
    "/login%2f..%2fjobs",
    "/static/../jobs",
    "/static/%2e%2e/jobs",
    "/static/..%2fjobs",
    "/static/x/../../jobs",
    "/static%2f..%2fjobs",
    "//jobs",
    "/jobs//",
    "/jobs/.",
    "/jobs;/login",
    "/jobs?/login",
    "/jobs%3f/login",
    "/LOGIN/../jobs",
    "/jobs%00",
    "/jobs%0d%0a/login",
    "/./jobs",
    "/healthz/jobs",
    "/healthz/../job/1",
    "/auth/../users",
    "/api/jobs",
    "/badge/hushed.svg?format=html",
    "/measurements?format=csv",
    "/measurements?format=parquet",
    "/report?format=html",
    "/?format=html",
    "/metric/hushed.Metric/plot",
    "/events?after=0",
]


@pytest.mark.parametrize("path", TRICKS)
@pytest.mark.parametrize(
    "headers",
    [
        BROWSER,
        PROGRAM,
        {"Accept": "text/html;q=0.1, */*"},
        {"X-Original-URL": "/login", "X-Rewrite-URL": "/login", "X-Forwarded-Prefix": "/login"},
        {"X-HTTP-Method-Override": "POST"},
        {"Cookie": "squash_session=; squash_session=x"},
        {"Cookie": "squash_session=eyJhbGciOiJub25lIn0.e30."},
        {"Authorization": ""},
        {"Authorization": "JWT"},
        {"Authorization": "Basic YWRhOg=="},
        {"Authorization": "Negotiate x"},
        {"Authorization": "Bearer sq_1_x"},
    ],
)
def test_no_spelling_gets_in(
    private: httpx.Client, calls: Calls, path: str, headers: dict[str, str]
) -> None:
    assert calls.token
    # A client would make something else of some of them.
    reply = private.get(httpx.URL(HOST).copy_with(raw_path=path.encode()), headers=headers)
    # The last, after a few wrong passwords.
    assert reply.status_code in {303, 401, 404, 429}, reply.text
    assert NAME not in reply.text


@given(
    st.text("/.%2fF5cLlogin;?#static\\jobs\0\r\n é", max_size=30),
    st.sampled_from([BROWSER, PROGRAM]),
)
def test_no_made_up_path_gets_in(
    private: httpx.Client, calls: Calls, path: str, headers: dict[str, str]
) -> None:
    assert calls.token
    reply = private.get(
        httpx.URL(HOST).copy_with(raw_path=b"/" + quote(path, safe="/.%;?=").encode()),
        headers=headers,
    )
    # Dots are resolved by the client.
    asked = unquote(reply.request.url.raw_path.decode()).partition("?")[0].strip("/")
    assert reply.status_code in {200, 303, 401, 404, 405, 422}
    if reply.status_code == 200:
        assert asked in {"", "login", "healthz", "readyz"}
    assert NAME not in reply.text


def test_what_is_open_tells_nothing_private(private: httpx.Client, calls: Calls) -> None:
    assert private.get("/healthz").json() == {"status": "ok"}
    assert private.get("/readyz").json() == {"status": "ok", "record": {"status": "ok"}}
    assert "targets" in calls("GET", "/readyz").json()
    assert set(private.get("/").json().values()) <= {
        f"{HOST}{path}" for path in (f"/{name}" for name in private.get("/").json())
    }
    page = browse(private, "/login").text
    assert "InfluxDB" not in page
    assert private.get("/static/squash.css").status_code == 200


def test_health_does_not_say_what_is_wrong_to_everybody(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    with service(tmp_path, read="users", influx_url=nobody, influx_targets=()) as client:
        calls = log_in(client, "ada")
        calls("POST", "/job", JOB)
        for _ in range(200):
            if client.get("/readyz").json()["status"] == "degraded":
                break
            asyncio.run(asyncio.sleep(0.05))
        assert client.get("/readyz").json() == {"status": "degraded", "record": {"status": "ok"}}
        assert "reason" in calls("GET", "/readyz").json()["targets"]["default"]
        assert client.get("/readyz", headers={"Authorization": "JWT x"}).status_code == 401
        assert "default" not in browse(client, "/login").text


def basic() -> httpx.BasicAuth:
    return httpx.BasicAuth("ada", PASSWORD)


def test_a_token_a_password_or_a_session_lets_in(private: httpx.Client, calls: Calls) -> None:
    assert calls("GET", "/jobs").json()["ids"] == [1]
    bearer = {"Authorization": f"Bearer {calls.token}"}
    assert private.get("/jobs", headers=bearer).json()["ids"] == [1]
    assert private.get("/jobs", auth=basic()).json()["ids"] == [1]
    assert calls("GET", "/badge/hushed.svg").status_code == 200
    assert calls("GET", "/prometheus").status_code == 200
    assert calls("GET", "/measurements?format=csv").text.count(NAME) > 1


def key_of(calls: Calls, *scopes: str) -> str:
    reply = calls("POST", "/keys", {"name": "of tests", "scopes": list(scopes)})
    text: str = reply.json()["key"]
    return text


def test_a_key_reads_only_if_it_is_for_reading(private: httpx.Client, calls: Calls) -> None:
    reading, writing = key_of(calls, "job:read"), key_of(calls, "job:write")
    for path in ("/jobs", "/prometheus", "/docs", "/new", "/badge/hushed.svg", "/nothing"):
        headers = {"Authorization": f"Bearer {writing}"}
        reply = private.get(path, headers=headers)
        assert (reply.status_code, "`job:read`" in reply.text) == (403, True)
        assert private.get(path, auth=("ada", writing)).status_code == 403
        headers = {"Authorization": f"Bearer {reading}"}
        assert private.get(path, headers=headers).status_code == (404 if "no" in path else 200)
    reply = private.post("/job/", json=JOB, headers={"Authorization": f"Bearer {writing}"})
    assert reply.status_code == 202


def test_a_key_is_no_password_of_the_pages(private: httpx.Client, calls: Calls) -> None:
    key = key_of(calls, "job:read")
    private.cookies.clear()
    token = token_in(browse(private, "/login"), "/login")
    reply = browse(private, "/login", token=token, username="ada", password=key)
    assert (reply.status_code, "A key is for programs" in reply.text) == (403, True)
    assert "squash_session" not in private.cookies
    assert enter(private).status_code == 303
    form = {"new": "another password of tests", "again": "another password of tests"}
    form["token"] = token_in(browse(private, "/account"), "/account/password")
    assert browse(private, "/account/password", password=key, **form).status_code == 401
    private.cookies.clear()


def test_the_end_of_a_user_is_the_end_of_reading(tmp_path: Path) -> None:
    with service(tmp_path, read="users") as client:
        calls = log_in(client, "ada")
        assert calls("GET", "/jobs").status_code == 200
        assert calls("DELETE", "/user/ada").status_code == 200
        assert calls("GET", "/jobs").status_code == 401


def test_who_dispatches_finds_the_way_in_as_lsst_verify_looks_for_it(
    private: httpx.Client, calls: Calls
) -> None:
    assert calls.token
    endpoints = private.get("/").json()
    reply = private.post(endpoints["auth"], json={"username": "ada", "password": PASSWORD}).json()
    job: dict[str, Any] = {"measurements": [], "blobs": [], "meta": {}}
    headers = {"Authorization": f"JWT {reply['access_token']}"}
    assert private.post(endpoints["job"], json=job, headers=headers).status_code in {200, 202}


async def test_a_websocket_that_somebody_adds_is_closed_too(app: FastAPI) -> None:
    told: list[Message] = []

    async def send(message: Message) -> None:
        told.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/ws", "raw_path": b"/ws", "headers": []}
    await app({**scope, "query_string": b""}, receive, send)
    assert told == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("http://testserver/alert/5?at=1", "?next=/alert/5%3Fat%3D1"),
        ("http://evil.example/alert/5", ""),
        ("http://testserver//evil.example", ""),
        ("http://testserver", ""),
        ("", ""),
    ],
)
def test_who_sends_a_form_without_a_session_comes_back_to_the_page_with_the_form(
    private: httpx.Client, referer: str, back: str
) -> None:
    private.cookies.clear()
    headers = {
        **BROWSER,
        "Referer": referer.replace("testserver", private.base_url.netloc.decode()),
    }
    reply = private.post("/alert/5/ack", data={"severity": "warning"}, headers=headers)
    assert reply.headers["Location"] == f"/login{back}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {"Forwarded": "host=evil.example;proto=https"},
    ],
)
def test_no_header_says_where_a_login_leads(
    private: httpx.Client, calls: Calls, headers: dict[str, str]
) -> None:
    assert calls.token
    private.cookies.clear()
    reply = private.get("/jobs", headers={**BROWSER, **headers})
    assert reply.headers["Location"] == "/login?next=/jobs"
    page = private.get("/login", headers={**BROWSER, **headers})
    assert "evil" not in page.text
    assert "secure" not in page.headers["Set-Cookie"].lower()


def test_a_browser_without_cookies_is_told_so(tmp_path: Path) -> None:
    with service(tmp_path, url="https://squash.example/x") as client:
        token = token_in(browse(client, "/login"), "/login")
        client.cookies.clear()
        reply = browse(client, "/login", token=token, username="ada", password=PASSWORD)
        assert reply.status_code == 403
        assert "sent no cookie" in reply.text
        assert "https://squash.example/x/login" in reply.text


def test_too_many_wrong_passwords_are_said_in_the_form(tmp_path: Path) -> None:
    with service(tmp_path) as client:
        log_in(client, "ada")
        for _ in range(50):
            token = token_in(browse(client, "/login"), "/login")
            reply = browse(client, "/login", token=token, username="ada", password="not this one")
            if reply.status_code == 429:
                break
        assert reply.status_code == 429
        assert int(reply.headers["Retry-After"]) >= 1
        assert f"try again in {reply.headers['Retry-After']} s" in reply.text
        assert "squash_session" not in client.cookies


def test_the_document_says_that_reading_may_be_refused(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    silent = [
        path
        for path, operations in paths.items()
        if "401" not in operations.get("get", {"responses": ["401"]})["responses"]
    ]
    assert {path.replace("{cluster_id}", "squash") for path in silent} == {"/", "/healthz"} | PROXY


def test_everybody_reads_by_default(tmp_path: Path) -> None:
    with service(tmp_path) as client:
        assert client.get("/jobs").status_code == 200
        assert client.get("/jobs", headers={"Authorization": "Basic eDp5"}).status_code == 200
        assert browse(client, "/").status_code == 200
        assert client.get("/users").status_code == 401


# Where a login leads


AWAY = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "https://evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "evil.example",
    "@evil.example",
    ".evil.example",
    "%2f%2fevil.example",
    "/%2f/evil.example",
    "/%2fevil.example",
    "/%252fevil.example",
    "/%5cevil.example",
    "/%255cevil.example",
    "/%09/evil.example",
    "/%0d%0aSet-Cookie:%20a=b",
    "/x\r\nSet-Cookie: a=b",
    "/..//evil.example",
    "/.//evil.example",
    "/%2e%2e//evil.example",
    "/./..%2f/evil.example",
    "/ \x0b/evil.example",
    "/é",
    "/\u2215evil.example",
    "",
    " ",
    "/" + "a" * 1000,
    "/login",
    "/login/",
    "/login?next=/login",
    "/logout",
    "?next=/x",
    "#x",
]


@pytest.mark.parametrize("text", [None, *AWAY])
def test_no_login_leads_to_another_host(text: str | None) -> None:
    assert safe_address(text) == "/"


@pytest.mark.parametrize(
    "text",
    [
        "/jobs",
        "/metric/a%2Fb?x=1&y=%0d",
        "/runs/a%2F%2Fb/c?a=//b",
        "/job/1#m",
        "/?q=\\".replace("\\", "%5c"),
    ],
)
def test_a_login_leads_back(text: str) -> None:
    assert safe_address(text) == text


@given(st.text("/\\.%2f5cdDaA:@?#evil \t\r\n", max_size=20) | st.text(max_size=20))
def test_an_address_stays_here_however_it_is_read(text: str) -> None:
    found = safe_address(text)
    assert found.isascii()
    assert found.isprintable()
    for read in (found, unquote(found), unquote(unquote(found))):
        if "?" not in read and "#" not in read:
            assert urlsplit(urljoin("https://here.example/login", read)).netloc == "here.example"


@pytest.mark.parametrize("text", AWAY)
def test_the_form_leads_nowhere_else(private: httpx.Client, calls: Calls, text: str) -> None:
    assert calls.token
    private.cookies.clear()
    page = browse(private, "/login")
    form = {"token": token_in(page, "/login"), "username": "ada", "password": PASSWORD}
    reply = browse(private, "/login", next=text, **form)
    private.cookies.clear()
    assert (reply.status_code, reply.headers["Location"]) == (303, "/")


def test_a_page_is_shown_after_the_login(private: httpx.Client, calls: Calls) -> None:
    assert calls.token
    asked = "/metric/hushed.Metric?range=7d&x=meta.airmass"
    sent = browse(private, asked)
    assert sent.status_code == 303
    assert parse_qs(urlsplit(sent.headers["Location"]).query) == {"next": [asked]}
    reply = enter(private, to=sent.headers["Location"])
    assert (reply.status_code, reply.headers["Location"]) == (303, asked)
    assert NAME in browse(private, asked).text
    assert private.get("/jobs").json()["ids"][0] == 1
    assert browse(private, f"/login?next={quote(asked)}").headers["Location"].startswith("/metric/")
    private.cookies.clear()


@pytest.mark.parametrize("letters", [900, 990, 1000, 1100, 5000])
def test_however_long_an_address_is_its_login_is_a_page(
    private: httpx.Client, calls: Calls, letters: int
) -> None:
    assert calls.token
    private.cookies.clear()
    for asked in (f"/search?q={'a' * letters}", f"/search?q={'%20' * (letters // 3)}"):
        sent = browse(private, asked).headers["Location"]
        assert browse(private, sent).status_code == 200


@pytest.mark.parametrize("root", ["", "/squash"])
def test_below_a_path_a_login_stays_below_it(tmp_path: Path, root: str) -> None:
    with service(tmp_path, read="users", url=f"{HOST}{root}") as client:
        log_in(client, "ada")
        for asked in ("/jobs", f"{root}/jobs"):
            sent = browse(client, asked).headers["Location"]
            assert sent == f"{root}/login?next=/jobs"
        reply = enter(client, to=sent)
        assert reply.headers["Location"] == f"{root}/jobs"
        assert f"path={root or '/'};" in reply.headers["Set-Cookie"].lower()


# Cookies


@pytest.mark.parametrize(
    ("url", "name", "path", "is_secure"),
    [
        ("http://in-process", "squash_session", "/", False),
        ("https://in-process", "__Host-squash_session", "/", True),
        ("https://in-process/api", "__Secure-squash_session", "/api", True),
    ],
)
def test_cookies_are_as_strict_as_the_address_allows(
    tmp_path: Path, url: str, name: str, path: str, *, is_secure: bool
) -> None:
    with service(tmp_path, url=url) as client:
        client.base_url = httpx.URL(url)
        log_in(client, "ada")
        page = browse(client, "/login")
        for reply in (page, enter(client)):
            for cookie in reply.headers.get_list("Set-Cookie"):
                first, *attributes = cookie.split("; ")
                told = {
                    item.partition("=")[0].lower(): item.partition("=")[2] for item in attributes
                }
                assert {"httponly", "samesite", "path"} <= told.keys()
                assert (told["path"], told["samesite"]) == (path, "lax")
                assert ("secure" in told) is is_secure
                assert "domain" not in told
                assert first.startswith(name.removesuffix("session"))
        assert 'title="Your account">ada</a>' in browse(client, "/").text


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service where everybody reads; ada owns job 1."""
    with service(tmp_path_factory.mktemp("service")) as client:
        log_in(client, "eve")
        assert log_in(client, "ada")("POST", "/job", JOB).json()["id"] == 1
        yield client


@pytest.fixture
def entered(shared: httpx.Client) -> httpx.Client:
    """A browser that is logged in as ada where everybody reads."""
    assert enter(shared).status_code == 303
    return shared


def cookie_of(client: httpx.Client) -> str:
    return client.cookies["squash_session"]


def test_a_logout_ends_the_session_wherever_its_cookie_is(entered: httpx.Client) -> None:
    kept = cookie_of(entered)
    page = browse(entered, "/")
    assert browse(entered, "/logout", token=token_in(page, "/logout")).status_code == 303
    assert "squash_session" not in entered.cookies
    entered.cookies.set("squash_session", kept)
    assert ">Log in</a>" in browse(entered, "/").text
    assert entered.get("/users").status_code == 401


def test_a_password_ends_all_sessions_but_this_one_and_all_tokens(
    shared: httpx.Client,
) -> None:
    entered, calls = shared, log_in(shared, "grace")
    assert enter(entered, "grace").status_code == 303
    kept = cookie_of(entered)
    form = {
        "token": token_in(browse(entered, "/account"), "/account/password"),
        "password": PASSWORD,
        "new": "another password of tests",
        "again": "another password of tests",
    }
    reply = browse(entered, "/account/password", **form)
    assert reply.headers["Location"] == "/account?done=password"
    assert "The password is changed." in browse(entered, "/account?done=password").text
    assert calls("GET", "/users").status_code == 401
    entered.cookies.clear()
    entered.cookies.set("squash_session", kept)
    assert browse(entered, "/account").status_code == 303


@pytest.mark.parametrize(
    ("change", "status_code", "words"),
    [
        ({"password": "wrong password"}, 401, "password is wrong"),
        ({"again": "another one of tests"}, 422, "The new passwords differ."),
        ({"new": "x", "again": "x"}, 422, "shorter than"),
        ({"token": "0" * 64}, 403, "not from this page"),
        ({"token": ""}, 403, "not from this page"),
    ],
)
def test_a_password_that_cannot_be_changed_says_why(
    entered: httpx.Client, change: dict[str, str], status_code: int, words: str
) -> None:
    form = {
        "token": token_in(browse(entered, "/account"), "/account/password"),
        "password": PASSWORD,
        "new": "another password of tests",
        "again": "another password of tests",
        **change,
    }
    reply = browse(entered, "/account/password", **form)
    assert (reply.status_code, words in reply.text) == (status_code, True), reply.text
    assert entered.get("/users").status_code == 200


# Changes by other sites


CROSS = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": HOST},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://in-process.evil.example"},
    {"Origin": "http://in-process@evil.example"},
    {"Origin": "http://in-process:81"},
    {"Origin": "http://["},
    {"Origin": ""},
]
OWN: list[Mapping[str, str]] = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": HOST},
    {"Origin": "HTTP://IN-PROCESS"},
]


@pytest.mark.parametrize("headers", CROSS)
def test_a_form_of_another_site_changes_nothing_even_with_its_token(
    entered: httpx.Client, headers: dict[str, str]
) -> None:
    token = token_in(browse(entered, "/"), "/logout")
    reply = entered.post("/logout", data={"token": token}, headers={**BROWSER, **headers})
    assert reply.status_code == 403
    assert reply.headers["Content-Type"].startswith("text/html")
    assert entered.get("/users").status_code == 200


@pytest.mark.parametrize("headers", OWN)
def test_a_form_of_ones_own_page_is_taken(entered: httpx.Client, headers: dict[str, str]) -> None:
    token = token_in(browse(entered, "/"), "/logout")
    reply = entered.post("/logout", data={"token": token}, headers={**BROWSER, **headers})
    assert reply.status_code == 303


def test_a_form_without_the_token_of_its_session_changes_nothing(entered: httpx.Client) -> None:
    own = token_in(browse(entered, "/"), "/logout")
    kept = cookie_of(entered)
    entered.cookies.clear()
    assert enter(entered, "eve").status_code == 303
    other = token_in(browse(entered, "/"), "/logout")
    entered.cookies.clear()
    entry = token_in(browse(entered, "/login"), "/login")
    entered.cookies.set("squash_session", kept)
    for token in (other, entry, "", own.upper(), own[:-1]):
        assert browse(entered, "/logout", token=token).status_code == 403
        assert entered.get("/users").status_code == 200
    assert browse(entered, "/logout", token=own).status_code == 303


@pytest.mark.parametrize("headers", [*CROSS, {}])
def test_nobody_is_logged_in_as_another_by_a_form_elsewhere(
    shared: httpx.Client, headers: dict[str, str]
) -> None:
    shared.cookies.clear()
    attacker = browse(shared, "/login")
    form = {"token": token_in(attacker, "/login"), "username": "eve", "password": PASSWORD}
    if not headers:
        # The form of the attacker's own browser.
        shared.cookies.clear()
    reply = shared.post("/login", data=form, headers={**BROWSER, **headers})
    assert reply.status_code == 403
    assert "squash_session" not in shared.cookies
    assert token_in(reply, "/login")


WRITES: list[tuple[str, str, Any]] = [
    ("POST", "/metrics", {"metrics": [{"name": "p.new", "unit": "m"}]}),
    ("PUT", "/metric/p.new", {"unit": "m"}),
    ("POST", "/specs", {"specs": []}),
    ("DELETE", "/job/99", None),
    ("PUT", "/user/ada", {"role": "user"}),
    ("DELETE", "/keys/none", None),
    ("POST", "/measurement/1", {"metric": "p.x", "value": 1, "unit": "m"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_session_changes_nothing_by_the_api_without_a_token_of_its_forms(
    entered: httpx.Client, method: str, path: str, body: Any
) -> None:
    token = token_in(browse(entered, "/"), "/logout")
    for headers in ({}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": token, **CROSS[0]}):
        reply = entered.request(method, path, json=body, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    reply = entered.request(method, path, json=body, headers={"X-CSRF-Token": token})
    assert reply.status_code != 401
    assert "another site" not in reply.text
    assert "this page" not in reply.text


def test_a_session_posts_no_job(entered: httpx.Client) -> None:
    token = token_in(browse(entered, "/"), "/logout")
    for path in ("/job", "/job/"):
        reply = entered.post(path, json=JOB, headers={"X-CSRF-Token": token})
        assert reply.status_code == 401


def test_a_wrong_token_is_no_session(entered: httpx.Client) -> None:
    assert entered.get("/users").status_code == 200
    assert entered.get("/users", headers={"Authorization": "JWT x"}).status_code == 401


@pytest.mark.parametrize(
    ("content", "kind", "status_code"),
    [
        (b"{}", "application/json", 415),
        (b"a=b", "text/plain", 415),
        (b"", "multipart/form-data; boundary=x", 415),
        (b"a=" + b"x" * 16_000, "application/x-www-form-urlencoded", 413),
        (b"&".join([b"a=b"] * 101), "application/x-www-form-urlencoded", 422),
        (b"a=\xff", "application/x-www-form-urlencoded", 422),
        (b"", "application/x-www-form-urlencoded", 403),
        (b"token=%00&username=%00", "application/x-www-form-urlencoded; charset=utf-8", 403),
    ],
)
@pytest.mark.parametrize("path", ["/login", "/logout", "/account/password"])
def test_what_is_no_form_is_refused(
    entered: httpx.Client, path: str, content: bytes, kind: str, status_code: int
) -> None:
    for accept in (BROWSER, PROGRAM):
        headers = {**accept, "Content-Type": kind}
        reply = entered.post(path, content=content, headers=headers)
        assert reply.status_code == status_code


@pytest.mark.parametrize(
    ("name", "password"),
    [("ada", "wrong"), ("nobody", PASSWORD), ("", ""), ("a\0", "x"), ("a" * 2000, "x")],
)
def test_a_wrong_name_or_password_says_so_in_the_form(
    shared: httpx.Client, name: str, password: str
) -> None:
    shared.cookies.clear()
    client = shared
    token = token_in(browse(client, "/login"), "/login")
    reply = browse(client, "/login", token=token, username=name, password=password)
    assert reply.status_code in {401, 422}
    assert 'role="alert"' in reply.text
    assert "squash_session" not in client.cookies
    assert "squash_session" not in reply.headers.get("Set-Cookie", "")
    again = token_in(reply, "/login")
    assert browse(client, "/login", token=again, username="ada", password=PASSWORD).is_redirect


def test_what_is_typed_is_shown_as_text(shared: httpx.Client) -> None:
    shared.cookies.clear()
    client = shared
    token = token_in(browse(client, "/login"), "/login")
    hostile = '"><script>alert(1)</script>'
    reply = browse(client, "/login", token=token, username=hostile, password=hostile, next=hostile)
    assert "<script>alert" not in reply.text
    assert PASSWORD not in reply.text
    assert reply.text.count("&lt;script&gt;") == 1


def test_every_login_has_a_form_of_its_own(tmp_path: Path) -> None:
    with service(tmp_path) as client, ThreadPoolExecutor(8) as threads:

        def form(_: int) -> str:
            return token_in(client.get("/login", headers={**BROWSER, "Cookie": ""}), "/login")

        forms = list(threads.map(form, range(32)))
    assert len(set(forms)) == len(forms)


def test_a_session_is_good_in_every_process(tmp_path: Path) -> None:
    with service(tmp_path) as one, service(tmp_path) as other:
        log_in(one, "ada")
        enter(one)
        other.cookies.set("squash_session", cookie_of(one))
        page = browse(other, "/account")
        assert page.status_code == 200
        assert browse(one, "/logout", token=token_in(page, "/logout")).status_code == 303
        assert browse(other, "/account").status_code == 303


def test_a_session_that_ends_leads_to_the_login(
    private: httpx.Client, app: FastAPI, calls: Calls
) -> None:
    assert calls.token
    enter(private)
    site = app.state.site
    check: Callable[[str], Any] = site.sessions.check
    site.sessions.end(check(cookie_of(private)))
    assert browse(private, "/runs").headers["Location"] == "/login?next=/runs"
    assert private.get("/runs").status_code == 401
    assert browse(private, "/account/password", token="x").headers["Location"] == "/login"
    private.cookies.clear()
