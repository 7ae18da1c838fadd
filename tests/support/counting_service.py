"""A stand-in for the service that knows a job that comes twice, by the identifiers in it."""

import json
from collections.abc import Callable
from threading import Lock
from typing import Any

import httpx

from tests.support.fake_service import ROOT, reply_json

Judge = Callable[[dict[str, Any]], httpx.Response | None]


class CountingService:
    """Takes jobs; `jobs` are the different ones in order, `posts` counts all that were posted.

    `judge` may answer a document otherwise. Use it with `HttpServer`.
    """

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.posts = 0
        self.judge: Judge = lambda _document: None
        self._known: dict[tuple[str, ...], int] = {}
        self._lock = Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if request.url.path != "/job":
            return httpx.Response(200, json={"auth": f"{ROOT}/auth", "job": f"{ROOT}/job"})
        document = json.loads(request.content)
        answer = self.judge(document)
        if answer is not None:
            return answer
        key = tuple(sorted(item["identifier"] for item in document["measurements"]))
        with self._lock:
            self.posts += 1
            is_repeat = key in self._known
            if not is_repeat:
                self.jobs.append(document)
                self._known[key] = len(self.jobs)
            return httpx.Response(200 if is_repeat else 202, json=reply_json(self._known[key]))

    def values(self, metric: str) -> list[Any]:
        """Return the values of a metric, in the order in which they came."""
        return [
            item["value"]
            for job in self.jobs
            for item in job["measurements"]
            if item["metric"] == metric
        ]
