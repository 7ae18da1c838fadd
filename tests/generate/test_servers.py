from collections.abc import Callable

import httpx
import pytest

from squash_api.generate.chronograf.server import Chronograf
from squash_api.generate.kapacitor.server import Kapacitor
from squash_api.generate.servers import ServerError, UnreachableError
from tests.support.server import free_port

VERSION = {"X-Kapacitor-Version": "1.5.7"}


def server(
    answer: Callable[[httpx.Request], httpx.Response], url: str = "http://k:9092"
) -> Kapacitor:
    """Return a server that introduces itself and answers all else as told."""

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/ping"):
            return httpx.Response(204, headers=VERSION)
        return answer(request)

    return Kapacitor(url, transport=httpx.MockTransport(respond))


def always(reply: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: reply


def test_an_object_is_returned() -> None:
    assert server(always(httpx.Response(200, json={"a": 1}))).call("GET", "/x") == {"a": 1}


def test_an_answer_without_content_is_an_empty_object() -> None:
    assert server(always(httpx.Response(204))).call("DELETE", "/x") == {}


@pytest.mark.parametrize("key", ["error", "message"])
def test_a_refusal_is_told_in_the_words_of_the_server(key: str) -> None:
    reply = httpx.Response(400, json={key: "task a1 already exists"})
    with pytest.raises(ServerError, match=r"^task a1 already exists \(400\)$") as raised:
        server(always(reply)).call("POST", "/x")
    assert raised.value.status_code == 400


def test_a_failure_without_words_has_its_status() -> None:
    with pytest.raises(ServerError, match=r"Bad Gateway \(502\)"):
        server(always(httpx.Response(502, text="<html>"))).call("GET", "/x")


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<!DOCTYPE html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(302, headers={"Location": "http://login"}),
    ],
)
def test_an_answer_that_is_no_object_is_from_no_such_server(reply: httpx.Response) -> None:
    with pytest.raises(UnreachableError, match="there is no Kapacitor at http://k:9092"):
        server(always(reply)).call("GET", "/x")


@pytest.mark.parametrize("status", [401, 403])
def test_who_asks_for_credentials_cannot_be_reached(status: int) -> None:
    with pytest.raises(UnreachableError, match="user and password"):
        server(always(httpx.Response(status))).send("GET", "/x")


def test_credentials_of_the_url_are_sent_and_never_shown() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(403)

    with pytest.raises(UnreachableError) as raised:
        server(answer, "http://ada:secret@k:9092").send("GET", "/x")
    assert seen == ["Basic YWRhOnNlY3JldA=="]
    assert "secret" not in str(raised.value)


def test_a_path_in_the_url_stands_before_all_paths() -> None:
    found = server(
        lambda request: httpx.Response(200, json={"path": request.url.path}), "http://k/base/"
    ).call("GET", "/x")
    assert found == {"path": "/base/x"}


def test_a_server_that_does_not_introduce_itself_is_not_taken_for_one() -> None:
    transport = httpx.MockTransport(always(httpx.Response(204)))
    with pytest.raises(UnreachableError, match="there is no Chronograf at http://c:8888"):
        Chronograf("http://c:8888", transport=transport)


def test_where_nothing_listens_the_address_is_told() -> None:
    place = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=f"Kapacitor at {place}: .*refused"):
        Kapacitor(place)


@pytest.mark.parametrize("url", ["http://[", "nothing", "http://", "ftp://k"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(UnreachableError):
        Kapacitor(url)


def test_an_error_without_words_is_told_by_its_name() -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    with pytest.raises(UnreachableError, match="ReadTimeout"):
        Kapacitor("http://k", transport=httpx.MockTransport(fail))
