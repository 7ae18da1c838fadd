"""Every failure has the one body, whatever caused it."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from squash_api import errors
from squash_api.app import create_app
from squash_api.errors import SquashError
from tests.support.builders import SECRET, make_settings
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.in_process import serving

JSON = {"Content-Type": "application/json"}
LISTS = ("jobs", "measurements", "datasets", "packages", "metrics", "specs", "users")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("service")
    return create_app(make_settings(folder, max_body_bytes=20_000))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


@pytest.fixture(scope="module")
def calls(client: httpx.Client) -> Calls:
    """The owner of job 1."""
    calls = log_in(client, "ada")
    job = {"measurements": [{"metric": "p.a", "value": 1, "unit": "m"}]}
    assert calls("POST", "/job", job).json()["id"] == 1
    return calls


def assert_one_body(reply: httpx.Response, status_code: int, code: str) -> dict[str, Any]:
    """Check the form of a failure and return its body."""
    assert reply.headers["Content-Type"] == "application/json"
    body: dict[str, Any] = reply.json()
    assert (reply.status_code, body["code"], body["status_code"]) == (
        status_code,
        code,
        status_code,
    ), body
    assert isinstance(body["message"], str)
    assert body["message"]
    assert all(set(item) == {"loc", "msg", "type"} for item in body["detail"])
    extra = {"error", "description"} if status_code == 401 else set()
    assert set(body) == {"message", "code", "status_code", "detail"} | extra
    return body


# Every class of error


def _all_classes(root: type[SquashError]) -> list[type[SquashError]]:
    return [root, *(found for child in root.__subclasses__() for found in _all_classes(child))]


def _instance(kind: type[SquashError]) -> SquashError:
    detail = [errors.Detail(("body", "measurements", 3), "is wrong")]
    if issubclass(kind, errors.UnauthorizedError):
        return kind("No.", error="Invalid token")
    if issubclass(kind, errors.BusyError):
        return kind("Later.", retry_after_s=3)
    if issubclass(kind, errors.RecordUnavailableError):
        return kind("Not now.", reason="it is locked")
    return kind("This is why.", detail=detail)


CLIENT_ERRORS = [
    kind for kind in _all_classes(SquashError) if kind not in {SquashError, errors.SettingsError}
]


@pytest.mark.parametrize("kind", CLIENT_ERRORS)
def test_every_error_class_has_the_one_body(
    app: FastAPI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, kind: type[SquashError]
) -> None:
    def fail() -> None:
        raise _instance(kind)

    monkeypatch.setattr(app.state.site.deriver, "catch_up", fail)
    body = assert_one_body(client.get("/stats"), kind.status_code, kind.code)
    if "detail" in body and not isinstance(
        _instance(kind),
        errors.UnauthorizedError | errors.BusyError | errors.RecordUnavailableError,
    ):
        assert body["detail"] == [
            {"loc": ["body", "measurements", 3], "msg": "is wrong", "type": "value_error"}
        ]


def test_error_classes_have_distinct_codes() -> None:
    codes = [kind.code for kind in CLIENT_ERRORS]
    assert len(set(codes)) == len(codes)


def test_an_unexpected_error_has_the_one_body_and_does_not_tell_its_words(
    app: FastAPI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(app.state.site.deriver, "catch_up", fail)
    reply = client.get("/stats")
    assert_one_body(reply, 500, "internal_error")
    assert "secret" not in reply.text


def test_busy_says_when_to_come_back(
    app: FastAPI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_name: str, _password: str, **_address: str) -> None:
        raise errors.BusyError("Later.", retry_after_s=3)

    monkeypatch.setattr(app.state.site.accounts, "check_password", fail)
    reply = client.post("/auth", json={"username": "a", "password": "b"})
    assert_one_body(reply, 429, "busy")
    assert reply.headers["Retry-After"] == "3"


# Paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/metric/a/b",
        "/monitor",
        "/blob/1",
        "/apidocs",
        "/job/1/nothing",
        "/%00",
        "/..%2f",
    ],
)
def test_unknown_paths(client: httpx.Client, path: str) -> None:
    assert_one_body(client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/job", "POST"),
        ("OPTIONS", "/job", "POST"),
        ("OPTIONS", "/", "GET, HEAD"),
        ("PATCH", "/job/1", "DELETE, GET, HEAD"),
        ("PATCH", "/metric/p.a", "DELETE, GET, HEAD, POST, PUT"),
        ("DELETE", "/jobs", "GET, HEAD"),
        ("FROB", "/auth", "POST"),
        ("TRACE", "/version", "GET, HEAD"),
    ],
)
def test_wrong_methods_name_the_right_ones(
    client: httpx.Client, method: str, path: str, allowed: str
) -> None:
    reply = client.request(method, path)
    assert_one_body(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"] == allowed


def test_head_where_there_is_no_get_has_no_body(client: httpx.Client) -> None:
    reply = client.head("/job")
    assert (reply.status_code, reply.content, reply.headers["Allow"]) == (405, b"", "POST")


@pytest.mark.parametrize(
    "job",
    ["0", "-1", "abc", "1.0", " 1", "%D9%A3", str(2**63), str(10**30), "1%00", "%FF", "%C2%B2"],
)
@pytest.mark.parametrize(
    "path", ["/job/{}", "/status/{}", "/measurement/{}", "/job/{}/blobs", "/job/{}/report"]
)
def test_what_is_no_id_of_a_job_is_not_found(
    client: httpx.Client, calls: Calls, path: str, job: str
) -> None:
    assert calls
    assert_one_body(client.get(path.format(job)), 404, "not_found")


@pytest.mark.parametrize(
    "text", ["%00", "%FF", "%ED%A0%80", "%0a", "x" * 3000, "%F0%9F%98%80", "'"]
)
@pytest.mark.parametrize(
    "path", ["/metric/{}", "/spec/{}", "/user/{}", "/jenkins/{}", "/job/1/blob/{}"]
)
def test_hostile_names_are_not_found(calls: Calls, path: str, text: str) -> None:
    assert_one_body(calls("GET", path.format(text)), 404, "not_found")


# Queries


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/jobs?limit=0", "limit"),
        ("/jobs?limit=1001", "limit"),
        ("/jobs?limit=abc", "limit"),
        ("/jobs?limit=" + "9" * 30, "limit"),
        ("/jobs?limit=%00", "limit"),
        ("/jobs?after=x", "after"),
        ("/jobs?after=-1", "after"),
        ("/jobs?after=%D9%A3", "after"),
        ("/jobs?after=" + "9" * 19, "after"),
        ("/jobs?after=" + "9" * 5000, "after"),
        ("/measurements?after=1", "after"),
        ("/measurements?after=1.x", "after"),
        ("/measurements?after=%D9%A3.0", "after"),
        ("/job/1/report?specs=tomorrow", "specs"),
        ("/jenkins/1?ci_name=" + "x" * 1001, "ci_name"),
        *(
            (f"/{name}?after=a%00b", "after")
            for name in (
                "jobs",
                "measurements",
                "datasets",
                "packages",
                "metrics",
                "specs",
                "users",
            )
        ),
    ],
)
def test_wrong_queries_name_the_parameter(calls: Calls, path: str, name: str) -> None:
    body = assert_one_body(calls("GET", path), 422, "invalid_input")
    assert body["detail"][0]["loc"] == ["query", name]


@pytest.mark.parametrize("text", ["maybe", "%00", "2"])
def test_strict_is_true_or_false(calls: Calls, text: str) -> None:
    body = assert_one_body(calls("POST", f"/job?strict={text}", {}), 422, "invalid_input")
    assert body["detail"][0]["loc"] == ["query", "strict"]


@pytest.mark.parametrize("path", ["/datasets", "/users", "/metrics", "/specs", "/packages"])
@pytest.mark.parametrize("query", ["after=%FF", "after=%ED%A0%80", "&&="])
def test_odd_queries_are_answered(calls: Calls, path: str, query: str) -> None:
    assert calls("GET", f"{path}?{query}").status_code == 200


@pytest.mark.parametrize("path", ["/datasets", "/users", "/metrics", "/specs", "/packages"])
@pytest.mark.parametrize("query", ["%00=1", "&&==", "limit=1&limit=2", "Limit=1"])
def test_parameters_that_are_none_or_twice_are_refused(calls: Calls, path: str, query: str) -> None:
    assert_one_body(calls("GET", f"{path}?{query}"), 422, "invalid_input")


# Bodies


def post(calls: Calls, path: str, content: bytes, kind: str = "application/json") -> httpx.Response:
    return calls("POST", path, content=content, headers={"Content-Type": kind})


BODY_PATHS = ["/job", "/register", "/auth", "/metrics", "/specs", "/metric/p.a", "/measurement/1"]


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "line 1, column 1"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"{'a': 1}", "line 1, column 2"),
        (b'{"a": NaN,', "line 1, column"),
    ],
)
def test_malformed_json_names_line_and_column(
    calls: Calls, path: str, content: bytes, where: str
) -> None:
    body = assert_one_body(post(calls, path, content), 400, "malformed_json")
    assert where in body["message"]
    assert body["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", b'{"a": "\xc3("}', b"\x80"])
def test_what_is_not_utf8_is_400(calls: Calls, path: str, content: bytes) -> None:
    body = assert_one_body(post(calls, path, content), 400, "malformed_json")
    assert "UTF-8" in body["message"]


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize("content", [b"[" * 10_000, b'{"a":' * 3_000])
def test_what_is_too_deep_is_422(calls: Calls, path: str, content: bytes) -> None:
    body = assert_one_body(post(calls, path, content), 422, "invalid_input")
    assert body["detail"][0]["type"] == "too_deep"


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize("content", [b"null", b"3", b'"text"', b"[]", b"true"])
def test_what_is_no_object_is_422(calls: Calls, path: str, content: bytes) -> None:
    body = assert_one_body(post(calls, path, content), 422, "invalid_input")
    assert body["detail"] == [{"loc": ["body"], "msg": "must be an object", "type": "object_type"}]


@pytest.mark.parametrize("path", BODY_PATHS)
def test_what_is_too_large_is_413(calls: Calls, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squash_api.routes.dependencies.MAX_SMALL_BODY_BYTES", 20_000)
    assert_one_body(post(calls, path, b" " * 20_001), 413, "too_large")


def test_what_is_too_large_and_sent_in_pieces_is_413(app: FastAPI, calls: Calls) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 1_000

    async def send() -> httpx.Response:
        headers = {**JSON, "Authorization": f"JWT {calls.token}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.post("/job", content=pieces(), headers=headers)

    assert_one_body(asyncio.run(send()), 413, "too_large")
    assert sent < 30


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
def test_what_is_not_declared_as_json_is_415(calls: Calls, path: str, kind: str) -> None:
    if (path, kind) == ("/job", "application/x-www-form-urlencoded"):
        pytest.skip("a simple job may be a form")
    assert_one_body(post(calls, path, b"{}", kind), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", "a/b+json"]
)
def test_kinds_of_json_are_accepted(calls: Calls, kind: str) -> None:
    assert post(calls, "/job", b"{}", kind).status_code == 202


@pytest.mark.parametrize(
    ("content", "loc", "where"),
    [
        (b'{"measurements": 3}', ["measurements"], "$.measurements "),
        (b'{"measurements": [3]}', ["measurements", 0], "$.measurements[0] "),
        (b'{"measurements": [{}]}', ["measurements", 0, "metric"], "$.measurements[0].metric "),
        (
            b'{"measurements": [{"metric": "p.a"}, {"metric": "p.b", "value": []}]}',
            ["measurements", 1, "value"],
            "$.measurements[1].value ",
        ),
        (
            b'{"measurements": [{"metric": "p.a", "unit": 3}]}',
            ["measurements", 0, "unit"],
            "$.measurements[0].unit ",
        ),
        (b'{"blobs": {}}', ["blobs"], "$.blobs "),
        (b'{"blobs": [3]}', ["blobs", 0], "$.blobs[0] "),
        (b'{"meta": []}', ["meta"], "$.meta "),
        (b'{"meta": {"env": "x"}}', ["meta", "env"], "$.meta.env "),
        (b'{"meta": {"packages": 3}}', ["meta", "packages"], "$.meta.packages "),
    ],
)
def test_wrong_types_in_a_job_have_their_json_path(
    calls: Calls, content: bytes, loc: list[str | int], where: str
) -> None:
    body = assert_one_body(post(calls, "/job", content), 422, "invalid_input")
    assert body["detail"][0]["loc"] == ["body", *loc]
    assert where in body["message"]


def test_all_wrong_places_of_a_job_are_named(calls: Calls) -> None:
    reply = post(calls, "/job", b'{"measurements": [{}, 3], "blobs": 3, "meta": {"env": 3}}')
    locs = [item["loc"][1:] for item in assert_one_body(reply, 422, "invalid_input")["detail"]]
    assert locs == [["measurements", 0, "metric"], ["measurements", 1], ["blobs"], ["meta", "env"]]


@pytest.mark.parametrize("path", BODY_PATHS[1:])
@pytest.mark.parametrize(
    "content",
    [
        b'{"username": "\\ud800", "password": "\\ud800"}',
        b'{"value": 1e999}',
        b'{"value": NaN}',
        b'{"value": 1' + b"0" * 400 + b"}",
    ],
)
def test_text_and_numbers_that_cannot_be_stored_are_422(
    calls: Calls, path: str, content: bytes
) -> None:
    assert_one_body(post(calls, path, content), 422, "invalid_input")


@pytest.mark.parametrize("name", ["a\0b", "", " ", "a" * 129, "a/b"])
def test_names_that_nobody_can_have_are_422(calls: Calls, name: str) -> None:
    reply = calls("POST", "/register", {"username": name, "password": PASSWORD})
    body = assert_one_body(reply, 422, "invalid_input")
    assert body["detail"][0]["loc"] == ["body", "username"]


@pytest.mark.parametrize("password", ["a\0b" * 5, "x" * 5_000, ""])
def test_passwords_that_cannot_be_used_are_422(calls: Calls, password: str) -> None:
    reply = calls("POST", "/register", {"username": "new", "password": password})
    body = assert_one_body(reply, 422, "invalid_input")
    assert body["detail"][0]["loc"] == ["body", "password"]


@pytest.mark.parametrize(
    ("path", "document", "key"),
    [
        ("/register", {"password": "x"}, "username"),
        ("/register", {"username": "x"}, "password"),
        ("/register", {"username": None, "password": "x"}, "username"),
        ("/metrics", {}, "metrics"),
        ("/specs", {}, "specs"),
        ("/metric/p.new", {}, "description"),
        ("/measurement/1", {"value": 1, "unit": "m"}, "metric"),
        ("/measurement/1", {"metric": "p.a", "unit": "m"}, "value"),
        ("/measurement/1", {"metric": "p.a", "value": 1}, "unit"),
    ],
)
def test_a_missing_field_is_400_and_named(
    calls: Calls, path: str, document: dict[str, Any], key: str
) -> None:
    body = assert_one_body(calls("POST", path, document), 400, "missing_parameter")
    assert body["detail"] == [{"loc": ["body", key], "msg": "is missing", "type": "missing"}]


def test_a_name_that_is_taken_is_400(calls: Calls) -> None:
    reply = calls("POST", "/register", {"username": "ada", "password": PASSWORD})
    assert_one_body(reply, 400, "name_taken")


def test_what_is_somebody_elses_is_403(client: httpx.Client, calls: Calls) -> None:
    other = log_in(client, "eve")
    assert_one_body(other("DELETE", "/job/1"), 403, "forbidden")
    assert_one_body(other("DELETE", "/user/ada"), 403, "forbidden")
    document = {"metric": "p.a", "value": 1, "unit": "m"}
    assert_one_body(other("POST", "/measurement/1", document), 403, "forbidden")
    assert calls("GET", "/job/1").status_code == 200


def test_registering_where_it_is_closed_is_403(tmp_path: Path) -> None:
    with serving(create_app(make_settings(tmp_path, registration="closed"))) as client:
        reply = client.post("/register", json={"username": "new", "password": PASSWORD})
        assert_one_body(reply, 403, "forbidden")


@pytest.mark.parametrize("key", [None, "wrong", "ключ"])
def test_registering_without_the_right_key_is_403(tmp_path: Path, key: str | None) -> None:
    settings = make_settings(tmp_path, registration="key", registration_key=SecretStr("right"))
    with serving(create_app(settings)) as client:
        document = {"username": "new", "password": PASSWORD, "key": key}
        assert_one_body(client.post("/register", json=document), 403, "forbidden")


# Who somebody is


def _token(**changes: Any) -> str:
    now = int(time.time())
    claims = {"exp": now + 60, "iat": now, "nbf": now, "identity": 1, "iss": "squash"}
    claims |= {"aud": "squash", "sub": "1", "jti": "x", "name": "ada", "role": "user", "epoch": 1}
    claims |= changes
    left = {key: value for key, value in claims.items() if value is not None}
    return jwt.encode(left, SECRET, "HS256", headers={"typ": "squash+jwt"})


def test_without_a_header_a_401_challenges(client: httpx.Client) -> None:
    reply = client.post("/job", json={})
    body = assert_one_body(reply, 401, "unauthorized")
    assert (body["error"], body["description"]) == (
        "Authorization Required",
        "Request does not contain an access token",
    )
    assert reply.headers["WWW-Authenticate"] == 'JWT realm="Login Required"'


@pytest.mark.parametrize(
    ("make_header", "error", "description"),
    [
        (lambda: "Digest x", "Invalid JWT header", "Unsupported authorization type"),
        (lambda: "JWT", "Invalid JWT header", "Token missing"),
        (lambda: "JWT a b", "Invalid JWT header", "Token contains spaces"),
        (lambda: f"JWT {_token()}x", "Invalid token", "Signature verification failed"),
        (lambda: f"Bearer {_token(exp=1)}", "Invalid token", "Signature has expired"),
        (lambda: f"jwt {_token(nbf=2**40)}", "Invalid token", "The token is not yet valid (nbf)"),
        (lambda: f"JWT {_token(exp=None)}", "Invalid token", 'Token is missing the "exp" claim'),
        (lambda: f"JWT {_token(identity=99, sub='99')}", "Invalid JWT", "User does not exist"),
    ],
)
@pytest.mark.parametrize("path", ["/job", "/metrics"])
def test_a_bad_header_is_401_in_the_words_of_old(
    client: httpx.Client, path: str, make_header: Callable[[], str], error: str, description: str
) -> None:
    reply = client.post(path, json={}, headers={"Authorization": make_header()})
    body = assert_one_body(reply, 401, "unauthorized")
    assert (body["error"], body["description"]) == (error, description)
    assert "WWW-Authenticate" not in reply.headers


@pytest.mark.parametrize(
    "document",
    [
        {"username": "ada", "password": "wrong password"},
        {"username": "nobody", "password": PASSWORD},
        {"username": None, "password": None},
        {"username": "ada", "password": None},
        {"username": 1, "password": PASSWORD},
    ],
)
def test_bad_credentials_are_401_in_the_words_of_old(
    client: httpx.Client, calls: Calls, document: dict[str, Any]
) -> None:
    assert calls
    reply = client.post("/auth", json=document)
    body = assert_one_body(reply, 401, "unauthorized")
    assert (body["error"], body["description"]) == ("Bad Request", "Invalid credentials")
    assert "WWW-Authenticate" not in reply.headers


@pytest.mark.parametrize(
    "header",
    [b"JWT \xff\xfe", b"Basic \xff", b"Basic eA==", b"Basic =", b"\xff", b"JWT " + b"x" * 9000],
)
def test_hostile_headers_are_401(client: httpx.Client, header: bytes) -> None:
    reply = client.post("/job", json={}, headers=[(b"Authorization", header)])
    assert_one_body(reply, 401, "unauthorized")


def test_a_wrong_password_by_http_basic_is_401(client: httpx.Client, calls: Calls) -> None:
    assert calls
    pair = base64.b64encode(b"ada:wrong").decode()
    reply = client.post("/job", json={}, headers={"Authorization": f"Basic {pair}"})
    assert_one_body(reply, 401, "unauthorized")


# A record that is down


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """A service whose record has lost a table after the start."""
    app = create_app(make_settings(tmp_path_factory.mktemp("broken")))
    with serving(app) as client:
        calls = log_in(client, "ada")
        app.state.site.record.write(
            lambda connection: connection.exec_driver_sql("ALTER TABLE job RENAME TO lost")
        )
        yield calls


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs"),
        ("GET", "/job/1"),
        ("GET", "/measurements"),
        ("GET", "/stats"),
        ("GET", "/status/1"),
        ("GET", "/prometheus"),
        ("POST", "/job"),
        ("DELETE", "/job/1"),
    ],
)
def test_a_failing_record_is_503(broken: Calls, method: str, path: str) -> None:
    reply = broken(method, path, {} if method == "POST" else None)
    assert_one_body(reply, 503, "record_unavailable")


def test_readiness_has_the_one_body_and_says_what_is_down(broken: Calls) -> None:
    reply = broken("GET", "/readyz")
    body = reply.json()
    assert (reply.status_code, body.pop("status"), body.pop("record")["status"]) == (
        503,
        "down",
        "down",
    )
    assert (body["code"], body["status_code"], body["detail"]) == ("record_unavailable", 503, [])


def test_a_service_with_a_failing_record_is_alive(broken: Calls) -> None:
    assert broken("GET", "/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("document", "missing"),
    [({"username": "ada"}, "password"), ({"password": PASSWORD}, "username"), ({}, "username")],
)
def test_a_login_without_name_or_password_names_what_is_missing(
    client: httpx.Client, document: dict[str, Any], missing: str
) -> None:
    body = assert_one_body(client.post("/auth", json=document), 400, "missing_parameter")
    assert body["detail"][0]["loc"] == ["body", missing]
