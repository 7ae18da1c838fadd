"""Whatever is posted: by the short ways it comes to what it comes to by the whole ways."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squash_api.ingest import assessment, document
from squash_api.record.record import Record
from squash_api.record.storing import JobStore
from squash_api.routes.middleware import NormalizingMiddleware
from tests.support.builders import make_body, measured
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.in_process import service
from tests.support.json_documents import hostile_text, jobs, values, wild_jobs
from tests.support.module_entries import calls_noted, entries, way_between
from tests.support.records import in_record

JSON = {"Content-Type": "application/json"}
METRICS = [{"name": f"p.{name}", "unit": "mag", "description": "What it is."} for name in "abc"]
# Of the time of a job, its seconds are chosen so that many jobs ask for the same.
DATES = ["2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z"]
NOW_NS = 1_790_000_000 * 10**9


@dataclass
class Ways:
    """A service that takes jobs in by every short way there is, and one that knows only whole."""

    short: Calls
    whole: Calls
    short_folder: Path
    whole_folder: Path


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    folders = [tmp_path_factory.mktemp(name) for name in ("short", "whole")]
    with service(folders[0]) as short, service(folders[1]) as whole:
        ways = Ways(log_in(short, "ada"), log_in(whole, "ada"), *folders)
        for calls in (ways.short, ways.whole):
            assert calls("POST", "/metrics", {"metrics": METRICS}).status_code == 201
        yield ways


@contextmanager
def whole_ways_only() -> Iterator[None]:
    with ExitStack() as stack:
        for place, name in (
            (document, "_decode_short"),
            (assessment, "assess_short"),
            (JobStore, "short"),
        ):
            stack.enter_context(patch.object(place, name, lambda *_, **__: None))
        yield


@contextmanager
def at(time_ns: int) -> Iterator[None]:
    """Receive jobs at this time."""
    with patch.object(Record, "now_ns", return_value=time_ns):
        yield


clock = count(NOW_NS + 1, 10**9)


def rows(folder: Path) -> list[Any]:
    """Return the metrics, and the newest jobs but for what both make only when they need it."""
    queries = (
        "SELECT count(*) FROM job",
        "SELECT * FROM job ORDER BY id DESC LIMIT 3",
        "SELECT * FROM metric ORDER BY id",
    )
    return [in_record(folder, query) for query in queries]


def post_both_ways(ways: Ways, body: bytes, query: str = "") -> Any:
    """Post a body by the short ways and by the whole ones; return the reply to both."""
    with at(next(clock)):
        short = ways.short("POST", f"/job{query}", content=body, headers=JSON)
        with whole_ways_only():
            # By another spelling, so that the framework routes it.
            whole = ways.whole("POST", f"/job/{query}", content=body, headers=JSON)
    assert (short.status_code, short.text) == (whole.status_code, whole.text)
    assert rows(ways.short_folder) == rows(ways.whole_folder)
    return short


def assert_read_alike(ways: Ways, job_id: int) -> None:
    for path in (f"/job/{job_id}", f"/job/{job_id}/blobs", f"/job/{job_id}/report"):
        short = ways.short("GET", path)
        with whole_ways_only():
            whole = ways.whole("GET", path)
        assert (short.status_code, short.text) == (whole.status_code, whole.text) != (404, "")


# What most jobs are


def usual(number: int = 0, **meta: Any) -> bytes:
    items = [
        {**measured(f"p.{name}", 1.5, "mag"), "identifier": f"{name}{number}", "blob_refs": []}
        for name in "abc"
    ]
    packages = {"afw": {"name": "afw", "git_sha": "1"}, "ip": {"git_sha": "2"}}
    env = {"env_name": "local", "ci_id": str(number)}
    return make_body(*items, env=env, packages=packages, tract=5, **meta)


def test_a_usual_job_goes_every_short_way(ways: Ways) -> None:
    # Its tags and metadata are known since another job.
    post_both_ways(ways, usual(-2))
    with ExitStack() as stack, at(NOW_NS):
        for place, name in (
            (document, "_decode_whole"),
            (assessment, "_assess_whole"),
            (JobStore, "whole"),
        ):
            stack.enter_context(patch.object(place, name, side_effect=AssertionError(name)))
        reply = ways.short("POST", "/job", content=usual(-1), headers=JSON)
    assert reply.status_code == 202, reply.text
    with whole_ways_only(), at(NOW_NS):
        assert ways.whole("POST", "/job/", content=usual(-1), headers=JSON).text == reply.text


# What any job is

identifiers = st.sampled_from(["1", "2", "3", None]) | hostile_text
usual_measurements = st.lists(
    st.fixed_dictionaries(
        {
            "metric": st.sampled_from(["p.a", "p.b", "p.c"]),
            "value": st.floats() | st.sampled_from([1, -0.0, None, 2**70, "x"]),
            "unit": st.sampled_from(["mag"] * 6 + ["mmag", "", "m", None]),
        },
        optional={"identifier": identifiers, "blob_refs": st.just([]) | values},
    ),
    max_size=3,
    unique_by=lambda item: str(item["metric"]),
)
usual_jobs = st.fixed_dictionaries(
    {
        "measurements": usual_measurements,
        "blobs": st.just([]) | st.lists(st.dictionaries(hostile_text, values, max_size=2)),
        "meta": st.fixed_dictionaries(
            {"instrument": st.just("HSC")},
            optional={
                "env": st.fixed_dictionaries(
                    {}, optional={"date": st.sampled_from(DATES) | hostile_text, "x": values}
                )
                | values,
                "packages": st.dictionaries(hostile_text, values, max_size=3) | values,
                "x": values,
                "date": values,
            },
        ),
    }
)
FRAGMENTS = [
    *(b"NaN", b"1e999", b"-0", b"01", b"9" * 30, b"9" * 5000, b'"\\ud800"', b"\\udfff", b"null"),
    *(b'"', b",", b":", b"{", b"}", b"[", b"]", b"{}", b"[]", b"1", b"-", b".", b" ", b"\\", b""),
    *(b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\x01", b"\x00", b'"a":1,', b"\xef\xbb\xbf", b"//"),
    *(b"[" * 200 + b"]" * 200, b'{"a":' * 251 + b"1" + b"}" * 251),
]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw a job, sometimes with a few bytes of its text replaced by others."""
    body = json.dumps(
        draw(usual_jobs | jobs | wild_jobs | values), ensure_ascii=draw(st.booleans())
    ).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        start = draw(st.integers(0, len(body)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 5]))
        body = body[:start] + draw(st.sampled_from(FRAGMENTS)) + body[end:]
    return body


