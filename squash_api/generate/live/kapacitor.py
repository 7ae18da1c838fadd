"""A running Kapacitor: its tasks and handlers, and how they are changed."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from squash_api.generate.live.http import JsonServer, LiveError, UnreachableError
from squash_api.generate.live.objects import Handler, Task

_ROOT = "/kapacitor/v1"
_TASK_FIELDS = ("id", "script", "status", "executing", "error")


class Kapacitor:
    """One Kapacitor, known to be one.

    Raises
    ------
    UnreachableError
        If there is none at the address.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._server = JsonServer(url, "Kapacitor", probe=f"{_ROOT}/ping", transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def tasks(self) -> list[Task]:
        """Return all tasks, those too that are not ours, with their scripts as they were given."""
        params = {"fields": list(_TASK_FIELDS), "limit": "-1", "script-format": "raw"}
        found = self._server.call("GET", f"{_ROOT}/tasks", params=params)
        return [_task(document) for document in found.get("tasks") or []]

    def handlers(self, pattern: str) -> list[Handler]:
        """Return the handlers of the topics whose names match a pattern such as `metrics*`."""
        params = {"pattern": pattern}
        topics = self._server.call("GET", f"{_ROOT}/alerts/topics", params=params)
        found: list[Handler] = []
        for topic in topics.get("topics") or []:
            name = str(topic["id"])
            listed = self._server.call("GET", _handlers_path(name))
            found.extend(_handler(name, document) for document in listed.get("handlers") or [])
        return found

    def create_task(self, name: str, script: str) -> None:
        """Make a task and see it run; one that does not start is taken away again.

        Raises
        ------
        LiveError
            With Kapacitor's words.
        """
        document = {"id": name, "type": "stream", "script": script, "status": "enabled"}
        try:
            self._check(self._server.call("POST", f"{_ROOT}/tasks", document=document))
        except UnreachableError:
            raise
        except LiveError as error:
            # A script that fails as it starts is stored all the same, one refused (400) is not.
            if error.status_code != 400:
                self.delete_task(name)
            raise

    def update_task(self, old: Task, script: str) -> None:
        """Give a task another script and see it run; if it does not, it has the old one again.

        Raises
        ------
        LiveError
            With Kapacitor's words.
        """
        try:
            self._restart(old.name, script)
        except UnreachableError:
            raise
        except LiveError as error:
            try:
                self._restart(old.name, old.script)
            except UnreachableError:
                raise
            except LiveError as again:
                raise LiveError(f"{error}; the script before does not start: {again}") from None
            raise

    def delete_task(self, name: str) -> None:
        """Take a task away."""
        self._server.call("DELETE", _task_path(name))

    def put_handler(self, handler: Handler, *, is_new: bool) -> None:
        """Make a handler, or replace it.

        Raises
        ------
        LiveError
            With Kapacitor's words.
        """
        document = {
            "id": handler.name,
            "kind": handler.kind_of_handler,
            "options": dict(handler.options),
            "match": handler.match,
        }
        path = _handlers_path(handler.topic)
        if is_new:
            self._server.call("POST", path, document=document)
        else:
            self._server.call("PUT", f"{path}/{quote(handler.name)}", document=document)

    def delete_handler(self, handler: Handler) -> None:
        """Take a handler away."""
        self._server.call("DELETE", f"{_handlers_path(handler.topic)}/{quote(handler.name)}")

    def _restart(self, name: str, script: str) -> None:
        # A new script does not run before the task was disabled and enabled again; enabling one
        # that failed does nothing, since it counts as enabled.
        path = _task_path(name)
        self._server.call("PATCH", path, document={"script": script, "status": "disabled"})
        self._check(self._server.call("PATCH", path, document={"status": "enabled"}))

    def _check(self, document: Mapping[str, Any]) -> None:
        # The error of an earlier start stays there while the task runs.
        if not document.get("executing"):
            raise LiveError(str(document.get("error") or "it does not run"))


def _task(document: Mapping[str, Any]) -> Task:
    return Task(
        name=str(document["id"]),
        script=str(document.get("script") or ""),
        is_enabled=document.get("status") == "enabled",
        is_executing=bool(document.get("executing")),
        error=str(document.get("error") or ""),
    )


def _handler(topic: str, document: Mapping[str, Any]) -> Handler:
    return Handler(
        topic=topic,
        name=str(document["id"]),
        kind_of_handler=str(document.get("kind") or ""),
        options=dict(document.get("options") or {}),
        match=str(document.get("match") or ""),
    )


def _task_path(name: str) -> str:
    return f"{_ROOT}/tasks/{quote(name)}"


def _handlers_path(topic: str) -> str:
    return f"{_ROOT}/alerts/topics/{quote(topic)}/handlers"
