from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import structlog
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from squash_api.routes.middleware import (
    GuardingMiddleware,
    NormalizingMiddleware,
    ObservingMiddleware,
)
from squash_api.routes.replies import REQUEST_ID
from squash_api.standings.figures import Figures
from tests.support.builders import make_settings
from tests.support.calls import log_in
from tests.support.in_process import service


class Inner:
    """An application that keeps the scope it was called with."""

    def __init__(self) -> None:
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def normalized(sent: str, *, root: str = "", method: str = "GET") -> Scope:
    inner = Inner()

    async def receive() -> Message:
        raise NotImplementedError

    async def send(_message: Message) -> None:
        pass

    raw = quote(sent, safe="/%").encode()
    scope = {"type": "http", "path": unquote(sent), "raw_path": raw, "method": method}
    before = dict(scope)
    await NormalizingMiddleware(inner, root=root)(scope, receive, send)
    assert scope == before
    return inner.scope


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("", "/job", "/job"),
        ("", "/job/", "/job"),
        ("", "/job///", "/job"),
        ("", "/", "/"),
        ("", "//", "/"),
        ("", "", "/"),
        ("/api", "/api", "/"),
        ("/api", "/api/", "/"),
        ("/api", "/api/job", "/job"),
        ("/api", "/job", "/job"),
        ("/api", "/apis", "/apis"),
        ("/api", "/api/api", "/api"),
        ("/a/b", "/a/b/jobs/", "/jobs"),
    ],
)
async def test_the_root_and_trailing_slashes_are_taken_off(
    root: str, path: str, expected: str
) -> None:
    assert (await normalized(path, root=root))["path"] == expected


async def test_the_raw_path_stays_one_of_bytes() -> None:
    scope = await normalized("/metric/Ω é/")
    assert scope["raw_path"] == b"/metric/%CE%A9%20%C3%A9"


async def test_a_quoted_slash_belongs_to_a_name() -> None:
    scope = await normalized("/api/runs/a%2Fb/c%2F/", root="/api")
    assert (scope["path"], scope["raw_path"]) == ("/runs/a/b/c/", b"/runs/a%2Fb/c%2F")


@pytest.mark.parametrize(("method", "expected"), [("HEAD", "GET"), ("GET", "GET"), ("PUT", "PUT")])
async def test_head_is_answered_like_get(method: str, expected: str) -> None:
    assert (await normalized("/job", method=method))["method"] == expected


async def test_what_is_not_http_passes_untouched() -> None:
    inner = Inner()
    scope = {"type": "lifespan"}

    async def receive() -> Message:
        raise NotImplementedError

    async def send(_message: Message) -> None:
        pass

    chain = NormalizingMiddleware(ObservingMiddleware(inner, figures=Figures()), root="/api")
    await chain(scope, receive, send)
    assert inner.scope is scope


@pytest.mark.parametrize("root", ["", "/", "/api", "/api/"])
def test_a_service_below_a_path_answers_with_and_without_it(tmp_path: Path, root: str) -> None:
    path = root.rstrip("/")
    with service(tmp_path, url=f"https://squash.example{path}") as client:
        expected = f"https://squash.example{path}/job"
        for asked in ("/", f"{path}", f"{path}/"):
            assert client.get(asked).json()["job"] == expected
        assert client.get(f"{path}/jobs").status_code == 200
        assert client.get("/jobs").status_code == 200


def logged(tmp_path: Path, method: str, path: str) -> list[dict[str, object]]:
    """Make a request, and return what was logged of it."""
    with service(tmp_path) as client, capture_logs() as logs:
        client.request(method, path)
    return [dict(entry) for entry in logs if entry["event"] == "request"]


def test_a_request_is_logged_with_status_and_time(tmp_path: Path) -> None:
    (entry,) = logged(tmp_path, "GET", "/job/7/")
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/job/7", 404)
    assert isinstance(entry["ms"], float)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/prometheus"])
def test_probes_are_not_logged(tmp_path: Path, path: str) -> None:
    assert logged(tmp_path, "GET", path) == []


async def test_a_request_that_fails_is_counted_as_500() -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    async def receive() -> Message:
        raise NotImplementedError

    async def send(_message: Message) -> None:
        raise NotImplementedError

    figures = Figures()
    scope = {"type": "http", "path": "/x", "method": "GET"}
    with pytest.raises(ZeroDivisionError):
        await ObservingMiddleware(fail, figures=figures)(scope, receive, send)
    assert b'method="GET",route="unknown",status="500"' in figures.expose()


def test_a_refused_request_is_logged_with_user_and_address(tmp_path: Path) -> None:
    with service(tmp_path) as client:
        calls = log_in(client, "ada")
        with capture_logs() as logs:
            calls("POST", "/job", {"measurements": 1})
            calls("GET", "/user/nobody")
            client.post("/auth", json={"username": "eve", "password": "wrong password"})
            client.get("/users")
    found = [(entry["user"], entry["address"]) for entry in logs if entry["event"] == "request"]
    assert found == [(name, "127.0.0.1") for name in ("ada", "ada", "eve", None)]


@pytest.mark.parametrize(
    ("address", "given", "is_kept"),
    [
        ("10.0.0.1", ["abcdefgh"], True),
        ("10.0.0.2", ["abcdefgh"], False),
        ("10.0.0.1", ["abcdefgh", "abcdefgh"], False),
        (None, ["abcdefgh"], False),
    ],
)
async def test_an_id_is_taken_from_a_trusted_proxy_alone(
    tmp_path: Path, address: str | None, given: list[str], *, is_kept: bool
) -> None:
    inner, sent = Inner(), []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise NotImplementedError

    scope = {
        "type": "http",
        "path": "/",
        "method": "GET",
        "headers": [(b"x-request-id", text.encode()) for text in given],
        "client": None if address is None else (address, 1),
    }
    settings = make_settings(tmp_path)
    guard = GuardingMiddleware(inner, settings=settings, is_proxy=lambda host: host == "10.0.0.1")
    await guard(scope, receive, send)
    (found,) = [text for name, text in sent[0]["headers"] if name == b"x-request-id"]
    assert (found == b"abcdefgh") is is_kept
    assert inner.scope[REQUEST_ID] == found.decode()
    assert structlog.contextvars.get_contextvars()["request"] == found.decode()
