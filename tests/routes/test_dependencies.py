import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.routes.dependencies import is_count
from tests.support.calls import PASSWORD, Calls, follow, log_in
from tests.support.in_process import service

JOBS = 5
LISTS = [
    ("jobs", "ids", [1, 2, 3, 4, 5]),
    ("measurements", "measurements", None),
    ("job/1/blobs", "blobs", None),
    ("datasets", "datasets", ["Ω 0", "Ω 1", "Ω 2", "Ω 3", "Ω 4"]),
    ("packages", "packages", ["p0", "p1", "p2", "p3", "p4"]),
    ("metrics", "metrics", None),
    ("specs", "specs", None),
    ("users", "users", ["ada", "eve", "mole", "é&after=x"]),
]


@pytest.fixture(scope="module")
def filled(shared_client: httpx.Client, shared_calls: Calls) -> Calls:
    """A service in which every list has several entries."""
    for name in ("eve", "mole", "é&after=x"):
        log_in(shared_client, name)
    metrics = [{"name": f"p{n}.a", "unit": ""} for n in range(JOBS)]
    assert shared_calls("POST", "/metrics", {"metrics": metrics}).status_code == 201
    threshold = {"value": 1, "unit": "", "operator": "<"}
    specs = [{"name": f"p{n}.a.design", "threshold": threshold} for n in range(JOBS)]
    assert shared_calls("POST", "/specs", {"specs": specs}).status_code == 201
    for number in range(JOBS):
        job = {
            "measurements": [{"metric": f"p{n}.a", "value": n, "unit": ""} for n in range(number)],
            "blobs": [{"identifier": f"b{n}", "name": "x"} for n in range(JOBS)],
            "meta": {"env": {"dataset": f"Ω {number}"}},
        }
        assert shared_calls("POST", "/job", job).status_code == 202
    return shared_calls


@pytest.mark.parametrize(("path", "key", "expected"), LISTS)
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_next_links_visit_everything_once(
    filled: Calls, path: str, key: str, expected: list[Any] | None, limit: int
) -> None:
    whole = filled("GET", f"/{path}").json()
    pages = follow(filled, f"/{path}?limit={limit}", key)
    assert [entry for page in pages for entry in page] == whole[key]
    assert expected is None or whole[key] == expected
    assert (len(whole[key]) >= 4, whole["next"]) == (True, None)
    assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize(("path", "key", "expected"), LISTS)
def test_a_page_that_ends_the_list_has_no_next(
    filled: Calls, path: str, key: str, expected: Any
) -> None:
    assert filled("GET", f"/{path}?limit=1000").json()["next"] is None
    assert expected is None or filled("GET", f"/{path}").json()[key] == expected


def test_filters_stay_in_next_links(filled: Calls) -> None:
    link = filled("GET", "/runs?limit=1&filter=a%26b&specs=now").json()["next"]
    assert link is None
    link = filled(
        "GET", "/measurements?limit=1&metric=p1.a&dataset=%CE%A9+3&dataset=%CE%A9+4"
    ).json()["next"]
    assert link.startswith(
        "http://127.0.0.1:8000/measurements?limit=1&metric=p1.a&dataset=%CE%A9+3&dataset=%CE%A9+4&after="
    )


@pytest.mark.parametrize("host", ["evil.example", "[", "a b", ""])
def test_links_never_come_from_the_host_header(filled: Calls, host: str) -> None:
    reply = filled("GET", "/jobs?limit=1", headers={"Host": host})
    assert reply.json()["next"] == "http://127.0.0.1:8000/jobs?limit=1&after=1"


@pytest.mark.parametrize("root", ["/j", "/api/v1", "/jobs"])
def test_links_begin_with_the_public_root(tmp_path: Path, root: str) -> None:
    with service(tmp_path, url=f"https://squash.example{root}") as client:
        calls = log_in(client, "ada")
        for _ in range(2):
            calls("POST", "/job", {})
        link = calls("GET", f"{root}/jobs?limit=1").json()["next"]
    assert link == f"https://squash.example{root}/jobs?limit=1&after=1"


@pytest.mark.parametrize(("text", "is_one"), [("0", True), ("9" * 18, True), ("9" * 19, False)])
def test_a_cursor_fits_64_bits(text: str, *, is_one: bool) -> None:
    assert is_count(text) is is_one


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_0", "٣", "²", "1.0"])
def test_a_cursor_is_plain_digits(text: str) -> None:
    assert not is_count(text)


def test_a_token_of_a_disabled_user_reads_nothing_more(
    shared_client: httpx.Client, shared_calls: Calls
) -> None:
    gone = log_in(shared_client, "gone")
    assert gone("DELETE", "/user/gone").status_code == 200
    reply = gone("GET", "/users")
    assert (reply.status_code, reply.json()["description"]) == (401, "User does not exist")
    assert shared_calls("GET", "/users").status_code == 200


def test_http_basic_is_accepted_for_writes(shared_client: httpx.Client, filled: Calls) -> None:
    assert filled
    content = json.dumps({"metrics": [{"name": "basic.a"}]})
    reply = shared_client.post(
        "/metrics",
        content=content,
        headers={"Content-Type": "application/json"},
        auth=("ada", PASSWORD),
    )
    assert reply.status_code == 201


@pytest.mark.parametrize("scheme", ["JWT", "jwt", "Bearer", "BEARER"])
def test_both_words_for_a_token_are_accepted(
    shared_client: httpx.Client, shared_calls: Calls, scheme: str
) -> None:
    headers = {"Authorization": f"{scheme} {shared_calls.token}"}
    assert shared_client.get("/users", headers=headers).status_code == 200


def test_an_empty_content_length_is_no_reason_to_fail(shared_calls: Calls) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": ""}
    assert shared_calls("POST", "/job", content=b"{}", headers=headers).status_code == 202
