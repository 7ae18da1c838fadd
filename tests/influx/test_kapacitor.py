import gzip
from collections.abc import Callable

import httpx
import pytest

from squash_api.influx.client import (
    InfluxMisconfiguredError,
    InfluxRefusedError,
    InfluxUnavailableError,
)
from squash_api.influx.kapacitor import KapacitorClient
from squash_api.influx.writing import Rejected, deliver
from squash_api.settings import KapacitorTarget

HEADERS = {"X-Kapacitor-Version": "1.5.7"}


def asked(
    reply: Callable[[httpx.Request], httpx.Response], *, url: str = "http://k.invalid"
) -> KapacitorClient:
    target = KapacitorTarget(url=url, database="d", retention_policy="r")
    return KapacitorClient(target, transport=httpx.MockTransport(reply))


def test_a_write_names_database_and_retention_policy_and_is_compressed() -> None:
    seen: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    asked(reply, url="http://ada:secret@k.invalid/below").write(["m v=1 1"])
    (request,) = seen
    assert request.url.path == "/below/kapacitor/v1/write"
    assert dict(request.url.params) == {"db": "d", "rp": "r", "precision": "ns"}
    assert gzip.decompress(request.read()) == b"m v=1 1"
    assert request.headers["Authorization"].startswith("Basic ")


def test_a_bad_line_is_found_by_the_words_in_plain_text() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if b"bad" in gzip.decompress(request.read()):
            words = "unable to parse 'bad': missing fields"
            return httpx.Response(400, text=words, headers=HEADERS)
        return httpx.Response(204, headers=HEADERS)

    refused = deliver(asked(reply), ["m v=1 1", "bad", "m v=2 2"])
    assert refused == [Rejected(1, "unable to parse 'bad': missing fields")]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (httpx.Response(400, text="<html>Bad Request</html>"), InfluxUnavailableError),
        (httpx.Response(401, json={"error": "no"}, headers=HEADERS), InfluxRefusedError),
        (httpx.Response(404, text="404 page not found"), InfluxMisconfiguredError),
        (httpx.Response(502, text="Bad Gateway"), InfluxUnavailableError),
    ],
)
def test_what_else_is_replied_refuses_no_line(reply: httpx.Response, error: type) -> None:
    with pytest.raises(error):
        asked(lambda _: reply).write(["m v=1 1"])


def test_the_process_is_known_by_its_statistics() -> None:
    tags = {"task": "task_master:main", "parent": "write_points"}
    other = {"tags": {"task": "validate.PA1", "parent": "where"}}
    body = {"kapacitor": {"b": {"tags": tags}, "a": other, "c": None}}
    assert asked(lambda _: httpx.Response(200, json=body)).process() == "b"


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, json={}),
        httpx.Response(200, json={"kapacitor": []}),
        httpx.Response(200, text="hello"),
        httpx.Response(404, text="not here"),
        httpx.Response(403, json={"error": "no"}),
    ],
)
def test_a_process_that_does_not_tell_is_unknown(reply: httpx.Response) -> None:
    assert asked(lambda _: reply).process() is None


def test_raised_alerts_are_those_of_every_topic() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/kapacitor/v1")
        if path == "/alerts/topics":
            assert dict(request.url.params) == {"pattern": "metrics*"}
            return httpx.Response(200, json={"topics": [{"id": "metrics-a"}, {"id": "metrics-b"}]})
        assert dict(request.url.params) == {"min-level": "OK"}
        time = "2026-11-27T14:11:47Z"
        events = [
            {"id": f"{level} of {path[15:24]}", "state": {"time": time, "level": level}}
            for level in ("OK", "INFO")
        ]
        return httpx.Response(200, json={"events": events})

    assert list(asked(reply).raised("metrics*")) == ["INFO of metrics-a", "INFO of metrics-b"]
