"""Encodings of request bodies."""

import gzip
import json
import zlib

import httpx
import pytest

from tests.support.calls import Calls
from tests.support.site import job_document

JOB = job_document({"p.a": 1.5})
MOST = 1_000_000


def send(calls: Calls, body: bytes, encoding: str, path: str = "/job") -> httpx.Response:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    return calls("POST", path, content=body, headers=headers)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", " gzip "])
def test_a_body_may_be_gzip(calls: Calls, encoding: str) -> None:
    reply = send(calls, gzip.compress(json.dumps(JOB).encode()), encoding)
    assert reply.status_code == 202
    assert (
        calls("GET", f"/measurement/{reply.json()['id']}").json()["measurements"][0]["value"] == 1.5
    )


def test_gzip_of_several_members_is_one_body(calls: Calls) -> None:
    text = json.dumps(JOB).encode()
    assert (
        send(calls, gzip.compress(text[:20]) + gzip.compress(text[20:]), "gzip").status_code == 202
    )


def test_the_same_job_as_gzip_is_the_same_job(calls: Calls) -> None:
    job = JOB | {"measurements": [JOB["measurements"][0] | {"identifier": "a" * 32}]}
    first = calls("POST", "/job", job)
    again = send(calls, gzip.compress(json.dumps(job).encode()), "gzip")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


def test_identity_is_no_encoding(calls: Calls) -> None:
    assert send(calls, json.dumps(JOB).encode(), "identity").status_code == 202


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "compress"])
def test_another_encoding_is_refused_by_name(calls: Calls, encoding: str) -> None:
    reply = send(calls, zlib.compress(json.dumps(JOB).encode()), encoding)
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media_type")
    assert encoding in reply.json()["message"]
    assert reply.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    "body",
    [b"{}", b"\x1f\x8b", gzip.compress(b"{}")[:-1], gzip.compress(b"{}") + b"x"],
    ids=["not gzip", "header only", "cut off", "something behind it"],
)
def test_a_body_that_is_not_the_gzip_it_is_said_to_be_is_malformed(
    calls: Calls, body: bytes
) -> None:
    reply = send(calls, body, "gzip")
    assert (reply.status_code, reply.json()["code"]) == (400, "malformed_encoding")


@pytest.mark.parametrize("path", ["/metrics", "/auth"])
def test_limits_count_the_decompressed_bytes(calls: Calls, path: str) -> None:
    body = gzip.compress(b'{"x": "' + b"a" * MOST + b'"}')
    assert len(body) < MOST / 100
    assert send(calls, body, "gzip", path).status_code == 413


def test_every_request_with_a_body_may_be_gzip(calls: Calls) -> None:
    body = gzip.compress(json.dumps({"metrics": [{"name": "p.a", "unit": ""}]}).encode())
    assert send(calls, body, "gzip", "/metrics").status_code == 201
