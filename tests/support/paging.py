"""Following `next` links as a client does."""

from typing import Any
from urllib.parse import urlsplit

from tests.support.calls import Calls

MOST_PAGES = 50


def follow(calls: Calls, path: str, key: str) -> list[list[Any]]:
    """Return the entries of each page of a list, from `path` to the page without a next one."""
    pages: list[list[Any]] = []
    url: str | None = path
    while url is not None:
        assert len(pages) < MOST_PAGES
        parts = urlsplit(url)
        reply = calls("GET", f"{parts.path}?{parts.query}")
        assert reply.status_code == 200, reply.text
        body = reply.json()
        pages.append(body[key])
        url = body["next"]
    return pages
