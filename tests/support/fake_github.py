"""A GitHub, as far as its API is documented for states of commits and comments, over real TCP.

Source: https://docs.github.com/en/rest: commit statuses, issue comments, commits, and the best
practices on redirects and limits.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from tests.support.http_server import HttpServer

TOKEN = "github_pat_of_these_tests"


@dataclass
class Request:
    """A pull request."""

    number: int
    head: str
    base: str
    state: str = "open"


@dataclass
class FakeGitHub:
    """Knows some repositories with commits and pull requests; keeps states and comments.

    `trouble` may answer a request in place of it.
    """

    commits: dict[str, set[str]] = field(default_factory=dict)
    requests: dict[str, list[Request]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    states: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    comments: dict[int, tuple[str, int, str]] = field(default_factory=dict)
    trouble: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
    asked: list[tuple[str, str]] = field(default_factory=list)
    _next: int = 1000

    def __post_init__(self) -> None:
        self._server = HttpServer(self._answer)

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.__exit__(*reason)

    @property
    def newest(self) -> tuple[str, str]:
        """The newest state, and what it says."""
        _, _, document = self.states[-1]
        return document["state"], document["description"]

    def bodies(self) -> list[str]:
        return [body for _, _, body in self.comments.values()]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append((request.method, request.url.path))
        troubled = self.trouble(request)
        if troubled is not None:
            return troubled
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _message(401, "Bad credentials")
        if "application/vnd.github" not in request.headers.get("accept", ""):
            return _message(415, "Unsupported 'Accept' header")
        found = re.fullmatch(r"/repos/([^/]+/[^/]+)(/.*)", request.url.path)
        if found is None:
            return _message(404, "Not Found")
        name, rest = found[1], found[2]
        if name in self.renamed:
            place = f"{self.url}/repositories/7{rest}"
            return httpx.Response(
                301 if request.method == "GET" else 307,
                headers={
                    "Location": place.replace("/repositories/7", f"/repos/{self.renamed[name]}")
                },
                json={"message": "Moved Permanently", "url": place},
            )
        if name not in self.commits:
            return _message(404, "Not Found")
        document = json.loads(request.content) if request.content else {}
        return self._of(request, name, rest, document)

    def _of(
        self, request: httpx.Request, name: str, rest: str, document: dict[str, Any]
    ) -> httpx.Response:
        if found := re.fullmatch(r"/statuses/(\w+)", rest):
            return self._state(name, found[1], document)
        if found := re.fullmatch(r"/commits/(\w+)/pulls", rest):
            items = [
                {
                    "number": item.number,
                    "state": item.state,
                    "head": {"sha": item.head},
                    "base": {"sha": item.base},
                }
                for item in self.requests.get(name, [])
            ]
            return httpx.Response(200, json=items)
        if found := re.fullmatch(r"/issues/(\d+)/comments", rest):
            number = int(found[1])
            if request.method == "POST":
                self._next += 1
                self.comments[self._next] = (name, number, document["body"])
                return httpx.Response(201, json={"id": self._next})
            page = int(request.url.params.get("page", "1"))
            size = int(request.url.params.get("per_page", "30"))
            all_ = [
                {"id": key, "body": body}
                for key, (other, at, body) in sorted(self.comments.items())
                if (other, at) == (name, number)
            ]
            return httpx.Response(200, json=all_[(page - 1) * size : page * size])
        if found := re.fullmatch(r"/issues/comments/(\d+)", rest):
            key = int(found[1])
            if key not in self.comments:
                return _message(404, "Not Found")
            self.comments[key] = (*self.comments[key][:2], document["body"])
            return httpx.Response(200, json={"id": key})
        return _message(404, "Not Found")

    def _state(self, name: str, sha: str, document: dict[str, Any]) -> httpx.Response:
        if sha not in self.commits[name]:
            return _message(422, f"No commit found for SHA: {sha}")
        is_known = document["state"] in {"error", "failure", "pending", "success"}
        if not is_known or len(document["description"]) > 140:
            return _message(422, "Validation Failed")
        self.states.append((name, sha, document))
        return httpx.Response(201, json={"id": 1, **document})


def _message(status: int, message: str) -> httpx.Response:
    return httpx.Response(
        status, json={"message": message, "documentation_url": "https://docs.github.com/rest"}
    )


def limited(
    status: int, message: str = "API rate limit exceeded", **headers: str
) -> httpx.Response:
    """Return an answer to who has asked too much."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.Response(status, json={"message": message}, headers=named)
