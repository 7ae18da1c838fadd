import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from squash_api.routes.root import ENDPOINTS
from tests.support.calls import Calls

KEYS_OF_OLD = {
    *("jenkins", "job", "jobs", "metric", "metrics", "spec", "specs", "measurement"),
    *("measurements", "register", "auth", "user", "users", "stats", "status", "version"),
    *("code_changes", "datasets", "packages"),
}


@pytest.mark.parametrize("accept", ["application/json; version=1.0", "*/*", "text/html, */*", ""])
def test_the_root_maps_names_to_absolute_urls(shared_client: httpx.Client, accept: str) -> None:
    reply = shared_client.get("/", headers={"Accept": accept})
    assert reply.headers["Content-Type"] == "application/json"
    keys = KEYS_OF_OLD | {"report", "runs", "standings", "alert", "alerts", "silence", "silences"}
    assert reply.json() == {name: f"http://127.0.0.1:8000/{name}" for name in keys}


def test_the_root_does_not_believe_the_host_header(shared_client: httpx.Client) -> None:
    reply = shared_client.get("/", headers={"Host": "evil.example"})
    assert "evil" not in reply.text


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_route_of_the_root_map_exists(shared_client: httpx.Client, name: str) -> None:
    replies = [
        shared_client.request(method, f"/{name}{tail}")
        for method in ("GET", "POST")
        for tail in ("", "/1")
    ]
    bodies = [reply.json() for reply in replies]
    assert not all("There is nothing at" in str(body.get("message")) for body in bodies)


def test_the_version_is_the_one_of_old_and_that_of_the_software(
    shared_client: httpx.Client,
) -> None:
    body = shared_client.get("/version").json()
    assert body["version"] == "1.0"
    assert body["release"].count(".") == 2


def test_statistics_of_an_empty_record(client: httpx.Client) -> None:
    assert client.get("/stats").json() == {
        "stats": {
            "last_job_date": "",
            "number_of_jobs": 0,
            "number_of_metrics": 0,
            "number_of_measurements": 0,
        }
    }


def test_statistics_count_what_a_202_was_given_for(calls: Calls) -> None:
    measurements: list[dict[str, Any]] = [
        {"metric": "p.a", "value": 1, "unit": "m"},
        {"metric": "p.b", "value": None},
    ]
    for _ in range(2):
        calls("POST", "/job", {"measurements": measurements})
    stats = calls("GET", "/stats").json()["stats"]
    assert (stats["number_of_jobs"], stats["number_of_metrics"]) == (2, 2)
    assert stats["number_of_measurements"] == 4
    received = calls("GET", "/job/2").json()["date_received"]
    assert stats["last_job_date"] == received.replace("T", " ").rstrip("Z")


def test_datasets_are_distinct_ordered_and_as_posted(shared_calls: Calls) -> None:
    for name in ("HSC RC2", "HSC RC2", "cfht", None):
        shared_calls("POST", "/job", {"meta": {"ci_dataset": name}})
    assert shared_calls("GET", "/datasets").json() == {
        "datasets": ["HSC RC2", "cfht"],
        "next": None,
    }


def test_packages_are_those_of_metrics_declared_or_measured(shared_calls: Calls) -> None:
    shared_calls("POST", "/metrics", {"metrics": [{"name": "declared.a"}]})
    measurements = [{"metric": name, "value": 1} for name in ("measured.a", "nodot", "squash.x")]
    shared_calls("POST", "/job", {"measurements": measurements})
    assert shared_calls("GET", "/packages").json()["packages"] == ["declared", "measured"]


class Page(HTMLParser):
    """Collects tags, the URLs in them, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.urls: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.urls += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(shared_client: httpx.Client) -> Page:
    return Page(shared_client.get("/docs").text)


def test_the_documentation_describes_every_operation(
    shared_client: httpx.Client, page: Page
) -> None:
    document = shared_client.get("/openapi.json").json()
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert len(operations) > 30
    assert not [operation for operation in operations if operation not in page.text]


def test_the_documentation_loads_nothing_from_elsewhere(page: Page) -> None:
    assert not page.tags & {"img", "style", "iframe", "object"}
    assert not [url for url in page.urls if not url.startswith(("/", "#"))]


def test_the_documentation_may_load_nothing_from_elsewhere(shared_client: httpx.Client) -> None:
    reply = shared_client.get("/docs")
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 's")


def test_the_documentation_shows_text_as_text(shared_client: httpx.Client, page: Page) -> None:
    source = shared_client.get("/docs").text
    assert "<access_token>" in page.text
    assert not re.search(r"<access_token>", source)


def test_documentation_that_loads_from_elsewhere_is_off(shared_client: httpx.Client) -> None:
    assert shared_client.get("/redoc").status_code == 404


def test_the_openapi_document_has_no_parameters(shared_client: httpx.Client) -> None:
    assert shared_client.get("/openapi.json?format=json").status_code == 200
    assert shared_client.get("/openapi.json?zz=1").status_code == 422