@given(body=bodies(), is_strict=st.sampled_from([False, False, True]))
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_any_body_comes_to_the_same_by_the_short_way_and_by_the_whole(
    ways: Ways, body: bytes, *, is_strict: bool
) -> None:
    reply = post_both_ways(ways, body, "?strict=true" if is_strict else "")
    if reply.status_code < 400:
        assert_read_alike(ways, reply.json()["id"])


HARD = {
    "nothing": b"{}",
    "nulls": b'{"measurements": null, "blobs": null, "meta": null}',
    "usual": usual(1),
    "values": make_body(*(measured("p.a", value) for value in (True, "x", 7, -0.0, 2**70))),
    "unknown keys": b'{"x": [1], "measurements": [{"metric": "p.a", "value": 1, "y": {"z": 2}}]}',
    "a single measurement": b'{"measurements": {"metric": "p.a", "value": 1.5}}',
    "blobs": make_body(measured(), blobs=[{"identifier": "b", "data": {"x": 2**70}}]),
    "blobs that are none": b'{"blobs": [1]}',
    "tokens": b'{"measurements": [{"metric": "p.a", "value": NaN}], "meta": {"x": Infinity}}',
    "tokens in blobs": b'{"blobs": [{"data": [NaN, 1e999, "\\ud800"]}]}',
    "a list of packages": make_body(packages=[{"name": "afw"}, {"name": "ip", "git_sha": None}]),
    "no packages": make_body(packages={}),
    "null for packages": make_body(packages=None),
    "text for packages": make_body(packages="afw"),
    "a number for packages": make_body(packages=1),
    "spaces for packages": b'{"meta": {"packages": { } }}',
    "text for env": make_body(env="x"),
    "half a pair": b'{"meta": {"packages": {"a": {"name": "\\ud800"}}, "x": "\\udfff"}}',
    "half a key": b'{"meta": {"\\ud800": 1}}',
    "large numbers": make_body(x=2**70, y=[2**64], packages={"a": {"name": "a", "n": 2**70}}),
    "larger numbers": b'{"meta": {"x": %s, "packages": {"a": %s}}}' % (b"9" * 5000, b"9" * 5000),
    "twice": b'{"meta": {"x": 1}, "meta": {"x": 2, "x": 3, "packages": [], "packages": {}}}',
    "letters": '{"meta": {"unit": "µm", "packages": {"ä": {"name": "ä"}}}}'.encode(),
    "no letters": b'{"meta": {"packages": {"a": {"name": "\xff"}}}}',
    "no letters in blobs": b'{"blobs": [{"data": "\xff"}]}',
    "control characters": b'{"meta": {"packages": {"a": {"name": "\x01"}}}}',
    "many brackets": make_body(x=[[]] * 300, packages=[{"name": str(n)} for n in range(300)]),
}


