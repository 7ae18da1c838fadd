"""The wire of a SQuaSH service without a service: answers by rule, and keeps every request."""

import json
from typing import Any

import httpx

ROOT = "http://squash.example"


def reply_json(number: int = 7, **changes: Any) -> dict[str, Any]:
    """Return what the service answers to a job that it has stored."""
    return {
        "message": f"Request for creating Job `{number}` received",
        "status": f"{ROOT}/status/{number}",
        "id": number,
        "absent": [],
        "skipped": [],
        "undeclared": [],
        "notes": [],
    } | changes


class FakeService:
    """Hands out tokens, stores nothing; `answers` to a path are used up one by one, then repeat.

    Use it as `httpx.MockTransport(service)`.
    """

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.answers: dict[str, list[httpx.Response | Exception]] = {}
        self._tokens = 0
        self._jobs = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.requests.append(request)
        prepared = self.answers.get(request.url.path)
        if prepared:
            answer = prepared.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if request.url.path == "/auth":
            self._tokens += 1
            return httpx.Response(200, json={"access_token": f"token-{self._tokens}"})
        if request.url.path == "/job":
            self._jobs += 1
            return httpx.Response(202, json=reply_json(self._jobs))
        if request.url.path.startswith("/status/"):
            return httpx.Response(200, json={"status": "SUCCESS", "message": "stored"})
        return httpx.Response(200, json={"auth": f"{ROOT}/auth", "job": f"{ROOT}/job"})

    def paths(self) -> list[str]:
        """Return method and path of every request so far."""
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def jobs(self) -> list[dict[str, Any]]:
        """Return the bodies of the jobs that were sent."""
        return [json.loads(item.content) for item in self.requests if item.url.path == "/job"]
