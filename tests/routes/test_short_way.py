from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from squash_api.routes import jobs
from tests.support.calls import Calls, log_in
from tests.support.in_process import service


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with service(tmp_path_factory.mktemp("service"), url="https://squash.example/root") as client:
        yield client


@pytest.fixture(scope="module")
def calls(client: httpx.Client) -> Calls:
    return log_in(client, "ada")


@pytest.mark.parametrize("path", ["/job", "/job/", "/root/job"])
def test_every_way_to_post_a_job_gives_the_same(calls: Calls, path: str) -> None:
    reply = calls("POST", path, {"measurements": []})
    assert (reply.status_code, set(reply.json())) == (
        202,
        {"message", "status", "id", "absent", "skipped", "undeclared", "notes"},
    )


@pytest.mark.parametrize("path", ["/job", "/job/"])
@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "malformed_json"), (b"[]", "invalid_input"), (b"\xff", "malformed_json")],
)
def test_failures_are_the_same(calls: Calls, path: str, body: bytes, code: str) -> None:
    reply = calls("POST", path, content=body, headers={"Content-Type": "application/json"})
    assert reply.json()["code"] == code


def test_without_a_token_it_is_a_401_with_its_challenge(client: httpx.Client) -> None:
    reply = client.post("/job", json={})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("JWT")


def test_other_methods_are_told_what_is_possible(client: httpx.Client) -> None:
    reply = client.delete("/job")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


def test_jobs_are_counted_under_their_route(calls: Calls, client: httpx.Client) -> None:
    calls("POST", "/job", {})
    counted = 'squash_request_seconds_count{method="POST",route="/job",status="202"}'
    assert counted in client.get("/prometheus").text


def test_an_error_of_the_service_is_a_500_with_the_one_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(jobs, "ingest_job", fail)
    with service(tmp_path) as client:
        reply = log_in(client, "ada")("POST", "/job", {})
    assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
