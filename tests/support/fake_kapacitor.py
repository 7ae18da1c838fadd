"""A Kapacitor's API as the real one answers (measured on 1.5.7), where that cannot be had."""

import fnmatch
import json
import re
from typing import Any
from urllib.parse import unquote

import httpx

_ROOT = "/kapacitor/v1"
_HEADERS = {"X-Kapacitor-Version": "1.5.7"}


class FakeKapacitor:
    """Keeps tasks and handlers; use it as `httpx.MockTransport(fake)` or in an `HttpServer`.

    A script with the word `frm` is refused, one with `{{ .Group }'` fails as it starts.
    """

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        self.topics: dict[str, dict[str, dict[str, Any]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.influxdb: list[dict[str, Any]] = []
        """The options of each InfluxDB that it is configured with."""
        self.slack: list[dict[str, Any]] = [{"enabled": True}]
        """The options of each Slack that it is configured with."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        path = unquote(request.url.path).removeprefix(_ROOT)
        self.requests.append((request.method, path))
        content = request.read()
        document = json.loads(content) if content else {}
        if path == "/ping":
            return httpx.Response(204, headers=_HEADERS)
        if path in {"/config/influxdb", "/config/slack"}:
            options = self.influxdb if path.endswith("influxdb") else self.slack
            elements = [{"options": item} for item in options]
            return httpx.Response(200, json={"elements": elements}, headers=_HEADERS)
        parts = path.strip("/").split("/")
        if parts[0] == "tasks":
            status, body = self._tasks(request, parts[1:], document)
        else:
            status, body = self._topics(request, parts[2:], document)
        if status == 204:
            return httpx.Response(204, headers=_HEADERS)
        return httpx.Response(status, json=body, headers=_HEADERS)

    def _tasks(
        self, request: httpx.Request, names: list[str], document: dict[str, Any]
    ) -> tuple[int, Any]:
        if request.method == "GET":
            return 200, {"tasks": [self.stored[name] for name in sorted(self.stored)]}
        if request.method == "DELETE":
            self.stored.pop(names[0], None)
            return 204, None
        name = names[0] if names else document["id"]
        if request.method == "POST" and name in self.stored:
            return 400, {"error": f"task {name} already exists"}
        if request.method == "PATCH" and name not in self.stored:
            return 404, {"error": "no task exists"}
        if "frm" in document.get("script", ""):
            return 400, {"error": 'invalid TICKscript: no method or property "frm"'}
        return self._store(name, document)

    def _store(self, name: str, document: dict[str, Any]) -> tuple[int, Any]:
        task = self.stored.setdefault(
            name, {"id": name, "status": "disabled", "executing": False, "error": ""}
        )
        was_enabled = task["status"] == "enabled"
        task.update(document)
        if task["status"] == "disabled":
            task["executing"] = False
        elif not was_enabled:
            # The error stays when a later start goes well.
            task["executing"] = "{{ .Group }'" not in task["script"]
            if not task["executing"]:
                task["error"] = 'template: id:1: unexpected "}" in operand'
                return 500, {"error": task["error"]}
        return 200, task

    def _topics(
        self, request: httpx.Request, names: list[str], document: dict[str, Any]
    ) -> tuple[int, Any]:
        if not names:
            pattern = request.url.params.get("pattern", "*")
            found = [name for name in sorted(self.topics) if fnmatch.fnmatch(name, pattern)]
            return 200, {"topics": [{"id": name} for name in found]}
        handlers = self.topics.setdefault(names[0], {})
        if request.method == "GET":
            return 200, {"handlers": [handlers[name] for name in sorted(handlers)]}
        name = names[2] if len(names) > 2 else document["id"]
        if request.method == "DELETE":
            handlers.pop(name, None)
            return 204, None
        if request.method == "PUT" and name not in handlers:
            return 404, {"error": f'unknown handler: "{name}"'}
        if not re.fullmatch(r"slack|log|post|publish", document["kind"]):
            return 500, {"error": f"unsupported handler kind {document['kind']!r}"}
        handlers[name] = {**document, "options": document["options"] or None}
        return 200, handlers[name]
