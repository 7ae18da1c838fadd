import re
from html.parser import HTMLParser

import httpx
import pytest


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


def test_the_page_describes_every_operation(shared_client: httpx.Client, page: Page) -> None:
    document = shared_client.get("/openapi.json").json()
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert len(operations) > 30
    assert not [operation for operation in operations if operation not in page.text]


def test_the_page_has_no_script_and_loads_nothing(page: Page) -> None:
    assert not page.tags & {"script", "link", "img", "style", "iframe", "object"}
    assert page.urls == ["http://127.0.0.1:8000/openapi.json"]


def test_the_page_may_load_nothing_either(shared_client: httpx.Client) -> None:
    reply = shared_client.get("/docs")
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert reply.headers["Content-Security-Policy"] == "default-src 'none'"


def test_the_page_shows_text_as_text(shared_client: httpx.Client, page: Page) -> None:
    source = shared_client.get("/docs").text
    assert "<access_token>" in page.text
    assert not re.search(r"<access_token>", source)


def test_pages_that_load_from_elsewhere_are_off(shared_client: httpx.Client) -> None:
    assert shared_client.get("/redoc").status_code == 404