@pytest.mark.parametrize("body", HARD.values(), ids=HARD.keys())
def test_a_hard_body_comes_to_the_same_by_both_ways(ways: Ways, body: bytes) -> None:
    for _ in range(2):
        reply = post_both_ways(ways, body)
    if reply.status_code < 400:
        assert_read_alike(ways, reply.json()["id"])


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"meta": {"note": ', "}}"),
        ('{"meta": {"env": {"note": ', "}}}"),
        ('{"meta": {"packages": ', "}}"),
        ('{"blobs": [{"data": ', "}]}"),
        ('{"measurements": [{"metric": "p.a", "note": ', "}]}"),
        ('{"measurements": [{"metric": "p.a", "blob_refs": ', "}]}"),
        ('{"unknown": ', "}"),
    ],
)
def test_a_deep_body_is_refused_by_both_ways_or_by_none(
    ways: Ways, brackets: tuple[str, str], before: str, after: str
) -> None:
    statuses = set()
    for depth in (*range(246, 256), 400, 1023, 1024, 1025, 5000):
        deep = brackets[0] * depth + "1" + brackets[1] * depth
        reply = post_both_ways(ways, f"{before}{deep}{after}".encode())
        statuses.add(reply.status_code)
        if reply.status_code == 202:
            assert_read_alike(ways, reply.json()["id"])
    assert statuses == {202, 422}


# What clients ask for before each job


def seen(reply: httpx.Response) -> tuple[int, dict[str, str], str]:
    """Return what two replies to the same have in common; tokens are made of what is random."""
    headers = {name: text for name, text in reply.headers.items() if name != "x-request-id"}
    text = reply.text
    if reply.status_code == 200 and "access_token" in text:
        claims = jwt.decode(reply.json()["access_token"], options={"verify_signature": False})
        text = str({**claims, "jti": "", "iat": 0, "nbf": 0, "exp": claims["exp"] - claims["iat"]})
        del headers["content-length"]
    return reply.status_code, headers, text


def ask_both_ways(ways: Ways, method: str, path: str, **options: Any) -> httpx.Response:
    """Ask by the short way, and again with a cookie that means nothing; compare the replies."""
    short = ways.short.client.request(method, path, **options)
    headers = {**options.pop("headers", {}), "Cookie": "other=1"}
    whole = ways.short.client.request(method, path, headers=headers, **options)
    assert seen(short) == seen(whole)
    return short


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "application/json"},
        {"Accept": "*/*"},
        {"Accept": "version=1.0"},
        {"Accept": "text/html"},
        {"Accept": "text/html;q=0.1, application/json"},
        {"Authorization": "JWT none"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/?format=json", "/?format=html", "/?x=1"])
def test_the_map_is_the_same_by_both_ways(ways: Ways, path: str, headers: dict[str, str]) -> None:
    ask_both_ways(ways, "GET", path, headers=headers)


RIGHT = {"username": "ada", "password": PASSWORD}
LOGINS = {
    "right": json.dumps(RIGHT).encode(),
    "with more": json.dumps({**RIGHT, "more": [1.00000000000000001]}).encode(),
    "wrong": json.dumps({**RIGHT, "password": "wrong"}).encode(),
    "nobody": b'{"username": "nobody", "password": "x"}',
    "a key": b'{"username": "ada", "password": "sq_0123456789ab_x"}',
    "nothing": b"",
    "no object": b"[]",
    "no JSON": b'{"username": ',
    "no name": b'{"password": "x"}',
    "no password": b'{"username": "ada"}',
    "null": b'{"username": "ada", "password": null}',
    "a number": b'{"username": 1, "password": "x"}',
    "half a letter": b'{"username": "\\ud800", "password": "x"}',
    "NUL": b'{"username": "a\\u0000da", "password": "x"}',
    "a long one": json.dumps({**RIGHT, "password": "x" * 2000}).encode(),
    "too much": b" " * 1_000_001,
}


@pytest.mark.parametrize("body", LOGINS.values(), ids=LOGINS.keys())
def test_a_login_is_answered_alike_by_both_ways(ways: Ways, body: bytes) -> None:
    for headers in ({}, JSON) if len(body) < 1000 else (JSON,):
        ask_both_ways(ways, "POST", "/auth", content=body, headers=headers)
    ask_both_ways(ways, "POST", "/auth?x=1", content=body, headers=JSON)


def test_a_map_and_a_login_go_the_short_way(ways: Ways) -> None:
    with patch.object(NormalizingMiddleware, "__call__", side_effect=AssertionError("not short")):
        assert ways.short.client.get("/").status_code == 200
        reply = ways.short.client.post("/auth", json=RIGHT)
    assert reply.status_code == 200, reply.text


# How far it is


def test_posting_a_job_enters_few_modules(tmp_path: Path) -> None:
    """Counted are calls into another module than that of the call before, on both threads."""
    with calls_noted() as calls, service(tmp_path) as client:
        ada = log_in(client, "ada")
        ada("POST", "/metrics", {"metrics": METRICS})
        ways = []
        for number in range(5):
            calls.clear()
            assert ada("POST", "/job", content=usual(number), headers=JSON).status_code == 202
            ways.append(way_between(calls, "post_job", "json_reply"))
    # What is derived meanwhile is written by the same thread, and may come between.
    way = min(ways, key=lambda way: len(entries(way)))
    assert len(entries(way)) <= 25, "\n".join(map(str, way))
