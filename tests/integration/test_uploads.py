"""Bodies that are large, too large, slow, or cut off."""

import json
import socket
import time
from typing import Any

import pytest

from tests.integration.conftest import MakeSite
from tests.support.raw_http import exchange, read_reply
from tests.support.site import Site, job_document

LIMIT = 4_000_000


@pytest.fixture(scope="module")
def site(make_site: MakeSite) -> Site:
    return make_site(SQUASH_MAX_BODY_BYTES=str(LIMIT))


def head(site: Site, framing: str, *, path: str = "/job") -> bytes:
    """Return the head of a request; `framing` declares the length of the body, or that it does."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: JWT {site.calls.token}\r\n{framing}\r\n\r\n"
    ).encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def count_jobs(site: Site) -> int:
    return int(site.get("/stats")["stats"]["number_of_jobs"])


def large_job(package: str) -> dict[str, Any]:
    """Return a job of 3 MB with 30 blobs."""
    document = job_document({f"{package}.m{number}": 0.1 * number for number in range(30)})
    for number, item in enumerate(document["measurements"]):
        datum = {"value": [0.1 * i for i in range(8_500)], "unit": "", "label": "x"}
        blob = {"identifier": f"{number:032x}", "name": item["metric"], "data": {"x": datum}}
        document["blobs"].append(blob)
        item["blob_refs"] = [blob["identifier"]]
    return document


def test_a_job_of_3_mb_is_delivered(site: Site, package: str) -> None:
    document = large_job(package)
    assert 2_500_000 < len(json.dumps(document)) < LIMIT
    site.deliver(document)
    (point,) = site.points(package)
    assert [point["fields"][f"m{number}"] for number in range(30)] == [
        0.1 * number for number in range(30)
    ]


def test_the_blobs_of_a_job_of_3_mb_are_read_again(site: Site, package: str) -> None:
    document = large_job(package)
    job_id = site.dispatch(document)["id"]
    blobs = [site.get(f"/job/{job_id}/blob/{number:032x}") for number in range(30)]
    assert blobs == document["blobs"]


def test_a_body_that_declares_too_much_is_refused_before_it_is_sent(site: Site) -> None:
    count = count_jobs(site)
    reply = exchange(site.service.port, head(site, f"Content-Length: {LIMIT + 1}"))
    assert (reply.status, reply.json()["code"]) == (413, "too_large")
    assert count_jobs(site) == count


def test_a_body_in_chunks_is_refused_once_it_is_too_large(site: Site) -> None:
    count = count_jobs(site)
    with socket.create_connection(("127.0.0.1", site.service.port), timeout=60) as connection:
        connection.sendall(head(site, "Transfer-Encoding: chunked"))
        for _ in range(LIMIT // 1_000_000):
            connection.sendall(chunk(b" " * 1_000_000))
        connection.sendall(chunk(b"{"))
        reply = read_reply(connection)
    assert (reply.status, reply.json()["code"]) == (413, "too_large")
    assert count_jobs(site) == count


def test_other_bodies_have_a_smaller_limit(site: Site) -> None:
    request = head(site, "Content-Length: 1000001", path="/metrics")
    assert exchange(site.service.port, request).status == 413


def test_a_body_in_chunks_is_a_job_like_any_other(site: Site, package: str) -> None:
    body = json.dumps(job_document({f"{package}.m": 1.0})).encode()
    chunks = b"".join(chunk(body[start : start + 50]) for start in range(0, len(body), 50))
    request = head(site, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"
    assert exchange(site.service.port, request).status == 202


def test_a_slow_upload_is_waited_for_and_holds_up_nobody(site: Site, package: str) -> None:
    body = json.dumps(job_document({f"{package}.m": 1.0})).encode()
    half = len(body) // 2
    with socket.create_connection(("127.0.0.1", site.service.port), timeout=60) as connection:
        connection.sendall(head(site, f"Content-Length: {len(body)}") + body[:half])
        site.deliver(job_document({f"{package}.other": 2.0}))
        for byte in body[half : half + 10]:
            connection.sendall(bytes([byte]))
            time.sleep(0.01)
        connection.sendall(body[half + 10 :])
        assert read_reply(connection).status == 202
    site.wait_until_idle()
    assert (site.values(f"{package}.m"), site.values(f"{package}.other")) == ([1.0], [2.0])


@pytest.mark.parametrize("framing", ["Content-Length: {}", "Transfer-Encoding: chunked"])
def test_an_upload_that_is_cut_off_leaves_nothing_behind(
    site: Site, package: str, framing: str
) -> None:
    count = count_jobs(site)
    body = json.dumps(job_document({f"{package}.m": 1.0})).encode()
    sent = body if "chunked" in framing else body[:-1]
    if "chunked" in framing:
        sent = chunk(sent)
    with socket.create_connection(("127.0.0.1", site.service.port), timeout=60) as connection:
        connection.sendall(head(site, framing.format(len(body))) + sent)
    site.deliver(job_document({f"{package}.other": 2.0}))
    assert count_jobs(site) == count + 1
    assert site.values(f"{package}.m") == []


def test_what_is_not_declared_as_json_is_refused(site: Site) -> None:
    reply = site.calls("POST", "/job", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media_type")
