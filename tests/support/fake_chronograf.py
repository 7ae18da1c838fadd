"""A Chronograf's API as the real one answers (measured on 1.10.9), where that cannot be had."""

import copy
import html
import json
from pathlib import Path
from typing import Any

import httpx

_PATH = "/chronograf/v1/dashboards"
_SOURCES = "/chronograf/v1/sources"
_HEADERS = {"X-Chronograf-Version": "1.10.9"}


class FakeChronograf:
    """Keeps dashboards; use it as `httpx.MockTransport(fake)` or in an `HttpServer`.

    Dashboards in the folder of resources are listed, and not removed.
    """

    def __init__(self, resources: Path | None = None) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        self.resources = resources
        self.requests: list[tuple[str, str]] = []
        self.sources: list[dict[str, Any]] = [{"id": "7"}, {"id": "8", "default": True}]
        self.annotations: list[dict[str, Any]] = []
        self._last_id = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.requests.append((request.method, request.url.path))
        if request.url.path.startswith(_SOURCES):
            return self._annotate(request)
        if not request.url.path.startswith(_PATH):
            return httpx.Response(200, text="<!DOCTYPE html>")
        number = request.url.path.removeprefix(_PATH).strip("/")
        if request.method == "GET":
            found = [*self.stored.values(), *self._from_files()]
            return httpx.Response(200, json={"dashboards": found}, headers=_HEADERS)
        if request.method == "DELETE":
            self.stored.pop(number, None)
            return httpx.Response(204, headers=_HEADERS)
        document = json.loads(request.read())
        if not all(isinstance(cell["w"], int) for cell in document["cells"]):
            refusal = {"code": 400, "message": "Unparsable JSON"}
            return httpx.Response(400, json=refusal, headers=_HEADERS)
        if not number:
            self._last_id += 1
            number = str(self._last_id)
        self.stored[number] = _as_stored(document, number)
        status = 201 if request.method == "POST" else 200
        return httpx.Response(status, json=self.stored[number], headers=_HEADERS)

    def _annotate(self, request: httpx.Request) -> httpx.Response:
        """Answer what asks for sources, or for the annotations of one."""
        if request.url.path == _SOURCES:
            return httpx.Response(200, json={"sources": self.sources}, headers=_HEADERS)
        if request.method == "POST":
            document = json.loads(request.read())
            self.annotations.append(document)
            return httpx.Response(201, json=document, headers=_HEADERS)
        span = [request.url.params[name] for name in ("since", "until")]
        found = [item for item in self.annotations if span[0] <= item["startTime"] <= span[1]]
        return httpx.Response(200, json={"annotations": found}, headers=_HEADERS)

    def _from_files(self) -> list[dict[str, Any]]:
        places = [] if self.resources is None else sorted(self.resources.glob("*.dashboard"))
        return [json.loads(place.read_text(encoding="utf-8")) for place in places]


def _as_stored(document: dict[str, Any], number: str) -> dict[str, Any]:
    known = {key: document[key] for key in ("cells", "templates", "name")}
    stored = {**copy.deepcopy(known), "id": number, "organization": "default", "links": {}}
    for place, cell in enumerate(stored["cells"]):
        cell["i"] = f"cell-{number}-{place}"
        cell["note"] = html.escape(html.unescape(cell.get("note", "")))
        cell["links"] = {"self": f"{_PATH}/{number}/cells/{cell['i']}"}
        for query in cell["queries"]:
            query["queryConfig"] = {"rawText": query["query"]}
    return stored
