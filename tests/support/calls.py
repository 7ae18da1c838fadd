"""Calling the service as somebody who is logged in."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

PASSWORD = "a password of tests"
MOST_PAGES = 50


@dataclass(frozen=True)
class Calls:
    """A client that sends a user's token."""

    client: httpx.Client
    token: str

    def __call__(self, method: str, url: str, json: Any = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"JWT {self.token}", **options.pop("headers", {})}
        if json is not None:
            options["json"] = json
        return self.client.request(method, url, headers=headers, **options)


def log_in(client: httpx.Client, name: str) -> Calls:
    """Register a user and log in."""
    credentials = {"username": name, "password": PASSWORD}
    registered = client.request("POST", "/register", json=credentials)
    assert registered.status_code in {201, 400}, registered.text
    reply = client.request("POST", "/auth", json=credentials)
    assert reply.status_code == 200, reply.text
    return Calls(client, reply.json()["access_token"])


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
