"""Parameters that a URL does not have."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from squash_api.app import ROUTES
from squash_api.pages.addresses import PAGES
from tests.support.calls import Calls
from tests.support.site import job_document

PROBES = {"/brokers", "/healthz", "/prometheus", "/readyz", "/topics", "/v3/clusters"}
"""Probes and scrapers add what they like, and must be answered."""

EXEMPT = PROBES | {"/topics/{topic}", "/v3/clusters/{cluster_id}/topics"}
"""So do clients of a Kafka proxy."""

ENDS, FAR = ("since", "until"), ("0001-01-01", "9999-12-31")
HTML = {"Accept": "text/html"}
NAMES = {
    "job_id": "1", "name": "p.a", "identifier": "x", "pipeline": "-", "run_id": "r", "ci_id": "1",
    "username": "ada", "id": "1", "package": "p", "key_id": "abc",
    "alert_id": "1", "silence_id": "1",
}  # fmt: skip


def routes() -> Iterator[Any]:
    for later in ROUTES:
        for route in later.router().routes:
            if isinstance(route, APIRoute) and route.include_in_schema and route.path not in EXEMPT:
                for method in route.methods or ():
                    yield pytest.param(method, address(route.path), id=f"{method} {route.path}")


def address(path: str) -> str:
    for name, value in NAMES.items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:text}}", value)
    assert "{" not in path
    return path


@pytest.fixture(scope="module")
def filled(shared_calls: Calls) -> Calls:
    job = job_document({"p.a": 1.0}) | {"meta": {"env": {"run_id": "r"}}}
    assert shared_calls("POST", "/job", job).status_code == 202
    return shared_calls


@pytest.mark.parametrize(("method", "path"), list(routes()))
def test_no_route_has_a_parameter_of_any_name(filled: Calls, method: str, path: str) -> None:
    body: Any = {} if method in {"POST", "PUT"} else None
    reply = filled(method, f"{path}?limmit=1", body)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
    assert reply.json()["detail"][0]["loc"] == ["query", "limmit"]
    assert "limmit" in reply.json()["message"]


@pytest.mark.parametrize("asked", ["/alerts?metric", "/search?q", "/quarantine?reason"])
def test_text_that_postgresql_cannot_take_is_refused(filled: Calls, asked: str) -> None:
    reply = filled("GET", f"{asked}=a%00b")
    assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "value_error")


def test_dates_of_any_year_are_understood(filled: Calls) -> None:
    replies = [filled("GET", f"/alerts?{end}={day}") for end in ENDS for day in FAR]
    assert {reply.status_code for reply in replies} == {200}


# It shows nothing: it leads to another page.
@pytest.mark.parametrize("path", [path for path, *_ in PAGES if path != "/logout"])
def test_no_page_has_a_parameter_of_any_name(filled: Calls, path: str) -> None:
    reply = filled("GET", f"{address(path)}?limmit=1", headers=HTML)
    assert reply.status_code == 422
    assert "limmit" in reply.text


@pytest.mark.parametrize("path", sorted(PROBES))
def test_probes_may_add_parameters(filled: Calls, path: str) -> None:
    assert filled("GET", f"{path}?x=1").status_code == 200


def test_a_misspelt_strict_stores_nothing(filled: Calls) -> None:
    before = filled("GET", "/jobs").json()
    reply = filled("POST", "/job?stict=true", job_document({"p.a": "text"}))
    assert reply.status_code == 422
    assert "did you mean `strict`?" in reply.json()["message"]
    assert filled("GET", "/jobs").json() == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/?state=broken", "must be one of"),
        ("/runs?specs=today", "must be one of receipt, now"),
        ("/metric/p.a?range=3d", "must be one of"),
        ("/?q=a&q=b", "only once"),
        (f"/specs?q={'x' * 1001}", "longer than 1000"),
        ("/?packge=p", "did you mean `package`?"),
    ],
)
def test_pages_say_what_is_wrong_with_a_parameter(filled: Calls, path: str, words: str) -> None:
    reply = filled("GET", path, headers=HTML)
    assert reply.status_code == 422
    assert words in httpx.Response(200, text=reply.text).text.replace("&#39;", "'")


@pytest.mark.parametrize("path", ["/?q=", "/runs?pipeline=&dataset=", "/metric/p.a?range="])
def test_empty_parameters_are_as_if_they_were_not_there(filled: Calls, path: str) -> None:
    assert filled("GET", path, headers=HTML).status_code == 200


def test_json_can_be_asked_for_at_every_url(filled: Calls) -> None:
    assert filled("GET", "/runs?format=json", headers=HTML).json()["runs"]
